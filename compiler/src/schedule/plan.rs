//! How a kernel is run: which axis lies in vector lanes, how many points are worked on together, what runs in parallel.

use super::flat::{Flat, VOLATILE};
use super::linear::Linear;
use super::{Options, ScheduleTarget};
use crate::index::Id as _;
use crate::loops::{AxisKind, BufferId, Expr, ExprId, ReduceOp};
use crate::types::DType;

/// The decisions for one kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Parallel axes from the outermost loop in; unit axes are left out.
    pub(crate) order: Vec<usize>,
    /// The axis in vector lanes and how many; parallel (then it is last in `order`) or reduced.
    pub(crate) vector: Option<(usize, u16)>,
    /// For each axis: how many points (vectors, for the vector axis) a tile has. For a reduced vector axis each has its own
    /// accumulator.
    pub(crate) tile: Vec<usize>,
    /// Whether the ends of the vector axis may be done by masked vectors.
    pub(crate) may_mask: bool,
    /// Whether the outermost loop may run on several threads.
    pub(crate) parallel: bool,
    /// Estimated scalar operations of a call.
    pub(crate) cost: u64,
    /// What each step of the sums asks the cache for.
    pub(crate) prefetch: Option<Prefetch>,
}

/// Memory that will be wanted soon: elements of a buffer at an address that moves with the loops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Prefetch {
    /// The buffer.
    pub(crate) buffer: BufferId,
    /// The first element.
    pub(crate) address: Linear,
    /// How many cache lines.
    pub(crate) lines: i64,
    /// Elements in a cache line.
    pub(crate) line: i64,
}

/// What an extent unknown when compiling counts as in estimates.
const ASSUMED_EXTENT: i64 = 64;
/// Scalar operations below which starting threads is not worth it (some 20 µs of vector code).
pub(crate) const PARALLEL_COST: u64 = 250_000;

impl Plan {
    /// Chooses by a simple model: operations and loads for each point, counted in vectors where they are.
    pub(crate) fn choose(flat: &Flat, target: &ScheduleTarget, options: &Options) -> Self {
        Self::within_rows(flat, &[], target, options)
    }

    /// A plan for a point of these axes, around which others loop.
    pub(crate) fn within_rows(flat: &Flat, rows: &[usize], target: &ScheduleTarget, options: &Options) -> Self {
        let cost = cost(flat);
        let mut order = flat.axes_of(AxisKind::Parallel);
        order.retain(|axis| !rows.contains(axis));
        let is_scan = flat.kinds.contains(&AxisKind::Scan);
        let mut best: Option<(f64, usize, u16)> = None;
        if !flat.is_ordered && target.vector_bytes > 0 {
            let reduced = if is_scan { Vec::new() } else { flat.axes_of(AxisKind::Reduce) };
            for &axis in order.iter().rev().chain(reduced.iter().rev()) {
                let Some(lanes) = lanes(flat, axis, target) else { continue };
                let score = score(flat, axis, lanes);
                if score < 0.95 && best.is_none_or(|(s, ..)| score < s - 1e-9) {
                    best = Some((score, axis, lanes));
                }
            }
        }
        let vector = best.map(|(_, axis, lanes)| (axis, lanes));
        if let Some((axis, _)) = vector
            && flat.kinds[axis] == AxisKind::Parallel
        {
            order.retain(|&a| a != axis);
            order.push(axis);
        }
        let tile = tile(flat, &order, vector, target);
        let divides = flat.used.iter().any(|&id| is_integer_division(flat, id));
        let narrow = |dtype: DType| dtype.size_bytes() < 4;
        let loads =
            flat.used.iter().any(|&id| matches!(flat.exprs.get(id), Expr::Load { dtype, .. } if narrow(*dtype)));
        let may_mask = target.has_masks && !divides && !loads && !flat.stores.iter().any(|s| narrow(s.dtype));
        let parallel = options.threads && !flat.is_ordered && cost >= PARALLEL_COST && !order.is_empty();
        Self { order, vector, tile, may_mask, parallel, cost, prefetch: None }
    }
}

/// An extent for estimates.
pub(crate) fn estimate(flat: &Flat, axis: usize) -> i64 {
    let extent = &flat.extents[axis];
    extent.vars.iter().fold(extent.factor, |n, _| n.saturating_mul(ASSUMED_EXTENT))
}

fn cost(flat: &Flat) -> u64 {
    let points = (0..flat.kinds.len()).fold(1u64, |n, a| n.saturating_mul(estimate(flat, a).max(0).cast_unsigned()));
    points.saturating_mul(flat.used.iter().map(|&id| weight(flat, id)).sum::<u64>().max(1))
}

/// How much an operation counts.
fn weight(flat: &Flat, id: ExprId) -> u64 {
    use crate::loops::{BinaryOp, UnaryOp};
    match flat.exprs.get(id) {
        Expr::Const(_) | Expr::Axis(_) | Expr::Var(..) | Expr::Acc(..) => 0,
        Expr::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::IsNan, _) => 1,
        Expr::Unary(..) | Expr::Binary(BinaryOp::Pow | BinaryOp::Atan2, ..) => 12,
        Expr::Binary(BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod, ..) => 8,
        Expr::Load { .. } | Expr::Binary(..) | Expr::Select(..) | Expr::Cast(..) => 1,
    }
}

fn is_integer_division(flat: &Flat, id: ExprId) -> bool {
    use crate::loops::BinaryOp::{Div, FloorDiv, FloorMod, Rem};
    match *flat.exprs.get(id) {
        Expr::Binary(Div | Rem | FloorDiv | FloorMod, _, by) => {
            !flat.exprs.dtype(id).is_floating_point() && flat.exprs.constant(by).is_none_or(|c| c.bits == 0)
        }
        _ => false,
    }
}

/// How many lanes the axis can be run in, if at all.
fn lanes(flat: &Flat, axis: usize, target: &ScheduleTarget) -> Option<u16> {
    let is_parallel = flat.kinds[axis] == AxisKind::Parallel;
    let mut widest = 1;
    for store in &flat.stores {
        if is_parallel {
            flat.stride(&store.address, axis).filter(|&stride| stride != 0)?;
            widest = widest.max(store.dtype.size_bytes());
        }
        if store.dtype.is_complex() {
            return None;
        }
    }
    for reduction in &flat.reductions {
        let dtype = flat.exprs.dtype(reduction.value);
        let is_arg = matches!(reduction.op, ReduceOp::ArgMax | ReduceOp::ArgMin);
        if !is_parallel && is_arg {
            return None;
        }
        widest = widest.max(dtype.size_bytes());
    }
    for &id in &flat.used {
        let (deps, dtype) = (flat.deps[id.index()], flat.exprs.dtype(id));
        if dtype.is_complex() || (!is_parallel && deps & VOLATILE != 0) {
            return None;
        }
        let counts = match flat.exprs.get(id) {
            Expr::Load { .. } => true,
            _ => !matches!(dtype, DType::I64 | DType::Bool),
        };
        if counts && deps >> axis & 1 == 1 {
            widest = widest.max(dtype.size_bytes());
        }
    }
    let full = (target.vector_bytes / widest).max(1);
    let fits = flat.extents[axis].known().map_or(full, |n| {
        let n = usize::try_from(n).unwrap_or(0);
        if target.has_masks { n.next_power_of_two() } else { (n + 1).next_power_of_two() / 2 }
    });
    u16::try_from(full.min(fits)).ok().filter(|&lanes| lanes > 1)
}

/// Time for a point with this vector axis, as a fraction of the time without vectors.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn score(flat: &Flat, axis: usize, lanes: u16) -> f64 {
    let width = f64::from(lanes);
    let is_reduced = flat.kinds[axis] == AxisKind::Reduce;
    let (mut vector, mut scalar) = (0.0, 0.0);
    for &id in &flat.used {
        let depends = flat.deps[id.index()] >> axis & 1 == 1;
        let work = weight(flat, id) as f64;
        scalar += work;
        vector += match flat.exprs.get(id) {
            Expr::Load { .. } if depends => match flat.stride(&flat.addresses[&id], axis) {
                Some(0 | 1) => 1.0 / width,
                _ => 1.5,
            },
            _ => work / width,
        };
    }
    // Each reduction's own operation.
    scalar += flat.reductions.len() as f64;
    vector += flat.reductions.len() as f64 / width;
    let extent = estimate(flat, axis).max(1) as f64;
    if is_reduced {
        vector += flat.reductions.len() as f64 * 2.0 * width.log2() / extent;
        // Work on the results stays scalar.
        vector += flat.stores.len() as f64 / extent;
        scalar += flat.stores.len() as f64 / extent;
    } else {
        let reduced: f64 = flat.axes_of(AxisKind::Reduce).iter().map(|&a| estimate(flat, a).max(1) as f64).product();
        for store in &flat.stores {
            scalar += 1.0 / reduced;
            let is_contiguous = flat.stride(&store.address, axis) == Some(1);
            vector += if is_contiguous { 1.0 / width / reduced } else { 1.5 / reduced };
        }
    }
    let filled = extent / ((extent / width).ceil() * width);
    vector / scalar.max(1e-9) / filled
}

/// Tile sizes: enough independent accumulators to hide the latency of additions, and operands used more than once.
fn tile(flat: &Flat, order: &[usize], vector: Option<(usize, u16)>, target: &ScheduleTarget) -> Vec<usize> {
    let mut tile = vec![1; flat.kinds.len()];
    let reduced = flat.axes_of(AxisKind::Reduce);
    let is_arg = |op: ReduceOp| matches!(op, ReduceOp::ArgMax | ReduceOp::ArgMin);
    let is_plain = !flat.reductions.is_empty() && !flat.reductions.iter().any(|r| is_arg(r.op));
    if !is_plain || reduced.is_empty() || flat.is_ordered || flat.kinds.contains(&AxisKind::Scan) {
        return tile;
    }
    let work: u64 = flat.used.iter().map(|&id| weight(flat, id)).sum();
    if work > 24 {
        return tile;
    }
    // Registers for accumulators, shared between the reductions.
    let budget = (target.n_registers * 3 / 4 / flat.reductions.len()).max(1);
    let extent = |axis: usize| usize::try_from(estimate(flat, axis)).unwrap_or(1);
    let mut used = 1;
    if let Some((axis, lanes)) = vector {
        let n_vectors = extent(axis) / usize::from(lanes);
        let is_reduced = flat.kinds[axis] == AxisKind::Reduce;
        let wanted = match () {
            () if is_reduced => 4,
            // A panel, or a short row: all of it.
            () if n_vectors <= 8 && extent(axis) % usize::from(lanes) == 0 => n_vectors,
            () => {
                if target.n_registers >= 32 {
                    4
                } else {
                    2
                }
            }
        };
        tile[axis] = wanted.min(n_vectors).min(budget).max(1);
        used = tile[axis];
    }
    // Rows over which the operands in lanes are shared, or at least some operand.
    let is_load = |id: ExprId| matches!(flat.exprs.get(id), Expr::Load { .. });
    let loads = flat.used.iter().filter(|&&id| is_load(id)).map(|id| flat.deps[id.index()]);
    let loads: Vec<u64> = loads.filter(|deps| reduced.iter().any(|&r| deps >> r & 1 == 1)).collect();
    let is_shared = |axis: usize| loads.iter().any(|deps| deps >> axis & 1 == 0);
    let is_best = |axis: usize| {
        let in_lanes = |deps: u64| vector.is_some_and(|(v, _)| deps >> v & 1 == 1);
        is_shared(axis) && loads.iter().all(|&deps| !in_lanes(deps) || deps >> axis & 1 == 0)
    };
    let candidates = order.iter().rev().copied().filter(|&a| Some(a) != vector.map(|v| v.0) && extent(a) > 1);
    let rows = candidates.clone().find(|&a| is_best(a)).or_else(|| candidates.clone().find(|&a| is_shared(a)));
    if let Some(row) = rows
        && loads.len() <= 3
    {
        if let Some((axis, _)) = vector
            && flat.kinds[axis] == AxisKind::Reduce
        {
            tile[axis] = tile[axis].min(2);
            used = tile[axis];
        }
        tile[row] = (budget / used).clamp(1, 12).min(extent(row));
    }
    tile
}
