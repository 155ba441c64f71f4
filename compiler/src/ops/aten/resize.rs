//! Resampling: nearest, (bi-, tri-)linear and bicubic interpolation onto a grid of another size, with and without
//! antialiasing. Each spatial dimension has a rule for which input positions an output position blends, and how much of each.

use crate::diag::{Diagnostic, Result};
use crate::loops::{BinaryOp, BufferId, Const, Dim, ExprId, Operand, ReduceOp, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int, known};
use crate::types::{DType, TensorData};
use std::sync::Arc;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::upsample_nearest1d", lower: |b, a| resize(b, a, Rule::Nearest, 1) },
    OpDef { name: "aten::upsample_nearest2d", lower: |b, a| resize(b, a, Rule::Nearest, 2) },
    OpDef { name: "aten::upsample_nearest3d", lower: |b, a| resize(b, a, Rule::Nearest, 3) },
    OpDef { name: "aten::_upsample_nearest_exact1d", lower: |b, a| resize(b, a, Rule::NearestExact, 1) },
    OpDef { name: "aten::_upsample_nearest_exact2d", lower: |b, a| resize(b, a, Rule::NearestExact, 2) },
    OpDef { name: "aten::_upsample_nearest_exact3d", lower: |b, a| resize(b, a, Rule::NearestExact, 3) },
    OpDef { name: "aten::upsample_linear1d", lower: |b, a| resize(b, a, Rule::Linear, 1) },
    OpDef { name: "aten::upsample_bilinear2d", lower: |b, a| resize(b, a, Rule::Linear, 2) },
    OpDef { name: "aten::upsample_trilinear3d", lower: |b, a| resize(b, a, Rule::Linear, 3) },
    OpDef { name: "aten::upsample_bicubic2d", lower: |b, a| resize(b, a, Rule::Cubic, 2) },
    OpDef { name: "aten::_upsample_bilinear2d_aa", lower: |b, a| antialiased(b, a, &TRIANGLE) },
    OpDef { name: "aten::_upsample_bicubic2d_aa", lower: |b, a| antialiased(b, a, &CUBIC) },
    OpDef { name: "aten::_upsample_lanczos2d_aa", lower: |b, a| antialiased(b, a, &LANCZOS) },
];

/// Which input positions an output position blends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// `floor(i * scale)`
    Nearest,
    /// `floor((i + 0.5) * scale)`
    NearestExact,
    /// The two neighbours.
    Linear,
    /// The four neighbours, with the cubic kernel of -0.75.
    Cubic,
}

/// How one spatial dimension is resampled.
#[derive(Clone, Debug)]
struct Resampled {
    from: Dim,
    to: Dim,
    /// The factor the user gave, which then decides the positions instead of the extents.
    factor: Option<Operand>,
}

/// Reads `(input, output_size, [align_corners,] scales)` of both forms: one factor a dimension, or a list of factors that may
/// stand for the size.
fn resampled(b: &mut Builder<'_>, args: &Args<'_>, x: &Tensor, n: usize) -> Result<(Vec<Resampled>, bool)> {
    if x.rank() != n + 2 {
        return Err(b.user(format!("It is expected input_size equals to {}, but got size {}", n + 2, x.rank())));
    }
    let align_corners = match args.position("align_corners") {
        Some(at) => args.flag(b, at)?,
        None => false,
    };
    let sizes = args.optional_int_list(b, 1)?;
    let mut factors: Vec<Option<Operand>> = Vec::with_capacity(n);
    if let Some(at) = args.position("scale_factors") {
        let list = if matches!(args.value(at)?, Value::None) { Vec::new() } else { b.items(args.value(at)?)? };
        for item in &list {
            let (Value::Float(factor) | Value::Int(factor)) = item else {
                return Err(b.user("scale_factors must be numbers"));
            };
            factors.push(Some(b.cast(DType::F64, factor.clone())));
        }
        if sizes.is_some() != list.is_empty() {
            return Err(b.user("Must specify exactly one of output_size and scale_factors"));
        }
    } else {
        let first = 2 + usize::from(args.position("align_corners").is_some());
        for at in first..first + n {
            factors.push(match args.values.get(at) {
                None | Some(Value::None) => None,
                Some(_) => Some(args.float(b, at)?),
            });
        }
    }
    factors.resize(n, None);
    let mut out = Vec::with_capacity(n);
    for (axis, factor) in factors.into_iter().enumerate() {
        let from = x.dims[axis + 2];
        let size = match (&sizes, &factor) {
            (Some(sizes), _) => sizes.get(axis).or(sizes.first()).cloned(),
            (None, Some(factor)) => {
                let extent = b.cast(DType::F64, from.into());
                let grown = b.binary(BinaryOp::Mul, extent, factor.clone());
                Some(b.cast(DType::I64, grown))
            }
            (None, None) => None,
        };
        let Some(size) = size else { return Err(b.user("Must specify exactly one of output_size and scale_factors")) };
        let from_some = b.binary(BinaryOp::Gt, from.into(), int(0));
        let to_some = b.binary(BinaryOp::Gt, size.clone(), int(0));
        let valid = b.binary(BinaryOp::And, from_some, to_some);
        b.check(valid, "Input and output sizes should be greater than 0");
        out.push(Resampled { from, to: b.dim(size), factor });
    }
    Ok((out, align_corners))
}

fn resize(b: &mut Builder<'_>, args: &Args<'_>, rule: Rule, n: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    let (axes, align_corners) = resampled(b, args, &x, n)?;
    let mut dims = x.dims[..2].to_vec();
    dims.extend(axes.iter().map(|a| a.to));
    // Positions are computed in the type of the arithmetic; bytes blend in float32 and round.
    let compute = if x.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let is_nearest = matches!(rule, Rule::Nearest | Rule::NearestExact);
    let mut scales = Vec::with_capacity(n);
    for axis in &axes {
        scales.push(scale(b, axis, align_corners && !is_nearest));
    }
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        if is_nearest {
            let mut at = i[..2].to_vec();
            for (d, axis) in axes.iter().enumerate() {
                at.push(nearest(k, i[d + 2], axis, &scales[d], (rule, compute)));
            }
            return k.load(&x, &at);
        }
        let mut taps = Vec::with_capacity(n);
        for (d, axis) in axes.iter().enumerate() {
            let source = source_position(k, i[d + 2], &scales[d], align_corners, rule, compute);
            taps.push(match rule {
                Rule::Cubic => cubic_taps(k, source, axis.from),
                Rule::Linear | Rule::Nearest | Rule::NearestExact => linear_taps(k, source, axis.from),
            });
        }
        let mut at = i[..2].to_vec();
        let blended = blend(k, &x, &mut at, &taps, compute);
        rounded(k, blended, x.dtype)
    })))
}

/// Input positions for each output position: a host float.
fn scale(b: &mut Builder<'_>, axis: &Resampled, align_corners: bool) -> Operand {
    let float = |b: &mut Builder<'_>, dim: Dim| b.cast(DType::F64, dim.into());
    if align_corners {
        let (from, to) = (float(b, axis.from), float(b, axis.to));
        let one = Operand::Const(Const::float(DType::F64, 1.0));
        let (from, to) = (b.binary(BinaryOp::Sub, from, one.clone()), b.binary(BinaryOp::Sub, to, one.clone()));
        let quotient = b.binary(BinaryOp::Div, from, to.clone());
        let zero = Operand::Const(Const::float(DType::F64, 0.0));
        let is_line = b.binary(BinaryOp::Gt, to, zero.clone());
        return b.select(is_line, quotient, zero);
    }
    match &axis.factor {
        Some(factor) if known(factor).is_none_or(|f| f.as_f64() > 0.0) => {
            let one = Operand::Const(Const::float(DType::F64, 1.0));
            b.binary(BinaryOp::Div, one, factor.clone())
        }
        _ => {
            let (from, to) = (float(b, axis.from), float(b, axis.to));
            b.binary(BinaryOp::Div, from, to)
        }
    }
}

/// The position that a nearest rule takes.
fn nearest(
    k: &mut KernelBuilder<'_, '_>,
    index: ExprId,
    axis: &Resampled,
    scale: &Operand,
    (rule, compute): (Rule, DType),
) -> ExprId {
    // Growth by a whole number repeats elements, which needs no floats.
    if let (Some(from), Some(to), Some(step)) = (axis.from.known(), axis.to.known(), known(scale)) {
        if from == to && step.as_f64() == 1.0 {
            return index;
        }
        let times = 1.0 / step.as_f64();
        #[allow(clippy::cast_precision_loss, reason = "extents are far below 2^53")]
        if to % from == 0 && times == (to / from) as f64 {
            let times = k.int(to / from);
            return k.binary(BinaryOp::FloorDiv, index, times);
        }
    }
    let scale = k.number(scale, compute);
    let mut position = k.cast(compute, index);
    if rule == Rule::NearestExact {
        let half = k.float(compute, 0.5);
        position = k.add(position, half);
    }
    let position = k.mul(position, scale);
    let floor = k.unary(UnaryOp::Floor, position);
    let source = k.cast(DType::I64, floor);
    clamped(k, source, axis.from)
}

/// `index` held within `0..extent`.
pub fn clamped(k: &mut KernelBuilder<'_, '_>, index: ExprId, extent: Dim) -> ExprId {
    let (zero, one, extent) = (k.int(0), k.int(1), k.dim(extent));
    let last = k.sub(extent, one);
    let low = k.max(index, zero);
    k.min(low, last)
}

/// Where between the input's positions an output position lies.
fn source_position(
    k: &mut KernelBuilder<'_, '_>,
    index: ExprId,
    scale: &Operand,
    align_corners: bool,
    rule: Rule,
    compute: DType,
) -> ExprId {
    let scale = k.number(scale, compute);
    let position = k.cast(compute, index);
    if align_corners {
        return k.mul(position, scale);
    }
    let half = k.float(compute, 0.5);
    let position = k.add(position, half);
    let position = k.mul(position, scale);
    let position = k.sub(position, half);
    if rule == Rule::Cubic {
        return position;
    }
    let zero = k.zero(compute);
    k.max(position, zero)
}

/// Positions of one dimension with their weights.
pub type Taps = Vec<(ExprId, ExprId)>;

fn linear_taps(k: &mut KernelBuilder<'_, '_>, source: ExprId, extent: Dim) -> Taps {
    let dtype = k.dtype(source);
    if extent == Dim::Const(1) {
        let (zero, one) = (k.int(0), k.one(dtype));
        return vec![(zero, one)];
    }
    let floor = k.unary(UnaryOp::Floor, source);
    let low = k.cast(DType::I64, floor);
    let low = clamped(k, low, extent);
    let one = k.int(1);
    let high = k.add(low, one);
    let high = clamped(k, high, extent);
    let far = k.sub(source, floor);
    let one = k.one(dtype);
    let near = k.sub(one, far);
    vec![(low, near), (high, far)]
}

fn cubic_taps(k: &mut KernelBuilder<'_, '_>, source: ExprId, extent: Dim) -> Taps {
    let floor = k.unary(UnaryOp::Floor, source);
    let t = k.sub(source, floor);
    let first = k.cast(DType::I64, floor);
    let weights = cubic_weights(k, t);
    (-1..3)
        .zip(weights)
        .map(|(offset, weight)| {
            let offset = k.int(offset);
            let index = k.add(first, offset);
            (clamped(k, index, extent), weight)
        })
        .collect()
}

/// Weights of the four neighbours at a distance `t` beyond the second, for the cubic kernel of -0.75.
pub fn cubic_weights(k: &mut KernelBuilder<'_, '_>, t: ExprId) -> [ExprId; 4] {
    const A: f64 = -0.75;
    let dtype = k.dtype(t);
    let polynomial = |k: &mut KernelBuilder<'_, '_>, x: ExprId, coefficients: [f64; 4]| {
        let mut value = k.float(dtype, coefficients[0]);
        for c in &coefficients[1..] {
            value = k.mul(value, x);
            if *c != 0.0 {
                let c = k.float(dtype, *c);
                value = k.add(value, c);
            }
        }
        value
    };
    let near = [A + 2.0, -(A + 3.0), 0.0, 1.0];
    let far = [A, -5.0 * A, 8.0 * A, -4.0 * A];
    let (one, two) = (k.one(dtype), k.float(dtype, 2.0));
    let (beyond, left) = (k.add(t, one), k.sub(one, t));
    let left_beyond = k.sub(two, t);
    [polynomial(k, beyond, far), polynomial(k, t, near), polynomial(k, left, near), polynomial(k, left_beyond, far)]
}

/// The weighted sum over the taps of the remaining dimensions; `at` holds the indices so far.
fn blend(k: &mut KernelBuilder<'_, '_>, x: &Tensor, at: &mut Vec<ExprId>, taps: &[Taps], compute: DType) -> ExprId {
    let Some((first, rest)) = taps.split_first() else {
        let element = k.load(x, at);
        return k.cast(compute, element);
    };
    let mut sum = None;
    for &(index, weight) in first {
        // Weights have the element type, as PyTorch's tables of them do.
        let weight = if x.dtype.is_floating_point() { k.cast(x.dtype, weight) } else { weight };
        let weight = k.cast(compute, weight);
        at.push(index);
        let part = blend(k, x, at, rest, compute);
        at.pop();
        let part = k.mul(weight, part);
        sum = Some(sum.map_or(part, |sum| k.add(sum, part)));
    }
    sum.expect("every rule has a tap")
}

/// A blend as an element: integers round and stay within their range.
fn rounded(k: &mut KernelBuilder<'_, '_>, value: ExprId, dtype: DType) -> ExprId {
    if dtype != DType::U8 {
        return value;
    }
    let compute = k.dtype(value);
    let (low, high) = (k.zero(compute), k.float(compute, 255.0));
    let value = k.unary(UnaryOp::Round, value);
    let value = k.max(value, low);
    k.min(value, high)
}

/// An interpolation kernel for antialiasing.
struct Filter {
    /// Half its width.
    radius: f64,
    weight: fn(f64) -> f64,
}

const TRIANGLE: Filter = Filter { radius: 1.0, weight: |x| (1.0 - x.abs()).max(0.0) };

const CUBIC: Filter = Filter {
    radius: 2.0,
    weight: |x| {
        const A: f64 = -0.5;
        let x = x.abs();
        if x < 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * A
        } else {
            0.0
        }
    },
};

const LANCZOS: Filter = Filter {
    radius: 3.0,
    weight: |x| {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) };
        if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
    },
};

/// Both dimensions through a filter that widens when shrinking, columns first, one after the other.
fn antialiased(b: &mut Builder<'_>, args: &Args<'_>, filter: &Filter) -> Result<Value> {
    let x = args.tensor(0)?;
    let (axes, align_corners) = resampled(b, args, &x, 2)?;
    let mut value = x.clone();
    for (d, axis) in axes.iter().enumerate().rev() {
        let scale = scale(b, axis, align_corners);
        let (Some(from), Some(to), Some(scale)) = (axis.from.known(), axis.to.known(), known(&scale)) else {
            return Err(b.unsupported("antialiased interpolation of extents known only when running"));
        };
        if from == to && scale.as_f64() == 1.0 {
            continue;
        }
        let table = FilterTable::new(filter, from, to, scale.as_f64());
        value = filtered(b, &value, d + 2, &table)?;
    }
    if value.storage == x.storage {
        value = b.copy(&value);
    }
    Ok(Value::Tensor(value))
}

/// For each output position, the first input position and the weights from it on.
struct FilterTable {
    starts: Vec<i64>,
    /// `width` weights for each position; zeros at the end of short rows.
    weights: Vec<f64>,
    width: usize,
}

impl FilterTable {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "positions are small")]
    fn new(filter: &Filter, from: i64, to: i64, scale: f64) -> Self {
        let stretch = scale.max(1.0);
        let support = filter.radius * stretch;
        let rows: Vec<(i64, Vec<f64>)> = (0..to)
            .map(|i| {
                let center = scale * (i as f64 + 0.5);
                let first = ((center - support + 0.5) as i64).max(0);
                let end = ((center + support + 0.5) as i64).min(from);
                let raw: Vec<f64> =
                    (first..end).map(|j| (filter.weight)((j as f64 - center + 0.5) / stretch)).collect();
                let total: f64 = raw.iter().sum();
                let total = if total == 0.0 { 1.0 } else { total };
                (first, raw.iter().map(|w| w / total).collect())
            })
            .collect();
        let width = rows.iter().map(|(_, row)| row.len()).max().unwrap_or(1).max(1);
        let mut weights = Vec::with_capacity(rows.len() * width);
        for (_, row) in &rows {
            weights.extend(row);
            weights.resize(weights.len() + width - row.len(), 0.0);
        }
        Self { starts: rows.iter().map(|(first, _)| *first).collect(), weights, width }
    }
}

/// One dimension through a table of weights.
fn filtered(b: &mut Builder<'_>, x: &Tensor, dim: usize, table: &FilterTable) -> Result<Tensor> {
    let compute = compute_type(if x.dtype.is_floating_point() { x.dtype } else { DType::F32 });
    let n = i64::try_from(table.starts.len()).unwrap_or(i64::MAX);
    let width = i64::try_from(table.width).unwrap_or(i64::MAX);
    let starts = table.starts.iter().flat_map(|i| i.to_ne_bytes()).collect();
    let starts = constant(b, DType::I64, &[n], starts, "filter starts")?;
    let weights = table.weights.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let weights = constant(b, DType::F64, &[n, width], weights, "filter weights")?;
    let mut dims = x.dims.clone();
    dims[dim] = Dim::Const(n);
    Ok(b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &dims,
        &[Dim::Const(width)],
        |k, i, j| {
            let start = k.load_buffer(starts, &[i[dim]]);
            let mut at = i.to_vec();
            let position = k.add(start, j[0]);
            at[dim] = clamped(k, position, x.dims[dim]);
            let element = k.load(x, &at);
            let element = k.cast(compute, element);
            let weight = k.load_buffer(weights, &[i[dim], j[0]]);
            let weight = k.cast(compute, weight);
            k.mul(element, weight)
        },
        |k, _, sum| rounded(k, sum, x.dtype),
    ))
}

/// A new constant of the program.
pub fn constant(b: &mut Builder<'_>, dtype: DType, sizes: &[i64], bytes: Vec<u8>, name: &str) -> Result<BufferId> {
    let data = TensorData::from_bytes(dtype, sizes, bytes).map_err(Diagnostic::internal)?;
    Ok(b.weight(&Arc::new(data), name))
}
