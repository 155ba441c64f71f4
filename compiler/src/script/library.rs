//! The functions of `torch.nn.functional` that user code calls, as this compiler's own TorchScript text.
//!
//! They are compiled like a user's functions, on demand, under the names they have in archives.

/// The module these functions are part of.
pub(crate) const MODULE: &str = "__torch__.torch.nn.functional";

/// Where this text is kept, behind an archive's file of the same module.
pub(crate) const FALLBACK: &str = "__torch__.torch.nn.functional.";

/// The text, in the Python subset.
pub(crate) const TEXT: &str = include_str!("library.py");
