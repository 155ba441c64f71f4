//! `aot debug`: a call that stops at statements, with the commands of Python's debugger.
//!
//! The model runs on the plain evaluator in a thread of its own, compiled to be traced: before each statement and after each
//! value it tells of it and waits. This thread keeps the frames with their values, and reads commands where the call stops.

mod lines;
mod values;

use self::lines::Lines;
use self::values::{Found, Names, Objects};
use super::call::{CallArgs, Prepared};
use super::run::{CALL_STACK_BYTES, print};
use super::{Exit, Output};
use crate::diag::{Diagnostic, Result};
use aot_runtime::log::{Level, Sink};
use aot_runtime::trace::Event;
use aot_runtime::{Error, Value};
use clap::Args;
use std::collections::VecDeque;
use std::io::{BufRead as _, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Arguments of `aot debug`.
#[derive(Debug, Args)]
#[command(after_help = "Commands, each by its first letter or name (an empty line repeats the last one):
  n(ext) s(tep) r(eturn) c(ontinue) q(uit)     go on: to the next line, into calls, to the end of the function, to a breakpoint
  b(reak) [FILE:]LINE|FUNCTION[, CONDITION]    set a breakpoint; without a place, list them
  tbreak, cl(ear) [N]                          set one for once; remove them
  l(ist) ll w(here) u(p) d(own) a(rgs) locals  look around; ll lists the whole function
  p EXPRESSION, whatis EXPRESSION              any expression of TorchScript over the values of the frame and
                                               attributes of its objects: p self.layers[0].weight.mean()

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
    let (lines, objects) = module.map(|module| (Lines::of(module.ir()), Objects::of(module.ir()))).unwrap_or_default();
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

    let mut debugger = Debugger::new(args.commands.iter().cloned().collect(), lines, objects);
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
    values: Names,
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
    file: String,
    line: usize,
    /// Where given, it stops only if this is true there.
    condition: Option<String>,
    is_temporary: bool,
}

struct Debugger {
    /// Commands that were given beforehand.
    waiting: VecDeque<String>,
    lines: Lines,
    objects: Objects,
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
    fn new(waiting: VecDeque<String>, lines: Lines, objects: Objects) -> Self {
        Self {
            waiting,
            lines,
            objects,
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
                match self.frames.get_mut(depth) {
                    Some(frame) => _ = frame.values.insert(name, value),
                    // No frame's: an attribute.
                    None => self.objects.set(&name, value),
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
        self.above = 0;
        let Some(frame) = self.frames.last() else { return false };
        let is_true = |condition: &String| {
            // As in Python's debugger, one that cannot be evaluated stops.
            !matches!(self.evaluated(&format!("bool({condition})")), Ok(Found::Value(Value::Bool(false))))
        };
        let is_at = |breakpoint: &Breakpoint| {
            breakpoint.line == frame.line
                && breakpoint.file == frame.file
                && breakpoint.condition.as_ref().is_none_or(is_true)
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
                    let Breakpoint { number, file, line, condition, .. } = breakpoint;
                    let condition = condition.iter().map(|text| format!(", if {text}")).collect::<String>();
                    say(&format!("{number} at {file}:{line}{condition}"));
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
                Ok(Found::Value(value)) if word == "whatis" => say(&self.objects.type_of(&value)),
                Ok(Found::DType(_)) if word == "whatis" => say("torch.dtype"),
                Ok(value) => say(&self.text_of(&value)),
                Err(message) => say(&format!("*** {message}")),
            },
            "h" | "help" | "?" => {
                say(
                    "n(ext) s(tep) r(eturn) c(ontinue) q(uit)\nb(reak) [FILE:]LINE|FUNCTION[, CONDITION], tbreak, cl(ear) [N]",
                );
                say("l(ist) ll w(here) u(p) d(own) a(rgs) locals\np EXPRESSION, whatis EXPRESSION");
            }
            _ => match self.evaluated(line) {
                Ok(value) => say(&self.text_of(&value)),
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
        // The compiler's own names, as `_0`, are of no interest.
        let is_own = |name: &str| name.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
        let shown = frame.values.iter().filter(|(name, _)| !is_own(name) && (!only_args || frame.args.contains(name)));
        for (name, value) in shown {
            let mut text = String::new();
            match value {
                Some(value) => text.push_str(&self.objects.brief(value)),
                None => text.push_str("..."),
            }
            let _ = writeln!(output.out, "{name} = {text}");
        }
    }

    /// The lines around the current one, or all of its function.
    fn list(&self, all: bool, output: &mut Output<'_>) {
        let Some(frame) = self.frame() else { return };
        let near = frame.line.saturating_sub(5)..=frame.line + 5;
        let range = if all { self.lines.around(&frame.file, frame.line) } else { near };
        for (line, text) in self.lines.texts(&frame.file, range) {
            let mark = if line == frame.line { "->" } else { "  " };
            let _ = writeln!(output.out, "{}", format!("{line:4} {mark} {text}").trim_end());
        }
    }

    /// Sets a breakpoint at `[FILE:]LINE` or a function's name, maybe followed by a comma and a condition.
    fn set_breakpoint(&mut self, words: &str, is_temporary: bool) -> std::result::Result<String, String> {
        let (place, condition) = match words.split_once(',') {
            Some((place, condition)) => (place.trim(), Some(condition.trim().to_owned())),
            None => (words, None),
        };
        let (asked, line) = match place.rsplit_once(':') {
            Some((file, line)) => (Some(file.to_owned()), line),
            None => (self.frame().map(|frame| frame.file.clone()), place),
        };
        let (stop, wanted) = match line.parse::<usize>() {
            Ok(line) => (self.lines.stop_at(asked.as_deref(), line), Some(line)),
            Err(_) => (self.lines.start_of(place), None),
        };
        let (file, line) = stop.ok_or_else(|| match wanted {
            Some(line) => {
                format!("*** nothing is computed on line {line} of {}", asked.as_deref().unwrap_or("any file"))
            }
            None => format!("*** '{place}' is neither [FILE:]LINE nor a function"),
        })?;
        self.n_breakpoints += 1;
        let number = self.n_breakpoints;
        let moved = wanted.filter(|wanted| *wanted != line);
        let moved = moved.map(|wanted| format!(" (nothing is computed on line {wanted})")).unwrap_or_default();
        let text = format!("Breakpoint {number} at {file}:{line}{moved}");
        self.breakpoints.push(Breakpoint { number, file, line, condition, is_temporary });
        Ok(text)
    }

    /// The value of an expression over what is known in the frame.
    fn evaluated(&self, expression: &str) -> std::result::Result<Found, String> {
        self.objects.evaluated(&self.frame().ok_or("nothing runs")?.values, expression)
    }

    /// A value as it is shown; objects with their attributes.
    fn text_of(&self, found: &Found) -> String {
        match found {
            Found::Value(value) => self.objects.describe(value).unwrap_or_else(|| self.objects.brief(value)),
            Found::DType(dtype) => format!("torch.{}", dtype.python_name()),
        }
    }
}
