//! Quantised tensors: integers in memory, and a storage that knows the scale and zero point they stand for.
//!
//! `real = scale * (integer - zero point)`. Linear maps and convolutions multiply the differences to the zero points, which
//! are whole numbers that floats hold exactly, and are scaled and rounded once at the end; so results are those of integer
//! arithmetic. What only moves elements runs on the integers; what commutes with scaling runs on the differences.
//!
//! Packed parameters are tuples of what they were packed from: weight, bias and, for convolutions, how the window moves.

use super::contraction::linear_of;
use super::conv::{Window, conv_of};
use super::copy::cast;
use crate::diag::{Diagnostic, Result};
use crate::ir::OpName;
use crate::loops::{BinaryOp, Const, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{Cell, Quantizer, Tensor, Value, known_int};
use crate::ops::views;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::quantize_per_tensor", lower: quantize_per_tensor },
    OpDef { name: "aten::quantize_per_channel", lower: quantize_per_channel },
    OpDef { name: "aten::dequantize.self", lower: dequantize },
    OpDef { name: "aten::dequantize.tensor", lower: dequantize },
    OpDef { name: "aten::int_repr", lower: int_repr },
    OpDef { name: "aten::q_scale", lower: |b, a| Ok(Value::Float(per_tensor(b, &a.tensor(0)?)?.0)) },
    OpDef { name: "aten::q_zero_point", lower: |b, a| Ok(Value::Int(per_tensor(b, &a.tensor(0)?)?.1)) },
    OpDef { name: "quantized::linear_prepack", lower: prepack },
    OpDef { name: "quantized::conv1d_prepack", lower: prepack },
    OpDef { name: "quantized::conv2d_prepack", lower: prepack },
    OpDef { name: "quantized::conv3d_prepack", lower: prepack },
    OpDef { name: "quantized::linear_unpack", lower: unpack },
    OpDef { name: "quantized::conv1d_unpack", lower: unpack },
    OpDef { name: "quantized::conv2d_unpack", lower: unpack },
    OpDef { name: "quantized::conv3d_unpack", lower: unpack },
    OpDef { name: "quantized::linear_dynamic", lower: |b, a| linear_dynamic(b, a, false) },
    OpDef { name: "quantized::linear_relu_dynamic", lower: |b, a| linear_dynamic(b, a, true) },
    OpDef { name: "quantized::linear", lower: |b, a| linear(b, a, false) },
    OpDef { name: "quantized::linear_relu", lower: |b, a| linear(b, a, true) },
    OpDef { name: "quantized::conv1d", lower: |b, a| convolution(b, a, false) },
    OpDef { name: "quantized::conv1d_relu", lower: |b, a| convolution(b, a, true) },
    OpDef { name: "quantized::conv2d.new", lower: |b, a| convolution(b, a, false) },
    OpDef { name: "quantized::conv2d_relu.new", lower: |b, a| convolution(b, a, true) },
    OpDef { name: "quantized::conv3d.new", lower: |b, a| convolution(b, a, false) },
    OpDef { name: "quantized::conv3d_relu.new", lower: |b, a| convolution(b, a, true) },
    OpDef { name: "quantized::add", lower: |b, a| arithmetic(b, a, BinaryOp::Add, false) },
    OpDef { name: "quantized::add_relu", lower: |b, a| arithmetic(b, a, BinaryOp::Add, true) },
    OpDef { name: "quantized::mul", lower: |b, a| arithmetic(b, a, BinaryOp::Mul, false) },
    OpDef { name: "quantized::mul_relu", lower: |b, a| arithmetic(b, a, BinaryOp::Mul, true) },
];

/// Operators that take and give elements as they are.
const MOVING: &[&str] = &[
    "aten::alias",
    "aten::chunk",
    "aten::clone",
    "aten::contiguous",
    "aten::detach",
    "aten::expand",
    "aten::expand_as",
    "aten::flatten",
    "aten::flip",
    "aten::index_select",
    "aten::max_pool1d",
    "aten::max_pool2d",
    "aten::max_pool3d",
    "aten::movedim",
    "aten::narrow",
    "aten::permute",
    "aten::pixel_shuffle",
    "aten::repeat",
    "aten::reshape",
    "aten::select",
    "aten::slice",
    "aten::split",
    "aten::split_with_sizes",
    "aten::squeeze",
    "aten::t",
    "aten::transpose",
    "aten::unbind",
    "aten::unflatten",
    "aten::unsqueeze",
    "aten::view",
];

/// Operators for which scaling before is scaling after; the result keeps the scale and zero point.
const SCALING: &[&str] = &[
    "aten::adaptive_avg_pool1d",
    "aten::adaptive_avg_pool2d",
    "aten::adaptive_avg_pool3d",
    "aten::avg_pool1d",
    "aten::avg_pool2d",
    "aten::avg_pool3d",
    "aten::mean",
    "aten::relu",
];

/// With more products in a sum than this, a 32-bit float might not hold it exactly: `2^24 / (255 * 128)`.
const MAX_EXACT_TERMS: i64 = 514;

// ---- any operator

fn is_quantised(b: &Builder<'_>, value: &Value) -> bool {
    match value {
        Value::Tensor(t) => t.dtype.is_quantised(),
        Value::Cell(cell) => match &b.heap.cells[*cell] {
            Cell::List(items) => items.iter().any(|item| is_quantised(b, item)),
            Cell::Dict(_)
            | Cell::Object(_)
            | Cell::RunTimeObject(_)
            | Cell::Future(_)
            | Cell::RunTimeList(_)
            | Cell::RunTimeDict(_) => false,
        },
        _ => false,
    }
}

/// A call with quantised arguments of an operator that is defined for plain tensors; `None` if it is not such a call.
///
/// # Errors
/// Unsupported where the operator needs to know more than the integers.
pub fn lower_plain(b: &mut Builder<'_>, op: &OpName, values: &[Value]) -> Result<Option<Value>> {
    if !op.name.starts_with("aten::") || !values.iter().any(|v| is_quantised(b, v)) {
        return Ok(None);
    }
    let has = |defs: &[OpDef]| defs.iter().any(|d| d.name == op.to_string() || d.name == &*op.name);
    let functional = op.name.strip_suffix('_').unwrap_or(&op.name);
    let is_container = || functional == &*op.name && !super::FAMILIES.iter().any(|(_, defs)| has(defs));
    if has(DEFS) || has(super::shape::DEFS) || is_container() {
        // Operators of this family know; sizes and lists do not look at elements.
        return Ok(None);
    }
    let (moves, scales) = (MOVING.contains(&&*op.name), SCALING.contains(&functional));
    let (true, Some(Value::Tensor(x))) = (moves || scales, values.first()) else {
        return Err(b.unsupported(format!("{} of quantised tensors", b.op_name)));
    };
    let (x, mut values) = (x.clone(), values.to_vec());
    if moves {
        values[0] = Value::Tensor(integers(&x));
        let result = crate::ops::lower(b, op, &values)?;
        return requantised(b, result, &x).map(Some);
    }
    let (scale, zero_point) = per_tensor(b, &x)?;
    values[0] = Value::Tensor(differences(b, &x, DType::F32)?);
    let functional = OpName::with_overload(functional, &op.overload);
    let Value::Tensor(result) = crate::ops::lower(b, &functional, &values)? else {
        return Err(b.unsupported(format!("{} of quantised tensors", b.op_name)));
    };
    let one = Operand::Const(Const::float(DType::F64, 1.0));
    let mut result = quantise(b, &result, (&one, &zero_point), x.dtype);
    b.heap.storages[result.storage].quantizer = Some(Quantizer::PerTensor(scale, zero_point));
    if functional != *op {
        let (target, source) = (integers(&x), integers(&result));
        crate::ops::write_result(b, &target, &source)?;
        result = x;
    }
    Ok(Some(Value::Tensor(result)))
}

/// Integers that were moved stand for what those of `like` stand for.
fn requantised(b: &mut Builder<'_>, value: Value, like: &Tensor) -> Result<Value> {
    let mut one = |t: Tensor| {
        if t.storage != like.storage {
            let (scale, zero_point) = per_tensor(b, like)?;
            b.heap.storages[t.storage].quantizer = Some(Quantizer::PerTensor(scale, zero_point));
        }
        Ok(Value::Tensor(Tensor { dtype: like.dtype, ..t }))
    };
    match value {
        Value::Tensor(t) => one(t),
        list @ Value::Cell(_) => {
            let items = b.items(&list)?;
            let items = items.into_iter().map(|item| requantised(b, item, like)).collect::<Result<_>>()?;
            Ok(b.new_list(items))
        }
        other => Ok(other),
    }
}

// ---- between integers and real numbers

/// The integers of a quantised tensor.
fn integers(x: &Tensor) -> Tensor {
    Tensor { dtype: x.dtype.stored(), ..x.clone() }
}

fn quantizer(b: &Builder<'_>, x: &Tensor) -> Result<Quantizer> {
    let found = b.heap.storages[x.storage].quantizer.clone();
    found.filter(|_| x.dtype.is_quantised()).ok_or_else(|| b.user(format!("{} expects a quantised tensor", b.op_name)))
}

/// Scale and zero point of a tensor that has one of each.
fn per_tensor(b: &Builder<'_>, x: &Tensor) -> Result<(Operand, Operand)> {
    match quantizer(b, x)? {
        Quantizer::PerTensor(scale, zero_point) => Ok((scale, zero_point)),
        Quantizer::PerChannel { .. } => {
            Err(b.unsupported(format!("{} of a tensor that is quantised by channels", b.op_name)))
        }
    }
}

/// The index of an element's channel: its index in a dimension of the storage.
fn channel(k: &mut KernelBuilder<'_, '_>, x: &Tensor, dim: usize, i: &[ExprId]) -> ExprId {
    let affine = x.view.index[dim].clone();
    let mut at = k.operand(&affine.offset);
    for (axis, coefficient) in affine.terms {
        let c = k.int(coefficient);
        let term = k.mul(i[axis], c);
        at = k.add(at, term);
    }
    at
}

/// `integer - zero point` of an element, as a float.
fn difference(k: &mut KernelBuilder<'_, '_>, x: &Tensor, q: &Quantizer, i: &[ExprId], real: DType) -> ExprId {
    let whole = if x.dtype == DType::QI32 { DType::I64 } else { DType::I32 };
    let v = k.load(&integers(x), i);
    let v = k.cast(whole, v);
    let zero_point = match q {
        Quantizer::PerTensor(_, zero_point) => k.number(zero_point, whole),
        Quantizer::PerChannel { zero_points, dim, .. } => {
            let at = channel(k, x, *dim, i);
            let z = k.load(zero_points, &[at]);
            k.cast(whole, z)
        }
    };
    let v = k.sub(v, zero_point);
    k.cast(real, v)
}

/// The scale of an element, as a float.
fn scale_of(k: &mut KernelBuilder<'_, '_>, x: &Tensor, q: &Quantizer, i: &[ExprId]) -> ExprId {
    match q {
        Quantizer::PerTensor(scale, _) => k.number(scale, DType::F32),
        Quantizer::PerChannel { scales, dim, .. } => {
            let at = channel(k, x, *dim, i);
            let s = k.load(scales, &[at]);
            k.cast(DType::F32, s)
        }
    }
}

fn differences(b: &mut Builder<'_>, x: &Tensor, real: DType) -> Result<Tensor> {
    let q = quantizer(b, x)?;
    Ok(b.map(real, &x.dims, |k, i| difference(k, x, &q, i, real)))
}

/// The least and greatest integer of a quantised type.
fn range(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::QU8 => (0.0, 255.0),
        DType::QI8 => (-128.0, 127.0),
        _ => (f64::from(i32::MIN), f64::from(i32::MAX)),
    }
}

/// `round(x) + zero point` within the range of a type, whose low end may be raised.
fn rounded(k: &mut KernelBuilder<'_, '_>, x: ExprId, zero_point: ExprId, dtype: DType, is_relu: bool) -> ExprId {
    let real = if dtype == DType::QI32 { DType::F64 } else { DType::F32 };
    let (low, high) = range(dtype);
    let x = k.unary(UnaryOp::Round, x);
    let (x, zero_point) = (k.cast(real, x), k.cast(real, zero_point));
    let shifted = k.add(x, zero_point);
    let low = if is_relu { zero_point } else { k.float(real, low) };
    let high = k.float(real, high);
    let limited = k.max(shifted, low);
    let limited = k.min(limited, high);
    k.cast(dtype.stored(), limited)
}

/// A float tensor as integers of one scale and zero point.
fn quantise(b: &mut Builder<'_>, x: &Tensor, (scale, zero_point): (&Operand, &Operand), dtype: DType) -> Tensor {
    let result = b.map(dtype.stored(), &x.dims, |k, i| {
        let v = k.load(x, i);
        let (scale, zero_point) = (k.number(scale, DType::F32), k.operand(zero_point));
        let one = k.one(DType::F32);
        let inverse = k.div(one, scale);
        let v = k.mul(v, inverse);
        rounded(k, v, zero_point, dtype, false)
    });
    b.heap.storages[result.storage].quantizer = Some(Quantizer::PerTensor(scale.clone(), zero_point.clone()));
    Tensor { dtype, ..result }
}

fn quantised_type(b: &Builder<'_>, args: &Args<'_>, at: usize) -> Result<DType> {
    let dtype = args.dtype(b, at)?.filter(|d| d.is_quantised());
    dtype.ok_or_else(|| b.user(format!("{} expects one of quint8, qint8, qint32 for dtype", b.op_name)))
}

fn expect_float(b: &Builder<'_>, x: &Tensor) -> Result<()> {
    if x.dtype == DType::F32 {
        return Ok(());
    }
    Err(b.user(format!("Quantize only works on Float Tensor, got {}", x.dtype.graph_name())))
}

/// With numbers or one-element tensors for scale and zero point.
fn quantize_per_tensor(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    expect_float(b, &x)?;
    let (scale, zero_point) = (args.float(b, 1)?, args.int(b, 2)?);
    let dtype = quantised_type(b, args, 3)?;
    Ok(Value::Tensor(quantise(b, &x, (&scale, &zero_point), dtype)))
}

fn quantize_per_channel(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, scales, zero_points) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
    expect_float(b, &x)?;
    let axis = args.known_int(b, 3)?;
    let dim = x.wrap_dim(axis).filter(|_| axis >= 0 && scales.rank() == 1 && zero_points.rank() == 1);
    let dim = dim.ok_or_else(|| b.user("Channel axis out of range in per channel affine quantization."))?;
    let dtype = quantised_type(b, args, 4)?;
    let result = b.map(dtype.stored(), &x.dims, |k, i| {
        let v = k.load(&x, i);
        let s = k.load(&scales, &[i[dim]]);
        let s = k.cast(DType::F32, s);
        let one = k.one(DType::F32);
        let inverse = k.div(one, s);
        let v = k.mul(v, inverse);
        let z = k.load(&zero_points, &[i[dim]]);
        rounded(k, v, z, dtype, false)
    });
    // Later writes to the given tensors must not show.
    let (scales, zero_points) = (Box::new(b.copy(&scales)), Box::new(b.copy(&zero_points)));
    b.heap.storages[result.storage].quantizer = Some(Quantizer::PerChannel { scales, zero_points, dim });
    Ok(Value::Tensor(Tensor { dtype, ..result }))
}

fn dequantised(b: &mut Builder<'_>, x: &Tensor) -> Result<Tensor> {
    let q = quantizer(b, x)?;
    Ok(b.map(DType::F32, &x.dims, |k, i| {
        let v = difference(k, x, &q, i, DType::F32);
        let scale = scale_of(k, x, &q, i);
        k.mul(v, scale)
    }))
}

/// Of plain tensors: their elements as 32-bit floats.
fn dequantize(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    Ok(Value::Tensor(if x.dtype.is_quantised() { dequantised(b, &x)? } else { cast(b, &x, DType::F32) }))
}

fn int_repr(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    quantizer(b, &x)?;
    Ok(Value::Tensor(b.copy(&integers(&x))))
}

// ---- packed parameters

fn prepack(_: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    Ok(Value::Tuple(args.values.to_vec(), None))
}

/// Weight and bias of packed parameters.
pub(super) fn packed(b: &Builder<'_>, value: &Value) -> Result<(Tensor, Option<Tensor>)> {
    match value {
        Value::Tuple(parts, _) => match parts.as_slice() {
            [Value::Tensor(w), Value::Tensor(bias), ..] => Ok((w.clone(), Some(bias.clone()))),
            [Value::Tensor(w), Value::None, ..] => Ok((w.clone(), None)),
            _ => Err(b.unsupported(format!("packed parameters of this kind in {}", b.op_name))),
        },
        other => Err(Diagnostic::internal(format!("expected packed parameters, found {}", other.kind()))),
    }
}

fn unpack(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (weight, bias) = packed(b, args.value(0)?)?;
    Ok(Value::Tuple(vec![Value::Tensor(weight), bias.map_or(Value::None, Value::Tensor)], None))
}

/// The float type that holds sums of this many products of differences exactly.
fn sum_type(w: &Tensor) -> DType {
    let terms = w.dims[1..].iter().try_fold(1i64, |n, d| n.checked_mul(d.known()?));
    if terms.is_some_and(|n| n <= MAX_EXACT_TERMS) { DType::F32 } else { DType::F64 }
}

fn expect_weight(b: &Builder<'_>, w: &Tensor) -> Result<Quantizer> {
    if w.rank() == 0 {
        return Err(b.user(format!("{}: the weight has no dimensions", b.op_name)));
    }
    quantizer(b, w)
}

/// The bias of an output channel, and the scale of its products.
struct Output<'a> {
    x_scale: &'a Operand,
    weight: (&'a Tensor, &'a Quantizer),
    bias: Option<&'a Tensor>,
    /// Where the channel is among the result's indices.
    axis: usize,
}

impl Output<'_> {
    /// `x scale * weight scale`, of a channel.
    fn scale(&self, k: &mut KernelBuilder<'_, '_>, i: &[ExprId]) -> ExprId {
        let (w, q) = self.weight;
        let zero = k.int(0);
        let mut at = vec![zero; w.rank()];
        at[0] = i[self.axis];
        let (x, w) = (k.number(self.x_scale, DType::F32), scale_of(k, w, q, &at));
        k.mul(x, w)
    }
}

/// Sums of products of differences as a quantised tensor: the bias is added, then all is scaled and rounded once.
fn finish(
    b: &mut Builder<'_>,
    sums: &Tensor,
    output: &Output<'_>,
    (scale, zero_point): (&Operand, &Operand),
    dtype: DType,
    is_relu: bool,
) -> Tensor {
    let result = b.map(dtype.stored(), &sums.dims, |k, i| {
        let sum = k.load(sums, i);
        let mut sum = k.cast(DType::F32, sum);
        let products = output.scale(k, i);
        if let Some(bias) = output.bias {
            let v = k.load(bias, &[i[output.axis]]);
            let v = k.div(v, products);
            sum = k.add(sum, v);
        }
        let (scale, zero_point) = (k.number(scale, DType::F32), k.operand(zero_point));
        let factor = k.div(products, scale);
        let scaled = k.mul(sum, factor);
        rounded(k, scaled, zero_point, dtype, is_relu)
    });
    b.heap.storages[result.storage].quantizer = Some(Quantizer::PerTensor(scale.clone(), zero_point.clone()));
    Tensor { dtype, ..result }
}

fn linear(b: &mut Builder<'_>, args: &Args<'_>, is_relu: bool) -> Result<Value> {
    let (x, (w, bias)) = (args.tensor(0)?, packed(b, args.value(1)?)?);
    let (scale, zero_point) = (args.float(b, 2)?, args.int(b, 3)?);
    let (x_scale, _) = per_tensor(b, &x)?;
    let q = expect_weight(b, &w)?;
    let real = sum_type(&w);
    let (dx, dw) = (differences(b, &x, real)?, differences(b, &w, real)?);
    let sums = linear_of(b, &dx, &dw, None)?;
    let axis = sums.rank().saturating_sub(1);
    let output = Output { x_scale: &x_scale, weight: (&w, &q), bias: bias.as_ref(), axis };
    Ok(Value::Tensor(finish(b, &sums, &output, (&scale, &zero_point), x.dtype, is_relu)))
}

/// How the window of packed parameters moves: stride, padding, dilation, groups after weight and bias.
fn window(b: &Builder<'_>, value: &Value, rank: usize) -> Result<Window> {
    let Value::Tuple(parts, _) = value else { return Err(Diagnostic::internal("expected packed parameters")) };
    let [_, _, stride, padding, dilation, Value::Int(groups)] = parts.as_slice() else {
        return Err(b.unsupported(format!("packed parameters of this kind in {}", b.op_name)));
    };
    let unknown = || b.unsupported(format!("{} with a window known only when running", b.op_name));
    let numbers = |list: &Value| -> Result<Vec<i64>> {
        let known = |item: &Value| if let Value::Int(o) = item { known_int(o) } else { None };
        let numbers: Option<Vec<i64>> = b.items(list)?.iter().map(known).collect();
        let numbers = numbers.ok_or_else(unknown)?;
        match numbers.len() {
            1 => Ok(vec![numbers[0]; rank]),
            n if n == rank => Ok(numbers),
            _ => Err(b.user(format!("{}: the window has {rank} dimensions", b.op_name))),
        }
    };
    Ok(Window {
        stride: numbers(stride)?,
        padding: numbers(padding)?.into_iter().map(|p| (p, p)).collect(),
        dilation: numbers(dilation)?,
        groups: known_int(groups).ok_or_else(unknown)?,
    })
}

/// What is outside the input is the real number 0, which is the zero point.
fn convolution(b: &mut Builder<'_>, args: &Args<'_>, is_relu: bool) -> Result<Value> {
    let (x, (w, bias)) = (args.tensor(0)?, packed(b, args.value(1)?)?);
    let (scale, zero_point) = (args.float(b, 2)?, args.int(b, 3)?);
    let (x_scale, _) = per_tensor(b, &x)?;
    let q = expect_weight(b, &w)?;
    let spatial = w.rank().saturating_sub(2);
    let window = window(b, args.value(1)?, spatial)?;
    let real = sum_type(&w);
    let (dx, dw) = (differences(b, &x, real)?, differences(b, &w, real)?);
    let sums = conv_of(b, &dx, &dw, None, &window)?;
    let axis = sums.rank() - spatial - 1;
    let output = Output { x_scale: &x_scale, weight: (&w, &q), bias: bias.as_ref(), axis };
    Ok(Value::Tensor(finish(b, &sums, &output, (&scale, &zero_point), x.dtype, is_relu)))
}

/// Element by element of two quantised tensors, on the real numbers.
fn arithmetic(b: &mut Builder<'_>, args: &Args<'_>, op: BinaryOp, is_relu: bool) -> Result<Value> {
    let (Value::Tensor(x), Value::Tensor(y), 4) = (args.value(0)?, args.value(1)?, args.values.len()) else {
        return Err(b.unsupported(format!("{} with a number", b.op_name)));
    };
    let (scale, zero_point) = (args.float(b, 2)?, args.int(b, 3)?);
    let (p, q) = (dequantised(b, x)?, dequantised(b, y)?);
    let dims = views::broadcast(b, &[&p.dims, &q.dims])?;
    let (p, q) = (views::expand_to(b, &p, &dims)?, views::expand_to(b, &q, &dims)?);
    let value = b.map(DType::F32, &dims, |k, i| {
        let (v, w) = (k.load(&p, i), k.load(&q, i));
        let v = k.binary(op, v, w);
        let zero = k.zero(DType::F32);
        if is_relu { k.max(v, zero) } else { v }
    });
    Ok(Value::Tensor(quantise(b, &value, (&scale, &zero_point), x.dtype)))
}

// ---- dynamic quantisation

fn linear_dynamic(b: &mut Builder<'_>, args: &Args<'_>, is_relu: bool) -> Result<Value> {
    let (x, (w, bias)) = (args.tensor(0)?, packed(b, args.value(1)?)?);
    let reduces_range = args.flag(b, 2)?;
    let y = dynamic_product(b, &x, &w, bias.as_ref(), reduces_range)?;
    if !is_relu {
        return Ok(Value::Tensor(y));
    }
    Ok(Value::Tensor(b.map(DType::F32, &y.dims, |k, i| {
        let (v, zero) = (k.load(&y, i), k.zero(DType::F32));
        k.max(v, zero)
    })))
}

/// `x [.., k]` with a quantised `w [n, k]` and `bias [n]`, where x is rounded to 8 bits (7, if the range is reduced) of the
/// scale that its least and greatest elements call for.
pub(super) fn dynamic_product(
    b: &mut Builder<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    reduces_range: bool,
) -> Result<Tensor> {
    expect_float(b, x)?;
    let q = expect_weight(b, w)?;
    let steps = if reduces_range { 127.0 } else { 255.0 };
    let mut extreme = |op| {
        b.reduce(
            op,
            DType::F32,
            &[],
            &x.dims,
            |k, _, i| k.load(x, i),
            // The range holds 0, which must be exact.
            |k, _, v| {
                let zero = k.zero(DType::F32);
                if op == ReduceOp::Min { k.min(v, zero) } else { k.max(v, zero) }
            },
        )
    };
    let (least, greatest) = (extreme(ReduceOp::Min), extreme(ReduceOp::Max));
    let scale = b.map(DType::F32, &[], |k, _| {
        let (low, high) = (k.load(&least, &[]), k.load(&greatest, &[]));
        choose(k, low, high, steps).0
    });
    let zero_point = b.map(DType::F32, &[], |k, _| {
        let (low, high) = (k.load(&least, &[]), k.load(&greatest, &[]));
        choose(k, low, high, steps).1
    });
    let real = sum_type(w);
    let dx = b.map(real, &x.dims, |k, i| {
        let (v, scale, zero_point) = (k.load(x, i), k.load(&scale, &[]), k.load(&zero_point, &[]));
        let one = k.one(DType::F32);
        let inverse = k.div(one, scale);
        let v = k.mul(v, inverse);
        let v = k.unary(UnaryOp::Round, v);
        let v = k.add(v, zero_point);
        let (low, high) = (k.zero(DType::F32), k.float(DType::F32, 255.0));
        let v = k.max(v, low);
        let v = k.min(v, high);
        k.sub(v, zero_point)
    });
    let dw = differences(b, w, real)?;
    let sums = linear_of(b, &dx, &dw, None)?;
    let axis = sums.rank().saturating_sub(1);
    Ok(b.map(DType::F32, &sums.dims, |k, i| {
        let sum = k.load(&sums, i);
        let sum = k.cast(DType::F32, sum);
        let zero = k.int(0);
        let mut at = vec![zero; w.rank()];
        at[0] = i[axis];
        let (s, t) = (k.load(&scale, &[]), scale_of(k, w, &q, &at));
        let products = k.mul(s, t);
        let value = k.mul(sum, products);
        match bias {
            Some(bias) => {
                let bias = k.load(bias, &[i[axis]]);
                k.add(value, bias)
            }
            None => value,
        }
    }))
}

/// Scale and zero point for numbers between `low <= 0` and `high >= 0` in so many steps, computed as FBGEMM does: the zero
/// point is found from the end where it is less wrong. Source: `ChooseQuantizationParams` of FBGEMM and PyTorch.
fn choose(k: &mut KernelBuilder<'_, '_>, low: ExprId, high: ExprId, steps: f64) -> (ExprId, ExprId) {
    /// Scales below this are cut off.
    const LEAST_SCALE: f64 = 6.1e-5;
    const D: DType = DType::F64;
    let (low, high) = (k.cast(D, low), k.cast(D, high));
    let (zero, steps) = (k.zero(D), k.float(D, steps));
    let span = k.sub(high, low);
    let exact = k.div(span, steps);
    // A scale of 0 becomes one tenth.
    let (single, tenth) = (k.cast(DType::F32, exact), k.float(D, 0.1));
    let none = k.zero(DType::F32);
    let is_zero = k.binary(BinaryOp::Eq, single, none);
    let scale = k.select(is_zero, tenth, exact);
    #[allow(clippy::cast_possible_truncation, reason = "the threshold is a 32-bit float")]
    let least = k.float(D, f64::from(LEAST_SCALE as f32));
    let is_small = k.binary(BinaryOp::Lt, scale, least);
    let raised = k.max(scale, least);
    // The ends move with the scale.
    let ratio = k.div(least, scale);
    let one = k.one(D);
    let ratio = k.select(is_small, ratio, one);
    let (low, high) = (k.mul(low, ratio), k.mul(high, ratio));
    let (from_low, at_high) = (k.div(low, raised), k.div(high, raised));
    let from_low = k.sub(zero, from_low);
    let from_high = k.sub(steps, at_high);
    let low_error = k.unary(UnaryOp::Abs, from_low);
    let low_error = k.sub(zero, low_error);
    let high_error = k.unary(UnaryOp::Abs, at_high);
    let high_error = k.sub(steps, high_error);
    let is_low_better = k.binary(BinaryOp::Lt, low_error, high_error);
    let point = k.select(is_low_better, from_low, from_high);
    let point = k.unary(UnaryOp::Round, point);
    let point = k.max(point, zero);
    let point = k.min(point, steps);
    (k.cast(DType::F32, raised), k.cast(DType::F32, point))
}
