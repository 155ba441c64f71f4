//! What values are told apart by: hashes and identities.

use crate::diag::Result;
use crate::loops::{Arg, Operand, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::Value;

/// The definitions of this family.
pub const DEFS: &[OpDef] =
    &[OpDef { name: "aten::hash.generic", lower: hash }, OpDef { name: "prim::id", lower: identity }];

/// The hash of a number or text as PyTorch computes it; of what has an identity, a number of its own.
fn hash(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match args.value(0)? {
        Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o) => {
            let var = b.call("hash", vec![Arg::Scalar(o.clone())], &[VarType::Int]);
            Ok(Value::Int(Operand::Var(var[0])))
        }
        Value::None => Ok(Value::int(0)),
        Value::Tensor(_) | Value::Cell(_) => identity(b, args),
        other => Err(b.unsupported(format!("the hash of a {}", other.kind()))),
    }
}

/// A number that no other object of this run has: PyTorch gives an address.
fn identity(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match args.value(0)? {
        Value::None => Ok(Value::int(0)),
        Value::Cell(cell) => Ok(Value::int((i64::from(cell.0) + 1) * 64)),
        Value::Tensor(t) => {
            // Views of one storage are tensors of their own.
            let mut number = i64::from(t.storage.0) + 1;
            for byte in format!("{:?}", t.view).bytes() {
                number = number.wrapping_mul(0x0100_0000_01b3) ^ i64::from(byte);
            }
            Ok(Value::int(number & i64::MAX))
        }
        other => Err(b.unsupported(format!("the identity of a {}", other.kind()))),
    }
}
