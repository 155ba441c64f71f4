//! Conversions and the functions of mathematics that the standard library lacks, to about the accuracy of the type.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "conversions are what this file is for"
)]
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::cast_lossless, reason = "integers wrap")]

use super::column::Column;
use crate::loops::UnaryOp;
use crate::types::DType;
use std::f64::consts::PI;

/// A float as an `int64` the way x86 converts: what does not fit gives the least integer.
pub(super) fn f64_to_i64(x: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) { x as i64 } else { i64::MIN }
}

/// A float as an `int32` the way x86 converts.
fn f64_to_i32(x: f64) -> i32 {
    if x > -2_147_483_649.0 && x < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// A float as a `uint64`: negative numbers through the signed conversion.
fn f64_to_u64(x: f64) -> u64 {
    if x >= 9_223_372_036_854_775_808.0 {
        f64_to_i64(x - 9_223_372_036_854_775_808.0) as u64 ^ (1 << 63)
    } else {
        f64_to_i64(x) as u64
    }
}

/// An IEEE half as a float.
pub(super) fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h >> 15) << 31;
    let (exponent, fraction) = (u32::from(h >> 10) & 31, u32::from(h) & 0x3ff);
    match exponent {
        0 => {
            let value = fraction as f32 * 2f32.powi(-24);
            f32::from_bits(value.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// A float as an IEEE half, rounded half to even.
pub(super) fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let abs = bits & 0x7fff_ffff;
    if abs > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if abs >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if abs < 0x3880_0000 {
        // Subnormal or zero: adding a half lines the fraction up and rounds it.
        let rounded = f32::from_bits(abs) + 0.5;
        return sign | (rounded.to_bits() - 0.5f32.to_bits()) as u16;
    }
    let odd = abs >> 13 & 1;
    // May carry into the exponent, up to infinity; both are right.
    sign | ((abs + 0xfff + odd - (112 << 23)) >> 13) as u16
}

/// A bfloat16 as a float.
pub(super) fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// A float as a bfloat16, rounded half to even.
pub(super) fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The conversion of `Expr::Cast`.
pub(super) fn cast(column: &Column, dtype: DType) -> Result<Column, String> {
    if std::mem::discriminant(column) == std::mem::discriminant(&Column::empty(dtype)?) {
        return Ok(column.clone());
    }
    macro_rules! from_int {
        ($v:ident) => {
            match dtype {
                DType::Bool => Column::Bool($v.iter().map(|&x| x != 0).collect()),
                DType::U8 | DType::QU8 => Column::U8($v.iter().map(|&x| x as u8).collect()),
                DType::I8 | DType::QI8 => Column::I8($v.iter().map(|&x| x as i8).collect()),
                DType::I16 => Column::I16($v.iter().map(|&x| x as i16).collect()),
                DType::I32 | DType::QI32 => Column::I32($v.iter().map(|&x| x as i32).collect()),
                DType::I64 => Column::I64($v.iter().map(|&x| x as i64).collect()),
                DType::U16 => Column::U16($v.iter().map(|&x| x as u16).collect()),
                DType::U32 => Column::U32($v.iter().map(|&x| x as u32).collect()),
                DType::U64 => Column::U64($v.iter().map(|&x| x as u64).collect()),
                DType::F16 => Column::F16($v.iter().map(|&x| f32_to_f16(x as f32)).collect()),
                DType::BF16 => Column::BF16($v.iter().map(|&x| f32_to_bf16(x as f32)).collect()),
                DType::F32 => Column::F32($v.iter().map(|&x| x as f32).collect()),
                DType::F64 => Column::F64($v.iter().map(|&x| x as f64).collect()),
                DType::C64 => Column::C64($v.iter().map(|&x| [x as f32, 0.0]).collect()),
                DType::C128 => Column::C128($v.iter().map(|&x| [x as f64, 0.0]).collect()),
                DType::C32 | DType::F8E5M2 | DType::F8E4M3 => return Err(format!("conversion to {dtype}")),
            }
        };
    }
    macro_rules! from_float {
        ($v:ident) => {
            match dtype {
                DType::Bool => Column::Bool($v.iter().map(|&x| x != 0.0).collect()),
                // Narrow integers are the low bits of the `int32`, as compiled code truncates.
                DType::U8 | DType::QU8 => Column::U8($v.iter().map(|&x| f64_to_i32(x as f64) as u8).collect()),
                DType::I8 | DType::QI8 => Column::I8($v.iter().map(|&x| f64_to_i32(x as f64) as i8).collect()),
                DType::I16 => Column::I16($v.iter().map(|&x| f64_to_i32(x as f64) as i16).collect()),
                DType::U16 => Column::U16($v.iter().map(|&x| f64_to_i32(x as f64) as u16).collect()),
                DType::I32 | DType::QI32 => Column::I32($v.iter().map(|&x| f64_to_i32(x as f64)).collect()),
                DType::U32 => Column::U32($v.iter().map(|&x| f64_to_i64(x as f64) as u32).collect()),
                DType::I64 => Column::I64($v.iter().map(|&x| f64_to_i64(x as f64)).collect()),
                DType::U64 => Column::U64($v.iter().map(|&x| f64_to_u64(x as f64)).collect()),
                DType::F16 => Column::F16($v.iter().map(|&x| f32_to_f16(x as f32)).collect()),
                DType::BF16 => Column::BF16($v.iter().map(|&x| f32_to_bf16(x as f32)).collect()),
                DType::F32 => Column::F32($v.iter().map(|&x| x as f32).collect()),
                DType::F64 => Column::F64($v.iter().map(|&x| x as f64).collect()),
                DType::C64 => Column::C64($v.iter().map(|&x| [x as f32, 0.0]).collect()),
                DType::C128 => Column::C128($v.iter().map(|&x| [x as f64, 0.0]).collect()),
                DType::C32 | DType::F8E5M2 | DType::F8E4M3 => return Err(format!("conversion to {dtype}")),
            }
        };
    }
    Ok(match column {
        Column::Bool(v) => {
            let v: Vec<u8> = v.iter().map(|&x| u8::from(x)).collect();
            from_int!(v)
        }
        Column::U8(v) => from_int!(v),
        Column::I8(v) => from_int!(v),
        Column::I16(v) => from_int!(v),
        Column::I32(v) => from_int!(v),
        Column::I64(v) => from_int!(v),
        Column::U16(v) => from_int!(v),
        Column::U32(v) => from_int!(v),
        Column::U64(v) => from_int!(v),
        Column::F32(v) => from_float!(v),
        Column::F64(v) => from_float!(v),
        Column::F16(v) => {
            let v: Vec<f32> = v.iter().map(|&x| f16_to_f32(x)).collect();
            from_float!(v)
        }
        Column::BF16(v) => {
            let v: Vec<f32> = v.iter().map(|&x| bf16_to_f32(x)).collect();
            from_float!(v)
        }
        Column::C64(v) => match dtype {
            DType::C128 => Column::C128(v.iter().map(|&[re, im]| [re as f64, im as f64]).collect()),
            DType::Bool => Column::Bool(v.iter().map(|&[re, im]| re != 0.0 || im != 0.0).collect()),
            _ => Column::F32(v.iter().map(|x| x[0]).collect()).cast(dtype)?,
        },
        Column::C128(v) => match dtype {
            DType::C64 => Column::C64(v.iter().map(|&[re, im]| [re as f32, im as f32]).collect()),
            DType::Bool => Column::Bool(v.iter().map(|&[re, im]| re != 0.0 || im != 0.0).collect()),
            _ => Column::F64(v.iter().map(|x| x[0]).collect()).cast(dtype)?,
        },
    })
}

/// The operation on `f64`; `None` for those that do not give a float.
pub(super) fn unary_f64(op: UnaryOp) -> Option<fn(f64) -> f64> {
    Some(match op {
        UnaryOp::Neg => |x| -x,
        UnaryOp::Abs => f64::abs,
        UnaryOp::Not | UnaryOp::IsNan => return None,
        UnaryOp::Sqrt => f64::sqrt,
        UnaryOp::Rsqrt => |x| 1.0 / x.sqrt(),
        UnaryOp::Exp => f64::exp,
        UnaryOp::Exp2 => f64::exp2,
        UnaryOp::Expm1 => f64::exp_m1,
        UnaryOp::Log => f64::ln,
        UnaryOp::Log2 => f64::log2,
        UnaryOp::Log10 => f64::log10,
        UnaryOp::Log1p => f64::ln_1p,
        UnaryOp::Sin => f64::sin,
        UnaryOp::Cos => f64::cos,
        UnaryOp::Tan => f64::tan,
        UnaryOp::Asin => f64::asin,
        UnaryOp::Acos => f64::acos,
        UnaryOp::Atan => f64::atan,
        UnaryOp::Sinh => f64::sinh,
        UnaryOp::Cosh => f64::cosh,
        UnaryOp::Tanh => f64::tanh,
        UnaryOp::Asinh => asinh,
        UnaryOp::Acosh => acosh,
        UnaryOp::Atanh => |x| 0.5 * (2.0 * x / (1.0 - x)).ln_1p(),
        UnaryOp::Erf => erf,
        UnaryOp::Erfc => erfc,
        UnaryOp::Erfinv => erfinv,
        UnaryOp::Lgamma => lgamma,
        UnaryOp::Digamma => digamma,
        UnaryOp::Floor => f64::floor,
        UnaryOp::Ceil => f64::ceil,
        UnaryOp::Round => f64::round_ties_even,
        UnaryOp::Trunc => f64::trunc,
    })
}

/// The operation on `f32`; `None` for those that do not give a float. The rarer functions go through `f64`.
pub(super) fn unary_f32(op: UnaryOp) -> Option<fn(f32) -> f32> {
    Some(match op {
        UnaryOp::Neg => |x| -x,
        UnaryOp::Abs => f32::abs,
        UnaryOp::Not | UnaryOp::IsNan => return None,
        UnaryOp::Sqrt => f32::sqrt,
        UnaryOp::Rsqrt => |x| 1.0 / x.sqrt(),
        UnaryOp::Exp => f32::exp,
        UnaryOp::Exp2 => f32::exp2,
        UnaryOp::Expm1 => f32::exp_m1,
        UnaryOp::Log => f32::ln,
        UnaryOp::Log2 => f32::log2,
        UnaryOp::Log10 => f32::log10,
        UnaryOp::Log1p => f32::ln_1p,
        UnaryOp::Sin => f32::sin,
        UnaryOp::Cos => f32::cos,
        UnaryOp::Tan => f32::tan,
        UnaryOp::Asin => f32::asin,
        UnaryOp::Acos => f32::acos,
        UnaryOp::Atan => f32::atan,
        UnaryOp::Sinh => f32::sinh,
        UnaryOp::Cosh => f32::cosh,
        UnaryOp::Tanh => f32::tanh,
        UnaryOp::Asinh => |x| asinh(x as f64) as f32,
        UnaryOp::Acosh => |x| acosh(x as f64) as f32,
        UnaryOp::Atanh => |x| (x as f64).atanh() as f32,
        UnaryOp::Erf => |x| erf(x as f64) as f32,
        UnaryOp::Erfc => |x| erfc(x as f64) as f32,
        UnaryOp::Erfinv => |x| erfinv(x as f64) as f32,
        UnaryOp::Lgamma => |x| lgamma(x as f64) as f32,
        UnaryOp::Digamma => |x| digamma(x as f64) as f32,
        UnaryOp::Floor => f32::floor,
        UnaryOp::Ceil => f32::ceil,
        UnaryOp::Round => f32::round_ties_even,
        UnaryOp::Trunc => f32::trunc,
    })
}

fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let value = if a > 1e8 { a.ln() + std::f64::consts::LN_2 } else { (a + a * a / (1.0 + a.hypot(1.0))).ln_1p() };
    value.copysign(x)
}

fn acosh(x: f64) -> f64 {
    if x > 1e8 { x.ln() + std::f64::consts::LN_2 } else { (x - 1.0 + ((x - 1.0) * (x + 1.0)).sqrt()).ln_1p() }
}

/// The error function: below 2 by the series of positive terms, beyond through [`erfc`].
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || a > 6.0 {
        return if x.is_nan() { x } else { 1f64.copysign(x) };
    }
    if a >= 2.0 {
        return (1.0 - erfc(a)).copysign(x);
    }
    // erf x = 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (1 3 5 ... (2n+1))
    let (mut term, mut sum, mut n) = (a, a, 0.0);
    while term > sum * 1e-17 {
        n += 1.0;
        term *= 2.0 * a * a / (2.0 * n + 1.0);
        sum += term;
    }
    (2.0 / PI.sqrt() * (-a * a).exp() * sum).copysign(x)
}

/// The complement of the error function, with relative accuracy in the right tail.
fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < 2.0 {
        return 1.0 - erf(x);
    }
    if x > 28.0 {
        return 0.0;
    }
    // The continued fraction x + (1/2)/(x + 1/(x + (3/2)/(x + ...))), from the far end.
    let mut tail = x;
    for k in (1..=120).rev() {
        tail = x + f64::from(k) / 2.0 / tail;
    }
    (-x * x).exp() / (PI.sqrt() * tail)
}

/// The inverse of the error function: a rough start, then Halley steps.
fn erfinv(y: f64) -> f64 {
    if y.is_nan() || y.abs() > 1.0 {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return f64::INFINITY.copysign(y);
    }
    if y == 0.0 {
        return y;
    }
    let a = y.abs();
    let log = ((1.0 - a) * (1.0 + a)).ln();
    let first = 2.0 / (PI * 0.147) + log / 2.0;
    let mut x = ((first * first - log / 0.147).sqrt() - first).sqrt();
    for _ in 0..4 {
        // Near 1 the difference is taken between complements, where digits are left.
        let error = if a > 0.5 { (1.0 - a) - erfc(x) } else { erf(x) - a };
        let step = error / (2.0 / PI.sqrt() * (-x * x).exp());
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

/// The logarithm of the absolute value of the gamma function.
fn lgamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_93,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_13,
        -176.615_029_162_140_59,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_571_6e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x.is_nan() {
        return x;
    }
    if x.is_infinite() || (x <= 0.0 && x == x.floor()) {
        return f64::INFINITY;
    }
    if x < 0.5 {
        let sine = (PI * (x - x.round())).sin().abs();
        return (PI / sine).ln() - lgamma(1.0 - x);
    }
    if x == 1.0 || x == 2.0 {
        return 0.0;
    }
    // Lanczos' sum with g = 7.
    let z = x - 1.0;
    let series: f64 = COEFFICIENTS[1..].iter().zip(1..).map(|(c, k)| c / (z + f64::from(k))).sum();
    let t = z + 7.5;
    0.5 * (2.0 * PI).ln() + (z + 0.5) * t.ln() - t + (COEFFICIENTS[0] + series).ln()
}

/// The derivative of [`lgamma`]: recurrence up to 10, then the asymptotic series.
fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY.copysign(-x);
    }
    if x < 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        return digamma(1.0 - x) - PI / (PI * (x - x.floor())).tan();
    }
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = r
        * (1.0 / 12.0
            - r * (1.0 / 120.0 - r * (1.0 / 252.0 - r * (1.0 / 240.0 - r * (1.0 / 132.0 - r * (691.0 / 32760.0))))));
    shift + x.ln() - 0.5 / x - series
}
