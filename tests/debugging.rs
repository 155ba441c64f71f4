//! `aot debug` on modules, its commands from the standard input, and the switches that turn compiled code off: what needs a process
//! of its own runs this test program again.

use super::cli::Place;
use aot::cli::{Exit, Output, run};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

const NET: &str = "\
import torch
from torch import Tensor, nn


class Point:
    def __init__(self, a: int):
        self.a = a

    def move(self, by: int):
        self.a += by


class Scale(nn.Module):
    def __init__(self, by: float):
        super().__init__()
        self.by = by
        self.register_buffer('seen', torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        k = 3
        self.seen += 1
        # What is to be seen here is a comment.
        return x * self.by + k


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Scale(2.0), Scale(0.5)])
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        p = Point(1)
        for layer in self.layers:
            x = layer(x)
            self.count += 1
        p.move(2)
        return x + p.a
";

#[test]
fn a_debugger_shows_attributes_and_stops_on_conditions() {
    let place = Place::new();
    fs::write(place.file("net.py"), NET).expect("the folder is writable");
    let commands = [
        "b 20",
        "b Net.move",
        "b move, by > 5",
        "b 35, self.count > 0",
        "c",
        "ll",
        "p x.dtype",
        "p self.by + 1",
        "p self.seen[0].item()",
        "n",
        "p self.seen",
        "p self",
        "u",
        "p self.layers[1].by * x.sum().item()",
        "p self.layers['0'].seen",
        "p self.layers.none",
        "cl 1",
        "c",
        "p self.count",
        "p p",
        "whatis p",
        "n",
        "n",
        "n",
        "p p.a",
        "c",
    ];
    let mut words = vec!["debug", "@net.py", "--input", "x=zeros:f32[2]"];
    words.extend(commands.iter().flat_map(|command| ["-c", command]));
    let (exit, out, err) = place.run(&words);
    assert_eq!(exit, Exit::Success, "{err}");
    let expected = "\
> net.py(33)forward()
-> p = Point(1)
Breakpoint 1 at net.py:21 (nothing is computed on line 20)
*** 'Net.move' is neither [FILE:]LINE nor a function
Breakpoint 2 at net.py:10
Breakpoint 3 at net.py:35
> net.py(21)forward()
-> self.seen += 1
  19        def forward(self, x: Tensor) -> Tensor:
  20            k = 3
  21 ->         self.seen += 1
  22            # What is to be seen here is a comment.
  23            return x * self.by + k
torch.float32
3.0
0.0
> net.py(23)forward()
-> return x * self.by + k
float32[1] [1.0]
Scale(
  seen = float32[1] [1.0],
  training = True,
  _is_full_backward_hook = None,
  by = 2.0,
)
> net.py(35)forward()
-> x = layer(x)
0.0
float32[1] [1.0]
*** 'ModuleList' object has no attribute 'none'
> net.py(35)forward()
-> x = layer(x)
1
Point(
  a = 1,
)
__torch__.Point
> net.py(36)forward()
-> self.count += 1
> net.py(37)forward()
-> p.move(2)
> net.py(38)forward()
-> return x + p.a
3
--Return--
float32[2] [7.5, 7.5]
";
    assert_eq!(out, expected);
}

/// Runs the command line in a process of its own.
fn in_a_process(place: &Place, words: &[&str], input: &str, environment: &[(&str, &str)]) -> (bool, String, String) {
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            word.strip_prefix('@').map_or_else(|| (*word).to_owned(), |file| place.file(file).display().to_string())
        })
        .collect();
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["debugging::a_process_for_another_test", "--exact", "--ignored", "--nocapture", "-q"])
        .env("AOT_TEST_WORDS", words.join("\n"))
        .env_remove("PYTORCH_JIT")
        .env_remove("AOT_JIT")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this program can be started");
    let mut stdin = child.stdin.take().expect("the input is a pipe");
    stdin.write_all(input.as_bytes()).expect("the process reads");
    drop(stdin);
    let done = child.wait_with_output().expect("the process ends");
    let text = |bytes| String::from_utf8(bytes).expect("messages are text");
    let out = text(done.stdout);
    // Before and after it the test program speaks.
    let out = out.split('\u{1}').nth(1).unwrap_or(&out).to_owned();
    (done.status.success(), out, text(done.stderr))
}

#[test]
#[ignore = "run by other tests"]
fn a_process_for_another_test() {
    let Ok(words) = std::env::var("AOT_TEST_WORDS") else { return };
    let words = std::iter::once("aot").chain(words.split('\n')).map(Into::into);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(words, &mut Output { out: &mut out, err: &mut err, is_terminal: false });
    let marked = [b"\x01", out.as_slice(), b"\x01"].concat();
    std::io::stdout().write_all(&marked).expect("there is an output");
    std::io::stderr().write_all(&err).expect("there is an output");
    assert_eq!(exit, Exit::Success);
}

#[test]
fn a_debugger_reads_commands() {
    let place = Place::new();
    fs::write(place.file("net.py"), NET).expect("the folder is writable");
    let words = ["debug", "@net.py", "--input", "x=zeros:f32[2]"];
    // An empty line repeats the last command; where the input ends, so does the debugger.
    let (is_good, out, err) = in_a_process(&place, &words, "n\n\np x\n", &[]);
    assert!(is_good, "{err}");
    let expected = "\
> net.py(33)forward()
-> p = Point(1)
> net.py(35)forward()
-> x = layer(x)
> net.py(36)forward()
-> self.count += 1
float32[2] [3.0, 3.0]
";
    assert_eq!(out, expected);
}

#[test]
fn a_variable_of_the_environment_turns_compiled_code_off() {
    let place = Place::new();
    fs::write(place.file("net.py"), NET).expect("the folder is writable");
    let words = ["run", "@net.py", "--input", "x=zeros:f32[2]", "--backend", "library"];
    // A library is built in a temporary folder, and the evaluator needs none.
    let nowhere = place.file("nowhere").display().to_string();
    let call = |set: &[(&str, &str)]| {
        let environment: Vec<_> = set.iter().copied().chain([("TMPDIR", nowhere.as_str())]).collect();
        in_a_process(&place, &words, "", &environment)
    };
    for set in [&[][..], &[("AOT_JIT", "1")]] {
        let (is_good, _, err) = call(set);
        assert!(!is_good && err.contains("cannot make a temporary folder"), "{set:?}: {err}");
    }
    for set in [("AOT_JIT", "0"), ("PYTORCH_JIT", "0")] {
        let (is_good, out, err) = call(&[set]);
        assert!(is_good, "{set:?}: {err}");
        assert_eq!(out, "float32[2] [7.5, 7.5]\n", "{set:?}");
    }
}
