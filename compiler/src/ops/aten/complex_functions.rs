//! Functions of complex numbers, on their parts, and the forms of operators that only move or compare elements.

use super::complex::{
    converted, each, exp, joined, length, log, part_type, parts, plain, product, products, quotient, to_real,
    whole_type,
};
use super::compound::call;
use super::pointwise::{elementwise, number};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int};
use crate::types::DType;

/// A complex number in a kernel.
type Number = [ExprId; 2];
type Kernel<'a, 'b, 'p> = &'a mut KernelBuilder<'b, 'p>;

/// The forms that operators take when an argument is complex, by the name of all overloads.
pub const FORMS: &[OpDef] = &[
    OpDef { name: "aten::sqrt", lower: |b, a| each(b, a, sqrt) },
    OpDef {
        name: "aten::rsqrt",
        lower: |b, a| {
            each(b, a, |k, z| {
                let root = sqrt(k, z);
                reciprocal(k, root)
            })
        },
    },
    OpDef { name: "aten::sin", lower: |b, a| each(b, a, |k, z| across(k, z, sinh)) },
    OpDef { name: "aten::cos", lower: |b, a| each(b, a, cos) },
    OpDef { name: "aten::tan", lower: |b, a| each(b, a, |k, z| across(k, z, tanh)) },
    OpDef { name: "aten::sinh", lower: |b, a| each(b, a, sinh) },
    OpDef {
        name: "aten::cosh",
        lower: |b, a| {
            each(b, a, |k, z| {
                let turned = turned(k, z);
                cos(k, turned)
            })
        },
    },
    OpDef { name: "aten::tanh", lower: |b, a| each(b, a, tanh) },
    OpDef { name: "aten::asin", lower: |b, a| each(b, a, |k, z| across(k, z, asinh)) },
    OpDef { name: "aten::arcsin", lower: |b, a| each(b, a, |k, z| across(k, z, asinh)) },
    OpDef { name: "aten::acos", lower: |b, a| each(b, a, acos) },
    OpDef { name: "aten::arccos", lower: |b, a| each(b, a, acos) },
    OpDef { name: "aten::atan", lower: |b, a| each(b, a, |k, z| across(k, z, atanh)) },
    OpDef { name: "aten::arctan", lower: |b, a| each(b, a, |k, z| across(k, z, atanh)) },
    OpDef { name: "aten::asinh", lower: |b, a| each(b, a, asinh) },
    OpDef { name: "aten::arcsinh", lower: |b, a| each(b, a, asinh) },
    OpDef { name: "aten::acosh", lower: |b, a| each(b, a, acosh) },
    OpDef { name: "aten::arccosh", lower: |b, a| each(b, a, acosh) },
    OpDef { name: "aten::atanh", lower: |b, a| each(b, a, atanh) },
    OpDef { name: "aten::arctanh", lower: |b, a| each(b, a, atanh) },
    OpDef {
        name: "aten::exp2",
        lower: |b, a| {
            each(b, a, |k, z| {
                let z = scaled(k, z, std::f64::consts::LN_2);
                exp(k, z)
            })
        },
    },
    OpDef { name: "aten::expm1", lower: |b, a| each(b, a, expm1) },
    OpDef {
        name: "aten::log2",
        lower: |b, a| {
            each(b, a, |k, z| {
                let z = log(k, z);
                scaled(k, z, std::f64::consts::LOG2_E)
            })
        },
    },
    OpDef {
        name: "aten::log10",
        lower: |b, a| {
            each(b, a, |k, z| {
                let z = log(k, z);
                scaled(k, z, std::f64::consts::LOG10_E)
            })
        },
    },
    OpDef {
        name: "aten::log1p",
        lower: |b, a| {
            each(b, a, |k, z| {
                let z = plus_one(k, z);
                log(k, z)
            })
        },
    },
    OpDef { name: "aten::reciprocal", lower: |b, a| each(b, a, reciprocal) },
    OpDef { name: "aten::sigmoid", lower: |b, a| each(b, a, sigmoid) },
    OpDef {
        name: "aten::silu",
        lower: |b, a| {
            each(b, a, |k, z| {
                let s = sigmoid(k, z);
                product(k, z, s)
            })
        },
    },
    OpDef { name: "aten::sinc", lower: |b, a| each(b, a, sinc) },
    OpDef { name: "aten::sgn", lower: |b, a| each(b, a, sgn) },
    OpDef { name: "aten::pow", lower: |b, a| super::complex::binary(b, a, power) },
    OpDef { name: "aten::float_power", lower: float_power },
    OpDef { name: "aten::all", lower: by_truth },
    OpDef { name: "aten::any", lower: by_truth },
    OpDef { name: "aten::count_nonzero", lower: by_truth },
    OpDef { name: "aten::logical_and", lower: by_truth },
    OpDef { name: "aten::logical_or", lower: by_truth },
    OpDef { name: "aten::logical_xor", lower: by_truth },
    OpDef { name: "aten::logical_not", lower: by_truth },
    OpDef { name: "aten::norm", lower: by_size },
    OpDef { name: "aten::linalg_vector_norm", lower: by_size },
    OpDef { name: "aten::masked_fill", lower: |b, a| moved(b, a, Some(2)) },
    OpDef { name: "aten::constant_pad_nd", lower: |b, a| moved(b, a, Some(2)) },
    OpDef { name: "aten::index_fill", lower: |b, a| moved(b, a, Some(3)) },
    OpDef { name: "aten::scatter", lower: |b, a| moved(b, a, Some(3)) },
    OpDef { name: "aten::index_put", lower: |b, a| moved(b, a, Some(2)) },
    OpDef { name: "aten::put", lower: |b, a| moved(b, a, Some(2)) },
    OpDef { name: "aten::sum", lower: |b, a| moved(b, a, None) },
    OpDef { name: "aten::mean", lower: |b, a| moved(b, a, None) },
    OpDef { name: "aten::cumsum", lower: |b, a| moved(b, a, None) },
    OpDef { name: "aten::im2col", lower: |b, a| moved(b, a, None) },
    OpDef { name: "aten::col2im", lower: |b, a| moved(b, a, None) },
    OpDef { name: "aten::var", lower: |b, a| variance(b, a, false) },
    OpDef { name: "aten::std", lower: |b, a| variance(b, a, true) },
    OpDef { name: "aten::var_mean", lower: |b, a| with_mean(b, a, false) },
    OpDef { name: "aten::std_mean", lower: |b, a| with_mean(b, a, true) },
    OpDef { name: "aten::addmm", lower: |b, a| with_product(b, a, "aten::mm") },
    OpDef { name: "aten::addmv", lower: |b, a| with_product(b, a, "aten::mv") },
    OpDef { name: "aten::baddbmm", lower: |b, a| with_product(b, a, "aten::bmm") },
    OpDef { name: "aten::addcmul", lower: |b, a| with_quotient(b, a, "aten::mul") },
    OpDef { name: "aten::addcdiv", lower: |b, a| with_quotient(b, a, "aten::div") },
    OpDef { name: "aten::vdot", lower: vdot },
    OpDef { name: "aten::conv1d", lower: convolution },
    OpDef { name: "aten::conv2d", lower: convolution },
    OpDef { name: "aten::conv3d", lower: convolution },
    OpDef { name: "aten::conv_transpose1d", lower: convolution },
    OpDef { name: "aten::conv_transpose2d", lower: convolution },
    OpDef { name: "aten::conv_transpose3d", lower: convolution },
    OpDef { name: "aten::convolution", lower: convolution },
    OpDef { name: "aten::_convolution", lower: convolution },
];

fn scaled(k: Kernel<'_, '_, '_>, z: Number, factor: f64) -> Number {
    z.map(|part| {
        let factor = number(k, part, factor);
        k.mul(part, factor)
    })
}

fn sum(k: Kernel<'_, '_, '_>, z: Number, w: Number) -> Number {
    [k.add(z[0], w[0]), k.add(z[1], w[1])]
}

fn difference(k: Kernel<'_, '_, '_>, z: Number, w: Number) -> Number {
    [k.sub(z[0], w[0]), k.sub(z[1], w[1])]
}

fn one(k: Kernel<'_, '_, '_>, like: Number) -> Number {
    [number(k, like[0], 1.0), number(k, like[0], 0.0)]
}

fn plus_one(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let one = one(k, z);
    sum(k, one, z)
}

/// `i * z`
fn turned(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    [k.unary(UnaryOp::Neg, z[1]), z[0]]
}

/// `-i f(i * z)`: how trigonometric functions follow from hyperbolic ones.
fn across(k: Kernel<'_, '_, '_>, z: Number, f: impl Fn(Kernel<'_, '_, '_>, Number) -> Number) -> Number {
    let turned = turned(k, z);
    let [x, y] = f(k, turned);
    [y, k.unary(UnaryOp::Neg, x)]
}

fn reciprocal(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let one = one(k, z);
    quotient(k, one, z)
}

/// The root whose real part is not negative.
fn sqrt(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let (half, zero) = (number(k, z[0], 0.5), number(k, z[0], 0.0));
    let size = length(k, z);
    let along = k.unary(UnaryOp::Abs, z[0]);
    let mean = k.add(along, size);
    let mean = k.mul(mean, half);
    let great = k.unary(UnaryOp::Sqrt, mean);
    let across = k.unary(UnaryOp::Abs, z[1]);
    let twice = k.add(great, great);
    let small = k.div(across, twice);
    let is_zero = k.binary(BinaryOp::Eq, size, zero);
    let small = k.select(is_zero, zero, small);
    let is_right = k.binary(BinaryOp::Ge, z[0], zero);
    let (re, im) = (k.select(is_right, great, small), k.select(is_right, small, great));
    [re, k.binary(BinaryOp::Copysign, im, z[1])]
}

fn sinh(k: Kernel<'_, '_, '_>, [x, y]: Number) -> Number {
    let (sinh, cosh) = (k.unary(UnaryOp::Sinh, x), k.unary(UnaryOp::Cosh, x));
    let (sin, cos) = (k.unary(UnaryOp::Sin, y), k.unary(UnaryOp::Cos, y));
    [k.mul(sinh, cos), k.mul(cosh, sin)]
}

fn cos(k: Kernel<'_, '_, '_>, [x, y]: Number) -> Number {
    let (sin, cos) = (k.unary(UnaryOp::Sin, x), k.unary(UnaryOp::Cos, x));
    let (sinh, cosh) = (k.unary(UnaryOp::Sinh, y), k.unary(UnaryOp::Cosh, y));
    let im = k.mul(sin, sinh);
    [k.mul(cos, cosh), k.unary(UnaryOp::Neg, im)]
}

/// `(tanh x (1 + tan^2 y) + i tan y (1 - tanh^2 x)) / (1 + tanh^2 x tan^2 y)`, which does not overflow.
fn tanh(k: Kernel<'_, '_, '_>, [x, y]: Number) -> Number {
    let (t, u) = (k.unary(UnaryOp::Tanh, x), k.unary(UnaryOp::Tan, y));
    let (tt, uu) = (k.mul(t, t), k.mul(u, u));
    let one = number(k, t, 1.0);
    let (above, below) = (k.add(one, uu), k.sub(one, tt));
    let both = k.mul(tt, uu);
    let divisor = k.add(one, both);
    let (re, im) = (k.mul(t, above), k.mul(u, below));
    [k.div(re, divisor), k.div(im, divisor)]
}

/// `log(z + sqrt(z^2 + 1))`
fn asinh(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    // Of numbers on the left the function is minus that of the opposite ones, so that nothing cancels.
    let zero = number(k, z[0], 0.0);
    let is_left = k.binary(BinaryOp::Lt, z[0], zero);
    let opposite = z.map(|part| k.unary(UnaryOp::Neg, part));
    let z = [0, 1].map(|i| k.select(is_left, opposite[i], z[i]));
    let square = product(k, z, z);
    let square = plus_one(k, square);
    let root = sqrt(k, square);
    let both = sum(k, z, root);
    let result = log(k, both);
    let opposite = result.map(|part| k.unary(UnaryOp::Neg, part));
    [0, 1].map(|i| k.select(is_left, opposite[i], result[i]))
}

fn acos(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let angle = across(k, z, asinh);
    let right = number(k, z[0], std::f64::consts::FRAC_PI_2);
    [k.sub(right, angle[0]), k.unary(UnaryOp::Neg, angle[1])]
}

/// `log(z + sqrt(z + 1) sqrt(z - 1))`
fn acosh(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let one = one(k, z);
    let (above, below) = (sum(k, z, one), difference(k, z, one));
    let (p, q) = (sqrt(k, above), sqrt(k, below));
    let root = product(k, p, q);
    let both = sum(k, z, root);
    log(k, both)
}

/// `(log(1 + z) - log(1 - z)) / 2`
fn atanh(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let one = one(k, z);
    let (above, below) = (sum(k, one, z), difference(k, one, z));
    let (p, q) = (log(k, above), log(k, below));
    let twice = difference(k, p, q);
    scaled(k, twice, 0.5)
}

/// `exp(z) - 1`, without loss near 0: `expm1(x) cos y - 2 sin^2(y / 2) + i exp(x) sin y`.
fn expm1(k: Kernel<'_, '_, '_>, [x, y]: Number) -> Number {
    let (less, size) = (k.unary(UnaryOp::Expm1, x), k.unary(UnaryOp::Exp, x));
    let (sin, cos) = (k.unary(UnaryOp::Sin, y), k.unary(UnaryOp::Cos, y));
    let half = number(k, y, 0.5);
    let half = k.mul(y, half);
    let half = k.unary(UnaryOp::Sin, half);
    let square = k.mul(half, half);
    let twice = k.add(square, square);
    let re = k.mul(less, cos);
    [k.sub(re, twice), k.mul(size, sin)]
}

fn sigmoid(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let opposite = z.map(|part| k.unary(UnaryOp::Neg, part));
    let e = exp(k, opposite);
    let divisor = plus_one(k, e);
    reciprocal(k, divisor)
}

/// `sin(pi z) / (pi z)`, 1 at 0.
fn sinc(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let zero = number(k, z[0], 0.0);
    let angle = scaled(k, z, std::f64::consts::PI);
    let sine = across(k, angle, sinh);
    let ratio = quotient(k, sine, angle);
    let (p, q) = (k.binary(BinaryOp::Eq, z[0], zero), k.binary(BinaryOp::Eq, z[1], zero));
    let (is_zero, one) = (k.and(p, q), one(k, z));
    [0, 1].map(|i| k.select(is_zero, one[i], ratio[i]))
}

/// `z / |z|`, 0 at 0.
fn sgn(k: Kernel<'_, '_, '_>, z: Number) -> Number {
    let (size, zero) = (length(k, z), number(k, z[0], 0.0));
    let is_zero = k.binary(BinaryOp::Eq, size, zero);
    z.map(|part| {
        let unit = k.div(part, size);
        k.select(is_zero, zero, unit)
    })
}

/// `exp(w log z)`; 1 where `w` is 0, 0 where only `z` is.
fn power(k: Kernel<'_, '_, '_>, z: Number, w: Number) -> Number {
    let zero = number(k, z[0], 0.0);
    let log = log(k, z);
    let exponent = product(k, w, log);
    let result = exp(k, exponent);
    let is_zero = |k: Kernel<'_, '_, '_>, z: Number| {
        let (p, q) = (k.binary(BinaryOp::Eq, z[0], zero), k.binary(BinaryOp::Eq, z[1], zero));
        k.and(p, q)
    };
    let (no_base, no_exponent, one) = (is_zero(k, z), is_zero(k, w), one(k, z));
    [0, 1].map(|i| {
        let value = k.select(no_base, zero, result[i]);
        k.select(no_exponent, one[i], value)
    })
}

/// Powers of numbers of double precision.
fn float_power(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut values = args.values.to_vec();
    for value in values.iter_mut().take(2) {
        if let Value::Tensor(x) = value {
            *value = Value::Tensor(converted(b, x, DType::C128));
        }
    }
    super::complex::binary(b, &Args { schema: args.schema, values: &values }, power)
}

/// An operator that only asks whether numbers are 0.
fn by_truth(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut values = args.values.to_vec();
    for value in &mut values {
        let Value::Tensor(x) = value else { continue };
        if x.dtype.is_complex() {
            let [re, im] = parts(b, x)?;
            let truth = elementwise(b, &[&re, &im], Some(DType::Bool), |k, v| {
                let zero = number(k, v[0], 0.0);
                let (p, q) = (k.binary(BinaryOp::Ne, v[0], zero), k.binary(BinaryOp::Ne, v[1], zero));
                k.binary(BinaryOp::Or, p, q)
            })?;
            *value = Value::Tensor(truth);
        }
    }
    plain(b, args, &values).map(Value::Tensor)
}

/// An operator that only asks how great numbers are.
fn by_size(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut values = args.values.to_vec();
    values[0] = to_real(b, args, length)?;
    if let Some(at) = args.position("dtype")
        && *args.value(at)? != Value::None
    {
        let dtype = args.dtype(b, at)?.filter(|dtype| dtype.is_complex());
        values[at] = dtype.map_or(Value::None, |dtype| Value::int(part_type(dtype).code()));
    }
    plain(b, args, &values).map(Value::Tensor)
}

/// An operator that treats both parts alike; a number at `value` has no imaginary part unless it is complex.
fn moved(b: &mut Builder<'_>, args: &Args<'_>, value: Option<usize>) -> Result<Value> {
    let mut dtype = args.tensor(0)?.dtype;
    if let Some(wanted) = args.position("dtype").map(|at| args.dtype(b, at)).transpose()?.flatten() {
        dtype = wanted;
    }
    if !dtype.is_complex() {
        return Err(b.unsupported(format!("{} of complex numbers into others", b.op_name)));
    }
    let part = part_type(dtype);
    let mut sides = [args.values.to_vec(), args.values.to_vec()];
    for (at, argument) in args.values.iter().enumerate() {
        let is_value = Some(at) == value;
        let pair = match argument {
            Value::Tensor(x) if x.dtype.is_complex() || is_value => parts(b, x)?.map(Value::Tensor),
            Value::Complex(re, im) => [Value::Float(re.clone()), Value::Float(im.clone())],
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if is_value => [argument.clone(), Value::Int(int(0))],
            other => [other.clone(), other.clone()],
        };
        let [re, im] = pair;
        (sides[0][at], sides[1][at]) = (re, im);
        if args.position("dtype") == Some(at) && *argument != Value::None {
            let own = Value::int(part.code());
            (sides[0][at], sides[1][at]) = (own.clone(), own);
        }
    }
    let results = [plain(b, args, &sides[0])?, plain(b, args, &sides[1])?];
    Ok(Value::Tensor(joined(b, &results, part)))
}

/// The variance is the sum of those of the parts.
fn variance(b: &mut Builder<'_>, args: &Args<'_>, is_root: bool) -> Result<Value> {
    let sides = parts(b, &args.tensor(0)?)?;
    let overload = args.schema.map(|s| s.name.overload.to_string()).unwrap_or_default();
    let mut of = |part: &Tensor| {
        let mut values = args.values.to_vec();
        values[0] = Value::Tensor(part.clone());
        match call(b, "aten::var", &overload, &values)? {
            Value::Tensor(t) => Ok(t),
            other => Err(b.unsupported(format!("a variance that is {}", other.kind()))),
        }
    };
    let (p, q) = (of(&sides[0])?, of(&sides[1])?);
    Ok(Value::Tensor(elementwise(b, &[&p, &q], None, |k, v| {
        let sum = k.add(v[0], v[1]);
        if is_root { k.unary(UnaryOp::Sqrt, sum) } else { sum }
    })?))
}

/// The variance beside the mean.
fn with_mean(b: &mut Builder<'_>, args: &Args<'_>, is_root: bool) -> Result<Value> {
    let variance = variance(b, args, is_root)?;
    let x = args.value(0)?.clone();
    let mean = match (args.named("dim"), args.named("keepdim")) {
        (Some(dim), Some(keeps)) if *dim != Value::None => {
            call(b, "aten::mean", "dim", &[x, dim.clone(), keeps.clone(), Value::None])?
        }
        _ => call(b, "aten::mean", "", &[x, Value::None])?,
    };
    Ok(Value::Tuple(vec![variance, mean], None))
}

/// `beta * self + alpha * (x @ y)`
fn with_product(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let factor = |at: usize| args.values.get(at).cloned().unwrap_or_else(|| Value::int(1));
    let (beta, alpha) = (factor(3), factor(4));
    let product = call(b, name, "", &[args.value(1)?.clone(), args.value(2)?.clone()])?;
    let product = call(b, "aten::mul", "Scalar", &[product, alpha])?;
    let own = call(b, "aten::mul", "Scalar", &[args.value(0)?.clone(), beta])?;
    call(b, "aten::add", "Tensor", &[own, product, Value::int(1)])
}

/// `self + value * (x op y)`
fn with_quotient(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Value> {
    let value = args.values.get(3).cloned().unwrap_or_else(|| Value::int(1));
    let scaled = call(b, "aten::mul", "Scalar", &[args.value(1)?.clone(), value])?;
    let term = call(b, name, "Tensor", &[scaled, args.value(2)?.clone()])?;
    call(b, "aten::add", "Tensor", &[args.value(0)?.clone(), term, Value::int(1)])
}

/// The convolutions of the parts, joined as products are; then the bias of each channel.
fn convolution(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let part = part_type(x.dtype);
    let (x, w) = (parts(b, &x)?, parts(b, &w)?);
    let mut values = args.values.to_vec();
    values[2] = Value::None;
    let mut result = products(b, args, &values, [&x, &w])?;
    if let Some(bias) = bias {
        let channel = usize::from(result[0].rank() == w[0].rank());
        for (side, own) in result.iter_mut().zip(parts(b, &bias)?) {
            *side = b.map(part, &side.dims, |k, i| {
                let (v, own) = (k.load(side, i), k.load(&own, &[i[channel]]));
                k.add(v, own)
            });
        }
    }
    Ok(Value::Tensor(joined(b, &result, part)))
}

fn vdot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = call(b, "aten::conj", "", &[args.value(0)?.clone()])?;
    call(b, "aten::dot", "", &[x, args.value(1)?.clone()])
}

/// `steps` complex numbers from one to another, evenly spaced; each is a power of `base` where one is given.
pub fn spaced(b: &mut Builder<'_>, args: &Args<'_>, base: Option<f64>) -> Result<Value> {
    let steps = args.int(b, 2)?;
    let n = b.dim(steps.clone());
    let mut end = |at: usize| -> Result<[Operand; 2]> {
        match args.value(at)? {
            Value::Complex(re, im) => Ok([re.clone(), im.clone()]),
            _ => Ok([args.float(b, at)?, Operand::Const(Const::float(DType::F64, 0.0))]),
        }
    };
    let (start, end) = (end(0)?, end(1)?);
    let dtype = match args.position("dtype").map(|at| args.dtype(b, at)).transpose()?.flatten() {
        Some(dtype) if dtype.is_complex() => dtype,
        Some(dtype) => return Err(b.user(format!("linspace: complex numbers cannot be of type {dtype}"))),
        None => whole_type(DType::F32),
    };
    let part = part_type(dtype);
    let mut side = |which: usize| {
        b.map(part, &[n], |k, i| {
            // From the nearer end, as PyTorch does.
            let (one, two, count) = (k.int(1), k.int(2), k.operand(&steps));
            let last = k.sub(count, one);
            let half = k.binary(BinaryOp::FloorDiv, count, two);
            let is_first = k.binary(BinaryOp::Lt, i[0], half);
            let least = k.max(last, one);
            let gaps = k.cast(part, least);
            let left = k.sub(last, i[0]);
            let (up, down) = (k.cast(part, i[0]), k.cast(part, left));
            let z = [0, 1].map(|p| {
                let (from, to) = (k.number(&start[p], part), k.number(&end[p], part));
                let span = k.sub(to, from);
                let step = k.div(span, gaps);
                let (up, down) = (k.mul(step, up), k.mul(step, down));
                let (low, high) = (k.add(from, up), k.sub(to, down));
                k.select(is_first, low, high)
            });
            match base {
                Some(base) => {
                    let base = [number(k, z[0], base), number(k, z[0], 0.0)];
                    power(k, base, z)[which]
                }
                None => z[which],
            }
        })
    };
    let result = [side(0), side(1)];
    Ok(Value::Tensor(joined(b, &result, part)))
}
