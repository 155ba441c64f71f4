//! Register tiles of contractions: how many rows and vectors of columns are worked on together.
//!
//! A tile of `r` rows and `c` vectors keeps `r * c` accumulators in registers; each step of the sum loads `c` vectors of one
//! operand and spreads `r` elements of the other. [`best_tile`] weighs all tiles by the cycles they take, ends included, so
//! that sizes that do not divide evenly get the tile that wastes least.

use super::ScheduleTarget;
use super::flat::Flat;
use super::linear::{Atom, Linear};
use super::plan::{Plan, Prefetch};
use crate::index::Id as _;
use crate::loops::{AxisKind, BinaryOp, Expr, ExprId, ReduceOp};

/// The rows and columns of a contraction, and the length of its sums.
pub(crate) struct Shape {
    /// Extents of the two innermost axes of rows, outer one first; 1 where there are less.
    pub(crate) rows: [i64; 2],
    /// Vectors of columns.
    pub(crate) vectors: i64,
    /// Terms of a sum.
    pub(crate) terms: i64,
}

/// A tile: rows along each of the two axes, and vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tile {
    /// Rows along the outer and the inner axis.
    pub(crate) rows: [i64; 2],
    /// Vectors of columns.
    pub(crate) vectors: i64,
}

/// Most rows of a tile along one axis.
const MAX_ROWS: i64 = 16;
/// Most vectors of a tile.
const MAX_VECTORS: i64 = 8;

/// Cycles for a step of the sum with a tile of these rows and vectors.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn step_cycles(rows: i64, vectors: i64, vector_cycles: f64) -> f64 {
    let (rows, vectors) = (rows as f64, vectors as f64);
    // Two multiply-adds and two loads a cycle; four cycles until a sum can be added to again.
    let compute = (rows * vectors / 2.0).max(4.0);
    let loads = f64::midpoint(rows, vectors);
    compute.max(loads).max(vectors * vector_cycles) + 0.25 + vectors * 0.02
}

/// The tile that takes the fewest cycles; with `vectors` given, among those of that width.
#[allow(clippy::cast_precision_loss, reason = "an estimate")]
pub(crate) fn best_tile(shape: &Shape, target: &ScheduleTarget, vectors: Option<i64>) -> Tile {
    let n_registers = i64::try_from(target.n_registers).unwrap_or(16);
    let mut best: Option<(f64, Tile)> = None;
    let widths = vectors.map_or(1..=MAX_VECTORS.min(shape.vectors.max(1)), |v| v..=v);
    for c in widths {
        let panel_bytes = usize::try_from(shape.terms.saturating_mul(c)).unwrap_or(usize::MAX);
        let panel_bytes = panel_bytes.saturating_mul(target.vector_bytes);
        let n_row_tiles = shape.rows[0] * shape.rows[1];
        // How long a vector of the panel takes from the cache that holds the panel while rows pass.
        let vector_cycles = match panel_bytes {
            n if n <= target.l1_bytes / 2 => 0.5,
            n if n <= target.l2_bytes * 3 / 4 => 1.5,
            _ if n_row_tiles > 1 => 4.0,
            _ => 1.0,
        };
        for outer in 1..=4.min(shape.rows[0]) {
            for inner in 1..=MAX_ROWS.min(shape.rows[1]) {
                let is_first = outer == 1 && inner == 1;
                if outer * inner * c + c + 1 > n_registers && !is_first {
                    continue;
                }
                let mut cycles = 0.0;
                for (n_outer, a) in parts(shape.rows[0], outer) {
                    for (n_inner, b) in parts(shape.rows[1], inner) {
                        for (n_panels, v) in parts(shape.vectors, c) {
                            let n = (n_outer * n_inner * n_panels) as f64;
                            cycles += n * step_cycles(a * b, v, vector_cycles);
                        }
                    }
                }
                if best.is_none_or(|(least, _)| cycles < least * 0.999) {
                    best = Some((cycles, Tile { rows: [outer, inner], vectors: c }));
                }
            }
        }
    }
    best.map_or(Tile { rows: [1, 1], vectors: 1 }, |(_, tile)| tile)
}

/// `n` as whole parts and the rest: how many, how large.
fn parts(n: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    [(n / size, size), (i64::from(n % size > 0), n % size)].into_iter().filter(|part| part.0 > 0)
}

/// The axes of a contraction by the operand that depends on them, unit axes left out.
struct Roles {
    /// Only the spread operand.
    rows: Vec<usize>,
    /// Only the operand in lanes.
    columns: Vec<usize>,
    /// That operand.
    in_lanes: ExprId,
}

/// The roles of the parallel axes if the kernel is a sum of products of two loads, one of them spread along `vector`.
fn roles(flat: &Flat, vector: usize) -> Option<Roles> {
    let [reduction] = flat.reductions[..] else { return None };
    let Expr::Binary(BinaryOp::Mul, a, b) = *flat.exprs.get(reduction.value) else { return None };
    let is_load = |id: ExprId| matches!(flat.exprs.get(id), Expr::Load { guard: None, .. });
    if reduction.op != ReduceOp::Sum || !is_load(a) || !is_load(b) || flat.is_ordered {
        return None;
    }
    let deps = |id: ExprId| flat.deps[id.index()];
    let on = |deps: u64, axis: usize| deps >> axis & 1 == 1;
    let (in_lanes, spread) = match (on(deps(a), vector), on(deps(b), vector)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => return None,
    };
    let (lanes, spread) = (deps(in_lanes), deps(spread));
    let axes = flat.axes_of(AxisKind::Parallel);
    let rows = axes.iter().copied().filter(|&a| on(spread, a) && !on(lanes, a)).collect();
    let columns = axes.iter().copied().filter(|&a| on(lanes, a) && !on(spread, a)).collect();
    Some(Roles { rows, columns, in_lanes })
}

/// Gives a contraction the best tile for the vector axis that was chosen.
pub(crate) fn refine(flat: &Flat, plan: &mut Plan, target: &ScheduleTarget) {
    let Some((vector, lanes)) = plan.vector else { return };
    if flat.kinds[vector] != AxisKind::Parallel || flat.kinds.contains(&AxisKind::Scan) {
        return;
    }
    let Some(roles) = roles(flat, vector) else { return };
    let known = |axis: usize| flat.extents[axis].known();
    let lanes = i64::from(lanes);
    // A panel's vectors: along the vector axis, or along the axis of columns just outside it.
    let outside = plan.order.iter().rev().nth(1).copied();
    let beside = outside.filter(|a| known(vector) == Some(lanes) && roles.columns.contains(a));
    let n_vectors = match beside {
        Some(axis) => known(axis),
        None => known(vector).map(|n| (n + lanes - 1) / lanes),
    };
    let by_position = |axis: usize| plan.order.iter().position(|&a| a == axis);
    let mut rows = roles.rows.clone();
    rows.sort_by_key(|&a| by_position(a));
    let inner = rows.pop();
    let outer = rows.pop().filter(|&a| known(a).is_some());
    let extent = |axis: Option<usize>| axis.map_or(1, |a| super::plan::estimate(flat, a).max(1));
    let terms = flat.axes_of(AxisKind::Reduce).iter().fold(1i64, |n, &a| n.saturating_mul(extent(Some(a))));
    let shape = Shape { rows: [extent(outer), extent(inner)], vectors: n_vectors.unwrap_or(8), terms };
    // A whole panel is one tile; columns of another kind may be cut.
    let is_panel =
        n_vectors.is_some_and(|n| n <= MAX_VECTORS && (beside.is_some() || known(vector) == Some(n * lanes)));
    if roles.rows.is_empty() && !is_panel {
        return;
    }
    let tile = best_tile(&shape, target, n_vectors.filter(|_| is_panel));
    plan.tile.fill(1);
    plan.tile[vector] = 1;
    let size = |n: i64| usize::try_from(n).unwrap_or(1);
    plan.tile[beside.unwrap_or(vector)] = size(tile.vectors);
    for (axis, n) in [(outer, tile.rows[0]), (inner, tile.rows[1])] {
        if let Some(axis) = axis {
            plan.tile[axis] = size(n);
        }
    }
    let Some(panel) = roles.columns.iter().copied().find(|&a| a != vector && Some(a) != beside) else { return };
    if is_panel {
        plan.prefetch = next_panel(flat, plan, target, &roles, [outer, inner], panel, tile);
    }
}

/// While rows pass over a panel, the next one is fetched bit by bit, so that memory is busy all the time.
fn next_panel(
    flat: &Flat,
    plan: &Plan,
    target: &ScheduleTarget,
    roles: &Roles,
    rows: [Option<usize>; 2],
    panel: usize,
    tile: Tile,
) -> Option<Prefetch> {
    let Expr::Load { buffer, dtype, .. } = *flat.exprs.get(roles.in_lanes) else { return None };
    let form = &flat.addresses[&roles.in_lanes];
    let (len, n_panels) = (flat.stride(form, panel)?, flat.extents[panel].known()?);
    let size = i64::try_from(dtype.size_bytes()).ok()?;
    let total_bytes = usize::try_from(len.checked_mul(n_panels)?.checked_mul(size)?).ok()?;
    if form.opaque().next().is_some() || len <= 0 || n_panels < 2 || total_bytes <= target.l2_bytes {
        return None;
    }
    // Rounds over rows, and by how many rounds an index along each axis of rows moves on.
    let count = |axis: Option<usize>, n: i64| {
        axis.map_or(Some(1), |a| flat.extents[a].known().map(|extent| (extent + n - 1) / n))
    };
    let n_inner = count(rows[1], tile.rows[1])?;
    let n_rounds = count(rows[0], tile.rows[0])? * n_inner;
    let is_alone = roles.rows.iter().all(|&a| rows.contains(&Some(a)));
    if !(2..=64).contains(&n_rounds) || !is_alone || plan.order.iter().any(|a| !is_role(roles, *a)) {
        return None;
    }
    let mut address = Linear::constant(form.constant + len);
    for (monomial, &coefficient) in &form.terms {
        let Some(Atom::Axis(axis)) = monomial.atom.filter(|_| monomial.vars.is_empty()) else { return None };
        let coefficient = match flat.kinds[axis] {
            AxisKind::Reduce => (coefficient / n_rounds).max(1),
            _ => coefficient,
        };
        address = address.plus(&Linear::atom(Atom::Axis(axis)), coefficient);
    }
    let share = len / n_rounds;
    for (axis, n) in [(rows[0], share * n_inner / tile.rows[0]), (rows[1], share / tile.rows[1])] {
        if let Some(axis) = axis {
            address = address.plus(&Linear::atom(Atom::Axis(axis)), n);
        }
    }
    let line = 64 / size;
    let step = flat.axes_of(AxisKind::Reduce).iter().filter_map(|&a| flat.stride(form, a)).filter(|&n| n > 0).min()?;
    let lines = (step + n_rounds * line - 1) / (n_rounds * line);
    Some(Prefetch { buffer, address, lines, line })
}

/// Whether an axis is one of rows or of columns, not of batches.
fn is_role(roles: &Roles, axis: usize) -> bool {
    roles.rows.contains(&axis) || roles.columns.contains(&axis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_registers_and_waste_little() {
        for (vector_bytes, n_registers) in [(64, 32), (32, 16), (16, 16)] {
            let target =
                ScheduleTarget { vector_bytes, n_registers, l1_bytes: 32 << 10, l2_bytes: 512 << 10, has_masks: true };
            for rows in [[1, 1], [1, 128], [7, 7], [56, 56], [1, 13]] {
                let tile = best_tile(&Shape { rows, vectors: 48, terms: 768 }, &target, None);
                let (r, c) = (tile.rows[0] * tile.rows[1], tile.vectors);
                // With one row, vectors are used once, straight from memory.
                let loaded = if r == 1 { 0 } else { c };
                assert!(r * c + loaded < i64::try_from(n_registers).unwrap(), "{rows:?}: {tile:?}");
                let enough = if rows == [1, 1] { 7 } else { 8 };
                assert!(r * c >= enough, "{rows:?}: {tile:?} leaves the units idle");
            }
        }
    }
}
