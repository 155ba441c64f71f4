//! Transforms of overlapping frames of a signal, and signals from such transforms.

use super::complex::{as_complex, as_floats};
use super::fft::{Way, completed, halved, one_over, real_pairs, real_parts, transform};
use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, Operand, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::stft", lower: |b, a| stft(b, a, None) },
    OpDef { name: "aten::stft.center", lower: |b, a| stft(b, a, Some(5)) },
    OpDef { name: "aten::istft", lower: istft },
];

/// The frames of a signal: how long, how far apart, and what each of their points is multiplied by.
struct Frames {
    size: i64,
    hop: i64,
    /// As long as a frame; `None` for ones.
    window: Option<Tensor>,
}

impl Frames {
    /// From the arguments `n_fft, hop_length, win_length, window` at 1.
    fn read(b: &mut Builder<'_>, args: &Args<'_>, dtype: DType) -> Result<Self> {
        let size = args.known_int(b, 1)?;
        let optional = |b: &mut Builder<'_>, at: usize, other: i64| match args.value(at)? {
            Value::None => Ok(other),
            _ => args.known_int(b, at),
        };
        let (hop, length) = (optional(b, 2, size / 4)?, optional(b, 3, size)?);
        let name = b.op_name.clone();
        if size <= 0 || hop <= 0 || length <= 0 || length > size {
            return Err(b.user(format!(
                "{name}: expected 0 < win_length <= n_fft and 0 < hop_length, but got n_fft={size}, hop_length={hop}, \
                 win_length={length}"
            )));
        }
        let window = args.optional_tensor(4)?;
        if let Some(window) = &window {
            if window.rank() != 1 || window.dims[0] != Dim::Const(length) {
                let found = shape_text(&window.dims);
                return Err(b.user(format!(
                    "{name}: expected a 1D window tensor of size equal to win_length={length}, but got window with size \
                     {found}"
                )));
            }
            if window.dtype.is_complex() {
                return Err(b.unsupported(format!("a complex window in {name}")));
            }
        }
        if window.is_none() && length == size {
            return Ok(Self { size, hop, window: None });
        }
        // A shorter window stands in the middle of a frame.
        let before = (size - length) / 2;
        let window = b.map(dtype, &[Dim::Const(size)], |k, i| {
            let offset = k.int(before);
            let at = k.sub(i[0], offset);
            let fits = k.in_bounds(at, Dim::Const(length));
            let (one, zero) = (k.one(dtype), k.zero(dtype));
            match &window {
                Some(window) => {
                    let nothing = k.zero(window.dtype);
                    let v = k.load_or(window, &[at], fits, nothing);
                    k.cast(dtype, v)
                }
                None => k.select(fits, one, zero),
            }
        });
        Ok(Self { size, hop, window: Some(window) })
    }

    /// The factor of a point of a frame.
    fn factor(&self, k: &mut KernelBuilder<'_, '_>, point: ExprId, dtype: DType) -> ExprId {
        match &self.window {
            Some(window) => k.load(window, &[point]),
            None => k.one(dtype),
        }
    }
}

/// The index in a signal of a point that may lie beyond its ends, and whether there is one.
fn padded(k: &mut KernelBuilder<'_, '_>, mode: &str, at: ExprId, n: Dim) -> (ExprId, Option<ExprId>) {
    let (zero, one, extent) = (k.int(0), k.int(1), k.dim(n));
    let last = k.sub(extent, one);
    match mode {
        "reflect" => {
            let below = k.sub(zero, at);
            let low = k.max(at, below);
            let two = k.int(2);
            let end = k.mul(last, two);
            let above = k.sub(end, low);
            (k.min(low, above), None)
        }
        "replicate" => {
            let at = k.max(at, zero);
            (k.min(at, last), None)
        }
        "circular" => (k.binary(BinaryOp::FloorMod, at, extent), None),
        _ => {
            let fits = k.in_bounds(at, n);
            (at, Some(fits))
        }
    }
}

/// Whether an optional flag is set; `None` where it is not given.
fn optional_flag(b: &mut Builder<'_>, args: &Args<'_>, name: &str) -> Result<Option<bool>> {
    match args.position(name) {
        Some(at) if *args.value(at)? != Value::None => args.flag(b, at).map(Some),
        _ => Ok(None),
    }
}

/// `stft(self, n_fft, hop_length, win_length, window, [center, pad_mode,] normalized, onesided, return_complex, ..)`:
/// `[batch, frequencies, frames]`.
fn stft(b: &mut Builder<'_>, args: &Args<'_>, center: Option<usize>) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 || x.rank() > 2 || !(x.dtype.is_floating_point() || x.dtype.is_complex()) {
        let found = shape_text(&x.dims);
        return Err(b.user(format!("stft: expected a 1D or 2D tensor of floating types, but got {found}")));
    }
    let is_complex = x.dtype.is_complex();
    let gives_complex = optional_flag(b, args, "return_complex")?;
    let is_half = optional_flag(b, args, "onesided")?.unwrap_or(!is_complex);
    let is_normalized = optional_flag(b, args, "normalized")? == Some(true);
    if is_complex && is_half {
        return Err(b.user("Cannot have onesided output if window or input is complex"));
    }
    let Some(gives_complex) = gives_complex.or(is_complex.then_some(true)) else {
        return Err(b.user("stft requires the return_complex parameter be given for real inputs, and will further require that return_complex=True in a future PyTorch release."));
    };
    // A complex signal has its parts side by side in a last dimension.
    let signal = if is_complex { as_floats(b, &x)? } else { x.clone() };
    let dtype = signal.dtype;
    let frames = Frames::read(b, args, dtype)?;
    let signal = if x.rank() == 1 { views::unsqueeze(b, &signal, 0) } else { signal };
    let n = signal.dims[1];
    let (mut before, mut mode) = (0, "constant".into());
    if let Some(at) = center
        && args.flag(b, at)?
    {
        before = frames.size / 2;
        mode = args.text(b, at + 1)?;
        if &*mode == "reflect" {
            let fits = b.binary(BinaryOp::Gt, n.into(), int(before));
            b.check(fits, "Padding size should be less than the corresponding input dimension");
        }
    }
    let room = b.binary(BinaryOp::Add, n.into(), int(2 * before - frames.size));
    let fits = b.binary(BinaryOp::Ge, room.clone(), int(0));
    if known_int(&room).is_some_and(|room| room < 0) {
        let found = shape_text(&[n]);
        return Err(b.user(format!(
            "stft: expected 0 < n_fft <= {}, but got n_fft={}",
            found.trim_matches(['[', ']']),
            frames.size
        )));
    }
    b.check(fits, "stft: expected n_fft to be at most the length of the input");
    let steps = b.binary(BinaryOp::FloorDiv, room, int(frames.hop));
    let count = b.binary(BinaryOp::Add, steps, int(1));
    let size = Dim::Const(frames.size);
    let dims = [signal.dims[0], b.dim(count), size];
    let element = |k: &mut KernelBuilder<'_, '_>, i: &[ExprId]| {
        let (hop, offset) = (k.int(frames.hop), k.int(before));
        let first = k.mul(i[1], hop);
        let first = k.sub(first, offset);
        let at = k.add(first, i[2]);
        let (at, fits) = padded(k, &mode, at, n);
        let index = [&[i[0], at], &i[3..]].concat();
        let zero = k.zero(dtype);
        let v = match fits {
            Some(fits) => k.load_or(&signal, &index, fits, zero),
            None => k.load(&signal, &index),
        };
        let factor = frames.factor(k, i[2], dtype);
        k.mul(v, factor)
    };
    let z = if is_complex {
        b.map(dtype, &[&dims[..], &[Dim::Const(2)]].concat(), element)
    } else {
        real_pairs(b, dtype, &dims, element)
    };
    let factor = one_over(b, if is_normalized { size } else { Dim::Const(1) }, true);
    let z = transform(b, &z, 2, size, Way::Forward, factor);
    let z = if is_half { halved(b, &z, 2, size) } else { z };
    let z = views::transpose(b, &z, 1, 2);
    let z = if x.rank() == 1 { views::squeeze(b, &z, |d| d == 0) } else { z };
    Ok(Value::Tensor(if gives_complex { as_complex(b, &z) } else { z }))
}

/// `istft(self, n_fft, hop_length, win_length, window, center, normalized, onesided, length, return_complex)`: frames added
/// where they overlap, divided by what the squared windows add up to there.
fn istft(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    if !x.dtype.is_complex() {
        return Err(b.user(
            "istft requires a complex-valued input tensor matching the output from stft with return_complex=True.",
        ));
    }
    if x.rank() < 2 || x.rank() > 3 {
        let found = shape_text(&x.dims);
        return Err(b.user(format!("istft: expected a tensor with 2 or 3 dimensions, but got {found}")));
    }
    let z = as_floats(b, &x)?;
    let dtype = z.dtype;
    let frames = Frames::read(b, args, dtype)?;
    let (is_centred, is_normalized) = (args.flag(b, 5)?, args.flag(b, 6)?);
    let z = if x.rank() == 2 { views::unsqueeze(b, &z, 0) } else { z };
    let (bins, count, size) = (z.dims[1], z.dims[2], Dim::Const(frames.size));
    let is_half = match optional_flag(b, args, "onesided")? {
        Some(flag) => flag,
        None => bins != size,
    };
    let gives_complex = args.flag(b, 9)?;
    if gives_complex && is_half {
        return Err(b.user("cannot have onesided output if window or input is complex"));
    }
    let wanted = if is_half { frames.size / 2 + 1 } else { frames.size };
    let message = "istft: expected the frequency dimension (3rd to the last) of the input tensor to match n_fft / 2 + 1 \
                   when onesided=True, or n_fft, but got {}";
    b.require_equal(bins, Dim::Const(wanted), Message::new(message, &[bins.into()]))?;
    let z = views::transpose(b, &z, 1, 2);
    // Only a real signal has a transform whose second half repeats the first.
    let z = if gives_complex { z } else { completed(b, &z, 2, size) };
    let factor = one_over(b, size, is_normalized);
    let z = transform(b, &z, 2, size, Way::Inverse, factor);
    let points = if gives_complex { z } else { real_parts(b, &z) };
    let before = if is_centred { frames.size / 2 } else { 0 };
    let less = b.binary(BinaryOp::Sub, count.into(), int(1));
    let reach = b.binary(BinaryOp::Mul, less, int(frames.hop));
    let whole = b.binary(BinaryOp::Add, reach, int(frames.size));
    let length = match args.optional_int(b, 8)? {
        Some(length) => length,
        None => b.binary(BinaryOp::Sub, whole.clone(), int(2 * before)),
    };
    let length = b.dim(length);
    // A point lies in at most this many frames.
    let overlap = Dim::Const((frames.size + frames.hop - 1) / frames.hop);
    // For each point of the result and each frame that may reach it: whether it does, the frame and the point of it.
    let meet = |k: &mut KernelBuilder<'_, '_>, at: ExprId, which: ExprId| {
        let (offset, hop) = (k.int(before), k.int(frames.hop));
        let at = k.add(at, offset);
        let last = k.binary(BinaryOp::FloorDiv, at, hop);
        let frame = k.sub(last, which);
        let first = k.mul(frame, hop);
        let point = k.sub(at, first);
        let (exists, fits) = (k.in_bounds(frame, count), k.in_bounds(point, size));
        (k.and(exists, fits), frame, point)
    };
    let guarded = |k: &mut KernelBuilder<'_, '_>, meets: ExprId, point: ExprId| {
        let zero = k.int(0);
        let point = k.select(meets, point, zero);
        frames.factor(k, point, dtype)
    };
    let envelope = b.reduce(
        ReduceOp::Sum,
        dtype,
        &[length],
        &[overlap],
        |k, i, over| {
            let (meets, _, point) = meet(k, i[0], over[0]);
            let (w, zero) = (guarded(k, meets, point), k.zero(dtype));
            let square = k.mul(w, w);
            k.select(meets, square, zero)
        },
        |_, _, sum| sum,
    );
    let is_covered = b.reduce(
        ReduceOp::And,
        DType::Bool,
        &[],
        &[length],
        |k, _, over| {
            let v = k.load(&envelope, over);
            let (least, extent) = (k.float(dtype, 1e-11), k.operand(&whole));
            let offset = k.int(before);
            let at = k.add(over[0], offset);
            // What lies beyond the last frame is filled up.
            let is_beyond = k.binary(BinaryOp::Ge, at, extent);
            let is_enough = k.binary(BinaryOp::Ge, v, least);
            k.binary(BinaryOp::Or, is_beyond, is_enough)
        },
        |_, _, v| v,
    );
    let is_covered: Operand = b.item(&is_covered);
    b.check(is_covered, "istft: window overlap add min: 1");
    let dims = [&[points.dims[0], length], &points.dims[3..]].concat();
    let signal = b.reduce(
        ReduceOp::Sum,
        dtype,
        &dims,
        &[overlap],
        |k, i, over| {
            let (meets, frame, point) = meet(k, i[1], over[0]);
            let zero = k.zero(dtype);
            let v = k.load_or(&points, &[&[i[0], frame, point], &i[2..]].concat(), meets, zero);
            let w = guarded(k, meets, point);
            k.mul(v, w)
        },
        |k, i, sum| {
            let (v, zero) = (k.load(&envelope, &i[1..2]), k.zero(dtype));
            let is_empty = k.binary(BinaryOp::Eq, v, zero);
            let quotient = k.div(sum, v);
            k.select(is_empty, zero, quotient)
        },
    );
    let signal = if x.rank() == 2 { views::squeeze(b, &signal, |d| d == 0) } else { signal };
    Ok(Value::Tensor(if gives_complex { as_complex(b, &signal) } else { signal }))
}
