//! Functions of one tensor, element by element: the mathematics of section "pointwise" in PyTorch's manual.

use super::arithmetic::square;
use super::pointwise::{float_map, number, sigmoid_expr, unary};
use crate::diag::Result;
use crate::loops::{BinaryOp, ExprId, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::Value;
use crate::types::DType;

/// Definitions of float-valued functions that are one operation.
macro_rules! float_unary {
    ($($name:literal => $op:ident,)*) => {
        &[$(OpDef { name: concat!("aten::", $name), lower: |b, a| float_map(b, a, |k, v| k.unary(UnaryOp::$op, v)) },)*]
    };
}

/// The definitions that are one operation.
pub const FLOAT_DEFS: &[OpDef] = float_unary! {
    "exp" => Exp,
    "exp2" => Exp2,
    "expm1" => Expm1,
    "log" => Log,
    "log2" => Log2,
    "log10" => Log10,
    "log1p" => Log1p,
    "sqrt" => Sqrt,
    "rsqrt" => Rsqrt,
    "sin" => Sin,
    "cos" => Cos,
    "tan" => Tan,
    "asin" => Asin,
    "arcsin" => Asin,
    "acos" => Acos,
    "arccos" => Acos,
    "atan" => Atan,
    "arctan" => Atan,
    "sinh" => Sinh,
    "cosh" => Cosh,
    "tanh" => Tanh,
    "asinh" => Asinh,
    "arcsinh" => Asinh,
    "acosh" => Acosh,
    "arccosh" => Acosh,
    "atanh" => Atanh,
    "arctanh" => Atanh,
    "erf" => Erf,
    "erfc" => Erfc,
    "erfinv" => Erfinv,
    "lgamma" => Lgamma,
    "digamma" => Digamma,
    "special_exp2" => Exp2,
    "special_expm1" => Expm1,
    "special_log1p" => Log1p,
    "special_erf" => Erf,
    "special_erfc" => Erfc,
    "special_erfinv" => Erfinv,
    "special_gammaln" => Lgamma,
    "special_digamma" => Digamma,
    "special_psi" => Digamma,
};

/// The other definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::sigmoid", lower: |b, a| float_map(b, a, sigmoid_expr) },
    OpDef { name: "aten::special_expit", lower: |b, a| float_map(b, a, sigmoid_expr) },
    OpDef { name: "aten::reciprocal", lower: |b, a| float_map(b, a, reciprocal) },
    OpDef { name: "aten::sinc", lower: |b, a| float_map(b, a, sinc) },
    OpDef { name: "aten::special_sinc", lower: |b, a| float_map(b, a, sinc) },
    OpDef { name: "aten::logit", lower: logit },
    OpDef { name: "aten::special_logit", lower: logit },
    OpDef { name: "aten::special_ndtr", lower: |b, a| float_map(b, a, ndtr) },
    OpDef { name: "aten::special_entr", lower: |b, a| float_map(b, a, entr) },
    OpDef { name: "aten::deg2rad", lower: |b, a| float_map(b, a, |k, v| scaled(k, v, std::f64::consts::PI / 180.0)) },
    OpDef { name: "aten::rad2deg", lower: |b, a| float_map(b, a, |k, v| scaled(k, v, 180.0 / std::f64::consts::PI)) },
    OpDef { name: "aten::square", lower: square },
    OpDef { name: "aten::neg", lower: neg },
    OpDef { name: "aten::negative", lower: neg },
    OpDef { name: "aten::positive", lower: |_, a| Ok(Value::Tensor(a.tensor(0)?)) },
    OpDef { name: "aten::abs", lower: abs },
    OpDef { name: "aten::absolute", lower: abs },
    OpDef { name: "prim::abs", lower: abs },
    OpDef { name: "aten::sign", lower: sign },
    OpDef { name: "aten::sgn", lower: sign },
    OpDef { name: "aten::floor", lower: |b, a| rounding(b, a, UnaryOp::Floor) },
    OpDef { name: "aten::ceil", lower: |b, a| rounding(b, a, UnaryOp::Ceil) },
    OpDef { name: "aten::trunc", lower: |b, a| rounding(b, a, UnaryOp::Trunc) },
    OpDef { name: "aten::fix", lower: |b, a| rounding(b, a, UnaryOp::Trunc) },
    OpDef { name: "aten::round", lower: |b, a| rounding(b, a, UnaryOp::Round) },
    OpDef { name: "aten::round.decimals", lower: round_decimals },
    OpDef { name: "aten::special_round", lower: round_decimals },
    OpDef { name: "aten::frac", lower: frac },
    OpDef { name: "aten::bitwise_not", lower: bitwise_not },
];

fn reciprocal(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let one = number(k, x, 1.0);
    k.div(one, x)
}

fn scaled(k: &mut KernelBuilder<'_, '_>, x: ExprId, factor: f64) -> ExprId {
    let factor = number(k, x, factor);
    k.mul(x, factor)
}

/// `sin(pi x) / (pi x)`, 1 at 0.
fn sinc(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (zero, one) = (number(k, x, 0.0), number(k, x, 1.0));
    let angle = scaled(k, x, std::f64::consts::PI);
    let sine = k.unary(UnaryOp::Sin, angle);
    let ratio = k.div(sine, angle);
    let is_zero = k.binary(BinaryOp::Eq, x, zero);
    k.select(is_zero, one, ratio)
}

/// The distribution function of the standard normal.
fn ndtr(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let t = scaled(k, x, -std::f64::consts::FRAC_1_SQRT_2);
    let e = k.unary(UnaryOp::Erfc, t);
    scaled(k, e, 0.5)
}

/// `-x log x`; 0 at 0, -inf below.
fn entr(k: &mut KernelBuilder<'_, '_>, x: ExprId) -> ExprId {
    let (zero, low) = (number(k, x, 0.0), number(k, x, f64::NEG_INFINITY));
    let log = k.unary(UnaryOp::Log, x);
    let product = k.mul(x, log);
    let value = k.unary(UnaryOp::Neg, product);
    let is_zero = k.binary(BinaryOp::Eq, x, zero);
    let is_negative = k.binary(BinaryOp::Lt, x, zero);
    let value = k.select(is_zero, zero, value);
    k.select(is_negative, low, value)
}

/// `log(x / (1 - x))`, of x clamped to `[eps, 1 - eps]` where eps is given.
fn logit(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let eps = args.optional_known_float(b, 1)?;
    float_map(b, args, |k, mut x| {
        let one = number(k, x, 1.0);
        if let Some(eps) = eps {
            let (low, high) = (number(k, x, eps), number(k, x, 1.0 - eps));
            // Where eps is over one half, `low` wins.
            let (is_low, is_high) = (k.binary(BinaryOp::Lt, x, low), k.binary(BinaryOp::Gt, x, high));
            let limited = k.select(is_high, high, x);
            x = k.select(is_low, low, limited);
        }
        let rest = k.sub(one, x);
        let odds = k.div(x, rest);
        k.unary(UnaryOp::Log, odds)
    })
}

fn neg(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool {
        return Err(b.user(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use the \
             `~` or `logical_not()` operator instead.",
        ));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| k.unary(UnaryOp::Neg, v))))
}

fn abs(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool || !x.dtype.is_signed() {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| k.unary(UnaryOp::Abs, v))))
}

/// -1, 0 or 1; NaN gives 0.
fn sign(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype == DType::Bool {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let dtype = k.dtype(v);
        let zero = k.zero(dtype);
        let above = k.binary(BinaryOp::Gt, v, zero);
        let below = k.binary(BinaryOp::Lt, v, zero);
        let (above, below) = (k.cast(dtype, above), k.cast(dtype, below));
        k.sub(above, below)
    })))
}

/// Integers stay as they are.
fn rounding(b: &mut Builder<'_>, args: &Args<'_>, op: UnaryOp) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| k.unary(op, v))))
}

/// `round(x * 10^d) / 10^d`.
fn round_decimals(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let decimals = args.known_int(b, 1)?;
    if !x.dtype.is_floating_point() {
        return Err(b.user(format!("\"round_cpu\" not implemented for '{}'", x.dtype.graph_name())));
    }
    let power = 10f64.powi(i32::try_from(decimals.unsigned_abs()).unwrap_or(i32::MAX));
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let factor = number(k, v, power);
        let (up, down) = if decimals < 0 { (BinaryOp::Div, BinaryOp::Mul) } else { (BinaryOp::Mul, BinaryOp::Div) };
        let raised = k.binary(up, v, factor);
        let rounded = k.unary(UnaryOp::Round, raised);
        k.binary(down, rounded, factor)
    })))
}

/// `x - trunc(x)`.
fn frac(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_floating_point() {
        return Err(b.user(format!("\"frac\" not implemented for '{}'", x.dtype.graph_name())));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| {
        let whole = k.unary(UnaryOp::Trunc, v);
        k.sub(v, whole)
    })))
}

fn bitwise_not(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype.is_floating_point() {
        return Err(b.user("\"bitwise_not_cpu\" not implemented for 'Float'"));
    }
    Ok(Value::Tensor(unary(b, &x, x.dtype, |k, v| k.unary(UnaryOp::Not, v))))
}
