//! Sampling at given points: grids, and the affine maps that make them.
//!
//! A point of the result is a weighted sum over the source points near its place; those outside are guarded.

use crate::diag::Result;
use crate::loops::{BinaryOp, Dim, ExprId, UnaryOp};
use crate::ops::OpDef;
use crate::ops::args::Args;
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::promote::compute_type;
use crate::ops::value::Value;
use crate::ops::views::shape_text;
use crate::types::DType;

/// The definitions of this family.
pub const DEFS: &[OpDef] = &[
    OpDef { name: "aten::grid_sampler", lower: grid_sampler },
    OpDef { name: "aten::grid_sampler_2d", lower: grid_sampler },
    OpDef { name: "aten::grid_sampler_3d", lower: grid_sampler },
    OpDef { name: "aten::affine_grid_generator", lower: affine_grid },
];

/// Cubic convolution with A = -0.75 at the distances 1 + t, t, 1 - t, 2 - t (Keys 1981).
fn cubic_weights(k: &mut KernelBuilder<'_, '_>, t: ExprId) -> Vec<ExprId> {
    const A: f64 = -0.75;
    let real = k.dtype(t);
    let polynomial = |k: &mut KernelBuilder<'_, '_>, x: ExprId, c: [f64; 4]| {
        let mut sum = k.float(real, c[0]);
        for c in &c[1..] {
            let product = k.mul(sum, x);
            let c = k.float(real, *c);
            sum = k.add(product, c);
        }
        sum
    };
    let near = [A + 2.0, -(A + 3.0), 0.0, 1.0];
    let far = [A, -5.0 * A, 8.0 * A, -4.0 * A];
    let one = k.one(real);
    let two = k.float(real, 2.0);
    let before = k.add(t, one);
    let (after, beyond) = (k.sub(one, t), k.sub(two, t));
    vec![polynomial(k, before, far), polynomial(k, t, near), polynomial(k, after, near), polynomial(k, beyond, far)]
}

/// The sum over all combinations of points of the dimensions, innermost dimension first.
fn weighted(
    k: &mut KernelBuilder<'_, '_>,
    points: &[Vec<(ExprId, ExprId)>],
    at: &mut Vec<ExprId>,
    load: &mut dyn FnMut(&mut KernelBuilder<'_, '_>, &[ExprId]) -> ExprId,
) -> ExprId {
    let Some((first, rest)) = points.split_first() else { return load(k, at) };
    let mut sum = None;
    for &(index, weight) in first {
        at.push(index);
        let value = weighted(k, rest, at, load);
        at.pop();
        let term = k.mul(value, weight);
        sum = Some(sum.map_or(term, |s| k.add(s, term)));
    }
    sum.expect("there are points")
}

/// What is outside the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// A coordinate in -1..1 as a position in the source.
fn unnormalise(k: &mut KernelBuilder<'_, '_>, x: ExprId, extent: Dim, is_aligned: bool) -> ExprId {
    let real = k.dtype(x);
    let (one, half) = (k.one(real), k.float(real, 0.5));
    let n = k.dim(extent);
    let n = k.cast(real, n);
    let shifted = k.add(x, one);
    if is_aligned {
        let middle = k.mul(shifted, half);
        let last = k.sub(n, one);
        return k.mul(middle, last);
    }
    let product = k.mul(shifted, n);
    let less = k.sub(product, one);
    k.mul(less, half)
}

/// Clamps a position to the source; NaN goes to 0.
fn clamp(k: &mut KernelBuilder<'_, '_>, x: ExprId, extent: Dim) -> ExprId {
    let real = k.dtype(x);
    let (zero, one, n) = (k.zero(real), k.one(real), k.dim(extent));
    let n = k.cast(real, n);
    let last = k.sub(n, one);
    let is_above = k.binary(BinaryOp::Gt, x, zero);
    let x = k.select(is_above, x, zero);
    k.min(x, last)
}

/// Reflects a position about the source's ends.
fn reflect(k: &mut KernelBuilder<'_, '_>, x: ExprId, extent: Dim, is_aligned: bool) -> ExprId {
    let real = k.dtype(x);
    let n = k.dim(extent);
    let n = k.cast(real, n);
    let (low, span) = if is_aligned {
        let one = k.one(real);
        (k.zero(real), k.sub(n, one))
    } else {
        (k.float(real, -0.5), n)
    };
    let zero = k.zero(real);
    let one = k.one(real);
    let is_flat = k.binary(BinaryOp::Eq, span, zero);
    let safe = k.select(is_flat, one, span);
    let distance = k.sub(x, low);
    let distance = k.unary(UnaryOp::Abs, distance);
    let flips = k.div(distance, safe);
    let flips = k.unary(UnaryOp::Floor, flips);
    let whole = k.mul(flips, safe);
    let extra = k.sub(distance, whole);
    let half = k.float(real, 0.5);
    let pairs = k.mul(flips, half);
    let floor = k.unary(UnaryOp::Floor, pairs);
    let is_even = k.binary(BinaryOp::Eq, pairs, floor);
    let forward = k.add(extra, low);
    let back = k.sub(safe, extra);
    let back = k.add(back, low);
    let reflected = k.select(is_even, forward, back);
    k.select(is_flat, zero, reflected)
}

/// Samples `input [N, C, L..]` at `grid [N, O.., rank]`, whose last dimension is x, y(, z).
fn grid_sampler(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let (x, grid) = (args.tensor(0)?, args.tensor(1)?);
    let (mode, outside) = (args.known_int(b, 2)?, args.known_int(b, 3)?);
    let is_aligned = args.flag(b, 4)?;
    let rank = x.rank().saturating_sub(2);
    let wanted = i64::try_from(rank).expect("ranks are small");
    if !(2..=3).contains(&rank) || grid.rank() != x.rank() || grid.dims.last() != Some(&Dim::Const(wanted)) {
        return Err(b.user(format!(
            "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with sizes \
             {} and grid with sizes {}",
            shape_text(&x.dims),
            shape_text(&grid.dims)
        )));
    }
    b.require_equal(x.dims[0], grid.dims[0], "grid_sampler(): expected grid and input to have same batch size")?;
    let outside = match outside {
        0 => Outside::Zeros,
        1 => Outside::Border,
        _ => Outside::Reflection,
    };
    if mode == 2 && rank != 2 {
        return Err(b.user("grid_sampler(): bicubic interpolation only supports 4D input"));
    }
    // In two dimensions every step is rounded to the element type, as PyTorch's kernel does.
    let compute = if rank == 2 { x.dtype } else { compute_type(x.dtype) };
    let dims = [&x.dims[..2], &grid.dims[1..=rank]].concat();
    Ok(Value::Tensor(b.map(x.dtype, &dims, |k, i| {
        let place = [&i[..1], &i[2..]].concat();
        let mut candidates: Vec<Vec<(ExprId, ExprId)>> = Vec::new();
        for d in 0..rank {
            let column = k.int(wanted - 1 - i64::try_from(d).expect("ranks are small"));
            let at = [&place[..], &[column]].concat();
            let coordinate = k.load(&grid, &at);
            let coordinate = k.cast(compute, coordinate);
            let position = unnormalise(k, coordinate, x.dims[2 + d], is_aligned);
            candidates.push(grid_points(k, position, x.dims[2 + d], mode, outside, is_aligned));
        }
        let mut at = i[..2].to_vec();
        weighted(k, &candidates, &mut at, &mut |k, at| {
            let mut inside = k.bool(true);
            for d in 0..rank {
                let fits = k.in_bounds(at[2 + d], x.dims[2 + d]);
                inside = k.and(inside, fits);
            }
            let zero = k.zero(x.dtype);
            let v = k.load_or(&x, at, inside, zero);
            k.cast(compute, v)
        })
    })))
}

/// The source points of a position along one dimension, some of which may lie outside, with their weights.
fn grid_points(
    k: &mut KernelBuilder<'_, '_>,
    position: ExprId,
    extent: Dim,
    mode: i64,
    outside: Outside,
    is_aligned: bool,
) -> Vec<(ExprId, ExprId)> {
    let real = k.dtype(position);
    let bounded = |k: &mut KernelBuilder<'_, '_>, p: ExprId| match outside {
        Outside::Zeros => p,
        Outside::Border => clamp(k, p, extent),
        Outside::Reflection => {
            let p = reflect(k, p, extent, is_aligned);
            clamp(k, p, extent)
        }
    };
    // Far positions must stay far when they become integers, and NaN must become something outside.
    let whole = |k: &mut KernelBuilder<'_, '_>, p: ExprId| {
        let (low, high) = (k.float(real, -1.0e9), k.float(real, 1.0e9));
        let is_above = k.binary(BinaryOp::Gt, p, low);
        let p = k.select(is_above, p, low);
        let p = k.min(p, high);
        k.cast(DType::I64, p)
    };
    match mode {
        1 => {
            let p = bounded(k, position);
            let p = k.unary(UnaryOp::Round, p);
            vec![(whole(k, p), k.one(real))]
        }
        2 => {
            let low = k.unary(UnaryOp::Floor, position);
            let t = k.sub(position, low);
            let weights = cubic_weights(k, t);
            (0..4u8)
                .zip(weights)
                .map(|(n, w)| {
                    let offset = k.float(real, f64::from(n) - 1.0);
                    let p = k.add(low, offset);
                    let p = bounded(k, p);
                    (whole(k, p), w)
                })
                .collect()
        }
        _ => {
            let p = bounded(k, position);
            let low = k.unary(UnaryOp::Floor, p);
            let t = k.sub(p, low);
            let (one, step) = (k.one(real), k.int(1));
            let rest = k.sub(one, t);
            let low = whole(k, low);
            let high = k.add(low, step);
            vec![(low, rest), (high, t)]
        }
    }
}

/// The grid of an affine map: `theta [N, rank, rank + 1]` applied to the points of -1..1.
fn affine_grid(b: &mut Builder<'_>, args: &Args<'_>) -> Result<Value> {
    let theta = args.tensor(0)?;
    let sizes = args.int_list(b, 1)?;
    let is_aligned = args.flag(b, 2)?;
    let sizes: Vec<Dim> = sizes.into_iter().map(|o| b.dim(o)).collect();
    let rank = sizes.len().saturating_sub(2);
    if !(2..=3).contains(&rank) || theta.rank() != 3 {
        return Err(b.user("affine_grid_generator expects a batch of 2D or 3D affine matrices and a 4D or 5D size"));
    }
    let wanted = i64::try_from(rank).expect("ranks are small");
    let dims = [&sizes[..1], &sizes[2..], &[Dim::Const(wanted)]].concat();
    let compute = compute_type(theta.dtype);
    Ok(Value::Tensor(b.map(theta.dtype, &dims, |k, i| {
        let row = i[rank + 1];
        let mut sum = None;
        for d in 0..rank {
            // Column 0 goes with x, the last spatial dimension.
            let axis = rank - 1 - d;
            let base = base_coordinate(k, i[1 + axis], sizes[2 + axis], is_aligned, compute);
            let column = k.int(i64::try_from(d).expect("ranks are small"));
            let t = k.load(&theta, &[i[0], row, column]);
            let t = k.cast(compute, t);
            let term = k.mul(t, base);
            sum = Some(sum.map_or(term, |s| k.add(s, term)));
        }
        let column = k.int(wanted);
        let t = k.load(&theta, &[i[0], row, column]);
        let t = k.cast(compute, t);
        k.add(sum.expect("there are dimensions"), t)
    })))
}

/// Point `i` of `n` between -1 and 1: the ends themselves where aligned, else the middles of cells.
fn base_coordinate(k: &mut KernelBuilder<'_, '_>, i: ExprId, n: Dim, is_aligned: bool, real: DType) -> ExprId {
    let (two, one) = (k.float(real, 2.0), k.one(real));
    let n = k.dim(n);
    let step_one = k.int(1);
    let at = k.cast(real, i);
    if is_aligned {
        let last = k.sub(n, step_one);
        let is_single = k.binary(BinaryOp::Lt, last, step_one);
        let safe = k.max(last, step_one);
        let safe = k.cast(real, safe);
        let double = k.mul(at, two);
        let ratio = k.div(double, safe);
        let value = k.sub(ratio, one);
        let zero = k.zero(real);
        return k.select(is_single, zero, value);
    }
    let double = k.mul(at, two);
    let centre = k.add(double, one);
    let n = k.cast(real, n);
    let ratio = k.div(centre, n);
    k.sub(ratio, one)
}
