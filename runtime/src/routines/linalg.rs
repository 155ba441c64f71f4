//! Factorisations of matrices, in double precision; real matrices are complex ones without imaginary parts.
//!
//! Conventions (pivots, signs, which triangle holds what) are LAPACK's, as PyTorch documents them. Batches of matrices lie one
//! after another, complex numbers as pairs in a last dimension of 2.
#![allow(unsafe_code, reason = "writes to buffers of compiled code")]

use super::Call;
use super::numeric::elements;
use super::text::element;
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

/// A complex number.
type Complex = (f64, f64);

fn add(a: Complex, b: Complex) -> Complex {
    (a.0 + b.0, a.1 + b.1)
}

fn sub(a: Complex, b: Complex) -> Complex {
    (a.0 - b.0, a.1 - b.1)
}

fn mul(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn conj(a: Complex) -> Complex {
    (a.0, -a.1)
}

fn times(a: Complex, factor: f64) -> Complex {
    (a.0 * factor, a.1 * factor)
}

fn square(a: Complex) -> f64 {
    a.0 * a.0 + a.1 * a.1
}

fn div(a: Complex, b: Complex) -> Complex {
    if b.1 == 0.0 {
        return (a.0 / b.0, a.1 / b.0);
    }
    times(mul(a, conj(b)), 1.0 / square(b))
}

/// A row-major matrix.
#[derive(Clone, Debug, PartialEq)]
struct Matrix {
    rows: usize,
    columns: usize,
    data: Vec<Complex>,
}

impl std::ops::Index<(usize, usize)> for Matrix {
    type Output = Complex;
    fn index(&self, (i, j): (usize, usize)) -> &Complex {
        &self.data[i * self.columns + j]
    }
}

impl std::ops::IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut Complex {
        &mut self.data[i * self.columns + j]
    }
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, data: vec![(0.0, 0.0); rows * columns] }
    }

    fn swap_rows(&mut self, i: usize, j: usize) {
        for k in 0..self.columns {
            self.data.swap(i * self.columns + k, j * self.columns + k);
        }
    }

    /// Triangular factors in place: `L` below the diagonal of ones, `U` from it on. Gives the rows that were exchanged and the
    /// number of the first column without a pivot, counted from 1, or 0.
    fn lu(&mut self, has_pivots: bool) -> (Vec<usize>, usize) {
        let n = self.rows.min(self.columns);
        let (mut pivots, mut info) = (Vec::with_capacity(n), 0);
        for k in 0..n {
            let size = |z: Complex| z.0.abs() + z.1.abs();
            let mut best = k;
            for i in k + 1..self.rows {
                if has_pivots && size(self[(i, k)]) > size(self[(best, k)]) {
                    best = i;
                }
            }
            pivots.push(best);
            self.swap_rows(k, best);
            let pivot = self[(k, k)];
            if pivot == (0.0, 0.0) {
                info = if info == 0 { k + 1 } else { info };
                continue;
            }
            for i in k + 1..self.rows {
                let factor = div(self[(i, k)], pivot);
                self[(i, k)] = factor;
                for j in k + 1..self.columns {
                    self[(i, j)] = sub(self[(i, j)], mul(factor, self[(k, j)]));
                }
            }
        }
        (pivots, info)
    }

    /// The lower triangle whose product with its conjugate transpose this is, and the order of the first minor that is not
    /// positive, or 0.
    fn cholesky(&self) -> (Self, usize) {
        let n = self.rows;
        let mut l = Self::zeros(n, n);
        for j in 0..n {
            let sum: f64 = (0..j).map(|k| square(l[(j, k)])).sum();
            let left = self[(j, j)].0 - sum;
            if left.is_nan() || left <= 0.0 {
                return (l, j + 1);
            }
            let pivot = left.sqrt();
            l[(j, j)] = (pivot, 0.0);
            for i in j + 1..n {
                let sum = (0..j).fold((0.0, 0.0), |sum, k| add(sum, mul(l[(i, k)], conj(l[(j, k)]))));
                l[(i, j)] = times(sub(self[(i, j)], sum), 1.0 / pivot);
            }
        }
        (l, 0)
    }

    /// The solution of a triangular system; only that triangle is read.
    fn solve_triangular(&self, right: &mut Self, is_upper: bool, has_unit_diagonal: bool) {
        let n = self.rows;
        for step in 0..n {
            let i = if is_upper { n - 1 - step } else { step };
            for column in 0..right.columns {
                let others = if is_upper { i + 1..n } else { 0..i };
                let sum = others.fold(right[(i, column)], |sum, k| sub(sum, mul(self[(i, k)], right[(k, column)])));
                right[(i, column)] = if has_unit_diagonal { sum } else { div(sum, self[(i, i)]) };
            }
        }
    }

    /// Reflectors in place: `R` from the diagonal on, below it the vectors `v` without their leading 1, and the factors `tau`
    /// of `1 - tau v v*`.
    fn reflect(&mut self) -> Vec<Complex> {
        let n = self.rows.min(self.columns);
        let mut factors = Vec::with_capacity(n);
        for k in 0..n {
            let rest: f64 = (k + 1..self.rows).map(|i| square(self[(i, k)])).sum();
            let head = self[(k, k)];
            if rest == 0.0 && head.1 == 0.0 {
                factors.push((0.0, 0.0));
                continue;
            }
            let length = (square(head) + rest).sqrt();
            let beta = if head.0 >= 0.0 { -length } else { length };
            let tau = ((beta - head.0) / beta, -head.1 / beta);
            let scale = div((1.0, 0.0), sub(head, (beta, 0.0)));
            for i in k + 1..self.rows {
                self[(i, k)] = mul(self[(i, k)], scale);
            }
            self[(k, k)] = (beta, 0.0);
            for j in k + 1..self.columns {
                let sum = (k + 1..self.rows).fold(self[(k, j)], |s, i| add(s, mul(conj(self[(i, k)]), self[(i, j)])));
                let sum = mul(conj(tau), sum);
                self[(k, j)] = sub(self[(k, j)], sum);
                for i in k + 1..self.rows {
                    self[(i, j)] = sub(self[(i, j)], mul(self[(i, k)], sum));
                }
            }
            factors.push(tau);
        }
        factors
    }

    /// The first columns of the product of reflectors.
    fn product_of_reflectors(&self, factors: &[Complex], columns: usize) -> Self {
        let mut q = Self::zeros(self.rows, columns);
        for i in 0..self.rows.min(columns) {
            q[(i, i)] = (1.0, 0.0);
        }
        for (k, &tau) in factors.iter().enumerate().rev() {
            for j in 0..columns {
                let sum = (k + 1..self.rows).fold(q[(k, j)], |s, i| add(s, mul(conj(self[(i, k)]), q[(i, j)])));
                let sum = mul(tau, sum);
                q[(k, j)] = sub(q[(k, j)], sum);
                for i in k + 1..self.rows {
                    q[(i, j)] = sub(q[(i, j)], mul(self[(i, k)], sum));
                }
            }
        }
        q
    }

    /// Makes the columns orthogonal by rotations of pairs (one-sided Jacobi): gives the unit columns, their lengths and the
    /// rotations, longest first. A matrix has at least as many rows as columns.
    fn singular(mut self) -> (Self, Vec<f64>, Self) {
        const MAX_SWEEPS: usize = 60;
        let n = self.columns;
        let mut v = Self::zeros(n, n);
        for i in 0..n {
            v[(i, i)] = (1.0, 0.0);
        }
        for _ in 0..MAX_SWEEPS {
            let mut is_done = true;
            for p in 0..n {
                for q in p + 1..n {
                    let (mut alpha, mut beta, mut gamma) = (0.0, 0.0, (0.0, 0.0));
                    for i in 0..self.rows {
                        alpha += square(self[(i, p)]);
                        beta += square(self[(i, q)]);
                        gamma = add(gamma, mul(conj(self[(i, p)]), self[(i, q)]));
                    }
                    let size = square(gamma).sqrt();
                    if size <= 1e-15 * (alpha * beta).sqrt() || size == 0.0 {
                        continue;
                    }
                    is_done = false;
                    let phase = times(gamma, 1.0 / size);
                    let zeta = (beta - alpha) / (2.0 * size);
                    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                    let c = 1.0 / (1.0 + t * t).sqrt();
                    let s = c * t;
                    for m in [&mut self, &mut v] {
                        for i in 0..m.rows {
                            let (x, y) = (m[(i, p)], mul(m[(i, q)], conj(phase)));
                            m[(i, p)] = sub(times(x, c), times(y, s));
                            m[(i, q)] = add(times(x, s), times(y, c));
                        }
                    }
                }
            }
            if is_done {
                break;
            }
        }
        let lengths: Vec<f64> =
            (0..n).map(|j| (0..self.rows).map(|i| square(self[(i, j)])).sum::<f64>().sqrt()).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| lengths[j].total_cmp(&lengths[i]));
        let (mut u, mut w) = (Self::zeros(self.rows, n), Self::zeros(n, n));
        for (to, &from) in order.iter().enumerate() {
            for i in 0..self.rows {
                let unit = if lengths[from] > 0.0 { 1.0 / lengths[from] } else { 0.0 };
                u[(i, to)] = times(self[(i, from)], unit);
            }
            for i in 0..n {
                w[(i, to)] = v[(i, from)];
            }
        }
        (u, order.iter().map(|&i| lengths[i]).collect(), w)
    }

    /// Eigenvalues and eigenvectors of a Hermitian matrix, of which the lower triangle is read, the least first (Jacobi).
    fn hermitian(&self) -> (Vec<f64>, Self) {
        const MAX_SWEEPS: usize = 60;
        let n = self.rows;
        let mut a = self.clone();
        for i in 0..n {
            a[(i, i)].1 = 0.0;
            for j in i + 1..n {
                a[(i, j)] = conj(a[(j, i)]);
            }
        }
        let mut v = Self::zeros(n, n);
        for i in 0..n {
            v[(i, i)] = (1.0, 0.0);
        }
        for _ in 0..MAX_SWEEPS {
            let whole: f64 = a.data.iter().map(|z| square(*z)).sum();
            let rest: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|at| square(a[at])).sum();
            if rest <= 1e-32 * whole {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    let gamma = a[(p, q)];
                    let size = square(gamma).sqrt();
                    if size == 0.0 {
                        continue;
                    }
                    let phase = times(gamma, 1.0 / size);
                    let theta = (a[(q, q)].0 - a[(p, p)].0) / (2.0 * size);
                    let sign = if theta < 0.0 { -1.0 } else { 1.0 };
                    let t = sign / (theta.abs() + (1.0 + theta * theta).sqrt());
                    let c = 1.0 / (1.0 + t * t).sqrt();
                    let s = c * t;
                    // Columns turn with the conjugate phase, then rows the other way.
                    for m in [&mut a, &mut v] {
                        for i in 0..n {
                            let (x, y) = (m[(i, p)], mul(m[(i, q)], conj(phase)));
                            m[(i, p)] = sub(times(x, c), times(y, s));
                            m[(i, q)] = add(times(x, s), times(y, c));
                        }
                    }
                    for j in 0..n {
                        let (x, y) = (a[(p, j)], mul(a[(q, j)], phase));
                        a[(p, j)] = sub(times(x, c), times(y, s));
                        a[(q, j)] = add(times(x, s), times(y, c));
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a[(i, i)].0.total_cmp(&a[(j, j)].0));
        let mut w = Self::zeros(n, n);
        for (to, &from) in order.iter().enumerate() {
            for i in 0..n {
                w[(i, to)] = v[(i, from)];
            }
        }
        (order.iter().map(|&i| a[(i, i)].0).collect(), w)
    }
}

impl Matrix {
    fn times(&self, other: &Self) -> Self {
        let mut product = Self::zeros(self.rows, other.columns);
        for i in 0..self.rows {
            for k in 0..self.columns {
                for j in 0..other.columns {
                    product[(i, j)] = add(product[(i, j)], mul(self[(i, k)], other[(k, j)]));
                }
            }
        }
        product
    }

    /// The sum of powers over factorials, of the matrix halved until it is small; squared as often.
    fn exponential(&self) -> Self {
        const N_TERMS: u32 = 20;
        let n = self.rows;
        let row = |i: usize| (0..n).map(|j| square(self[(i, j)]).sqrt()).sum::<f64>();
        let size = (0..n).map(row).fold(0.0, f64::max);
        let halvings = if size.is_finite() { size.log2().ceil().max(0.0) as u32 } else { 0 };
        let mut small = self.clone();
        small.data.iter_mut().for_each(|z| *z = times(*z, 0.5_f64.powi(halvings as i32)));
        let mut sum = Self::zeros(n, n);
        (0..n).for_each(|i| sum[(i, i)] = (1.0, 0.0));
        let mut term = sum.clone();
        for k in 1..N_TERMS {
            term = term.times(&small);
            term.data.iter_mut().for_each(|z| *z = times(*z, 1.0 / f64::from(k)));
            sum.data.iter_mut().zip(&term.data).for_each(|(sum, z)| *sum = add(*sum, *z));
        }
        for _ in 0..halvings {
            sum = sum.times(&sum);
        }
        sum
    }
}

/// The matrices of a buffer; `is_complex` says that its last dimension holds the parts of numbers.
fn read(tensor: &Tensor, is_complex: bool) -> Result<Vec<Matrix>> {
    let sizes = if is_complex { &tensor.sizes[..tensor.sizes.len().saturating_sub(1)] } else { &tensor.sizes[..] };
    let &[.., rows, columns] = sizes else {
        return Err(Error::new(Status::Internal, "a factorisation got no matrix"));
    };
    let (rows, columns) = (rows as usize, columns as usize);
    let bytes = tensor.to_bytes();
    let per_number = if is_complex { 2 } else { 1 };
    let number = |i: usize| {
        let im = if is_complex { element(tensor, &bytes, 2 * i + 1) } else { 0.0 };
        (element(tensor, &bytes, per_number * i), im)
    };
    let size = rows * columns;
    // An empty matrix is one, too.
    let n: i64 = sizes[..sizes.len() - 2].iter().product();
    let n = n as usize;
    let matrix = |at: usize| Matrix { rows, columns, data: (at * size..(at + 1) * size).map(number).collect() };
    Ok((0..n).map(matrix).collect())
}

/// Writes numbers to a buffer, one after another; without `is_complex` only their real parts.
fn write(tensor: &Tensor, numbers: impl Iterator<Item = Complex>, is_complex: bool) -> Result<()> {
    let parts = numbers.flat_map(|z| [Some(z.0), is_complex.then_some(z.1)]).flatten();
    match tensor.dtype {
        // SAFETY: the element type is checked, and results are buffers of their own.
        Dtype::F32 => unsafe { elements::<f32>(tensor) }.iter_mut().zip(parts).for_each(|(to, x)| *to = x as f32),
        // SAFETY: as above.
        Dtype::F64 => unsafe { elements::<f64>(tensor) }.iter_mut().zip(parts).for_each(|(to, x)| *to = x),
        other => return Err(Error::new(Status::Unsupported, format!("a factorisation of {}", other.name()))),
    }
    Ok(())
}

fn write_all(tensor: &Tensor, matrices: &[Matrix], is_complex: bool) -> Result<()> {
    write(tensor, matrices.iter().flat_map(|m| m.data.iter().copied()), is_complex)
}

fn write_ints(tensor: &Tensor, numbers: impl Iterator<Item = usize>) -> Result<()> {
    if tensor.dtype != Dtype::I32 {
        return Err(Error::new(Status::Internal, "a factorisation writes 32-bit integers"));
    }
    // SAFETY: the element type is checked, and results are buffers of their own.
    unsafe { elements::<i32>(tensor) }.iter_mut().zip(numbers).for_each(|(to, n)| *to = n as i32);
    Ok(())
}

/// `lu(a, lu, pivots, info, is_complex, has_pivots)`
pub(super) fn lu(call: &mut Call<'_>) -> Result<()> {
    let (is_complex, has_pivots) = (call.int(4)? != 0, call.int(5)? != 0);
    let mut matrices = read(&call.tensor(0)?, is_complex)?;
    let (mut pivots, mut infos) = (Vec::new(), Vec::new());
    for m in &mut matrices {
        let (rows, info) = m.lu(has_pivots);
        pivots.extend(rows.into_iter().map(|row| row + 1));
        infos.push(info);
    }
    write_all(&call.tensor(1)?, &matrices, is_complex)?;
    write_ints(&call.tensor(2)?, pivots.into_iter())?;
    write_ints(&call.tensor(3)?, infos.into_iter().chain(std::iter::repeat(0)))
}

/// `exchanged(rows, pivots, to, is_complex, is_inverse)`: the rows of matrices in the order that pivots exchange them to, or
/// back from there.
pub(super) fn exchanged(call: &mut Call<'_>) -> Result<()> {
    let (is_complex, is_inverse) = (call.int(3)? != 0, call.int(4)? != 0);
    let mut matrices = read(&call.tensor(0)?, is_complex)?;
    let pivots = call.tensor(1)?;
    let bytes = pivots.to_bytes();
    let n = usize::try_from(pivots.sizes.last().copied().unwrap_or(0)).unwrap_or(0);
    for (at, m) in matrices.iter_mut().enumerate() {
        for step in 0..n {
            let i = if is_inverse { n - 1 - step } else { step };
            let j = element(&pivots, &bytes, at * n + i) as usize;
            if j < 1 || j > m.rows {
                return super::raise(
                    "RuntimeError",
                    "pivots passed to lu_solve must be greater or equal to 1 and at most the number of rows",
                );
            }
            m.swap_rows(i, j - 1);
        }
    }
    write_all(&call.tensor(2)?, &matrices, is_complex)
}

/// `cholesky(a, l, info, is_complex)`
pub(super) fn cholesky(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(3)? != 0;
    let factors: Vec<_> = read(&call.tensor(0)?, is_complex)?.iter().map(Matrix::cholesky).collect();
    write(&call.tensor(1)?, factors.iter().flat_map(|(l, _)| l.data.iter().copied()), is_complex)?;
    write_ints(&call.tensor(2)?, factors.iter().map(|(_, info)| *info).chain(std::iter::repeat(0)))
}

/// `solve_triangular(a, right, x, is_complex, is_upper, has_unit_diagonal)`
pub(super) fn solve_triangular(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(3)? != 0;
    let (is_upper, has_unit_diagonal) = (call.int(4)? != 0, call.int(5)? != 0);
    let matrices = read(&call.tensor(0)?, is_complex)?;
    let mut right = read(&call.tensor(1)?, is_complex)?;
    for (a, x) in matrices.iter().zip(&mut right) {
        a.solve_triangular(x, is_upper, has_unit_diagonal);
    }
    write_all(&call.tensor(2)?, &right, is_complex)
}

/// `reflectors(a, packed, tau, is_complex)`
pub(super) fn reflectors(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(3)? != 0;
    let mut matrices = read(&call.tensor(0)?, is_complex)?;
    let factors: Vec<_> = matrices.iter_mut().flat_map(Matrix::reflect).collect();
    write_all(&call.tensor(1)?, &matrices, is_complex)?;
    write(&call.tensor(2)?, factors.into_iter(), is_complex)
}

/// `reflected(packed, tau, q, is_complex)`: the first columns of the product of reflectors, as many as `q` has.
pub(super) fn reflected(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(3)? != 0;
    let (packed, tau, q) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let matrices = read(&packed, is_complex)?;
    let own = if is_complex { 2 } else { 1 };
    let n = tau.sizes.get(tau.sizes.len().wrapping_sub(own)).map_or(0, |n| *n as usize);
    let columns = q.sizes.get(q.sizes.len().wrapping_sub(own)).map_or(0, |n| *n as usize);
    let bytes = tau.to_bytes();
    let number = |i: usize| {
        let im = if is_complex { element(&tau, &bytes, 2 * i + 1) } else { 0.0 };
        (element(&tau, &bytes, own * i), im)
    };
    let products: Vec<_> = matrices
        .iter()
        .enumerate()
        .map(|(at, m)| {
            let factors: Vec<_> = (at * n..(at + 1) * n).map(number).collect();
            m.product_of_reflectors(&factors, columns)
        })
        .collect();
    write_all(&q, &products, is_complex)
}

/// `singular(a, u, s, v, is_complex)`: `a = u diag(s) v*`, of matrices with at least as many rows as columns.
pub(super) fn singular(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(4)? != 0;
    let parts: Vec<_> = read(&call.tensor(0)?, is_complex)?.into_iter().map(Matrix::singular).collect();
    write(&call.tensor(1)?, parts.iter().flat_map(|(u, ..)| u.data.iter().copied()), is_complex)?;
    write(&call.tensor(2)?, parts.iter().flat_map(|(_, s, _)| s.iter().map(|s| (*s, 0.0))), false)?;
    write(&call.tensor(3)?, parts.iter().flat_map(|(.., v)| v.data.iter().copied()), is_complex)
}

/// `hermitian(a, values, vectors, is_complex)`
pub(super) fn hermitian(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(3)? != 0;
    let parts: Vec<_> = read(&call.tensor(0)?, is_complex)?.iter().map(Matrix::hermitian).collect();
    write(&call.tensor(1)?, parts.iter().flat_map(|(w, _)| w.iter().map(|w| (*w, 0.0))), false)?;
    write(&call.tensor(2)?, parts.iter().flat_map(|(_, v)| v.data.iter().copied()), is_complex)
}

/// `exponential(a, out, is_complex)`
pub(super) fn exponential(call: &mut Call<'_>) -> Result<()> {
    let is_complex = call.int(2)? != 0;
    let results: Vec<_> = read(&call.tensor(0)?, is_complex)?.iter().map(Matrix::exponential).collect();
    write_all(&call.tensor(1)?, &results, is_complex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, columns: usize, is_complex: bool) -> Matrix {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        };
        let data = (0..rows * columns).map(|_| (next(), if is_complex { next() } else { 0.0 })).collect();
        Matrix { rows, columns, data }
    }

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        a.times(b)
    }

    fn adjoint(a: &Matrix) -> Matrix {
        let mut c = Matrix::zeros(a.columns, a.rows);
        for i in 0..a.rows {
            for j in 0..a.columns {
                c[(j, i)] = conj(a[(i, j)]);
            }
        }
        c
    }

    fn is_near(a: &Matrix, b: &Matrix) -> bool {
        a.data.iter().zip(&b.data).all(|(x, y)| square(sub(*x, *y)) < 1e-20)
    }

    #[test]
    fn factors_multiply_to_the_matrix() {
        for is_complex in [false, true] {
            let a = sample(5, 3, is_complex);
            let mut packed = a.clone();
            let tau = packed.reflect();
            let q = packed.product_of_reflectors(&tau, 3);
            let mut r = Matrix::zeros(3, 3);
            (0..3).for_each(|i| (i..3).for_each(|j| r[(i, j)] = packed[(i, j)]));
            assert!(is_near(&product(&q, &r), &a));
            let (u, s, v) = a.clone().singular();
            let mut scaled = u;
            (0..5).for_each(|i| (0..3).for_each(|j| scaled[(i, j)] = times(scaled[(i, j)], s[j])));
            assert!(is_near(&product(&scaled, &adjoint(&v)), &a));
            let gram = product(&adjoint(&a), &a);
            let (l, info) = gram.cholesky();
            assert!(info == 0 && is_near(&product(&l, &adjoint(&l)), &gram));
            let (w, v) = gram.hermitian();
            let mut scaled = v.clone();
            (0..3).for_each(|i| (0..3).for_each(|j| scaled[(i, j)] = times(scaled[(i, j)], w[j])));
            assert!(is_near(&product(&scaled, &adjoint(&v)), &gram));
            assert!(w.is_sorted());
        }
    }

    #[test]
    fn triangular_factors_solve_with_exchanged_rows() {
        let a = sample(4, 4, true);
        let right = sample(4, 2, true);
        let mut lu = a.clone();
        let (pivots, info) = lu.lu(true);
        assert_eq!(info, 0);
        let mut x = right.clone();
        pivots.iter().enumerate().for_each(|(i, &j)| x.swap_rows(i, j));
        lu.solve_triangular(&mut x, false, true);
        lu.solve_triangular(&mut x, true, false);
        assert!(is_near(&product(&a, &x), &right));
    }
}
