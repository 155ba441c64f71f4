//! Elementary functions. Those that models use most are polynomials in any number of `f32` lanes, without branches but for
//! rare arguments; all others, and `f64`, call the C library's function lane by lane.
//!
//! The bound above each polynomial, in units in the last place (ulp), is what the tests hold it to against `f64` results: 16384
//! points over the ranges named there, and special values. NaN, infinities and signed zeros come out as from C's functions.
//! Coefficients are Taylor's where the interval is short, else interpolation at Chebyshev nodes; the error stated beside them
//! is that of the polynomial before rounding.

use super::builder::{Builder, Cmp, Conv, Inst1, Inst2, Lane, Linkage, Signature, Ty, Value};
use crate::diag::{Diagnostic, Result};
use crate::loops::UnaryOp;
use std::f64::consts::{FRAC_2_PI, LN_2, LOG2_E, LOG10_2, LOG10_E};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value with its builder, so that formulas read as such.
#[derive(Clone, Copy)]
struct V<'a> {
    b: &'a dyn Builder,
    v: Value,
}

macro_rules! operators {
    ($($trait:ident $method:ident $inst:ident;)*) => {$(
        impl<'a> $trait for V<'a> {
            type Output = V<'a>;
            fn $method(self, other: V<'a>) -> V<'a> {
                V { b: self.b, v: self.b.inst2(Inst2::$inst, self.v, other.v) }
            }
        }
        impl<'a> $trait<f64> for V<'a> {
            type Output = V<'a>;
            fn $method(self, other: f64) -> V<'a> {
                $trait::$method(self, self.constant(other))
            }
        }
    )*};
}
operators! { Add add FAdd; Sub sub FSub; Mul mul FMul; Div div FDiv; }

impl Neg for V<'_> {
    type Output = Self;
    fn neg(self) -> Self {
        self.with(self.b.inst1(Inst1::FNeg, self.v))
    }
}

impl V<'_> {
    fn with(self, v: Value) -> Self {
        Self { b: self.b, v }
    }
    fn constant(self, value: f64) -> Self {
        self.with(self.b.float(self.v.ty, value))
    }
    /// An integer in the lanes of an integer value.
    fn integer(self, value: i64) -> Self {
        self.with(self.b.int(self.v.ty, value))
    }
    fn int(self, inst: Inst2, other: i64) -> Self {
        self.with(self.b.inst2(inst, self.v, self.integer(other).v))
    }
    fn both(self, inst: Inst2, other: Self) -> Self {
        self.with(self.b.inst2(inst, self.v, other.v))
    }
    fn fma(self, factor: Self, term: Self) -> Self {
        self.with(self.b.fma(self.v, factor.v, term.v))
    }
    fn abs(self) -> Self {
        self.with(self.b.inst1(Inst1::FAbs, self.v))
    }
    fn bits(self, lane: Lane) -> Self {
        self.with(self.b.convert(Conv::Bits, self.v, lane))
    }
    fn is(self, cmp: Cmp, other: Self) -> Self {
        self.with(self.b.compare(cmp, self.v, other.v))
    }
    /// Where this condition holds the one, elsewhere the other.
    fn choose(self, yes: Self, no: Self) -> Self {
        self.with(self.b.select(self.v, yes.v, no.v))
    }
    /// `coefficients[0] + coefficients[1] * x + ...`
    fn poly(self, coefficients: &[f64]) -> Self {
        let mut terms = coefficients.iter().rev().map(|&c| self.constant(c));
        let first = terms.next().unwrap_or_else(|| self.constant(0.0));
        terms.fold(first, |sum, term| sum.fma(self, term))
    }
    /// The magnitude with the sign of another.
    fn sign_of(self, other: Self) -> Self {
        let sign = other.bits(Lane::I32).int(Inst2::And, i64::from(i32::MIN));
        self.abs().bits(Lane::I32).both(Inst2::Or, sign).bits(Lane::F32)
    }
}

/// A function of one float value.
pub(super) fn unary(b: &dyn Builder, op: UnaryOp, value: Value) -> Result<Value> {
    let x = V { b, v: value };
    let is_single = value.ty.lane == Lane::F32;
    let vector = match op {
        UnaryOp::Sqrt => Some(x.with(b.inst1(Inst1::Sqrt, value))),
        UnaryOp::Rsqrt => Some(x.constant(1.0) / x.with(b.inst1(Inst1::Sqrt, value))),
        _ if !is_single => None,
        UnaryOp::Exp => Some(exp(x)),
        UnaryOp::Exp2 => Some(exp2(x)),
        UnaryOp::Expm1 => Some(expm1(x)),
        UnaryOp::Log => Some(log(x)),
        UnaryOp::Log2 => Some(log2(x)),
        UnaryOp::Log10 => Some(log10(x)),
        UnaryOp::Log1p => Some(log1p(x)),
        UnaryOp::Tanh => Some(tanh(x)),
        UnaryOp::Erf => Some(erf(x)),
        UnaryOp::Sin => Some(trigonometric(x, "sinf")),
        UnaryOp::Cos => Some(trigonometric(x, "cosf")),
        UnaryOp::Tan => Some(trigonometric(x, "tanf")),
        _ => None,
    };
    if let Some(vector) = vector {
        return Ok(vector.v);
    }
    let name = match op {
        UnaryOp::Exp => "exp",
        UnaryOp::Exp2 => "exp2",
        UnaryOp::Expm1 => "expm1",
        UnaryOp::Log => "log",
        UnaryOp::Log2 => "log2",
        UnaryOp::Log10 => "log10",
        UnaryOp::Log1p => "log1p",
        UnaryOp::Sin => "sin",
        UnaryOp::Cos => "cos",
        UnaryOp::Tan => "tan",
        UnaryOp::Asin => "asin",
        UnaryOp::Acos => "acos",
        UnaryOp::Atan => "atan",
        UnaryOp::Sinh => "sinh",
        UnaryOp::Cosh => "cosh",
        UnaryOp::Tanh => "tanh",
        UnaryOp::Asinh => "asinh",
        UnaryOp::Acosh => "acosh",
        UnaryOp::Atanh => "atanh",
        UnaryOp::Erf => "erf",
        UnaryOp::Erfc => "erfc",
        UnaryOp::Lgamma => "lgamma",
        UnaryOp::Erfinv | UnaryOp::Digamma => {
            let name = if op == UnaryOp::Erfinv { "aot_rt_erfinv" } else { "aot_rt_digamma" };
            let double = if is_single { b.convert(Conv::FExt, value, Lane::F64) } else { value };
            let one = Ty::scalar(Lane::F64);
            let result = call_lanes(b, name, &Signature::new(&[one], Some(one)), &[double]);
            return Ok(if is_single { b.convert(Conv::FTrunc, result, Lane::F32) } else { result });
        }
        UnaryOp::Neg
        | UnaryOp::Abs
        | UnaryOp::Not
        | UnaryOp::IsNan
        | UnaryOp::Sqrt
        | UnaryOp::Rsqrt
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Trunc => return Err(Diagnostic::internal(format!("{op:?} of floats is no call"))),
    };
    let one = Ty::scalar(value.ty.lane);
    Ok(call_lanes(b, &c_name(name, value.ty.lane), &Signature::new(&[one], Some(one)), &[value]))
}

/// C's function of two floats by its `double` name, lane by lane.
pub(super) fn binary(b: &dyn Builder, name: &str, a: Value, c: Value) -> Value {
    let one = Ty::scalar(a.ty.lane);
    call_lanes(b, &c_name(name, a.ty.lane), &Signature::new(&[one, one], Some(one)), &[a, c])
}

/// `a ^ c`; small constant exponents become products.
pub(super) fn pow(b: &dyn Builder, a: Value, c: Value, exponent: Option<f64>) -> Value {
    let x = V { b, v: a };
    #[allow(clippy::float_cmp, reason = "exactly these exponents")]
    let product = match exponent {
        Some(0.0) => Some(x.constant(1.0)),
        Some(1.0) => Some(x),
        Some(2.0) => Some(x * x),
        Some(3.0) => Some(x * x * x),
        Some(4.0) => Some((x * x) * (x * x)),
        Some(-1.0) => Some(x.constant(1.0) / x),
        Some(-2.0) => Some(x.constant(1.0) / (x * x)),
        Some(0.5) => Some(x.with(b.inst1(Inst1::Sqrt, a))),
        Some(-0.5) => Some(x.constant(1.0) / x.with(b.inst1(Inst1::Sqrt, a))),
        _ => None,
    };
    product.map_or_else(|| binary(b, "pow", a, c), |product| product.v)
}

/// The angle of (c, a).
pub(super) fn atan2(b: &dyn Builder, a: Value, c: Value) -> Value {
    binary(b, "atan2", a, c)
}

fn c_name(name: &str, lane: Lane) -> String {
    if lane == Lane::F32 { format!("{name}f") } else { name.to_owned() }
}

/// Calls an imported function of scalars once for each lane.
pub(super) fn call_lanes(b: &dyn Builder, name: &str, signature: &Signature, args: &[Value]) -> Value {
    let func = b.declare(name, signature, Linkage::Import);
    let lanes: Vec<Value> = (0..args[0].ty.lanes)
        .filter_map(|lane| b.call(func, &args.iter().map(|&arg| b.extract(arg, lane)).collect::<Vec<_>>()))
        .collect();
    b.pack(&lanes)
}

/// 1.5 * 2^23: adding it leaves an integer in the low bits of the sum.
const ROUND: f64 = 12_582_912.0;
/// ln 2 in two parts; the first has 15 bits, so that its products with exponents are exact without fused operations too.
const LN_2_HIGH: f64 = 0.693_145_751_953_125;
const LN_2_LOW: f64 = LN_2 - LN_2_HIGH;
/// (e^r - 1 - r) / r^2 for |r| <= 0.35; e^r is off by at most 8.4e-9.
const EXP: [f64; 5] = [0.5, 0.166_665_734_239, 0.041_666_550_162_7, 0.008_363_767_023_39, 0.001_392_691_805_64];

/// x = n ln 2 + r: n as integers, r, and (e^r - 1).
fn reduce_exp<'a>(x: V<'a>, n: V<'a>) -> V<'a> {
    let r = n.fma(x.constant(-LN_2_HIGH), x);
    let r = n.fma(x.constant(-LN_2_LOW), r);
    r.poly(&EXP).fma(r * r, r)
}

/// Rounds a float to an integer: as a float and as `i32` lanes.
fn nearest(x: V<'_>, scale: f64) -> (V<'_>, V<'_>) {
    let shifted = x.fma(x.constant(scale), x.constant(ROUND));
    let n = shifted - ROUND;
    (n, shifted.bits(Lane::I32).int(Inst2::Sub, 0x4b40_0000))
}

/// 2^n for n in -126..=127.
fn power(n: V<'_>) -> V<'_> {
    n.int(Inst2::Add, 127).int(Inst2::Shl, 23).bits(Lane::F32)
}

/// n in two halves that each fit an exponent.
fn halves(n: V<'_>) -> (V<'_>, V<'_>) {
    let first = n.int(Inst2::AShr, 1);
    (first, n.both(Inst2::Sub, first))
}

/// NaN stays.
fn clamp(x: V<'_>, low: f64, high: f64) -> V<'_> {
    let (low, high) = (x.constant(low), x.constant(high));
    let x = x.is(Cmp::FLt, low).choose(low, x);
    x.is(Cmp::FGt, high).choose(high, x)
}

/// (e^r - 1 - r) / r^2 for |r| <= ln 2, fitted for the least greatest error; e^r is off by at most 1.5e-8 of itself.
const EXP_WIDE: [f64; 6] = [
    0.500_000_345_623,
    0.166_666_142_802,
    0.041_661_276_543_2,
    0.008_336_098_324_57,
    0.001_410_430_463_81,
    0.000_196_118_502_584,
];

/// x * scale / 2 rounded to an integer n: as a float, and 2^n. The exponent of 2^n is in the low bits of a sum and only shifted
/// into place, and 2^n is to be multiplied by twice: even powers of 2 reach everything a float can be.
fn half_power(x: V<'_>, scale: f64) -> (V<'_>, V<'_>) {
    let shifted = x.fma(x.constant(scale / 2.0), x.constant(ROUND + 127.0));
    (shifted - (ROUND + 127.0), shifted.bits(Lane::I32).int(Inst2::Shl, 23).bits(Lane::F32))
}

/// e^r for |r| <= ln 2.
fn exp_wide(r: V<'_>) -> V<'_> {
    r.poly(&EXP_WIDE).fma(r * r, r) + 1.0
}

/// 1.5 ulp; denormal results are rounded twice.
fn exp(x: V<'_>) -> V<'_> {
    let x = clamp(x, -104.0, 89.0);
    let (n, power) = half_power(x, LOG2_E);
    let r = n.fma(x.constant(-2.0 * LN_2_HIGH), x);
    let r = n.fma(x.constant(-2.0 * LN_2_LOW), r);
    exp_wide(r) * power * power
}

/// 1.5 ulp.
fn exp2(x: V<'_>) -> V<'_> {
    let x = clamp(x, -151.0, 129.0);
    let (n, power) = half_power(x, 1.0);
    exp_wide(n.fma(x.constant(-2.0), x) * LN_2) * power * power
}

/// 2.5 ulp. With s = 2^n in two factors: s2 (s1 (e^r - 1) + (s1 - 1 / s2)).
fn expm1(x: V<'_>) -> V<'_> {
    let at = clamp(x, -104.0, 89.0);
    let (n, int) = nearest(at, LOG2_E);
    let (first, second) = halves(int);
    let inverse = power(second.integer(0).both(Inst2::Sub, second));
    let s = power(first);
    let result = reduce_exp(at, n).fma(s, s - inverse) * power(second);
    // Keeps the sign of zero.
    x.is(Cmp::FEq, x.constant(0.0)).choose(x, result)
}

/// x = 2^e (1 + f) with 1 + f in [sqrt 1/2, sqrt 2): e as a float, f, and log(1 + f) - f.
fn reduce_log(x: V<'_>) -> (V<'_>, V<'_>, V<'_>) {
    let is_small = x.is(Cmp::FLt, x.constant(f64::from(f32::MIN_POSITIVE)));
    let scaled = is_small.choose(x * 33_554_432.0, x).bits(Lane::I32);
    // Bits relative to sqrt 1/2; the exponent's bits of the difference are e.
    let from_half = scaled.int(Inst2::Sub, 0x3f35_04f3);
    let exponent = from_half.int(Inst2::AShr, 23);
    let mantissa = from_half.int(Inst2::And, 0x007f_ffff).int(Inst2::Add, 0x3f35_04f3).bits(Lane::F32);
    let exponent = exponent.with(x.b.convert(Conv::SToF, exponent.v, Lane::F32));
    let exponent = is_small.choose(exponent - 25.0, exponent);
    let f = mantissa - 1.0;
    // log((1 + s) / (1 - s)) = 2 s + 2 s^3 / 3 + ..., s = f / (2 + f), |s| < 0.172.
    let s = f / (f + 2.0);
    let z = s * s;
    let r = z * z.poly(&[2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0]);
    let half_square = f * f * 0.5;
    (exponent, f, s * (half_square + r) - half_square)
}

/// The logarithm's value at 0, infinity, NaN and negative numbers, else the result.
fn log_special<'a>(x: V<'a>, result: V<'a>) -> V<'a> {
    let zero = x.constant(0.0);
    let result = x.is(Cmp::FLt, x.constant(f64::INFINITY)).choose(result, x);
    let result = x.is(Cmp::FEq, zero).choose(x.constant(f64::NEG_INFINITY), result);
    x.is(Cmp::FLt, zero).choose(x.constant(f64::NAN), result)
}

/// 1.5 ulp.
fn log(x: V<'_>) -> V<'_> {
    let (e, f, rest) = reduce_log(x);
    let result = e.fma(x.constant(LN_2_HIGH), e.fma(x.constant(LN_2_LOW), rest) + f);
    log_special(x, result)
}

/// 2.5 ulp.
fn log2(x: V<'_>) -> V<'_> {
    let (e, f, rest) = reduce_log(x);
    log_special(x, (f + rest).fma(x.constant(LOG2_E), e))
}

/// 2.5 ulp.
fn log10(x: V<'_>) -> V<'_> {
    let (e, f, rest) = reduce_log(x);
    log_special(x, (f + rest).fma(x.constant(LOG10_E), e * LOG10_2))
}

/// 2.5 ulp: the logarithm of the rounded 1 + x and a first-order correction for what was rounded away.
fn log1p(x: V<'_>) -> V<'_> {
    let sum = x + 1.0;
    let lost = x - (sum - 1.0);
    let log = log(sum);
    let is_lost = lost.abs().is(Cmp::FGt, x.constant(0.0));
    let result = is_lost.choose(log + lost / sum, log);
    x.is(Cmp::FEq, x.constant(0.0)).choose(x, result)
}

/// 3 ulp: -m / (m + 2) with m = e^(-2 |x|) - 1.
fn tanh(x: V<'_>) -> V<'_> {
    let m = expm1(x.abs() * -2.0);
    let result = -m / (m + 2.0);
    x.is(Cmp::FUnordered, x).choose(x, result.sign_of(x))
}

/// erf(x) / x - 1 in x^2 for |x| <= 0.9; off by at most 3.1e-10.
const ERF_SMALL: [f64; 7] = [
    0.128_379_166_789,
    -0.376_126_351_94,
    0.112_837_180_496,
    -0.026_860_664_791_3,
    0.005_204_226_694_13,
    -0.000_817_963_218_491,
    8.529401338856e-05,
];
/// -log(1 - erf(x)) for 0.9 <= x <= 4; erf is off by at most 4.4e-9 of itself.
const ERF_LARGE: [f64; 9] = [
    -0.000_318_539_664_353,
    1.130_231_055_23,
    0.631_823_918_095,
    0.110_087_166_504,
    -0.026_427_637_157_1,
    0.004_762_625_833_43,
    -0.000_597_585_770_351,
    4.616385863070e-05,
    -1.643063655530e-06,
];

/// 2.5 ulp.
fn erf(x: V<'_>) -> V<'_> {
    let size = x.abs();
    let square = x * x;
    let small = square.poly(&ERF_SMALL).fma(x, x);
    let at = clamp(size, 0.9, 4.0);
    // At most e^-1.5 and not tiny, so that the difference from 1 is exact enough and one factor scales.
    let exponent = -at.poly(&ERF_LARGE);
    let (n, int) = nearest(exponent, LOG2_E);
    let large = -((reduce_exp(exponent, n) + 1.0) * power(int) - 1.0);
    let is_small = size.is(Cmp::FLt, x.constant(0.9));
    let result = is_small.choose(small, large.sign_of(x));
    x.is(Cmp::FUnordered, x).choose(x, result)
}

/// Sine, cosine or tangent (by C's name); 1.5 ulp, tangent 3.5, sampled up to 300. Arguments are reduced in double precision; where some lane is
/// beyond 2^20 or not finite, all lanes call C's function.
fn trigonometric<'a>(x: V<'a>, name: &str) -> V<'a> {
    let b = x.b;
    let ty = x.v.ty;
    let result = b.variable(ty);
    let (usual, rare, join) = (b.label(), b.label(), b.label());
    let not = |v: V<'a>| v.int(Inst2::Xor, 1);
    let is_rare = not(x.abs().is(Cmp::FLe, x.constant(1_048_576.0)));
    b.branch(b.any(is_rare.v), rare, usual);
    b.place(rare);
    let one = Ty::scalar(Lane::F32);
    b.set(result, call_lanes(b, name, &Signature::new(&[one], Some(one)), &[x.v]));
    b.jump(join);
    b.place(usual);
    b.set(result, trigonometric_usual(x, name).v);
    b.jump(join);
    b.place(join);
    x.with(b.get(result))
}

fn trigonometric_usual<'a>(x: V<'a>, name: &str) -> V<'a> {
    // pi / 2 with 33 bits, so that its products with n < 2^20 are exact, and the rest.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let b = x.b;
    let wide = x.with(b.convert(Conv::FExt, x.v, Lane::F64));
    let shifted = wide.fma(wide.constant(FRAC_2_PI), wide.constant(6_755_399_441_055_744.0));
    let n = shifted - 6_755_399_441_055_744.0;
    let r = (wide - n * HIGH) - n * LOW;
    let r = x.with(b.convert(Conv::FTrunc, r.v, Lane::F32));
    let n = shifted.bits(Lane::I64);
    let n = x.with(b.convert(Conv::Trunc, n.v, Lane::I32));
    let z = r * r;
    // Taylor's series up to pi / 4.
    let sine = (z.poly(&[-1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362_880.0]) * z).fma(r, r);
    let cosine = z.poly(&[-0.5, 1.0 / 24.0, -1.0 / 720.0, 1.0 / 40320.0, -1.0 / 3_628_800.0]).fma(z, x.constant(1.0));
    let bit = |n: V<'a>, bit: i64| n.int(Inst2::And, bit).is(Cmp::Ne, n.integer(0));
    let is_odd = bit(n, 1);
    let result = match name {
        "sinf" => {
            let result = is_odd.choose(cosine, sine);
            bit(n, 2).choose(-result, result)
        }
        "cosf" => {
            let result = is_odd.choose(sine, cosine);
            bit(n.int(Inst2::Add, 1), 2).choose(-result, result)
        }
        _ => is_odd.choose(-cosine, sine) / is_odd.choose(sine, cosine),
    };
    // Zeros keep their signs.
    if name == "cosf" { result } else { x.is(Cmp::FEq, x.constant(0.0)).choose(x, result) }
}

/// Half precision bits to `f32`; exact.
pub(super) fn half_to_float(b: &dyn Builder, half: Value) -> Value {
    let bits = V { b, v: b.convert(Conv::ZExt, half, Lane::I32) };
    let sign = bits.int(Inst2::And, 0x8000).int(Inst2::Shl, 16);
    let rest = bits.int(Inst2::And, 0x7fff).int(Inst2::Shl, 13);
    // Exponents are moved by a product, which makes denormals normal.
    let scaled = (rest.bits(Lane::F32) * 2f64.powi(112)).bits(Lane::I32);
    let is_special = rest.is(Cmp::UGe, rest.integer(0x0f80_0000));
    let size = is_special.choose(rest.int(Inst2::Or, 0x7f80_0000), scaled);
    size.both(Inst2::Or, sign).bits(Lane::F32).v
}

/// `f32` to half precision bits, to the nearest, ties to even.
pub(super) fn float_to_half(b: &dyn Builder, float: Value) -> Value {
    let x = V { b, v: float };
    let bits = x.bits(Lane::I32);
    let sign = bits.int(Inst2::LShr, 16).int(Inst2::And, 0x8000);
    let size = bits.int(Inst2::And, 0x7fff_ffff);
    let odd = size.int(Inst2::LShr, 13).int(Inst2::And, 1);
    let normal = size.int(Inst2::Add, (-112 << 23) + 0xfff).both(Inst2::Add, odd).int(Inst2::LShr, 13);
    // Adding 1/2 leaves the bits of a denormal half, rounded, at the end of the sum.
    let small = (x.abs() + 0.5).bits(Lane::I32).int(Inst2::Sub, 0x3f00_0000);
    let result = size.is(Cmp::ULt, size.integer(0x3880_0000)).choose(small, normal);
    let result = size.is(Cmp::UGe, size.integer(0x477f_f000)).choose(size.integer(0x7c00), result);
    let result = x.is(Cmp::FUnordered, x).choose(size.integer(0x7e00), result);
    b.convert(Conv::Trunc, result.both(Inst2::Or, sign).v, Lane::I16)
}

/// Bfloat16 bits to `f32`; exact.
pub(super) fn bfloat_to_float(b: &dyn Builder, value: Value) -> Value {
    V { b, v: b.convert(Conv::ZExt, value, Lane::I32) }.int(Inst2::Shl, 16).bits(Lane::F32).v
}

/// `f32` to bfloat16 bits, to the nearest, ties to even.
pub(super) fn float_to_bfloat(b: &dyn Builder, float: Value) -> Value {
    let x = V { b, v: float };
    let bits = x.bits(Lane::I32);
    let odd = bits.int(Inst2::LShr, 16).int(Inst2::And, 1);
    let rounded = bits.int(Inst2::Add, 0x7fff).both(Inst2::Add, odd).int(Inst2::LShr, 16);
    let result = x.is(Cmp::FUnordered, x).choose(bits.integer(0x7fc0), rounded);
    b.convert(Conv::Trunc, result.v, Lane::I16)
}

/// The half precision bits of a constant.
#[allow(clippy::cast_possible_truncation, reason = "rounding and taking low bits are meant")]
pub(super) fn half_bits(value: f64) -> i16 {
    let float = value as f32;
    let (bits, size) = (float.to_bits(), float.abs().to_bits());
    let sign = bits >> 16 & 0x8000;
    let result = if float.is_nan() {
        0x7e00
    } else if size >= 0x477f_f000 {
        0x7c00
    } else if size < 0x3880_0000 {
        (float.abs() + 0.5).to_bits() - 0x3f00_0000
    } else {
        (size - (112 << 23) + 0xfff + (size >> 13 & 1)) >> 13
    };
    ((result | sign) as u16).cast_signed()
}

/// The bfloat16 bits of a constant.
#[allow(clippy::cast_possible_truncation, reason = "rounding and taking high bits are meant")]
pub(super) fn bfloat_bits(value: f64) -> i16 {
    let bits = (value as f32).to_bits();
    let result = if value.is_nan() { 0x7fc0 } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 };
    (result as u16).cast_signed()
}
