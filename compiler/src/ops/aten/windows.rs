//! Windows as columns, the places that pooling came from, and distances between the rows of matrices.

use super::conv::{Window, even, output_extent};
use super::index::check_all;
use super::pointwise::number;
use crate::diag::Result;
use crate::loops::{BinaryOp, Const, Dim, ExprId, Operand, ReduceOp, StoreMode, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::message::Message;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::{compute_type, float_type, result_type};
use crate::ops::value::{Tensor, Value, int};
use crate::ops::views::{self, shape_text};
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::im2col", lower: im2col },
    OpDef { name: "aten::col2im", lower: col2im },
    OpDef { name: "aten::max_unpool2d", lower: |b, a| max_unpool(b, a, 2) },
    OpDef { name: "aten::max_unpool3d", lower: |b, a| max_unpool(b, a, 3) },
    OpDef { name: "aten::fractional_max_pool2d", lower: |b, a| fractional_max_pool(b, a, 2) },
    OpDef { name: "aten::fractional_max_pool3d", lower: |b, a| fractional_max_pool(b, a, 3) },
    OpDef { name: "aten::cdist", lower: cdist },
    OpDef { name: "aten::_cdist_forward", lower: cdist },
    OpDef { name: "aten::_euclidean_dist", lower: euclidean_dist },
    OpDef { name: "aten::pdist", lower: pdist },
    OpDef { name: "aten::_pdist_forward", lower: pdist },
];

/// Kernel sizes and the window that moves them, from the arguments `kernel_size, dilation, padding, stride` at `at`.
fn plane_window(b: &mut Builder<'_>, args: &Args<'_>, at: usize) -> Result<(Vec<i64>, Window)> {
    let size = args.known_ints_of(b, at, 2, &[1, 1])?;
    let window = Window {
        dilation: args.known_ints_of(b, at + 1, 2, &[1, 1])?,
        padding: even(&args.known_ints_of(b, at + 2, 2, &[0, 0])?),
        stride: args.known_ints_of(b, at + 3, 2, &[1, 1])?,
        groups: 1,
    };
    let positive = [&size, &window.dilation, &window.stride];
    if positive.iter().any(|numbers| numbers.iter().any(|n| *n <= 0)) {
        let name = b.op_name.clone();
        return Err(b.user(format!("{name}: kernel size, dilation and stride should be greater than zero")));
    }
    Ok((size, window))
}

/// How many windows lie in a plane along each of its dimensions.
fn window_counts(b: &mut Builder<'_>, plane: &[Dim], size: &[i64], window: &Window) -> Result<[Dim; 2]> {
    let rows = output_extent(b, plane[0], Dim::Const(size[0]), window, 0)?;
    Ok([rows, output_extent(b, plane[1], Dim::Const(size[1]), window, 1)?])
}

/// Each window of `[N, C, H, W]` as a column: `[N, C * size, windows]`.
fn im2col(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let (size, window) = plane_window(b, args, 1)?;
    if x.rank() != 3 && x.rank() != 4 {
        return Err(b.user(format!(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but \
             got: {}",
            shape_text(&x.dims)
        )));
    }
    let is_single = x.rank() == 3;
    let x = if is_single { views::unsqueeze(b, &x, 0) } else { x };
    let [rows, columns] = window_counts(b, &x.dims[2..], &size, &window)?;
    let dims = [x.dims[0], x.dims[1], Dim::Const(size[0]), Dim::Const(size[1]), rows, columns];
    let out = b.map(x.dtype, &dims, |k, i| {
        let (mut at, mut inside) = (vec![i[0], i[1]], k.bool(true));
        for d in 0..2 {
            let (stride, dilation) = (k.int(window.stride[d]), k.int(window.dilation[d]));
            let (start, step) = (k.mul(i[4 + d], stride), k.mul(i[2 + d], dilation));
            let point = k.add(start, step);
            let before = k.int(window.padding[d].0);
            let point = k.sub(point, before);
            let fits = k.in_bounds(point, x.dims[2 + d]);
            inside = k.and(inside, fits);
            at.push(point);
        }
        let zero = k.zero(x.dtype);
        k.load_or(&x, &at, inside, zero)
    });
    let (points, places) = (b.product(&dims[1..4]), b.product(&dims[4..]));
    let shape = [x.dims[0], b.dim(points), b.dim(places)];
    let out = views::reshape(b, &out, &shape);
    Ok(Value::Tensor(if is_single { views::squeeze(b, &out, |d| d == 0) } else { out }))
}

/// The windows of [`im2col`] added up where they came from.
fn col2im(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let x = args.tensor(0)?;
    let plane: Vec<Dim> = args.int_list(b, 1)?.into_iter().map(|size| b.dim(size)).collect();
    let (size, window) = plane_window(b, args, 2)?;
    if plane.len() != 2 || x.rank() != 2 && x.rank() != 3 {
        return Err(b.user(format!(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for input, \
             but got: {}",
            shape_text(&x.dims)
        )));
    }
    let is_single = x.rank() == 2;
    let x = if is_single { views::unsqueeze(b, &x, 0) } else { x };
    let [rows, columns] = window_counts(b, &plane, &size, &window)?;
    let places = b.product(&[rows, columns]);
    let places = b.dim(places);
    let message = "Given output_size={}, expected size of input's dimension 2 to match the calculated number of sliding \
                   blocks, but got input.size(2)={}.";
    b.require_equal(x.dims[2], places, Message::new(message, &[(&plane).into(), x.dims[2].into()]))?;
    let points = size[0] * size[1];
    if x.dims[1].known().is_some_and(|n| n % points != 0) {
        let found = shape_text(&x.dims[1..2]);
        let found = found.trim_matches(['[', ']']);
        return Err(b.user(format!(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got input.size(1)={found}"
        )));
    }
    let channels = b.binary(BinaryOp::FloorDiv, x.dims[1].into(), int(points));
    let channels = b.dim(channels);
    let shape = [x.dims[0], channels, Dim::Const(size[0]), Dim::Const(size[1]), rows, columns];
    let x = views::reshape(b, &x, &shape);
    let compute = compute_type(x.dtype);
    let counts = [rows, columns];
    let out = b.reduce(
        ReduceOp::Sum,
        x.dtype,
        &[x.dims[0], channels, plane[0], plane[1]],
        &[Dim::Const(size[0]), Dim::Const(size[1])],
        |k, i, over| {
            let (mut at, mut inside) = (vec![i[0], i[1], over[0], over[1]], k.bool(true));
            for d in 0..2 {
                let (stride, dilation) = (k.int(window.stride[d]), k.int(window.dilation[d]));
                let before = k.int(window.padding[d].0);
                let shifted = k.add(i[2 + d], before);
                let step = k.mul(over[d], dilation);
                let point = k.sub(shifted, step);
                let (left, zero) = (k.binary(BinaryOp::FloorMod, point, stride), k.int(0));
                let starts = k.binary(BinaryOp::Eq, left, zero);
                let place = k.binary(BinaryOp::FloorDiv, point, stride);
                let fits = k.in_bounds(place, counts[d]);
                let fits = k.and(starts, fits);
                inside = k.and(inside, fits);
                at.push(place);
            }
            let zero = k.zero(x.dtype);
            let v = k.load_or(&x, &at, inside, zero);
            k.cast(compute, v)
        },
        |_, _, sum| sum,
    );
    Ok(Value::Tensor(if is_single { views::squeeze(b, &out, |d| d == 0) } else { out }))
}

/// Zeros with each element at the place that its index names in the plane or volume.
fn max_unpool(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let (x, indices) = (args.tensor(0)?, args.tensor(1)?);
    let sizes: Vec<Dim> = args.int_list(b, 2)?.into_iter().map(|size| b.dim(size)).collect();
    if indices.dtype != DType::I64 {
        return Err(b.user(format!("elements in indices should be type int64 but got: {}", indices.dtype.graph_name())));
    }
    if sizes.len() != rank {
        return Err(b.user(format!("There should be exactly {rank} elements in output_size, but got {}", sizes.len())));
    }
    if x.rank() != rank + 1 && x.rank() != rank + 2 {
        let found = shape_text(&x.dims);
        let name = b.op_name.clone();
        return Err(b.user(format!(
            "{name}: input should be a {}d or {}d Tensor, but got {found}",
            rank + 1,
            rank + 2
        )));
    }
    if x.rank() != indices.rank() {
        return Err(b.user("Expected shape of indices to be same as that of the input tensor"));
    }
    for (p, q) in x.dims.iter().zip(&indices.dims) {
        let message = "Expected shape of indices to be same as that of the input tensor ({}) but got indices tensor with \
                       shape: {}";
        b.require_equal(*p, *q, Message::new(message, &[(&x.dims).into(), (&indices.dims).into()]))?;
    }
    let count = b.product(&sizes);
    let count = b.dim(count);
    check_all(b, &indices, "Found an invalid max index", |k, at| k.in_bounds(at, count));
    let lead = &x.dims[..x.rank() - rank];
    let zeros = b.splat(Operand::Const(Const::int(0)), x.dtype, &[lead, &[count]].concat());
    let out = b.copy(&zeros);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&x.dims);
    let (place, v) = (k.load(&indices, &i), k.load(&x, &i));
    k.store_through(&out, &[&i[..lead.len()], &[place]].concat(), v, None, StoreMode::Set);
    k.finish();
    Ok(Value::Tensor(views::reshape(b, &out, &[lead, &sizes].concat())))
}

/// The greatest element of windows that random numbers place, and its position: windows start where
/// `floor((i + sample) * step) - floor(sample * step)` says, the last one so that it ends with the input.
fn fractional_max_pool(b: &mut Builder<'_>, args: &Args<'_>, rank: usize) -> Result<Value> {
    let (x, samples) = (args.tensor(0)?, args.tensor(3)?);
    let (size, out) = (args.known_ints_of(b, 1, rank, &[])?, args.known_ints_of(b, 2, rank, &[])?);
    if x.rank() != rank + 1 && x.rank() != rank + 2 {
        let name = b.op_name.clone();
        return Err(b.user(format!(
            "{name}: Expected {}D or {}D tensor, but got {}",
            rank + 1,
            rank + 2,
            shape_text(&x.dims)
        )));
    }
    let is_single = x.rank() == rank + 1;
    let x = if is_single { views::unsqueeze(b, &x, 0) } else { x };
    if samples.rank() != 3 {
        return Err(b.user(format!("Expect _random_samples to have 3 dimensions, got {}", samples.rank())));
    }
    for (d, (&size, &out)) in size.iter().zip(&out).enumerate() {
        let least = size + out - 1;
        let message = format!("{}(): pool size {size} too large relative to input size", b.op_name);
        if x.dims[2 + d].known().is_some_and(|n| n < least) {
            return Err(b.user(message));
        }
        let fits = b.binary(BinaryOp::Ge, x.dims[2 + d].into(), int(least));
        b.check(fits, &message);
    }
    let dtype = compute_type(samples.dtype);
    let point = |k: &mut KernelBuilder<'_, '_>, i: &[ExprId], over: &[ExprId]| {
        let mut at = vec![i[0], i[1]];
        for d in 0..rank {
            let (extent, own) = (k.dim(x.dims[2 + d]), k.int(size[d]));
            let last_start = k.sub(extent, own);
            // In a plane the first number is that of the columns.
            let which = k.int(i64::try_from(if rank == 2 { 1 - d } else { d }).unwrap_or(0));
            let sample = k.load(&samples, &[i[0], i[1], which]);
            let sample = k.cast(dtype, sample);
            let steps = k.int((out[d] - 1).max(1));
            let (room, steps) = (k.cast(dtype, last_start), k.cast(dtype, steps));
            let step = k.div(room, steps);
            let number = k.cast(dtype, i[2 + d]);
            let moved = k.add(number, sample);
            let (moved, first) = (k.mul(moved, step), k.mul(sample, step));
            let (moved, first) = (k.cast(DType::I64, moved), k.cast(DType::I64, first));
            let start = k.sub(moved, first);
            let last = k.int(out[d] - 1);
            let is_last = k.binary(BinaryOp::Eq, i[2 + d], last);
            let start = k.select(is_last, last_start, start);
            at.push(k.add(start, over[d]));
        }
        at
    };
    let lead = [x.dims[0], x.dims[1]];
    let space: Vec<Dim> = out.iter().map(|n| Dim::Const(*n)).collect();
    let window: Vec<Dim> = size.iter().map(|n| Dim::Const(*n)).collect();
    let dims = [&lead[..], &space].concat();
    let element = |k: &mut KernelBuilder<'_, '_>, at: &[ExprId]| {
        let v = k.load(&x, at);
        k.cast(compute_type(x.dtype), v)
    };
    let values = b.reduce(
        ReduceOp::Max,
        x.dtype,
        &dims,
        &window,
        |k, i, over| {
            let at = point(k, i, over);
            element(k, &at)
        },
        |_, _, v| v,
    );
    let buffer = b.new_buffer(DType::I64, &dims);
    let mut k = KernelBuilder::new(b);
    let i = k.parallel(&dims);
    let over = k.reduced(&window);
    let at = point(&mut k, &i, &over);
    let v = element(&mut k, &at);
    let mut position = k.int(0);
    for d in 0..rank {
        let extent = k.dim(x.dims[2 + d]);
        let scaled = k.mul(position, extent);
        position = k.add(scaled, at[2 + d]);
    }
    let best = k.reduce_arg(ReduceOp::ArgMax, v, position);
    k.store(buffer, &i, best);
    k.finish();
    let indices = b.tensor_of(buffer);
    let single = |b: &mut Builder<'_>, t: Tensor| if is_single { views::squeeze(b, &t, |d| d == 0) } else { t };
    let results = [single(b, values), single(b, indices)].map(Value::Tensor);
    Ok(Value::Tuple(results.to_vec(), None))
}

/// The p-norm of the differences that `difference` gives for an index and a column.
fn distances(
    b: &mut Builder<'_>,
    dtype: DType,
    dims: &[Dim],
    columns: Dim,
    p: f64,
    difference: impl FnOnce(&mut KernelBuilder<'_, '_>, &[ExprId], ExprId) -> ExprId,
) -> Tensor {
    #[allow(clippy::float_cmp, reason = "the special orders are exact")]
    let (is_count, is_sum, is_square) = (p == 0.0, p == 1.0, p == 2.0);
    let op = if p.is_infinite() { ReduceOp::Max } else { ReduceOp::Sum };
    b.reduce(
        op,
        dtype,
        dims,
        &[columns],
        |k, i, over| {
            let d = difference(k, i, over[0]);
            let size = k.unary(UnaryOp::Abs, d);
            if is_count {
                let zero = number(k, d, 0.0);
                let differs = k.binary(BinaryOp::Ne, d, zero);
                return k.cast(k.dtype(d), differs);
            }
            if is_square {
                return k.mul(d, d);
            }
            if is_sum || p.is_infinite() {
                return size;
            }
            let p = number(k, d, p);
            k.binary(BinaryOp::Pow, size, p)
        },
        |k, _, sum| {
            if is_count || is_sum {
                return sum;
            }
            if is_square {
                return k.unary(UnaryOp::Sqrt, sum);
            }
            // No columns have no greatest difference.
            let zero = number(k, sum, 0.0);
            if p.is_infinite() {
                return k.max(sum, zero);
            }
            let root = number(k, sum, 1.0 / p);
            k.binary(BinaryOp::Pow, sum, root)
        },
    )
}

/// Distances between the rows of two batches of matrices: `[.., P, R]`.
fn cdist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let p = args.known_float(b, 2)?;
    between_rows(b, args, p)
}

fn euclidean_dist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    between_rows(b, args, 2.0)
}

fn between_rows(b: &mut Builder<'_>, args: &Args<'_>, p: f64) -> Result<Value> {
    let (x, y) = (args.tensor(0)?, args.tensor(1)?);
    if x.rank() < 2 || y.rank() < 2 {
        return Err(b.user("cdist only supports at least 2D tensors, X1 got: 1D"));
    }
    if !x.dtype.is_floating_point() || !y.dtype.is_floating_point() {
        return Err(b.user("cdist only supports floating-point dtypes"));
    }
    if p < 0.0 {
        return Err(b.user("cdist only supports non-negative p values"));
    }
    let (columns, rows) = (x.dims[x.rank() - 1], [x.dims[x.rank() - 2], y.dims[y.rank() - 2]]);
    let last = y.dims[y.rank() - 1];
    let message = "X1 and X2 must have the same number of columns. X1: {} X2: {}";
    b.require_equal(columns, last, Message::new(message, &[columns.into(), last.into()]))?;
    let batch = views::broadcast(b, &[&x.dims[..x.rank() - 2], &y.dims[..y.rank() - 2]])?;
    let (x, y) = (
        views::expand_to(b, &x, &[&batch[..], &[rows[0], columns]].concat())?,
        views::expand_to(b, &y, &[&batch[..], &[rows[1], columns]].concat())?,
    );
    let dtype = float_type(result_type(&[&x, &y]));
    let compute = compute_type(dtype);
    let n = batch.len();
    Ok(Value::Tensor(distances(b, dtype, &[&batch[..], &rows].concat(), columns, p, |k, i, column| {
        let v = k.load(&x, &[&i[..n], &[i[n], column]].concat());
        let w = k.load(&y, &[&i[..n], &[i[n + 1], column]].concat());
        let (v, w) = (k.cast(compute, v), k.cast(compute, w));
        k.sub(v, w)
    })))
}

/// Distances between the rows of one matrix: those of the first with all others, then of the second with those after it, ...
fn pdist(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, p) = (args.tensor(0)?, args.known_float(b, 1)?);
    if x.rank() != 2 {
        return Err(b.user(format!("pdist only supports 2D tensors, got: {}D", x.rank())));
    }
    if !x.dtype.is_floating_point() {
        return Err(b.user("pdist only supports floating-point dtypes"));
    }
    if p < 0.0 {
        return Err(b.user("pdist only supports non-negative p values"));
    }
    let n: Operand = x.dims[0].into();
    let less = b.binary(BinaryOp::Sub, n.clone(), int(1));
    let pairs = b.binary(BinaryOp::Mul, n.clone(), less);
    let pairs = b.binary(BinaryOp::FloorDiv, pairs, int(2));
    let pairs = b.dim(pairs);
    let compute = compute_type(x.dtype);
    Ok(Value::Tensor(distances(b, x.dtype, &[pairs], x.dims[1], p, |k, i, column| {
        // The row before which `i` pairs lie: the root of `row * n - row * (row + 1) / 2 = i`, rounded down.
        let (half, count) = (k.float(DType::F64, 0.5), k.operand(&n));
        let (rows, number) = (k.cast(DType::F64, count), k.cast(DType::F64, i[0]));
        let middle = k.sub(rows, half);
        let (square, one, two) = (k.mul(middle, middle), k.one(DType::F64), k.float(DType::F64, 2.0));
        let twice = k.mul(two, number);
        let rest = k.sub(square, twice);
        let rest = k.sub(rest, one);
        let root = k.unary(UnaryOp::Sqrt, rest);
        let row = k.sub(middle, root);
        let row = k.cast(DType::I64, row);
        let (before, one, two) = (k.mul(count, row), k.int(1), k.int(2));
        let next = k.add(row, one);
        let triangle = k.mul(row, next);
        let triangle = k.binary(BinaryOp::FloorDiv, triangle, two);
        let other = k.sub(i[0], before);
        let other = k.add(other, triangle);
        let other = k.add(other, next);
        let (v, w) = (k.load(&x, &[row, column]), k.load(&x, &[other, column]));
        let (v, w) = (k.cast(compute, v), k.cast(compute, w));
        k.sub(v, w)
    })))
}
