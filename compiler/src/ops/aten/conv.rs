//! Convolutions over 1, 2 or 3 spatial dimensions, with groups, strides, dilation and padding, and their transposes.
//!
//! Each is one kernel: output points are parallel axes, input channels and the window are reduced ones. Padding is a guard
//! on the load, never a copy; without padding there is no guard. A transposed convolution gathers: it sums over the window
//! positions whose input point exists.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, Operand, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views::{self, shape_text};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::conv1d", lower: |b, a| conv(b, a, 1) },
    OpDef { name: "aten::conv2d", lower: |b, a| conv(b, a, 2) },
    OpDef { name: "aten::conv3d", lower: |b, a| conv(b, a, 3) },
    OpDef { name: "aten::conv1d.padding", lower: |b, a| conv_mode(b, a, 1) },
    OpDef { name: "aten::conv2d.padding", lower: |b, a| conv_mode(b, a, 2) },
    OpDef { name: "aten::conv3d.padding", lower: |b, a| conv_mode(b, a, 3) },
    OpDef { name: "aten::_convolution_mode", lower: convolution_mode },
    OpDef { name: "aten::conv_transpose1d", lower: |b, a| conv_transpose(b, a, 1) },
    OpDef { name: "aten::conv_transpose2d", lower: |b, a| conv_transpose(b, a, 2) },
    OpDef { name: "aten::conv_transpose3d", lower: |b, a| conv_transpose(b, a, 3) },
    OpDef { name: "aten::convolution", lower: convolution },
    OpDef { name: "aten::_convolution", lower: convolution },
    OpDef { name: "aten::conv_tbc", lower: conv_tbc },
];

/// How a convolution's window moves; one entry a spatial dimension.
#[derive(Clone, Debug)]
pub struct Window {
    /// Distance between windows.
    pub stride: Vec<i64>,
    /// Zeros before and after.
    pub padding: Vec<(i64, i64)>,
    /// Distance between the points of a window.
    pub dilation: Vec<i64>,
    /// Channel groups that do not see each other.
    pub groups: i64,
}

/// `a * x + c` of an extent.
pub fn scaled(b: &mut Builder<'_>, x: Dim, a: i64, c: i64) -> Operand {
    let product = b.binary(BinaryOp::Mul, x.into(), int(a));
    b.binary(BinaryOp::Add, product, int(c))
}

/// As many zeros after as before.
pub fn even(padding: &[i64]) -> Vec<(i64, i64)> {
    padding.iter().map(|&p| (p, p)).collect()
}

fn conv(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let window = Window {
        stride: args.known_ints_of(b, 3, rank, &vec![1; rank])?,
        padding: even(&args.known_ints_of(b, 4, rank, &vec![0; rank])?),
        dilation: args.known_ints_of(b, 5, rank, &vec![1; rank])?,
        groups: args.known_int(b, 6)?,
    };
    conv_of(b, &x, &w, bias.as_ref(), &window).map(Value::Tensor)
}

fn conv_mode(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let stride = args.known_ints_of(b, 3, rank, &vec![1; rank])?;
    let mode = args.text(b, 4)?;
    let dilation = args.known_ints_of(b, 5, rank, &vec![1; rank])?;
    let groups = args.known_int(b, 6)?;
    let padding = mode_padding(b, &w, &mode, &stride, &dilation)?;
    conv_of(b, &x, &w, bias.as_ref(), &Window { stride, padding, dilation, groups }).map(Value::Tensor)
}

fn convolution_mode(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let rank = args.tensor(1)?.rank().saturating_sub(2);
    conv_mode(b, args, rank)
}

/// The padding that `"same"` and `"valid"` stand for.
fn mode_padding(b: &Builder<'_>, w: &Tensor, mode: &str, stride: &[i64], dilation: &[i64]) -> Result<Vec<(i64, i64)>> {
    match mode {
        "valid" => Ok(vec![(0, 0); stride.len()]),
        "same" => {
            if stride.iter().any(|s| *s != 1) {
                return Err(b.user("padding='same' is not supported for strided convolutions"));
            }
            let window = w.dims.iter().skip(2).map(|d| d.known());
            window
                .zip(dilation)
                .map(|(size, d)| {
                    let size = size.ok_or_else(|| b.unsupported("padding='same' with a kernel of unknown size"))?;
                    let total = d * (size - 1);
                    Ok((total / 2, total - total / 2))
                })
                .collect()
        }
        other => Err(b.user(format!("Invalid padding string: '{other}'"))),
    }
}

fn conv_transpose(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let window = Window {
        stride: args.known_ints_of(b, 3, rank, &vec![1; rank])?,
        padding: even(&args.known_ints_of(b, 4, rank, &vec![0; rank])?),
        dilation: args.known_ints_of(b, 7, rank, &vec![1; rank])?,
        groups: args.known_int(b, 6)?,
    };
    let extra = args.known_ints_of(b, 5, rank, &vec![0; rank])?;
    transposed(b, &x, &w, bias.as_ref(), &window, &extra).map(Value::Tensor)
}

/// `aten::convolution` and `aten::_convolution`, whose first arguments are the same.
fn convolution(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, w, bias) = (args.tensor(0)?, args.tensor(1)?, args.optional_tensor(2)?);
    let rank = w.rank().saturating_sub(2);
    let window = Window {
        stride: args.known_ints_of(b, 3, rank, &vec![1; rank])?,
        padding: even(&args.known_ints_of(b, 4, rank, &vec![0; rank])?),
        dilation: args.known_ints_of(b, 5, rank, &vec![1; rank])?,
        groups: args.known_int(b, 8)?,
    };
    if args.flag(b, 6)? {
        let extra = args.known_ints_of(b, 7, rank, &vec![0; rank])?;
        return transposed(b, &x, &w, bias.as_ref(), &window, &extra).map(Value::Tensor);
    }
    conv_of(b, &x, &w, bias.as_ref(), &window).map(Value::Tensor)
}

/// `input [T, B, Cin]`, `weight [K, Cin, Cout]`: a convolution over time with channels last.
fn conv_tbc(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, w, bias, pad) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?, args.known_int(b, 3)?);
    if x.rank() != 3 || w.rank() != 3 {
        return Err(b.user("Input must have 3 dims: time, batch, in_channel"));
    }
    let (x, w) = (views::permute(b, &x, &[1, 2, 0]), views::permute(b, &w, &[2, 1, 0]));
    let window = Window { stride: vec![1], padding: vec![(pad, pad)], dilation: vec![1], groups: 1 };
    let y = conv_of(b, &x, &w, Some(&bias), &window)?;
    Ok(Value::Tensor(views::permute(b, &y, &[2, 0, 1])))
}

/// Checks ranks and types; gives the input with a batch dimension and whether that was added.
fn prepare(b: &mut Builder<'_>, x: &Tensor, w: &Tensor, window: &Window) -> Result<(Tensor, bool)> {
    let rank = window.stride.len();
    let is_unbatched = x.rank() == rank + 1;
    if w.rank() != rank + 2 || x.rank() != rank + 2 && !is_unbatched {
        return Err(b.user(format!(
            "Expected {}D (unbatched) or {}D (batched) input to {}, but got input of size: {}",
            rank + 1,
            rank + 2,
            b.op_name,
            shape_text(&x.dims)
        )));
    }
    if x.dtype != w.dtype {
        return Err(b.user(format!(
            "Input type ({}) and weight type ({}) should be the same",
            x.dtype.python_name(),
            w.dtype.python_name()
        )));
    }
    if x.dtype.is_complex() {
        return Err(b.unsupported("complex numbers in convolutions"));
    }
    if window.stride.iter().any(|s| *s <= 0) {
        return Err(b.user("non-positive stride is not supported"));
    }
    if window.padding.iter().any(|p| p.0 < 0 || p.1 < 0) {
        return Err(b.user("negative padding is not supported"));
    }
    if window.dilation.iter().any(|d| *d <= 0) {
        return Err(b.user("dilation should be greater than zero"));
    }
    if window.groups <= 0 {
        return Err(b.user("non-positive groups is not supported"));
    }
    let x = if is_unbatched { views::unsqueeze(b, x, 0) } else { x.clone() };
    Ok((x, is_unbatched))
}

/// The extent of a channel dimension divided among groups.
pub fn per_group(b: &Builder<'_>, dim: Dim, groups: i64) -> Result<i64> {
    let n = dim.known().ok_or_else(|| b.unsupported("grouped convolution with an unknown number of channels"))?;
    if n % groups != 0 {
        return Err(b.user(format!("the number of channels {n} is not divisible by groups={groups}")));
    }
    Ok(n / groups)
}

/// The cross-correlation of `x [N, C, L..]` with `w [O, C / groups, K..]`, plus `bias [O]`.
pub fn conv_of(b: &mut Builder<'_>, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, window: &Window) -> Result<Tensor> {
    let (x, is_unbatched) = prepare(b, x, w, window)?;
    let rank = window.stride.len();
    let groups = window.groups;
    let want = scaled(b, w.dims[1], groups, 0);
    let want = b.dim(want);
    let message =
        "Given groups={}, weight of size {}, expected input{} to have {} channels, but got {} channels instead";
    let parts = [int(groups).into(), (&w.dims).into(), (&x.dims).into(), want.into(), x.dims[1].into()];
    b.require_equal(x.dims[1], want, Message::new(message, &parts))?;
    let outputs_per_group = if groups == 1 { 1 } else { per_group(b, w.dims[0], groups)? };
    let inputs_per_group = if groups == 1 { 1 } else { per_group(b, x.dims[1], groups)? };
    let mut dims = vec![x.dims[0], w.dims[0]];
    for i in 0..rank {
        dims.push(output_extent(b, x.dims[2 + i], w.dims[2 + i], window, i)?);
    }
    let reduced: Vec<Dim> = w.dims[1..].to_vec();
    let compute = compute_type(x.dtype);
    let out = b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &dims,
        &reduced,
        |k, i, over| {
            let mut channel = over[0];
            if groups > 1 {
                let (outputs, inputs) = (k.int(outputs_per_group), k.int(inputs_per_group));
                let group = k.binary(BinaryOp::FloorDiv, i[1], outputs);
                let first = k.mul(group, inputs);
                channel = k.add(first, over[0]);
            }
            let mut at = vec![i[0], channel];
            let mut inside = k.bool(true);
            for d in 0..rank {
                let (stride, dilation) = (k.int(window.stride[d]), k.int(window.dilation[d]));
                let start = k.mul(i[2 + d], stride);
                let step = k.mul(over[1 + d], dilation);
                let point = k.add(start, step);
                let before = k.int(window.padding[d].0);
                let point = k.sub(point, before);
                if window.padding[d] != (0, 0) {
                    let fits = k.in_bounds(point, x.dims[2 + d]);
                    inside = k.and(inside, fits);
                }
                at.push(point);
            }
            let zero = k.zero(x.dtype);
            let element = k.load_or(&x, &at, inside, zero);
            let weight_at: Vec<ExprId> = [&[i[1]], over].concat();
            let weight = k.load(w, &weight_at);
            let (element, weight) = (k.cast(compute, element), k.cast(compute, weight));
            k.mul(element, weight)
        },
        |k, i, sum| add_channel_bias(k, bias, i, sum),
    );
    Ok(if is_unbatched { views::squeeze(b, &out, |d| d == 0) } else { out })
}

fn add_channel_bias(
    k: &mut crate::ops::primitives::KernelBuilder<'_, '_>,
    bias: Option<&Tensor>,
    index: &[ExprId],
    sum: ExprId,
) -> ExprId {
    let Some(bias) = bias else { return sum };
    let value = k.load(bias, &index[1..2]);
    let value = k.cast(k.dtype(sum), value);
    k.add(sum, value)
}

/// `floor((length + padding - dilation * (size - 1) - 1) / stride) + 1`.
pub fn output_extent(b: &mut Builder<'_>, length: Dim, size: Dim, window: &Window, i: usize) -> Result<Dim> {
    let (before, after) = window.padding[i];
    let reach = scaled(b, size, window.dilation[i], 1 - window.dilation[i]);
    let padded = scaled(b, length, 1, before + after);
    let room = b.binary(BinaryOp::Sub, padded, reach);
    if let Some(known) = crate::ops::value::known_int(&room) {
        if known < 0 {
            return Err(b.user(format!(
                "Calculated padded input size per channel: {}. Kernel size: {}. Kernel size can't be greater than actual \
                 input size",
                shape_text(&[length]),
                shape_text(&[size])
            )));
        }
    } else {
        let fits = b.binary(BinaryOp::Ge, room.clone(), int(0));
        b.check(fits, "Kernel size can't be greater than actual input size");
    }
    let steps = b.binary(BinaryOp::FloorDiv, room, int(window.stride[i]));
    let extent = b.binary(BinaryOp::Add, steps, int(1));
    Ok(b.dim(extent))
}

/// The transpose of a convolution with `w [C, O / groups, K..]`. `extra` points are added at the end.
fn transposed(
    b: &mut Builder<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    extra: &[i64],
) -> Result<Tensor> {
    let (x, is_unbatched) = prepare(b, x, w, window)?;
    let rank = window.stride.len();
    let message =
        "Given transposed=1, weight of size {}, expected input{} to have {} channels, but got {} channels instead";
    let parts = [(&w.dims).into(), (&x.dims).into(), w.dims[0].into(), x.dims[1].into()];
    b.require_equal(x.dims[1], w.dims[0], Message::new(message, &parts))?;
    let mut space = Vec::with_capacity(rank);
    for (i, &extra) in extra.iter().enumerate().take(rank) {
        let spread = scaled(b, x.dims[2 + i], window.stride[i], -window.stride[i]);
        let reach = scaled(b, w.dims[2 + i], window.dilation[i], 1 - window.dilation[i]);
        let full = b.binary(BinaryOp::Add, spread, reach);
        let extent = b.binary(BinaryOp::Add, full, int(extra - 2 * window.padding[i].0));
        let extent = b.dim(extent);
        if extent.known().is_some_and(|n| n <= 0) {
            return Err(b.user(format!(
                "Given input size per channel: {}. Calculated output size per channel is too small",
                shape_text(&x.dims[2..])
            )));
        }
        space.push(extent);
    }
    let out = spread(b, &x, w, bias, window, &space)?;
    Ok(if is_unbatched { views::squeeze(b, &out, |d| d == 0) } else { out })
}

/// Each point of `space` as the sum, over the window, of the points of `x [N, C, L..]` from which a convolution with
/// `w [C, O / groups, K..]` would reach it.
pub fn spread(
    b: &mut Builder<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    space: &[Dim],
) -> Result<Tensor> {
    let (rank, groups) = (window.stride.len(), window.groups);
    let (inputs, outputs) = if groups == 1 {
        (x.dims[1], w.dims[1])
    } else {
        let n =
            w.dims[1].known().ok_or_else(|| b.unsupported("grouped convolution with an unknown number of channels"))?;
        (Dim::Const(per_group(b, w.dims[0], groups)?), Dim::Const(n))
    };
    let channels = scaled(b, outputs, groups, 0);
    let channels = b.dim(channels);
    let dims = [&[x.dims[0], channels], space].concat();
    let reduced = [&[inputs], &w.dims[2..]].concat();
    let compute = compute_type(x.dtype);
    Ok(b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &dims,
        &reduced,
        |k, i, over| {
            let (mut in_channel, mut out_channel) = (over[0], i[1]);
            if groups > 1 {
                let (n_in, n_out) = (k.dim(inputs), k.dim(outputs));
                let group = k.binary(BinaryOp::FloorDiv, i[1], n_out);
                out_channel = k.binary(BinaryOp::FloorMod, i[1], n_out);
                let first = k.mul(group, n_in);
                in_channel = k.add(first, over[0]);
            }
            let mut at = vec![i[0], in_channel];
            let mut inside = k.bool(true);
            for d in 0..rank {
                let (stride, dilation) = (k.int(window.stride[d]), k.int(window.dilation[d]));
                let before = k.int(window.padding[d].0);
                let shifted = k.add(i[2 + d], before);
                let step = k.mul(over[1 + d], dilation);
                let point = k.sub(shifted, step);
                let source = k.binary(BinaryOp::FloorDiv, point, stride);
                let fits = k.in_bounds(source, x.dims[2 + d]);
                inside = k.and(inside, fits);
                if window.stride[d] > 1 {
                    let (left, zero) = (k.binary(BinaryOp::FloorMod, point, stride), k.int(0));
                    let divides = k.binary(BinaryOp::Eq, left, zero);
                    inside = k.and(inside, divides);
                }
                at.push(source);
            }
            let zero = k.zero(x.dtype);
            let element = k.load_or(x, &at, inside, zero);
            let weight_at: Vec<ExprId> = [&[in_channel, out_channel], &over[1..]].concat();
            let weight = k.load(w, &weight_at);
            let (element, weight) = (k.cast(compute, element), k.cast(compute, weight));
            k.mul(element, weight)
        },
        |k, i, sum| add_channel_bias(k, bias, i, sum),
    ))
}
