//! TorchScript source, both the dialect of archives and the Python subset users write: text to syntax tree.

pub mod ast;
pub mod parse;
