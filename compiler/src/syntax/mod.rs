//! TorchScript source, both the dialect of archives and the Python subset users write: text to syntax tree.
//!
//! [`layout`](self) cuts logical lines, the pest grammar reads each, `expr` applies precedence, `parse` builds blocks, and
//! `signature` reads type comments. There is one grammar and one tree for both; where they differ is [`Dialect`] alone.

pub mod ast;
mod expr;
mod layout;
mod literal;
pub mod parse;
mod print;
mod signature;
mod strings;
#[cfg(test)]
mod tests;

pub use layout::MAX_BRACKET_DEPTH;
pub use parse::{Dialect, parse, parse_dialect, parse_python};
