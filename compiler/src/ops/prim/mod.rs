//! Operators on numbers, strings, lists and dicts, and the `prim::` ones that are plain functions of their arguments.

pub mod container;
pub mod dict;
pub mod list;
pub mod scalar;
pub mod tensor_props;
pub mod text;

use super::OpDef;

/// Every family's definitions.
pub const FAMILIES: &[&[OpDef]] = &[
    scalar::BINARY_DEFS,
    scalar::UNARY_DEFS,
    scalar::DEFS,
    container::DEFS,
    list::DEFS,
    dict::DEFS,
    tensor_props::DEFS,
    text::DEFS,
];
