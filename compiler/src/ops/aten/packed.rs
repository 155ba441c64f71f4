//! Packed sequences: rows of all steps one after another, at each step those of the sequences that still go on.
//!
//! Sequences are sorted, the longest first, so the first `batch_sizes[t]` rows of a batch are those of step `t`.

use crate::diag::Result;
use crate::loops::{AxisKind, BinaryOp, Dim, ExprId, Operand, ReduceOp, StoreMode};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::_pack_padded_sequence", lower: pack },
    OpDef { name: "aten::_pad_packed_sequence", lower: pad },
];

/// Where the rows of each step lie.
pub struct Packing {
    /// How many sequences have a row at each step.
    pub sizes: Tensor,
    /// The first row of each step.
    firsts: Tensor,
}

impl Packing {
    /// The packing with these batch sizes, an `int64` tensor of one dimension.
    pub fn new(b: &mut Builder<'_>, sizes: &Tensor) -> Result<Self> {
        if sizes.rank() != 1 || sizes.dtype != DType::I64 {
            return Err(b.user("batch_sizes should be a 1D CPU int64 tensor"));
        }
        let buffer = b.new_buffer(DType::I64, &sizes.dims);
        let firsts = b.tensor_of(buffer);
        let mut k = KernelBuilder::new(b);
        let step = k.axis(sizes.dims[0], AxisKind::Scan);
        let own = k.load(sizes, &[step]);
        let so_far = k.reduce(ReduceOp::Sum, own);
        let first = k.sub(so_far, own);
        k.store_through(&firsts, &[step], first, None, StoreMode::Set);
        k.finish();
        Ok(Self { sizes: sizes.clone(), firsts })
    }

    /// The number of steps.
    pub fn steps(&self) -> Dim {
        self.sizes.dims[0]
    }

    /// Whether a sequence has a row at a step, and that row's number.
    pub fn row(&self, k: &mut KernelBuilder<'_, '_>, step: ExprId, sequence: ExprId) -> (ExprId, ExprId) {
        let size = k.load(&self.sizes, &[step]);
        let goes_on = k.binary(BinaryOp::Lt, sequence, size);
        let first = k.load(&self.firsts, &[step]);
        (goes_on, k.add(first, sequence))
    }
}

/// For each of `n` numbers, how many elements of a tensor of one dimension are greater.
fn count_greater(b: &mut Builder<'_>, x: &Tensor, n: Dim) -> Tensor {
    b.reduce(
        ReduceOp::Sum,
        DType::I64,
        &[n],
        &x.dims,
        |k, i, over| {
            let v = k.load(x, over);
            let is_greater = k.binary(BinaryOp::Gt, v, i[0]);
            k.cast(DType::I64, is_greater)
        },
        |_, _, sum| sum,
    )
}

/// The first element of a tensor of one dimension as an extent.
fn first(b: &mut Builder<'_>, x: &Tensor) -> Dim {
    let first = views::select(b, x, 0, int(0));
    let first = b.item(&first);
    b.dim(first)
}

fn pack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (mut x, lengths) = (args.tensor(0)?, args.tensor(1)?);
    if args.flag(b, 2)? {
        x = views::transpose(b, &x, 0, 1);
    }
    if lengths.rank() != 1 || lengths.dtype != DType::I64 {
        return Err(b.user(format!(
            "'lengths' argument should be a 1D CPU int64 tensor, but got {}D cpu {} tensor",
            lengths.rank(),
            lengths.dtype
        )));
    }
    let message = "Expected `len(lengths)` to be equal to batch_size, but got {} (batch_size={})";
    let message = Message::new(message, &[lengths.dims[0].into(), x.dims[1].into()]);
    b.require_equal(lengths.dims[0], x.dims[1], message)?;
    check_lengths(b, &lengths);
    let steps = first(b, &lengths);
    let fits = b.binary(BinaryOp::Le, steps.into(), x.dims[0].into());
    b.check(fits, "Expected no length greater than the length of the padded sequences");
    let sizes = count_greater(b, &lengths, steps);
    let packing = Packing::new(b, &sizes)?;
    let total =
        b.reduce(ReduceOp::Sum, DType::I64, &[], &lengths.dims, |k, _, over| k.load(&lengths, over), |_, _, v| v);
    let total = b.item(&total);
    let rows = [&[b.dim(total)], &x.dims[2..]].concat();
    let buffer = b.new_buffer(x.dtype, &rows);
    let data = b.tensor_of(buffer);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&[&[steps], &x.dims[1..]].concat());
    let (goes_on, row) = packing.row(&mut k, i[0], i[1]);
    let v = k.load(&x, &i);
    k.store_through(&data, &[&[row], &i[2..]].concat(), v, Some(goes_on), StoreMode::Set);
    k.finish();
    Ok(Value::Tuple(vec![Value::Tensor(data), Value::Tensor(sizes)], None))
}

/// Lengths are positive and fall.
fn check_lengths(b: &mut Builder<'_>, lengths: &Tensor) {
    let mut all = |f: &dyn Fn(&mut KernelBuilder<'_, '_>, ExprId, ExprId) -> ExprId| {
        let test = |k: &mut KernelBuilder<'_, '_>, _: &[ExprId], over: &[ExprId]| {
            let (one, zero) = (k.int(1), k.int(0));
            let before = k.sub(over[0], one);
            let before = k.max(before, zero);
            let (v, before) = (k.load(lengths, over), k.load(lengths, &[before]));
            f(k, v, before)
        };
        let holds = b.reduce(ReduceOp::And, DType::Bool, &[], &lengths.dims, test, |_, _, v| v);
        b.item(&holds)
    };
    let is_positive = all(&|k, v, _| {
        let zero = k.int(0);
        k.binary(BinaryOp::Gt, v, zero)
    });
    let falls = all(&|k, v, before| k.binary(BinaryOp::Le, v, before));
    b.check(
        is_positive,
        "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0",
    );
    b.check(
        falls,
        "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass \
         `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do not \
         need ONNX exportability.",
    );
}

fn pad(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (data, sizes) = (args.tensor(0)?, args.tensor(1)?);
    let (batch_first, filler, wanted) = (args.flag(b, 2)?, args.number(b, 3)?, args.int(b, 4)?);
    let packing = Packing::new(b, &sizes)?;
    let (steps, batch) = (packing.steps(), first(b, &sizes));
    let is_given = b.binary(BinaryOp::Gt, wanted.clone(), int(0));
    let extent = b.select(is_given, wanted, steps.into());
    let fits = b.binary(BinaryOp::Ge, extent.clone(), steps.into());
    let text = |o: &Operand| known_int(o).map_or_else(|| "?".to_owned(), |n| n.to_string());
    let message = format!(
        "Expected total_length to be at least the length of the longest sequence in input, but got total_length={} and max \
         sequence length being {}",
        text(&extent),
        text(&steps.into())
    );
    b.check(fits, &message);
    let dims = [&[b.dim(extent), batch], &data.dims[1..]].concat();
    let padded = b.map(data.dtype, &dims, |k, i| {
        let filler = k.number(&filler, data.dtype);
        let (last, none) = (k.dim(steps), k.int(0));
        let is_step = k.binary(BinaryOp::Lt, i[0], last);
        let step = k.select(is_step, i[0], none);
        let (goes_on, row) = packing.row(k, step, i[1]);
        let is_there = k.and(is_step, goes_on);
        k.load_or(&data, &[&[row], &i[2..]].concat(), is_there, filler)
    });
    let lengths = count_greater(b, &sizes, batch);
    let padded = if batch_first { views::transpose(b, &padded, 0, 1) } else { padded };
    Ok(Value::Tuple(vec![Value::Tensor(padded), Value::Tensor(lengths)], None))
}
