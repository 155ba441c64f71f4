//! Pooling: the greatest or the mean of windows, of given or of adaptive size.
//!
//! A window is a set of reduced axes; points of it that lie outside the input are guarded, never padded in memory.

use super::conv::scaled;
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, ExprId, Operand, ReduceOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::{Tensor, Value, int, known_int};
use crate::ops::views::shape_text;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::max_pool1d", lower: |b, a| max_pool(b, a, 1, Wanted::Values) },
    OpDef { name: "aten::max_pool2d", lower: |b, a| max_pool(b, a, 2, Wanted::Values) },
    OpDef { name: "aten::max_pool3d", lower: |b, a| max_pool(b, a, 3, Wanted::Values) },
    OpDef { name: "aten::max_pool1d_with_indices", lower: |b, a| max_pool(b, a, 1, Wanted::Both) },
    OpDef { name: "aten::max_pool2d_with_indices", lower: |b, a| max_pool(b, a, 2, Wanted::Both) },
    OpDef { name: "aten::max_pool3d_with_indices", lower: |b, a| max_pool(b, a, 3, Wanted::Both) },
    OpDef { name: "aten::avg_pool1d", lower: |b, a| avg_pool(b, a, 1) },
    OpDef { name: "aten::avg_pool2d", lower: |b, a| avg_pool(b, a, 2) },
    OpDef { name: "aten::avg_pool3d", lower: |b, a| avg_pool(b, a, 3) },
    OpDef { name: "aten::adaptive_avg_pool1d", lower: |b, a| adaptive_avg(b, a, 1) },
    OpDef { name: "aten::adaptive_avg_pool2d", lower: |b, a| adaptive_avg(b, a, 2) },
    OpDef { name: "aten::_adaptive_avg_pool2d", lower: |b, a| adaptive_avg(b, a, 2) },
    OpDef { name: "aten::adaptive_avg_pool3d", lower: |b, a| adaptive_avg(b, a, 3) },
    OpDef { name: "aten::_adaptive_avg_pool3d", lower: |b, a| adaptive_avg(b, a, 3) },
    OpDef { name: "aten::adaptive_max_pool1d", lower: |b, a| adaptive_max(b, a, 1) },
    OpDef { name: "aten::adaptive_max_pool2d", lower: |b, a| adaptive_max(b, a, 2) },
    OpDef { name: "aten::adaptive_max_pool3d", lower: |b, a| adaptive_max(b, a, 3) },
];

/// Whether a maximum's position is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Values,
    Both,
}

/// The least value of a type: what a maximum starts from.
pub fn lowest(k: &mut KernelBuilder<'_, '_>, dtype: DType) -> ExprId {
    let value = match dtype {
        DType::I64 => i64::MIN,
        DType::I32 => i64::from(i32::MIN),
        DType::I16 => i64::from(i16::MIN),
        DType::I8 => i64::from(i8::MIN),
        d if d.is_floating_point() => return k.float(d, f64::NEG_INFINITY),
        _ => 0,
    };
    k.constant(Const::from_i64(dtype, value))
}

/// Windows over the last dimensions of a tensor.
struct Windows {
    /// Output extents.
    out: Vec<Dim>,
    /// Points of a window.
    size: Vec<Dim>,
    place: Place,
}

/// Where a window lies.
enum Place {
    /// At multiples of a stride.
    Strided { stride: Vec<i64>, padding: Vec<i64>, dilation: Vec<i64>, needs_guard: bool },
    /// The input divided into as many parts as there are outputs.
    Adaptive,
}

impl Windows {
    /// The input's indices of a window's point, and whether it exists.
    fn point(
        &self,
        k: &mut KernelBuilder<'_, '_>,
        lengths: &[Dim],
        index: &[ExprId],
        over: &[ExprId],
    ) -> (Vec<ExprId>, ExprId) {
        let mut inside = k.bool(true);
        let mut at = Vec::with_capacity(lengths.len());
        for d in 0..lengths.len() {
            match &self.place {
                Place::Strided { stride, padding, dilation, needs_guard } => {
                    let (s, p, dil) = (k.int(stride[d]), k.int(padding[d]), k.int(dilation[d]));
                    let start = k.mul(index[d], s);
                    let step = k.mul(over[d], dil);
                    let sum = k.add(start, step);
                    let point = k.sub(sum, p);
                    if *needs_guard {
                        let fits = k.in_bounds(point, lengths[d]);
                        inside = k.and(inside, fits);
                    }
                    at.push(point);
                }
                Place::Adaptive => {
                    let (start, end) = self.adaptive_bounds(k, lengths[d], d, index[d]);
                    let point = k.add(start, over[d]);
                    if !self.divides(lengths[d], d) {
                        let fits = k.binary(BinaryOp::Lt, point, end);
                        inside = k.and(inside, fits);
                    }
                    at.push(point);
                }
            }
        }
        (at, inside)
    }

    /// Whether all adaptive windows of a dimension have the same size.
    fn divides(&self, length: Dim, d: usize) -> bool {
        match (length.known(), self.out[d].known()) {
            (_, Some(1)) => true,
            (Some(n), Some(out)) => out > 0 && n % out == 0,
            _ => length == self.out[d],
        }
    }

    /// `floor(i * length / out)` and `ceil((i + 1) * length / out)`.
    fn adaptive_bounds(&self, k: &mut KernelBuilder<'_, '_>, length: Dim, d: usize, i: ExprId) -> (ExprId, ExprId) {
        if let (true, Some(n), Some(out)) = (self.divides(length, d), length.known(), self.out[d].known()) {
            let size = k.int(n / out.max(1));
            let start = k.mul(i, size);
            let end = k.add(start, size);
            return (start, end);
        }
        let (length, out, one) = (k.dim(length), k.dim(self.out[d]), k.int(1));
        let product = k.mul(i, length);
        let start = k.binary(BinaryOp::FloorDiv, product, out);
        let next = k.add(i, one);
        let product = k.mul(next, length);
        let sum = k.add(product, out);
        let sum = k.sub(sum, one);
        let end = k.binary(BinaryOp::FloorDiv, sum, out);
        (start, end)
    }
}

/// Splits off `rank` spatial dimensions; there may be one or two before them.
fn lengths(b: &Builder<'_>, x: &Tensor, rank: usize) -> Result<Vec<Dim>> {
    if x.rank() != rank + 1 && x.rank() != rank + 2 {
        return Err(b.user(format!(
            "{}: Expected {}D or {}D tensor for input, but got: {}",
            b.op_name,
            rank + 1,
            rank + 2,
            shape_text(&x.dims)
        )));
    }
    Ok(x.dims[x.rank() - rank..].to_vec())
}

/// `floor((length + 2 padding - dilation (size - 1) - 1) / stride) + 1`; in `ceil_mode` rounded up, less the last window if
/// it would start in the padding after the input.
fn pooled_extent(b: &mut Builder<'_>, length: Dim, size: i64, p: [i64; 3], ceil_mode: bool) -> Result<Dim> {
    let [stride, padding, dilation] = p;
    let extra = if ceil_mode { stride - 1 } else { 0 };
    let room = scaled(b, length, 1, 2 * padding - dilation * (size - 1) - 1 + extra);
    let steps = b.binary(BinaryOp::FloorDiv, room, int(stride));
    let mut extent = b.binary(BinaryOp::Add, steps, int(1));
    if ceil_mode {
        let before_last = b.binary(BinaryOp::Sub, extent.clone(), int(1));
        let start = b.binary(BinaryOp::Mul, before_last.clone(), int(stride));
        let end = scaled(b, length, 1, padding);
        let is_outside = b.binary(BinaryOp::Ge, start, end);
        extent = b.select(is_outside, before_last, extent);
    }
    if known_int(&extent).is_some_and(|n| n <= 0) {
        return Err(b.user(format!(
            "Given input size: ({}). Calculated output size is too small",
            shape_text(&[length]).trim_matches(['[', ']'])
        )));
    }
    if known_int(&extent).is_none() {
        let fits = b.binary(BinaryOp::Ge, extent.clone(), int(1));
        b.check(fits, "Calculated output size of a pooling is too small");
    }
    Ok(b.dim(extent))
}

/// The windows that arguments 1 (size), 2 (stride), 3 (padding) and the given dilation describe.
fn strided_windows(
    b: &mut Builder<'_>,
    args: &Args<'_>,
    lengths: &[Dim],
    dilation: Vec<i64>,
    ceil_mode: bool,
) -> Result<Windows> {
    let rank = lengths.len();
    let size = args.known_ints_of(b, 1, rank, &[])?;
    if size.len() != rank || size.iter().any(|n| *n <= 0) {
        return Err(b.user(format!("{}: kernel_size must be positive numbers", b.op_name)));
    }
    let stride = args.known_ints_of(b, 2, rank, &size)?;
    let padding = args.known_ints_of(b, 3, rank, &vec![0; rank])?;
    if stride.iter().any(|s| *s <= 0) {
        return Err(b.user("stride should not be zero"));
    }
    let mut out = Vec::new();
    for d in 0..rank {
        if padding[d] < 0 || padding[d] * 2 > (size[d] - 1) * dilation[d] + 1 {
            return Err(b.user(format!(
                "pad should be at most half of effective kernel size, but got pad={}, kernel_size={} and dilation={}",
                padding[d], size[d], dilation[d]
            )));
        }
        out.push(pooled_extent(b, lengths[d], size[d], [stride[d], padding[d], dilation[d]], ceil_mode)?);
    }
    let needs_guard = ceil_mode || padding.iter().any(|p| *p != 0);
    let size = size.into_iter().map(Dim::Const).collect();
    Ok(Windows { out, size, place: Place::Strided { stride, padding, dilation, needs_guard } })
}

fn max_pool(b: &mut Builder<'_>, args: &Args<'_>, rank: usize, wanted: Wanted) -> Result<Value> {
    let x = args.tensor(0)?;
    let lengths = lengths(b, &x, rank)?;
    let dilation = args.known_ints_of(b, 4, rank, &vec![1; rank])?;
    let ceil_mode = args.flag(b, 5)?;
    let windows = strided_windows(b, args, &lengths, dilation, ceil_mode)?;
    Ok(maxima(b, &x, &lengths, &windows, wanted))
}

/// The greatest element of each window and, where wanted, its position in the input's space taken row-major.
fn maxima(b: &mut Builder<'_>, x: &Tensor, lengths: &[Dim], windows: &Windows, wanted: Wanted) -> Value {
    let lead = x.rank() - lengths.len();
    let dims = [&x.dims[..lead], &windows.out].concat();
    let element = |k: &mut KernelBuilder<'_, '_>, i: &[ExprId], over: &[ExprId]| {
        let (point, inside) = windows.point(k, lengths, &i[lead..], over);
        let least = lowest(k, x.dtype);
        let at = [&i[..lead], &point].concat();
        let value = k.load_or(x, &at, inside, least);
        // Halves are compared as floats, which is exact.
        (k.cast(compute_type(x.dtype), value), point)
    };
    let values =
        b.reduce(ReduceOp::Max, x.dtype, &dims, &windows.size, |k, i, over| element(k, i, over).0, |_, _, v| v);
    if wanted == Wanted::Values {
        return Value::Tensor(values);
    }
    let buffer = b.new_buffer(DType::I64, &dims);
    let mut k = KernelBuilder::new(b);
    let index = k.parallel(&dims);
    let over = k.reduced(&windows.size);
    let (value, point) = element(&mut k, &index, &over);
    let mut position = k.int(0);
    for (&length, &p) in lengths.iter().zip(&point) {
        // A window of nothing but -inf may name a point of the padding: the nearest one that exists stands for it.
        let (extent, zero, one) = (k.dim(length), k.int(0), k.int(1));
        let last = k.sub(extent, one);
        let p = k.min(p, last);
        let p = k.max(p, zero);
        let scaled = k.mul(position, extent);
        position = k.add(scaled, p);
    }
    let best = k.reduce_arg(ReduceOp::ArgMax, value, position);
    k.store(buffer, &index, best);
    k.finish();
    let indices = b.tensor_of(buffer);
    Value::Tuple(vec![Value::Tensor(values), Value::Tensor(indices)], None)
}

fn avg_pool(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    let lengths = lengths(b, &x, rank)?;
    let ceil_mode = args.flag(b, 4)?;
    let windows = strided_windows(b, args, &lengths, vec![1; rank], ceil_mode)?;
    let counts_padding = args.flag(b, 5)?;
    let divisor = if rank > 1 { args.optional_int(b, 6)? } else { None };
    if divisor.as_ref().is_some_and(|d| known_int(d) == Some(0)) {
        return Err(b.user("divisor must be not zero"));
    }
    Ok(Value::Tensor(means(b, &x, &lengths, &windows, &Divisor { counts_padding, divisor, ceil_mode })))
}

/// What a window's sum is divided by.
struct Divisor {
    counts_padding: bool,
    divisor: Option<Operand>,
    ceil_mode: bool,
}

/// The number of points of a window that count.
fn count_points(
    k: &mut KernelBuilder<'_, '_>,
    lengths: &[Dim],
    windows: &Windows,
    index: &[ExprId],
    rule: &Divisor,
) -> ExprId {
    let mut count = k.int(1);
    for d in 0..lengths.len() {
        let extent = match &windows.place {
            Place::Adaptive => {
                if lengths[d].known().is_none() && windows.out[d] == Dim::Const(1) {
                    k.dim(lengths[d])
                } else {
                    let (start, end) = windows.adaptive_bounds(k, lengths[d], d, index[d]);
                    k.sub(end, start)
                }
            }
            Place::Strided { stride, padding, .. } => {
                let size = k.dim(windows.size[d]);
                if !rule.ceil_mode && (padding[d] == 0 || rule.counts_padding) {
                    size
                } else {
                    let (s, p, length, zero) = (k.int(stride[d]), k.int(padding[d]), k.dim(lengths[d]), k.int(0));
                    let first = k.mul(index[d], s);
                    let start = k.sub(first, p);
                    let end = k.add(start, size);
                    let padded = k.add(length, p);
                    if rule.counts_padding {
                        let end = k.min(end, padded);
                        k.sub(end, start)
                    } else {
                        let end = k.min(end, length);
                        let start = k.max(start, zero);
                        k.sub(end, start)
                    }
                }
            }
        };
        count = k.mul(count, extent);
    }
    count
}

fn means(b: &mut Builder<'_>, x: &Tensor, lengths: &[Dim], windows: &Windows, rule: &Divisor) -> Tensor {
    let lead = x.rank() - lengths.len();
    let dims = [&x.dims[..lead], &windows.out].concat();
    let compute = compute_type(x.dtype);
    b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &dims,
        &windows.size,
        |k, i, over| {
            let (point, inside) = windows.point(k, lengths, &i[lead..], over);
            let zero = k.zero(x.dtype);
            let at = [&i[..lead], &point].concat();
            let value = k.load_or(x, &at, inside, zero);
            k.cast(compute, value)
        },
        |k, i, sum| {
            let count = match &rule.divisor {
                Some(divisor) => k.operand(divisor),
                None => count_points(k, lengths, windows, &i[lead..], rule),
            };
            let count = k.cast(compute, count);
            k.div(sum, count)
        },
    )
}

/// The windows of adaptive pooling to the extents of argument 1, where `None` keeps the input's.
fn adaptive_windows(b: &mut Builder<'_>, args: &Args<'_>, lengths: &[Dim]) -> Result<Windows> {
    let rank = lengths.len();
    let items = match args.value(1)? {
        Value::Int(o) => vec![Value::Int(o.clone()); rank],
        list => b.items(list)?,
    };
    if items.len() != rank && items.len() != 1 {
        return Err(b.user(format!("{}: 'output_size' should have {rank} elements", b.op_name)));
    }
    let (mut out, mut size) = (Vec::new(), Vec::new());
    for (d, &length) in lengths.iter().enumerate() {
        let extent = match &items[d.min(items.len() - 1)] {
            Value::None => length,
            Value::Int(o) => b.dim(o.clone()),
            other => return Err(b.user(format!("expected an int for 'output_size' but found {}", other.kind()))),
        };
        out.push(extent);
        size.push(match (length.known(), extent.known()) {
            (_, Some(1)) => length,
            (Some(n), Some(k)) => {
                // The longest window: all are known.
                let longest = (0..k).map(|i| ((i + 1) * n + k - 1) / k - i * n / k).max();
                Dim::Const(longest.unwrap_or(0))
            }
            _ if length == extent => Dim::Const(1),
            _ => {
                let sum = b.binary(BinaryOp::Add, length.into(), extent.into());
                let sum = b.binary(BinaryOp::Sub, sum, int(1));
                let most = b.binary(BinaryOp::FloorDiv, sum, extent.into());
                let most = b.binary(BinaryOp::Add, most, int(1));
                b.dim(most)
            }
        });
    }
    Ok(Windows { out, size, place: Place::Adaptive })
}

fn adaptive_avg(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    let lengths = lengths(b, &x, rank)?;
    let windows = adaptive_windows(b, args, &lengths)?;
    let rule = Divisor { counts_padding: false, divisor: None, ceil_mode: false };
    Ok(Value::Tensor(means(b, &x, &lengths, &windows, &rule)))
}

fn adaptive_max(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let x = args.tensor(0)?;
    let lengths = lengths(b, &x, rank)?;
    let windows = adaptive_windows(b, args, &lengths)?;
    Ok(maxima(b, &x, &lengths, &windows, Wanted::Both))
}

/// Adaptive average pooling for other families: to these extents, over the last dimensions.
pub fn adaptive_mean(b: &mut Builder<'_>, x: &Tensor, out: &[Operand]) -> Result<Tensor> {
    let values = [Value::None, b.new_list(out.iter().cloned().map(Value::Int).collect())];
    let args = Args { schema: None, values: &values };
    let lengths = lengths(b, x, out.len())?;
    let windows = adaptive_windows(b, &args, &lengths)?;
    let rule = Divisor { counts_padding: false, divisor: None, ceil_mode: false };
    Ok(means(b, x, &lengths, &windows, &rule))
}
