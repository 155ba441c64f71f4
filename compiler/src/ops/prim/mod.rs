//! Operators on numbers, strings, lists and dicts, and the `prim::` ones that are plain functions of their arguments.

pub mod complex;
pub mod container;
pub mod counters;
pub mod dict;
pub mod digest;
pub mod list;
pub mod order;
pub mod scalar;
pub mod strings;
pub mod tensor_props;
pub mod text;

use super::OpDef;

/// Every family: the file it stands in, and its definitions.
pub const FAMILIES: &[(&str, &[OpDef])] = &[
    ("scalar", scalar::BINARY_DEFS),
    ("scalar", scalar::UNARY_DEFS),
    ("scalar", scalar::DEFS),
    ("complex", complex::BINARY_DEFS),
    ("complex", complex::DEFS),
    ("container", container::DEFS),
    ("counters", counters::DEFS),
    ("list", list::DEFS),
    ("order", order::DEFS),
    ("digest", digest::DEFS),
    ("dict", dict::DEFS),
    ("tensor_props", tensor_props::DEFS),
    ("strings", strings::DEFS),
    ("text", text::DEFS),
];
