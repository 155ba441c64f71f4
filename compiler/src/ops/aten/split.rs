//! A tensor in pieces along one dimension.
//!
//! Where the number of pieces is known they are views. Where only the running program knows it, a routine makes a run-time list:
//! of views if memory is shared, else of copies.

use super::part::slice_dim;
use super::view::{dim_arg, tensor_list};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Dim, Operand, VarType};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::run_time::var_arg;
use crate::ops::value::{ItemFacts, Tensor, TensorFacts, Value, int, known_int};
use crate::ops::views;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::split.Tensor", lower: split },
    OpDef { name: "aten::split", lower: split_with_sizes },
    OpDef { name: "aten::split.sizes", lower: split_with_sizes },
    OpDef { name: "aten::split_with_sizes", lower: split_with_sizes },
    OpDef { name: "aten::unsafe_split.Tensor", lower: split },
    OpDef { name: "aten::unsafe_split_with_sizes", lower: split_with_sizes },
    OpDef { name: "aten::chunk", lower: chunk },
    OpDef { name: "aten::unsafe_chunk", lower: chunk },
    OpDef { name: "aten::tensor_split.sections", lower: tensor_split },
    OpDef { name: "aten::tensor_split.indices", lower: tensor_split_indices },
    OpDef { name: "aten::unbind", lower: unbind },
];

/// The tensor, the dimension and its extent.
fn along(b: &mut Builder<'_>, args: &Args<'_>, dim_at: usize) -> Result<(Tensor, usize, Dim)> {
    let x = args.tensor(0)?;
    let dim = dim_arg(b, args, dim_at, x.rank())?;
    match x.dims.get(dim) {
        Some(&extent) => Ok((x, dim, extent)),
        None => Err(b.user(format!("{} expects at least a 1-dimensional tensor", b.op_name))),
    }
}

/// Consecutive pieces of these lengths.
fn pieces(b: &mut Builder<'_>, x: &Tensor, dim: usize, lengths: &[i64]) -> Value {
    let lengths: Vec<_> = lengths.iter().map(|n| int(*n)).collect();
    pieces_between(b, x, dim, &lengths)
}

fn pieces_between(b: &mut Builder<'_>, x: &Tensor, dim: usize, lengths: &[Operand]) -> Value {
    let mut start = int(0);
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let extent = b.dim(length.clone());
        parts.push(views::slice(b, x, dim, start.clone(), extent, 1));
        start = b.binary(BinaryOp::Add, start, length.clone());
    }
    tensor_list(b, parts)
}

fn pieces_of(b: &mut Builder<'_>, x: &Tensor, dim: usize, size: i64, n: i64) -> Value {
    let count = if size == 0 { 1 } else { ((n + size - 1) / size).max(1) };
    let lengths: Vec<_> = (0..count).map(|i| size.min(n - i * size)).collect();
    pieces(b, x, dim, &lengths)
}

/// As many pieces as the running program finds: a run-time list that this routine makes of the tensor, `how` and `dim`.
/// Pieces differ along the dimension, or lack it; they are views where memory is shared.
fn listed(b: &mut Builder<'_>, routine: &'static str, x: &Tensor, how: Operand, dim: usize) -> Value {
    let whole = if b.shares_memory { var_arg(b.object_of(x)) } else { Arg::Buffer(b.row_major(x)) };
    let args = vec![whole, Arg::Scalar(how), Arg::Scalar(int(i64::try_from(dim).unwrap_or(i64::MAX)))];
    let var = b.call(routine, args, &[VarType::Object])[0];
    let mut dims: Vec<_> = x.dims.iter().map(|d| d.known()).collect();
    if routine == "tensor_unbind" {
        dims.remove(dim);
    } else {
        dims[dim] = None;
    }
    let is_row_major = !b.shares_memory;
    b.list_in(var, ItemFacts::Tensor(TensorFacts { dtype: x.dtype, dims, is_row_major }))
}

fn split(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, extent) = along(b, args, 2)?;
    let size = args.int(b, 1)?;
    if let (Some(n), Some(size)) = (extent.known(), known_int(&size)) {
        if size < 0 || size == 0 && n != 0 {
            return Err(b.user(format!("split expects split_size be non-negative, but got split_size={size}")));
        }
        return Ok(pieces_of(b, &x, dim, size, n));
    }
    Ok(listed(b, "tensor_split", &x, size, dim))
}

fn chunk(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, extent) = along(b, args, 2)?;
    let chunks = args.int(b, 1)?;
    if let Some(chunks) = known_int(&chunks) {
        if chunks <= 0 {
            return Err(b.user(format!("chunk expects `chunks` to be greater than 0, got: {chunks}")));
        }
        match extent.known() {
            Some(0) => {
                let lengths = vec![0; usize::try_from(chunks).unwrap_or(1)];
                return Ok(pieces(b, &x, dim, &lengths));
            }
            Some(n) => return Ok(pieces_of(b, &x, dim, (n + chunks - 1) / chunks, n)),
            None => {}
        }
    }
    Ok(listed(b, "tensor_chunk", &x, chunks, dim))
}

fn split_with_sizes(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, extent) = along(b, args, 2)?;
    if let Some(sizes) = args.run_time_list(b, 1) {
        let sizes = Operand::Var(sizes.var);
        return Ok(listed(b, "tensor_split_sizes", &x, sizes, dim));
    }
    let lengths = args.int_list(b, 1)?;
    let mut total = int(0);
    for length in &lengths {
        total = b.binary(BinaryOp::Add, total, length.clone());
        let is_valid = b.binary(BinaryOp::Ge, length.clone(), int(0));
        let message = "split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={}";
        b.require(is_valid, Message::new(message, &[lengths.as_slice().into()]))?;
    }
    let total = b.dim(total);
    let message = "split_with_sizes expects split_sizes to sum exactly to {} (input tensor's size at dimension {}), but got \
                   split_sizes={}";
    b.require_equal(total, extent, Message::new(message, &[extent.into(), dim.into(), lengths.as_slice().into()]))?;
    Ok(pieces_between(b, &x, dim, &lengths))
}

/// As many pieces as asked for, the first ones longer by one.
fn tensor_split(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, extent) = along(b, args, 2)?;
    let sections = args.known_int(b, 1)?;
    if sections <= 0 {
        return Err(b.user(format!("number of sections must be larger than 0, got {sections}")));
    }
    let n: Operand = extent.into();
    let least = b.binary(BinaryOp::FloorDiv, n.clone(), int(sections));
    let rest = b.binary(BinaryOp::FloorMod, n, int(sections));
    let mut lengths = Vec::new();
    for i in 0..sections {
        let is_longer = b.binary(BinaryOp::Lt, int(i), rest.clone());
        let more = b.select(is_longer, int(1), int(0));
        lengths.push(b.binary(BinaryOp::Add, least.clone(), more));
    }
    Ok(pieces_between(b, &x, dim, &lengths))
}

fn tensor_split_indices(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, _) = along(b, args, 2)?;
    let ends = args.int_list(b, 1)?;
    let mut start = int(0);
    let mut parts = Vec::with_capacity(ends.len() + 1);
    for end in &ends {
        parts.push(slice_dim(b, &x, dim, Some(&start), Some(end), 1));
        start = end.clone();
    }
    parts.push(slice_dim(b, &x, dim, Some(&start), None, 1));
    Ok(tensor_list(b, parts))
}

fn unbind(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, dim, extent) = along(b, args, 1)?;
    match extent.known() {
        Some(n) => {
            let parts = (0..n).map(|i| views::select(b, &x, dim, int(i))).collect();
            Ok(tensor_list(b, parts))
        }
        None => Ok(listed(b, "tensor_unbind", &x, int(0), dim)),
    }
}
