//! Activation functions. Formulas: PyTorch manual, `torch.nn.functional`.

use super::pointwise::{elementwise, number, sigmoid_expr, unary};
use crate::diag::Result;
use crate::loops::{BinaryOp, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::expect_real;
use crate::ops::value::{Affine, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::relu", lower: relu },
    OpDef { name: "aten::_add_relu", lower: add_relu },
    OpDef { name: "aten::relu6", lower: relu6 },
    OpDef { name: "aten::silu", lower: |b, a| map(b, a, silu) },
    OpDef { name: "aten::mish", lower: |b, a| map(b, a, mish) },
    OpDef { name: "aten::gelu", lower: gelu },
    OpDef { name: "aten::hardswish", lower: |b, a| map(b, a, hardswish) },
    OpDef { name: "aten::hardsigmoid", lower: |b, a| map(b, a, hardsigmoid) },
    OpDef { name: "aten::log_sigmoid", lower: |b, a| map(b, a, log_sigmoid) },
    OpDef { name: "aten::leaky_relu", lower: leaky_relu },
    OpDef { name: "aten::rrelu", lower: rrelu },
    OpDef { name: "aten::prelu", lower: prelu },
    OpDef { name: "aten::_prelu_kernel", lower: prelu },
    OpDef { name: "aten::hardtanh", lower: hardtanh },
    OpDef { name: "aten::elu", lower: elu },
    OpDef { name: "aten::selu", lower: selu },
    OpDef { name: "aten::celu", lower: celu },
    OpDef { name: "aten::softplus", lower: softplus },
    OpDef { name: "aten::threshold", lower: threshold },
    OpDef { name: "aten::hardshrink", lower: hardshrink },
    OpDef { name: "aten::softshrink", lower: softshrink },
    OpDef { name: "aten::glu", lower: glu },
];

/// A function of a float tensor that keeps its type.
fn map(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId) -> ExprId,
) -> Result<Value> {
    let x = args.tensor(0)?;
    expect_real(b, x.dtype)?;
    if !x.dtype.is_floating_point() {
        return Err(b.user(format!("\"{}_cpu\" not implemented for '{}'", b.op_name, x.dtype.graph_name())));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, f)))
}

/// `relu(x + alpha * y)`.
fn add_relu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let sum = super::arithmetic::add(b, args)?;
    relu(b, &Args { schema: None, values: &[sum] })
}

/// `aten::relu`: max(x, 0); NaN stays NaN. Any real type.
fn relu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool {
        return Err(b.user("Boolean inputs not supported for relu"));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let zero = k.zero(k.dtype(v));
        k.max(v, zero)
    })))
}

fn limit(k: &mut KernelBuilder<'_, '_>, x: ExprId, low: f64, high: f64) -> ExprId {
    let (low, high) = (number(k, x, low), number(k, x, high));
    let x = k.max(x, low);
    k.min(x, high)
}

/// `aten::relu6`: any type but booleans.
fn relu6(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool {
        return Err(b.user("Bool inputs not supported for hardtanh"));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| limit(k, v, 0.0, 6.0))))
}

/// `x * sigmoid(x)`, as one division.
pub fn silu(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let one = number(k, x, 1.0);
    let negated = k.unary(UnaryOp::Neg, x);
    let e = k.unary(UnaryOp::Exp, negated);
    let sum = k.add(one, e);
    k.div(x, sum)
}

/// `x * tanh(log(1 + e^x))`.
fn mish(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let e = k.unary(UnaryOp::Exp, x);
    let soft = k.unary(UnaryOp::Log1p, e);
    let t = k.unary(UnaryOp::Tanh, soft);
    k.mul(x, t)
}

/// `x * Phi(x)`, exactly or by the tanh formula.
fn gelu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let approximate = if args.values.len() > 1 { args.text(b, 1)? } else { "none".into() };
    match &*approximate {
        "none" => map(b, args, gelu_erf),
        "tanh" => map(b, args, gelu_tanh),
        _ => Err(b.user("approximate argument must be either none or tanh.")),
    }
}

/// `x / 2 * (1 + erf(x / sqrt 2))`.
pub fn gelu_erf(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (half, one) = (number(k, x, 0.5), number(k, x, 1.0));
    let scale = number(k, x, std::f64::consts::FRAC_1_SQRT_2);
    let t = k.mul(x, scale);
    let e = k.unary(UnaryOp::Erf, t);
    let sum = k.add(one, e);
    let halved = k.mul(x, half);
    k.mul(halved, sum)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
pub fn gelu_tanh(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (half, one) = (number(k, x, 0.5), number(k, x, 1.0));
    let beta = number(k, x, std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2);
    let kappa = number(k, x, 0.044_715);
    let square = k.mul(x, x);
    let cube = k.mul(square, x);
    let cubic = k.mul(kappa, cube);
    let sum = k.add(x, cubic);
    let inner = k.mul(beta, sum);
    let t = k.unary(UnaryOp::Tanh, inner);
    let sum = k.add(one, t);
    let halved = k.mul(half, x);
    k.mul(halved, sum)
}

/// `x * min(max(x + 3, 0), 6) / 6`.
fn hardswish(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (three, six) = (number(k, x, 3.0), number(k, x, 6.0));
    let moved = k.add(x, three);
    let part = limit(k, moved, 0.0, 6.0);
    let product = k.mul(x, part);
    k.div(product, six)
}

fn hardsigmoid(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (three, six) = (number(k, x, 3.0), number(k, x, 6.0));
    let moved = k.add(x, three);
    let part = limit(k, moved, 0.0, 6.0);
    k.div(part, six)
}

/// `min(x, 0) - log1p(exp(-|x|))`, which overflows nowhere.
fn log_sigmoid(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let zero = number(k, x, 0.0);
    let low = k.min(x, zero);
    let size = k.unary(UnaryOp::Abs, x);
    let negated = k.unary(UnaryOp::Neg, size);
    let e = k.unary(UnaryOp::Exp, negated);
    let log = k.unary(UnaryOp::Log1p, e);
    k.sub(low, log)
}

/// `x > 0 ? x : x * slope`.
fn leaky(k: &mut KernelBuilder<'_, '_>, x: ExprId, slope: ExprId) -> ExprId {
    let zero = number(k, x, 0.0);
    let is_positive = k.binary(BinaryOp::Gt, x, zero);
    let scaled = k.mul(x, slope);
    k.select(is_positive, x, scaled)
}

fn leaky_relu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let slope = args.number(b, 1)?;
    map(b, args, |k, x| {
        let slope = k.number(&slope, k.dtype(x));
        leaky(k, x, slope)
    })
}

/// In evaluation the slope is the mean of the bounds; in training it is drawn for each element.
fn rrelu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (low, high) = (args.known_float(b, 1)?, args.known_float(b, 2)?);
    if args.flag(b, 3)? {
        let x = args.tensor(0)?;
        return super::distributions::rrelu_training(b, &x, low, high).map(Value::Tensor);
    }
    let slope = f64::midpoint(low, high);
    map(b, args, |k, x| {
        let slope = number(k, x, slope);
        leaky(k, x, slope)
    })
}

/// A slope for all, or one a channel (dimension 1).
fn prelu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, weight) = (args.tensor(0)?, args.tensor(1)?);
    let mut slope = weight.clone();
    if weight.rank() == 1 && x.rank() != 1 {
        if weight.dims[0].known() == Some(1) || x.rank() == 0 {
            slope = views::squeeze(b, &weight, |_| true);
        } else {
            let mut dims = vec![crate::loops::Dim::Const(1); x.rank()];
            dims[1] = weight.dims[0];
            slope = views::remap(b, &weight, &[Affine::axis(1)], dims);
        }
    }
    Ok(Value::Tensor(elementwise(b, &[&x, &slope], Some(x.dtype), |k, v| leaky(k, v[0], v[1]))?))
}

fn hardtanh(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (low, high) = (args.number(b, 1)?, args.number(b, 2)?);
    let x = args.tensor(0)?;
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let (low, high) = (k.number(&low, k.dtype(v)), k.number(&high, k.dtype(v)));
        let v = k.max(v, low);
        k.min(v, high)
    })))
}

/// `x > 0 ? x * scale : expm1(x * input_scale) * alpha * scale`.
fn exponential(b: &mut Builder<'_>, args: &Args<'_>, alpha: f64, scale: f64, input_scale: f64) -> Result<Value> {
    map(b, args, |k, x| {
        let zero = number(k, x, 0.0);
        let (positive, negative, inner) = (number(k, x, scale), number(k, x, alpha * scale), number(k, x, input_scale));
        let above = k.mul(x, positive);
        let t = k.mul(x, inner);
        let e = k.unary(UnaryOp::Expm1, t);
        let below = k.mul(e, negative);
        let is_positive = k.binary(BinaryOp::Gt, x, zero);
        k.select(is_positive, above, below)
    })
}

fn elu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (alpha, scale, input_scale) = (args.known_float(b, 1)?, args.known_float(b, 2)?, args.known_float(b, 3)?);
    exponential(b, args, alpha, scale, input_scale)
}

fn selu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    // The fixed point of self-normalising networks, to the digits PyTorch uses.
    exponential(b, args, 1.673_263_242_354_377_3, 1.050_700_987_355_480_5, 1.0)
}

fn celu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let alpha = args.known_float(b, 1)?;
    if alpha == 0.0 {
        return Err(b.user("ZeroDivisionError: alpha cannot be 0 for CELU"));
    }
    exponential(b, args, alpha, 1.0, 1.0 / alpha)
}

/// `log1p(exp(x * beta)) / beta`, or x where `x * beta` is above the threshold.
fn softplus(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (beta, threshold) = (args.number(b, 1)?, args.number(b, 2)?);
    map(b, args, |k, x| {
        let (beta, threshold) = (k.number(&beta, k.dtype(x)), k.number(&threshold, k.dtype(x)));
        let t = k.mul(x, beta);
        let e = k.unary(UnaryOp::Exp, t);
        let log = k.unary(UnaryOp::Log1p, e);
        let soft = k.div(log, beta);
        let is_linear = k.binary(BinaryOp::Gt, t, threshold);
        k.select(is_linear, x, soft)
    })
}

/// `x <= threshold ? value : x`.
fn threshold(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, threshold, value) = (args.tensor(0)?, args.number(b, 1)?, args.number(b, 2)?);
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let (threshold, value) = (k.number(&threshold, k.dtype(v)), k.number(&value, k.dtype(v)));
        let is_low = k.binary(BinaryOp::Le, v, threshold);
        k.select(is_low, value, v)
    })))
}

fn lambda(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Operand> {
    args.number(b, 1)
}

/// 0 within `[-lambda, lambda]`, else x.
fn hardshrink(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let lambda = lambda(b, args)?;
    map(b, args, |k, x| {
        let zero = number(k, x, 0.0);
        let lambda = k.number(&lambda, k.dtype(x));
        let size = k.unary(UnaryOp::Abs, x);
        let is_small = k.binary(BinaryOp::Le, size, lambda);
        k.select(is_small, zero, x)
    })
}

/// x moved towards 0 by lambda, at most to 0; NaN stays NaN.
fn softshrink(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let lambda = lambda(b, args)?;
    map(b, args, |k, x| {
        let zero = number(k, x, 0.0);
        let lambda = k.number(&lambda, k.dtype(x));
        let minus = k.unary(UnaryOp::Neg, lambda);
        let (less, more) = (k.sub(x, lambda), k.add(x, lambda));
        let (above, below) = (k.binary(BinaryOp::Gt, x, lambda), k.binary(BinaryOp::Lt, x, minus));
        let inner = k.mul(x, zero);
        let r = k.select(below, more, inner);
        k.select(above, less, r)
    })
}

/// The first half along a dimension, times the sigmoid of the second.
fn glu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = super::view::dim_arg(b, args, 1, x.rank())?;
    let half = match x.dims[dim].known() {
        Some(n) if n % 2 == 0 => n / 2,
        Some(n) => {
            return Err(b.user(format!("Halving dimension must be even, but dimension {dim} is size {n}")));
        }
        None => return Err(b.unsupported("glu along a dimension known only when running")),
    };
    let int = |v: i64| Operand::Const(crate::loops::Const::int(v));
    let first = views::slice(b, &x, dim, int(0), crate::loops::Dim::Const(half), 1);
    let second = views::slice(b, &x, dim, int(half), crate::loops::Dim::Const(half), 1);
    let result = elementwise(b, &[&first, &second], None, |k, v| {
        let gate = sigmoid_expr(k, v[1]);
        k.mul(v[0], gate)
    })?;
    Ok(Value::Tensor(result))
}
