//! Copies and casts, and what is neither here: moves between devices, detaching, pinning.

use crate::diag::Result;
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::as_tensor;
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::contiguous", lower: contiguous },
    OpDef { name: "aten::clone", lower: clone },
    OpDef { name: "aten::lift_fresh_copy", lower: clone },
    OpDef { name: "aten::detach_copy", lower: clone },
    OpDef { name: "aten::detach", lower: same },
    OpDef { name: "aten::detach_", lower: same },
    OpDef { name: "aten::alias", lower: same },
    OpDef { name: "aten::data", lower: same },
    OpDef { name: "prim::data", lower: same },
    OpDef { name: "aten::cpu", lower: same },
    OpDef { name: "aten::lift_fresh", lower: same },
    OpDef { name: "aten::resolve_conj", lower: same },
    OpDef { name: "aten::resolve_neg", lower: same },
    OpDef { name: "aten::requires_grad_", lower: same },
    OpDef { name: "aten::pin_memory", lower: same },
    OpDef { name: "aten::to_dense", lower: same },
    OpDef { name: "aten::to", lower: to },
    OpDef { name: "aten::_to_copy", lower: to },
    OpDef { name: "aten::to.other", lower: type_as },
    OpDef { name: "aten::type_as", lower: type_as },
    OpDef { name: "aten::_cast_Byte", lower: |b, a| cast_value(b, a, DType::U8) },
    OpDef { name: "aten::_cast_Char", lower: |b, a| cast_value(b, a, DType::I8) },
    OpDef { name: "aten::_cast_Short", lower: |b, a| cast_value(b, a, DType::I16) },
    OpDef { name: "aten::_cast_Int", lower: |b, a| cast_value(b, a, DType::I32) },
    OpDef { name: "aten::_cast_Long", lower: |b, a| cast_value(b, a, DType::I64) },
    OpDef { name: "aten::_cast_Half", lower: |b, a| cast_value(b, a, DType::F16) },
    OpDef { name: "aten::_cast_Float", lower: |b, a| cast_value(b, a, DType::F32) },
    OpDef { name: "aten::_cast_Double", lower: |b, a| cast_value(b, a, DType::F64) },
    OpDef { name: "aten::copy_", lower: copy_ },
    OpDef { name: "aten::copy", lower: copy },
];

fn contiguous(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(if b.lies_row_major(&x) { x } else { b.copy(&x) }))
}

fn clone(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(b.copy(&x)))
}

/// The tensor itself.
fn same(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::Tensor(args.tensor(0)?))
}

/// The elements in another type; the tensor itself if it has it.
pub fn cast(b: &mut Builder<'_>, x: &Tensor, dtype: DType) -> Tensor {
    if x.dtype == dtype {
        return x.clone();
    }
    // A number stays one where its own type loses nothing that the element type would have lost.
    let is_exact = matches!(x.dtype, DType::Bool | DType::I64 | DType::F64);
    if let Some(value) = b.splat_of(x).filter(|_| is_exact) {
        return b.splat(value, dtype, &x.dims.clone());
    }
    if x.dtype.is_complex() || dtype.is_complex() {
        return super::complex::converted(b, x, dtype);
    }
    b.map(dtype, &x.dims, |k, i| {
        let v = k.load(x, i);
        k.cast(dtype, v)
    })
}

fn cast_value(b: &mut Builder<'_>, args: &Args<'_>, dtype: DType) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(cast(b, &x, dtype)))
}

/// Every overload that names a type: devices, layouts and memory formats change nothing here.
fn to(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = match args.position("dtype") {
        Some(at) if at < args.values.len() => args.dtype(b, at)?,
        _ => None,
    };
    let is_copy = match args.position("copy") {
        Some(at) if at < args.values.len() => args.flag(b, at)?,
        _ => b.op_name == "_to_copy",
    };
    let dtype = dtype.unwrap_or(x.dtype);
    Ok(Value::Tensor(if is_copy && dtype == x.dtype { b.copy(&x) } else { cast(b, &x, dtype) }))
}

fn type_as(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let other = args.tensor(1)?;
    cast_value(b, args, other.dtype)
}

/// Writes the source, broadcast and converted, into the first argument's memory.
fn copy_(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    let source = as_tensor(b, args.value(1)?)?;
    let source = views::broadcast_into(b, &source, &target.dims)?;
    let dtype = target.dtype;
    b.write(&target, |k, i| {
        let v = k.load(&source, i);
        k.cast(dtype, v)
    });
    Ok(Value::Tensor(target))
}

fn copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (target, source) = (args.tensor(0)?, args.tensor(1)?);
    let source = views::broadcast_into(b, &source, &target.dims)?;
    let dtype = target.dtype;
    Ok(Value::Tensor(b.map(dtype, &target.dims, |k, i| {
        let v = k.load(&source, i);
        k.cast(dtype, v)
    })))
}
