//! Parts of tensors, as views: slices, rows, windows and diagonals.

use super::view::dim_arg;
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::value::{Affine, Tensor, Value, int, known_int};
use crate::ops::views;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::slice.Tensor", lower: slice },
    OpDef { name: "aten::select.int", lower: select },
    OpDef { name: "aten::narrow", lower: narrow },
    OpDef { name: "aten::narrow_copy", lower: narrow_copy },
    OpDef { name: "aten::as_strided", lower: as_strided },
    OpDef { name: "aten::unfold", lower: unfold },
    OpDef { name: "aten::diagonal", lower: diagonal },
];

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
        return Ok(Value::Tensor(stepped(b, &x, dim, start.as_ref(), end.as_ref(), step)));
    };
    if step <= 0 {
        return Err(b.user("slice step must be positive"));
    }
    Ok(Value::Tensor(slice_dim(b, &x, dim, start.as_ref(), end.as_ref(), step)))
}

/// A slice whose step only the running program knows: a view with strides of its own where memory is shared, else a copy.
fn stepped(
    b: &mut Builder<'_>,
    x: &Tensor,
    dim: usize,
    start: Option<&Operand>,
    end: Option<&Operand>,
    step: Operand,
) -> Tensor {
    let is_fine = b.binary(BinaryOp::Gt, step.clone(), int(0));
    b.check(is_fine, "slice step must be positive");
    let start = start.map_or_else(|| int(0), |start| slice_bound(b, start, x.dims[dim]));
    let rest = slice_dim(b, x, dim, Some(&start), end, 1);
    let less = b.binary(BinaryOp::Sub, step.clone(), int(1));
    let up = b.binary(BinaryOp::Add, rest.dims[dim].into(), less);
    let count = b.binary(BinaryOp::FloorDiv, up, step.clone());
    let mut dims = rest.dims.clone();
    dims[dim] = b.dim(count);
    if let Some(view) = b.stepped(x, dim, start, dims[dim], step.clone()) {
        return view;
    }
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
    let index = views::wrap_index(b, index, &x.dims, dim);
    Ok(Value::Tensor(views::select(b, &x, dim, index)))
}

fn narrow_copy(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    match narrow(b, args)? {
        Value::Tensor(part) => Ok(Value::Tensor(b.copy(&part))),
        other => Ok(other),
    }
}

fn narrow(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let (start, length) = (args.int(b, 2)?, args.int(b, 3)?);
    let n: Operand = x.dims[dim].into();
    let is_fine = b.binary(BinaryOp::Ge, length.clone(), int(0));
    b.require(is_fine, "narrow(): length must be non-negative.")?;
    let least = b.unary(UnaryOp::Neg, n.clone());
    let not_low = b.binary(BinaryOp::Ge, start.clone(), least.clone());
    let not_high = b.binary(BinaryOp::Le, start.clone(), n.clone());
    let is_inside = b.binary(BinaryOp::And, not_low, not_high);
    let outside = "start out of range (expected to be in range of [{}, {}], but got {})";
    b.require(is_inside, Message::new(outside, &[least.into(), (&n).into(), (&start).into()]))?;
    let is_negative = b.binary(BinaryOp::Lt, start.clone(), int(0));
    let moved = b.binary(BinaryOp::Add, start.clone(), n.clone());
    let start = b.select(is_negative, moved, start);
    let last = b.binary(BinaryOp::Sub, n.clone(), length.clone());
    let fits = b.binary(BinaryOp::Le, start.clone(), last);
    let exceeds = "start ({}) + length ({}) exceeds dimension size ({}).";
    b.require(fits, Message::new(exceeds, &[(&start).into(), (&length).into(), n.into()]))?;
    let length = b.dim(length);
    Ok(Value::Tensor(views::slice(b, &x, dim, start, length, 1)))
}

fn as_strided(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (sizes, strides) = (args.known_ints(b, 1)?, args.known_ints(b, 2)?);
    if sizes.len() != strides.len() {
        return Err(b.user("mismatch in length of strides and shape"));
    }
    let _ = b.storage_buffer(x.storage);
    if b.strides_behind(x.storage).is_some() {
        return Err(b.unsupported("as_strided of a tensor whose strides only the running program knows"));
    }
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
    if let Some(offset) = offset.known()
        && !is_empty
        && (offset < 0 || offset + reach >= total)
    {
        return Err(b.user("setStorage: sizes and strides are out of bounds for the storage"));
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
        // One element is a window of itself, or none of it.
        if size > 1 {
            return Err(b.user(format!("maximum size for tensor at dimension 0 is 1 but size is {size}")));
        }
        let line = views::unsqueeze(b, &x, 0);
        return Ok(Value::Tensor(views::slice(b, &line, 0, int(0), Dim::Const(size), 1)));
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
