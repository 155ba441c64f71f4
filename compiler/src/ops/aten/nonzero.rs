//! Compaction: the elements or positions for which something holds, as many as there are. They are counted first, then a scan
//! writes each to the place that the number before it says.

use super::index::{at_least_1d, selected};
use super::view::{dim_arg, flat, tensor_list};
use crate::diag::Result;
use crate::loops::{AxisKind, BinaryOp, Dim, ExprId, Operand, ReduceOp, StoreMode};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::nonzero", lower: nonzero },
    OpDef { name: "aten::argwhere", lower: nonzero },
    OpDef { name: "aten::nonzero_numpy", lower: nonzero_columns },
    OpDef { name: "aten::where", lower: nonzero_columns },
    OpDef { name: "aten::nonzero_static", lower: nonzero_static },
    OpDef { name: "aten::masked_select", lower: masked_select },
    OpDef { name: "aten::masked_scatter", lower: masked_scatter },
    OpDef { name: "aten::repeat_interleave.Tensor", lower: repeat_positions },
    OpDef { name: "aten::repeat_interleave.self_Tensor", lower: repeat_interleave },
];

/// How many elements are not zero, as a host number.
fn count(b: &mut Builder<'_>, x: &Tensor) -> Operand {
    let total = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[],
        &x.dims,
        |k, _, i| {
            let flag = k.load(x, i);
            let flag = k.cast(DType::Bool, flag);
            k.cast(DType::I64, flag)
        },
        |_, _, acc| acc,
    );
    b.item(&total)
}

/// The indices along each dimension of the element with this row-major number.
fn unravel(k: &mut KernelBuilder<'_, '_>, number: ExprId, dims: &[Dim]) -> Vec<ExprId> {
    let mut at = vec![number; dims.len()];
    let mut rest = number;
    for (d, extent) in dims.iter().enumerate().rev() {
        if d == 0 {
            at[0] = rest;
            break;
        }
        let extent = k.dim(*extent);
        at[d] = k.binary(BinaryOp::FloorMod, rest, extent);
        rest = k.binary(BinaryOp::FloorDiv, rest, extent);
    }
    at
}

/// For each true element of `flags`, in row-major order, writes what `row` gives for its index to the next row of `out`.
fn compact(
    b: &mut Builder<'_>,
    flags: &Tensor,
    out: &Tensor,
    limit: Option<Dim>,
    row: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId]) -> Vec<ExprId>,
) {
    let total = b.product(&flags.dims);
    let total = b.dim(total);
    let line = flat(b, flags);
    let mut k = KernelBuilder::new(b);
    let number = k.axis(total, AxisKind::Scan);
    let flag = k.load(&line, &[number]);
    let flag = k.cast(DType::Bool, flag);
    let one = k.cast(DType::I64, flag);
    let so_far = k.reduce(ReduceOp::Sum, one);
    let minus_one = k.int(-1);
    let place = k.add(so_far, minus_one);
    let mut guard = flag;
    if let Some(limit) = limit {
        let limit = k.dim(limit);
        let fits = k.binary(BinaryOp::Lt, place, limit);
        guard = k.and(guard, fits);
    }
    let index = unravel(&mut k, number, &flags.dims);
    for (column, value) in row(&mut k, &index).into_iter().enumerate() {
        let column = k.int(i64::try_from(column).unwrap_or(0));
        let at = [place, column];
        k.store_through(out, &at[..out.rank()], value, Some(guard), StoreMode::Set);
    }
    k.finish();
}

/// The indices of the elements that are not zero: `[count, rank]`.
pub fn positions(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let n = count(b, x);
    let rank = Dim::Const(i64::try_from(x.rank()).unwrap_or(0));
    let dims = [b.dim(n), rank];
    let buffer = b.new_buffer(DType::I64, &dims);
    let out = b.tensor_of(buffer);
    if x.rank() > 0 {
        compact(b, x, &out, None, |_, index| index.to_vec());
    }
    out
}

fn nonzero(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(positions(b, &x)))
}

/// The indices, one tensor a dimension.
fn nonzero_columns(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let x = at_least_1d(b, &x);
    let found = positions(b, &x);
    let columns = (0..x.rank()).map(|d| views::select(b, &found, 1, int(i64::try_from(d).unwrap_or(0)))).collect();
    Ok(tensor_list(b, columns))
}

/// The indices of the first ones, and a filler for those that are not there.
fn nonzero_static(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (size, filler) = (args.int(b, 1)?, args.int(b, 2)?);
    let rank = Dim::Const(i64::try_from(x.rank()).unwrap_or(0));
    let size = b.dim(size);
    let out = b.splat(filler, DType::I64, &[size, rank]);
    b.own(out.storage);
    if x.rank() > 0 {
        compact(b, &x, &out, Some(size), |_, index| index.to_vec());
    }
    Ok(Value::Tensor(out))
}

fn masked_select(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask) = (args.tensor(0)?, args.tensor(1)?);
    if mask.dtype != DType::Bool {
        return Err(b.user("masked_select: expected BoolTensor for mask"));
    }
    let (x, mask) = (at_least_1d(b, &x), at_least_1d(b, &mask));
    let dims = views::broadcast(b, &[&x.dims, &mask.dims])?;
    let (x, mask) = (views::expand_to(b, &x, &dims)?, views::expand_to(b, &mask, &dims)?);
    let n = count(b, &mask);
    let dims = [b.dim(n)];
    let buffer = b.new_buffer(x.dtype, &dims);
    let out = b.tensor_of(buffer);
    compact(b, &mask, &out, None, |k, index| vec![k.load(&x, index)]);
    Ok(Value::Tensor(out))
}

/// The running sum of a vector, in `int64`.
pub fn running_sum(b: &mut Builder<'_>, x: &Tensor) -> Tensor {
    let buffer = b.new_buffer(DType::I64, &x.dims);
    let mut k = KernelBuilder::new(b);
    let i = k.axis(x.dims[0], AxisKind::Scan);
    let v = k.load(x, &[i]);
    let v = k.cast(DType::I64, v);
    let sum = k.reduce(ReduceOp::Sum, v);
    k.store(buffer, &[i], sum);
    k.finish();
    b.tensor_of(buffer)
}

/// Where the mask holds, the next element of `source`.
fn masked_scatter(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, mask, source) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    if mask.dtype != DType::Bool {
        return Err(b.user("masked_scatter_ only supports boolean masks"));
    }
    if x.dtype != source.dtype {
        return Err(b.user(format!(
            "masked_scatter: expected self and source to have same dtypes but got {} and {}",
            x.dtype, source.dtype
        )));
    }
    let dims = views::broadcast(b, &[&x.dims, &mask.dims])?;
    let (x, mask) = (views::expand_to(b, &x, &dims)?, views::expand_to(b, &mask, &dims)?);
    let n = count(b, &mask);
    let given = b.product(&source.dims);
    let enough = b.binary(BinaryOp::Le, n, given);
    b.check(enough, "masked_scatter: source has fewer elements than the mask has ones");
    let line = at_least_1d(b, &mask);
    let line = flat(b, &line);
    let numbers = running_sum(b, &line);
    let numbers = views::reshape(b, &numbers, &dims);
    let source = at_least_1d(b, &source);
    let source = flat(b, &source);
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        let flag = k.load(&mask, i);
        let number = k.load(&numbers, i);
        let minus_one = k.int(-1);
        let at = k.add(number, minus_one);
        let own = k.load(&x, i);
        k.load_or(&source, &[at], flag, own)
    })))
}

/// All whole numbers of a tensor as one.
fn reduced(b: &mut Builder<'_>, x: &Tensor, op: ReduceOp) -> Operand {
    let element = |k: &mut KernelBuilder<'_, '_>, _: &[ExprId], i: &[ExprId]| {
        let v = k.load(x, i);
        k.cast(DType::I64, v)
    };
    let all = b.reduce(op, DType::I64, &[], &x.dims, element, |_, _, acc| acc);
    b.item(&all)
}

/// Each position as often as the tensor says.
fn repeated_positions(b: &mut Builder<'_>, repeats: &Tensor, size: Option<Operand>) -> Result<Tensor> {
    if repeats.rank() != 1 || !matches!(repeats.dtype, DType::I64 | DType::I32) {
        return Err(b.user("repeat_interleave only accept 1D vectors of integers as repeat"));
    }
    let ends = running_sum(b, repeats);
    let least = reduced(b, repeats, ReduceOp::Min);
    let valid = b.binary(BinaryOp::Ge, least, int(0));
    b.check(valid, "repeats can not be negative");
    let total = reduced(b, repeats, ReduceOp::Sum);
    let total = match size {
        Some(size) => {
            let same = b.binary(BinaryOp::Eq, size.clone(), total);
            b.check(same, "allocated size does not match required size");
            size
        }
        None => total,
    };
    let n = b.dim(total);
    // One mark where each run ends: the marks up to a place say how many runs are over.
    let marks = b.splat(int(0), DType::I64, &[n]);
    b.own(marks.storage);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&repeats.dims);
    let end = k.load(&ends, &i);
    let inside = k.in_bounds(end, n);
    let one = k.int(1);
    k.store_through(&marks, &[end], one, Some(inside), StoreMode::Combine(ReduceOp::Sum));
    k.finish_ordered();
    Ok(running_sum(b, &marks))
}

fn repeat_positions(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let repeats = args.tensor(0)?;
    let size = args.optional_int(b, 1)?;
    Ok(Value::Tensor(repeated_positions(b, &repeats, size)?))
}

fn repeat_interleave(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, repeats) = (args.tensor(0)?, args.tensor(1)?);
    let dim = if matches!(args.value(2)?, Value::None) {
        x = at_least_1d(b, &x);
        x = flat(b, &x);
        0
    } else {
        let dim = dim_arg(b, args, 2, x.rank())?;
        x = at_least_1d(b, &x);
        dim
    };
    let size = args.optional_int(b, 3)?;
    let repeats = at_least_1d(b, &repeats);
    if repeats.rank() == 1 && repeats.dims[0] != Dim::Const(1) {
        let same = b.binary(BinaryOp::Eq, repeats.dims[0].into(), x.dims[dim].into());
        b.check(same, "repeats must have the same size as input along dim");
    }
    let repeats = views::expand_to(b, &repeats, &[x.dims[dim]])?;
    let index = repeated_positions(b, &repeats, size)?;
    Ok(Value::Tensor(selected(b, &x, dim, &index)))
}
