//! Singular values and eigenvalues of matrices, and what is made of them: norms, ranks, inverses of any matrix.

use super::compound::{call, call_tensor};
use super::linalg::{Matrices, adjoint, qr_of};
use super::pointwise::{elementwise, number};
use super::reduce::{Over, extreme_over, norm_over, sum_over};
use super::view::{any_dims_arg, dims_arg};
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{as_tensor, compute_type};
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::linalg_svdvals", lower: svdvals },
    OpDef { name: "aten::linalg_svd", lower: linalg_svd },
    OpDef { name: "aten::svd", lower: svd },
    OpDef { name: "aten::linalg_eigh", lower: |b, a| eigen(b, a, true) },
    OpDef { name: "aten::linalg_eigvalsh", lower: |b, a| eigen(b, a, false) },
    OpDef { name: "aten::linalg_pinv", lower: pseudo_inverse },
    OpDef { name: "aten::pinverse", lower: pseudo_inverse },
    OpDef { name: "aten::linalg_matrix_rank", lower: rank_of },
    OpDef { name: "aten::linalg_matrix_norm", lower: matrix_norm },
    OpDef { name: "aten::linalg_norm", lower: linalg_norm },
    OpDef { name: "aten::nuclear_norm", lower: nuclear_norm },
    OpDef { name: "aten::linalg_cond", lower: condition },
    OpDef { name: "aten::linalg_matrix_exp", lower: exponential },
    OpDef { name: "aten::matrix_exp", lower: exponential },
    OpDef { name: "aten::linalg_lstsq", lower: least_squares },
];

/// `u diag(s) v*`, with as many columns as the lesser extent.
struct Svd {
    u: Tensor,
    s: Tensor,
    v: Tensor,
}

fn svd_of(b: &mut Builder<'_>, x: &Tensor) -> Result<Svd> {
    let [rows, columns] = Matrices::new(b, x)?.sizes();
    let is_tall = match (rows.known(), columns.known()) {
        (Some(m), Some(n)) => m >= n,
        _ if rows == columns => true,
        _ => {
            let is_tall = b.binary(BinaryOp::Ge, rows.into(), columns.into());
            b.decide(&is_tall)?
        }
    };
    let tall = if is_tall { x.clone() } else { adjoint(b, x)? };
    let m = Matrices::new(b, &tall)?;
    let (batch, [rows, columns]) = (m.batch().to_vec(), m.sizes());
    let u = m.output(b, &[&batch[..], &[rows, columns]].concat());
    let s = b.new_buffer(m.real_type(), &[&batch[..], &[columns]].concat());
    let v = m.output(b, &[&batch[..], &[columns, columns]].concat());
    m.call(b, "singular", &[], &[u, s, v], &[]);
    let (u, s, v) = (m.numbers(b, u), b.tensor_of(s), m.numbers(b, v));
    Ok(if is_tall { Svd { u, s, v } } else { Svd { u: v, s, v: u } })
}

fn svdvals(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::Tensor(svd_of(b, &args.tensor(0)?)?.s))
}

/// As many orthogonal columns as rows, of which the first are given.
fn completed(b: &mut Builder<'_>, x: &Tensor) -> Result<Tensor> {
    let last = x.rank() - 1;
    let [rows, columns] = Matrices::new(b, x)?.sizes();
    if rows == columns {
        return Ok(x.clone());
    }
    let [q, _] = qr_of(b, x, true)?;
    let rest = super::part::slice_dim(b, &q, last, Some(&columns.into()), None, 1);
    super::arrange::cat(b, &[x.clone(), rest], last)
}

fn linalg_svd(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, is_full) = (args.tensor(0)?, args.flag(b, 1)?);
    let Svd { mut u, s, mut v } = svd_of(b, &x)?;
    if is_full {
        (u, v) = (completed(b, &u)?, completed(b, &v)?);
    }
    let v = adjoint(b, &v)?;
    Ok(Value::Tuple([u, s, v].map(Value::Tensor).to_vec(), None))
}

fn svd(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, is_reduced, wants_vectors) = (args.tensor(0)?, args.flag(b, 1)?, args.flag(b, 2)?);
    let Svd { mut u, s, mut v } = svd_of(b, &x)?;
    if !is_reduced {
        (u, v) = (completed(b, &u)?, completed(b, &v)?);
    }
    if !wants_vectors {
        let zero = |b: &mut Builder<'_>, t: &Tensor| b.splat(Operand::Const(Const::int(0)), t.dtype, &t.dims.clone());
        (u, v) = (zero(b, &u), zero(b, &v));
    }
    Ok(Value::Tuple([u, s, v].map(Value::Tensor).to_vec(), None))
}

/// Eigenvalues and eigenvectors of Hermitian matrices, of which one triangle is read.
fn eigen_of(b: &mut Builder<'_>, x: &Tensor, reads_upper: bool) -> Result<[Tensor; 2]> {
    let x = if reads_upper { adjoint(b, x)? } else { x.clone() };
    let m = Matrices::new(b, &x)?;
    let n = m.expect_square(b)?;
    let values = b.new_buffer(m.real_type(), &[m.batch(), &[n]].concat());
    let vectors = m.output(b, &x.dims);
    m.call(b, "hermitian", &[], &[values, vectors], &[]);
    Ok([b.tensor_of(values), m.numbers(b, vectors)])
}

fn eigen(b: &mut Builder<'_>, args: &Args<'_>, gives_vectors: bool) -> Result<Value> {
    let (x, triangle) = (args.tensor(0)?, args.text(b, 1)?);
    let reads_upper = match &*triangle {
        "L" | "l" => false,
        "U" | "u" => true,
        _ => return Err(b.user(format!("Expected UPLO argument to be 'L' or 'U', but got {triangle}"))),
    };
    let [values, vectors] = eigen_of(b, &x, reads_upper)?;
    if gives_vectors {
        return Ok(Value::Tuple(vec![Value::Tensor(values), Value::Tensor(vectors)], None));
    }
    Ok(Value::Tensor(values))
}

/// Singular values in size, also those of Hermitian matrices: there the sizes of eigenvalues.
fn sizes_of(b: &mut Builder<'_>, x: &Tensor, is_hermitian: bool) -> Result<Tensor> {
    if !is_hermitian {
        return Ok(svd_of(b, x)?.s);
    }
    let [values, _] = eigen_of(b, x, false)?;
    Ok(super::pointwise::unary(b, &values, values.dtype, |k, v| k.unary(UnaryOp::Abs, v)))
}

/// What counts as 0 beside the greatest of some sizes: the greater of `atol` and `rtol` times that. Without both `rtol` is the
/// precision of the type times the greater extent.
fn tolerance(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor, sizes: &Tensor) -> Result<Tensor> {
    let given = |name: &str| args.named(name).filter(|v| **v != Value::None).cloned();
    let positional = matches!(args.schema.map(|s| &*s.name.overload), Some("" | "rcond_tensor" | "tol_tensor"));
    let (atol, rtol) = if positional {
        let own = Some(args.value(1)?.clone());
        // The one argument of `matrix_rank` is absolute, that of `pinv` is relative.
        if b.op_name.contains("rank") {
            (own, Some(Value::Float(Operand::Const(Const::float(DType::F64, 0.0)))))
        } else {
            (None, own)
        }
    } else {
        (given("atol"), given("rtol"))
    };
    let greatest = extreme_over(b, sizes, &Over::new(vec![sizes.rank() - 1], true), ReduceOp::Max);
    let dtype = sizes.dtype;
    let column = |b: &mut Builder<'_>, value: &Value| -> Result<Tensor> {
        let t = as_tensor(b, value)?;
        let mut t = super::copy::cast(b, &t, dtype);
        if t.rank() > 0 {
            let last = t.rank();
            t = views::unsqueeze(b, &t, last);
        }
        Ok(t)
    };
    let has_atol = atol.is_some();
    let atol = atol.unwrap_or(Value::Float(Operand::Const(Const::float(DType::F64, 0.0))));
    let atol = column(b, &atol)?;
    let rank = x.rank();
    let most = b.binary(BinaryOp::Max, x.dims[rank - 2].into(), x.dims[rank - 1].into());
    let own = match rtol {
        Some(rtol) => column(b, &rtol)?,
        None => {
            let eps = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
            let atol = atol.clone();
            b.map(dtype, &atol.dims.clone(), |k, i| {
                let (most, eps, zero) = (k.number(&most, dtype), k.float(dtype, eps), k.zero(dtype));
                let usual = k.mul(most, eps);
                if !has_atol {
                    return usual;
                }
                // A positive absolute tolerance stands alone.
                let given = k.load(&atol, i);
                let is_given = k.binary(BinaryOp::Gt, given, zero);
                k.select(is_given, zero, usual)
            })
        }
    };
    elementwise(b, &[&greatest, &atol, &own], None, |k, v| {
        let relative = k.mul(v[0], v[2]);
        k.max(relative, v[1])
    })
}

fn hermitian_flag(b: &mut Builder<'_>, args: &Args<'_>) -> Result<bool> {
    match args.position("hermitian") {
        Some(at) => args.flag(b, at),
        None => Ok(false),
    }
}

fn rank_of(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let is_hermitian = hermitian_flag(b, args)?;
    let sizes = sizes_of(b, &x, is_hermitian)?;
    let tolerance = tolerance(b, args, &x, &sizes)?;
    let counts = elementwise(b, &[&sizes, &tolerance], Some(DType::I64), |k, v| {
        let counts = k.binary(BinaryOp::Gt, v[0], v[1]);
        k.cast(DType::I64, counts)
    })?;
    let last = Over::new(vec![counts.rank() - 1], false);
    Ok(Value::Tensor(sum_over(b, &counts, &last, DType::I64)))
}

/// `v diag(1 / s) u*`, of the singular values that count.
fn pseudo_inverse(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let Svd { u, s, v } = if hermitian_flag(b, args)? {
        let [values, vectors] = eigen_of(b, &x, false)?;
        Svd { u: vectors.clone(), s: values, v: vectors }
    } else {
        svd_of(b, &x)?
    };
    let sizes = super::pointwise::unary(b, &s, s.dtype, |k, v| k.unary(UnaryOp::Abs, v));
    let tolerance = tolerance(b, args, &x, &sizes)?;
    let inverses = elementwise(b, &[&s, &tolerance], None, |k, v| {
        let size = k.unary(UnaryOp::Abs, v[0]);
        let counts = k.binary(BinaryOp::Gt, size, v[1]);
        let (one, zero) = (number(k, v[0], 1.0), number(k, v[0], 0.0));
        let inverse = k.div(one, v[0]);
        k.select(counts, inverse, zero)
    })?;
    let row = views::unsqueeze(b, &inverses, inverses.rank() - 1);
    let scaled = call_tensor(b, "aten::mul", "Tensor", &[Value::Tensor(v), Value::Tensor(row)])?;
    let u = adjoint(b, &u)?;
    call(b, "aten::matmul", "", &[Value::Tensor(scaled), Value::Tensor(u)])
}

fn exponential(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wide = super::copy::cast(b, &x, compute_type(x.dtype));
    let m = Matrices::new(b, &wide)?;
    m.expect_square(b)?;
    let out = m.output(b, &x.dims);
    m.call(b, "exponential", &[], &[out], &[]);
    let result = m.numbers(b, out);
    Ok(Value::Tensor(super::copy::cast(b, &result, x.dtype)))
}

/// `linalg_lstsq(A, B, rcond, driver)`: the solution, and what LAPACK's driver gives beside it.
fn least_squares(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (a, right) = (args.tensor(0)?, args.tensor(1)?);
    let driver = if *args.value(3)? == Value::None { "gelsy".into() } else { args.text(b, 3)? };
    let has_vectors = right.rank() == 1 || right.rank() + 1 == a.rank() && right.dims[..] == a.dims[..a.rank() - 1];
    let column = if has_vectors { views::unsqueeze(b, &right, right.rank()) } else { right };
    let zero = Value::Float(Operand::Const(Const::float(DType::F64, 0.0)));
    let rcond = args.value(2)?.clone();
    let options = |b: &mut Builder<'_>, name: &str| {
        let values = [Value::Tensor(a.clone()), zero.clone(), rcond.clone(), Value::bool(false)];
        call_tensor(b, name, "atol_rtol_float", &values)
    };
    let inverse = options(b, "aten::linalg_pinv")?;
    let values = [Value::Tensor(inverse), Value::Tensor(column.clone())];
    let mut solution = call_tensor(b, "aten::matmul", "", &values)?;
    let empty = |b: &mut Builder<'_>, dtype: DType| {
        b.splat(Operand::Const(Const::int(0)), dtype, &[crate::loops::Dim::Const(0)])
    };
    let real = Matrices::new(b, &a)?.real_type();
    let (rows, columns) = (a.dims[a.rank() - 2].known(), a.dims[a.rank() - 1].known());
    let mut residuals = empty(b, real);
    if &*driver != "gelsy" && rows > columns {
        let values = [Value::Tensor(a.clone()), Value::Tensor(solution.clone())];
        let product = call(b, "aten::matmul", "", &values)?;
        let rest = call(b, "aten::sub", "Tensor", &[Value::Tensor(column), product, Value::int(1)])?;
        let sizes = call_tensor(b, "aten::abs", "", &[rest])?;
        let squares = elementwise(b, &[&sizes], None, |k, v| k.mul(v[0], v[0]))?;
        residuals = sum_over(b, &squares, &Over::new(vec![squares.rank() - 2], false), real);
    }
    let rank = if &*driver == "gels" { empty(b, DType::I64) } else { options(b, "aten::linalg_matrix_rank")? };
    let sizes = if matches!(&*driver, "gelsd" | "gelss") { svd_of(b, &a)?.s } else { empty(b, real) };
    if has_vectors {
        let last = solution.rank() - 1;
        solution = views::squeeze(b, &solution, |d| d == last);
    }
    Ok(Value::Tuple([solution, residuals, rank, sizes].map(Value::Tensor).to_vec(), None))
}

/// What a norm of matrices is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Frobenius,
    Nuclear,
    /// 1, 2 and infinity, or their opposites.
    Number(f64),
}

/// The norm of the matrices that two dimensions span.
fn norm_of(b: &mut Builder<'_>, x: &Tensor, order: Order, dims: [usize; 2], keeps: bool) -> Result<Tensor> {
    let sizes =
        if x.dtype.is_complex() { call_tensor(b, "aten::abs", "", &[Value::Tensor(x.clone())])? } else { x.clone() };
    if order == Order::Frobenius {
        let dtype = sizes.dtype;
        return Ok(norm_over(b, &sizes, &Over::new(dims.to_vec(), keeps), 2.0, dtype));
    }
    let [row, column] = dims;
    let is_least = matches!(order, Order::Number(p) if p < 0.0);
    let op = if is_least { ReduceOp::Min } else { ReduceOp::Max };
    let by_sums = match order {
        Order::Number(p) if p.is_infinite() => Some((column, row)),
        #[allow(clippy::float_cmp, reason = "the special orders are exact")]
        Order::Number(p) if p.abs() == 1.0 => Some((row, column)),
        _ => None,
    };
    if let Some((summed, other)) = by_sums {
        let dtype = sizes.dtype;
        let sums = norm_over(b, &sizes, &Over::new(vec![summed], true), 1.0, dtype);
        let extreme = extreme_over(b, &sums, &Over::new(vec![other], true), op);
        return Ok(if keeps { extreme } else { views::squeeze(b, &extreme, |d| d == row || d == column) });
    }
    let mut order_of_dims: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).collect();
    order_of_dims.extend(dims);
    let moved = views::permute(b, x, &order_of_dims);
    let s = svd_of(b, &moved)?.s;
    let last = Over::new(vec![s.rank() - 1], false);
    let dtype = s.dtype;
    let mut norm = if order == Order::Nuclear { sum_over(b, &s, &last, dtype) } else { extreme_over(b, &s, &last, op) };
    if keeps {
        let mut kept = dims;
        kept.sort_unstable();
        for d in kept {
            norm = views::unsqueeze(b, &norm, d);
        }
    }
    Ok(norm)
}

/// The order that an argument names.
fn order(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<Order> {
    let wrong = |b: &Builder<'_>, found: String| b.user(format!("linalg.matrix_norm: Order {found} not supported."));
    match args.value(at)? {
        Value::Str(_) => match &*args.text(b, at)? {
            "fro" => Ok(Order::Frobenius),
            "nuc" => Ok(Order::Nuclear),
            other => Err(wrong(b, other.to_owned())),
        },
        _ => {
            let p = args.known_float(b, at)?;
            #[allow(clippy::float_cmp, reason = "the special orders are exact")]
            if p.abs() == 1.0 || p.abs() == 2.0 || p.is_infinite() {
                Ok(Order::Number(p))
            } else {
                Err(wrong(b, p.to_string()))
            }
        }
    }
}

/// The tensor in the type that the argument `dtype` names.
fn typed(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Tensor> {
    let x = args.tensor(0)?;
    let dtype = match args.position("dtype") {
        Some(at) => args.dtype(b, at)?,
        None => None,
    };
    Ok(match dtype {
        Some(dtype) if dtype != x.dtype => super::complex::converted(b, &x, dtype),
        _ => x,
    })
}

fn two_dims(b: &mut Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<[usize; 2]> {
    match any_dims_arg(b, args, at, rank)?[..] {
        [row, column] if row == column => {
            Err(b.user(format!("linalg.matrix_norm: dims must be different. Got ({row}, {column})")))
        }
        [row, column] => Ok([row, column]),
        _ => Err(b.user("linalg.matrix_norm: dim must be a 2-tuple.")),
    }
}

/// `linalg_matrix_norm(self, ord, dim, keepdim, dtype)`
fn matrix_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = typed(b, args)?;
    let (order, dims, keeps) = (order(b, args, 1)?, two_dims(b, args, 2, x.rank())?, args.flag(b, 3)?);
    norm_of(b, &x, order, dims, keeps).map(Value::Tensor)
}

/// `linalg_norm(self, ord, dim, keepdim, dtype)`: of matrices where there are two dimensions, else of vectors.
fn linalg_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = typed(b, args)?;
    let has_order = *args.value(1)? != Value::None;
    let keeps = args.flag(b, 3)?;
    let dims = match args.value(2)? {
        Value::None if has_order && x.rank() == 2 => Some(vec![0, 1]),
        Value::None => None,
        _ => Some(dims_arg(b, args, 2, x.rank())?),
    };
    if let Some([row, column]) = dims.as_deref()
        && has_order
    {
        let order = order(b, args, 1)?;
        return norm_of(b, &x, order, [*row, *column], keeps).map(Value::Tensor);
    }
    let order = if has_order { args.value(1)?.clone() } else { Value::int(2) };
    let dims = args.value(2)?.clone();
    call(b, "aten::linalg_vector_norm", "", &[Value::Tensor(x), order, dims, Value::bool(keeps), Value::None])
}

fn nuclear_norm(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (dims, keeps) = match args.position("dim") {
        Some(at) => (two_dims(b, args, at, x.rank())?, args.flag(b, 2)?),
        None => ([0, 1], args.flag(b, 1)?),
    };
    norm_of(b, &x, Order::Nuclear, dims, keeps).map(Value::Tensor)
}

/// A norm of the matrix times that of its inverse; the quotient of singular values for the norm 2.
fn condition(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let order = if *args.value(1)? == Value::None { Order::Number(2.0) } else { order(b, args, 1)? };
    let dims = [x.rank().saturating_sub(2), x.rank().saturating_sub(1)];
    #[allow(clippy::float_cmp, reason = "the special orders are exact")]
    if let Order::Number(p) = order
        && p.abs() == 2.0
    {
        let s = svd_of(b, &x)?.s;
        let last = Over::new(vec![s.rank() - 1], false);
        let (greatest, least) = (extreme_over(b, &s, &last, ReduceOp::Max), extreme_over(b, &s, &last, ReduceOp::Min));
        let (above, below) = if p > 0.0 { (greatest, least) } else { (least, greatest) };
        return Ok(Value::Tensor(elementwise(b, &[&above, &below], None, |k, v| k.div(v[0], v[1]))?));
    }
    // A singular matrix has an infinite condition.
    let info = call(b, "aten::linalg_inv_ex", "", &[Value::Tensor(x.clone()), Value::bool(false)])?;
    let Value::Tuple(parts, _) = info else { return Err(b.unsupported("this form of linalg_cond")) };
    let [Value::Tensor(inverse), Value::Tensor(info)] = &parts[..] else {
        return Err(b.unsupported("this form of linalg_cond"));
    };
    let (own, other) = (norm_of(b, &x, order, dims, false)?, norm_of(b, inverse, order, dims, false)?);
    let dtype = own.dtype;
    Ok(Value::Tensor(b.map(dtype, &own.dims, |k: &mut KernelBuilder<'_, '_>, i: &[ExprId]| {
        let (p, q, info) = (k.load(&own, i), k.load(&other, i), k.load(info, i));
        let (product, infinity, zero) = (k.mul(p, q), k.float(dtype, f64::INFINITY), k.zero(DType::I32));
        let is_regular = k.binary(BinaryOp::Eq, info, zero);
        k.select(is_regular, product, infinity)
    })))
}
