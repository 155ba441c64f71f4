//! Errors of the runtime: a status, the Python class of an exception where there is one, the message and the place.

use crate::abi::Status;
use std::fmt;

/// Why a call failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The kind of failure.
    pub status: Status,
    /// Python class of the exception a model raised, e.g. `RuntimeError`; empty otherwise.
    pub class: String,
    /// What happened.
    pub message: String,
    /// Where the user wrote what failed, e.g. `net.py:42:8`; may be empty.
    pub place: String,
    /// The number of an operator at that place in the model's table, if it is known.
    pub operator: Option<usize>,
}

/// The result of a fallible function of the runtime.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that is not an exception of the model.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, class: String::new(), message: message.into(), place: String::new(), operator: None }
    }

    /// The file, line (from 1) and column (from 0) of the place.
    pub fn location(&self) -> Option<(&str, u32, u32)> {
        let (rest, column) = self.place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        Some((file, line.parse().ok()?, column.parse().ok()?))
    }

    /// An exception the model raised.
    pub fn raised(class: &str, message: impl Into<String>, place: &str) -> Self {
        let class = class.strip_prefix("builtins.").unwrap_or(class);
        let status = if class == "IndexError" { Status::Index } else { Status::Raised };
        Self { status, class: class.to_owned(), message: message.into(), place: place.to_owned(), operator: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.class.is_empty() {
            f.write_str(&self.class)?;
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if !self.place.is_empty() {
            f.write_str("\n  at ")?;
            f.write_str(&self.place)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Status {
    /// The status for a code compiled code returned; unknown codes are [`Status::Internal`].
    pub fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Ok,
            -1 => Self::Argument,
            -2 => Self::Shape,
            -3 => Self::Dtype,
            -4 => Self::Alignment,
            -5 => Self::Memory,
            -6 => Self::Isa,
            -7 => Self::Abi,
            -8 => Self::Raised,
            -9 => Self::Index,
            -10 => Self::Cancelled,
            -12 => Self::Unsupported,
            _ => Self::Internal,
        }
    }
}
