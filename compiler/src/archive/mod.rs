//! The `.pt` file: a zip of pickles, tensor storages and TorchScript source.
//!
//! ```text
//! file ──storage.rs──► bytes ──zip.rs──► members ──pickle.rs──► pickle nodes ──values.rs──► IValue
//!                                           └──────── code/**.py, debug.rs ─────► Source ──► Archive (model.rs)
//! ```
//!
//! `write.rs` goes the other way: an [`Archive`] as bytes that PyTorch loads.
//!
//! Nothing here executes anything from the file, follows a path in it, or trusts a number in it: names, counts, sizes
//! and offsets are checked against named limits before they are used, and every fault is a [`Diagnostic`] that names
//! the file, the member and what is wrong with it.

mod classes;
mod debug;
mod model;
mod pickle;
mod storage;
mod storages;
mod tensors;
mod values;
mod write;
mod zip;

pub use model::{Archive, from_bytes, load_data, open};
pub use storage::Bytes;
pub use write::{Trainable, write};
pub use zip::Container;

use crate::diag::Diagnostic;

/// What is wrong with one member, before it is known which file and member it is about.
#[derive(Debug)]
enum Fault {
    /// The member is malformed or hostile.
    Bad(String),
    /// The member is well formed but uses what this reader leaves out.
    Unsupported(String),
}

impl Fault {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad(what.into())
    }

    /// The diagnostic for this fault in `member` of `file`.
    fn in_member(self, file: &str, member: &str) -> Box<Diagnostic> {
        match self {
            Self::Bad(what) => Diagnostic::user(format!("{file}: {member}: {what}")),
            Self::Unsupported(what) => Diagnostic::unsupported(format!("{file}: {member}: {what}")),
        }
    }
}
