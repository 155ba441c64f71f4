//! What programs ask of a tensor's shape and memory: sizes, strides, contiguity.

use super::view::dim_arg;
use crate::diag::Result;
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::Value;
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

fn is_contiguous(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let format = if args.values.len() > 1 { args.known_int(b, 1)? } else { 0 };
    if format <= 1 {
        return Ok(Value::bool(b.lies_row_major(&x)));
    }
    // Channels last: the channel dimension would have to be the innermost.
    if x.rank() < 3 {
        return Ok(Value::bool(false));
    }
    let order: Vec<_> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
    let moved = views::permute(b, &x, &order);
    Ok(Value::bool(b.lies_row_major(&moved)))
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
    let (strides, _) = b.strides_of(&args.tensor(0)?);
    Ok(b.new_list(strides.into_iter().map(Value::Int).collect()))
}

fn stride_int(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 {
        return Err(b.user("Dimension specified as 0 but tensor has no dimensions"));
    }
    let dim = dim_arg(b, args, 1, x.rank())?;
    let (mut strides, _) = b.strides_of(&x);
    Ok(Value::Int(strides.swap_remove(dim)))
}

fn storage_offset(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (_, offset) = b.strides_of(&args.tensor(0)?);
    Ok(Value::Int(offset))
}
