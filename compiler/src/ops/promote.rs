//! Type promotion, as PyTorch has it: dimensioned tensors rank above 0-dim tensors, which rank above numbers; a lower rank
//! changes the type only if its category is higher.

use super::builder::Builder;
use super::value::{Tensor, Value};
use crate::diag::Result;
use crate::loops::Operand;
use crate::types::{Category, DType};

/// The element type that a Python number has in arithmetic.
const fn number_dtype(category: Category) -> DType {
    match category {
        Category::Bool => DType::Bool,
        Category::Int => DType::I64,
        Category::Float => DType::F32,
        Category::Complex => DType::C64,
    }
}

/// The element type these operands compute in.
pub fn result_type(operands: &[&Tensor]) -> DType {
    let mut ranks: [Option<DType>; 3] = [None; 3];
    for t in operands {
        let (rank, dtype) = if t.is_wrapped_number {
            // The number's own 64-bit type says its category; it takes part with the default type of that category.
            (2, number_dtype(t.dtype.category()))
        } else {
            (usize::from(t.rank() == 0), t.dtype)
        };
        ranks[rank] = Some(ranks[rank].map_or(dtype, |d| d.promote(dtype)));
    }
    let mut result: Option<DType> = None;
    for dtype in ranks.into_iter().flatten() {
        result = Some(match result {
            None => dtype,
            Some(high) if dtype.category() > high.category() => {
                if dtype.category() == Category::Complex {
                    high.promote(dtype)
                } else {
                    dtype
                }
            }
            Some(high) => high,
        });
    }
    result.unwrap_or(DType::F32)
}

/// The type a float-valued function of a tensor of this type gives: integers and booleans become `float32`.
pub fn float_type(dtype: DType) -> DType {
    if dtype.is_floating_point() || dtype.is_complex() { dtype } else { DType::F32 }
}

/// The type arithmetic on elements of this type is done in: halves compute in `float32` and round once.
pub fn compute_type(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 | DType::F8E4M3 | DType::F8E5M2 => DType::F32,
        other => other,
    }
}

/// Refuses complex numbers, where PyTorch computes with them and this does not yet.
pub fn expect_real(b: &Builder<'_>, dtype: DType) -> Result<()> {
    if dtype.is_complex() { Err(b.unsupported(format!("complex numbers in {}", b.op_name))) } else { Ok(()) }
}

/// An operand of arithmetic as a tensor: numbers become 0-dim wrapped ones.
pub fn as_tensor(b: &mut Builder<'_>, value: &Value) -> Result<Tensor> {
    let mut wrap = |operand: &Operand, dtype: DType| {
        let mut t = b.splat(operand.clone(), dtype, &[]);
        t.is_wrapped_number = true;
        t
    };
    match value {
        Value::Tensor(t) => Ok(t.clone()),
        Value::Int(o) => Ok(wrap(o, DType::I64)),
        Value::Float(o) => Ok(wrap(o, DType::F64)),
        Value::Bool(o) => Ok(wrap(o, DType::Bool)),
        Value::Complex(..) => Err(b.unsupported(format!("complex numbers in {}", b.op_name))),
        other => Err(b.user(format!("expected a Tensor or a number in {}, found {}", b.op_name, other.kind()))),
    }
}
