//! Embeddings: rows of a table chosen by indices, alone or summed in bags.

use super::index::{Bounds, check_all, check_positions};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::embedding", lower: embedding },
    OpDef { name: "aten::embedding_bag", lower: embedding_bag },
    OpDef { name: "aten::one_hot", lower: one_hot },
];

fn expect_table(b: &mut Builder<'_>, table: &Tensor, index: &Tensor) -> Result<()> {
    if table.rank() != 2 {
        return Err(b.user("'weight' must be 2-D"));
    }
    if !matches!(index.dtype, DType::I64 | DType::I32) {
        return Err(b.user(format!(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got \
             {} instead",
            index.dtype.graph_name()
        )));
    }
    let rows = table.dims[0];
    check_positions(b, index, rows, 0, Bounds::InSelf);
    Ok(())
}

fn embedding(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (table, index) = (args.tensor(0)?, args.tensor(1)?);
    expect_table(b, &table, &index)?;
    let dims = [&index.dims[..], &table.dims[1..]].concat();
    Ok(Value::Tensor(b.map(table.dtype, &dims, |k, i| {
        let (column, at) = i.split_last().expect("there is the table's column");
        let row = k.load(&index, at);
        let row = k.cast(DType::I64, row);
        k.load(&table, &[row, *column])
    })))
}

/// Bags of rows: sum (mode 0), mean (1) or greatest (2) of the rows from one offset to the next. Each bag takes in the rows
/// of its indices only: a guard drops those of others.
fn embedding_bag(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (table, index, offsets) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    expect_table(b, &table, &index)?;
    if index.rank() != 1 || offsets.rank() != 1 {
        return Err(b.user("input and offsets have to be 1D Tensors"));
    }
    let mode = args.known_int(b, 4)?;
    let weights = args.optional_tensor(6)?;
    let has_last = args.flag(b, 7)?;
    let padding = if args.values.len() > 8 { args.optional_int(b, 8)? } else { None };
    let n_bags =
        if has_last { b.binary(BinaryOp::Sub, offsets.dims[0].into(), int(1)) } else { offsets.dims[0].into() };
    let n_bags = b.dim(n_bags);
    let n = index.dims[0];
    check_all(b, &offsets, "offsets must lie within the input", |k, i| {
        let (zero, end) = (k.int(0), k.dim(n));
        let low = k.binary(BinaryOp::Ge, i, zero);
        let high = k.binary(BinaryOp::Le, i, end);
        k.and(low, high)
    });
    let padding = match padding {
        Some(p) => {
            let is_negative = b.binary(BinaryOp::Lt, p.clone(), int(0));
            let from_end = b.binary(BinaryOp::Add, p.clone(), table.dims[0].into());
            Some(b.select(is_negative, from_end, p))
        }
        None => None,
    };
    // First index of each bag and the one after its last.
    let ends = b.map(DType::I64, &[n_bags], |k, i| {
        let one = k.int(1);
        let next = k.add(i[0], one);
        let inside = k.in_bounds(next, offsets.dims[0]);
        let end = k.dim(n);
        let end = k.cast(offsets.dtype, end);
        let end = k.load_or(&offsets, &[next], inside, end);
        k.cast(DType::I64, end)
    });
    let counted = |k: &mut crate::ops::primitives::KernelBuilder<'_, '_>, bag, at| {
        let start = k.load(&offsets, &[bag]);
        let start = k.cast(DType::I64, start);
        let end = k.load(&ends, &[bag]);
        let low = k.binary(BinaryOp::Ge, at, start);
        let high = k.binary(BinaryOp::Lt, at, end);
        let mut inside = k.and(low, high);
        let row = k.load(&index, &[at]);
        let row = k.cast(DType::I64, row);
        if let Some(padding) = &padding {
            let padding = k.operand(padding);
            let is_row = k.binary(BinaryOp::Ne, row, padding);
            inside = k.and(inside, is_row);
        }
        (row, inside)
    };
    let sizes = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[n_bags],
        &[n],
        |k, i, over| {
            let (_, inside) = counted(k, i[0], over[0]);
            k.cast(DType::I64, inside)
        },
        |_, _, v| v,
    );
    let compute = compute_type(table.dtype);
    let op = if mode == 2 { ReduceOp::Max } else { ReduceOp::Sum };
    let output = b.reduce(
        op,
        table.dtype,
        &[n_bags, table.dims[1]],
        &[n],
        |k, i, over| {
            let (row, inside) = counted(k, i[0], over[0]);
            let other = if mode == 2 { super::pool::lowest(k, table.dtype) } else { k.zero(table.dtype) };
            let value = k.load_or(&table, &[row, i[1]], inside, other);
            let value = k.cast(compute, value);
            let Some(weights) = &weights else { return value };
            let w = k.load(weights, over);
            let w = k.cast(compute, w);
            k.mul(value, w)
        },
        |k, i, v| {
            let (size, zero, one) = (k.load(&sizes, &i[..1]), k.int(0), k.int(1));
            match mode {
                1 => {
                    let size = k.max(size, one);
                    let size = k.cast(compute, size);
                    k.div(v, size)
                }
                2 => {
                    let is_empty = k.binary(BinaryOp::Eq, size, zero);
                    let nothing = k.zero(compute);
                    k.select(is_empty, nothing, v)
                }
                _ => v,
            }
        },
    );
    // The bag of each index, as PyTorch gives it for the backward pass.
    let bag_of = b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[n],
        &[n_bags],
        |k, i, over| {
            let end = k.load(&ends, over);
            let is_later = k.binary(BinaryOp::Ge, i[0], end);
            k.cast(DType::I64, is_later)
        },
        |_, _, v| v,
    );
    let maxima = b.splat(int(0), DType::I64, &[Dim::Const(0)]);
    Ok(Value::Tuple(
        vec![Value::Tensor(output), Value::Tensor(bag_of), Value::Tensor(sizes), Value::Tensor(maxima)],
        None,
    ))
}

/// 1 at the index, 0 elsewhere, along a new last dimension. Without a number of classes it is the greatest index and one.
fn one_hot(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, classes) = (args.tensor(0)?, args.int(b, 1)?);
    if x.dtype != DType::I64 {
        return Err(b.user("one_hot is only applicable to index tensor of type LongTensor."));
    }
    check_all(b, &x, "Class values must be non-negative.", |k, i| {
        let zero = k.int(0);
        k.binary(BinaryOp::Ge, i, zero)
    });
    let numel = b.product(&x.dims);
    let (has_elements, has_classes) =
        (b.binary(BinaryOp::Gt, numel, int(0)), b.binary(BinaryOp::Gt, classes.clone(), int(0)));
    let is_clear = b.binary(BinaryOp::Or, has_elements, has_classes);
    b.check(is_clear, "Can not infer total number of classes from empty tensor.");
    let is_open = b.binary(BinaryOp::Eq, classes.clone(), int(-1));
    let extent = if b.decide(&is_open)? {
        let greatest = b.reduce(ReduceOp::Max, DType::I64, &[], &x.dims, |k, _, over| k.load(&x, over), |_, _, v| v);
        let greatest = b.item(&greatest);
        let extent = b.binary(BinaryOp::Add, greatest, int(1));
        b.dim(extent)
    } else {
        // Fewer classes than none fit no index, as none do.
        let classes = b.binary(BinaryOp::Max, classes, int(0));
        let extent = b.dim(classes);
        check_all(b, &x, "Class values must be smaller than num_classes.", |k, i| {
            let n = k.dim(extent);
            k.binary(BinaryOp::Lt, i, n)
        });
        extent
    };
    let dims = [&x.dims[..], &[extent]].concat();
    Ok(Value::Tensor(b.map(DType::I64, &dims, |k, i| {
        let (class, at) = i.split_last().expect("there is the class");
        let v = k.load(&x, at);
        let is_it = k.binary(BinaryOp::Eq, v, *class);
        k.cast(DType::I64, is_it)
    })))
}
