//! The `aten::` operators, one file a family.

pub mod pointwise;

use super::OpDef;

/// Every family's definitions.
pub const FAMILIES: &[&[OpDef]] = &[pointwise::DEFS];
