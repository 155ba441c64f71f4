//! Padding: a tensor with its borders grown or cropped. Each mode is a rule that maps a coordinate outside to one inside.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int, known, known_int};

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::pad", lower: pad },
    OpDef { name: "aten::_pad_enum", lower: pad_enum },
    OpDef { name: "aten::constant_pad_nd", lower: constant_pad_nd },
    OpDef { name: "aten::reflection_pad1d", lower: |b, a| mode_pad(b, a, Mode::Reflect) },
    OpDef { name: "aten::reflection_pad2d", lower: |b, a| mode_pad(b, a, Mode::Reflect) },
    OpDef { name: "aten::reflection_pad3d", lower: |b, a| mode_pad(b, a, Mode::Reflect) },
    OpDef { name: "aten::replication_pad1d", lower: |b, a| mode_pad(b, a, Mode::Replicate) },
    OpDef { name: "aten::replication_pad2d", lower: |b, a| mode_pad(b, a, Mode::Replicate) },
    OpDef { name: "aten::replication_pad3d", lower: |b, a| mode_pad(b, a, Mode::Replicate) },
    OpDef { name: "aten::_pad_circular", lower: |b, a| mode_pad(b, a, Mode::Circular) },
];

/// Where the elements outside come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Mirrored at the border element, which is not repeated.
    Reflect,
    /// The border element.
    Replicate,
    /// The opposite end.
    Circular,
}

/// Elements before and after each dimension, in the order of dimensions.
type Borders = Vec<(Operand, Operand)>;

/// The list of `F.pad`, which starts with the last dimension.
fn borders(b: &mut Builder<'_>, args: &Args<'_>, at: usize, rank: usize) -> Result<Borders> {
    let list = args.int_list(b, at)?;
    if list.len() % 2 != 0 {
        return Err(b.user(format!("Length of pad must be even but instead it equals {}", list.len())));
    }
    if list.len() > 2 * rank {
        return Err(b.user(format!(
            "Length of pad should be no more than twice the number of dimensions of the input. Pad length is {} while the \
             input has {rank} dimensions.",
            list.len()
        )));
    }
    let mut borders = vec![(int(0), int(0)); rank];
    for (pair, slot) in list.chunks_exact(2).zip(borders.iter_mut().rev()) {
        *slot = (pair[0].clone(), pair[1].clone());
    }
    Ok(borders)
}

/// The extents with borders; negative ones crop.
fn padded_dims(b: &mut Builder<'_>, x: &Tensor, borders: &Borders) -> Result<Vec<Dim>> {
    let mut dims = Vec::with_capacity(x.rank());
    for (axis, (extent, (before, after))) in x.dims.iter().zip(borders).enumerate() {
        let grown = b.binary(BinaryOp::Add, (*extent).into(), before.clone());
        let grown = b.binary(BinaryOp::Add, grown, after.clone());
        match known_int(&grown) {
            Some(n) if n < 0 => {
                return Err(b.user(format!(
                    "The input size {}, plus negative padding, resulted in a negative output size, which is invalid. Check \
                     dimension {axis} of your input.",
                    extent.known().unwrap_or(n)
                )));
            }
            Some(_) => {}
            None => {
                let is_size = b.binary(BinaryOp::Ge, grown.clone(), int(0));
                b.check(is_size, "negative padding resulted in a negative output size, which is invalid");
            }
        }
        dims.push(b.dim(grown));
    }
    Ok(dims)
}

fn constant_pad_nd(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let borders = borders(b, args, 1, x.rank())?;
    let value = args.number(b, 2)?;
    Ok(Value::Tensor(constant_pad(b, &x, &borders, &value)?))
}

/// Borders of one value.
fn constant_pad(b: &mut Builder<'_>, x: &Tensor, borders: &Borders, value: &Operand) -> Result<Tensor> {
    let dims = padded_dims(b, x, borders)?;
    Ok(b.map(x.dtype, &dims, |k, i| {
        let mut at = Vec::with_capacity(i.len());
        let mut inside = k.bool(true);
        for (axis, (before, after)) in borders.iter().enumerate() {
            let start = k.operand(before);
            let index = k.sub(i[axis], start);
            let zero = k.int(0);
            if known_int(before).is_none_or(|n| n > 0) {
                let low = k.binary(BinaryOp::Ge, index, zero);
                inside = k.and(inside, low);
            }
            if known_int(after).is_none_or(|n| n > 0) {
                let extent = k.dim(x.dims[axis]);
                let high = k.binary(BinaryOp::Lt, index, extent);
                inside = k.and(inside, high);
            }
            at.push(index);
        }
        let other = k.number(value, x.dtype);
        k.load_or(x, &at, inside, other)
    }))
}

fn mode_pad(b: &mut Builder<'_>, args: &Args<'_>, mode: Mode) -> Result<Value> {
    let x = args.tensor(0)?;
    let borders = borders(b, args, 1, x.rank())?;
    Ok(Value::Tensor(inside_pad(b, &x, &borders, mode)?))
}

/// Borders of the tensor's own elements.
fn inside_pad(b: &mut Builder<'_>, x: &Tensor, borders: &Borders, mode: Mode) -> Result<Tensor> {
    if mode == Mode::Circular {
        return circular_pad(b, x, borders);
    }
    let dims = padded_dims(b, x, borders)?;
    let is_padded = |axis: usize| borders[axis] != (int(0), int(0));
    for axis in (0..x.rank()).filter(|axis| is_padded(*axis)) {
        let (before, after) = borders[axis].clone();
        let extent: Operand = x.dims[axis].into();
        let (limit, message) = match mode {
            Mode::Reflect => (
                b.binary(BinaryOp::Sub, extent, int(1)),
                "Padding size should be less than the corresponding input dimension",
            ),
            Mode::Replicate | Mode::Circular => {
                let some = b.binary(BinaryOp::Gt, extent, int(0));
                b.check(some, "Expected non-zero dimensions of the input for replication padding");
                continue;
            }
        };
        for pad in [before, after] {
            let fits = b.binary(BinaryOp::Le, pad, limit.clone());
            b.check(fits, message);
        }
    }
    Ok(b.map(x.dtype, &dims, |k, i| {
        let mut at = Vec::with_capacity(i.len());
        for axis in 0..i.len() {
            let start = k.operand(&borders[axis].0);
            let index = k.sub(i[axis], start);
            at.push(if is_padded(axis) { brought_inside(k, index, x.dims[axis], mode) } else { index });
        }
        k.load(x, &at)
    }))
}

/// What negative borders leave, repeated.
fn circular_pad(b: &mut Builder<'_>, x: &Tensor, borders: &Borders) -> Result<Tensor> {
    let dims = padded_dims(b, x, borders)?;
    let mut left = Vec::with_capacity(x.rank());
    for (extent, (before, after)) in x.dims.iter().zip(borders) {
        let mut rest: Operand = (*extent).into();
        for pad in [before, after] {
            let cropped = b.binary(BinaryOp::Min, pad.clone(), int(0));
            rest = b.binary(BinaryOp::Add, rest, cropped);
        }
        for pad in [before, after] {
            let fits = b.binary(BinaryOp::Le, pad.clone(), rest.clone());
            b.check(fits, "Padding value causes wrapping around more than once.");
        }
        left.push(b.dim(rest));
    }
    Ok(b.map(x.dtype, &dims, |k, i| {
        let mut at = Vec::with_capacity(i.len());
        for axis in 0..i.len() {
            let before = k.operand(&borders[axis].0);
            let zero = k.int(0);
            let (skipped, added) = (k.min(before, zero), k.max(before, zero));
            let mut index = k.sub(i[axis], added);
            if borders[axis] != (int(0), int(0)) {
                index = brought_inside(k, index, left[axis], Mode::Circular);
            }
            at.push(k.sub(index, skipped));
        }
        k.load(x, &at)
    }))
}

/// The coordinate inside that stands for `index`.
fn brought_inside(k: &mut KernelBuilder<'_, '_>, index: ExprId, extent: Dim, mode: Mode) -> ExprId {
    let (zero, one, extent) = (k.int(0), k.int(1), k.dim(extent));
    let last = k.sub(extent, one);
    match mode {
        Mode::Reflect => {
            let from_start = k.unary(UnaryOp::Abs, index);
            let from_end = k.sub(last, from_start);
            let from_end = k.unary(UnaryOp::Abs, from_end);
            k.sub(last, from_end)
        }
        Mode::Replicate => {
            let low = k.max(index, zero);
            k.min(low, last)
        }
        Mode::Circular => k.binary(BinaryOp::FloorMod, index, extent),
    }
}

fn pad(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let mode = args.text(b, 2)?;
    let mode = match &*mode {
        "constant" => None,
        "reflect" => Some(Mode::Reflect),
        "replicate" => Some(Mode::Replicate),
        "circular" => Some(Mode::Circular),
        other => return Err(b.user(format!("Unrecognised padding mode {other}"))),
    };
    pad_as(b, args, mode)
}

/// The mode as the number that decompositions use.
fn pad_enum(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let modes = [None, Some(Mode::Reflect), Some(Mode::Replicate), Some(Mode::Circular)];
    let number = args.known_int(b, 2)?;
    let mode = usize::try_from(number).ok().and_then(|n| modes.get(n).copied());
    let mode = mode.ok_or_else(|| b.user(format!("Unrecognised padding mode {number}")))?;
    pad_as(b, args, mode)
}

/// `(self, pad, mode, value)`; no mode is constant padding.
fn pad_as(b: &mut Builder<'_>, args: &Args<'_>, mode: Option<Mode>) -> Result<Value> {
    let x = args.tensor(0)?;
    let borders = borders(b, args, 1, x.rank())?;
    let value = args.optional_number(b, 3)?;
    let Some(mode) = mode else {
        return Ok(Value::Tensor(constant_pad(b, &x, &borders, &value.unwrap_or_else(|| int(0)))?));
    };
    if value.as_ref().and_then(known).is_some_and(|c| c.as_f64() != 0.0) {
        return Err(b.user("only the padding mode \"constant\" takes a value argument"));
    }
    Ok(Value::Tensor(inside_pad(b, &x, &borders, mode)?))
}
