//! Where what a model prints and warns goes: to the standard streams, unless the host takes it.
#![allow(unsafe_code, reason = "calls the host's function")]

use std::ffi::{CString, c_char, c_void};
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

/// Takes a line of output, which the text does not end: level 0 is what the model prints, 1 a warning. Calls of several
/// threads may print at once.
pub type LogFn = unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const c_char);

/// What a line of output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// The model printed it.
    Print,
    /// The model warns.
    Warning,
}

/// Takes lines of output in this process.
pub type Printer = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// Who takes lines of output.
#[derive(Clone, Default)]
pub enum Sink {
    /// Prints go to the standard output, warnings to the standard error.
    #[default]
    Streams,
    /// The host's function with its `user` argument.
    Host(LogFn, usize),
    /// A closure.
    Printer(Printer),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streams => "Streams",
            Self::Host(..) => "Host",
            Self::Printer(_) => "Printer",
        })
    }
}

/// A model's sink, which may be changed while it runs.
#[derive(Debug, Default)]
pub struct Log(RwLock<Sink>);

impl Log {
    /// Lines go there.
    pub fn new(sink: Sink) -> Self {
        Self(RwLock::new(sink))
    }

    /// Later lines go there.
    pub fn set(&self, sink: Sink) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Hands out a line.
    pub(crate) fn line(&self, level: Level, text: &str) {
        // The host's function may set another sink, so the lock is not held while it runs.
        let sink = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        match sink {
            Sink::Host(log, user) => {
                let text = CString::new(text.replace('\0', "")).unwrap_or_default();
                // SAFETY: the host promised a function of this type.
                unsafe { log(user as *mut c_void, level as i32, text.as_ptr()) };
            }
            Sink::Printer(print) => print(level, text),
            // A closed stream is no reason to fail a call.
            Sink::Streams if level == Level::Print => drop(writeln!(std::io::stdout(), "{text}")),
            Sink::Streams => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }
}
