//! Counters of PyTorch's logging, which a compiled model does not keep: what is added to them goes nowhere.

use crate::ops::OpDef;
use crate::ops::value::Value;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[OpDef { name: "prim::AddStatValue", lower: |_, _| Ok(Value::None) }];
