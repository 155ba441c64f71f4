//! What elementwise operators are written with, and those that choose between elements: each output element depends on the
//! inputs' elements at the same (broadcast) index.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type, float_type, result_type};
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::where.self", lower: where_ },
    OpDef { name: "aten::where.Scalar", lower: where_ },
    OpDef { name: "aten::where.ScalarSelf", lower: where_ },
    OpDef { name: "aten::where.ScalarOther", lower: where_ },
    OpDef { name: "aten::masked_fill", lower: masked_fill },
    OpDef { name: "aten::clamp", lower: clamp },
    OpDef { name: "aten::clip", lower: clamp },
    OpDef { name: "aten::clamp_min", lower: clamp_min },
    OpDef { name: "aten::clamp_max", lower: clamp_max },
    OpDef { name: "aten::lerp", lower: lerp },
    OpDef { name: "aten::nan_to_num", lower: nan_to_num },
];

/// A new tensor, element by element of one input; `f` works in the type arithmetic is done in.
pub fn unary(
    b: &mut Builder<'_>,
    x: &Tensor,
    result: DType,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Tensor {
    let compute = compute_type(result);
    b.map(result, &x.dims, |k, i| {
        let v = k.load(x, i);
        let v = k.cast(compute, v);
        f(k, v)
    })
}

/// A new tensor, element by element of several inputs after promotion and broadcasting. `f` sees the elements in the type
/// arithmetic is done in, and gives the result of type `result` (the promoted type where `None`).
pub fn elementwise(
    b: &mut Builder<'_>,
    inputs: &[&Tensor],
    result: Option<DType>,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> ExprId,
) -> Result<Tensor> {
    let promoted = result_type(inputs);
    elementwise_in(b, inputs, promoted, result.unwrap_or(promoted), f)
}

/// [`elementwise`] with the type the elements are converted to first.
pub fn elementwise_in(
    b: &mut Builder<'_>,
    inputs: &[&Tensor],
    operands: DType,
    result: DType,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> ExprId,
) -> Result<Tensor> {
    let shapes: Vec<&[Dim]> = inputs.iter().map(|t| t.dims.as_slice()).collect();
    let dims = views::broadcast(b, &shapes)?;
    let expanded = inputs.iter().map(|t| views::expand_to(b, t, &dims)).collect::<Result<Vec<_>>>()?;
    let compute = compute_type(operands);
    Ok(b.map(result, &dims, |k, i| {
        let elements: Vec<_> = expanded
            .iter()
            .map(|t| {
                let v = k.load(t, i);
                // A number takes part unrounded: only tensors' elements have the operands' type.
                let v = if t.is_wrapped_number && operands.is_floating_point() { v } else { k.cast(operands, v) };
                k.cast(compute, v)
            })
            .collect();
        f(k, &elements)
    }))
}

/// A float-valued function of one tensor: integers become `float32`.
pub fn float_map(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, float_type(x.dtype), f)))
}

/// The constant `value` of the type of `like`.
pub fn number(k: &mut KernelBuilder<'_, '_>, like: ExprId, value: f64) -> ExprId {
    k.float(k.dtype(like), value)
}

/// 1 / (1 + exp(-x)), of a float expression.
pub fn sigmoid_expr(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let one = k.one(k.dtype(x));
    let negated = k.unary(UnaryOp::Neg, x);
    let e = k.unary(UnaryOp::Exp, negated);
    let sum = k.add(one, e);
    k.div(one, sum)
}

/// The two first arguments as tensors; numbers become wrapped ones.
pub fn operands(b: &mut Builder<'_>, args: &Args<'_>) -> Result<(Tensor, Tensor)> {
    Ok((as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?))
}

/// `cond ? a : b` with the promoted type of `a` and `b`.
fn where_(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let cond = args.tensor(0)?;
    let (x, y) = (as_tensor(b, args.value(1)?)?, as_tensor(b, args.value(2)?)?);
    Ok(Value::Tensor(choose(b, &cond, &x, &y, result_type(&[&x, &y]))?))
}

/// Elements of `x` where `cond` holds, else of `y`, broadcast together.
pub fn choose(b: &mut Builder<'_>, cond: &Tensor, x: &Tensor, y: &Tensor, dtype: DType) -> Result<Tensor> {
    let dims = views::broadcast(b, &[&cond.dims, &x.dims, &y.dims])?;
    let cond = views::expand_to(b, cond, &dims)?;
    let (x, y) = (views::expand_to(b, x, &dims)?, views::expand_to(b, y, &dims)?);
    Ok(b.map(dtype, &dims, |k, i| {
        let c = k.load(&cond, i);
        let c = k.cast(DType::Bool, c);
        let (p, q) = (k.load(&x, i), k.load(&y, i));
        let (p, q) = (k.cast(dtype, p), k.cast(dtype, q));
        k.select(c, p, q)
    }))
}

/// `mask ? value : self`, of the type of `self`.
fn masked_fill(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask) = (args.tensor(0)?, args.tensor(1)?);
    let value = as_tensor(b, args.value(2)?)?;
    if value.rank() > 0 {
        return Err(b.user(format!(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {} dimension(s).",
            value.rank()
        )));
    }
    if value.dtype.category() > x.dtype.category() {
        return Err(b.user(format!(
            "value cannot be converted to type {} without overflow",
            if x.dtype == DType::I64 { "int64_t" } else { x.dtype.python_name() }
        )));
    }
    Ok(Value::Tensor(choose(b, &mask, &value, &x, x.dtype)?))
}

/// The bounds at these positions, applied low first: NaN stays NaN.
fn clamp_between(b: &mut Builder<'_>, args: &Args<'_>, low: Option<usize>, high: Option<usize>) -> Result<Value> {
    let mut inputs = vec![args.tensor(0)?];
    let mut ops = Vec::new();
    for (at, op) in [(low, BinaryOp::Max), (high, BinaryOp::Min)] {
        let Some(bound) = at.map(|at| args.value(at)).transpose()? else { continue };
        if !matches!(bound, Value::None) {
            inputs.push(as_tensor(b, bound)?);
            ops.push(op);
        }
    }
    if ops.is_empty() {
        return Err(b.user("torch.clamp: At least one of 'min' or 'max' must not be None"));
    }
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let result = elementwise(b, &inputs, None, |k, v| {
        ops.iter().zip(&v[1..]).fold(v[0], |x, (op, bound)| k.binary(*op, x, *bound))
    })?;
    Ok(Value::Tensor(result))
}

fn clamp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    clamp_between(b, args, Some(1), Some(2))
}

fn clamp_min(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    clamp_between(b, args, Some(1), None)
}

fn clamp_max(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    clamp_between(b, args, None, Some(1))
}

/// `start + weight * (end - start)`, from the nearer end: for |weight| >= 0.5 it is `end - (end - start) * (1 - weight)`.
fn lerp(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (start, end, weight) = (args.tensor(0)?, args.tensor(1)?, as_tensor(b, args.value(2)?)?);
    let result = elementwise(b, &[&start, &end, &weight], None, |k, v| {
        let difference = k.sub(v[1], v[0]);
        let half = number(k, v[2], 0.5);
        let size = k.unary(UnaryOp::Abs, v[2]);
        let is_small = k.binary(BinaryOp::Lt, size, half);
        let step = k.mul(v[2], difference);
        let from_start = k.add(v[0], step);
        let one = k.one(k.dtype(v[2]));
        let left = k.sub(one, v[2]);
        let step = k.mul(difference, left);
        let from_end = k.sub(v[1], step);
        k.select(is_small, from_start, from_end)
    })?;
    Ok(Value::Tensor(result))
}

/// NaN and infinities replaced: by 0 and the type's greatest and least finite values unless given.
fn nan_to_num(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    let greatest = greatest_finite(x.dtype);
    let nan = args.optional_known_float(b, 1)?.unwrap_or(0.0);
    let positive = args.optional_known_float(b, 2)?.unwrap_or(greatest);
    let negative = args.optional_known_float(b, 3)?.unwrap_or(-greatest);
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let (nan, inf) = (number(k, v, nan), number(k, v, f64::INFINITY));
        let (positive, negative) = (number(k, v, positive), number(k, v, negative));
        let minus_inf = number(k, v, f64::NEG_INFINITY);
        let is_nan = k.unary(UnaryOp::IsNan, v);
        let is_inf = k.binary(BinaryOp::Eq, v, inf);
        let is_minus_inf = k.binary(BinaryOp::Eq, v, minus_inf);
        let r = k.select(is_minus_inf, negative, v);
        let r = k.select(is_inf, positive, r);
        k.select(is_nan, nan, r)
    })))
}

/// The greatest finite value of a float type.
pub fn greatest_finite(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        DType::BF16 => 3.389_531_389_251_535_5e38,
        DType::F8E4M3 => 448.0,
        DType::F8E5M2 => 57344.0,
        _ => f64::from(f32::MAX),
    }
}
