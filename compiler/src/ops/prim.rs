//! Operators on numbers, strings, lists and dicts, and the `prim::` ones that are plain functions of their arguments.

use super::OpDef;
use super::args::Args;
use super::builder::Builder;
use super::value::Value;
use crate::diag::Result;
use crate::loops::{BinaryOp, Operand};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::add.int", lower: |b, a| int_binary(b, a, BinaryOp::Add) },
    OpDef { name: "aten::sub.int", lower: |b, a| int_binary(b, a, BinaryOp::Sub) },
    OpDef { name: "aten::mul.int", lower: |b, a| int_binary(b, a, BinaryOp::Mul) },
    OpDef { name: "aten::lt.int", lower: |b, a| int_compare(b, a, BinaryOp::Lt) },
    OpDef { name: "aten::eq.int", lower: |b, a| int_compare(b, a, BinaryOp::Eq) },
];

fn ints(b: &mut Builder<'_>, args: &Args<'_>) -> Result<(Operand, Operand)> {
    Ok((args.int(b, 0)?, args.int(b, 1)?))
}

fn int_binary(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = ints(b, args)?;
    debug_assert!(b.operand_type(&x).dtype() == Some(DType::I64));
    Ok(Value::Int(b.binary(op, x, y)))
}

fn int_compare(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = ints(b, args)?;
    Ok(Value::Bool(b.binary(op, x, y)))
}
