//! Discrete Fourier transforms of rows of complex numbers.
#![allow(unsafe_code, reason = "reads and writes buffers of compiled code")]

use super::Call;
use super::numeric::elements;
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::Dtype;
use std::f64::consts::TAU;

/// A complex number.
type Complex = (f64, f64);

fn product(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// Transforms of one length and direction.
struct Plan {
    n: usize,
    /// The powers of the root of unity.
    roots: Vec<Complex>,
}

impl Plan {
    fn new(n: usize, is_inverse: bool) -> Self {
        let sign = if is_inverse { 1.0 } else { -1.0 };
        let root = |k: usize| {
            let angle = TAU * k as f64 / n as f64;
            (angle.cos(), sign * angle.sin())
        };
        Self { n, roots: (0..n).map(root).collect() }
    }

    /// The transform of every `stride`-th of `from`, `to.len()` numbers: of as many parts as the least prime factor says, each
    /// by itself, then joined.
    fn run(&self, from: &[Complex], stride: usize, to: &mut [Complex]) {
        let n = to.len();
        if n == 1 {
            to[0] = from[0];
            return;
        }
        let radix = least_factor(n);
        let m = n / radix;
        for (part, rows) in to.chunks_exact_mut(m).enumerate() {
            self.run(&from[part * stride..], stride * radix, rows);
        }
        let mut parts = vec![(0.0, 0.0); radix];
        let step = self.n / n;
        for k in 0..m {
            for (part, value) in parts.iter_mut().enumerate() {
                *value = product(to[part * m + k], self.roots[part * k * step]);
            }
            for q in 0..radix {
                let mut sum = (0.0, 0.0);
                for (part, &value) in parts.iter().enumerate() {
                    let term = product(value, self.roots[part * q % radix * (self.n / radix)]);
                    sum = (sum.0 + term.0, sum.1 + term.1);
                }
                to[q * m + k] = sum;
            }
        }
    }
}

fn least_factor(n: usize) -> usize {
    // A part of four at once saves half of the passes.
    if n.is_multiple_of(4) {
        return 4;
    }
    (2..=n.isqrt()).find(|p| n.is_multiple_of(*p)).unwrap_or(n)
}

/// Transforms rows of `n` pairs of numbers.
fn rows<T: Copy>(from: &[T], to: &mut [T], plan: &Plan, scale: f64, wide: fn(T) -> f64, narrow: fn(f64) -> T) {
    let n = plan.n;
    let (mut row, mut result) = (vec![(0.0, 0.0); n], vec![(0.0, 0.0); n]);
    for (from, to) in from.chunks_exact(2 * n).zip(to.chunks_exact_mut(2 * n)) {
        for (value, pair) in row.iter_mut().zip(from.chunks_exact(2)) {
            *value = (wide(pair[0]), wide(pair[1]));
        }
        plan.run(&row, 1, &mut result);
        for (value, pair) in result.iter().zip(to.chunks_exact_mut(2)) {
            (pair[0], pair[1]) = (narrow(value.0 * scale), narrow(value.1 * scale));
        }
    }
}

/// `fft(from [.., n, 2], to [.., n, 2], is_inverse, scale)`
pub(super) fn fft(call: &mut Call<'_>) -> Result<()> {
    let (from, to, is_inverse, scale) = (call.tensor(0)?, call.tensor(1)?, call.int(2)? != 0, call.float(3)?);
    let n = match from.sizes.as_slice() {
        [.., n, 2] if from.sizes == to.sizes && from.dtype == to.dtype => usize::try_from(*n).unwrap_or(0),
        _ => return Err(Error::new(Status::Internal, "fft got buffers that do not fit")),
    };
    if n == 0 || from.n_elements() == 0 {
        return Ok(());
    }
    let plan = Plan::new(n, is_inverse);
    match from.dtype {
        Dtype::F32 => {
            // SAFETY: the element type is checked; two buffers do not overlap.
            let (from, to) = unsafe { (elements::<f32>(&from), elements::<f32>(&to)) };
            rows(from, to, &plan, scale, f64::from, |x| x as f32);
        }
        Dtype::F64 => {
            // SAFETY: as above.
            let (from, to) = unsafe { (elements::<f64>(&from), elements::<f64>(&to)) };
            rows(from, to, &plan, scale, |x| x, |x| x);
        }
        other => return Err(Error::new(Status::Unsupported, format!("fft of {}", other.name()))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_of_all_lengths_agree_with_their_definition() {
        for n in [1, 2, 3, 4, 6, 7, 8, 12, 15, 16, 20, 49] {
            let row: Vec<Complex> = (0..n).map(|i| ((i * i % 7) as f64, (i % 3) as f64 - 1.0)).collect();
            for is_inverse in [false, true] {
                let plan = Plan::new(n, is_inverse);
                let mut got = vec![(0.0, 0.0); n];
                plan.run(&row, 1, &mut got);
                for (k, got) in got.iter().enumerate() {
                    let sum = (0..n).map(|i| product(row[i], plan.roots[i * k % n]));
                    let want = sum.fold((0.0, 0.0), |a: Complex, b| (a.0 + b.0, a.1 + b.1));
                    assert!((got.0 - want.0).abs() + (got.1 - want.1).abs() < 1e-10, "{n} {k}: {got:?}, not {want:?}");
                }
            }
        }
    }
}
