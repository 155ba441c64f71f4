//! Losses.

use super::criteria::reduction;
use super::reduce::{Over, mean_over, sum_over};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, Operand};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::value::{Tensor, Value};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::ctc_loss.Tensor", lower: ctc_loss_tensor },
    OpDef { name: "aten::ctc_loss.IntList", lower: ctc_loss_lists },
];

fn ctc_loss_tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let lengths = [args.tensor(2)?, args.tensor(3)?];
    for (t, name) in lengths.iter().zip(["input_lengths", "target_lengths"]) {
        if t.dtype.is_floating_point() || t.dtype.is_complex() || t.dtype == DType::Bool {
            return Err(b.user(format!("{name} must be integral")));
        }
    }
    ctc_loss(b, args, &lengths)
}

fn ctc_loss_lists(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let lists = [args.int_list(b, 2)?, args.int_list(b, 3)?];
    let lengths = lists.map(|list| {
        let n = i64::try_from(list.len()).expect("lists are short");
        b.map(DType::I64, &[Dim::Const(n)], |k, i| {
            let mut value = k.int(0);
            for (at, item) in (0..n).zip(&list) {
                let (at, item) = (k.int(at), k.number(item, DType::I64));
                let is_here = k.binary(BinaryOp::Eq, i[0], at);
                value = k.select(is_here, item, value);
            }
            value
        })
    });
    ctc_loss(b, args, &lengths)
}

/// The loss of each sequence by a routine, then what `reduction` and `zero_infinity` ask for.
fn ctc_loss(b: &mut Builder<'_>, args: &Args<'_>, lengths: &[Tensor; 2]) -> Result<Value> {
    let (mut scores, targets) = (args.tensor(0)?, args.tensor(1)?);
    let (blank, reduction, drops_infinity) = (args.int(b, 4)?, reduction(b, args, 5)?, args.flag(b, 6)?);
    let is_batched = scores.rank() == 3;
    if scores.rank() == 2 {
        scores = views::unsqueeze(b, &scores, 1);
    } else if !is_batched {
        return Err(b.user("log_probs must have two or three dimensions"));
    }
    if !matches!(scores.dtype, DType::F32 | DType::F64) {
        return Err(b.unsupported(format!("ctc_loss of {}", scores.dtype.python_name())));
    }
    let losses = b.new_buffer(scores.dtype, &[scores.dims[1]]);
    let inputs = [&scores, &targets, &lengths[0], &lengths[1]].map(|t| Arg::Buffer(b.row_major(t)));
    let mut call = inputs.to_vec();
    call.extend([Arg::Buffer(losses), Arg::Scalar(blank)]);
    b.call("ctc_loss", call, &[]);
    let losses = b.tensor_of(losses);
    let dtype = losses.dtype;
    let target_lengths = if lengths[1].rank() == 0 { views::unsqueeze(b, &lengths[1], 0) } else { lengths[1].clone() };
    let is_mean = reduction == 1;
    let losses = b.map(dtype, &losses.dims, |k, i| {
        let mut loss = k.load(&losses, i);
        if drops_infinity {
            let (infinity, zero) = (k.float(dtype, f64::INFINITY), k.zero(dtype));
            let is_infinite = k.binary(BinaryOp::Eq, loss, infinity);
            loss = k.select(is_infinite, zero, loss);
        }
        if is_mean {
            let length = k.load(&target_lengths, i);
            let length = k.cast(DType::I64, length);
            let one = k.int(1);
            let length = k.max(length, one);
            let length = k.cast(dtype, length);
            loss = k.div(loss, length);
        }
        loss
    });
    let all = Over::new(vec![0], false);
    Ok(Value::Tensor(match reduction {
        0 if is_batched => losses,
        0 => views::select(b, &losses, 0, Operand::Const(Const::int(0))),
        1 => mean_over(b, &losses, &all, dtype),
        _ => sum_over(b, &losses, &all, dtype),
    }))
}
