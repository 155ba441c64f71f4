//! Views: the same memory under other indices, and copies of it. Nothing here computes.

use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::as_tensor;
use crate::ops::value::{Affine, Tensor, Value, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::view", lower: view },
    OpDef { name: "aten::view.dtype", lower: view_dtype },
    OpDef { name: "aten::_unsafe_view", lower: reshape },
    OpDef { name: "aten::reshape", lower: reshape },
    OpDef { name: "aten::_reshape_alias", lower: reshape },
    OpDef { name: "aten::view_as", lower: view_as },
    OpDef { name: "aten::reshape_as", lower: reshape_as },
    OpDef { name: "aten::flatten.using_ints", lower: flatten },
    OpDef { name: "aten::ravel", lower: ravel },
    OpDef { name: "aten::unflatten.int", lower: unflatten },
    OpDef { name: "aten::slice.Tensor", lower: slice },
    OpDef { name: "aten::select.int", lower: select },
    OpDef { name: "aten::narrow", lower: narrow },
    OpDef { name: "aten::transpose.int", lower: transpose },
    OpDef { name: "aten::swapaxes", lower: transpose },
    OpDef { name: "aten::swapdims", lower: transpose },
    OpDef { name: "aten::permute", lower: permute },
    OpDef { name: "aten::movedim", lower: movedim },
    OpDef { name: "aten::moveaxis", lower: movedim },
    OpDef { name: "aten::t", lower: numpy_t },
    OpDef { name: "aten::numpy_T", lower: numpy_t },
    OpDef { name: "aten::mT", lower: matrix_t },
    OpDef { name: "aten::adjoint", lower: matrix_t },
    OpDef { name: "aten::matrix_H", lower: matrix_t },
    OpDef { name: "aten::mH", lower: matrix_t },
    OpDef { name: "aten::unsqueeze", lower: unsqueeze },
    OpDef { name: "aten::squeeze", lower: squeeze },
    OpDef { name: "aten::squeeze.dim", lower: squeeze_dims },
    OpDef { name: "aten::squeeze.dims", lower: squeeze_dims },
    OpDef { name: "aten::expand", lower: expand },
    OpDef { name: "aten::broadcast_to", lower: expand },
    OpDef { name: "aten::expand_as", lower: expand_as },
    OpDef { name: "aten::broadcast_tensors", lower: broadcast_tensors },
    OpDef { name: "aten::split.Tensor", lower: split },
    OpDef { name: "aten::split", lower: split_with_sizes },
    OpDef { name: "aten::split.sizes", lower: split_with_sizes },
    OpDef { name: "aten::split_with_sizes", lower: split_with_sizes },
    OpDef { name: "aten::unsafe_split.Tensor", lower: split },
    OpDef { name: "aten::unsafe_split_with_sizes", lower: split_with_sizes },
    OpDef { name: "aten::chunk", lower: chunk },
    OpDef { name: "aten::unsafe_chunk", lower: chunk },
    OpDef { name: "aten::tensor_split.sections", lower: tensor_split },
    OpDef { name: "aten::tensor_split.indices", lower: tensor_split_indices },
    OpDef { name: "aten::unbind", lower: unbind },
    OpDef { name: "aten::as_strided", lower: as_strided },
    OpDef { name: "aten::unfold", lower: unfold },
    OpDef { name: "aten::diagonal", lower: diagonal },
    OpDef { name: "aten::atleast_1d", lower: |b, a| atleast(b, a, 1) },
    OpDef { name: "aten::atleast_2d", lower: |b, a| atleast(b, a, 2) },
    OpDef { name: "aten::contiguous", lower: contiguous },
    OpDef { name: "aten::clone", lower: clone },
    OpDef { name: "aten::lift_fresh_copy", lower: clone },
    OpDef { name: "aten::detach_copy", lower: clone },
    OpDef { name: "aten::detach", lower: same },
    OpDef { name: "aten::detach_", lower: same },
    OpDef { name: "aten::alias", lower: same },
    OpDef { name: "aten::data", lower: same },
    OpDef { name: "prim::data", lower: same },
    OpDef { name: "aten::cpu", lower: same },
    OpDef { name: "aten::lift_fresh", lower: same },
    OpDef { name: "aten::resolve_conj", lower: same },
    OpDef { name: "aten::resolve_neg", lower: same },
    OpDef { name: "aten::requires_grad_", lower: same },
    OpDef { name: "aten::pin_memory", lower: same },
    OpDef { name: "aten::to_dense", lower: same },
    OpDef { name: "aten::to", lower: to },
    OpDef { name: "aten::_to_copy", lower: to },
    OpDef { name: "aten::to.other", lower: type_as },
    OpDef { name: "aten::type_as", lower: type_as },
    OpDef { name: "aten::_cast_Byte", lower: |b, a| cast_value(b, a, DType::U8) },
    OpDef { name: "aten::_cast_Char", lower: |b, a| cast_value(b, a, DType::I8) },
    OpDef { name: "aten::_cast_Short", lower: |b, a| cast_value(b, a, DType::I16) },
    OpDef { name: "aten::_cast_Int", lower: |b, a| cast_value(b, a, DType::I32) },
    OpDef { name: "aten::_cast_Long", lower: |b, a| cast_value(b, a, DType::I64) },
    OpDef { name: "aten::_cast_Half", lower: |b, a| cast_value(b, a, DType::F16) },
    OpDef { name: "aten::_cast_Float", lower: |b, a| cast_value(b, a, DType::F32) },
    OpDef { name: "aten::_cast_Double", lower: |b, a| cast_value(b, a, DType::F64) },
    OpDef { name: "aten::copy_", lower: copy_ },
    OpDef { name: "aten::copy", lower: copy },
    OpDef { name: "aten::size", lower: size },
    OpDef { name: "aten::size.int", lower: size_int },
    OpDef { name: "aten::dim", lower: |_, a| Ok(Value::int(i64::try_from(a.tensor(0)?.rank()).unwrap_or(i64::MAX))) },
    OpDef { name: "aten::numel", lower: numel },
    OpDef { name: "aten::stride", lower: stride },
    OpDef { name: "aten::stride.int", lower: stride_int },
    OpDef { name: "aten::storage_offset", lower: storage_offset },
    OpDef { name: "aten::is_contiguous", lower: is_contiguous },
];

fn int(value: i64) -> Operand {
    Operand::Const(Const::int(value))
}

/// A dimension given as users do, at this position, of a tensor of this rank: wrapped, or the error PyTorch gives.
pub fn dim_arg(b: &Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<usize> {
    let dim = args.known_int(b, at)?;
    wrap(b, dim, rank)
}

/// [`dim_arg`] of a number.
pub fn wrap(b: &Builder<'_>, dim: i64, rank: usize) -> Result<usize> {
    let n = i64::try_from(rank.max(1)).unwrap_or(i64::MAX);
    let wrapped = if dim < 0 { dim + n } else { dim };
    usize::try_from(wrapped).ok().filter(|d| *d < rank.max(1)).ok_or_else(|| {
        let range = format!("[{}, {}]", -n, n - 1);
        b.user(format!("Dimension out of range (expected to be in range of {range}, but got {dim})"))
    })
}

/// Several dimensions, wrapped; a repeated one is an error.
pub fn wrap_all(b: &Builder<'_>, dims: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut out = Vec::with_capacity(dims.len());
    for &dim in dims {
        let wrapped = wrap(b, dim, rank)?;
        if out.contains(&wrapped) {
            return Err(b.user(format!("dim {wrapped} appears multiple times in the list of dims")));
        }
        out.push(wrapped);
    }
    Ok(out)
}

fn view(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wanted = args.int_list(b, 1)?;
    let dims = views::infer_dims(b, &x, &wanted)?;
    match views::view(b, &x, &dims) {
        Some(view) => Ok(Value::Tensor(view)),
        None if x.known_dims().is_none() => Ok(Value::Tensor(views::reshape(b, &x, &dims))),
        None => Err(b.user(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two \
             contiguous subspaces). Use .reshape(...) instead.",
        )),
    }
}

fn view_dtype(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    match args.dtype(b, 1)? {
        Some(dtype) if dtype == x.dtype => Ok(Value::Tensor(x)),
        _ => Err(b.unsupported("views of memory under another element type")),
    }
}

fn reshape(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let wanted = args.int_list(b, 1)?;
    let dims = views::infer_dims(b, &x, &wanted)?;
    Ok(Value::Tensor(views::reshape(b, &x, &dims)))
}

fn view_as(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    reshape_as(b, args)
}

fn reshape_as(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, other) = (args.tensor(0)?, args.tensor(1)?);
    let wanted: Vec<Operand> = other.dims.iter().map(|d| (*d).into()).collect();
    let dims = views::infer_dims(b, &x, &wanted)?;
    Ok(Value::Tensor(views::reshape(b, &x, &dims)))
}

/// The tensor with dimensions `first..=last` joined into one.
pub fn join_dims(b: &mut Builder<'_>, x: &Tensor, first: usize, last: usize) -> Tensor {
    if x.rank() == 0 {
        return views::reshape(b, x, &[Dim::Const(1)]);
    }
    let joined = b.product(&x.dims[first..=last]);
    let joined = b.dim(joined);
    let mut dims = x.dims[..first].to_vec();
    dims.push(joined);
    dims.extend_from_slice(&x.dims[last + 1..]);
    views::reshape(b, x, &dims)
}

fn flatten(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (first, last) = (dim_arg(b, args, 1, x.rank())?, dim_arg(b, args, 2, x.rank())?);
    if first > last {
        return Err(b.user("flatten() has invalid args: start_dim cannot come after end_dim"));
    }
    if first == last && x.rank() > 0 {
        return Ok(Value::Tensor(x));
    }
    Ok(Value::Tensor(join_dims(b, &x, first, last)))
}

fn ravel(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(flat(b, &x)))
}

/// All elements in one dimension.
pub fn flat(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    join_dims(b, x, 0, x.rank().saturating_sub(1))
}

fn unflatten(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let sizes = args.int_list(b, 2)?;
    let mut wanted: Vec<Operand> = x.dims.iter().map(|d| (*d).into()).collect();
    wanted.splice(dim..=dim, sizes);
    let dims = views::infer_dims(b, &x, &wanted)?;
    Ok(Value::Tensor(views::reshape(b, &x, &dims)))
}

/// A bound of a slice: wrapped once and clamped to `0..=extent`.
pub fn slice_bound(b: &mut Builder<'_>, bound: &Operand, extent: Dim) -> Operand {
    let n: Operand = extent.into();
    match (known_int(bound), extent.known()) {
        (Some(i), Some(n)) => int(if i < 0 { (i.saturating_add(n)).max(0) } else { i.min(n) }),
        (Some(0), None) => int(0),
        (Some(i64::MAX), None) => n,
        (Some(i), None) if i >= 0 => b.binary(BinaryOp::Min, n, int(i)),
        (Some(i), None) => {
            let moved = b.binary(BinaryOp::Add, n, int(i));
            b.binary(BinaryOp::Max, moved, int(0))
        }
        (None, _) => {
            let is_negative = b.binary(BinaryOp::Lt, bound.clone(), int(0));
            let moved = b.binary(BinaryOp::Add, bound.clone(), n.clone());
            let wrapped = b.select(is_negative, moved, bound.clone());
            let low = b.binary(BinaryOp::Max, wrapped, int(0));
            b.binary(BinaryOp::Min, low, n)
        }
    }
}

/// `x[start:end:step]` along a dimension, with Python's rules for bounds.
pub fn slice_dim(
    b: &mut Builder<'_>,
    x: &Tensor,
    dim: usize,
    start: Option<&Operand>,
    end: Option<&Operand>,
    step: i64,
) -> Tensor {
    let extent = x.dims[dim];
    let start = start.map_or_else(|| int(0), |s| slice_bound(b, s, extent));
    let end = end.map_or_else(|| extent.into(), |e| slice_bound(b, e, extent));
    let length = b.binary(BinaryOp::Sub, end.clone(), start.clone());
    // A start known to be 0 leaves `end`, which is not negative.
    let length = if known_int(&start) == Some(0) { end } else { b.binary(BinaryOp::Max, length, int(0)) };
    let more = b.binary(BinaryOp::Add, length, int(step - 1));
    let count = b.binary(BinaryOp::FloorDiv, more, int(step));
    let count = b.dim(count);
    views::slice(b, x, dim, start, count, step)
}

fn slice(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 {
        return Err(b.user("slice() cannot be applied to a 0-dim tensor."));
    }
    let dim = dim_arg(b, args, 1, x.rank())?;
    let (start, end) = (args.optional_int(b, 2)?, args.optional_int(b, 3)?);
    let step = args.int(b, 4)?;
    let Some(step) = known_int(&step) else {
        return Ok(Value::Tensor(strided_copy(b, &x, dim, start.as_ref(), end.as_ref(), step)));
    };
    if step <= 0 {
        return Err(b.user("slice step must be positive"));
    }
    Ok(Value::Tensor(slice_dim(b, &x, dim, start.as_ref(), end.as_ref(), step)))
}

/// A slice whose step only the running program knows. A view cannot say that, so this is a copy: writes to it do not show.
fn strided_copy(
    b: &mut Builder<'_>,
    x: &Tensor,
    dim: usize,
    start: Option<&Operand>,
    end: Option<&Operand>,
    step: Operand,
) -> Tensor {
    let is_fine = b.binary(BinaryOp::Gt, step.clone(), int(0));
    b.check(is_fine, "slice step must be positive");
    let rest = slice_dim(b, x, dim, start, end, 1);
    let less = b.binary(BinaryOp::Sub, step.clone(), int(1));
    let up = b.binary(BinaryOp::Add, rest.dims[dim].into(), less);
    let count = b.binary(BinaryOp::FloorDiv, up, step.clone());
    let mut dims = rest.dims.clone();
    dims[dim] = b.dim(count);
    b.map(x.dtype, &dims, |k, i| {
        let mut at = i.to_vec();
        let step = k.operand(&step);
        at[dim] = k.mul(i[dim], step);
        k.load(&rest, &at)
    })
}

fn select(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 {
        return Err(b.user("select() cannot be applied to a 0-dim tensor."));
    }
    let dim = dim_arg(b, args, 1, x.rank())?;
    let index = args.int(b, 2)?;
    let index = views::wrap_index(b, index, x.dims[dim], dim)?;
    Ok(Value::Tensor(views::select(b, &x, dim, index)))
}

fn narrow(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let (start, length) = (args.int(b, 2)?, args.int(b, 3)?);
    let n: Operand = x.dims[dim].into();
    let is_negative = b.binary(BinaryOp::Lt, start.clone(), int(0));
    let moved = b.binary(BinaryOp::Add, start.clone(), n.clone());
    let start = b.select(is_negative, moved, start);
    let end = b.binary(BinaryOp::Add, start.clone(), length.clone());
    let fits = b.binary(BinaryOp::Le, end, n);
    let low = b.binary(BinaryOp::Ge, start.clone(), int(0));
    let fits = b.binary(BinaryOp::And, fits, low);
    b.check(fits, "start + length exceeds dimension size");
    let length = b.dim(length);
    Ok(Value::Tensor(views::slice(b, &x, dim, start, length, 1)))
}

fn transpose(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (p, q) = (dim_arg(b, args, 1, x.rank())?, dim_arg(b, args, 2, x.rank())?);
    Ok(Value::Tensor(views::transpose(b, &x, p, q)))
}

fn permute(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let order = args.known_ints(b, 1)?;
    if order.len() != x.rank() {
        return Err(b.user(format!(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired \
             ordering of dimensions i.e. input.dim() = {} is not equal to len(dims) = {}",
            x.rank(),
            order.len()
        )));
    }
    let order = wrap_all(b, &order, x.rank())?;
    Ok(Value::Tensor(views::permute(b, &x, &order)))
}

fn movedim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (from, to) = (args.known_ints(b, 1)?, args.known_ints(b, 2)?);
    let (from, to) = (wrap_all(b, &from, x.rank())?, wrap_all(b, &to, x.rank())?);
    if from.len() != to.len() {
        return Err(b.user("movedim: Invalid source or destination dims: they should contain the same number of dims"));
    }
    let mut order: Vec<Option<usize>> = vec![None; x.rank()];
    for (&f, &t) in from.iter().zip(&to) {
        if let Some(place) = order.get_mut(t) {
            *place = Some(f);
        }
    }
    let mut rest = (0..x.rank()).filter(|d| !from.contains(d));
    let order: Vec<usize> = order.into_iter().map(|o| o.or_else(|| rest.next()).unwrap_or(0)).collect();
    Ok(Value::Tensor(views::permute(b, &x, &order)))
}

/// All dimensions in reverse.
fn numpy_t(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if b.op_name == "t" && x.rank() > 2 {
        return Err(b.user(format!("t() expects a tensor with <= 2 dimensions, but self is {}D", x.rank())));
    }
    let order: Vec<_> = (0..x.rank()).rev().collect();
    Ok(Value::Tensor(views::permute(b, &x, &order)))
}

/// The two last dimensions exchanged.
fn matrix_t(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dtype.is_complex() && b.op_name != "mT" {
        return Err(b.unsupported("the adjoint of complex matrices"));
    }
    match x.rank() {
        0 => Ok(Value::Tensor(x)),
        1 => Err(b.user("tensor.mT is only supported on matrices or batches of matrices. Got 1-D tensor.")),
        n => Ok(Value::Tensor(views::transpose(b, &x, n - 2, n - 1))),
    }
}

fn unsqueeze(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let at = dim_arg(b, args, 1, x.rank() + 1)?;
    Ok(Value::Tensor(views::unsqueeze(b, &x, at)))
}

fn squeeze(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let all: Vec<_> = (0..x.rank()).collect();
    squeeze_ones(b, &x, &all)
}

fn squeeze_dims(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let at = args.known_ints(b, 1)?;
    let at = wrap_all(b, &at, x.rank())?;
    squeeze_ones(b, &x, &at)
}

/// Drops the dimensions among `at` whose extent is 1. The rank of the result depends on extents known only when running.
fn squeeze_ones(b: &mut Builder<'_>, x: &Tensor, at: &[usize]) -> Result<Value> {
    let mut drop = vec![false; x.rank()];
    for &i in at.iter().filter(|i| **i < x.rank()) {
        drop[i] = b.decide_extent(x.dims[i], 1)?;
    }
    Ok(Value::Tensor(views::squeeze(b, x, |i| drop[i])))
}

fn expand(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let sizes = args.int_list(b, 1)?;
    let Some(lead) = sizes.len().checked_sub(x.rank()) else {
        return Err(b.user(format!(
            "expand({}, size={}): the number of sizes provided ({}) must be greater or equal to the number of dimensions \
             in the tensor ({})",
            views::shape_text(&x.dims),
            sizes.len(),
            sizes.len(),
            x.rank()
        )));
    };
    let mut dims = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.into_iter().enumerate() {
        dims.push(match known_int(&size) {
            Some(-1) if i >= lead => x.dims[i - lead],
            Some(n) if n < 0 => {
                return Err(b.user(format!(
                    "The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {i}"
                )));
            }
            _ => b.dim(size),
        });
    }
    Ok(Value::Tensor(views::expand_to(b, &x, &dims)?))
}

fn expand_as(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, other) = (args.tensor(0)?, args.tensor(1)?);
    Ok(Value::Tensor(views::expand_to(b, &x, &other.dims)?))
}

fn broadcast_tensors(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let tensors = args.tensors(b, 0)?;
    let shapes: Vec<&[Dim]> = tensors.iter().map(|t| t.dims.as_slice()).collect();
    let dims = views::broadcast(b, &shapes)?;
    let expanded = tensors.iter().map(|t| views::expand_to(b, t, &dims)).collect::<Result<Vec<_>>>()?;
    Ok(tensor_list(b, expanded))
}

/// A new list of tensors.
pub fn tensor_list(b: &mut Builder<'_>, tensors: Vec<Tensor>) -> Value {
    b.new_list(tensors.into_iter().map(Value::Tensor).collect())
}

/// The extent of a dimension that decides how many tensors there are.
fn known_extent(b: &Builder<'_>, x: &Tensor, dim: usize) -> Result<i64> {
    match x.dims.get(dim) {
        Some(extent) => extent.known().ok_or_else(|| {
            b.unsupported(format!("{} along a dimension whose extent is known only when running", b.op_name))
        }),
        None => Err(b.user(format!("{} expects at least a 1-dimensional tensor", b.op_name))),
    }
}

/// Consecutive pieces of these lengths.
fn pieces(b: &mut Builder<'_>, x: &Tensor, dim: usize, lengths: &[i64]) -> Value {
    let mut start = 0;
    let mut parts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        parts.push(views::slice(b, x, dim, int(start), Dim::Const(length), 1));
        start += length;
    }
    tensor_list(b, parts)
}

fn pieces_of(b: &mut Builder<'_>, x: &Tensor, dim: usize, size: i64, n: i64) -> Value {
    let count = if size == 0 { 1 } else { ((n + size - 1) / size).max(1) };
    let lengths: Vec<_> = (0..count).map(|i| size.min(n - i * size)).collect();
    pieces(b, x, dim, &lengths)
}

fn split(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let n = known_extent(b, &x, dim)?;
    let size = args.known_int(b, 1)?;
    if size < 0 || size == 0 && n != 0 {
        return Err(b.user(format!("split expects split_size be non-negative, but got split_size={size}")));
    }
    Ok(pieces_of(b, &x, dim, size, n))
}

fn chunk(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let n = known_extent(b, &x, dim)?;
    let chunks = args.known_int(b, 1)?;
    if chunks <= 0 {
        return Err(b.user(format!("chunk expects `chunks` to be greater than 0, got: {chunks}")));
    }
    if n == 0 {
        let lengths = vec![0; usize::try_from(chunks).unwrap_or(1)];
        return Ok(pieces(b, &x, dim, &lengths));
    }
    Ok(pieces_of(b, &x, dim, (n + chunks - 1) / chunks, n))
}

fn split_with_sizes(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let lengths = args.known_ints(b, 1)?;
    let total: i64 = lengths.iter().sum();
    let matches = b.binary(BinaryOp::Eq, int(total), x.dims[dim].into());
    let extent = x.dims[dim].known();
    if lengths.iter().any(|n| *n < 0) || extent.is_some_and(|n| n != total) {
        return Err(b.user(format!(
            "split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at dimension {dim}), but got \
             split_sizes={lengths:?}",
            extent.unwrap_or(total)
        )));
    }
    b.check(matches, "split_with_sizes expects split_sizes to sum exactly to the input tensor's size");
    Ok(pieces(b, &x, dim, &lengths))
}

/// As many pieces as asked for, the first ones longer by one.
fn tensor_split(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let n = known_extent(b, &x, dim)?;
    let sections = args.known_int(b, 1)?;
    if sections <= 0 {
        return Err(b.user(format!("number of sections must be larger than 0, got {sections}")));
    }
    let lengths: Vec<_> = (0..sections).map(|i| n / sections + i64::from(i < n % sections)).collect();
    Ok(pieces(b, &x, dim, &lengths))
}

fn tensor_split_indices(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let ends = args.int_list(b, 1)?;
    let mut start = int(0);
    let mut parts = Vec::with_capacity(ends.len() + 1);
    for end in &ends {
        parts.push(slice_dim(b, &x, dim, Some(&start), Some(end), 1));
        start = end.clone();
    }
    parts.push(slice_dim(b, &x, dim, Some(&start), None, 1));
    Ok(tensor_list(b, parts))
}

fn unbind(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let n = known_extent(b, &x, dim)?;
    let parts = (0..n).map(|i| views::select(b, &x, dim, int(i))).collect();
    Ok(tensor_list(b, parts))
}

fn as_strided(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (sizes, strides) = (args.known_ints(b, 1)?, args.known_ints(b, 2)?);
    if sizes.len() != strides.len() {
        return Err(b.user("mismatch in length of strides and shape"));
    }
    let _ = b.storage_buffer(x.storage);
    let storage = b.heap.storages[x.storage].dims.clone();
    let total = b.product(&storage);
    let known = b.flat_view(&x);
    let (Some(total), Some((_, own))) = (known_int(&total), known) else {
        return Err(b.unsupported("as_strided of a tensor whose shape is known only when running"));
    };
    let offset = match args.optional_int(b, 3)? {
        Some(offset) => b.dim(offset),
        None => own,
    };
    let reach: i64 = sizes.iter().zip(&strides).map(|(n, s)| (n - 1) * s).sum();
    let is_empty = sizes.contains(&0);
    if let Some(offset) = offset.known() {
        if !is_empty && (offset < 0 || offset + reach >= total) {
            return Err(b.user("setStorage: sizes and strides are out of bounds for the storage"));
        }
    }
    let dims = sizes.iter().map(|n| Dim::Const(*n)).collect();
    Ok(Value::Tensor(views::as_strided_on(&x, total, offset, dims, &strides)))
}

/// Windows of a dimension as a new last dimension.
fn unfold(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let (size, step) = (args.known_int(b, 2)?, args.known_int(b, 3)?);
    if step <= 0 {
        return Err(b.user(format!("step is {step} but must be > 0")));
    }
    if x.rank() == 0 {
        return Err(b.unsupported("unfold of a 0-dim tensor"));
    }
    if let Some(n) = x.dims[dim].known().filter(|n| *n < size) {
        return Err(b.user(format!("maximum size for tensor at dimension {dim} is {n} but size is {size}")));
    }
    let rest = b.binary(BinaryOp::Sub, x.dims[dim].into(), int(size));
    let steps = b.binary(BinaryOp::FloorDiv, rest, int(step));
    let count = b.binary(BinaryOp::Add, steps, int(1));
    let mut axes: Vec<_> = (0..x.rank()).map(Affine::axis).collect();
    axes[dim] = Affine { offset: int(0), terms: vec![(dim, step), (x.rank(), 1)] };
    let mut dims = x.dims.clone();
    dims[dim] = b.dim(count);
    dims.push(Dim::Const(size));
    Ok(Value::Tensor(views::remap(b, &x, &axes, dims)))
}

fn diagonal(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let offset = args.known_int(b, 1)?;
    let (p, q) = (dim_arg(b, args, 2, x.rank())?, dim_arg(b, args, 3, x.rank())?);
    if p == q {
        return Err(b.user(format!("diagonal dimensions cannot be identical {p}, {q}")));
    }
    Ok(Value::Tensor(diagonal_of(b, &x, offset, p, q)))
}

/// The diagonal of two dimensions as a new last one.
pub fn diagonal_of(b: &mut Builder<'_>, x: &Tensor, offset: i64, p: usize, q: usize) -> Tensor {
    let (down, right) = ((-offset).max(0), offset.max(0));
    let rows = b.binary(BinaryOp::Sub, x.dims[p].into(), int(down));
    let columns = b.binary(BinaryOp::Sub, x.dims[q].into(), int(right));
    let length = b.binary(BinaryOp::Min, rows, columns);
    let length = b.binary(BinaryOp::Max, length, int(0));
    let last = x.rank() - 2;
    let mut dims = Vec::with_capacity(last + 1);
    let mut axes = Vec::with_capacity(x.rank());
    for i in 0..x.rank() {
        axes.push(if i == p {
            Affine { offset: int(down), terms: vec![(last, 1)] }
        } else if i == q {
            Affine { offset: int(right), terms: vec![(last, 1)] }
        } else {
            dims.push(x.dims[i]);
            Affine::axis(dims.len() - 1)
        });
    }
    dims.push(b.dim(length));
    views::remap(b, x, &axes, dims)
}

fn atleast(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let raise = |b: &mut Builder<'_>, mut x: Tensor| {
        while x.rank() < rank {
            x = views::unsqueeze(b, &x, 0);
        }
        x
    };
    if let Value::Tensor(x) = args.value(0)? {
        return Ok(Value::Tensor(raise(b, x.clone())));
    }
    let tensors = args.tensors(b, 0)?;
    let raised = tensors.into_iter().map(|x| raise(b, x)).collect();
    Ok(tensor_list(b, raised))
}

/// Strides of a tensor as if its memory were row-major, where they can be said.
fn strides_of(b: &mut Builder<'_>, x: &Tensor) -> Option<Vec<Operand>> {
    if b.is_prefix(x) {
        let mut strides = Vec::with_capacity(x.rank());
        for i in 0..x.rank() {
            // Empty dimensions count as 1 here, as in PyTorch.
            let inner = x.dims[i + 1..].iter().map(|d| if *d == Dim::Const(0) { Dim::Const(1) } else { *d });
            let inner: Vec<_> = inner.collect();
            strides.push(b.product(&inner));
        }
        return Some(strides);
    }
    Some(b.flat_view(x)?.0.into_iter().map(int).collect())
}

/// Whether the elements lie row-major without gaps.
pub fn lies_row_major(b: &mut Builder<'_>, x: &Tensor) -> bool {
    if b.is_prefix(x) || x.dims.contains(&Dim::Const(0)) {
        return true;
    }
    let Some((strides, _)) = b.flat_view(x) else { return false };
    let mut expect = Some(1);
    for (dim, stride) in x.dims.iter().zip(&strides).rev() {
        if *dim == Dim::Const(1) {
            continue;
        }
        if expect != Some(*stride) {
            return false;
        }
        expect = dim.known().map(|n| n * stride);
    }
    true
}

fn is_contiguous(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let format = if args.values.len() > 1 { args.known_int(b, 1)? } else { 0 };
    if format <= 1 {
        return Ok(Value::bool(lies_row_major(b, &x)));
    }
    // Channels last: the channel dimension would have to be the innermost.
    if x.rank() < 3 {
        return Ok(Value::bool(false));
    }
    let order: Vec<_> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
    let moved = views::permute(b, &x, &order);
    Ok(Value::bool(lies_row_major(b, &moved)))
}

fn contiguous(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(if lies_row_major(b, &x) { x } else { b.copy(&x) }))
}

fn clone(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(b.copy(&x)))
}

/// The tensor itself.
fn same(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::Tensor(args.tensor(0)?))
}

/// The elements in another type; the tensor itself if it has it.
pub fn cast(b: &mut Builder<'_>, x: &Tensor, dtype: DType) -> Tensor {
    if x.dtype == dtype {
        return x.clone();
    }
    // A number stays one where its own type loses nothing that the element type would have lost.
    let is_exact = matches!(x.dtype, DType::Bool | DType::I64 | DType::F64);
    if let Some(value) = b.splat_of(x).filter(|_| is_exact) {
        return b.splat(value, dtype, &x.dims.clone());
    }
    b.map(dtype, &x.dims, |k, i| {
        let v = k.load(x, i);
        k.cast(dtype, v)
    })
}

fn cast_value(b: &mut Builder<'_>, args: &Args<'_>, dtype: DType) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(cast(b, &x, dtype)))
}

/// Every overload that names a type: devices, layouts and memory formats change nothing here.
fn to(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dtype = match args.position("dtype") {
        Some(at) if at < args.values.len() => args.dtype(b, at)?,
        _ => None,
    };
    let is_copy = match args.position("copy") {
        Some(at) if at < args.values.len() => args.flag(b, at)?,
        _ => b.op_name == "_to_copy",
    };
    let dtype = dtype.unwrap_or(x.dtype);
    Ok(Value::Tensor(if is_copy && dtype == x.dtype { b.copy(&x) } else { cast(b, &x, dtype) }))
}

fn type_as(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let other = args.tensor(1)?;
    cast_value(b, args, other.dtype)
}

/// Writes the source, broadcast and converted, into the first argument's memory.
fn copy_(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let target = args.tensor(0)?;
    let source = as_tensor(b, args.value(1)?)?;
    let source = views::expand_to(b, &source, &target.dims)?;
    let dtype = target.dtype;
    b.write(&target, |k, i| {
        let v = k.load(&source, i);
        k.cast(dtype, v)
    });
    Ok(Value::Tensor(target))
}

fn copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (target, source) = (args.tensor(0)?, args.tensor(1)?);
    let source = views::expand_to(b, &source, &target.dims)?;
    let dtype = target.dtype;
    Ok(Value::Tensor(b.map(dtype, &target.dims, |k, i| {
        let v = k.load(&source, i);
        k.cast(dtype, v)
    })))
}

fn size(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(b.new_list(x.dims.iter().map(|d| Value::Int((*d).into())).collect()))
}

fn size_int(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 {
        return Err(b.user("Dimension specified as 0 but tensor has no dimensions"));
    }
    let dim = dim_arg(b, args, 1, x.rank())?;
    Ok(Value::Int(x.dims[dim].into()))
}

fn numel(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Int(b.product(&x.dims)))
}

fn stride(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    match strides_of(b, &x) {
        Some(strides) => Ok(b.new_list(strides.into_iter().map(Value::Int).collect())),
        None => Err(b.unsupported("strides of a view whose memory's extents are known only when running")),
    }
}

fn stride_int(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    match strides_of(b, &x).and_then(|s| s.get(dim).cloned()) {
        Some(stride) => Ok(Value::Int(stride)),
        None => Err(b.unsupported("strides of a view whose memory's extents are known only when running")),
    }
}

fn storage_offset(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    match b.flat_view(&x) {
        Some((_, offset)) => Ok(Value::Int(offset.into())),
        None => Err(b.unsupported("the offset of a view whose memory's extents are known only when running")),
    }
}
