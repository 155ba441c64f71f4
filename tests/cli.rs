//! The command line on wrong input: one clear error, the right exit code, and no file left behind.

use aot::cli::{Exit, Output, run};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with a model, and what the command says there.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("the temporary folder is writable") };
        let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/models_small.zip");
        let zip = aot::archive::Container::open(&zip).expect("the corpus is a zip");
        let bytes = zip.get(MODEL).expect("the model is there");
        fs::write(place.file("mlp.pt"), bytes.as_ref()).expect("the folder is writable");
        place
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `aot` with these words, where a word with `@` in front is a file of the folder.
    pub(crate) fn run(&self, words: &[&str]) -> (Exit, String, String) {
        let words = words.iter().map(|word| match word.strip_prefix('@') {
            Some(file) => self.file(file).into_os_string(),
            None => (*word).into(),
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = std::iter::once("aot".into()).chain(words);
        let exit = run(words, &mut Output { out: &mut out, err: &mut err, is_terminal: false });
        let text = |bytes| String::from_utf8(bytes).expect("messages are text");
        (exit, text(out), text(err))
    }

    /// The command fails with one error that has these words, and leaves the folder as it was.
    fn refuses(&self, words: &[&str], exit: Exit, message: &str) {
        let before = self.names();
        let (found, _, err) = self.run(words);
        assert_eq!(found, exit, "{words:?}: {err}");
        assert_eq!(err.matches("error:").count(), 1, "{words:?}: {err}");
        assert!(err.contains(message), "{words:?}: {err}");
        assert_eq!(self.names(), before, "{words:?} left files behind");
    }

    fn names(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder can be read");
        let mut names: Vec<PathBuf> = entries.map(|e| e.expect("the entry can be read").path()).collect();
        names.sort();
        names
    }
}

const MODEL: &str = "mlp.script.pt";
const INPUT: &str = "f32[2,20]";

#[test]
fn wrong_files() {
    let place = Place::new();
    fs::write(place.file("text.pt"), "this is no archive").unwrap();
    let bytes = fs::read(place.file("mlp.pt")).unwrap();
    fs::write(place.file("cut.pt"), &bytes[..bytes.len() / 2]).unwrap();
    place.refuses(&["build", "@missing.pt", "-o", "@x.so"], Exit::Failure, "missing.pt");
    place.refuses(&["build", "@text.pt", "-o", "@x.so"], Exit::Failure, "text.pt");
    place.refuses(&["build", "@cut.pt", "-o", "@x.so"], Exit::Failure, "cut.pt");
    place.refuses(&["check", "@text.pt"], Exit::Failure, "no recorded cases");
    place.refuses(&["run", "@text.so"], Exit::Failure, "text.so");
    place.refuses(&["inspect", "@text.pt"], Exit::Failure, "text.pt");
}

#[test]
fn wrong_words() {
    let place = Place::new();
    place.refuses(&["build", "@mlp.pt", "-o", "@x.so", "--speed"], Exit::Usage, "--speed");
    place.refuses(&["build", "@mlp.pt", "-o", "@x.exe"], Exit::Failure, ".so");
    place.refuses(&["build", "@mlp.pt", "-o", "@x.so", "--cpu", "z80"], Exit::Failure, "z80");
    place.refuses(&["build", "@mlp.pt", "-o", "@x.so", "-O7"], Exit::Usage, "7");
    place.refuses(&["build", "@mlp.pt", "-o", "@x.so", "--method", "backward"], Exit::Failure, "backward");
    place.refuses(&["build", "@mlp.pt", "-o", "@x.so", "--input", "f32[2,20]", "--name", "a-b"], Exit::Failure, "a-b");
    place.refuses(&["paint"], Exit::Usage, "paint");
}

#[test]
fn wrong_inputs() {
    let place = Place::new();
    let refuses = |input: &[&str], message: &str| {
        let mut words = vec!["build", "@mlp.pt", "-o", "@x.so"];
        words.extend(input.iter().flat_map(|input| ["--input", input]));
        place.refuses(&words, Exit::Failure, message);
    };
    refuses(&["f32[2,8"], "']'");
    refuses(&["x33[2]"], "x33");
    refuses(&["nowhere=f32[2,20]"], "nowhere");
    refuses(&["int"], "Tensor");
    refuses(&["f32[2,20]", "f32[2,20]"], "no compiled method has a place");
    refuses(&["f32[2,9]"], "");
    refuses(&["f32[]"], "");
}

#[test]
fn unwritable_output() {
    let place = Place::new();
    place.refuses(&["build", "@mlp.pt", "-o", "@no/such/x.so", "--input", INPUT], Exit::Failure, "cannot write");
    fs::create_dir(place.file("folder.so")).unwrap();
    place.refuses(&["build", "@mlp.pt", "-o", "@folder.so", "--input", INPUT], Exit::Failure, "folder");
}

#[test]
fn every_command_has_help() {
    let place = Place::new();
    for command in ["build", "check", "run", "bench", "graph", "code", "inspect", "ops"] {
        let (exit, out, err) = place.run(&[command, "--help"]);
        assert_eq!((exit, err.as_str()), (Exit::Success, ""), "{command}");
        assert!(out.contains("Usage: aot"), "{command}: {out}");
    }
}

const TRACED: &str = "\
import torch


def scaled(x: torch.Tensor, n: int) -> torch.Tensor:
    y = x * n
    if n > 1:
        y = y + 1.0
    return y


def forward(x: torch.Tensor, n: int) -> torch.Tensor:
    y = scaled(x, n)
    y.add_(x)
    return y
";

#[test]
fn a_trace_shows_statements_and_values() {
    let place = Place::new();
    fs::write(place.file("net.py"), TRACED).expect("the folder is writable");
    let (exit, out, err) = place.run(&["run", "@net.py", "--trace", "--input", "x=zeros:f32[2]", "--input", "n=3"]);
    assert_eq!(exit, Exit::Success, "{err}");
    let expected = "\
net.py:12: y = scaled(x, n)
net.py:5: y = x * n
    y = float32[2] min 0 max 0 mean 0 nan 0
net.py:6: if n > 1:
    aten::gt = True
net.py:7: y = y + 1.0
    y = float32[2] min 1 max 1 mean 1 nan 0
net.py:12: y = scaled(x, n)
    y = float32[2] min 1 max 1 mean 1 nan 0
net.py:13: y.add_(x)
    aten::add_ = float32[2] min 1 max 1 mean 1 nan 0
float32[2] [1.0, 1.0]
";
    assert_eq!(out, expected);
    place.refuses(&["run", "@libnone.so", "--trace"], Exit::Failure, "a library has no statements to trace");
}

const STEPPED: &str = "\
import torch

def scaled(x: torch.Tensor, n: int) -> torch.Tensor:
    y = x * n
    return y + 1.0


def forward(x: torch.Tensor, n: int) -> torch.Tensor:
    y = scaled(x, n)
    for i in range(n):
        y = y + i
    if bool(y.sum() > 100):
        raise ValueError('too large')
    return y
";

#[test]
fn a_debugger_stops_at_lines_and_evaluates_expressions() {
    let place = Place::new();
    fs::write(place.file("net.py"), STEPPED).expect("the folder is writable");
    let debug = |n: &str, commands: &[&str]| {
        let n = format!("n={n}");
        let mut words = vec!["debug", "@net.py", "--input", "x=zeros:f32[2]", "--input", &n];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        place.run(&words)
    };
    let commands = [
        "s",
        "w",
        "p x.size(0) + n",
        "u",
        "a",
        "r",
        "b 11",
        "b 99",
        "c",
        "p i",
        "c",
        "p (i, y.mean().item())",
        "cl",
        "c",
    ];
    let (exit, out, err) = debug("2", &commands);
    assert_eq!(exit, Exit::Success, "{err}");
    let expected = "\
> net.py(9)forward()
-> y = scaled(x, n)
> net.py(4)scaled()
-> y = x * n
  net.py(9)__torch__.PlaceholderModule.forward()
  -> y = scaled(x, n)
> net.py(4)__torch__.scaled()
  -> y = x * n
4
> net.py(9)forward()
-> y = scaled(x, n)
self = PlaceholderModule(...)
x = float32[2] [0.0, 0.0]
n = 2
> net.py(10)forward()
-> for i in range(n):
Breakpoint 1 at net.py:11
*** nothing is computed on line 99 of net.py
> net.py(11)forward()
-> y = y + i
0
> net.py(11)forward()
-> y = y + i
(
  1,
  1.0,
)
all breakpoints are removed
--Return--
float32[2] [2.0, 2.0]
";
    assert_eq!(out, expected);
    // Where the model raises, its frames stay.
    let (exit, out, err) = debug("100", &["c", "p y.sum() > 100", "n", "q"]);
    assert_eq!(exit, Exit::Failure, "{err}");
    let end = "\
ValueError: too large
  at net.py:13:8
The call has ended; its frames can be looked at.
> net.py(13)forward()
-> raise ValueError('too large')
bool[] [True]
*** the call has ended
";
    assert!(out.ends_with(end), "{out}");
    place.refuses(&["debug", "@libnone.so"], Exit::Failure, "a library has no statements to trace");
}

/// Calls that pass, that fail and that print, and texts that agree and differ: a reader of JSON gets nothing else.
#[test]
fn a_check_in_json_is_nothing_but_json() {
    let place = Place::new();
    let zip = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name).display().to_string();
    for (corpus, only) in [("models_small.zip", "mlp.script"), ("errors.zip", "raises"), ("archives.zip", "fixture")] {
        let words = ["check", &zip(corpus), "--only", only, "--backend", "reference", "--json", "--verbose"];
        let (_, out, err) = place.run(&words);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{corpus}: {e}\n{out}"));
        let calls = json["calls"].as_array().expect("the calls are a list");
        let n = |key: &str| json[key].as_u64().expect("a count");
        assert_eq!(n("passed") + n("failed") + n("unsupported"), calls.len() as u64, "{corpus}: {err}");
        assert!(!calls.is_empty(), "{corpus}");
    }
    let (exit, out, _) = place.run(&["check", &zip("models_small.zip"), "--only", "mlp.script", "--texts", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("one JSON value");
    assert_eq!(exit, Exit::Success);
    for text in ["code", "graph", "inlined_graph"] {
        let counts = &json["texts"]["archives"][text];
        assert_eq!((&counts["recorded"], &counts["renumbered"]), (&1.into(), &1.into()), "{text}: {out}");
    }
    let (_, out, _) = place.run(&["check", &zip("models_small.zip"), "--only", "mlp.script", "--texts"]);
    assert!(
        out.starts_with("code of archives: 1 of 1 recorded texts equal (100.0 %), 1 renumbered (100.0 %)\n"),
        "{out}"
    );
    assert!(out.ends_with("\n0 passed, 0 failed, 0 unsupported\n"), "{out}");
}

#[test]
fn built_libraries_run() {
    let place = Place::new();
    let (exit, out, err) =
        place.run(&["build", "@mlp.pt", "-o", "@libnet.so", "--input", INPUT, "--emit", "header,cpp,cmake,pkgconfig"]);
    assert_eq!(exit, Exit::Success, "{err}");
    assert!(out.contains("libnet.so"), "{out}");
    for file in ["libnet.so", "net.h", "aot.hpp", "netConfig.cmake", "net.pc"] {
        assert!(place.file(file).exists(), "{file} is missing");
    }
    let compiled = place.run(&["run", "@libnet.so", "--input", "zeros"]);
    let evaluated = place.run(&["run", "@mlp.pt", "--backend", "reference", "--input", "zeros:f32[2,20]"]);
    assert_eq!((compiled.0, evaluated.0), (Exit::Success, Exit::Success), "{}{}", compiled.2, evaluated.2);
    let shape = |text: &str| text.split(" [").next().map(str::to_owned);
    assert_eq!(shape(&compiled.1), shape(&evaluated.1));
    let (exit, _, err) = place.run(&["run", "@libnet.so", "--input", "f32[2,9]"]);
    assert_eq!(exit, Exit::Failure, "{err}");
    for suffix in ["ll", "s", "bc", "o", "a"] {
        let file = format!("@net.{suffix}");
        let (exit, _, err) = place.run(&["build", "@mlp.pt", "-o", &file, "--input", INPUT, "-O1"]);
        assert_eq!(exit, Exit::Success, "{suffix}: {err}");
        assert!(fs::metadata(place.file(&file[1..])).unwrap().len() > 100, "{suffix}");
    }
}

const NET: &str = "import torch
from typing import List
from torch import nn


class Net(nn.Module):
    sizes: List[int]

    def __init__(self, n=2):
        super().__init__()
        self.lin = nn.Linear(n, 1)
        self.factor = 1.5

    def forward(self, x):
        return self.lin(x) * self.factor + len(self.sizes)
";

/// Name, element type, sizes and elements.
type Entry<'a> = (&'a str, &'a str, &'a [i64], &'a [u8]);

/// The bytes of a safetensors file.
fn safetensors(tensors: &[Entry<'_>]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert((*name).into(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [length.as_slice(), header.as_bytes(), &data].concat()
}

#[test]
fn attributes_come_from_files_of_tensors() {
    let place = Place::new();
    fs::write(place.file("net.py"), NET).unwrap();
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>();
    let ints = |values: &[i64]| values.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>();
    let weight = ("lin.weight", "F32", [1, 2].as_slice(), &*floats(&[2.0, 3.0]));
    let bias = ("lin.bias", "F32", [1].as_slice(), &*floats(&[0.5]));
    let sizes = ("sizes", "I64", [3].as_slice(), &*ints(&[1, 2, 3]));
    let two = 2.0_f64.to_ne_bytes();
    let factor = ("factor", "F64", [].as_slice(), two.as_slice());
    let write = |name: &str, tensors: &[Entry<'_>]| fs::write(place.file(name), safetensors(tensors)).unwrap();
    write("all.safetensors", &[weight, bias, sizes, factor]);
    let command = |file: &str| ["script", "@net.py", "--attributes", file, "-o", "@net.pt"].map(str::to_owned);
    let words = command("@all.safetensors");
    let (exit, _, err) = place.run(&words.each_ref().map(String::as_str));
    assert_eq!((exit, err.as_str()), (Exit::Success, ""));
    let module = aot::Module::load_with(place.file("net.pt"), aot::Backend::Reference).unwrap();
    let y = module.forward(&[&ndarray::array![[1.0f32, 1.0]]]).unwrap();
    assert_eq!(aot::to_array::<f32>(&y).unwrap(), ndarray::array![[14.0f32]].into_dyn());
    fs::remove_file(place.file("net.pt")).unwrap();

    let refuses = |tensors: &[Entry<'_>], message: &str| {
        write("wrong.safetensors", tensors);
        let words = command("@wrong.safetensors");
        place.refuses(&words.each_ref().map(String::as_str), Exit::Failure, message);
    };
    refuses(&[sizes, ("lin.w", "F32", &[1], &floats(&[0.0]))], "'Linear' has no attribute 'w' for the file's 'lin.w'");
    refuses(&[sizes, ("conv.weight", "F32", &[1], &floats(&[0.0]))], "there is no module 'conv'");
    refuses(
        &[sizes, ("lin.bias", "F32", &[2], &floats(&[0.0, 1.0]))],
        "the attribute 'lin.bias' is float32[1], but the file has float32[2]",
    );
    refuses(
        &[("sizes", "F32", &[1], &floats(&[0.0]))],
        "the attribute 'sizes' is List[int], but the file has float32[1]",
    );
    refuses(&[weight], "Module 'Net' has no attribute 'sizes'");
    fs::write(place.file("cut.safetensors"), &safetensors(&[weight])[..20]).unwrap();
    let words = command("@cut.safetensors");
    place.refuses(&words.each_ref().map(String::as_str), Exit::Failure, "its header is longer than it");
    fs::write(place.file("cut.npz"), b"PK").unwrap();
    let words = command("@cut.npz");
    place.refuses(&words.each_ref().map(String::as_str), Exit::Failure, "cut.npz");
}

#[test]
fn every_wrong_function_of_a_text_is_reported_in_its_order() {
    let place = Place::new();
    let text = "import torch\n\
                def helper(x: int) -> int:\n    return 'a'\n\
                def fine(x: int) -> int:\n    return x\n\
                def broken(x: int) -> str:\n    return helper(x)\n\
                def last(x: int):\n    return broken(fine(x)) + missing\n";
    fs::write(place.file("wrong.py"), text).expect("the folder is writable");
    let (exit, _, err) = place.run(&["script", "@wrong.py"]);
    assert_eq!(exit, Exit::Failure, "{err}");
    let heads: Vec<&str> = err.lines().filter(|line| line.starts_with("error") || line.ends_with("errors")).collect();
    let expected = [
        "error: Return value was annotated as having type int but is actually of type str",
        "error: Return value was annotated as having type str but is actually of type int",
        "error: undefined value missing",
        "3 errors",
    ];
    assert_eq!(heads, expected, "{err}");
    assert!(err.contains("'__torch__.broken' is being compiled since it was called from '__torch__.last'"), "{err}");
    // By name, only what it needs is looked at.
    let (_, _, err) = place.run(&["script", "@wrong.py", "--entry", "helper"]);
    assert_eq!(err.matches("error:").count(), 1, "{err}");
    assert!(!place.file("wrong.pt").exists());
}
