//! What programs ask of a tensor's shape and memory: sizes, strides, contiguity.

use super::view::dim_arg;
use crate::diag::Result;
use crate::loops::{Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::size", lower: size },
    OpDef { name: "aten::size.int", lower: size_int },
    OpDef { name: "aten::dim", lower: |_, a| Ok(Value::int(i64::try_from(a.tensor(0)?.rank()).unwrap_or(i64::MAX))) },
    OpDef { name: "aten::numel", lower: numel },
    OpDef { name: "aten::stride", lower: stride },
    OpDef { name: "aten::stride.int", lower: stride_int },
    OpDef { name: "aten::storage_offset", lower: storage_offset },
    OpDef { name: "aten::is_contiguous", lower: is_contiguous },
];

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
