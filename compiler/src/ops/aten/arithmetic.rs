//! Arithmetic and bits on tensors, with PyTorch's promotion and division rules.

use super::pointwise::{elementwise, elementwise_in, number, operands, unary};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, expect_real, float_type, result_type};
use crate::ops::value::{Tensor, Value, int, known, known_int};
use crate::types::{Category, DType};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::add.Tensor", lower: add },
    OpDef { name: "aten::add.Scalar", lower: add },
    OpDef { name: "aten::sub.Tensor", lower: sub },
    OpDef { name: "aten::sub.Scalar", lower: sub },
    OpDef { name: "aten::subtract", lower: sub },
    OpDef { name: "aten::rsub", lower: rsub },
    OpDef { name: "aten::mul.Tensor", lower: mul },
    OpDef { name: "aten::mul.Scalar", lower: mul },
    OpDef { name: "aten::multiply", lower: mul },
    OpDef { name: "aten::div.Tensor", lower: div },
    OpDef { name: "aten::div.Scalar", lower: div },
    OpDef { name: "aten::div.Tensor_mode", lower: div },
    OpDef { name: "aten::div.Scalar_mode", lower: div },
    OpDef { name: "aten::divide", lower: div },
    OpDef { name: "aten::true_divide", lower: div },
    OpDef { name: "aten::floor_divide", lower: floor_divide },
    OpDef { name: "aten::remainder.Tensor", lower: remainder },
    OpDef { name: "aten::remainder.Scalar", lower: remainder },
    OpDef { name: "aten::remainder.Scalar_Tensor", lower: remainder },
    OpDef { name: "aten::fmod.Tensor", lower: fmod },
    OpDef { name: "aten::fmod.Scalar", lower: fmod },
    OpDef { name: "aten::pow.Tensor_Tensor", lower: pow },
    OpDef { name: "aten::pow.Tensor_Scalar", lower: pow },
    OpDef { name: "aten::pow.Scalar", lower: pow },
    OpDef { name: "aten::float_power", lower: float_power },
    OpDef { name: "aten::maximum", lower: |b, a| same_type(b, a, BinaryOp::Max) },
    OpDef { name: "aten::minimum", lower: |b, a| same_type(b, a, BinaryOp::Min) },
    OpDef { name: "aten::max.other", lower: |b, a| same_type(b, a, BinaryOp::Max) },
    OpDef { name: "aten::min.other", lower: |b, a| same_type(b, a, BinaryOp::Min) },
    OpDef { name: "aten::fmax", lower: |b, a| ignoring_nan(b, a, BinaryOp::Max) },
    OpDef { name: "aten::fmin", lower: |b, a| ignoring_nan(b, a, BinaryOp::Min) },
    OpDef { name: "aten::addcmul", lower: addcmul },
    OpDef { name: "aten::addcdiv", lower: addcdiv },
    OpDef { name: "aten::atan2", lower: |b, a| float_binary(b, a, |k, x, y| k.binary(BinaryOp::Atan2, x, y)) },
    OpDef { name: "aten::arctan2", lower: |b, a| float_binary(b, a, |k, x, y| k.binary(BinaryOp::Atan2, x, y)) },
    OpDef { name: "aten::copysign.Tensor", lower: copysign },
    OpDef { name: "aten::copysign.Scalar", lower: copysign },
    OpDef { name: "aten::hypot", lower: |b, a| float_binary(b, a, hypot) },
    OpDef { name: "aten::logaddexp", lower: |b, a| float_binary(b, a, logaddexp) },
    OpDef { name: "aten::logaddexp2", lower: |b, a| float_binary(b, a, logaddexp2) },
    OpDef { name: "aten::ldexp.Tensor", lower: |b, a| float_binary(b, a, ldexp) },
    OpDef { name: "aten::xlogy", lower: |b, a| float_binary(b, a, xlogy) },
    OpDef { name: "aten::special_xlogy", lower: |b, a| float_binary(b, a, xlogy) },
    OpDef { name: "aten::heaviside", lower: heaviside },
    OpDef { name: "aten::bitwise_and", lower: |b, a| bits(b, a, BinaryOp::And) },
    OpDef { name: "aten::bitwise_or", lower: |b, a| bits(b, a, BinaryOp::Or) },
    OpDef { name: "aten::bitwise_xor", lower: |b, a| bits(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::bitwise_left_shift", lower: |b, a| bits(b, a, BinaryOp::Shl) },
    OpDef { name: "aten::bitwise_right_shift", lower: |b, a| bits(b, a, BinaryOp::Shr) },
    OpDef { name: "aten::__and__.Tensor", lower: |b, a| bits(b, a, BinaryOp::And) },
    OpDef { name: "aten::__and__.Scalar", lower: |b, a| bits(b, a, BinaryOp::And) },
    OpDef { name: "aten::__or__.Tensor", lower: |b, a| bits(b, a, BinaryOp::Or) },
    OpDef { name: "aten::__or__.Scalar", lower: |b, a| bits(b, a, BinaryOp::Or) },
    OpDef { name: "aten::__xor__.Tensor", lower: |b, a| bits(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::__xor__.Scalar", lower: |b, a| bits(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::__lshift__.Tensor", lower: |b, a| bits(b, a, BinaryOp::Shl) },
    OpDef { name: "aten::__lshift__.Scalar", lower: |b, a| bits(b, a, BinaryOp::Shl) },
    OpDef { name: "aten::__rshift__.Tensor", lower: |b, a| bits(b, a, BinaryOp::Shr) },
    OpDef { name: "aten::__rshift__.Scalar", lower: |b, a| bits(b, a, BinaryOp::Shr) },
    OpDef { name: "aten::__iand__", lower: |b, a| bits_in_place(b, a, BinaryOp::And) },
    OpDef { name: "aten::__ior__", lower: |b, a| bits_in_place(b, a, BinaryOp::Or) },
    OpDef { name: "aten::__ixor__", lower: |b, a| bits_in_place(b, a, BinaryOp::Xor) },
    OpDef { name: "aten::__ilshift__", lower: |b, a| bits_in_place(b, a, BinaryOp::Shl) },
    OpDef { name: "aten::__irshift__", lower: |b, a| bits_in_place(b, a, BinaryOp::Shr) },
];

/// `a + alpha * b` or `a - alpha * b`; booleans add as `or`.
fn add_scaled(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor, y: &Tensor, op: BinaryOp) -> Result<Value> {
    let alpha = match args.position("alpha") {
        Some(at) if at < args.values.len() => {
            Some(args.number(b, at)?).filter(|a| known(a).is_none_or(|c| (c.as_f64() - 1.0).abs() > 0.0))
        }
        _ => None,
    };
    let dtype = result_type(&[x, y]);
    if dtype == DType::Bool && op == BinaryOp::Sub {
        return Err(b.user(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` \
             operator instead.",
        ));
    }
    let result = elementwise(b, &[x, y], None, |k, v| {
        let mut rhs = v[1];
        if let Some(alpha) = &alpha {
            let factor = k.number(alpha, k.dtype(rhs));
            let times = if dtype == DType::Bool { BinaryOp::And } else { BinaryOp::Mul };
            rhs = k.binary(times, rhs, factor);
        }
        if dtype == DType::Bool {
            return k.binary(BinaryOp::Or, v[0], rhs);
        }
        k.binary(op, v[0], rhs)
    })?;
    Ok(Value::Tensor(result))
}

/// `x + alpha * y`.
pub fn add(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    add_scaled(b, args, &x, &y, BinaryOp::Add)
}

fn sub(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    add_scaled(b, args, &x, &y, BinaryOp::Sub)
}

fn rsub(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    add_scaled(b, args, &y, &x, BinaryOp::Sub)
}

/// `a * b`; booleans multiply as `and`.
fn mul(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    Ok(Value::Tensor(multiply(b, &x, &y)?))
}

/// The product of two tensors, broadcast.
pub fn multiply(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    elementwise(b, &[x, y], None, |k, v| {
        let op = if k.dtype(v[0]) == DType::Bool { BinaryOp::And } else { BinaryOp::Mul };
        k.binary(op, v[0], v[1])
    })
}

/// Division: true (integers become `float32`), or rounded towards zero or down.
fn div(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let mode = match args.position("rounding_mode") {
        Some(at) if !matches!(args.value(at)?, Value::None) => Some(args.text(b, at)?),
        _ => None,
    };
    let dtype = result_type(&[&x, &y]);
    Ok(Value::Tensor(match mode.as_deref() {
        None => {
            let dtype = if dtype.category() < Category::Float { DType::F32 } else { dtype };
            elementwise_in(b, &[&x, &y], dtype, dtype, |k, v| k.div(v[0], v[1]))?
        }
        Some("floor") => floor_quotient(b, &x, &y)?,
        Some("trunc") if dtype.is_floating_point() => elementwise(b, &[&x, &y], None, |k, v| {
            // Halves round the quotient to their own type before it is cut.
            let quotient = k.div(v[0], v[1]);
            let rounded = k.cast(dtype, quotient);
            let rounded = k.cast(k.dtype(quotient), rounded);
            k.unary(UnaryOp::Trunc, rounded)
        })?,
        Some("trunc") => {
            check_divisor(b, &y)?;
            elementwise(b, &[&x, &y], None, |k, v| k.div(v[0], v[1]))?
        }
        Some(other) => {
            return Err(b.user(format!(
                "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{other}'"
            )));
        }
    }))
}

/// Raises if any element of an integer divisor is 0.
fn check_divisor(b: &mut Builder<'_>, y: &Tensor) -> Result<()> {
    let zero = Operand::Const(Const::int(0));
    let is_fine = if let Some(value) = b.splat_of(y) {
        let value = b.cast(DType::I64, value);
        b.binary(BinaryOp::Ne, value, zero)
    } else {
        let any = b.reduce(
            ReduceOp::And,
            DType::Bool,
            &[],
            &y.dims.clone(),
            |k, _, i| {
                let v = k.load(y, i);
                let zero = k.zero(y.dtype);
                k.binary(BinaryOp::Ne, v, zero)
            },
            |_, _, acc| acc,
        );
        b.item(&any)
    };
    b.check(is_fine, "ZeroDivisionError");
    Ok(())
}

/// Division rounded down; the type of integers stays.
fn floor_quotient(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let dtype = result_type(&[x, y]);
    match dtype.category() {
        Category::Float => elementwise(b, &[x, y], None, |k, v| floor_div_float(k, v[0], v[1])),
        Category::Int => {
            check_divisor(b, y)?;
            elementwise(b, &[x, y], None, |k, v| k.binary(BinaryOp::FloorDiv, v[0], v[1]))
        }
        Category::Bool | Category::Complex => {
            Err(b.user(format!("\"div_floor_cpu\" not implemented for '{}'", dtype.graph_name())))
        }
    }
}

/// Floor division of floats that is exact where the remainder is: computed from `fmod`, as Python does.
fn floor_div_float(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let (zero, one, half) = (number(k, x, 0.0), number(k, x, 1.0), number(k, x, 0.5));
    let rest = k.binary(BinaryOp::Rem, x, y);
    let whole = k.sub(x, rest);
    let quotient = k.div(whole, y);
    let has_rest = k.binary(BinaryOp::Ne, rest, zero);
    let differs = signs_differ(k, rest, y);
    let is_over = k.and(has_rest, differs);
    let less = k.sub(quotient, one);
    let quotient = k.select(is_over, less, quotient);
    let floor = k.unary(UnaryOp::Floor, quotient);
    let beyond = k.sub(quotient, floor);
    let is_beyond = k.binary(BinaryOp::Gt, beyond, half);
    let more = k.add(floor, one);
    let rounded = k.select(is_beyond, more, floor);
    let plain = k.div(x, y);
    let signed_zero = k.binary(BinaryOp::Copysign, zero, plain);
    let is_zero = k.binary(BinaryOp::Eq, quotient, zero);
    let result = k.select(is_zero, signed_zero, rounded);
    let by_zero = k.binary(BinaryOp::Eq, y, zero);
    k.select(by_zero, plain, result)
}

fn signs_differ(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let zero = k.zero(k.dtype(x));
    let (x, y) = (k.binary(BinaryOp::Lt, x, zero), k.binary(BinaryOp::Lt, y, zero));
    k.binary(BinaryOp::Xor, x, y)
}

fn floor_divide(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    Ok(Value::Tensor(floor_quotient(b, &x, &y)?))
}

/// The remainder with the sign of the divisor.
fn remainder(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = result_type(&[&x, &y]);
    if dtype.is_integer() {
        check_divisor(b, &y)?;
    }
    let result = elementwise(b, &[&x, &y], None, |k, v| {
        if dtype.is_integer() {
            return k.binary(BinaryOp::FloorMod, v[0], v[1]);
        }
        let rest = k.binary(BinaryOp::Rem, v[0], v[1]);
        let zero = k.zero(k.dtype(rest));
        let has_rest = k.binary(BinaryOp::Ne, rest, zero);
        let differs = signs_differ(k, rest, v[1]);
        let is_wrong = k.and(has_rest, differs);
        let moved = k.add(rest, v[1]);
        k.select(is_wrong, moved, rest)
    })?;
    Ok(Value::Tensor(result))
}

/// The remainder with the sign of the dividend.
fn fmod(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    if result_type(&[&x, &y]).is_integer() {
        check_divisor(b, &y)?;
    }
    Ok(Value::Tensor(elementwise(b, &[&x, &y], None, |k, v| k.binary(BinaryOp::Rem, v[0], v[1]))?))
}

/// The known number a wrapped operand is.
fn known_number(b: &Builder<'_>, t: &Tensor) -> Option<f64> {
    b.splat_of(t).filter(|_| t.is_wrapped_number).as_ref().and_then(known).map(Const::as_f64)
}

/// `x ** y`; small known exponents multiply, which is also how their last bits come out in PyTorch.
fn pow(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    if result_type(&[&x, &y]).is_integer()
        && let Value::Int(exponent) = args.value(1)?
        && known_int(exponent).is_none()
    {
        let is_fine = b.binary(BinaryOp::Ge, exponent.clone(), int(0));
        b.check(is_fine, "Integers to negative integer powers are not allowed.");
    }
    Ok(Value::Tensor(power(b, &x, &y)?))
}

/// `x ** y`, broadcast.
#[allow(clippy::float_cmp, reason = "exponents are exact")]
pub fn power(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let dtype = result_type(&[x, y]);
    let exponent = known_number(b, y);
    if dtype.is_integer() && exponent.is_some_and(|e| e < 0.0) {
        return Err(b.user("Integers to negative integer powers are not allowed."));
    }
    elementwise(b, &[x, y], None, |k, v| {
        let base = v[0];
        let one = k.one(k.dtype(base));
        let is_float = k.dtype(base).is_floating_point();
        match exponent {
            Some(2.0) => k.mul(base, base),
            Some(3.0) => {
                let square = k.mul(base, base);
                k.mul(square, base)
            }
            Some(0.5) if is_float => k.unary(UnaryOp::Sqrt, base),
            Some(-0.5) if is_float => k.unary(UnaryOp::Rsqrt, base),
            Some(-1.0) if is_float => k.div(one, base),
            Some(-2.0) if is_float => {
                let square = k.mul(base, base);
                k.div(one, square)
            }
            Some(1.0) => base,
            Some(0.0) => one,
            _ => k.binary(BinaryOp::Pow, base, v[1]),
        }
    })
}

/// `x ** y` in `float64`.
fn float_power(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    expect_real(b, result_type(&[&x, &y]))?;
    let result = elementwise_in(b, &[&x, &y], DType::F64, DType::F64, |k, v| k.binary(BinaryOp::Pow, v[0], v[1]))?;
    Ok(Value::Tensor(result))
}

fn same_type(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    Ok(Value::Tensor(elementwise(b, &[&x, &y], None, |k, v| k.binary(op, v[0], v[1]))?))
}

/// The greater or lesser; where one is NaN, the other.
fn ignoring_nan(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let result = elementwise(b, &[&x, &y], None, |k, v| {
        let both = k.binary(op, v[0], v[1]);
        if !k.dtype(both).is_floating_point() {
            return both;
        }
        let (p, q) = (k.unary(UnaryOp::IsNan, v[0]), k.unary(UnaryOp::IsNan, v[1]));
        let r = k.select(q, v[0], both);
        k.select(p, v[1], r)
    })?;
    Ok(Value::Tensor(result))
}

/// `self + value * t1 * t2`.
fn addcmul(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    ternary(b, args, BinaryOp::Mul)
}

/// `self + value * (t1 / t2)`.
fn addcdiv(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    ternary(b, args, BinaryOp::Div)
}

fn ternary(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y, z) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let value = args.number(b, 3)?;
    expect_real(b, result_type(&[&x, &y, &z]))?;
    if op == BinaryOp::Div && !result_type(&[&y, &z]).is_floating_point() {
        return Err(b.user("Integer division with addcdiv is no longer supported"));
    }
    let result = elementwise(b, &[&x, &y, &z], None, |k, v| {
        let factor = k.number(&value, k.dtype(v[1]));
        let scaled = k.mul(factor, v[1]);
        let part = k.binary(op, scaled, v[2]);
        k.add(v[0], part)
    })?;
    Ok(Value::Tensor(result))
}

/// A float-valued function of two tensors.
fn float_binary(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    f: impl FnOnce(&mut KernelBuilder<'_, '_>, ExprId, ExprId) -> ExprId,
) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = float_type(result_type(&[&x, &y]));
    Ok(Value::Tensor(elementwise_in(b, &[&x, &y], dtype, dtype, |k, v| f(k, v[0], v[1]))?))
}

fn copysign(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    float_binary(b, args, |k, x, y| k.binary(BinaryOp::Copysign, x, y))
}

/// `sqrt(x^2 + y^2)`, scaled by the greater so that squares do not overflow.
fn hypot(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let (x, y) = (k.unary(UnaryOp::Abs, x), k.unary(UnaryOp::Abs, y));
    let (high, low) = (k.max(x, y), k.min(x, y));
    let (zero, one) = (number(k, x, 0.0), number(k, x, 1.0));
    let ratio = k.div(low, high);
    let square = k.mul(ratio, ratio);
    let sum = k.add(one, square);
    let root = k.unary(UnaryOp::Sqrt, sum);
    let scaled = k.mul(high, root);
    let is_zero = k.binary(BinaryOp::Eq, low, zero);
    let result = k.select(is_zero, high, scaled);
    let inf = number(k, x, f64::INFINITY);
    // Infinity wins over NaN.
    let (p, q) = (k.binary(BinaryOp::Eq, x, inf), k.binary(BinaryOp::Eq, y, inf));
    let is_inf = k.binary(BinaryOp::Or, p, q);
    k.select(is_inf, inf, result)
}

/// `max + log1p(exp(-|x - y|))`; equal infinities give themselves.
fn logaddexp(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let difference = k.sub(x, y);
    let distance = k.unary(UnaryOp::Abs, difference);
    let negated = k.unary(UnaryOp::Neg, distance);
    let e = k.unary(UnaryOp::Exp, negated);
    let log = k.unary(UnaryOp::Log1p, e);
    let high = k.max(x, y);
    let sum = k.add(high, log);
    unless_equal_infinities(k, x, y, sum)
}

/// `log2(2^x + 2^y)`.
fn logaddexp2(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let difference = k.sub(x, y);
    let distance = k.unary(UnaryOp::Abs, difference);
    let negated = k.unary(UnaryOp::Neg, distance);
    let e = k.unary(UnaryOp::Exp2, negated);
    let log = k.unary(UnaryOp::Log1p, e);
    let factor = number(k, x, std::f64::consts::LOG2_E);
    let log = k.mul(log, factor);
    let high = k.max(x, y);
    let sum = k.add(high, log);
    unless_equal_infinities(k, x, y, sum)
}

fn unless_equal_infinities(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId, other: ExprId) -> ExprId {
    let inf = number(k, x, f64::INFINITY);
    let size = k.unary(UnaryOp::Abs, x);
    let is_inf = k.binary(BinaryOp::Eq, size, inf);
    let is_equal = k.binary(BinaryOp::Eq, x, y);
    let both = k.and(is_inf, is_equal);
    k.select(both, x, other)
}

fn ldexp(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let power = k.unary(UnaryOp::Exp2, y);
    k.binary(BinaryOp::Mul, x, power)
}

/// `x * log(y)`: 0 where x is 0 and y is not NaN.
fn xlogy(k: &mut KernelBuilder<'_, '_>, x: ExprId, y: ExprId) -> ExprId {
    let log = k.unary(UnaryOp::Log, y);
    let product = k.mul(x, log);
    let zero = number(k, x, 0.0);
    let is_zero = k.binary(BinaryOp::Eq, x, zero);
    let result = k.select(is_zero, zero, product);
    let is_nan = k.unary(UnaryOp::IsNan, y);
    k.select(is_nan, y, result)
}

/// 0, `values` or 1 for negative, zero and positive elements.
fn heaviside(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    if x.dtype != y.dtype {
        return Err(b.user("heaviside is not yet implemented for tensors with different dtypes."));
    }
    let result = elementwise(b, &[&x, &y], None, |k, v| {
        let zero = k.zero(k.dtype(v[0]));
        let is_zero = k.binary(BinaryOp::Eq, v[0], zero);
        let is_positive = k.binary(BinaryOp::Gt, v[0], zero);
        let step = k.cast(k.dtype(v[0]), is_positive);
        k.select(is_zero, v[1], step)
    })?;
    Ok(Value::Tensor(result))
}

/// Bitwise on integers, logical on booleans.
fn bits(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = operands(b, args)?;
    let dtype = result_type(&[&x, &y]);
    if dtype.category() > Category::Int {
        return Err(b.user(format!("\"{}_cpu\" not implemented for '{}'", b.op_name, dtype.graph_name())));
    }
    Ok(Value::Tensor(elementwise(b, &[&x, &y], None, |k, v| k.binary(op, v[0], v[1]))?))
}

fn bits_in_place(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let target = args.tensor(0)?;
    if let Value::Tensor(result) = bits(b, args, op)? {
        crate::ops::write_result(b, &target, &result)?;
    }
    Ok(Value::Tensor(target))
}

/// `x * x`, of any type.
pub fn square(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = as_tensor(b, args.value(0)?)?;
    let dtype = if x.dtype == DType::Bool { DType::I64 } else { x.dtype };
    Ok(Value::Tensor(unary(b, &x, dtype, |k, v| k.mul(v, v))))
}
