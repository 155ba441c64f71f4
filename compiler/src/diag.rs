//! Diagnostics: errors as data, and the one function that renders them.

use crate::source::Span;
use std::fmt::Write as _;

/// Whose fault an error is; the three never mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The model, the arguments or the command is wrong.
    User,
    /// It is right, but this compiler cannot do it yet.
    Unsupported,
    /// This compiler is wrong.
    Internal,
}

/// An error with the place it is about.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// Whose fault it is.
    pub blame: Blame,
    /// One terse sentence; where PyTorch has a text for the mistake, it begins with the same words.
    pub message: String,
    /// The place that is wrong.
    pub span: Option<Span>,
    /// Facts that help, one line each.
    pub notes: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// For what a running model raised.
    pub exception: Option<Box<Exception>>,
    /// Further errors of the same run, each of another function.
    pub more: Vec<Diagnostic>,
}

/// An exception of a running model, in parts.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Exception {
    /// The Python class: `ValueError`.
    pub class: String,
    /// Its message.
    pub message: String,
    /// The user's file; empty where it is not known.
    pub file: String,
    /// The line in it, from 1; 0 where it is not known.
    pub line: u32,
    /// The column in the line, from 0.
    pub column: u32,
}

/// The result of a stage.
pub type Result<T> = std::result::Result<T, Box<Diagnostic>>;

impl Diagnostic {
    /// An error of the user's.
    pub fn user(message: impl Into<String>) -> Box<Self> {
        Self::new(Blame::User, message)
    }

    /// Something we cannot do yet.
    pub fn unsupported(message: impl Into<String>) -> Box<Self> {
        Self::new(Blame::Unsupported, message)
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Box<Self> {
        Self::new(Blame::Internal, message)
    }

    fn new(blame: Blame, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            blame,
            message: message.into(),
            span: None,
            notes: Vec::new(),
            help: None,
            exception: None,
            more: Vec::new(),
        })
    }

    /// The same error at this place, unless it already has one.
    #[must_use]
    pub fn at(mut self: Box<Self>, span: Option<&Span>) -> Box<Self> {
        if self.span.is_none() {
            self.span = span.cloned();
        }
        self
    }

    /// The same error with one more fact.
    #[must_use]
    pub fn note(mut self: Box<Self>, note: impl Into<String>) -> Box<Self> {
        self.notes.push(note.into());
        self
    }

    /// The same error with advice.
    #[must_use]
    pub fn help(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help = Some(help.into());
        self
    }

    /// This error and all further ones, in the order of the text that they are about, and how many they are if several.
    pub fn render_all(&self) -> String {
        let mut all: Vec<&Self> = std::iter::once(self).chain(&self.more).collect();
        let place = |error: &Self| error.span.as_ref().map(|span| (span.source.name.clone(), span.start));
        all.sort_by_key(|error| place(error));
        let mut out: String = all.iter().map(|error| error.render()).collect();
        if all.len() > 1 {
            let _ = writeln!(out, "{} errors", all.len());
        }
        out
    }

    /// The error as a person reads it: message, place, the line with carets, notes and help.
    pub fn render(&self) -> String {
        let label = match self.blame {
            Blame::User => "error",
            Blame::Unsupported => "error: unsupported",
            Blame::Internal => "internal error",
        };
        let mut out = format!("{label}: {}\n", self.message);
        if let Some(span) = &self.span {
            let (line, column) = span.line_column();
            let inside = format!("{}:{line}:{column}", span.source.name);
            match span.origin() {
                Some(_) => _ = writeln!(out, "  --> {}  (in the archive: {inside})", span.place()),
                None => _ = writeln!(out, "  --> {inside}"),
            }
            if let Some(text) = span.source.text.lines().nth(line - 1).filter(|text| text.len() < 400) {
                let width = span.end.saturating_sub(span.start).clamp(1, text.len().saturating_sub(column).max(1));
                let _ = writeln!(out, "{line:5} | {text}");
                let _ = writeln!(out, "      | {}{}", " ".repeat(column), "^".repeat(width));
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "   = note: {note}");
        }
        if let Some(help) = &self.help {
            let _ = writeln!(out, "   = help: {help}");
        }
        out
    }
}

impl Diagnostic {
    /// The error in the form of PyTorch's: the message, then the lines around the place with marks below those it is about.
    pub fn as_pytorch(&self) -> String {
        const N_AROUND: usize = 3;
        let mut out = self.message.clone();
        if let Some(span) = &self.span {
            let whole = span.source.text.as_str();
            let covered = whole.get(span.start..span.end).unwrap_or("").trim_end();
            let (first, end) = (span.line_column().0, span.start + covered.len());
            let last = first + covered.matches('\n').count();
            let _ = writeln!(out, ":\n  File \"{}\", line {first}", span.source.name);
            let mut start = 0;
            for (number, line) in (1..).zip(whole.split('\n')) {
                if number + N_AROUND >= first && number <= last + N_AROUND {
                    let _ = writeln!(out, "{line}");
                }
                let from = span.start.saturating_sub(start).max(line.len() - line.trim_start().len());
                let to = (end - start.min(end)).min(line.len()).max(from + usize::from(number == last));
                if (first..=last).contains(&number) && from < to {
                    let here = if number == last { " <--- HERE" } else { "" };
                    let _ = writeln!(out, "{}{}{here}", " ".repeat(from), "~".repeat(to - from));
                }
                start += line.len() + 1;
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }
}

/// Runs a stage that walks its input by recursion, on a stack of its own size. A panic in it is a bug of ours and becomes an
/// internal error; only touched pages of the stack cost memory.
///
/// # Errors
/// Those of the stage, and internal ones: it panicked, or no thread could be started.
pub fn on_stack<T: Send>(stage: &str, stack_bytes: usize, run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(stage.to_owned()).stack_size(stack_bytes);
        let handle = thread
            .spawn_scoped(scope, run)
            .map_err(|e| Diagnostic::internal(format!("cannot start a thread for {stage}: {e}")))?;
        handle.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            Err(Diagnostic::internal(format!("{stage} failed: {text}")))
        })
    })
}
