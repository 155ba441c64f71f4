//! The `torchvision::` operators.

use super::OpDef;
use super::args::Args;
use super::builder::Builder;
use super::value::Value;
use super::views;
use crate::diag::Result;
use crate::loops::{Arg, Const, Dim, Operand, VarType};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[OpDef { name: "torchvision::nms", lower: nms }];

/// Positions of the boxes that overlap no better one by more than a threshold, best first; as many as there are.
fn nms(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (boxes, scores, threshold) = (args.tensor(0)?, args.tensor(1)?, args.float(b, 2)?);
    if boxes.rank() != 2 {
        return Err(b.user(format!("boxes should be a 2d tensor, got {}D", boxes.rank())));
    }
    if scores.rank() != 1 {
        return Err(b.user(format!("scores should be a 1d tensor, got {}D", scores.rank())));
    }
    b.require_equal(boxes.dims[1], Dim::Const(4), "boxes should have 4 elements in dimension 1")?;
    let message = "boxes and scores should have same number of elements in dimension 0";
    b.require_equal(boxes.dims[0], scores.dims[0], message)?;
    let (boxes, scores_buffer) = (b.row_major(&boxes), b.row_major(&scores));
    let kept = b.new_buffer(DType::I64, &scores.dims);
    let args = [Arg::Buffer(boxes), Arg::Buffer(scores_buffer), Arg::Buffer(kept), Arg::Scalar(threshold)];
    let count = b.call("nms", args.into(), &[VarType::Int]);
    let kept = b.tensor_of(kept);
    let found = views::slice(b, &kept, 0, Operand::Const(Const::int(0)), Dim::Var(count[0]), 1);
    Ok(Value::Tensor(b.copy(&found)))
}
