//! Views with other dimensions: reshaped, permuted, expanded. Nothing here computes or copies, unless memory demands it.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views;

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
    OpDef { name: "aten::atleast_1d", lower: |b, a| atleast(b, a, 1) },
    OpDef { name: "aten::atleast_2d", lower: |b, a| atleast(b, a, 2) },
];

/// A dimension given as users do, at this position, of a tensor of this rank: wrapped, or the error PyTorch gives.
///
/// Where only the running program knows it, the operator is lowered once for each dimension.
pub fn dim_arg(b: &mut Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<usize> {
    match args.value(at)? {
        Value::Int(dim @ Operand::Var(_)) => decided_dim(b, dim, rank),
        _ => {
            let dim = args.known_int(b, at)?;
            wrap(b, dim, rank)
        }
    }
}

/// A dimension of a tensor of this rank, from either end; see [`dim_arg`].
pub fn decided_dim(b: &mut Builder<'_>, dim: &Operand, rank: usize) -> Result<usize> {
    if let Some(dim) = known_int(dim) {
        return wrap(b, dim, rank);
    }
    let n = i64::try_from(rank.max(1)).unwrap_or(i64::MAX);
    let extent = b.dim(dim.clone());
    for candidate in (0..n).chain(-n..0) {
        if b.decide_extent(extent, candidate)? {
            return wrap(b, candidate, rank);
        }
    }
    let message = format!("Dimension out of range (expected to be in range of [{}, {}], but got {{}})", -n, n - 1);
    Err(b.fail(Message::new(&message, &[dim.into()])))
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

/// Several dimensions of a tensor of this rank, wrapped; a repeated one is an error. For those that only the running program knows
/// see [`dim_arg`].
pub fn dims_arg(b: &mut Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<Vec<usize>> {
    let dims = any_dims_arg(b, args, at, rank)?;
    match repeated(&dims) {
        Some(dim) => Err(b.user(format!("dim {dim} appears multiple times in the list of dims"))),
        None => Ok(dims),
    }
}

/// [`dims_arg`], of which some may be the same.
pub fn any_dims_arg(b: &mut Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<Vec<usize>> {
    let dims = args.int_list(b, at)?;
    dims.iter().map(|dim| decided_dim(b, dim, rank)).collect()
}

/// The first dimension that is there twice.
pub fn repeated(dims: &[usize]) -> Option<usize> {
    dims.iter().enumerate().find(|(at, dim)| dims[..*at].contains(dim)).map(|(_, dim)| *dim)
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

fn transpose(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (p, q) = (dim_arg(b, args, 1, x.rank())?, dim_arg(b, args, 2, x.rank())?);
    Ok(Value::Tensor(views::transpose(b, &x, p, q)))
}

fn permute(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let order = args.int_list(b, 1)?;
    if order.len() != x.rank() {
        return Err(b.user(format!(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired \
             ordering of dimensions i.e. input.dim() = {} is not equal to len(dims) = {}",
            x.rank(),
            order.len()
        )));
    }
    let order = any_dims_arg(b, args, 1, x.rank())?;
    if repeated(&order).is_some() {
        return Err(b.user("permute(): duplicate dims are not allowed."));
    }
    Ok(Value::Tensor(views::permute(b, &x, &order)))
}

fn movedim(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let n_dims = (args.int_list(b, 1)?.len(), args.int_list(b, 2)?.len());
    if n_dims.0 != n_dims.1 {
        let message = "movedim: Invalid source or destination dims: source ({} dims) should contain the same number of dims as \
                       destination ({} dims)";
        let message = message.replacen("{}", &n_dims.0.to_string(), 1).replacen("{}", &n_dims.1.to_string(), 1);
        return Err(b.user(message));
    }
    let (from, to) = (any_dims_arg(b, args, 1, x.rank())?, any_dims_arg(b, args, 2, x.rank())?);
    for (dims, name) in [(&from, "source"), (&to, "destination")] {
        if repeated(dims).is_some() {
            return Err(b.user(format!("movedim: repeated dim in `{name}` ({dims:?})")));
        }
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
    let at = dims_arg(b, args, 1, x.rank())?;
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
        let message = "expand(torch.{}Tensor{{}}, size={}): the number of sizes provided ({}) must be greater or equal to the \
                       number of dimensions in the tensor ({})";
        let class = x.dtype.graph_name();
        let parts = [class.into(), (&x.dims).into(), sizes.as_slice().into(), sizes.len().into(), x.rank().into()];
        return Err(b.fail(Message::new(message, &parts)));
    };
    let mut dims = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.into_iter().enumerate() {
        let size = if b.is_extent(&size) {
            size
        } else if i >= lead {
            let is_kept = b.binary(BinaryOp::Eq, size.clone(), int(-1));
            b.select(is_kept, x.dims[i - lead].into(), size)
        } else {
            let is_fine = b.binary(BinaryOp::Ge, size.clone(), int(0));
            let message = "The expanded size of the tensor ({}) isn't allowed in a leading, non-existing dimension {}";
            b.require(is_fine, Message::new(message, &[(&size).into(), i.into()]))?;
            size
        };
        dims.push(b.dim(size));
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
