//! Linear algebra: triangular factors, what they solve, and the parts of matrices that are orthogonal.
//!
//! Routines factorise batches of matrices; everything else is made of the factors by operators. Complex matrices go to the
//! routines as pairs of floats.

use super::complex::{as_complex, as_floats, joined, parts};
use super::compound::{call, call_tensor};
use super::pointwise::{elementwise, number, unary};
use super::reduce::{Over, sum_over};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, BufferId, Const, Dim, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::linalg_lu_factor", lower: |b, a| lu_factors(b, a, 1, Some(true), false) },
    OpDef { name: "aten::linalg_lu_factor_ex", lower: |b, a| lu_factors(b, a, 1, None, true) },
    OpDef { name: "aten::_lu_with_info", lower: |b, a| lu_factors(b, a, 1, None, true) },
    OpDef { name: "aten::lu_unpack", lower: lu_unpack },
    OpDef { name: "aten::linalg_lu", lower: linalg_lu },
    OpDef { name: "aten::linalg_lu_solve", lower: linalg_lu_solve },
    OpDef { name: "aten::lu_solve", lower: lu_solve },
    OpDef { name: "aten::linalg_solve", lower: |b, a| solve(b, a, false) },
    OpDef { name: "aten::linalg_solve_ex", lower: |b, a| solve(b, a, true) },
    OpDef { name: "aten::linalg_inv", lower: |b, a| inverse(b, a, false) },
    OpDef { name: "aten::inverse", lower: |b, a| inverse(b, a, false) },
    OpDef { name: "aten::linalg_inv_ex", lower: |b, a| inverse(b, a, true) },
    OpDef { name: "aten::linalg_det", lower: determinant },
    OpDef { name: "aten::det", lower: determinant },
    OpDef { name: "aten::linalg_slogdet", lower: |b, a| log_determinant(b, a, true) },
    OpDef { name: "aten::slogdet", lower: |b, a| log_determinant(b, a, true) },
    OpDef { name: "aten::logdet", lower: |b, a| log_determinant(b, a, false) },
    OpDef { name: "aten::linalg_cholesky", lower: |b, a| cholesky(b, a, false) },
    OpDef { name: "aten::cholesky", lower: |b, a| cholesky(b, a, false) },
    OpDef { name: "aten::linalg_cholesky_ex", lower: |b, a| cholesky(b, a, true) },
    OpDef { name: "aten::cholesky_solve", lower: cholesky_solve },
    OpDef { name: "aten::cholesky_inverse", lower: cholesky_inverse },
    OpDef { name: "aten::triangular_solve", lower: triangular_solve },
    OpDef { name: "aten::linalg_solve_triangular", lower: linalg_solve_triangular },
    OpDef { name: "aten::linalg_qr", lower: linalg_qr },
    OpDef { name: "aten::qr", lower: qr },
    OpDef { name: "aten::geqrf", lower: geqrf },
    OpDef { name: "aten::orgqr", lower: householder_product },
    OpDef { name: "aten::linalg_householder_product", lower: householder_product },
    OpDef { name: "aten::ormqr", lower: ormqr },
];

/// A batch of matrices as routines take it.
pub struct Matrices {
    /// The numbers, as pairs of floats if they are complex.
    floats: Tensor,
    /// Whether they are.
    pub is_complex: bool,
}

impl Matrices {
    /// Refuses what PyTorch does not factorise.
    pub fn new(b: &mut Builder<'_>, x: &Tensor) -> Result<Self> {
        let name = b.op_name.replacen("linalg_", "linalg.", 1);
        if x.rank() < 2 {
            return Err(b.user(format!("{name}: The input tensor A must have at least 2 dimensions.")));
        }
        if x.dtype.is_complex() {
            return Ok(Self { floats: as_floats(b, x)?, is_complex: true });
        }
        if !matches!(x.dtype, DType::F32 | DType::F64) {
            let found = x.dtype.graph_name();
            return Err(b.user(format!("{name}: Expected a floating point or complex tensor as input. Got {found}")));
        }
        Ok(Self { floats: x.clone(), is_complex: false })
    }

    /// The extents of the numbers.
    pub fn dims(&self) -> &[Dim] {
        let rank = self.floats.rank() - usize::from(self.is_complex);
        &self.floats.dims[..rank]
    }

    /// The extents before those of a matrix.
    pub fn batch(&self) -> &[Dim] {
        &self.dims()[..self.dims().len() - 2]
    }

    /// Rows and columns.
    pub fn sizes(&self) -> [Dim; 2] {
        let dims = self.dims();
        [dims[dims.len() - 2], dims[dims.len() - 1]]
    }

    /// The lesser of both.
    pub fn least(&self, b: &mut Builder<'_>) -> Dim {
        let [rows, columns] = self.sizes();
        let least = b.binary(BinaryOp::Min, rows.into(), columns.into());
        b.dim(least)
    }

    fn input(&self, b: &mut Builder<'_>) -> Arg {
        Arg::Buffer(b.row_major(&self.floats))
    }

    /// A buffer for numbers of the same kind.
    pub fn output(&self, b: &mut Builder<'_>, dims: &[Dim]) -> BufferId {
        let pair: &[Dim] = if self.is_complex { &[Dim::Const(2)] } else { &[] };
        b.new_buffer(self.floats.dtype, &[dims, pair].concat())
    }

    /// The numbers that a routine wrote.
    pub fn numbers(&self, b: &mut Builder<'_>, buffer: BufferId) -> Tensor {
        let floats = b.tensor_of(buffer);
        if self.is_complex { as_complex(b, &floats) } else { floats }
    }

    /// The type of real numbers beside these.
    pub fn real_type(&self) -> DType {
        self.floats.dtype
    }

    /// Calls a routine on this, other inputs and outputs; what follows are the flags, first of which is `is_complex`.
    pub fn call(&self, b: &mut Builder<'_>, routine: &'static str, rest: &[&Self], out: &[BufferId], flags: &[bool]) {
        let mut args = vec![self.input(b)];
        for other in rest {
            args.push(other.input(b));
        }
        args.extend(out.iter().map(|buffer| Arg::Buffer(*buffer)));
        let flags = [&[self.is_complex], flags].concat();
        args.extend(flags.into_iter().map(|flag| Arg::Scalar(int(i64::from(flag)))));
        b.call(routine, args, &[]);
    }

    /// Refuses matrices that are not square.
    pub fn expect_square(&self, b: &mut Builder<'_>) -> Result<Dim> {
        let [rows, columns] = self.sizes();
        let name = b.op_name.replacen("linalg_", "linalg.", 1);
        let message = "{}: A must be batches of square matrices, but they are {} by {} matrices";
        b.require_equal(rows, columns, Message::new(message, &[name.as_str().into(), rows.into(), columns.into()]))?;
        Ok(columns)
    }
}

/// Triangular factors, which rows were exchanged, and where a pivot is missing.
struct Lu {
    factors: Tensor,
    pivots: Tensor,
    info: Tensor,
}

fn lu(b: &mut Builder<'_>, x: &Tensor, has_pivots: bool) -> Result<Lu> {
    let m = Matrices::new(b, x)?;
    let least = m.least(b);
    let factors = m.output(b, &x.dims);
    let pivots = b.new_buffer(DType::I32, &[m.batch(), &[least]].concat());
    let info = b.new_buffer(DType::I32, m.batch());
    m.call(b, "lu", &[], &[factors, pivots, info], &[has_pivots]);
    Ok(Lu { factors: m.numbers(b, factors), pivots: b.tensor_of(pivots), info: b.tensor_of(info) })
}

/// Ends the program where an `info` is not 0, with a message that begins with the operator and the matrix of a batch that is to
/// blame. Each `{}` of the message is that `info`.
fn check_info(b: &mut Builder<'_>, info: &Tensor, operator: &str, message: &str) {
    let numel = b.product(&info.dims);
    let n = b.dim(numel);
    let line = views::reshape(b, info, &[n]);
    let fails = |k: &mut KernelBuilder<'_, '_>, over: &[ExprId]| {
        let (v, zero) = (k.load(&line, over), k.zero(DType::I32));
        k.binary(BinaryOp::Ne, v, zero)
    };
    let first = b.reduce(
        ReduceOp::Min,
        DType::I64,
        &[],
        &[n],
        |k, _, over| {
            let (fails, none) = (fails(k, over), k.dim(n));
            k.select(fails, over[0], none)
        },
        |k, _, first| {
            // Of no matrices at all none fails.
            let none = k.dim(n);
            k.min(first, none)
        },
    );
    let order = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[],
        &[n],
        |k, _, over| {
            let (v, at, zero) = (k.load(&line, over), k.load(&first, &[]), k.int(0));
            let (v, is_first) = (k.cast(DType::I64, v), k.binary(BinaryOp::Eq, over[0], at));
            k.select(is_first, v, zero)
        },
        |_, _, v| v,
    );
    let (first, order) = (b.item(&first), b.item(&order));
    let holds = b.binary(BinaryOp::Eq, first.clone(), n.into());
    let (batch, mut parts) = if info.rank() == 0 { ("", Vec::new()) } else { (" (Batch element {}):", vec![&first]) };
    parts.resize(parts.len() + message.matches("{}").count(), &order);
    let parts: Vec<_> = parts.into_iter().map(Into::into).collect();
    b.check(holds, Message::new(&format!("{operator}:{batch} {message}"), &parts));
}

/// Factors and pivots, and the info where that is part of the result. `checks` is whether a missing pivot raises; `None`
/// where the argument after the flag for pivots says so.
fn lu_factors(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    at: usize,
    checks: Option<bool>,
    gives_info: bool,
) -> Result<Value> {
    let has_pivots = args.flag(b, at)?;
    let lu = lu(b, &args.tensor(0)?, has_pivots)?;
    let checks = match checks {
        Some(checks) => checks,
        None => args.flag(b, at + 1)?,
    };
    if checks {
        check_info(
            b,
            &lu.info,
            if gives_info { "torch.linalg.lu_factor_ex" } else { "torch.linalg.lu_factor" },
            "U[{},{}] is zero and using it on lu_solve would result in a division by zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or \
             linalg.lu_factor_ex(A, pivot)",
        );
    }
    let mut results = vec![Value::Tensor(lu.factors), Value::Tensor(lu.pivots)];
    if gives_info {
        results.push(Value::Tensor(lu.info));
    }
    Ok(Value::Tuple(results, None))
}

/// The ones on a diagonal, of these extents.
fn identity(b: &mut Builder<'_>, like: &Tensor, dims: &[Dim]) -> Tensor {
    let rank = dims.len();
    let part = if like.dtype.is_complex() { super::complex::part_type(like.dtype) } else { like.dtype };
    let real = b.map(part, dims, |k, i| {
        let is_on = k.binary(BinaryOp::Eq, i[rank - 2], i[rank - 1]);
        k.cast(part, is_on)
    });
    super::complex::converted(b, &real, like.dtype)
}

/// The part of matrices of these extents on one side of the diagonal; `unit` puts ones on it.
fn triangle(b: &mut Builder<'_>, x: &Tensor, dims: &[Dim], is_upper: bool, unit: bool) -> Result<Tensor> {
    let rank = dims.len();
    let side = |b: &mut Builder<'_>, part: &Tensor, diagonal: f64| {
        b.map(part.dtype, dims, |k, i| {
            let (row, column) = (i[rank - 2], i[rank - 1]);
            let v = k.load(part, i);
            let (zero, one) = (k.zero(part.dtype), k.float(part.dtype, diagonal));
            let keeps = k.binary(if is_upper { BinaryOp::Le } else { BinaryOp::Ge }, row, column);
            let v = k.select(keeps, v, zero);
            if !unit {
                return v;
            }
            let is_on = k.binary(BinaryOp::Eq, row, column);
            k.select(is_on, one, v)
        })
    };
    if !x.dtype.is_complex() {
        return Ok(side(b, x, 1.0));
    }
    let [re, im] = parts(b, x)?;
    let (re, im) = (side(b, &re, 1.0), side(b, &im, 0.0));
    let part = re.dtype;
    Ok(joined(b, &[re, im], part))
}

/// Exchanges rows as pivots say, or back.
fn exchanged(b: &mut Builder<'_>, rows: &Tensor, pivots: &Tensor, is_inverse: bool) -> Result<Tensor> {
    let m = Matrices::new(b, rows)?;
    let batch = m.batch().to_vec();
    let pivots = views::expand_to(b, pivots, &[&batch[..], &pivots.dims[pivots.rank() - 1..]].concat())?;
    let pivots = Matrices { floats: pivots, is_complex: false };
    let to = m.output(b, &rows.dims);
    m.call(b, "exchanged", &[&pivots], &[to], &[is_inverse]);
    Ok(m.numbers(b, to))
}

/// The triangular factors of matrices, and their permutation.
fn unpacked(b: &mut Builder<'_>, factors: &Tensor, pivots: &Tensor) -> Result<[Tensor; 3]> {
    let m = Matrices::new(b, factors)?;
    let (batch, [rows, columns], least) = (m.batch().to_vec(), m.sizes(), m.least(b));
    let ones = identity(b, factors, &[&batch[..], &[rows, rows]].concat());
    // The rows of `P` go back to where they came from.
    let permutation = exchanged(b, &ones, pivots, true)?;
    let lower = triangle(b, factors, &[&batch[..], &[rows, least]].concat(), false, true)?;
    let upper = triangle(b, factors, &[&batch[..], &[least, columns]].concat(), true, false)?;
    Ok([permutation, lower, upper])
}

fn lu_unpack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (factors, pivots) = (args.tensor(0)?, args.tensor(1)?);
    let (wants_data, wants_pivots) = (args.flag(b, 2)?, args.flag(b, 3)?);
    let zero = Operand::Const(Const::int(0));
    let empty = b.splat(zero, factors.dtype, &[Dim::Const(0)]);
    let [p, l, u] = unpacked(b, &factors, &pivots)?;
    let p = if wants_pivots { p } else { empty.clone() };
    let (l, u) = if wants_data { (l, u) } else { (empty.clone(), empty) };
    Ok(Value::Tuple([p, l, u].map(Value::Tensor).to_vec(), None))
}

fn linalg_lu(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let has_pivots = args.flag(b, 1)?;
    let lu = lu(b, &args.tensor(0)?, has_pivots)?;
    let mut results = unpacked(b, &lu.factors, &lu.pivots)?;
    if !has_pivots {
        results[0] = b.splat(Operand::Const(Const::int(0)), lu.factors.dtype, &[Dim::Const(0)]);
    }
    Ok(Value::Tuple(results.map(Value::Tensor).to_vec(), None))
}

/// Both batches of matrices with the batch extents that they broadcast to.
fn together(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
    let (p, q) = (x.rank() - 2, y.rank() - 2);
    let batch = views::broadcast(b, &[&x.dims[..p], &y.dims[..q]])?;
    let wide =
        |b: &mut Builder<'_>, t: &Tensor| views::expand_to(b, t, &[&batch[..], &t.dims[t.rank() - 2..]].concat());
    Ok((wide(b, x)?, wide(b, y)?))
}

/// The solution of triangular systems.
fn solved(b: &mut Builder<'_>, a: &Tensor, right: &Tensor, is_upper: bool, unit: bool) -> Result<Tensor> {
    let (a, right) = together(b, a, right)?;
    let (m, r) = (Matrices::new(b, &a)?, Matrices::new(b, &right)?);
    let n = m.expect_square(b)?;
    b.require_equal(n, r.sizes()[0], "Incompatible matrix sizes of a triangular system")?;
    let x = r.output(b, &right.dims);
    m.call(b, "solve_triangular", &[&r], &[x], &[is_upper, unit]);
    Ok(r.numbers(b, x))
}

fn turned(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    views::transpose(b, x, x.rank() - 2, x.rank() - 1)
}

/// The conjugate transpose.
/// The conjugate transpose, for other families.
pub fn adjoint(b: &mut Builder<'_>, x: &Tensor) -> Result<Tensor> {
    let x = turned(b, x);
    if x.dtype.is_complex() { call_tensor(b, "aten::conj", "", &[Value::Tensor(x)]) } else { Ok(x) }
}

/// The solution of `lu x = right`, of the transposed or of the adjoint system.
fn solved_by(b: &mut Builder<'_>, lu: &Tensor, pivots: &Tensor, right: &Tensor) -> Result<Tensor> {
    let (_, right) = together(b, lu, right)?;
    let right = exchanged(b, &right, pivots, false)?;
    let x = solved(b, lu, &right, false, true)?;
    solved(b, lu, &x, true, false)
}

fn linalg_lu_solve(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (lu, pivots, right) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let (is_left, is_adjoint) = (args.flag(b, 3)?, args.flag(b, 4)?);
    // `x a = right` is `a* x* = right*`, and what solves `a* y = c` has the factors' adjoints in the other order.
    let right = if is_left { right } else { adjoint(b, &right)? };
    let x = if is_left == is_adjoint {
        let (_, right) = together(b, &lu, &right)?;
        let factors = adjoint(b, &lu)?;
        let x = solved(b, &factors, &right, false, false)?;
        let x = solved(b, &factors, &x, true, true)?;
        exchanged(b, &x, &pivots, true)?
    } else {
        solved_by(b, &lu, &pivots, &right)?
    };
    Ok(Value::Tensor(if is_left { x } else { adjoint(b, &x)? }))
}

fn lu_solve(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    solved_by(b, &args.tensor(1)?, &args.tensor(2)?, &args.tensor(0)?).map(Value::Tensor)
}

/// `a x = right`, or `x a = right`; a right side of one rank less is one of vectors.
fn solve(b: &mut Builder<'_>, args: &Args<'_>, gives_info: bool) -> Result<Value> {
    let (a, mut right) = (args.tensor(0)?, args.tensor(1)?);
    let is_left = args.flag(b, 2)?;
    let checks = if gives_info { args.flag(b, 3)? } else { true };
    if right.dtype != a.dtype {
        return Err(b.user(format!(
            "linalg.solve: Expected A and B to have the same dtype, but found A of type {} and B of type {} instead",
            a.dtype.graph_name(),
            right.dtype.graph_name()
        )));
    }
    let has_vectors = right.rank() == 1 || right.rank() + 1 == a.rank() && right.dims[..] == a.dims[..a.rank() - 1];
    if has_vectors {
        right = views::unsqueeze(b, &right, right.rank());
    }
    let (factored, right) = if is_left { (a, right) } else { (turned(b, &a), turned(b, &right)) };
    Matrices::new(b, &factored)?.expect_square(b)?;
    let lu = lu(b, &factored, true)?;
    if checks {
        check_info(b, &lu.info, "torch.linalg.solve", "The solver failed because the input matrix is singular.");
    }
    let mut x = solved_by(b, &lu.factors, &lu.pivots, &right)?;
    if !is_left {
        x = turned(b, &x);
    }
    if has_vectors {
        let last = x.rank() - 1;
        x = views::squeeze(b, &x, |d| d == last);
    }
    if gives_info {
        return Ok(Value::Tuple(vec![Value::Tensor(x), Value::Tensor(lu.info)], None));
    }
    Ok(Value::Tensor(x))
}

fn inverse(b: &mut Builder<'_>, args: &Args<'_>, gives_info: bool) -> Result<Value> {
    let a = args.tensor(0)?;
    let checks = if gives_info { args.flag(b, 1)? } else { true };
    Matrices::new(b, &a)?.expect_square(b)?;
    let lu = lu(b, &a, true)?;
    if checks {
        check_info(
            b,
            &lu.info,
            if gives_info { "linalg.inv_ex" } else { "linalg.inv" },
            "The diagonal element {} is zero, the inversion could not be completed because the input matrix is \
             singular.",
        );
    }
    let ones = identity(b, &a, &a.dims);
    let x = solved_by(b, &lu.factors, &lu.pivots, &ones)?;
    if gives_info {
        return Ok(Value::Tuple(vec![Value::Tensor(x), Value::Tensor(lu.info)], None));
    }
    Ok(Value::Tensor(x))
}

/// The product of the signs of exchanges of rows.
fn exchange_sign(b: &mut Builder<'_>, pivots: &Tensor, dtype: DType) -> Tensor {
    let (batch, n) = pivots.dims.split_at(pivots.rank() - 1);
    b.reduce(
        ReduceOp::Prod,
        dtype,
        batch,
        n,
        |k, i, over| {
            let row = k.load(pivots, &[i, over].concat());
            let (row, one) = (k.cast(DType::I64, row), k.int(1));
            let own = k.add(over[0], one);
            let stays = k.binary(BinaryOp::Eq, row, own);
            let (plus, minus) = (k.one(dtype), k.float(dtype, -1.0));
            k.select(stays, plus, minus)
        },
        |_, _, v| v,
    )
}

/// The diagonal of the upper factor, and the sign of the exchanges.
fn pivots_of(b: &mut Builder<'_>, a: &Tensor) -> Result<(Tensor, Tensor)> {
    let m = Matrices::new(b, a)?;
    m.expect_square(b)?;
    let lu = lu(b, a, true)?;
    let rank = a.rank();
    let sign = exchange_sign(b, &lu.pivots, m.real_type());
    Ok((super::part::diagonal_of(b, &lu.factors, 0, rank - 2, rank - 1), sign))
}

/// The product of complex numbers along the last dimension, whose extent is known.
fn product(b: &mut Builder<'_>, x: &Tensor, sign: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let n = x.dims[last].known().ok_or_else(|| b.unsupported("determinants of complex matrices of unknown size"))?;
    let mut result = super::complex::converted(b, sign, x.dtype);
    for at in 0..n {
        let factor = views::select(b, x, last, int(at));
        result = call_tensor(b, "aten::mul", "Tensor", &[Value::Tensor(result), Value::Tensor(factor)])?;
    }
    Ok(result)
}

fn determinant(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (pivots, sign) = pivots_of(b, &args.tensor(0)?)?;
    if pivots.dtype.is_complex() {
        return product(b, &pivots, &sign).map(Value::Tensor);
    }
    let (batch, n) = pivots.dims.split_at(pivots.rank() - 1);
    let size = b.reduce(
        ReduceOp::Prod,
        pivots.dtype,
        batch,
        n,
        |k, i, over| k.load(&pivots, &[i, over].concat()),
        |k, i, v| {
            let sign = k.load(&sign, i);
            k.mul(v, sign)
        },
    );
    Ok(Value::Tensor(size))
}

/// The sign and the logarithm of the size of a determinant; without the sign the logarithm, NaN where that is negative.
fn log_determinant(b: &mut Builder<'_>, args: &Args<'_>, gives_sign: bool) -> Result<Value> {
    let (pivots, exchanges) = pivots_of(b, &args.tensor(0)?)?;
    let sizes = if pivots.dtype.is_complex() {
        call_tensor(b, "aten::abs", "", &[Value::Tensor(pivots.clone())])?
    } else {
        unary(b, &pivots, pivots.dtype, |k, v| k.unary(UnaryOp::Abs, v))
    };
    let logs = unary(b, &sizes, sizes.dtype, |k, v| k.unary(UnaryOp::Log, v));
    let last = Over::new(vec![logs.rank() - 1], false);
    let log = sum_over(b, &logs, &last, logs.dtype);
    let units = call_tensor(b, "aten::sgn", "", &[Value::Tensor(pivots.clone())])?;
    if pivots.dtype.is_complex() {
        let sign = product(b, &units, &exchanges)?;
        if !gives_sign {
            let angle = call_tensor(b, "aten::angle", "", &[Value::Tensor(sign)])?;
            let part = log.dtype;
            return Ok(Value::Tensor(joined(b, &[log, angle], part)));
        }
        return Ok(Value::Tuple(vec![Value::Tensor(sign), Value::Tensor(log)], None));
    }
    let (batch, n) = units.dims.split_at(units.rank() - 1);
    let sign = b.reduce(
        ReduceOp::Prod,
        units.dtype,
        batch,
        n,
        |k, i, over| k.load(&units, &[i, over].concat()),
        |k, i, v| {
            let exchanges = k.load(&exchanges, i);
            k.mul(v, exchanges)
        },
    );
    if gives_sign {
        return Ok(Value::Tuple(vec![Value::Tensor(sign), Value::Tensor(log)], None));
    }
    Ok(Value::Tensor(elementwise(b, &[&log, &sign], None, |k, v| {
        let (zero, nan) = (number(k, v[1], 0.0), number(k, v[0], f64::NAN));
        let is_negative = k.binary(BinaryOp::Lt, v[1], zero);
        k.select(is_negative, nan, v[0])
    })?))
}

/// `linalg_cholesky(A, upper)`, with the info of `_ex` if told.
fn cholesky(b: &mut Builder<'_>, args: &Args<'_>, gives_info: bool) -> Result<Value> {
    let a = args.tensor(0)?;
    let is_upper = args.flag(b, 1)?;
    let checks = if gives_info { args.flag(b, 2)? } else { true };
    // Only that triangle is read.
    let read = if is_upper { adjoint(b, &a)? } else { a };
    let m = Matrices::new(b, &read)?;
    m.expect_square(b)?;
    let lower = m.output(b, &read.dims);
    let info = b.new_buffer(DType::I32, m.batch());
    m.call(b, "cholesky", &[], &[lower, info], &[]);
    let info = b.tensor_of(info);
    if checks {
        check_info(
            b,
            &info,
            if gives_info { "linalg.cholesky_ex" } else { "linalg.cholesky" },
            "The factorization could not be completed because the input is not positive-definite (the leading minor of \
             order {} is not positive-definite).",
        );
    }
    let lower = m.numbers(b, lower);
    let factor = if is_upper { adjoint(b, &lower)? } else { lower };
    if gives_info {
        return Ok(Value::Tuple(vec![Value::Tensor(factor), Value::Tensor(info)], None));
    }
    Ok(Value::Tensor(factor))
}

/// What solves `l l* x = right`, or with `u* u`.
fn solved_by_cholesky(b: &mut Builder<'_>, factor: &Tensor, right: &Tensor, is_upper: bool) -> Result<Tensor> {
    let other = adjoint(b, factor)?;
    let (first, second) = if is_upper { (&other, factor) } else { (factor, &other) };
    let x = solved(b, first, right, false, false)?;
    solved(b, second, &x, true, false)
}

fn cholesky_solve(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (right, factor, is_upper) = (args.tensor(0)?, args.tensor(1)?, args.flag(b, 2)?);
    solved_by_cholesky(b, &factor, &right, is_upper).map(Value::Tensor)
}

fn cholesky_inverse(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (factor, is_upper) = (args.tensor(0)?, args.flag(b, 1)?);
    let ones = identity(b, &factor, &factor.dims);
    solved_by_cholesky(b, &factor, &ones, is_upper).map(Value::Tensor)
}

/// `triangular_solve(B, A, upper, transpose, unitriangular)`
fn triangular_solve(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (right, a) = (args.tensor(0)?, args.tensor(1)?);
    let (is_upper, is_transposed, unit) = (args.flag(b, 2)?, args.flag(b, 3)?, args.flag(b, 4)?);
    let (own, is_upper) = if is_transposed { (turned(b, &a), !is_upper) } else { (a.clone(), is_upper) };
    let x = solved(b, &own, &right, is_upper, unit)?;
    let (copy, _) = together(b, &a, &right)?;
    let copy = b.copy(&copy);
    Ok(Value::Tuple(vec![Value::Tensor(x), Value::Tensor(copy)], None))
}

/// `linalg_solve_triangular(A, B, upper, left, unitriangular)`
fn linalg_solve_triangular(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (a, right) = (args.tensor(0)?, args.tensor(1)?);
    let (is_upper, is_left, unit) = (args.flag(b, 2)?, args.flag(b, 3)?, args.flag(b, 4)?);
    if is_left {
        return solved(b, &a, &right, is_upper, unit).map(Value::Tensor);
    }
    let (a, right) = (turned(b, &a), turned(b, &right));
    let x = solved(b, &a, &right, !is_upper, unit)?;
    Ok(Value::Tensor(turned(b, &x)))
}

/// Reflectors below the diagonal and `R` from it on, and the reflectors' factors.
fn reflectors(b: &mut Builder<'_>, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let m = Matrices::new(b, x)?;
    let least = m.least(b);
    let packed = m.output(b, &x.dims);
    let factors = m.output(b, &[m.batch(), &[least]].concat());
    m.call(b, "reflectors", &[], &[packed, factors], &[]);
    Ok((m.numbers(b, packed), m.numbers(b, factors)))
}

/// The first columns of the product of reflectors.
fn reflected(b: &mut Builder<'_>, packed: &Tensor, factors: &Tensor, columns: Dim) -> Result<Tensor> {
    let m = Matrices::new(b, packed)?;
    let floats = if m.is_complex { as_floats(b, factors)? } else { factors.clone() };
    let factors = Matrices { floats, is_complex: m.is_complex };
    let q = m.output(b, &[m.batch(), &[m.sizes()[0], columns]].concat());
    m.call(b, "reflected", &[&factors], &[q], &[]);
    Ok(m.numbers(b, q))
}

fn geqrf(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (packed, factors) = reflectors(b, &args.tensor(0)?)?;
    Ok(Value::Tuple(vec![Value::Tensor(packed), Value::Tensor(factors)], None))
}

fn householder_product(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (packed, factors) = (args.tensor(0)?, args.tensor(1)?);
    let Some(&columns) = packed.dims.last() else {
        return Err(b.user("torch.linalg.householder_product: input must have at least 2 dimensions."));
    };
    reflected(b, &packed, &factors, columns).map(Value::Tensor)
}

/// `ormqr(packed, factors, other, left, transpose)`: a product with all columns of what reflectors make.
fn ormqr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (packed, factors, other) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    let (is_left, is_transposed) = (args.flag(b, 3)?, args.flag(b, 4)?);
    let rows = Matrices::new(b, &packed)?.sizes()[0];
    let q = reflected(b, &packed, &factors, rows)?;
    let q = if is_transposed { adjoint(b, &q)? } else { q };
    let values = if is_left { [q, other] } else { [other, q] };
    call(b, "aten::matmul", "", &values.map(Value::Tensor))
}

/// Orthogonal columns and an upper triangle; `is_complete` gives as many columns as rows.
pub fn qr_of(b: &mut Builder<'_>, x: &Tensor, is_complete: bool) -> Result<[Tensor; 2]> {
    let m = Matrices::new(b, x)?;
    let (batch, [rows, columns], least) = (m.batch().to_vec(), m.sizes(), m.least(b));
    let (packed, factors) = reflectors(b, x)?;
    let n = if is_complete { rows } else { least };
    let q = reflected(b, &packed, &factors, n)?;
    let r = triangle(b, &packed, &[&batch[..], &[n, columns]].concat(), true, false)?;
    Ok([q, r])
}

fn linalg_qr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mode) = (args.tensor(0)?, args.text(b, 1)?);
    if !matches!(&*mode, "reduced" | "complete" | "r") {
        return Err(b.user(format!(
            "qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )));
    }
    let [mut q, r] = qr_of(b, &x, &*mode == "complete")?;
    if &*mode == "r" {
        q = b.splat(Operand::Const(Const::int(0)), x.dtype, &[Dim::Const(0)]);
    }
    Ok(Value::Tuple(vec![Value::Tensor(q), Value::Tensor(r)], None))
}

fn qr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, is_reduced) = (args.tensor(0)?, args.flag(b, 1)?);
    Ok(Value::Tuple(qr_of(b, &x, !is_reduced)?.map(Value::Tensor).to_vec(), None))
}
