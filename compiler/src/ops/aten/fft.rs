//! Discrete Fourier transforms, of whole dimensions and of overlapping frames.
//!
//! A complex number is a pair of floats in a last dimension of 2; a routine transforms rows of such pairs. Real inputs get
//! zeros for imaginary parts, and real outputs leave them out.

use super::complex::{as_complex, as_floats};
use super::part::slice_dim;
use super::view::{any_dims_arg, dim_arg, repeated};
use crate::diag::Result;
use crate::loops::{Arg, BinaryOp, Const, Dim, ExprId, Operand, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::fft_fft", lower: |b, a| one(b, a, Form::Complex, Way::Forward) },
    OpDef { name: "aten::fft_ifft", lower: |b, a| one(b, a, Form::Complex, Way::Inverse) },
    OpDef { name: "aten::fft_rfft", lower: |b, a| one(b, a, Form::FromReal, Way::Forward) },
    OpDef { name: "aten::fft_irfft", lower: |b, a| one(b, a, Form::ToReal, Way::Inverse) },
    OpDef { name: "aten::fft_hfft", lower: |b, a| one(b, a, Form::ToReal, Way::Forward) },
    OpDef { name: "aten::fft_ihfft", lower: |b, a| one(b, a, Form::FromReal, Way::Inverse) },
    OpDef { name: "aten::fft_fft2", lower: |b, a| several(b, a, Form::Complex, Way::Forward) },
    OpDef { name: "aten::fft_ifft2", lower: |b, a| several(b, a, Form::Complex, Way::Inverse) },
    OpDef { name: "aten::fft_rfft2", lower: |b, a| several(b, a, Form::FromReal, Way::Forward) },
    OpDef { name: "aten::fft_irfft2", lower: |b, a| several(b, a, Form::ToReal, Way::Inverse) },
    OpDef { name: "aten::fft_hfft2", lower: |b, a| several(b, a, Form::ToReal, Way::Forward) },
    OpDef { name: "aten::fft_ihfft2", lower: |b, a| several(b, a, Form::FromReal, Way::Inverse) },
    OpDef { name: "aten::fft_fftn", lower: |b, a| several(b, a, Form::Complex, Way::Forward) },
    OpDef { name: "aten::fft_ifftn", lower: |b, a| several(b, a, Form::Complex, Way::Inverse) },
    OpDef { name: "aten::fft_rfftn", lower: |b, a| several(b, a, Form::FromReal, Way::Forward) },
    OpDef { name: "aten::fft_irfftn", lower: |b, a| several(b, a, Form::ToReal, Way::Inverse) },
    OpDef { name: "aten::fft_hfftn", lower: |b, a| several(b, a, Form::ToReal, Way::Forward) },
    OpDef { name: "aten::fft_ihfftn", lower: |b, a| several(b, a, Form::FromReal, Way::Inverse) },
    OpDef { name: "aten::fft_fftshift", lower: |b, a| shifted(b, a, 0) },
    OpDef { name: "aten::fft_ifftshift", lower: |b, a| shifted(b, a, 1) },
    OpDef { name: "aten::fft_fftfreq", lower: |b, a| frequencies(b, a, false) },
    OpDef { name: "aten::fft_rfftfreq", lower: |b, a| frequencies(b, a, true) },
];

/// What goes in and comes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Complex,
    /// Real numbers go in; half of the transform comes out, for the rest is its conjugate.
    FromReal,
    /// Half of a transform goes in, real numbers come out.
    ToReal,
}

/// The sign of the exponent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Negative.
    Forward,
    /// Positive.
    Inverse,
}

/// The factor that `norm` asks for, of a transform of length `n`.
fn scale(b: &mut Builder<'_>, args: &Args<'_>, at: usize, n: Dim, way: Way) -> Result<Operand> {
    let norm = if matches!(args.value(at)?, Value::None) { "backward".into() } else { args.text(b, at)? };
    match (&*norm, way) {
        ("backward", Way::Forward) | ("forward", Way::Inverse) => Ok(one_over(b, Dim::Const(1), false)),
        ("backward", Way::Inverse) | ("forward", Way::Forward) => Ok(one_over(b, n, false)),
        ("ortho", _) => Ok(one_over(b, n, true)),
        _ => Err(b.user(format!("Invalid normalization mode: \"{norm}\""))),
    }
}

/// `1 / n`, or `1 / sqrt(n)`.
pub fn one_over(b: &mut Builder<'_>, n: Dim, is_root: bool) -> Operand {
    let n = b.cast(DType::F64, n.into());
    let n = if is_root { b.unary(UnaryOp::Sqrt, n) } else { n };
    b.binary(BinaryOp::Div, Operand::Const(Const::float(DType::F64, 1.0)), n)
}

/// A tensor as pairs of floats.
fn pairs(b: &mut Builder<'_>, x: &Tensor) -> Result<Tensor> {
    if x.dtype.is_complex() {
        return as_floats(b, x);
    }
    let dtype = match x.dtype {
        DType::F64 => DType::F64,
        DType::F16 | DType::BF16 => return Err(b.user(format!("Unsupported dtype {}", x.dtype.graph_name()))),
        _ => DType::F32,
    };
    Ok(real_pairs(b, dtype, &x.dims, |k, i| {
        let v = k.load(x, i);
        k.cast(dtype, v)
    }))
}

/// Pairs with these real parts, and 0 for the others.
pub fn real_pairs<'p>(
    b: &mut Builder<'p>,
    dtype: DType,
    dims: &[Dim],
    real: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId]) -> ExprId,
) -> Tensor {
    let dims = [dims, &[Dim::Const(2)]].concat();
    b.map(dtype, &dims, |k, i| {
        let (at, part) = i.split_at(i.len() - 1);
        let v = real(k, at);
        let (zero, nothing) = (k.int(0), k.zero(dtype));
        let is_real = k.binary(BinaryOp::Eq, part[0], zero);
        k.select(is_real, v, nothing)
    })
}

/// The transform of pairs along a dimension, which is cut or filled up with zeros to length `n` before.
pub fn transform(b: &mut Builder<'_>, z: &Tensor, dim: usize, n: Dim, way: Way, scale: Operand) -> Tensor {
    let last = z.rank() - 2;
    let length = z.dims[dim];
    let z = views::transpose(b, z, dim, last);
    let z = if length == n {
        z
    } else {
        let mut dims = z.dims.clone();
        dims[last] = n;
        b.map(z.dtype, &dims, |k, i| {
            let fits = k.in_bounds(i[last], length);
            let zero = k.zero(z.dtype);
            k.load_or(&z, i, fits, zero)
        })
    };
    let from = b.row_major(&z);
    let to = b.new_buffer(z.dtype, &z.dims);
    let is_inverse = int(i64::from(way == Way::Inverse));
    b.call("fft", vec![Arg::Buffer(from), Arg::Buffer(to), Arg::Scalar(is_inverse), Arg::Scalar(scale)], &[]);
    let result = b.tensor_of(to);
    views::transpose(b, &result, dim, last)
}

/// All `n` points along a dimension of which the first half is given: the others are conjugates of these.
pub fn completed(b: &mut Builder<'_>, z: &Tensor, dim: usize, n: Dim) -> Tensor {
    let mut dims = z.dims.clone();
    dims[dim] = n;
    let part = z.rank() - 1;
    b.map(z.dtype, &dims, |k, i| {
        let (n, two, zero) = (k.dim(n), k.int(2), k.int(0));
        let half = k.binary(BinaryOp::FloorDiv, n, two);
        let is_mirrored = k.binary(BinaryOp::Gt, i[dim], half);
        let mirror = k.sub(n, i[dim]);
        let mut at = i.to_vec();
        at[dim] = k.select(is_mirrored, mirror, i[dim]);
        let fits = k.in_bounds(at[dim], z.dims[dim]);
        let nothing = k.zero(z.dtype);
        let v = k.load_or(z, &at, fits, nothing);
        let negated = k.unary(UnaryOp::Neg, v);
        let is_imaginary = k.binary(BinaryOp::Ne, i[part], zero);
        let turns = k.and(is_mirrored, is_imaginary);
        k.select(turns, negated, v)
    })
}

/// The first half of a transform of length `n`, which the rest repeats.
pub fn halved(b: &mut Builder<'_>, z: &Tensor, dim: usize, n: Dim) -> Tensor {
    let half = b.binary(BinaryOp::FloorDiv, n.into(), int(2));
    let half = b.binary(BinaryOp::Add, half, int(1));
    slice_dim(b, z, dim, None, Some(&half), 1)
}

/// The real parts of pairs.
pub fn real_parts(b: &mut Builder<'_>, z: &Tensor) -> Tensor {
    views::select(b, z, z.rank() - 1, int(0))
}

fn refuse_complex(b: &Builder<'_>, x: &Tensor, form: Form) -> Result<()> {
    if form == Form::FromReal && x.dtype.is_complex() {
        let name = b.op_name.trim_start_matches("fft_");
        return Err(b.user(format!("{name} expects a real input tensor, but got {}", x.dtype.graph_name())));
    }
    Ok(())
}

/// The length that is asked for: `n`, or what follows from the extent.
fn length(b: &mut Builder<'_>, n: Option<Operand>, extent: Dim, form: Form) -> Result<Dim> {
    let n = match n {
        Some(n) => n,
        None if form == Form::ToReal => {
            let less = b.binary(BinaryOp::Sub, extent.into(), int(1));
            b.binary(BinaryOp::Mul, less, int(2))
        }
        None => extent.into(),
    };
    let message = format!("Invalid number of data points ({}) specified", known_int(&n).unwrap_or(0));
    match known_int(&n) {
        Some(n) if n < 1 => return Err(b.user(message)),
        Some(_) => {}
        None => {
            let is_positive = b.binary(BinaryOp::Gt, n.clone(), int(0));
            b.check(is_positive, &message);
        }
    }
    Ok(b.dim(n))
}

/// `fft(self, n, dim, norm)`
fn one(b: &mut Builder<'_>, args: &Args<'_>, form: Form, way: Way) -> Result<Value> {
    let x = args.tensor(0)?;
    refuse_complex(b, &x, form)?;
    let dim = dim_arg(b, args, 2, x.rank())?;
    let n = args.optional_int(b, 1)?;
    let Some(&extent) = x.dims.get(dim) else { return Err(b.user("fft expects at least one dimension")) };
    let n = length(b, n, extent, form)?;
    transformed(b, args, &x, &[(dim, n)], form, way)
}

/// `fftn(self, s, dim, norm)`
fn several(b: &mut Builder<'_>, args: &Args<'_>, form: Form, way: Way) -> Result<Value> {
    let x = args.tensor(0)?;
    refuse_complex(b, &x, form)?;
    let sizes = args.optional_int_list(b, 1)?;
    let dims = match args.value(2)? {
        Value::None => {
            let n = sizes.as_ref().map_or(x.rank(), Vec::len);
            let Some(first) = x.rank().checked_sub(n) else {
                let message = "Got shape with {} values but input tensor only has {} dimensions.";
                return Err(b.user(message.replacen("{}", &n.to_string(), 1).replacen("{}", &x.rank().to_string(), 1)));
            };
            (first..x.rank()).collect()
        }
        _ => any_dims_arg(b, args, 2, x.rank())?,
    };
    if repeated(&dims).is_some() {
        return Err(b.user("FFT dims must be unique"));
    }
    if sizes.as_ref().is_some_and(|sizes| sizes.len() != dims.len()) {
        return Err(b.user("When given, dim and shape arguments must have the same length"));
    }
    if dims.is_empty() && form != Form::Complex {
        let name = b.op_name.trim_start_matches("fft_");
        return Err(b.user(format!("{name} must transform at least one axis")));
    }
    let mut along = Vec::with_capacity(dims.len());
    for (i, &dim) in dims.iter().enumerate() {
        let n = sizes.as_ref().map(|sizes| sizes[i].clone()).filter(|n| known_int(n) != Some(-1));
        let own = if i + 1 == dims.len() { form } else { Form::Complex };
        along.push((dim, length(b, n, x.dims[dim], own)?));
    }
    transformed(b, args, &x, &along, form, way)
}

/// Transforms along dimensions to lengths; only the last of them may be real on one side.
fn transformed(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    x: &Tensor,
    along: &[(usize, Dim)],
    form: Form,
    way: Way,
) -> Result<Value> {
    let norm = args.position("norm").unwrap_or(3);
    let mut z = pairs(b, x)?;
    let Some((&(dim, n), others)) = along.split_last() else {
        return Ok(Value::Tensor(as_complex(b, &z)));
    };
    let factor = scale(b, args, norm, n, way)?;
    if form != Form::ToReal {
        z = transform(b, &z, dim, n, way, factor.clone());
    }
    if form == Form::FromReal {
        z = halved(b, &z, dim, n);
    }
    for &(dim, n) in others {
        let factor = scale(b, args, norm, n, way)?;
        z = transform(b, &z, dim, n, way, factor);
    }
    if form == Form::ToReal {
        z = completed(b, &z, dim, n);
        z = transform(b, &z, dim, n, way, factor);
        return Ok(Value::Tensor(real_parts(b, &z)));
    }
    Ok(Value::Tensor(as_complex(b, &z)))
}

/// Each dimension turned round by half of its length; `more` rounds that up.
fn shifted(b: &mut Builder<'_>, args: &Args<'_>, more: i64) -> Result<Value> {
    let x = args.tensor(0)?;
    if x.rank() == 0 {
        return Err(b.user("`shifts` required"));
    }
    let dims = match args.value(1)? {
        Value::None => (0..x.rank()).collect(),
        _ => any_dims_arg(b, args, 1, x.rank())?,
    };
    Ok(Value::Tensor(b.map(x.dtype, &x.dims, |k, i| {
        let mut at = i.to_vec();
        for &dim in &dims {
            let (n, more, two) = (k.dim(x.dims[dim]), k.int(more), k.int(2));
            let shift = k.add(n, more);
            let shift = k.binary(BinaryOp::FloorDiv, shift, two);
            let from = k.sub(at[dim], shift);
            at[dim] = k.binary(BinaryOp::FloorMod, from, n);
        }
        k.load(&x, &at)
    })))
}

/// `fftfreq(n, d)`: the frequencies that the points of a transform stand for, of `rfft` only those of the first half.
fn frequencies(b: &mut Builder<'_>, args: &Args<'_>, is_half: bool) -> Result<Value> {
    let (n, step) = (args.int(b, 0)?, args.float(b, 1)?);
    let dtype = args.dtype(b, 2)?.unwrap_or(DType::F32);
    let half = b.binary(BinaryOp::FloorDiv, n.clone(), int(2));
    let half = b.binary(BinaryOp::Add, half, int(1));
    let extent = b.dim(if is_half { half } else { n.clone() });
    let points = b.cast(DType::F64, n.clone());
    let span = b.binary(BinaryOp::Mul, points, step);
    let factor = b.binary(BinaryOp::Div, Operand::Const(Const::float(DType::F64, 1.0)), span);
    Ok(Value::Tensor(b.map(dtype, &[extent], |k, i| {
        let (n, one, two) = (k.operand(&n), k.int(1), k.int(2));
        let more = k.add(n, one);
        let first_negative = k.binary(BinaryOp::FloorDiv, more, two);
        let is_negative = k.binary(BinaryOp::Ge, i[0], first_negative);
        let wrapped = k.sub(i[0], n);
        let number = if is_half { i[0] } else { k.select(is_negative, wrapped, i[0]) };
        let (number, factor) = (k.cast(DType::F64, number), k.operand(&factor));
        k.mul(number, factor)
    })))
}
