//! Source text to syntax tree.

/// The deepest nesting of one expression: brackets, operators and conditionals together.
pub const MAX_EXPR_DEPTH: usize = 200;
