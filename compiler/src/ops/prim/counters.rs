//! Counters of PyTorch's logging, which a compiled model does not keep: what is added to them goes nowhere. The time they count.

use crate::loops::{Operand, VarType};
use crate::ops::OpDef;
use crate::ops::value::Value;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "prim::AddStatValue", lower: |_, _| Ok(Value::None) },
    OpDef {
        name: "prim::TimePoint",
        lower: |b, _| Ok(Value::Int(Operand::Var(b.call("time_point", Vec::new(), &[VarType::Int])[0]))),
    },
];
