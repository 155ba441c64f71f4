//! Functions of numbers that the C library lacks, for compiled code.
#![allow(unsafe_code, reason = "exports symbols and calls the C library")]

use std::f64::consts::PI;

mod c {
    unsafe extern "C" {
        pub(super) safe fn erf(x: f64) -> f64;
        pub(super) safe fn erfc(x: f64) -> f64;
        pub(super) safe fn tgamma(x: f64) -> f64;
        pub(super) safe fn ldexp(x: f64, exponent: i32) -> f64;
        pub(super) fn frexp(x: f64, exponent: *mut i32) -> f64;
    }
}

/// The gamma function.
pub(crate) fn gamma(x: f64) -> f64 {
    c::tgamma(x)
}

/// `x * 2^exponent`.
pub(crate) fn ldexp(x: f64, exponent: i64) -> f64 {
    c::ldexp(x, exponent.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// Mantissa, of magnitude 0.5 to 1, and exponent.
pub(crate) fn frexp(x: f64) -> (f64, i64) {
    let mut exponent = 0;
    // SAFETY: the pointer is to a local.
    let mantissa = unsafe { c::frexp(x, &raw mut exponent) };
    (mantissa, i64::from(exponent))
}

/// The inverse of the error function on [-1, 1]: a rough closed form (Winitzki's), then Halley steps; a few ulp of `f64`.
#[unsafe(no_mangle)]
pub extern "C" fn aot_rt_erfinv(y: f64) -> f64 {
    let size = y.abs();
    if y == 0.0 || y.is_nan() {
        return y;
    }
    if size >= 1.0 {
        return if size > 1.0 { f64::NAN } else { f64::INFINITY.copysign(y) };
    }
    let log = ((1.0 - size) * (1.0 + size)).ln();
    let first = 2.0 / (PI * 0.147) + log / 2.0;
    let mut x = ((first * first - log / 0.147).sqrt() - first).sqrt();
    for _ in 0..3 {
        // Near 1 the complements are compared, where digits are left.
        let error = if size > 0.5 { (1.0 - size) - c::erfc(x) } else { c::erf(x) - size };
        let step = error / (2.0 / PI.sqrt() * (-x * x).exp());
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

/// The logarithmic derivative of the gamma function: reflection, recurrence up to 10, then the asymptotic series; a few ulp of
/// `f64` away from its zeros.
#[unsafe(no_mangle)]
pub extern "C" fn aot_rt_digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        let fraction = x - x.floor();
        return if fraction == 0.0 { f64::NAN } else { aot_rt_digamma(1.0 - x) - PI / (PI * fraction).tan() };
    }
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    // Bernoulli numbers over twice their index.
    let terms = [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32760.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * r);
    shift + x.ln() - 0.5 / x - series
}

/// `base ^ exponent` on 64-bit integers, wrapping; negative exponents give the whole part of the result (0 for base 0).
#[unsafe(no_mangle)]
pub extern "C" fn aot_rt_pow_int(base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 => 1 - 2 * (exponent & 1),
            _ => 0,
        };
    }
    let (mut result, mut square, mut left) = (1i64, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left >>= 1;
    }
    result
}

/// Names and addresses, for linking in process.
pub(crate) fn symbols() -> [(&'static str, usize); 3] {
    [
        ("aot_rt_erfinv", aot_rt_erfinv as *const () as usize),
        ("aot_rt_digamma", aot_rt_digamma as *const () as usize),
        ("aot_rt_pow_int", aot_rt_pow_int as *const () as usize),
    ]
}

/// The greatest common divisor, which has no sign; that of 0 and 0 is 0.
pub fn gcd(a: i64, b: i64) -> i64 {
    let (mut x, mut y) = (a.unsigned_abs(), b.unsigned_abs());
    while y != 0 {
        (x, y) = (y, x % y);
    }
    x.cast_signed()
}

/// The product of the numbers up to `n`, as it wraps around.
pub fn factorial(n: i64) -> i64 {
    // Beyond 66 it is 0 and stays so.
    (1..=n.min(66)).fold(1, i64::wrapping_mul)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_and_derivatives() {
        for y in [-0.999, -0.3, 1e-10, 0.5, 0.9999] {
            assert!((c::erf(aot_rt_erfinv(y)) - y).abs() < 1e-15);
        }
        assert!((aot_rt_digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-14);
        assert!((aot_rt_digamma(-0.5) - 0.036_489_973_978_576_52).abs() < 1e-13);
        assert_eq!(aot_rt_digamma(0.0), f64::NEG_INFINITY);
        assert_eq!((aot_rt_pow_int(3, 5), aot_rt_pow_int(-1, -3), aot_rt_pow_int(2, -1)), (243, -1, 0));
    }
}
