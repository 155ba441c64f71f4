//! Complex numbers of the host: two floats, real and imaginary part.

use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Value, known};
use crate::types::DType;

/// Real and imaginary part.
pub type Parts = (Operand, Operand);

/// Definitions for the overloads that operators on a complex and another number have.
macro_rules! binary_defs {
    ($($name:literal => $op:expr,)*) => {
        &[$(
            OpDef { name: concat!($name, ".complex"), lower: |b, a| binary(b, a, $op) },
            OpDef { name: concat!($name, ".complex_int"), lower: |b, a| binary(b, a, $op) },
            OpDef { name: concat!($name, ".complex_float"), lower: |b, a| binary(b, a, $op) },
            OpDef { name: concat!($name, ".int_complex"), lower: |b, a| binary(b, a, $op) },
            OpDef { name: concat!($name, ".float_complex"), lower: |b, a| binary(b, a, $op) },
        )*]
    };
}

/// Operators on two numbers, one of them complex.
pub const BINARY_DEFS: &[OpDef] = binary_defs! {
    "aten::add" => BinaryOp::Add,
    "aten::sub" => BinaryOp::Sub,
    "aten::mul" => BinaryOp::Mul,
    "aten::div" => BinaryOp::Div,
    "aten::pow" => BinaryOp::Pow,
    "aten::eq" => BinaryOp::Eq,
    "aten::ne" => BinaryOp::Ne,
};

/// The rest of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::Complex", lower: construct },
    OpDef { name: "aten::ComplexImplicit", lower: construct },
    OpDef { name: "aten::polar.float", lower: polar },
    OpDef { name: "aten::polar.int", lower: polar },
    OpDef { name: "aten::polar.float_int", lower: polar },
    OpDef { name: "aten::polar.int_float", lower: polar },
    OpDef { name: "aten::neg.complex", lower: |b, a| function(b, a, |b, z| (negated(b, &z.0), negated(b, &z.1))) },
    OpDef { name: "aten::exp.complex", lower: |b, a| function(b, a, exp) },
    OpDef { name: "aten::log.complex", lower: |b, a| function(b, a, log) },
    OpDef {
        name: "aten::log10.complex",
        lower: |b, a| function(b, a, |b, z| log_of_base(b, z, std::f64::consts::LN_10)),
    },
    OpDef { name: "aten::log.complex_complex", lower: log_base },
    OpDef { name: "aten::log.complex_float", lower: log_base },
    OpDef { name: "aten::log.complex_int", lower: log_base },
    OpDef { name: "aten::log.float_complex", lower: log_base },
    OpDef { name: "aten::log.int_complex", lower: log_base },
    OpDef { name: "aten::sqrt.complex", lower: |b, a| function(b, a, sqrt) },
    OpDef { name: "aten::sin.complex", lower: |b, a| function(b, a, sin) },
    OpDef { name: "aten::cos.complex", lower: |b, a| function(b, a, cos) },
    OpDef { name: "aten::tan.complex", lower: |b, a| function(b, a, tan) },
    OpDef { name: "aten::sinh.complex", lower: |b, a| function(b, a, sinh) },
    OpDef { name: "aten::cosh.complex", lower: |b, a| function(b, a, cosh) },
    OpDef { name: "aten::tanh.complex", lower: |b, a| function(b, a, tanh) },
    OpDef { name: "aten::asin.complex", lower: |b, a| function(b, a, asin) },
    OpDef { name: "aten::acos.complex", lower: |b, a| function(b, a, acos) },
    OpDef { name: "aten::atan.complex", lower: |b, a| function(b, a, atan) },
    OpDef { name: "aten::asinh.complex", lower: |b, a| function(b, a, asinh) },
    OpDef { name: "aten::acosh.complex", lower: |b, a| function(b, a, acosh) },
    OpDef { name: "aten::atanh.complex", lower: |b, a| function(b, a, atanh) },
    OpDef { name: "aten::angle.complex", lower: angle },
    OpDef { name: "prim::abs.complex", lower: size },
    OpDef { name: "aten::isnan.complex", lower: |b, a| test(b, a, BinaryOp::Or, |b, x| b.unary(UnaryOp::IsNan, x)) },
    OpDef {
        name: "aten::isinf.complex",
        lower: |b, a| test(b, a, BinaryOp::Or, |b, x| against_infinity(b, x, BinaryOp::Eq)),
    },
    OpDef {
        name: "aten::isfinite.complex",
        lower: |b, a| test(b, a, BinaryOp::And, |b, x| against_infinity(b, x, BinaryOp::Lt)),
    },
    OpDef { name: "aten::sum.complex", lower: sum },
];

fn real(value: f64) -> Operand {
    Operand::Const(Const::float(DType::F64, value))
}

/// The parts of a number; a real one has the imaginary part 0. `None` for what is no number.
pub fn parts(b: &mut Builder<'_>, value: &Value) -> Option<Parts> {
    match value {
        Value::Complex(re, im) => Some((re.clone(), im.clone())),
        Value::Int(o) | Value::Float(o) | Value::Bool(o) => Some((b.cast(DType::F64, o.clone()), real(0.0))),
        _ => None,
    }
}

fn part(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<Parts> {
    let value = args.value(at)?.clone();
    parts(b, &value)
        .ok_or_else(|| b.user(format!("expected a complex number in {}, found {}", b.op_name, value.kind())))
}

/// `op` of the two first arguments: their sum, difference, product, quotient, power, or whether they are equal.
pub fn binary(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp) -> Result<Value> {
    let (x, y) = (part(b, args, 0)?, part(b, args, 1)?);
    let (re, im) = match op {
        BinaryOp::Add | BinaryOp::Sub => (b.binary(op, x.0, y.0), b.binary(op, x.1, y.1)),
        BinaryOp::Mul => product(b, x, y),
        BinaryOp::Div => quotient(b, x, y),
        BinaryOp::Pow => power(b, x, y),
        BinaryOp::Eq | BinaryOp::Ne => {
            let (re, im) = (b.binary(op, x.0, y.0), b.binary(op, x.1, y.1));
            let joined = if op == BinaryOp::Eq { BinaryOp::And } else { BinaryOp::Or };
            return Ok(Value::Bool(b.binary(joined, re, im)));
        }
        _ => return Err(b.unsupported(format!("complex numbers in {}", b.op_name))),
    };
    Ok(Value::Complex(re, im))
}

fn negated(b: &mut Builder<'_>, x: &Operand) -> Operand {
    b.unary(UnaryOp::Neg, x.clone())
}

fn product(b: &mut Builder<'_>, x: Parts, y: Parts) -> Parts {
    let (ac, bd) =
        (b.binary(BinaryOp::Mul, x.0.clone(), y.0.clone()), b.binary(BinaryOp::Mul, x.1.clone(), y.1.clone()));
    let (ad, bc) = (b.binary(BinaryOp::Mul, x.0, y.1), b.binary(BinaryOp::Mul, x.1, y.0));
    (b.binary(BinaryOp::Sub, ac, bd), b.binary(BinaryOp::Add, ad, bc))
}

/// The quotient, scaled by the greater part of the divisor so that squares do not overflow (R. Smith, 1962).
fn quotient(b: &mut Builder<'_>, x: Parts, y: Parts) -> Parts {
    let mut by = |x: &Parts, great: &Operand, small: &Operand| {
        let ratio = b.binary(BinaryOp::Div, small.clone(), great.clone());
        let scale = b.binary(BinaryOp::Mul, small.clone(), ratio.clone());
        let scale = b.binary(BinaryOp::Add, great.clone(), scale);
        let along = b.binary(BinaryOp::Mul, x.1.clone(), ratio.clone());
        let re = b.binary(BinaryOp::Add, x.0.clone(), along);
        let across = b.binary(BinaryOp::Mul, x.0.clone(), ratio);
        let im = b.binary(BinaryOp::Sub, x.1.clone(), across);
        (b.binary(BinaryOp::Div, re, scale.clone()), b.binary(BinaryOp::Div, im, scale))
    };
    let wide = by(&x, &y.0, &y.1);
    // (a + bi) / (c + di) = (b - ai) / (d - ci).
    let turned = (x.1.clone(), x.0.clone());
    let tall = by(&turned, &y.1, &y.0);
    let (c, d) = (b.unary(UnaryOp::Abs, y.0), b.unary(UnaryOp::Abs, y.1));
    let is_wide = b.binary(BinaryOp::Ge, c, d);
    let tall_im = negated(b, &tall.1);
    (b.select(is_wide.clone(), wide.0, tall.0), b.select(is_wide, wide.1, tall_im))
}

/// `x` to the power `y`: `exp(y * log(x))`, and 0 for a base of 0 unless the exponent is 0.
fn power(b: &mut Builder<'_>, x: Parts, y: Parts) -> Parts {
    let zero = real(0.0);
    let is_zero = |b: &mut Builder<'_>, z: &Parts| {
        let (re, im) =
            (b.binary(BinaryOp::Eq, z.0.clone(), zero.clone()), b.binary(BinaryOp::Eq, z.1.clone(), zero.clone()));
        b.binary(BinaryOp::And, re, im)
    };
    let (no_base, no_exponent) = (is_zero(b, &x), is_zero(b, &y));
    let logarithm = log(b, x);
    let exponent = product(b, y, logarithm);
    let (re, im) = exp(b, exponent);
    let at_zero = b.select(no_exponent.clone(), real(1.0), real(0.0));
    let is_special = b.binary(BinaryOp::Or, no_base, no_exponent);
    (b.select(is_special.clone(), at_zero, re), b.select(is_special, real(0.0), im))
}

/// `|z|`, without overflow.
fn length(b: &mut Builder<'_>, z: &Parts) -> Operand {
    let (x, y) = (b.unary(UnaryOp::Abs, z.0.clone()), b.unary(UnaryOp::Abs, z.1.clone()));
    let (great, small) = (b.binary(BinaryOp::Max, x.clone(), y.clone()), b.binary(BinaryOp::Min, x, y));
    let ratio = b.binary(BinaryOp::Div, small, great.clone());
    let square = b.binary(BinaryOp::Mul, ratio.clone(), ratio);
    let square = b.binary(BinaryOp::Add, real(1.0), square);
    let root = b.unary(UnaryOp::Sqrt, square);
    let scaled = b.binary(BinaryOp::Mul, great.clone(), root);
    // 0 and infinity have no ratio.
    let is_inside = {
        let (low, high) = (
            b.binary(BinaryOp::Gt, great.clone(), real(0.0)),
            b.binary(BinaryOp::Lt, great.clone(), real(f64::INFINITY)),
        );
        b.binary(BinaryOp::And, low, high)
    };
    b.select(is_inside, scaled, great)
}

fn exp(b: &mut Builder<'_>, z: Parts) -> Parts {
    let size = b.unary(UnaryOp::Exp, z.0);
    let (cos, sin) = (b.unary(UnaryOp::Cos, z.1.clone()), b.unary(UnaryOp::Sin, z.1));
    (b.binary(BinaryOp::Mul, size.clone(), cos), b.binary(BinaryOp::Mul, size, sin))
}

fn log(b: &mut Builder<'_>, z: Parts) -> Parts {
    let size = length(b, &z);
    (b.unary(UnaryOp::Log, size), b.binary(BinaryOp::Atan2, z.1, z.0))
}

fn log_of_base(b: &mut Builder<'_>, z: Parts, ln_base: f64) -> Parts {
    let (re, im) = log(b, z);
    (b.binary(BinaryOp::Div, re, real(ln_base)), b.binary(BinaryOp::Div, im, real(ln_base)))
}

/// The root with a real part that is not negative.
fn sqrt(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (size, width) = (length(b, &z), b.unary(UnaryOp::Abs, z.0.clone()));
    let sum = b.binary(BinaryOp::Add, size.clone(), width);
    let half = b.binary(BinaryOp::Mul, sum, real(0.5));
    let root = b.unary(UnaryOp::Sqrt, half);
    let twice = b.binary(BinaryOp::Mul, root.clone(), real(2.0));
    let other = b.binary(BinaryOp::Div, z.1.clone(), twice);
    let is_zero = b.binary(BinaryOp::Eq, size, real(0.0));
    let other = b.select(is_zero, z.1.clone(), other);
    let is_right = b.binary(BinaryOp::Ge, z.0, real(0.0));
    let other_size = b.unary(UnaryOp::Abs, other.clone());
    let signed = b.binary(BinaryOp::Copysign, root.clone(), z.1);
    (b.select(is_right.clone(), root, other_size), b.select(is_right, other, signed))
}

fn sin(b: &mut Builder<'_>, z: Parts) -> Parts {
    let z = turned(b, z);
    let (re, im) = sinh(b, z);
    (im, negated(b, &re))
}

/// `i * z`.
fn turned(b: &mut Builder<'_>, z: Parts) -> Parts {
    (negated(b, &z.1), z.0)
}

/// `-i * z`.
fn turned_back(b: &mut Builder<'_>, z: Parts) -> Parts {
    let im = negated(b, &z.0);
    (z.1, im)
}

fn cos(b: &mut Builder<'_>, z: Parts) -> Parts {
    let z = turned(b, z);
    cosh(b, z)
}

fn tan(b: &mut Builder<'_>, z: Parts) -> Parts {
    let z = turned(b, z);
    let z = tanh(b, z);
    turned_back(b, z)
}

fn sinh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (s, c) = (b.unary(UnaryOp::Sinh, z.0.clone()), b.unary(UnaryOp::Cosh, z.0));
    let (cos, sin) = (b.unary(UnaryOp::Cos, z.1.clone()), b.unary(UnaryOp::Sin, z.1));
    (b.binary(BinaryOp::Mul, s, cos), b.binary(BinaryOp::Mul, c, sin))
}

fn cosh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (s, c) = (b.unary(UnaryOp::Sinh, z.0.clone()), b.unary(UnaryOp::Cosh, z.0));
    let (cos, sin) = (b.unary(UnaryOp::Cos, z.1.clone()), b.unary(UnaryOp::Sin, z.1));
    (b.binary(BinaryOp::Mul, c, cos), b.binary(BinaryOp::Mul, s, sin))
}

fn tanh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (s, c) = (sinh(b, z.clone()), cosh(b, z));
    quotient(b, s, c)
}

/// `log(z + sqrt(z² + 1))`.
fn asinh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let square = product(b, z.clone(), z.clone());
    let inner = (b.binary(BinaryOp::Add, square.0, real(1.0)), square.1);
    let root = sqrt(b, inner);
    let sum = (b.binary(BinaryOp::Add, z.0, root.0), b.binary(BinaryOp::Add, z.1, root.1));
    log(b, sum)
}

fn asin(b: &mut Builder<'_>, z: Parts) -> Parts {
    let z = turned(b, z);
    let z = asinh(b, z);
    turned_back(b, z)
}

fn acos(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (re, im) = asin(b, z);
    (b.binary(BinaryOp::Sub, real(std::f64::consts::FRAC_PI_2), re), negated(b, &im))
}

/// `log(z + sqrt(z + 1) * sqrt(z - 1))`.
fn acosh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (more, less) =
        (b.binary(BinaryOp::Add, z.0.clone(), real(1.0)), b.binary(BinaryOp::Sub, z.0.clone(), real(1.0)));
    let (more, less) = (sqrt(b, (more, z.1.clone())), sqrt(b, (less, z.1.clone())));
    let root = product(b, more, less);
    let sum = (b.binary(BinaryOp::Add, z.0, root.0), b.binary(BinaryOp::Add, z.1, root.1));
    log(b, sum)
}

/// `(log(1 + z) - log(1 - z)) / 2`.
fn atanh(b: &mut Builder<'_>, z: Parts) -> Parts {
    let (more, less) = (b.binary(BinaryOp::Add, real(1.0), z.0.clone()), b.binary(BinaryOp::Sub, real(1.0), z.0));
    let below = negated(b, &z.1);
    let (more, less) = (log(b, (more, z.1)), log(b, (less, below)));
    let (re, im) = (b.binary(BinaryOp::Sub, more.0, less.0), b.binary(BinaryOp::Sub, more.1, less.1));
    (b.binary(BinaryOp::Mul, re, real(0.5)), b.binary(BinaryOp::Mul, im, real(0.5)))
}

fn atan(b: &mut Builder<'_>, z: Parts) -> Parts {
    let z = turned(b, z);
    let z = atanh(b, z);
    turned_back(b, z)
}

fn function(b: &mut Builder<'_>, args: &Args<'_>, f: impl FnOnce(&mut Builder<'_>, Parts) -> Parts) -> Result<Value> {
    let z = part(b, args, 0)?;
    let (re, im) = f(b, z);
    Ok(Value::Complex(re, im))
}

fn log_base(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, base) = (part(b, args, 0)?, part(b, args, 1)?);
    let (x, base) = (log(b, x), log(b, base));
    let (re, im) = quotient(b, x, base);
    Ok(Value::Complex(re, im))
}

fn angle(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let z = part(b, args, 0)?;
    Ok(Value::Float(b.binary(BinaryOp::Atan2, z.1, z.0)))
}

fn size(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let z = part(b, args, 0)?;
    Ok(Value::Float(length(b, &z)))
}

fn against_infinity(b: &mut Builder<'_>, x: Operand, op: BinaryOp) -> Operand {
    let size = b.unary(UnaryOp::Abs, x);
    b.binary(op, size, real(f64::INFINITY))
}

fn test(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    joined: BinaryOp,
    f: fn(&mut Builder<'_>, Operand) -> Operand,
) -> Result<Value> {
    let z = part(b, args, 0)?;
    let (re, im) = (f(b, z.0), f(b, z.1));
    Ok(Value::Bool(b.binary(joined, re, im)))
}

/// The part of a complex number that an argument gives: a number, or a tensor of one element.
fn given(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<Operand> {
    if let Value::Tensor(t) = args.value(at)? {
        let count = b.product(&t.dims);
        if known(&count).is_some_and(|n| n.as_i64() != 1) {
            return Err(b.user(format!("a Tensor with {count} elements cannot be converted to Scalar")));
        }
    }
    args.float(b, at)
}

/// A complex number of its parts, or the number itself.
fn construct(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match args.value(0)? {
        Value::Complex(..) if args.values.len() == 1 => return Ok(args.value(0)?.clone()),
        Value::Tensor(t) if t.dtype.is_complex() && args.values.len() == 1 => {
            let (re, im) = crate::ops::aten::complex::item(b, &t.clone());
            return Ok(Value::Complex(re, im));
        }
        _ => {}
    }
    let re = given(b, args, 0)?;
    let im = if args.values.len() > 1 { given(b, args, 1)? } else { real(0.0) };
    Ok(Value::Complex(re, im))
}

fn polar(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (size, angle) = (args.float(b, 0)?, args.float(b, 1)?);
    let (cos, sin) = (b.unary(UnaryOp::Cos, angle.clone()), b.unary(UnaryOp::Sin, angle));
    Ok(Value::Complex(b.binary(BinaryOp::Mul, size.clone(), cos), b.binary(BinaryOp::Mul, size, sin)))
}

fn sum(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut total = (real(0.0), real(0.0));
    for item in b.items(args.value(0)?)? {
        let Some((re, im)) = parts(b, &item) else { return Err(b.user("expected a list of complex numbers")) };
        total = (b.binary(BinaryOp::Add, total.0, re), b.binary(BinaryOp::Add, total.1, im));
    }
    Ok(Value::Complex(total.0, total.1))
}
