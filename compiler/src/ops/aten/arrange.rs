//! New tensors whose elements are others', moved: joined, repeated, reversed, shuffled.

use super::copy::cast;
use super::part::diagonal_of;
use super::view::{any_dims_arg, dim_arg, dims_arg, flat, tensor_list};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Dim, Operand, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::result_type;
use crate::ops::value::{ItemFacts, RunTimeList, Tensor, TensorFacts, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::cat", lower: cat_op },
    OpDef { name: "aten::concat", lower: cat_op },
    OpDef { name: "aten::concatenate", lower: cat_op },
    OpDef { name: "aten::stack", lower: stack },
    OpDef { name: "aten::hstack", lower: hstack },
    OpDef { name: "aten::vstack", lower: vstack },
    OpDef { name: "aten::dstack", lower: dstack },
    OpDef { name: "aten::repeat", lower: repeat },
    OpDef { name: "aten::tile", lower: tile },
    OpDef { name: "aten::repeat_interleave.self_int", lower: repeat_interleave },
    OpDef { name: "aten::flip", lower: flip_op },
    OpDef { name: "aten::fliplr", lower: |b, a| flip_axis(b, a, 1) },
    OpDef { name: "aten::flipud", lower: |b, a| flip_axis(b, a, 0) },
    OpDef { name: "aten::roll", lower: roll },
    OpDef { name: "aten::rot90", lower: rot90 },
    OpDef { name: "aten::pixel_shuffle", lower: pixel_shuffle },
    OpDef { name: "aten::pixel_unshuffle", lower: pixel_unshuffle },
    OpDef { name: "aten::channel_shuffle", lower: channel_shuffle },
    OpDef { name: "aten::diag", lower: diag },
    OpDef { name: "aten::diag_embed", lower: diag_embed },
    OpDef { name: "aten::meshgrid", lower: meshgrid },
];

/// The tensors of a run-time list as one: `list_cat` along a dimension, or `list_stack` along a new one.
fn joined(
    b: &mut Builder<'_>,
    routine: &'static str,
    list: &RunTimeList,
    dim: impl FnOnce(&mut Builder<'_>, usize) -> Result<usize>,
) -> Result<Value> {
    let ItemFacts::Tensor(TensorFacts { dtype, mut dims, .. }) = list.item.clone() else {
        return Err(b.user(format!("{} expects a non-empty TensorList", b.op_name)));
    };
    if routine == "list_stack" {
        let at = dim(b, dims.len() + 1)?;
        dims.insert(at, None);
        return Ok(Value::Tensor(joined_at(b, routine, list, at, dtype, dims)));
    }
    let at = dim(b, dims.len())?;
    match dims.get_mut(at) {
        Some(extent) => *extent = None,
        None => return Err(b.user("zero-dimensional tensor (at position 0) cannot be concatenated")),
    }
    Ok(Value::Tensor(joined_at(b, routine, list, at, dtype, dims)))
}

fn joined_at(
    b: &mut Builder<'_>,
    routine: &'static str,
    list: &RunTimeList,
    at: usize,
    dtype: DType,
    dims: Vec<Option<i64>>,
) -> Tensor {
    let at = int(i64::try_from(at).unwrap_or(i64::MAX));
    let args = vec![Arg::Scalar(Operand::Var(list.var)), Arg::Scalar(at)];
    let var = b.call(routine, args, &[VarType::Object])[0];
    b.tensor_in(var, &TensorFacts::row_major(dtype, dims))
}

fn cat_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Some(list) = args.run_time_list(b, 0) {
        return joined(b, "list_cat", &list, |b, rank| dim_arg(b, args, 1, rank));
    }
    let tensors = args.tensors(b, 0)?;
    if tensors.is_empty() {
        return Err(b.user("torch.cat(): expected a non-empty list of Tensors"));
    }
    if let Some(at) = tensors.iter().position(|t| t.rank() == 0) {
        return Err(b.user(format!("zero-dimensional tensor (at position {at}) cannot be concatenated")));
    }
    // Tensors of shape [0] join anything, as they always have.
    let rank = tensors.iter().map(Tensor::rank).max().unwrap_or(1);
    let dim = dim_arg(b, args, 1, rank)?;
    Ok(Value::Tensor(cat(b, &tensors, dim)?))
}

/// The tensors one after another along a dimension.
pub fn cat(b: &mut Builder<'_>, tensors: &[Tensor], dim: usize) -> Result<Tensor> {
    let dtype = result_type(&tensors.iter().collect::<Vec<_>>());
    // An empty tensor of rank 1 fits beside tensors of any shape, and adds nothing.
    let has_higher = tensors.iter().any(|t| t.rank() > 1);
    let mut parts: Vec<&Tensor> = Vec::with_capacity(tensors.len());
    for t in tensors {
        let is_empty = match t.dims[..] {
            [Dim::Const(n)] => n == 0,
            [extent @ Dim::Var(_)] if has_higher => b.decide_extent(extent, 0)?,
            _ => false,
        };
        if !is_empty {
            parts.push(t);
        }
    }
    let Some(first) = parts.first() else { return Ok(tensors[0].clone()) };
    if dim >= first.rank() {
        let range = format!("[-{0}, {1}]", first.rank().max(1), first.rank().max(1) - 1);
        return Err(b.user(format!("Dimension out of range (expected to be in range of {range}, but got {dim})")));
    }
    let mut dims = first.dims.clone();
    let mut total = int(0);
    let mut starts = Vec::with_capacity(parts.len());
    for part in &parts {
        if part.rank() != dims.len() {
            return Err(b.user(format!(
                "Tensors must have same number of dimensions: got {} and {}",
                dims.len(),
                part.rank()
            )));
        }
        for i in (0..dims.len()).filter(|i| *i != dim) {
            let (want, have) = (dims[i], part.dims[i]);
            let message = "Sizes of tensors must match except in dimension {}. Expected size {} but got size {} for tensor \
                           number {} in the list.";
            let parts = [dim.into(), want.into(), have.into(), starts.len().into()];
            b.require_equal(want, have, Message::new(message, &parts))?;
            if have.known().is_some() {
                dims[i] = have;
            }
        }
        starts.push(total.clone());
        total = b.binary(BinaryOp::Add, total, part.dims[dim].into());
    }
    if parts.len() == 1 {
        let only = cast(b, first, dtype);
        return Ok(if only.storage == first.storage { b.copy(&only) } else { only });
    }
    dims[dim] = b.dim(total);
    let buffer = b.new_buffer(dtype, &dims);
    for (part, start) in parts.iter().zip(&starts) {
        let mut k = KernelBuilder::new(b);
        let mut extents = dims.clone();
        extents[dim] = part.dims[dim];
        let index = k.parallel(&extents);
        let v = k.load(part, &index);
        let v = k.cast(dtype, v);
        let offset = k.operand(start);
        let mut at = index.clone();
        at[dim] = k.add(index[dim], offset);
        k.store(buffer, &at, v);
        k.finish();
    }
    Ok(b.tensor_of(buffer))
}

fn stack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Some(list) = args.run_time_list(b, 0) {
        return joined(b, "list_stack", &list, |b, rank| dim_arg(b, args, 1, rank));
    }
    let tensors = args.tensors(b, 0)?;
    let Some(first) = tensors.first() else {
        return Err(b.user("stack expects a non-empty TensorList"));
    };
    for (at, other) in tensors.iter().enumerate().skip(1) {
        let message = "stack expects each tensor to be equal size, but got {} at entry 0 and {} at entry {}";
        let message = Message::new(message, &[(&first.dims).into(), (&other.dims).into(), at.into()]);
        if other.rank() != first.rank() {
            return Err(b.fail(message));
        }
        for (want, have) in first.dims.iter().zip(&other.dims) {
            b.require_equal(*want, *have, message.clone())?;
        }
    }
    let dim = dim_arg(b, args, 1, first.rank() + 1)?;
    let tensors: Vec<_> = tensors.iter().map(|t| views::unsqueeze(b, t, dim)).collect();
    Ok(Value::Tensor(cat(b, &tensors, dim)?))
}

fn hstack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Some(list) = args.run_time_list(b, 0) {
        return match list.item.rank() {
            0 => joined(b, "list_stack", &list, |_, _| Ok(0)),
            rank => joined(b, "list_cat", &list, |_, _| Ok(usize::from(rank > 1))),
        };
    }
    let tensors = at_least(b, args, 1)?;
    let dim = usize::from(tensors[0].rank() > 1);
    Ok(Value::Tensor(cat(b, &tensors, dim)?))
}

/// Joins along the third dimension; what has fewer gets a last one, and a vector a first one.
fn dstack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut tensors = Vec::new();
    for t in args.tensors(b, 0)? {
        let mut t = t;
        for at in [0, 0, 2].into_iter().skip(t.rank()) {
            t = views::unsqueeze(b, &t, at);
        }
        tensors.push(t);
    }
    Ok(Value::Tensor(cat(b, &tensors, 2)?))
}

fn vstack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    if let Some(list) = args.run_time_list(b, 0).filter(|list| list.item.rank() > 0) {
        let routine = if list.item.rank() == 1 { "list_stack" } else { "list_cat" };
        return joined(b, routine, &list, |_, _| Ok(0));
    }
    let tensors = at_least(b, args, 2)?;
    Ok(Value::Tensor(cat(b, &tensors, 0)?))
}

fn at_least(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Vec<Tensor>> {
    let mut tensors = args.tensors(b, 0)?;
    if tensors.is_empty() {
        return Err(b.user(format!("{} expects a non-empty TensorList", b.op_name)));
    }
    for t in &mut tensors {
        while t.rank() < rank {
            *t = views::unsqueeze(b, t, 0);
        }
    }
    Ok(tensors)
}

/// The tensor side by side with itself, as often along each dimension as told.
pub fn repeated(b: &mut Builder<'_>, x: &Tensor, repeats: &[Operand]) -> Tensor {
    let mut x = x.clone();
    while x.rank() < repeats.len() {
        x = views::unsqueeze(b, &x, 0);
    }
    let mut dims = Vec::with_capacity(x.rank());
    for (dim, n) in x.dims.iter().zip(repeats) {
        let extent = b.binary(BinaryOp::Mul, (*dim).into(), n.clone());
        dims.push(b.dim(extent));
    }
    for extent in &dims {
        let is_fine = b.binary(BinaryOp::Ge, (*extent).into(), int(0));
        let message = "Trying to create tensor with negative dimension {}: {}";
        b.check(is_fine, Message::new(message, &[(*extent).into(), (&dims).into()]));
    }
    b.map(x.dtype, &dims, |k, i| {
        let mut at = Vec::with_capacity(i.len());
        for (axis, &index) in i.iter().enumerate() {
            at.push(if known_int(&repeats[axis]) == Some(1) {
                index
            } else {
                let n = k.dim(x.dims[axis]);
                k.binary(BinaryOp::FloorMod, index, n)
            });
        }
        k.load(&x, &at)
    })
}

fn repeat(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let repeats = args.int_list(b, 1)?;
    if repeats.len() < x.rank() {
        return Err(
            b.user("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
        );
    }
    Ok(Value::Tensor(repeated(b, &x, &repeats)))
}

fn tile(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let mut repeats = args.int_list(b, 1)?;
    while repeats.len() < x.rank() {
        repeats.insert(0, int(1));
    }
    Ok(Value::Tensor(repeated(b, &x, &repeats)))
}

/// Each element of a dimension several times in a row.
fn repeat_interleave(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut x = args.tensor(0)?;
    let n = args.int(b, 1)?;
    let dim = if matches!(args.value(2)?, Value::None) {
        x = flat(b, &x);
        0
    } else {
        dim_arg(b, args, 2, x.rank())?
    };
    let mut dims = x.dims.clone();
    let extent = b.binary(BinaryOp::Mul, dims[dim].into(), n.clone());
    dims[dim] = b.dim(extent);
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        let mut at = i.to_vec();
        let n = k.operand(&n);
        at[dim] = k.binary(BinaryOp::FloorDiv, i[dim], n);
        k.load(&x, &at)
    })))
}

/// A copy with the order of some dimensions reversed.
pub fn flip(b: &mut Builder<'_>, x: &Tensor, at: &[usize]) -> Tensor {
    b.map(x.dtype, &x.dims, |k, i| {
        let mut index = i.to_vec();
        for &dim in at.iter().filter(|d| **d < i.len()) {
            let n = k.dim(x.dims[dim]);
            let one = k.int(1);
            let last = k.sub(n, one);
            index[dim] = k.sub(last, i[dim]);
        }
        k.load(x, &index)
    })
}

fn flip_op(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dims = dims_arg(b, args, 1, x.rank())?;
    Ok(Value::Tensor(flip(b, &x, &dims)))
}

fn flip_axis(b: &mut Builder<'_>, args: &Args<'_>, dim: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() <= dim {
        return Err(b.user(format!("Input must be >= {}-d.", dim + 1)));
    }
    Ok(Value::Tensor(flip(b, &x, &[dim])))
}

fn roll(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let shifts = args.int_list(b, 1)?;
    let dims = args.int_list(b, 2)?;
    if dims.is_empty() && shifts.len() == 1 {
        let line = flat(b, &x);
        let rolled = rolled(b, &line, &shifts, &[0]);
        return Ok(Value::Tensor(views::reshape(b, &rolled, &x.dims)));
    }
    if dims.len() != shifts.len() {
        return Err(b.user(format!("shifts and dimensions must align. shifts: {}, dims:{}", shifts.len(), dims.len())));
    }
    let at = any_dims_arg(b, args, 2, x.rank())?;
    Ok(Value::Tensor(rolled(b, &x, &shifts, &at)))
}

fn rolled(b: &mut Builder<'_>, x: &Tensor, shifts: &[Operand], at: &[usize]) -> Tensor {
    b.map(x.dtype, &x.dims, |k, i| {
        let mut index = i.to_vec();
        for (shift, &dim) in shifts.iter().zip(at).filter(|(_, d)| **d < i.len()) {
            let (n, shift) = (k.dim(x.dims[dim]), k.operand(shift));
            let moved = k.sub(index[dim], shift);
            index[dim] = k.binary(BinaryOp::FloorMod, moved, n);
        }
        k.load(x, &index)
    })
}

fn rot90(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let turns = args.int(b, 1)?;
    let turns = b.binary(BinaryOp::FloorMod, turns, int(4));
    let turns = Value::Int(turns);
    let turns = Args { schema: None, values: std::slice::from_ref(&turns) }.choice(b, 0, &[0, 1, 2, 3])?;
    let dims = any_dims_arg(b, args, 2, x.rank())?;
    let [p, q] = dims[..] else {
        return Err(b.user(format!("expected total rotation dims == 2, but got dims = {}", dims.len())));
    };
    if p == q {
        return Err(b.user(format!("expected rotation dims to be different, but got dim0 = {p} and dim1 = {q}")));
    }
    Ok(Value::Tensor(match turns {
        0 => b.copy(&x),
        2 => flip(b, &x, &[p, q]),
        n => {
            let flipped = flip(b, &x, &[if n == 1 { q } else { p }]);
            views::transpose(b, &flipped, p, q)
        }
    }))
}

/// `[.., c r r, h, w]` to `[.., c, h r, w r]`.
fn pixel_shuffle(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let r = args.known_int(b, 1)?;
    let Some((channels, lead)) = x.rank().checked_sub(3).and_then(|n| Some((x.dims[n].known()?, n))) else {
        return Err(b.user("pixel_shuffle expects input to have at least 3 dimensions"));
    };
    if r <= 0 || channels % (r * r) != 0 {
        return Err(b.user(format!(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but \
             input.size(-3)={channels} is not divisible by {}",
            r * r
        )));
    }
    let (h, w) = (x.dims[lead + 1], x.dims[lead + 2]);
    let mut dims = x.dims[..lead].to_vec();
    dims.extend([Dim::Const(channels / (r * r)), Dim::Const(r), Dim::Const(r), h, w]);
    let cut = views::reshape(b, &x, &dims);
    let order: Vec<_> = (0..=lead).chain([lead + 3, lead + 1, lead + 4, lead + 2]).collect();
    let moved = views::permute(b, &cut, &order);
    dims.truncate(lead + 1);
    for extent in [h, w] {
        let grown = b.binary(BinaryOp::Mul, extent.into(), int(r));
        dims.push(b.dim(grown));
    }
    Ok(Value::Tensor(views::reshape(b, &moved, &dims)))
}

/// `[.., c, h r, w r]` to `[.., c r r, h, w]`.
fn pixel_unshuffle(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let r = args.known_int(b, 1)?;
    let (Some(lead), Some(sizes)) = (x.rank().checked_sub(3), x.known_dims()) else {
        return Err(b.unsupported("pixel_unshuffle of fewer than 3 dimensions or of extents known only when running"));
    };
    let (c, h, w) = (sizes[lead], sizes[lead + 1], sizes[lead + 2]);
    if r <= 0 || h % r != 0 || w % r != 0 {
        return Err(b.user("pixel_unshuffle expects height and width to be divisible by downscale_factor"));
    }
    let mut dims = x.dims[..lead].to_vec();
    dims.extend([c, h / r, r, w / r, r].map(Dim::Const));
    let cut = views::reshape(b, &x, &dims);
    let order: Vec<_> = (0..=lead).chain([lead + 2, lead + 4, lead + 1, lead + 3]).collect();
    let moved = views::permute(b, &cut, &order);
    dims.truncate(lead);
    dims.extend([c * r * r, h / r, w / r].map(Dim::Const));
    Ok(Value::Tensor(views::reshape(b, &moved, &dims)))
}

fn channel_shuffle(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let groups = args.known_int(b, 1)?;
    let channels = x.dims.get(1).and_then(|d| d.known()).filter(|c| groups > 0 && c % groups == 0);
    let Some(channels) = channels else {
        return Err(b.user("Number of channels must be divisible by groups"));
    };
    let mut dims = x.dims.clone();
    dims.splice(1..2, [Dim::Const(groups), Dim::Const(channels / groups)]);
    let cut = views::reshape(b, &x, &dims);
    let moved = views::transpose(b, &cut, 1, 2);
    Ok(Value::Tensor(views::reshape(b, &moved, &x.dims)))
}

/// The last dimension as the diagonal of two new ones, zeros elsewhere.
fn diag_embed(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let offset = args.known_int(b, 1)?;
    let rank = x.rank() + 1;
    let (p, q) = (dim_arg(b, args, 2, rank)?, dim_arg(b, args, 3, rank)?);
    if p == q || x.rank() == 0 {
        return Err(b.user("diagonal dimensions cannot be identical"));
    }
    Ok(Value::Tensor(diag_embed_of(b, &x, offset, p, q)))
}

/// A vector as the diagonal of a matrix, or the diagonal of a matrix.
fn diag(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let offset = args.known_int(b, 1)?;
    match x.rank() {
        1 => Ok(Value::Tensor(diag_embed_of(b, &x, offset, 0, 1))),
        2 => {
            let diagonal = diagonal_of(b, &x, offset, 0, 1);
            Ok(Value::Tensor(b.copy(&diagonal)))
        }
        rank => Err(b.user(format!("diag(): Supports 1D or 2D tensors. Got {rank}D"))),
    }
}

fn diag_embed_of(b: &mut Builder<'_>, x: &Tensor, offset: i64, p: usize, q: usize) -> Tensor {
    let rank = x.rank() + 1;
    let last = *x.dims.last().expect("the rank is not 0");
    let extent = b.binary(BinaryOp::Add, last.into(), int(offset.abs()));
    let extent = b.dim(extent);
    let mut rest = x.dims[..x.rank() - 1].iter();
    let dims: Vec<_> = (0..rank)
        .map(|i| if i == p || i == q { extent } else { *rest.next().expect("all other dimensions") })
        .collect();
    b.map(x.dtype, &dims, |k, i| {
        let (down, right) = (k.int((-offset).max(0)), k.int(offset.max(0)));
        let (row, column) = (k.sub(i[p], down), k.sub(i[q], right));
        let same = k.binary(BinaryOp::Eq, row, column);
        let inside = k.in_bounds(row, last);
        let is_on = k.and(same, inside);
        let mut at: Vec<_> = (0..rank).filter(|d| *d != p && *d != q).map(|d| i[d]).collect();
        at.push(row);
        let zero = k.zero(x.dtype);
        k.load_or(x, &at, is_on, zero)
    })
}

fn meshgrid(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mut tensors = args.tensors(b, 0)?;
    let indexing = if args.values.len() > 1 { args.text(b, 1)? } else { "ij".into() };
    let is_xy = &*indexing == "xy" && tensors.len() >= 2;
    if !is_xy && !matches!(&*indexing, "ij" | "xy") {
        return Err(b.user("torch.meshgrid: indexing must be one of \"xy\" or \"ij\""));
    }
    if is_xy {
        tensors.swap(0, 1);
    }
    let lines: Vec<_> = tensors.iter().map(|t| flat(b, t)).collect();
    let dims: Vec<_> = lines.iter().map(|t| t.dims[0]).collect();
    let mut grids = Vec::with_capacity(lines.len());
    for (axis, line) in lines.iter().enumerate() {
        let mut shape = vec![Dim::Const(1); dims.len()];
        shape[axis] = dims[axis];
        let aligned = views::remap(b, line, &[crate::ops::value::Affine::axis(axis)], shape);
        grids.push(views::expand_to(b, &aligned, &dims)?);
    }
    if is_xy {
        grids.swap(0, 1);
    }
    Ok(tensor_list(b, grids))
}
