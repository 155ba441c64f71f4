//! Special functions, element by element in double precision.
//!
//! Sources: NIST Digital Library of Mathematical Functions (chapters 5, 7, 8, 10, 18, 25). Integrals of smooth functions that
//! vanish at both ends, or repeat, are sums over even steps, which converge faster than any power of the step.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::Call;
use super::numeric::elements;
use super::text::element;
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::math::gamma;
use crate::tensor::Dtype;
use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2, FRAC_PI_4, PI};

const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;
/// The Bernoulli numbers `B_2, B_4, ...`.
const BERNOULLI: [f64; 12] = [
    1.0 / 6.0,
    -1.0 / 30.0,
    1.0 / 42.0,
    -1.0 / 30.0,
    5.0 / 66.0,
    -691.0 / 2730.0,
    7.0 / 6.0,
    -3617.0 / 510.0,
    43867.0 / 798.0,
    -174_611.0 / 330.0,
    854_513.0 / 138.0,
    -236_364_091.0 / 2730.0,
];

/// The function of this name, of one or two numbers (one leaves out the second).
fn function(name: &[u8]) -> Option<fn(f64, f64) -> f64> {
    Some(match name {
        b"i0" => |x, _| bessel_i(0, x, false),
        b"i0e" => |x, _| bessel_i(0, x, true),
        b"i1" => |x, _| bessel_i(1, x, false),
        b"i1e" => |x, _| bessel_i(1, x, true),
        b"j0" => |x, _| bessel_j(0, x),
        b"j1" => |x, _| bessel_j(1, x),
        b"y0" => |x, _| bessel_y(0, x),
        b"y1" => |x, _| bessel_y(1, x),
        b"k0" => |x, _| bessel_k(0, x, false),
        b"k1" => |x, _| bessel_k(1, x, false),
        b"k0e" => |x, _| bessel_k(0, x, true),
        b"k1e" => |x, _| bessel_k(1, x, true),
        b"spherical_j0" => |x, _| spherical_j0(x),
        b"erfcx" => |x, _| erfcx(x),
        b"ndtri" => |x, _| ndtri(x),
        b"log_ndtr" => |x, _| log_ndtr(x),
        b"zeta" => zeta,
        b"polygamma" => polygamma,
        b"igamma" => |a, x| igamma(a, x, false),
        b"igammac" => |a, x| igamma(a, x, true),
        b"chebyshev_t" => |x, n| by_order(x, n, chebyshev_t),
        b"chebyshev_u" => |x, n| by_order(x, n, chebyshev_u),
        b"chebyshev_v" => |x, n| by_order(x, n, chebyshev_v),
        b"chebyshev_w" => |x, n| by_order(x, n, chebyshev_w),
        b"shifted_chebyshev_t" => |x, n| by_order(2.0 * x - 1.0, n, chebyshev_t),
        b"shifted_chebyshev_u" => |x, n| by_order(2.0 * x - 1.0, n, chebyshev_u),
        b"shifted_chebyshev_v" => |x, n| by_order(2.0 * x - 1.0, n, chebyshev_v),
        b"shifted_chebyshev_w" => |x, n| by_order(2.0 * x - 1.0, n, chebyshev_w),
        b"hermite_h" => |x, n| by_order(x, n, |x, n| recurrence(n, 2.0 * x, |k, q, p| 2.0 * (x * q - k * p))),
        b"hermite_he" => |x, n| by_order(x, n, |x, n| recurrence(n, x, |k, q, p| x * q - k * p)),
        b"laguerre_l" => |x, n| {
            by_order(x, n, |x, n| recurrence(n, 1.0 - x, |k, q, p| ((2.0 * k + 1.0 - x) * q - k * p) / (k + 1.0)))
        },
        b"legendre_p" => {
            |x, n| by_order(x, n, |x, n| recurrence(n, x, |k, q, p| ((2.0 * k + 1.0) * x * q - k * p) / (k + 1.0)))
        }
        _ => return None,
    })
}

/// `special(name, x, y, out)`: a function of the elements of two `float64` buffers of one shape.
pub(super) fn special(call: &mut Call<'_>) -> Result<()> {
    let function =
        function(call.text(0)?).ok_or_else(|| Error::new(Status::Internal, "an unknown special function"))?;
    let (x, y, out) = (call.tensor(1)?, call.tensor(2)?, call.tensor(3)?);
    if [&x, &y, &out].iter().any(|t| t.dtype != Dtype::F64 || t.n_elements() != out.n_elements()) {
        return Err(Error::new(Status::Internal, "a special function got buffers that do not fit"));
    }
    // SAFETY: the element types are checked, and the result is a buffer of its own.
    let (x, y, out) = unsafe { (elements::<f64>(&x), elements::<f64>(&y), elements::<f64>(&out)) };
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = function(*x, *y);
    }
    Ok(())
}

/// `integers(name, x, y, out)`: `gcd` or `lcm` of the elements of `int64` buffers.
pub(super) fn integers(call: &mut Call<'_>) -> Result<()> {
    let is_multiple = call.text(0)? == b"lcm";
    let (x, y, out) = (call.tensor(1)?, call.tensor(2)?, call.tensor(3)?);
    if [&x, &y, &out].iter().any(|t| t.dtype != Dtype::I64 || t.n_elements() != out.n_elements()) {
        return Err(Error::new(Status::Internal, "gcd got buffers that do not fit"));
    }
    // SAFETY: the element types are checked, and the result is a buffer of its own.
    let (x, y, out) = unsafe { (elements::<i64>(&x), elements::<i64>(&y), elements::<i64>(&out)) };
    for ((out, &mut x), &mut y) in out.iter_mut().zip(x).zip(y) {
        let (mut a, mut b) = (x.wrapping_abs(), y.wrapping_abs());
        while b != 0 {
            (a, b) = (b, a.wrapping_rem(b));
        }
        *out = match (is_multiple, a) {
            (false, _) => a,
            (true, 0) => 0,
            (true, _) => x.wrapping_div(a).wrapping_mul(y).wrapping_abs(),
        };
    }
    Ok(())
}

/// `next_after(x, y, out)`: of each element the next number of its type towards another.
pub(super) fn next_after(call: &mut Call<'_>) -> Result<()> {
    let (x, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let next = |x: f64, y: f64, up: fn(f64) -> f64, down: fn(f64) -> f64| match x.partial_cmp(&y) {
        None => f64::NAN,
        Some(std::cmp::Ordering::Equal) => y,
        Some(std::cmp::Ordering::Less) => up(x),
        Some(std::cmp::Ordering::Greater) => down(x),
    };
    let (p, q) = (x.to_bytes(), y.to_bytes());
    let pairs = (0..out.n_elements()).map(|i| (element(&x, &p, i), element(&y, &q, i)));
    match out.dtype {
        Dtype::F64 => {
            // SAFETY: the element type is checked, and the result is a buffer of its own.
            let to = unsafe { elements::<f64>(&out) };
            to.iter_mut().zip(pairs).for_each(|(to, (x, y))| *to = next(x, y, f64::next_up, f64::next_down));
        }
        Dtype::F32 => {
            let (up, down) = (|x: f64| f64::from((x as f32).next_up()), |x: f64| f64::from((x as f32).next_down()));
            // SAFETY: as above.
            let to = unsafe { elements::<f32>(&out) };
            to.iter_mut().zip(pairs).for_each(|(to, (x, y))| *to = next(x, y, up, down) as f32);
        }
        other => return Err(Error::new(Status::Unsupported, format!("nextafter of {}", other.name()))),
    }
    Ok(())
}

/// `frexp_each(x, mantissas, exponents)`: numbers from 0.5 to 1 and powers of 2 that give the elements.
pub(super) fn frexp_each(call: &mut Call<'_>) -> Result<()> {
    let (x, mantissas, exponents) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let fits = x.dtype == Dtype::F64 && mantissas.dtype == Dtype::F64 && exponents.dtype == Dtype::I32;
    if !fits || [&mantissas, &exponents].iter().any(|t| t.n_elements() != x.n_elements()) {
        return Err(Error::new(Status::Internal, "frexp got buffers that do not fit"));
    }
    // SAFETY: the element types are checked, and results are buffers of their own.
    let (x, mantissas, exponents) =
        unsafe { (elements::<f64>(&x), elements::<f64>(&mantissas), elements::<i32>(&exponents)) };
    for ((x, mantissa), exponent) in x.iter().zip(mantissas).zip(exponents) {
        let parts = if x.is_finite() { crate::math::frexp(*x) } else { (*x, 0) };
        (*mantissa, *exponent) = (parts.0, parts.1 as i32);
    }
    Ok(())
}

/// `(1 / pi)` times the integral of `exp(x cos t) cos(n t)` from 0 to pi, of `exp(x cos t - |x|)` if scaled.
fn bessel_i(n: u32, x: f64, is_scaled: bool) -> f64 {
    if x.is_nan() {
        return x;
    }
    let size = x.abs();
    let sign = if n == 1 && x < 0.0 { -1.0 } else { 1.0 };
    if size.is_infinite() {
        return if is_scaled { 0.0 } else { sign * f64::INFINITY };
    }
    // The integrand is as narrow as `1 / sqrt(x)`.
    let n_points = 64 + (16.0 * size.sqrt()).min(1e6) as usize;
    let mut sum = 0.0;
    for i in 0..=n_points {
        let t = PI * i as f64 / n_points as f64;
        let weight = if i == 0 || i == n_points { 0.5 } else { 1.0 };
        sum += weight * (size * (t.cos() - 1.0)).exp() * (f64::from(n) * t).cos();
    }
    let scaled = sign * sum / n_points as f64;
    if is_scaled { scaled } else { scaled * size.exp() }
}

/// `(1 / pi)` times the integral of `cos(n t - x sin t)` from 0 to pi.
fn bessel_j(n: u32, x: f64) -> f64 {
    if x.is_infinite() {
        return 0.0;
    }
    if x.abs() > 1000.0 {
        let (p, q, angle) = far_bessel(n, x.abs());
        let value = (2.0 / (PI * x.abs())).sqrt() * (p * angle.cos() - q * angle.sin());
        return if n == 1 && x < 0.0 { -value } else { value };
    }
    let n_points = 64 + 2 * x.abs() as usize;
    let mut sum = 0.0;
    for i in 0..=n_points {
        let t = PI * i as f64 / n_points as f64;
        let weight = if i == 0 || i == n_points { 0.5 } else { 1.0 };
        sum += weight * (f64::from(n) * t - x * t.sin()).cos();
    }
    sum / n_points as f64
}

/// The two asymptotic sums and the angle of Bessel functions far from 0.
fn far_bessel(n: u32, x: f64) -> (f64, f64, f64) {
    let mu = 4.0 * f64::from(n * n);
    let (mut p, mut q, mut term, mut last) = (1.0, 0.0, 1.0_f64, f64::INFINITY);
    for k in 1..60 {
        let odd = f64::from(2 * k - 1);
        term *= (mu - odd * odd) / (f64::from(k) * 8.0 * x);
        if term.abs() >= last || term == 0.0 {
            break;
        }
        last = term.abs();
        let sign = if k / 2 % 2 == 0 { 1.0 } else { -1.0 };
        if k % 2 == 0 { p += sign * term } else { q += sign * term }
    }
    (p, q, x - f64::from(n) * FRAC_PI_2 - FRAC_PI_4)
}

fn bessel_y(n: u32, x: f64) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x > 12.0 {
        let (p, q, angle) = far_bessel(n, x);
        return (2.0 / (PI * x)).sqrt() * (p * angle.sin() + q * angle.cos());
    }
    let quarter = -x * x / 4.0;
    let log = (x / 2.0).ln() + EULER_GAMMA;
    let (mut term, mut harmonic, mut sum) = (1.0, 0.0, 0.0);
    if n == 0 {
        for k in 1..80 {
            term *= quarter / f64::from(k * k);
            harmonic += 1.0 / f64::from(k);
            sum -= harmonic * term;
        }
        return 2.0 / PI * (log * bessel_j(0, x) + sum);
    }
    for k in 0..80 {
        if k > 0 {
            term *= quarter / f64::from(k * (k + 1));
            harmonic += 1.0 / f64::from(k);
        }
        sum += term * (2.0 * harmonic + 1.0 / f64::from(k + 1));
    }
    2.0 / PI * log * bessel_j(1, x) - 2.0 / (PI * x) - x / (2.0 * PI) * sum
}

/// The integral of `exp(-x cosh t) cosh(n t)` from 0 on, of `exp(x - x cosh t)` if scaled.
fn bessel_k(n: u32, x: f64, is_scaled: bool) -> f64 {
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::INFINITY;
    }
    let step = (1.0 / 32.0_f64).min(1.0 / x.sqrt() / 4.0);
    let mut sum = 0.5;
    for i in 1..200_000 {
        let t = step * f64::from(i);
        let exponent = x * (t.cosh() - 1.0);
        if exponent > 750.0 {
            break;
        }
        sum += (-exponent).exp() * (f64::from(n) * t).cosh();
    }
    let scaled = step * sum;
    if is_scaled { scaled } else { scaled * (-x).exp() }
}

fn spherical_j0(x: f64) -> f64 {
    if x.is_infinite() {
        return 0.0;
    }
    if x.abs() < 0.5 {
        let square = x * x;
        return 1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0)));
    }
    x.sin() / x
}

/// `exp(x^2) erfc(x)`
fn erfcx(x: f64) -> f64 {
    if x < 2.0 {
        if x < -27.0 {
            return f64::INFINITY;
        }
        // `exp(x^2) erf(x)` is a sum of terms of one sign.
        let (mut term, mut sum) = (x, x);
        for k in 1..400 {
            term *= 2.0 * x * x / f64::from(2 * k + 1);
            sum += term;
            if term.abs() < 1e-18 * sum.abs() {
                break;
            }
        }
        return (x * x).exp() - FRAC_2_SQRT_PI * sum;
    }
    // The continued fraction, from behind.
    let mut fraction = 0.0;
    for k in (1..200).rev() {
        fraction = f64::from(k) / 2.0 / (x + fraction);
    }
    FRAC_2_SQRT_PI / 2.0 / (x + fraction)
}

fn erfc(x: f64) -> f64 {
    if x < 0.0 { 2.0 - erfc(-x) } else { erfcx(x) * (-x * x).exp() }
}

fn log_ndtr(x: f64) -> f64 {
    let scaled = x * std::f64::consts::FRAC_1_SQRT_2;
    if x < -1.0 { (erfcx(-scaled) / 2.0).ln() - scaled * scaled } else { (-erfc(scaled) / 2.0).ln_1p() }
}

/// Where the distribution function of the standard normal has this value.
fn ndtri(p: f64) -> f64 {
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return if p == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let (small, sign) = if p > 0.5 { (1.0 - p, -1.0) } else { (p, 1.0) };
    // Newton's method on the logarithm, which is concave, from the asymptotic value.
    let log = small.ln();
    let mut x = -(-2.0 * log).sqrt().max(1e-3);
    for _ in 0..60 {
        let value = log_ndtr(x);
        let slope = (-x * x / 2.0 - value).exp() / (2.0 * PI).sqrt();
        let next = (x - (value - log) / slope).min(40.0);
        if (next - x).abs() <= 1e-16 * x.abs() {
            break;
        }
        x = next;
    }
    sign * x
}

/// The sum of `(q + k)^-s` over all `k`, by Euler and Maclaurin.
fn zeta(s: f64, q: f64) -> f64 {
    if s.is_nan() || q.is_nan() || s < 1.0 {
        return f64::NAN;
    }
    if (s - 1.0).abs() < f64::EPSILON {
        return f64::INFINITY;
    }
    if q <= 0.0 {
        if q.fract() == 0.0 {
            return f64::INFINITY;
        }
        if s.fract() != 0.0 {
            return f64::NAN;
        }
    }
    let (mut sum, mut at, mut n) = (0.0, q, 0);
    while n < 9 || at <= 9.0 {
        let term = at.powf(-s);
        sum += term;
        if term.abs() < 1e-17 * sum.abs() {
            return sum;
        }
        at += 1.0;
        n += 1;
    }
    let base = at.powf(-s);
    sum += base * at / (s - 1.0) + base / 2.0;
    let (mut factor, mut power) = (s, base / at);
    for (k, bernoulli) in BERNOULLI.iter().enumerate() {
        let even = 2.0 * (k as f64 + 1.0);
        let factorial: f64 = (1..=2 * (k + 1)).map(|i| i as f64).product();
        sum += bernoulli / factorial * factor * power;
        factor *= (s + even - 1.0) * (s + even);
        power /= at * at;
    }
    sum
}

fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        return if x.fract() == 0.0 { f64::NAN } else { digamma(1.0 - x) - PI / (PI * x.fract()).tan() };
    }
    let (mut sum, mut at) = (0.0, x);
    while at < 10.0 {
        sum -= 1.0 / at;
        at += 1.0;
    }
    let square = 1.0 / (at * at);
    let mut power = square;
    sum += at.ln() - 0.5 / at;
    for (k, bernoulli) in BERNOULLI.iter().take(7).enumerate() {
        sum -= bernoulli / (2.0 * (k as f64 + 1.0)) * power;
        power *= square;
    }
    sum
}

fn polygamma(n: f64, x: f64) -> f64 {
    if n == 0.0 {
        return digamma(x);
    }
    if n == 1.0 && x < 0.5 {
        let sine = (PI * x).sin();
        return PI * PI / (sine * sine) - zeta(2.0, 1.0 - x);
    }
    let sign = if n % 2.0 == 0.0 { -1.0 } else { 1.0 };
    sign * gamma(n + 1.0) * zeta(n + 1.0, x)
}

fn log_gamma(x: f64) -> f64 {
    if x < 100.0 {
        return gamma(x).ln();
    }
    (x - 0.5) * x.ln() - x + (2.0 * PI).ln() / 2.0 + 1.0 / (12.0 * x) - 1.0 / (360.0 * x * x * x)
}

/// The regularised incomplete gamma function, lower or upper.
fn igamma(a: f64, x: f64, is_upper: bool) -> f64 {
    let (nothing, all) = if is_upper { (1.0, 0.0) } else { (0.0, 1.0) };
    if a.is_nan() || x.is_nan() || a < 0.0 || x < 0.0 {
        return f64::NAN;
    }
    if a == 0.0 {
        return if x > 0.0 { all } else { f64::NAN };
    }
    if x == 0.0 {
        return nothing;
    }
    if a.is_infinite() {
        return if x.is_infinite() { f64::NAN } else { nothing };
    }
    if x.is_infinite() {
        return all;
    }
    let front = (a * x.ln() - x - log_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for k in 1..10_000 {
            term *= x / (a + f64::from(k));
            sum += term;
            if term < 1e-17 * sum {
                break;
            }
        }
        let lower = front * sum;
        return if is_upper { 1.0 - lower } else { lower };
    }
    // The continued fraction of the upper part (Lentz).
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for k in 1..10_000 {
        let factor = -f64::from(k) * (f64::from(k) - a);
        b += 2.0;
        d = 1.0 / (factor * d + b);
        c = b + factor / c;
        let change = c * d;
        fraction *= change;
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    let upper = front * fraction;
    if is_upper { upper } else { 1.0 - upper }
}

/// A polynomial whose order is a number, cut to a whole one; negative orders give 0.
fn by_order(x: f64, n: f64, polynomial: fn(f64, u32) -> f64) -> f64 {
    if n.is_nan() || n <= -1.0 { 0.0 } else { polynomial(x, n as u32) }
}

/// The polynomial of order `n` from 1, the one of order 1 and how the next one follows from two.
fn recurrence(n: u32, first: f64, next: impl Fn(f64, f64, f64) -> f64) -> f64 {
    let (mut p, mut q) = (1.0, first);
    if n == 0 {
        return p;
    }
    for k in 1..n {
        (p, q) = (q, next(f64::from(k), q, p));
    }
    q
}

fn chebyshev_t(x: f64, n: u32) -> f64 {
    recurrence(n, x, |_, q, p| 2.0 * x * q - p)
}

fn chebyshev_u(x: f64, n: u32) -> f64 {
    recurrence(n, 2.0 * x, |_, q, p| 2.0 * x * q - p)
}

fn chebyshev_v(x: f64, n: u32) -> f64 {
    recurrence(n, 2.0 * x - 1.0, |_, q, p| 2.0 * x * q - p)
}

fn chebyshev_w(x: f64, n: u32) -> f64 {
    recurrence(n, 2.0 * x + 1.0, |_, q, p| 2.0 * x * q - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_tables() {
        let values: [(&str, f64, f64, f64); 17] = [
            ("i0", 2.0, 0.0, 2.279_585_302_336_067),
            ("i1e", -3.0, 0.0, -0.196_826_713_297_300_84),
            ("j0", 5.0, 0.0, -0.177_596_771_314_338_3),
            ("j1", 20.0, 0.0, 0.066_833_124_175_850_05),
            ("y0", 3.0, 0.0, 0.376_850_010_012_790_4),
            ("y1", 15.0, 0.0, 0.021_073_628_036_873_53),
            ("k0", 1.0, 0.0, 0.421_024_438_240_708_3),
            ("k1e", 2.0, 0.0, 1.033_476_847_068_689),
            ("erfcx", 3.0, 0.0, 0.179_001_151_181_389_4),
            ("erfcx", -1.0, 0.0, 5.008_980_080_762_283),
            ("ndtri", 0.975, 0.0, 1.959_963_984_540_054),
            ("log_ndtr", -5.0, 0.0, -15.064_998_393_988_725),
            ("zeta", 2.0, 1.0, PI * PI / 6.0),
            ("polygamma", 1.0, -0.5, 8.934_802_200_544_679),
            ("igamma", 2.0, 3.0, 0.800_851_726_528_544),
            ("chebyshev_t", 0.5, 3.0, -1.0),
            ("hermite_h", 0.5, 3.0, -5.0),
        ];
        for (name, x, y, want) in values {
            let got = function(name.as_bytes()).unwrap()(x, y);
            assert!((got - want).abs() < 1e-10 * want.abs(), "{name}({x}, {y}) = {got}, not {want}");
        }
    }
}
