//! Comparisons and logic: results are booleans.

use super::pointwise::{elementwise, elementwise_in, number, operands, unary};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::eq.Tensor", lower: |b, a| compare(b, a, BinaryOp::Eq) },
    OpDef { name: "aten::eq.Scalar", lower: |b, a| compare(b, a, BinaryOp::Eq) },
    OpDef { name: "aten::ne.Tensor", lower: |b, a| compare(b, a, BinaryOp::Ne) },
    OpDef { name: "aten::ne.Scalar", lower: |b, a| compare(b, a, BinaryOp::Ne) },
    OpDef { name: "aten::not_equal", lower: |b, a| compare(b, a, BinaryOp::Ne) },
    OpDef { name: "aten::lt.Tensor", lower: |b, a| compare(b, a, BinaryOp::Lt) },
    OpDef { name: "aten::lt.Scalar", lower: |b, a| compare(b, a, BinaryOp::Lt) },
    OpDef { name: "aten::less", lower: |b, a| compare(b, a, BinaryOp::Lt) },
    OpDef { name: "aten::le.Tensor", lower: |b, a| compare(b, a, BinaryOp::Le) },
    OpDef { name: "aten::le.Scalar", lower: |b, a| compare(b, a, BinaryOp::Le) },
    OpDef { name: "aten::less_equal", lower: |b, a| compare(b, a, BinaryOp::Le) },
    OpDef { name: "aten::gt.Tensor", lower: |b, a| compare(b, a, BinaryOp::Gt) },
    OpDef { name: "aten::gt.Scalar", lower: |b, a| compare(b, a, BinaryOp::Gt) },
    OpDef { name: "aten::greater", lower: |b, a| compare(b, a, BinaryOp::Gt) },
    OpDef { name: "aten::ge.Tensor", lower: |b, a| compare(b, a, BinaryOp::Ge) },
    OpDef { name: "aten::ge.Scalar", lower: |b, a| compare(b, a, BinaryOp::Ge) },
    OpDef { name: "aten::greater_equal", lower: |b, a| compare(b, a, BinaryOp::Ge) },
    OpDef { name: "aten::logical_and", lower: |b, a| logical(b, a, BinaryOp::And) },
    OpDef { name: "aten::logical_or", lower: |b, a| logical(b, a, BinaryOp::Or) },
    OpDef { name: "aten::logical_xor", lower: |b, a| logical(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::logical_not", lower: logical_not },
    OpDef { name: "aten::isnan", lower: isnan },
    OpDef { name: "aten::isinf", lower: isinf },
    OpDef { name: "aten::isfinite", lower: isfinite },
    OpDef { name: "aten::isposinf", lower: |b, a| is_value(b, a, f64::INFINITY) },
    OpDef { name: "aten::isneginf", lower: |b, a| is_value(b, a, f64::NEG_INFINITY) },
    OpDef { name: "aten::signbit", lower: signbit },
    OpDef { name: "aten::isclose", lower: isclose },
    OpDef { name: "aten::allclose", lower: allclose },
    OpDef { name: "aten::equal", lower: equal },
];

fn compare(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    Ok(Value::Tensor(elementwise(b, &[&x, &y], Some(DType::Bool), |k, v| k.binary(op, v[0], v[1]))?))
}

/// On truth values: nonzero (NaN too) is true.
fn logical(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let result = elementwise_in(b, &[&x, &y], DType::Bool, DType::Bool, |k, v| k.binary(op, v[0], v[1]))?;
    Ok(Value::Tensor(result))
}

/// A boolean of each element, in its own type.
fn test(b: &mut Builder<'_>, x: &Tensor, f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId) -> Value {
    let compute = compute_type(x.dtype);
    Value::Tensor(b.map(DType::Bool, &x.dims, |k, i| {
        let v = k.load(x, i);
        let v = k.cast(compute, v);
        f(k, v)
    }))
}

fn logical_not(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, DType::Bool, |k, v| k.unary(UnaryOp::Not, v))))
}

fn isnan(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(constant(b, &x, false));
    }
    Ok(test(b, &x, |k, v| k.unary(UnaryOp::IsNan, v)))
}

fn constant(b: &mut Builder<'_>, x: &Tensor, value: bool) -> Value {
    Value::Tensor(b.splat(Operand::Const(Const::bool(value)), DType::Bool, &x.dims.clone()))
}

fn isinf(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(constant(b, &x, false));
    }
    Ok(test(b, &x, |k, v| {
        let size = k.unary(UnaryOp::Abs, v);
        let inf = number(k, v, f64::INFINITY);
        k.binary(BinaryOp::Eq, size, inf)
    }))
}

fn isfinite(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(constant(b, &x, true));
    }
    // NaN is not less than infinity.
    Ok(test(b, &x, |k, v| {
        let size = k.unary(UnaryOp::Abs, v);
        let inf = number(k, v, f64::INFINITY);
        k.binary(BinaryOp::Lt, size, inf)
    }))
}

fn is_value(b: &mut Builder<'_>, args: &Args<'_>, value: f64) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(constant(b, &x, false));
    }
    Ok(test(b, &x, |k, v| {
        let value = number(k, v, value);
        k.binary(BinaryOp::Eq, v, value)
    }))
}

fn signbit(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool {
        return Ok(constant(b, &x, false));
    }
    Ok(test(b, &x, |k, v| {
        let zero = k.zero(k.dtype(v));
        if !k.dtype(v).is_floating_point() {
            return k.binary(BinaryOp::Lt, v, zero);
        }
        // The sign of -0 and of NaN shows only when it is copied.
        let one = k.one(k.dtype(v));
        let signed = k.binary(BinaryOp::Copysign, one, v);
        k.binary(BinaryOp::Lt, signed, zero)
    }))
}

/// `|x - y| <= atol + rtol * |y|`, or equal, or both NaN where asked for.
fn close(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Tensor> {
    let (x, y) = operands(b, args)?;
    if x.dtype != y.dtype {
        return Err(b.user(format!("{} did not match {}", x.dtype, y.dtype)));
    }
    let (rtol, atol) = (args.known_float(b, 2)?, args.known_float(b, 3)?);
    let equal_nan = args.flag(b, 4)?;
    let compute = if x.dtype.is_floating_point() { compute_type(x.dtype) } else { DType::F64 };
    elementwise_in(b, &[&x, &y], compute, DType::Bool, |k, v| {
        let mut result = k.binary(BinaryOp::Eq, v[0], v[1]);
        if equal_nan {
            let (p, q) = (k.unary(UnaryOp::IsNan, v[0]), k.unary(UnaryOp::IsNan, v[1]));
            let both = k.and(p, q);
            result = k.binary(BinaryOp::Or, result, both);
        }
        let (rtol, atol) = (number(k, v[1], rtol), number(k, v[1], atol));
        let size = k.unary(UnaryOp::Abs, v[1]);
        let relative = k.mul(rtol, size);
        let allowed = k.add(atol, relative);
        let difference = k.sub(v[0], v[1]);
        let distance = k.unary(UnaryOp::Abs, difference);
        let inf = number(k, v[1], f64::INFINITY);
        let is_finite = k.binary(BinaryOp::Lt, distance, inf);
        let is_near = k.binary(BinaryOp::Le, distance, allowed);
        let is_near = k.and(is_finite, is_near);
        k.binary(BinaryOp::Or, result, is_near)
    })
}

fn isclose(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::Tensor(close(b, args)?))
}

/// Whether every element of a boolean tensor is true, as a host value.
fn all_of(b: &mut Builder<'_>, x: &Tensor) -> Operand {
    let all = b.reduce(ReduceOp::And, DType::Bool, &[], &x.dims.clone(), |k, _, i| k.load(x, i), |_, _, acc| acc);
    b.item(&all)
}

fn allclose(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let close = close(b, args)?;
    Ok(Value::Bool(all_of(b, &close)))
}

/// Same shape and same elements.
fn equal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    equal_tensors(b, &args.tensor(0)?, &args.tensor(1)?)
}

/// Whether two tensors have the same shape and elements.
pub(super) fn equal_tensors(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Value> {
    if x.rank() != y.rank() {
        return Ok(Value::bool(false));
    }
    for (p, q) in x.dims.iter().zip(&y.dims) {
        match (p.known(), q.known()) {
            _ if p == q => {}
            (Some(_), Some(_)) => return Ok(Value::bool(false)),
            _ => return Err(b.unsupported("equal of tensors whose shapes are known only when running")),
        }
    }
    let same = elementwise(b, &[x, y], Some(DType::Bool), |k, v| k.binary(BinaryOp::Eq, v[0], v[1]))?;
    Ok(Value::Bool(all_of(b, &same)))
}
