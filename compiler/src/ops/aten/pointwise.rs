//! Elementwise operators: each output element depends on the inputs' elements at the same (broadcast) index.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type, float_type, result_type};
use crate::ops::value::{Tensor, Value, known};
use crate::ops::views;
use crate::types::{Category, DType};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::relu", lower: relu },
    OpDef { name: "aten::exp", lower: |b, a| float_unary(b, a, UnaryOp::Exp) },
    OpDef { name: "aten::tanh", lower: |b, a| float_unary(b, a, UnaryOp::Tanh) },
    OpDef { name: "aten::sqrt", lower: |b, a| float_unary(b, a, UnaryOp::Sqrt) },
    OpDef { name: "aten::sigmoid", lower: sigmoid },
    OpDef { name: "aten::add.Tensor", lower: add },
    OpDef { name: "aten::add.Scalar", lower: add },
    OpDef { name: "aten::sub.Tensor", lower: sub },
    OpDef { name: "aten::sub.Scalar", lower: sub },
    OpDef { name: "aten::mul.Tensor", lower: mul },
    OpDef { name: "aten::mul.Scalar", lower: mul },
    OpDef { name: "aten::div.Tensor", lower: div },
    OpDef { name: "aten::div.Scalar", lower: div },
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
                let v = k.cast(operands, v);
                k.cast(compute, v)
            })
            .collect();
        f(k, &elements)
    }))
}

fn float_unary(b: &mut Builder<'_>, args: &Args<'_>, op: UnaryOp) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, float_type(x.dtype), |k, v| k.unary(op, v))))
}

/// `aten::relu`: max(x, 0); NaN stays NaN. Any real type.
fn relu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let zero = k.zero(k.dtype(v));
        k.max(v, zero)
    })))
}

/// 1 / (1 + exp(-x)), of a float expression.
pub fn sigmoid_expr(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let one = k.one(k.dtype(x));
    let negated = k.unary(UnaryOp::Neg, x);
    let e = k.unary(UnaryOp::Exp, negated);
    let sum = k.add(one, e);
    k.div(one, sum)
}

fn sigmoid(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, float_type(x.dtype), sigmoid_expr)))
}

/// `a + alpha * b` or `a - alpha * b`; booleans add as `or`.
fn add_scaled(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let x = as_tensor(b, args.value(0)?)?;
    let y = as_tensor(b, args.value(1)?)?;
    let alpha = match args.position("alpha") {
        Some(at) => Some(args.number(b, at)?).filter(|a| known(a).is_none_or(|c| (c.as_f64() - 1.0).abs() > 0.0)),
        None => None,
    };
    let dtype = result_type(&[&x, &y]);
    if dtype == DType::Bool && op == BinaryOp::Sub {
        return Err(b.user(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` \
             operator instead.",
        ));
    }
    let result = elementwise(b, &[&x, &y], None, |k, v| {
        if dtype == DType::Bool {
            return k.binary(BinaryOp::Or, v[0], v[1]);
        }
        let mut rhs = v[1];
        if let Some(alpha) = &alpha {
            let factor = k.number(alpha, k.dtype(rhs));
            rhs = k.mul(rhs, factor);
        }
        k.binary(op, v[0], rhs)
    })?;
    Ok(Value::Tensor(result))
}

fn add(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_scaled(b, args, BinaryOp::Add)
}

fn sub(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    add_scaled(b, args, BinaryOp::Sub)
}

/// `a * b`; booleans multiply as `and`.
fn mul(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?);
    let result = elementwise(b, &[&x, &y], None, |k, v| {
        let op = if k.dtype(v[0]) == DType::Bool { BinaryOp::And } else { BinaryOp::Mul };
        k.binary(op, v[0], v[1])
    })?;
    Ok(Value::Tensor(result))
}

/// True division: integers become `float32`.
fn div(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (as_tensor(b, args.value(0)?)?, as_tensor(b, args.value(1)?)?);
    let promoted = result_type(&[&x, &y]);
    let dtype = if promoted.category() < Category::Float { DType::F32 } else { promoted };
    Ok(Value::Tensor(elementwise_in(b, &[&x, &y], dtype, dtype, |k, v| k.div(v[0], v[1]))?))
}
