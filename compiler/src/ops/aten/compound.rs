//! Operators that are others put together.

use super::arrange::cat;
use super::part::diagonal_of;
use super::pointwise::{elementwise, elementwise_in, float_map, number};
use super::reduce::{Over, norm_over, sum_over};
use super::view::{dim_arg, flat, tensor_list, wrap};
use crate::diag::Result;
use crate::ir::OpName;
use crate::loops::{BinaryOp, Const, Dim, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::promote::{expect_real, float_type, result_type};
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::diff", lower: diff },
    OpDef { name: "aten::diagflat", lower: diagflat },
    OpDef { name: "aten::linalg_diagonal", lower: linalg_diagonal },
    OpDef { name: "aten::trace", lower: trace },
    OpDef { name: "aten::trapz", lower: |b, a| trapezoid(b, a, false) },
    OpDef { name: "aten::trapezoid", lower: |b, a| trapezoid(b, a, false) },
    OpDef { name: "aten::cumulative_trapezoid", lower: |b, a| trapezoid(b, a, true) },
    OpDef { name: "aten::dist", lower: dist },
    OpDef { name: "aten::column_stack", lower: column_stack },
    OpDef { name: "aten::linalg_vecdot", lower: linalg_vecdot },
    OpDef { name: "aten::linalg_vander", lower: linalg_vander },
    OpDef { name: "aten::cosine_similarity", lower: cosine_similarity },
    OpDef { name: "aten::atleast_3d", lower: atleast_3d },
    OpDef { name: "aten::angle", lower: angle },
    OpDef { name: "aten::isreal", lower: isreal },
    OpDef { name: "aten::cross", lower: cross },
    OpDef { name: "aten::linalg_cross", lower: cross },
    OpDef { name: "aten::kron", lower: kron },
    OpDef { name: "aten::hsplit.int", lower: |b, a| split_along(b, a, 1, "sections") },
    OpDef { name: "aten::hsplit.array", lower: |b, a| split_along(b, a, 1, "indices") },
    OpDef { name: "aten::vsplit.int", lower: |b, a| split_along(b, a, 0, "sections") },
    OpDef { name: "aten::vsplit.array", lower: |b, a| split_along(b, a, 0, "indices") },
    OpDef { name: "aten::dsplit.int", lower: |b, a| split_along(b, a, 2, "sections") },
    OpDef { name: "aten::dsplit.array", lower: |b, a| split_along(b, a, 2, "indices") },
    OpDef { name: "aten::block_diag", lower: block_diag },
    OpDef { name: "aten::broadcast_shapes", lower: broadcast_shapes },
    OpDef { name: "aten::matrix_power", lower: matrix_power },
    OpDef { name: "aten::linalg_matrix_power", lower: matrix_power },
    OpDef { name: "aten::special_xlog1py", lower: xlog1py },
    OpDef { name: "aten::mvlgamma", lower: mvlgamma },
    OpDef { name: "aten::special_multigammaln", lower: mvlgamma },
    OpDef { name: "aten::sum_to_size", lower: sum_to_size },
    OpDef { name: "aten::_chunk_cat", lower: chunk_cat },
    OpDef { name: "aten::corrcoef", lower: corrcoef },
    OpDef { name: "aten::linalg_tensorsolve", lower: tensorsolve },
    OpDef { name: "aten::linalg_tensorinv", lower: tensorinv },
    OpDef { name: "aten::new_empty_strided", lower: new_empty_strided },
    OpDef { name: "aten::alias", lower: |_, a| Ok(a.value(0)?.clone()) },
    OpDef { name: "aten::_softmax_backward_data", lower: softmax_backward },
    OpDef { name: "aten::_safe_softmax", lower: safe_softmax },
];

/// What another operator gives for these arguments, defaults included.
pub fn call(b: &mut Builder<'_>, name: &str, overload: &str, values: &[Value]) -> Result<Value> {
    let own = b.op_name.clone();
    let result = crate::ops::lower(b, &OpName::with_overload(name, overload), values);
    b.op_name = own;
    result
}

/// [`call`] of an operator that gives a tensor.
pub fn call_tensor(b: &mut Builder<'_>, name: &str, overload: &str, values: &[Value]) -> Result<Tensor> {
    match call(b, name, overload, values)? {
        Value::Tensor(t) => Ok(t),
        other => Err(b.unsupported(format!("{name} that gives {}", other.kind()))),
    }
}

fn minus(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let name = if x.dtype == DType::Bool { "aten::logical_xor" } else { "aten::sub" };
    let mut values = vec![Value::Tensor(x.clone()), Value::Tensor(y.clone())];
    if x.dtype == DType::Bool {
        return call_tensor(b, name, "", &values);
    }
    values.push(Value::int(1));
    call_tensor(b, name, "Tensor", &values)
}

fn times(b: &mut Builder<'_>, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    call_tensor(b, "aten::mul", "Tensor", &[Value::Tensor(x.clone()), Value::Tensor(y.clone())])
}

/// A tensor without its first or without its last element along a dimension.
fn but_one(b: &mut Builder<'_>, x: &Tensor, dim: usize, is_first_left_out: bool) -> Tensor {
    let less = b.binary(BinaryOp::Sub, x.dims[dim].into(), int(1));
    let less = b.binary(BinaryOp::Max, less, int(0));
    let extent = b.dim(less);
    views::slice(b, x, dim, int(i64::from(is_first_left_out)), extent, 1)
}

fn diff(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut x = args.tensor(0)?;
    let n = args.known_int(b, 1)?;
    if x.rank() == 0 {
        return Err(b.user("diff expects input to be at least one-dimensional"));
    }
    if n < 0 {
        return Err(b.user(format!("order must be non-negative but got {n}")));
    }
    let dim = dim_arg(b, args, 2, x.rank())?;
    let (before, after) = (args.optional_tensor(3)?, args.optional_tensor(4)?);
    if before.is_some() || after.is_some() {
        let parts: Vec<Tensor> = before.into_iter().chain([x]).chain(after).collect();
        x = cat(b, &parts, dim)?;
    }
    for _ in 0..n {
        if x.dims[dim] == Dim::Const(0) {
            break;
        }
        let (later, earlier) = (but_one(b, &x, dim, true), but_one(b, &x, dim, false));
        x = minus(b, &later, &earlier)?;
    }
    Ok(Value::Tensor(if n == 0 { b.copy(&x) } else { x }))
}

fn diagflat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let line = flat(b, &x);
    call(b, "aten::diag", "", &[Value::Tensor(line), args.value(1)?.clone()])
}

fn linalg_diagonal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    call(b, "aten::diagonal", "", args.values)
}

fn trace(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() != 2 {
        return Err(b.user(format!("trace: expected a matrix, but got tensor with dim {}", x.rank())));
    }
    let line = diagonal_of(b, &x, 0, 0, 1);
    call(b, "aten::sum", "", &[Value::Tensor(line), Value::None])
}

/// The integral between points along a dimension by trapezoids: all of it, or up to each point.
fn trapezoid(b: &mut Builder<'_>, args: &Args<'_>, is_cumulative: bool) -> Result<Value> {
    let y = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, y.rank())?;
    let Some(&extent) = y.dims.get(dim) else {
        return Err(b.user("trapezoid: expected a tensor of at least one dimension"));
    };
    let widths = match args.value(1)? {
        Value::Tensor(x) => {
            if !(x.rank() == 1 || x.rank() == y.rank()) {
                // PyTorch lines the points up with the last dimensions.
                let mut x = x.clone();
                while x.rank() < y.rank() {
                    x = views::unsqueeze(b, &x, 0);
                }
                let (later, earlier) = (but_one(b, &x, dim, true), but_one(b, &x, dim, false));
                minus(b, &later, &earlier)?
            } else if x.rank() == 1 {
                b.require_equal(x.dims[0], extent, "trapezoid: There must be one `x` value for each sample point")?;
                let (later, earlier) = (but_one(b, x, 0, true), but_one(b, x, 0, false));
                let mut widths = minus(b, &later, &earlier)?;
                for _ in dim + 1..y.rank() {
                    let last = widths.rank();
                    widths = views::unsqueeze(b, &widths, last);
                }
                widths
            } else {
                let (later, earlier) = (but_one(b, x, dim, true), but_one(b, x, dim, false));
                minus(b, &later, &earlier)?
            }
        }
        number => crate::ops::promote::as_tensor(b, number)?,
    };
    let (later, earlier) = (but_one(b, &y, dim, true), but_one(b, &y, dim, false));
    let sum = call_tensor(b, "aten::add", "Tensor", &[Value::Tensor(later), Value::Tensor(earlier), Value::int(1)])?;
    let areas = Value::Tensor(times(b, &sum, &widths)?);
    let at = Value::int(i64::try_from(dim).unwrap_or(0));
    let twice = if is_cumulative {
        call(b, "aten::cumsum", "", &[areas, at, Value::None])?
    } else {
        let dims = b.new_list(vec![at]);
        call(b, "aten::sum", "dim_IntList", &[areas, dims, Value::bool(false), Value::None])?
    };
    let two = Value::Float(Operand::Const(Const::float(DType::F64, 2.0)));
    call(b, "aten::div", "Scalar", &[twice, two])
}

/// The norm of a difference.
fn dist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let difference = minus(b, &x, &y)?;
    call(b, "aten::norm", "Scalar", &[Value::Tensor(difference), args.value(2)?.clone()])
}

fn column_stack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut columns = args.tensors(b, 0)?;
    if columns.is_empty() {
        return Err(b.user("column_stack expects a non-empty TensorList"));
    }
    for x in &mut columns {
        while x.rank() < 2 {
            let last = x.rank();
            *x = views::unsqueeze(b, x, last);
        }
    }
    Ok(Value::Tensor(cat(b, &columns, 1)?))
}

fn linalg_vecdot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, y) = (args.tensor(0)?, args.tensor(1)?);
    if x.dtype.is_complex() {
        x = call_tensor(b, "aten::conj", "", &[Value::Tensor(x)])?;
    }
    let product = times(b, &x, &y)?;
    let dims = b.new_list(vec![args.value(2)?.clone()]);
    let dtype = Value::int(product.dtype.code());
    let dtype = if product.dtype.is_complex() { Value::None } else { dtype };
    call(b, "aten::sum", "dim_IntList", &[Value::Tensor(product), dims, Value::bool(false), dtype])
}

/// The powers of each element, from 0 on.
fn linalg_vander(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let x = super::index::at_least_1d(b, &x);
    let extent = x.dims[x.rank() - 1];
    let n = match args.optional_int(b, 1)? {
        Some(n) => b.dim(n),
        None => extent,
    };
    if n.known().is_some_and(|n| n <= 1) {
        return Err(b.user("N must be greater than 1."));
    }
    let dtype = if x.dtype.is_floating_point() || x.dtype.is_complex() { x.dtype } else { DType::I64 };
    let column = views::unsqueeze(b, &x, x.rank());
    let mut dims = x.dims.clone();
    let less = b.binary(BinaryOp::Sub, n.into(), int(1));
    dims.push(b.dim(less));
    let wide = views::expand_to(b, &column, &dims)?;
    dims[x.rank()] = Dim::Const(1);
    let ones = b.splat(Operand::Const(Const::int(1)), dtype, &dims);
    let rows = cat(b, &[ones, wide], x.rank())?;
    let last = Value::int(i64::try_from(x.rank()).unwrap_or(0));
    call(b, "aten::cumprod", "", &[Value::Tensor(rows), last, Value::None])
}

fn cosine_similarity(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let dtype = result_type(&[&x, &y]);
    if !dtype.is_floating_point() {
        let found = dtype.graph_name();
        return Err(b.user(format!("expected common dtype to be floating point, yet common dtype is {found}")));
    }
    let dims = views::broadcast(b, &[&x.dims, &y.dims])?;
    let dim = match dims.len() {
        // Two numbers are vectors of one number each.
        0 => None,
        rank => Some(dim_arg(b, args, 2, rank)?),
    };
    let over = |keeps| Over::new(dim.into_iter().collect(), keeps);
    let eps = args.known_float(b, 3)?;
    let mut unit = |t: &Tensor| -> Result<Tensor> {
        let t = views::expand_to(b, t, &dims)?;
        let t = super::copy::cast(b, &t, dtype);
        let size = norm_over(b, &t, &over(true), 2.0, dtype);
        elementwise(b, &[&t, &size], None, |k, v| {
            let least = number(k, v[1], eps);
            let size = k.max(v[1], least);
            k.div(v[0], size)
        })
    };
    let (x, y) = (unit(&x)?, unit(&y)?);
    let product = times(b, &x, &y)?;
    Ok(Value::Tensor(sum_over(b, &product, &over(false), dtype)))
}

fn atleast_3d(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let raise = |b: &mut Builder<'_>, mut t: Tensor| {
        for at in [0, 0, 2].into_iter().skip(t.rank()) {
            t = views::unsqueeze(b, &t, at);
        }
        t
    };
    if let Value::Tensor(x) = args.value(0)? {
        return Ok(Value::Tensor(raise(b, x.clone())));
    }
    let tensors = args.tensors(b, 0)?;
    let raised = tensors.into_iter().map(|x| raise(b, x)).collect();
    Ok(tensor_list(b, raised))
}

/// 0, or pi for negative numbers.
fn angle(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    float_map(b, args, |k, v| {
        let (zero, pi) = (number(k, v, 0.0), number(k, v, std::f64::consts::PI));
        let is_negative = k.binary(BinaryOp::Lt, v, zero);
        let angle = k.select(is_negative, pi, zero);
        let is_nan = k.unary(UnaryOp::IsNan, v);
        k.select(is_nan, v, angle)
    })
}

fn isreal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype.is_complex() {
        let imaginary = call(b, "aten::imag", "", &[Value::Tensor(x)])?;
        return call(b, "aten::eq", "Scalar", &[imaginary, Value::int(0)]);
    }
    let all = b.splat(Operand::Const(Const::bool(true)), DType::Bool, &x.dims.clone());
    Ok(Value::Tensor(all))
}

/// The product of vectors of three along a dimension: without one the first of extent 3.
fn cross(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    let dims = views::broadcast(b, &[&x.dims, &y.dims])?;
    let dim = match args.value(2)? {
        Value::None => {
            let first = dims.iter().position(|d| *d == Dim::Const(3));
            Some(first.ok_or_else(|| b.user("no dimension of size 3 in input"))?)
        }
        _ => Some(dim_arg(b, args, 2, dims.len())?),
    };
    let Some(dim) = dim.filter(|dim| dims.get(*dim) == Some(&Dim::Const(3))) else {
        return Err(b.user(format!(
            "linalg.cross: inputs dimension must have length 3. Got {} and {}",
            shape_text(&x.dims),
            shape_text(&y.dims)
        )));
    };
    let (x, y) = (views::expand_to(b, &x, &dims)?, views::expand_to(b, &y, &dims)?);
    let row = |b: &mut Builder<'_>, t: &Tensor, at: i64| views::slice(b, t, dim, int(at % 3), Dim::Const(1), 1);
    let mut rows = Vec::with_capacity(3);
    for at in 0..3 {
        let (p, q) = (row(b, &x, at + 1), row(b, &y, at + 2));
        let (r, s) = (row(b, &x, at + 2), row(b, &y, at + 1));
        let (left, right) = (times(b, &p, &q)?, times(b, &r, &s)?);
        rows.push(minus(b, &left, &right)?);
    }
    Ok(Value::Tensor(cat(b, &rows, dim)?))
}

fn kron(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, mut y) = (args.tensor(0)?, args.tensor(1)?);
    while x.rank() < y.rank() {
        x = views::unsqueeze(b, &x, 0);
    }
    while y.rank() < x.rank() {
        y = views::unsqueeze(b, &y, 0);
    }
    let rank = x.rank();
    let dims: Vec<Dim> = (0..rank)
        .map(|d| {
            let extent = b.binary(BinaryOp::Mul, x.dims[d].into(), y.dims[d].into());
            b.dim(extent)
        })
        .collect();
    for d in 0..rank {
        x = views::unsqueeze(b, &x, 2 * d + 1);
        y = views::unsqueeze(b, &y, 2 * d);
    }
    let product = times(b, &x, &y)?;
    Ok(Value::Tensor(views::reshape(b, &product, &dims)))
}

/// `tensor_split` along a dimension; a vector is split along its only one.
fn split_along(b: &mut Builder<'_>, args: &Args<'_>, dim: usize, overload: &str) -> Result<Value> {
    let x = args.tensor(0)?;
    let least = dim.max(1) + usize::from(dim == 2 || dim == 0);
    let name = b.op_name.clone();
    if x.rank() < least {
        return Err(b.user(format!(
            "torch.{name} requires a tensor with at least {least} dimension, but got a tensor with {} dimensions!",
            x.rank()
        )));
    }
    let dim = if x.rank() == 1 { 0 } else { dim };
    if let (Value::Int(sections), Some(extent)) = (args.value(1)?, x.dims[dim].known())
        && let Some(sections) = known_int(sections)
        && (sections == 0 || extent % sections != 0)
    {
        return Err(b.user(format!(
            "torch.{name} attempted to split along dimension {dim}, but the size of the dimension {extent} is not divisible \
             by the split_size {sections}!"
        )));
    }
    let at = Value::int(i64::try_from(dim).unwrap_or(0));
    call(b, "aten::tensor_split", overload, &[args.value(0)?.clone(), args.value(1)?.clone(), at])
}

fn block_diag(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut blocks = args.tensors(b, 0)?;
    for (at, block) in blocks.iter_mut().enumerate() {
        if block.rank() > 2 {
            let found = block.rank();
            return Err(b.user(format!(
                "torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {at} has {found} dimensions"
            )));
        }
        while block.rank() < 2 {
            *block = views::unsqueeze(b, block, 0);
        }
    }
    let dtype = result_type(&blocks.iter().collect::<Vec<_>>());
    expect_real(b, dtype)?;
    let mut starts = Vec::with_capacity(blocks.len());
    let mut ends = [int(0), int(0)];
    for block in &blocks {
        starts.push(ends.clone());
        ends = [0, 1].map(|d| b.binary(BinaryOp::Add, ends[d].clone(), block.dims[d].into()));
    }
    let dims = ends.map(|end| b.dim(end));
    Ok(Value::Tensor(b.map(dtype, &dims, |k, i| {
        let mut value = k.zero(dtype);
        for (block, start) in blocks.iter().zip(&starts) {
            let (row, column) = (k.operand(&start[0]), k.operand(&start[1]));
            let at = [k.sub(i[0], row), k.sub(i[1], column)];
            let (p, q) = (k.in_bounds(at[0], block.dims[0]), k.in_bounds(at[1], block.dims[1]));
            let inside = k.and(p, q);
            let zero = k.zero(block.dtype);
            let own = k.load_or(block, &at, inside, zero);
            let own = k.cast(dtype, own);
            value = k.select(inside, own, value);
        }
        value
    })))
}

fn broadcast_shapes(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut shape = |at: usize| -> Result<Vec<Dim>> {
        let sizes = args.int_list(b, at)?;
        Ok(sizes.into_iter().map(|size| b.dim(size)).collect())
    };
    let (x, y) = (shape(0)?, shape(1)?);
    let dims = views::broadcast(b, &[&x, &y])?;
    Ok(b.new_list(dims.into_iter().map(|d| Value::Int(d.into())).collect()))
}

/// A matrix times itself, `n` factors in all, by squaring.
fn matrix_power(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, n) = (args.tensor(0)?, args.known_int(b, 1)?);
    if x.rank() < 2 || x.dims[x.rank() - 2] != x.dims[x.rank() - 1] {
        let found = shape_text(&x.dims);
        return Err(b.user(format!("linalg.matrix_power: A must be batches of square matrices, but they are {found}")));
    }
    if n == 0 {
        let rank = x.rank();
        return Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
            let is_on_diagonal = k.binary(BinaryOp::Eq, i[rank - 2], i[rank - 1]);
            k.cast(x.dtype, is_on_diagonal)
        })));
    }
    let mut square = Value::Tensor(x);
    if n < 0 {
        square = call(b, "aten::linalg_inv", "", &[square])?;
    }
    let mut left = n.unsigned_abs();
    let mut result: Option<Value> = None;
    while left > 0 {
        if left % 2 == 1 {
            result = Some(match result {
                Some(result) => call(b, "aten::matmul", "", &[result, square.clone()])?,
                None => square.clone(),
            });
        }
        left /= 2;
        if left > 0 {
            square = call(b, "aten::matmul", "", &[square.clone(), square])?;
        }
    }
    Ok(result.unwrap_or(square))
}

/// `x * log1p(y)`, 0 where `x` is 0 and `y` no NaN.
fn xlog1py(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, y) = super::pointwise::operands(b, args)?;
    let dtype = float_type(result_type(&[&x, &y]));
    Ok(Value::Tensor(elementwise_in(b, &[&x, &y], dtype, dtype, |k, v| {
        let zero = number(k, v[0], 0.0);
        let log = k.unary(UnaryOp::Log1p, v[1]);
        let product = k.mul(v[0], log);
        let is_zero = k.binary(BinaryOp::Eq, v[0], zero);
        let result = k.select(is_zero, zero, product);
        let is_nan = k.unary(UnaryOp::IsNan, v[1]);
        k.select(is_nan, v[1], result)
    })?))
}

/// The logarithm of the gamma function of `p` dimensions.
fn mvlgamma(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let p = args.known_int(b, 1)?;
    if p < 1 {
        return Err(b.user("p has to be greater than or equal to 1"));
    }
    #[allow(clippy::cast_precision_loss, reason = "numbers of dimensions are small")]
    let (half, constant) = (|j: i64| j as f64 / 2.0, (p * (p - 1)) as f64 / 4.0 * std::f64::consts::PI.ln());
    float_map(b, args, |k, v| {
        let mut sum = number(k, v, constant);
        for j in 0..p {
            let offset = number(k, v, half(j));
            let term = k.sub(v, offset);
            let term = k.unary(UnaryOp::Lgamma, term);
            sum = k.add(sum, term);
        }
        sum
    })
}

/// Sums what was expanded from these sizes.
fn sum_to_size(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let sizes = args.int_list(b, 1)?;
    let wanted: Vec<Dim> = sizes.into_iter().map(|size| b.dim(size)).collect();
    let parts = [(&wanted).into(), (&x.dims).into()];
    let message = Message::new("size {{}} is not expandable to size {{}}.", &parts);
    let Some(lead) = x.rank().checked_sub(wanted.len()) else { return Err(b.fail(message)) };
    let mut dims: Vec<usize> = (0..lead).collect();
    for (i, &extent) in wanted.iter().enumerate() {
        if extent == Dim::Const(1) && x.dims[lead + i] != extent {
            dims.push(lead + i);
        } else {
            b.require_equal(x.dims[lead + i], extent, message.clone())?;
        }
    }
    if dims.is_empty() {
        return Ok(Value::Tensor(x));
    }
    let list = dims.iter().map(|d| Value::int(i64::try_from(*d).unwrap_or(0))).collect();
    let list = b.new_list(list);
    let dtype = if x.dtype.is_complex() { Value::None } else { Value::int(x.dtype.code()) };
    let sum = call_tensor(b, "aten::sum", "dim_IntList", &[Value::Tensor(x), list, Value::bool(true), dtype])?;
    Ok(Value::Tensor(views::reshape(b, &sum, &wanted)))
}

/// Each tensor in as many pieces along a dimension, filled up with zeros, as rows; the rows of all side by side.
fn chunk_cat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let tensors = args.tensors(b, 0)?;
    let (dim, n) = (args.known_int(b, 1)?, args.known_int(b, 2)?);
    if n < 1 || tensors.is_empty() {
        return Err(b.user("_chunk_cat expects non-empty tensors and at least one chunk"));
    }
    let mut parts = Vec::with_capacity(tensors.len());
    let mut at = 0;
    for t in &tensors {
        let dim = wrap(b, dim, t.rank())?;
        at = dim;
        let more = b.binary(BinaryOp::Add, t.dims[dim].into(), int(n - 1));
        let size = b.binary(BinaryOp::FloorDiv, more, int(n));
        let whole = b.binary(BinaryOp::Mul, size, int(n));
        let mut dims = t.dims.clone();
        dims[dim] = b.dim(whole);
        let padded = b.map(t.dtype, &dims, |k, i| {
            let fits = k.in_bounds(i[dim], t.dims[dim]);
            let zero = k.zero(t.dtype);
            k.load_or(t, i, fits, zero)
        });
        let rest = b.product(&dims[dim..]);
        let rest = b.binary(BinaryOp::FloorDiv, rest, int(n));
        let shape = [&dims[..dim], &[Dim::Const(n), b.dim(rest)]].concat();
        parts.push(views::reshape(b, &padded, &shape));
    }
    Ok(Value::Tensor(cat(b, &parts, at + 1)?))
}

/// `(gradient - sum(gradient * output)) * output`
fn softmax_backward(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (gradient, output) = (args.tensor(0)?, args.tensor(1)?);
    let dim = dim_arg(b, args, 2, output.rank())?;
    let dtype = args.dtype(b, 3)?.unwrap_or(output.dtype);
    let product = times(b, &gradient, &output)?;
    let sum = sum_over(b, &product, &Over::new(vec![dim], true), product.dtype);
    let result = elementwise(b, &[&gradient, &sum, &output], None, |k, v| {
        let rest = k.sub(v[0], v[1]);
        k.mul(rest, v[2])
    })?;
    Ok(Value::Tensor(super::copy::cast(b, &result, dtype)))
}

/// A softmax whose rows without any finite number are zeros.
fn safe_softmax(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let output = call_tensor(b, "aten::softmax", "int", args.values)?;
    let greatest = super::reduce::extreme_over(b, &x, &Over::new(vec![dim], true), crate::loops::ReduceOp::Max);
    let greatest = super::copy::cast(b, &greatest, output.dtype);
    Ok(Value::Tensor(elementwise(b, &[&output, &greatest], None, |k, v| {
        let (zero, nothing) = (number(k, v[0], 0.0), number(k, v[1], f64::NEG_INFINITY));
        let is_empty = k.binary(BinaryOp::Eq, v[1], nothing);
        k.select(is_empty, zero, v[0])
    })?))
}

/// Products of centred rows over the root of those with themselves.
fn corrcoef(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() > 2 {
        return Err(b.user(format!("corrcoef(): expected input to have two or fewer dimensions but got {}", x.rank())));
    }
    let mut rows = super::index::at_least_1d(b, &x);
    if rows.rank() == 1 {
        rows = views::unsqueeze(b, &rows, 0);
    }
    let is_single = rows.dims[0] == Dim::Const(1);
    if !rows.dtype.is_complex() {
        let dtype = float_type(rows.dtype);
        rows = super::copy::cast(b, &rows, dtype);
    }
    let dims = b.new_list(vec![Value::int(1)]);
    let mean =
        call_tensor(b, "aten::mean", "dim", &[Value::Tensor(rows.clone()), dims, Value::bool(true), Value::None])?;
    let centred = minus(b, &rows, &mean)?;
    let turned = views::transpose(b, &centred, 0, 1);
    let other = call(b, "aten::conj", "", &[Value::Tensor(turned)])?;
    let products = call_tensor(b, "aten::matmul", "", &[Value::Tensor(centred), other])?;
    let own = diagonal_of(b, &products, 0, 0, 1);
    let own = call_tensor(b, "aten::real", "", &[Value::Tensor(own)])?;
    let sizes = super::pointwise::unary(b, &own, own.dtype, |k, v| k.unary(UnaryOp::Sqrt, v));
    let (column, row) = (views::unsqueeze(b, &sizes, 1), views::unsqueeze(b, &sizes, 0));
    let quotient = call(b, "aten::div", "Tensor", &[Value::Tensor(products), Value::Tensor(column)])?;
    let mut result = call_tensor(b, "aten::div", "Tensor", &[quotient, Value::Tensor(row)])?;
    if !result.dtype.is_complex() {
        result = super::pointwise::unary(b, &result, result.dtype, |k, v| {
            let (one, minus_one) = (number(k, v, 1.0), number(k, v, -1.0));
            let v = k.min(v, one);
            k.max(v, minus_one)
        });
    }
    Ok(Value::Tensor(if is_single { views::reshape(b, &result, &[] as &[Dim]) } else { result }))
}

/// What a tensor seen as a matrix must be multiplied with to give another.
fn tensorsolve(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut a, right) = (args.tensor(0)?, args.tensor(1)?);
    if *args.value(2)? != Value::None {
        let last = super::view::dims_arg(b, args, 2, a.rank())?;
        let order: Vec<usize> = (0..a.rank()).filter(|d| !last.contains(d)).chain(last.iter().copied()).collect();
        a = views::permute(b, &a, &order);
    }
    let Some(shape) = a.dims.get(right.rank()..).map(<[Dim]>::to_vec) else {
        return Err(b.user("tensorsolve expects a tensor of at least as many dimensions as its right side"));
    };
    let n = b.product(&right.dims);
    let n = b.dim(n);
    let (matrix, column) = (views::reshape(b, &a, &[n, n]), views::reshape(b, &right, &[n]));
    let values = [Value::Tensor(matrix), Value::Tensor(column), Value::bool(true)];
    let x = call_tensor(b, "aten::linalg_solve", "", &values)?;
    Ok(Value::Tensor(views::reshape(b, &x, &shape)))
}

/// The inverse of a tensor seen as a matrix, the rows of which are its first `ind` dimensions.
fn tensorinv(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (a, at) = (args.tensor(0)?, args.known_int(b, 1)?);
    let Some(at) = usize::try_from(at).ok().filter(|at| *at > 0 && *at <= a.rank()) else {
        return Err(b.user("Expected a strictly positive integer for 'ind'"));
    };
    let n = b.product(&a.dims[..at]);
    let n = b.dim(n);
    let shape = [&a.dims[at..], &a.dims[..at]].concat();
    let matrix = views::reshape(b, &a, &[n, n]);
    let inverse = call_tensor(b, "aten::linalg_inv", "", &[Value::Tensor(matrix)])?;
    Ok(Value::Tensor(views::reshape(b, &inverse, &shape)))
}

/// Memory without a value; its strides are those of a tensor that lies row-major.
fn new_empty_strided(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims: Vec<Dim> = args.int_list(b, 1)?.into_iter().map(|size| b.dim(size)).collect();
    let dtype = args.dtype(b, 3)?.unwrap_or(x.dtype);
    Ok(Value::Tensor(b.splat(int(0), dtype, &dims)))
}
