//! Sorting, the greatest few, and searching in sorted sequences.
//!
//! Sorting is a routine of the runtime along the last dimension; other dimensions are brought there by a view.

use super::view::dim_arg;
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, Operand, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::{as_tensor, compute_type};
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::sort", lower: |b, a| sort(b, a, ["dim", "descending"]) },
    OpDef { name: "aten::sort.stable", lower: |b, a| sort(b, a, ["dim", "descending"]) },
    OpDef { name: "aten::argsort", lower: argsort },
    OpDef { name: "aten::msort", lower: msort },
    OpDef { name: "aten::topk", lower: topk },
    OpDef { name: "aten::kthvalue", lower: kthvalue },
    OpDef { name: "aten::median", lower: |b, a| median(b, a, false) },
    OpDef { name: "aten::median.dim", lower: |b, a| median_dim(b, a, false) },
    OpDef { name: "aten::nanmedian", lower: |b, a| median(b, a, true) },
    OpDef { name: "aten::nanmedian.dim", lower: |b, a| median_dim(b, a, true) },
    OpDef { name: "aten::mode", lower: mode },
    OpDef { name: "aten::searchsorted", lower: searchsorted },
    OpDef { name: "aten::bucketize", lower: bucketize },
];

/// A routine that fills values and indices from rows along `dim`, `count` elements each (all without it).
fn ordered(
    b: &mut Builder<'_>,
    routine: &'static str,
    x: &Tensor,
    dim: usize,
    count: Option<Dim>,
    options: &[Operand],
) -> Result<(Tensor, Tensor)> {
    if x.dtype.is_complex() {
        return Err(b.unsupported("sorting of complex numbers"));
    }
    if x.rank() == 0 {
        let zero = b.splat(int(0), DType::I64, &[]);
        return Ok((b.copy(x), zero));
    }
    let last = x.rank() - 1;
    let rows = views::transpose(b, x, dim, last);
    let input = b.row_major(&rows);
    let mut dims = rows.dims.clone();
    dims[last] = count.unwrap_or(dims[last]);
    let values = b.new_buffer(x.dtype, &dims);
    let indices = b.new_buffer(DType::I64, &dims);
    let mut args = vec![Arg::Buffer(input), Arg::Buffer(values), Arg::Buffer(indices)];
    args.extend(options.iter().cloned().map(Arg::Scalar));
    b.call(routine, args, &[]);
    let (values, indices) = (b.tensor_of(values), b.tensor_of(indices));
    Ok((views::transpose(b, &values, dim, last), views::transpose(b, &indices, dim, last)))
}

fn flag(value: bool) -> Operand {
    Operand::Const(Const::bool(value))
}

/// The elements in order along `dim`, equal ones as they were, and where they were.
pub fn ascending(b: &mut Builder<'_>, x: &Tensor, dim: usize) -> Result<(Tensor, Tensor)> {
    ordered(b, "sort", x, dim, None, &[flag(false), flag(true)])
}

/// The greatest or least elements along `dim`, in order, and where they were.
pub fn first_of(b: &mut Builder<'_>, x: &Tensor, dim: usize, count: Dim, is_largest: bool) -> Result<(Tensor, Tensor)> {
    ordered(b, "topk", x, dim, Some(count), &[flag(is_largest), flag(true)])
}

fn pair(values: Tensor, indices: Tensor) -> Value {
    Value::Tuple(vec![Value::Tensor(values), Value::Tensor(indices)], None)
}

fn position(b: &Builder<'_>, args: &Args<'_>, name: &str) -> Result<usize> {
    args.position(name).ok_or_else(|| b.unsupported(format!("this form of {}", b.op_name)))
}

fn sort(b: &mut Builder<'_>, args: &Args<'_>, names: [&str; 2]) -> Result<Value> {
    let x = args.tensor(0)?;
    let at = position(b, args, names[0])?;
    let dim = dim_arg(b, args, at, x.rank())?;
    let at = position(b, args, names[1])?;
    let is_descending = args.flag(b, at)?;
    let is_stable = match args.position("stable") {
        Some(at) if !matches!(args.value(at)?, Value::None) => args.flag(b, at)?,
        _ => false,
    };
    let (values, indices) = ordered(b, "sort", &x, dim, None, &[flag(is_descending), flag(is_stable)])?;
    Ok(pair(values, indices))
}

fn argsort(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let Value::Tuple(items, _) = sort(b, args, ["dim", "descending"])? else {
        return Err(b.unsupported("this form of argsort"));
    };
    Ok(items[1].clone())
}

fn msort(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(ordered(b, "sort", &x, 0, None, &[flag(false), flag(false)])?.0))
}

fn topk(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, k) = (args.tensor(0)?, args.int(b, 1)?);
    let dim = dim_arg(b, args, 2, x.rank())?;
    let is_largest = args.flag(b, 3)?;
    let extent = x.dims.get(dim).copied().unwrap_or(Dim::Const(1));
    let fits = b.binary(BinaryOp::Le, k.clone(), extent.into());
    let low = b.binary(BinaryOp::Ge, k.clone(), int(0));
    let fits = b.binary(BinaryOp::And, low, fits);
    match known_int(&fits) {
        Some(0) => return Err(b.user("selected index k out of range")),
        Some(_) => {}
        None => b.check(fits, "selected index k out of range"),
    }
    let is_sorted = args.flag(b, 4)?;
    let count = b.dim(k);
    let (values, indices) = ordered(b, "topk", &x, dim, Some(count), &[flag(is_largest), flag(is_sorted)])?;
    Ok(pair(values, indices))
}

/// The `k`-th least element along a dimension, counted from 1.
fn kthvalue(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, k) = (args.tensor(0)?, args.int(b, 1)?);
    let dim = dim_arg(b, args, 2, x.rank())?;
    let keeps = args.flag(b, 3)?;
    let low = b.binary(BinaryOp::Ge, k.clone(), int(1));
    let extent = x.dims.get(dim).copied().unwrap_or(Dim::Const(1));
    let high = b.binary(BinaryOp::Le, k.clone(), extent.into());
    let fits = b.binary(BinaryOp::And, low, high);
    b.check(fits, format!("kthvalue(): selected number k out of range for dimension {dim}"));
    picked(b, "kth", &x, dim, keeps, &[k])
}

/// One element of each row along `dim`, chosen by a routine, and where it was.
fn picked(
    b: &mut Builder<'_>,
    routine: &'static str,
    x: &Tensor,
    dim: usize,
    keeps: bool,
    options: &[Operand],
) -> Result<Value> {
    let (values, indices) = ordered(b, routine, x, dim, Some(Dim::Const(1)), options)?;
    if x.rank() == 0 || keeps {
        return Ok(pair(values, indices));
    }
    let (values, indices) = (views::select(b, &values, dim, int(0)), views::select(b, &indices, dim, int(0)));
    Ok(pair(values, indices))
}

/// The lower median along a dimension.
fn median_dim(b: &mut Builder<'_>, args: &Args<'_>, ignores_nan: bool) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let keeps = args.flag(b, 2)?;
    expect_elements(b, &x, dim)?;
    picked(b, "median", &x, dim, keeps, &[flag(ignores_nan)])
}

/// The lower median of all elements; NaN if there are none.
fn median(b: &mut Builder<'_>, args: &Args<'_>, ignores_nan: bool) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.dims.contains(&Dim::Const(0)) {
        let nan = Operand::Const(Const::float(DType::F64, f64::NAN));
        return Ok(Value::Tensor(b.splat(nan, x.dtype, &[])));
    }
    if x.rank() == 0 {
        return Ok(Value::Tensor(b.copy(&x)));
    }
    let line = super::view::flat(b, &x);
    let (values, _) = ordered(b, "median", &line, 0, Some(Dim::Const(1)), &[flag(ignores_nan)])?;
    Ok(Value::Tensor(views::select(b, &values, 0, int(0))))
}

/// The most frequent element along a dimension, the least of several.
fn mode(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, 1, x.rank())?;
    let keeps = args.flag(b, 2)?;
    expect_elements(b, &x, dim)?;
    picked(b, "mode", &x, dim, keeps, &[])
}

fn expect_elements(b: &mut Builder<'_>, x: &Tensor, dim: usize) -> Result<()> {
    let extent = x.dims.get(dim).copied().unwrap_or(Dim::Const(1));
    let message = format!("{}(): Expected reduction dim {dim} to have non-zero size.", b.op_name);
    if extent == Dim::Const(0) {
        return Err(b.user(message));
    }
    let some = b.binary(BinaryOp::Gt, extent.into(), int(0));
    b.check(some, &message);
    Ok(())
}

// ---- searching

/// For each value, how many elements of its row of `sorted` come before it: those less, or with `right` not greater.
pub fn count_before(b: &mut Builder<'_>, sorted: &Tensor, values: &Tensor, right: bool, dtype: DType) -> Tensor {
    let common = compute_type(sorted.dtype.promote(values.dtype));
    let (last, lead) = sorted.dims.split_last().expect("a sequence has a dimension");
    let (last, lead) = (*last, lead.len());
    b.reduce(
        ReduceOp::Sum,
        dtype,
        &values.dims,
        &[last],
        |k, i, over| {
            let v = k.load(values, i);
            let v = k.cast(common, v);
            let s = k.load(sorted, &[&i[..lead], over].concat());
            let s = k.cast(common, s);
            // NaN is greater than all others: written as "not greater or equal", a NaN counts everything as before it.
            let op = if right { BinaryOp::Gt } else { BinaryOp::Ge };
            let is_after = k.binary(op, s, v);
            let is_before = k.unary(crate::loops::UnaryOp::Not, is_after);
            k.cast(DType::I64, is_before)
        },
        |_, _, v| v,
    )
}

fn searchsorted(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut sequence, values) = (args.tensor(0)?, as_tensor(b, args.value(1)?)?);
    let dtype = if args.flag(b, 2)? { DType::I32 } else { DType::I64 };
    let mut right = args.flag(b, 3)?;
    if let Value::Str(_) = args.value(4)? {
        right = match &*args.text(b, 4)? {
            "right" => true,
            "left" if right => {
                return Err(b.user("torch.searchsorted(): side and right can't be set to opposites"));
            }
            _ => false,
        };
    }
    if let Some(sorter) = args.optional_tensor(5)? {
        let original = sequence;
        let (last, lead) = (original.rank() - 1, original.rank() - 1);
        super::index::check_all(b, &sorter, "torch.searchsorted(): sorter index out of range", |k, i| {
            k.in_bounds(i, original.dims[last])
        });
        sequence = b.map(original.dtype, &original.dims, |k, i| {
            let at = k.load(&sorter, i);
            let mut source = i.to_vec();
            source[lead] = at;
            k.load(&original, &source)
        });
    }
    search(b, &sequence, &values, right, dtype)
}

fn search(b: &mut Builder<'_>, sequence: &Tensor, values: &Tensor, right: bool, dtype: DType) -> Result<Value> {
    if sequence.rank() == 0 {
        return Err(b.user("torch.searchsorted(): the sorted sequence should have at least one dimension"));
    }
    if sequence.rank() > 1 {
        if sequence.rank() != values.rank() {
            return Err(b.user(
                "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries \
                 tensor and input value tensor must match",
            ));
        }
        for d in 0..sequence.rank() - 1 {
            b.require_equal(
                sequence.dims[d],
                values.dims[d],
                "torch.searchsorted(): the first N-1 dimensions of boundaries tensor and input value tensor must match",
            )?;
        }
    }
    Ok(Value::Tensor(count_before(b, sequence, values, right, dtype)))
}

fn bucketize(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (values, sequence) = (as_tensor(b, args.value(0)?)?, args.tensor(1)?);
    let dtype = if args.flag(b, 2)? { DType::I32 } else { DType::I64 };
    let right = args.flag(b, 3)?;
    if sequence.rank() != 1 {
        return Err(b.user("boundaries tensor must be 1 dimension"));
    }
    search(b, &sequence, &values, right, dtype)
}
