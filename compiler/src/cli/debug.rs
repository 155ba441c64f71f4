//! `aot debug`: a call that stops at statements, with the commands of Python's debugger.
//!
//! The model runs on the plain evaluator in a thread of its own, compiled to be traced: before each statement and after each
//! value it tells of it and waits. This thread keeps the frames with their values, and reads commands where the call stops.

use super::call::{CallArgs, Prepared};
use super::run::{CALL_STACK_BYTES, print};
use super::{Exit, Output};
use crate::diag::{Diagnostic, Result};
use crate::driver::{self, Backend};
use crate::lower::statements;
use crate::module::Module;
use crate::script::{Attributes, Text};
use crate::source::Source;
use crate::syntax::Dialect;
use aot_runtime::log::{Level, Sink};
use aot_runtime::trace::Event;
use aot_runtime::{Error, Value};
use clap::Args;
use indexmap::IndexMap;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Arguments of `aot debug`.
#[derive(Debug, Args)]
#[command(after_help = "Commands, each by its first letter or name (an empty line repeats the last one):
  n(ext) s(tep) r(eturn) c(ontinue) q(uit)     go on: to the next line, into calls, to the end of the function, to a breakpoint
  b(reak) [FILE:]LINE, tbreak, cl(ear) [N]     set, set once, list and remove breakpoints
  l(ist) w(here) u(p) d(own) a(rgs) locals     look around
  p EXPRESSION, whatis EXPRESSION              any expression of TorchScript over the values of the frame

Examples:
  aot debug model.pt --input x=rand
  aot debug net.py --input x=zeros:f32[2] -c 'b 12' -c c -c 'p y.mean()'")]
pub(super) struct DebugArgs {
    #[command(flatten)]
    call: CallArgs,
    /// A command to begin with; several are carried out in order. Further ones come from the standard input.
    #[arg(short, long = "command", value_name = "COMMAND")]
    commands: Vec<String>,
}

/// What the thread of the call sends.
enum Message {
    Event(Event),
    Printed(String),
    Ended(std::result::Result<Value, Error>),
}

pub(super) fn run(args: &DebugArgs, output: &mut Output<'_>) -> Result<Exit> {
    let Prepared { executable, args: values, module } = args.call.prepare_traced()?;
    let lines = module.map(|module| lines_of(&module)).unwrap_or_default();
    let failed = |error: Error| Diagnostic::user(error.to_string());
    let mut instance = executable.instance().map_err(failed)?;
    instance.manual_seed(args.call.seed());
    let (send, messages) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (told, printed, may_go_on) = (send.clone(), send.clone(), Mutex::new(may_go_on));
    let tracer = move |event: Event| {
        let sent = told.send(Message::Event(event)).is_ok();
        let waits = may_go_on.lock().unwrap_or_else(PoisonError::into_inner);
        if !sent || waits.recv().is_err() {
            // Nobody listens any more: the process is about to end.
            loop {
                std::thread::park();
            }
        }
    };
    let print_line = move |_: Level, text: &str| drop(printed.send(Message::Printed(text.to_owned())));
    executable.set_sink(Sink::Printer(Arc::new(print_line)));
    executable.set_tracer(Some(Arc::new(tracer)));
    let method = args.call.method.clone();
    let call = move || drop(send.send(Message::Ended(instance.call(&method, &values))));
    std::thread::Builder::new()
        .stack_size(CALL_STACK_BYTES)
        .spawn(call)
        .map_err(|error| Diagnostic::user(format!("cannot start a thread: {error}")))?;

    let mut debugger = Debugger::new(args.commands.iter().cloned().collect(), lines);
    for message in messages {
        match message {
            Message::Event(event) => {
                if debugger.takes(event) && !debugger.stopped(output) {
                    return Ok(Exit::Success);
                }
                if go_on.send(()).is_err() {
                    break;
                }
            }
            Message::Printed(text) => _ = writeln!(output.out, "{text}"),
            Message::Ended(Ok(value)) => {
                let mut text = String::new();
                print(&value, 0, &mut text);
                let _ = writeln!(output.out, "--Return--\n{text}");
                return Ok(Exit::Success);
            }
            Message::Ended(Err(error)) => {
                let _ = writeln!(output.out, "{error}\nThe call has ended; its frames can be looked at.");
                debugger.is_over = true;
                debugger.stopped(output);
                return Ok(Exit::Failure);
            }
        }
    }
    Err(Diagnostic::internal("a call ended without a result"))
}

/// The text of every line of which the model's graphs know.
fn lines_of(module: &Module) -> BTreeMap<(String, usize), String> {
    let functions = module.ir().functions.values();
    let known = functions.flat_map(|function| statements(&function.graph));
    known.filter_map(|statement| parted(&statement).map(|(file, line, text)| ((file, line), text))).collect()
}

/// File, line and text of `net.py:12: y = x + 1`.
fn parted(statement: &str) -> Option<(String, usize, String)> {
    let (place, text) = statement.split_once(": ").unwrap_or((statement.trim_end_matches(':'), ""));
    let (file, line) = place.rsplit_once(':')?;
    Some((file.to_owned(), line.parse().ok()?, text.to_owned()))
}

/// A function that runs.
#[derive(Default)]
struct Frame {
    function: String,
    file: String,
    line: usize,
    text: String,
    args: Vec<String>,
    values: IndexMap<String, Option<Value>>,
}

/// Where the call stops next.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    /// At the next statement.
    Step,
    /// At the next statement of at most so many frames.
    Frames(usize),
    /// At a breakpoint only.
    Breakpoint,
}

struct Breakpoint {
    number: usize,
    file: Option<String>,
    line: usize,
    is_temporary: bool,
}

struct Debugger {
    /// Commands that were given beforehand.
    waiting: VecDeque<String>,
    lines: BTreeMap<(String, usize), String>,
    /// Innermost last.
    frames: Vec<Frame>,
    /// How far above the innermost frame the user looks.
    above: usize,
    until: Until,
    breakpoints: Vec<Breakpoint>,
    n_breakpoints: usize,
    last: String,
    /// Whether the call has ended.
    is_over: bool,
}

/// What follows a command.
enum Then {
    /// Another command.
    Ask,
    /// The call goes on.
    Run(Until),
    /// The debugger ends.
    Quit,
}

impl Debugger {
    fn new(waiting: VecDeque<String>, lines: BTreeMap<(String, usize), String>) -> Self {
        Self {
            waiting,
            lines,
            frames: Vec::new(),
            above: 0,
            until: Until::Step,
            breakpoints: Vec::new(),
            n_breakpoints: 0,
            last: String::new(),
            is_over: false,
        }
    }

    /// Notes what the program does; whether it stops here.
    fn takes(&mut self, event: Event) -> bool {
        match event {
            Event::Enter(function) => {
                self.frames.push(Frame { function, ..Frame::default() });
                return false;
            }
            Event::Leave => {
                self.frames.pop();
                return false;
            }
            Event::Argument(name, value) => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.args.push(name.clone());
                    frame.values.insert(name, value);
                }
                return false;
            }
            Event::Update(depth, name, value) => {
                if let Some(frame) = self.frames.get_mut(depth) {
                    frame.values.insert(name, value);
                }
                return false;
            }
            Event::Value(name, value) => {
                // Values without a name of their own are called after their operator.
                if let Some(frame) = self.frames.last_mut().filter(|_| !name.contains("::")) {
                    frame.values.insert(name, value);
                }
                return false;
            }
            Event::Statement(statement) => {
                let (Some(frame), Some((file, line, text))) = (self.frames.last_mut(), parted(&statement)) else {
                    return false;
                };
                (frame.file, frame.line, frame.text) = (file, line, text);
            }
        }
        self.stops_here()
    }

    fn stops_here(&mut self) -> bool {
        let n_frames = self.frames.len();
        let Some(frame) = self.frames.last() else { return false };
        let is_at = |breakpoint: &Breakpoint| {
            let is_file = breakpoint
                .file
                .as_ref()
                .is_none_or(|file| frame.file == *file || frame.file.rsplit('/').next() == file.rsplit('/').next());
            breakpoint.line == frame.line && is_file
        };
        if let Some(at) = self.breakpoints.iter().position(is_at) {
            if self.breakpoints[at].is_temporary {
                self.breakpoints.remove(at);
            }
            return true;
        }
        match self.until {
            Until::Step => true,
            Until::Frames(most) => n_frames <= most,
            Until::Breakpoint => false,
        }
    }

    /// Reads commands until one of them lets the call go on; `false` to end.
    fn stopped(&mut self, output: &mut Output<'_>) -> bool {
        self.above = 0;
        self.show_place(output);
        let is_person = std::io::stdin().is_terminal();
        loop {
            let line = if let Some(line) = self.waiting.pop_front() {
                line
            } else {
                if is_person {
                    let _ = write!(output.out, "(aot) ");
                }
                let _ = output.out.flush();
                let mut line = String::new();
                match std::io::stdin().lock().read_line(&mut line) {
                    Ok(n) if n > 0 => line,
                    _ => return false,
                }
            };
            let line = if line.trim().is_empty() { self.last.clone() } else { line.trim().to_owned() };
            self.last.clone_from(&line);
            match self.command(&line, output) {
                Then::Ask => {}
                Then::Run(_) if self.is_over => _ = writeln!(output.out, "*** the call has ended"),
                Then::Run(until) => {
                    self.until = until;
                    return true;
                }
                Then::Quit => return false,
            }
        }
    }

    fn command(&mut self, line: &str, output: &mut Output<'_>) -> Then {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let mut say = |text: &str| _ = writeln!(output.out, "{text}");
        match word {
            "s" | "step" => return Then::Run(Until::Step),
            "n" | "next" => return Then::Run(Until::Frames(self.frames.len())),
            "r" | "return" => return Then::Run(Until::Frames(self.frames.len().saturating_sub(1))),
            "c" | "cont" | "continue" => return Then::Run(Until::Breakpoint),
            "q" | "quit" | "exit" => return Then::Quit,
            "b" | "break" if rest.is_empty() => {
                for breakpoint in &self.breakpoints {
                    let file = breakpoint.file.as_deref().unwrap_or("*");
                    say(&format!("{} at {file}:{}", breakpoint.number, breakpoint.line));
                }
            }
            "b" | "break" | "tbreak" => match self.set_breakpoint(rest, word == "tbreak") {
                Ok(text) | Err(text) => say(&text),
            },
            "cl" | "clear" if rest.is_empty() => {
                self.breakpoints.clear();
                say("all breakpoints are removed");
            }
            "cl" | "clear" => {
                let n_before = self.breakpoints.len();
                self.breakpoints.retain(|breakpoint| rest.parse() != Ok(breakpoint.number));
                if self.breakpoints.len() == n_before {
                    say(&format!("*** there is no breakpoint {rest}"));
                }
            }
            "w" | "where" | "bt" => {
                for (at, frame) in self.frames.iter().enumerate() {
                    let mark = if at + 1 + self.above == self.frames.len() { '>' } else { ' ' };
                    say(&format!("{mark} {}({}){}()\n  -> {}", frame.file, frame.line, frame.function, frame.text));
                }
            }
            "u" | "up" if self.above + 1 < self.frames.len() => {
                self.above += 1;
                self.show_place(output);
            }
            "d" | "down" if self.above > 0 => {
                self.above -= 1;
                self.show_place(output);
            }
            "u" | "up" => say("*** this is the oldest frame"),
            "d" | "down" => say("*** this is the newest frame"),
            "l" | "list" | "ll" => self.list(word == "ll", output),
            "a" | "args" => self.show_values(true, output),
            "locals" => self.show_values(false, output),
            "p" | "pp" | "whatis" if !rest.is_empty() => match self.evaluated(rest) {
                Ok(value) if word == "whatis" => {
                    say(&type_text(&value).unwrap_or_else(|| value.type_name()));
                }
                Ok(value) => {
                    let mut text = String::new();
                    print(&value, 0, &mut text);
                    say(&text);
                }
                Err(message) => say(&format!("*** {message}")),
            },
            "h" | "help" | "?" => {
                say("n(ext) s(tep) r(eturn) c(ontinue) q(uit)\nb(reak) [FILE:]LINE, tbreak, cl(ear) [N]");
                say("l(ist) ll w(here) u(p) d(own) a(rgs) locals\np EXPRESSION, whatis EXPRESSION");
            }
            _ => match self.evaluated(line) {
                Ok(value) => {
                    let mut text = String::new();
                    print(&value, 0, &mut text);
                    say(&text);
                }
                Err(_) => say(&format!("*** '{word}' is no command; h lists them")),
            },
        }
        Then::Ask
    }

    fn frame(&self) -> Option<&Frame> {
        self.frames.len().checked_sub(1 + self.above).and_then(|at| self.frames.get(at))
    }

    fn show_place(&self, output: &mut Output<'_>) {
        if let Some(frame) = self.frame() {
            let function = frame.function.rsplit('.').next().unwrap_or_default();
            let _ = writeln!(output.out, "> {}({}){function}()\n-> {}", frame.file, frame.line, frame.text);
        }
    }

    fn show_values(&self, only_args: bool, output: &mut Output<'_>) {
        let Some(frame) = self.frame() else { return };
        for (name, value) in frame.values.iter().filter(|(name, _)| !only_args || frame.args.contains(name)) {
            let mut text = String::new();
            match value {
                Some(value) => print(value, 0, &mut text),
                None => text.push_str("..."),
            }
            let _ = writeln!(output.out, "{name} = {text}");
        }
    }

    /// The lines around the current one that the model knows, or all of its file.
    fn list(&self, all: bool, output: &mut Output<'_>) {
        let Some(frame) = self.frame() else { return };
        let near = if all { usize::MAX } else { 6 };
        for ((_, line), text) in self.lines.iter().filter(|((file, _), _)| *file == frame.file) {
            if line.abs_diff(frame.line) < near {
                let mark = if *line == frame.line { "->" } else { "  " };
                let _ = writeln!(output.out, "{line:4} {mark} {text}");
            }
        }
    }

    fn set_breakpoint(&mut self, place: &str, is_temporary: bool) -> std::result::Result<String, String> {
        let (file, line) = match place.rsplit_once(':') {
            Some((file, line)) => (Some(file.to_owned()), line),
            None => (self.frame().map(|frame| frame.file.clone()), place),
        };
        let line: usize = line.parse().map_err(|_| format!("*** '{place}' is no [FILE:]LINE"))?;
        let is_file = |name: &str| file.as_ref().is_none_or(|file| name == file || name.ends_with(&format!("/{file}")));
        if !self.lines.keys().any(|(name, known)| is_file(name) && *known == line) {
            return Err(format!("*** nothing is computed on line {line} of {}", file.as_deref().unwrap_or("any file")));
        }
        self.n_breakpoints += 1;
        let number = self.n_breakpoints;
        let text = format!("Breakpoint {number} at {}:{line}", file.as_deref().unwrap_or("*"));
        self.breakpoints.push(Breakpoint { number, file, line, is_temporary });
        Ok(text)
    }

    /// The value of an expression over what is known in the frame: compiled as a function of the names it uses.
    fn evaluated(&self, expression: &str) -> std::result::Result<Value, String> {
        let frame = self.frame().ok_or("nothing runs")?;
        let (mut params, mut values) = (Vec::new(), Vec::new());
        for (name, value) in &frame.values {
            let mut words = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
            if !words.any(|word| word == name) {
                continue;
            }
            let value = value.as_ref().ok_or_else(|| format!("the value of '{name}' is not told"))?;
            if name == expression {
                return Ok(value.clone());
            }
            let ty = type_text(value).ok_or_else(|| format!("'{name}' is of a type that expressions cannot use"))?;
            params.push(format!("{name}: {ty}"));
            values.push(value.clone());
        }
        let text = format!("def value({}):\n  return {expression}\n", params.join(", "));
        let source = Arc::new(Source { name: "<expression>".into(), text, origins: Vec::new() });
        let text = Text { source, dialect: Dialect::Own, module: "__torch__".into(), imports: None, seed: None };
        let message = |error: Box<Diagnostic>| error.message.lines().next().unwrap_or_default().to_owned();
        let module = Module::of_ir(driver::script(&text, None, Attributes::Own).map_err(message)?, Backend::Reference);
        module.method("forward").and_then(|method| method.call_values(&values)).map_err(message)
    }
}

/// The type of a value as source text says it.
fn type_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Tensor(_) => "Tensor".to_owned(),
        Value::Int(_) => "int".to_owned(),
        Value::Float(_) => "float".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Complex(..) => "complex".to_owned(),
        Value::Str(_) => "str".to_owned(),
        Value::Tuple(items) => {
            format!("Tuple[{}]", items.iter().map(type_text).collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::List(items) => format!("List[{}]", items.first().map_or(Some("int".to_owned()), type_text)?),
        Value::Dict(entries) => match entries.first() {
            Some((key, value)) => format!("Dict[{}, {}]", type_text(key)?, type_text(value)?),
            None => "Dict[str, int]".to_owned(),
        },
        Value::None | Value::NamedTuple { .. } => return None,
    })
}
