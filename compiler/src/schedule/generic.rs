//! Any kernel as a nest, by a [`Plan`]: parallel loops outside, then the scan, then reduced loops around a tile of points.
//!
//! The order in which an element's terms are added depends on the plan only, never on the number of threads.

use super::flat::{Flat, combine};
use super::linear::Extent;
use super::nest_builder::{LoopSpec, NestBuilder, int, neutral};
use super::plan::Plan;
use crate::loops::nest::{Nest, NestStmt, Op, Reg, RegType, Val};
use crate::loops::{AxisKind, BinaryOp, BufferId, Const, Function, ReduceOp, UnaryOp, VarId};
use crate::types::DType;

/// The nest for a kernel, with its buffers and scalar parameters.
pub(crate) fn build(function: &Function, flat: &Flat, plan: &Plan, name: &str) -> (Nest, Vec<BufferId>, Vec<VarId>) {
    let n_axes = flat.kinds.len();
    let builder = NestBuilder::new(function, flat, name);
    let mut writer = Writer { builder, flat, plan, copies: vec![1; n_axes], accs: Vec::new() };
    writer.parallel_loops();
    writer.builder.finish(plan.cost)
}

/// A kernel of a row group.
pub(crate) struct Part<'a> {
    /// The kernel.
    pub(crate) flat: &'a Flat,
    /// How a row of it is run.
    pub(crate) plan: &'a Plan,
    /// Its axes of rows, the outermost first.
    pub(crate) rows: &'a [usize],
}

/// The nest for kernels that take each of `n_rows` rows after one another; `locals` are buffers that hold one row each.
pub(crate) fn build_rows(
    function: &Function,
    parts: &[Part<'_>],
    n_rows: i64,
    locals: &[(BufferId, usize)],
    name: &str,
    parallel: bool,
) -> (Nest, Vec<BufferId>, Vec<VarId>) {
    let first = &parts[0];
    let mut builder = NestBuilder::new(function, first.flat, name);
    builder.set_locals(locals);
    let mut writer = Writer { builder, flat: first.flat, plan: first.plan, copies: Vec::new(), accs: Vec::new() };
    let spec = LoopSpec { begin: int(0), end: int(n_rows), step: 1, parallel, may_be_empty: false };
    let row = writer.builder.open_loop(&spec);
    for part in parts {
        (writer.flat, writer.plan) = (part.flat, part.plan);
        writer.copies = vec![1; part.flat.kinds.len()];
        writer.builder.switch(part.flat);
        writer.set_joined(part.rows, row);
        writer.parallel_loop(0);
    }
    writer.builder.close();
    writer.builder.finish(parts.iter().map(|part| part.plan.cost).sum())
}

/// A stretch of an axis that is run in one way.
struct Segment {
    begin: Val,
    end: Val,
    step: i64,
    /// Whether it is exactly one round, so that no loop is needed.
    is_single: bool,
    may_be_empty: bool,
    /// Points or vectors worked on together.
    copies: usize,
    lanes: u16,
    /// Whether only the points before `bound` are there.
    bound: Option<Val>,
}

/// Accumulators of one reduction at one point of the tile.
struct Acc {
    /// One for each copy along a reduced vector axis.
    main: Vec<Reg>,
    /// For the scalar end of a reduced vector axis.
    rest: Option<Reg>,
    /// For arg reductions: the payload, and whether there was a point.
    arg: Option<(Reg, Reg)>,
}

struct Writer<'a> {
    builder: NestBuilder<'a>,
    flat: &'a Flat,
    plan: &'a Plan,
    /// Copies along each axis in the current segments.
    copies: Vec<usize>,
    /// By reduction, then by point of the tile.
    accs: Vec<Vec<Acc>>,
}

/// Elements of a chunk when the only loop is cut for threads; fixed, so that results do not depend on their number.
const CHUNK: i64 = 8192;

impl Writer<'_> {
    fn parallel_loops(&mut self) {
        let order = &self.plan.order;
        if !self.plan.parallel {
            self.parallel_loop(0);
            return;
        }
        // Leading loops without tiles are run as one, so that there are enough rounds to share.
        let is_plain = |&a: &usize| self.plan.tile[a] == 1 && self.plan.vector.is_none_or(|(v, _)| v != a);
        let n_plain = order.iter().take_while(|a| is_plain(a)).count();
        let mut n_joined = 0;
        let mut rounds = Some(1i64);
        while n_joined < n_plain && rounds.is_none_or(|n| n < 64) {
            rounds = rounds.and_then(|n| n.checked_mul(self.flat.extents[order[n_joined]].known()?));
            n_joined += 1;
        }
        if n_joined == 0 {
            self.parallel_chunks();
            return;
        }
        let joined = order[..n_joined].to_vec();
        let total = joined.iter().fold(Extent::ONE, |n, &a| n.times(&self.flat.extents[a]));
        let end = self.builder.extent(&total);
        let may_be_empty = total.known().is_none();
        let spec = LoopSpec { begin: int(0), end, step: 1, parallel: true, may_be_empty };
        let index = self.builder.open_loop(&spec);
        self.set_joined(&joined, index);
        self.parallel_loop(n_joined);
        self.builder.close();
    }

    /// Gives each of these axes its part of an index over all of them.
    fn set_joined(&mut self, axes: &[usize], mut index: Val) {
        for (number, &axis) in axes.iter().enumerate().rev() {
            if number == 0 {
                self.builder.set_axis(axis, index);
                break;
            }
            let extent = self.builder.extent(&self.flat.extents[axis]);
            let inner = self.builder.index_op(BinaryOp::Rem, index, extent);
            self.builder.set_axis(axis, inner);
            index = self.builder.index_op(BinaryOp::Div, index, extent);
        }
    }

    /// The outermost axis is tiled or in lanes: threads take fixed chunks of it.
    fn parallel_chunks(&mut self) {
        let axis = self.plan.order[0];
        let (lanes, copies) = (self.lanes(axis), i64::try_from(self.plan.tile[axis]).expect("tiles are small"));
        let unit = i64::from(lanes) * copies;
        // As many rounds as make a chunk's work worth handing out, in whole tiles.
        let inner: i64 = self.plan.order[1..].iter().map(|&a| super::plan::estimate(self.flat, a).max(1)).product();
        let reduced = self.flat.axes_of(AxisKind::Reduce);
        let inner: i64 =
            reduced.iter().map(|&a| super::plan::estimate(self.flat, a).max(1)).fold(inner, i64::saturating_mul);
        let chunk = (CHUNK / inner.max(1)).div_euclid(unit).max(1) * unit;
        let extent = self.flat.extents[axis].clone();
        if let Some(n) = extent.known() {
            let whole = n / chunk * chunk;
            if whole > 0 {
                let spec =
                    LoopSpec { begin: int(0), end: int(whole), step: chunk, parallel: true, may_be_empty: false };
                let base = self.builder.open_loop(&spec);
                self.segments_of(0, base, &Extent { factor: chunk, vars: Vec::new() });
                self.builder.close();
            }
            if n > whole {
                self.segments_of(0, int(whole), &Extent { factor: n - whole, vars: Vec::new() });
            }
            return;
        }
        let end = self.builder.extent(&extent);
        let spec = LoopSpec { begin: int(0), end, step: chunk, parallel: true, may_be_empty: true };
        let base = self.builder.open_loop(&spec);
        let limit = self.builder.index_op(BinaryOp::Add, base, int(chunk));
        let limit = self.builder.index_op(BinaryOp::Min, limit, end);
        let segments = self.dynamic_segments(axis, base, limit);
        self.run_segments(0, &segments);
        self.builder.close();
    }

    fn lanes(&self, axis: usize) -> u16 {
        match self.plan.vector {
            Some((v, lanes)) if v == axis => lanes,
            _ => 1,
        }
    }

    fn parallel_loop(&mut self, depth: usize) {
        match self.plan.order.get(depth) {
            None => self.point(),
            Some(&axis) => self.segments_of(depth, int(0), &self.flat.extents[axis].clone()),
        }
    }

    fn segments_of(&mut self, depth: usize, base: Val, extent: &Extent) {
        let axis = self.plan.order[depth];
        let segments = self.segments(axis, base, extent);
        self.run_segments(depth, &segments);
    }

    fn run_segments(&mut self, depth: usize, segments: &[Segment]) {
        let axis = self.plan.order[depth];
        for segment in segments {
            self.open_segment(axis, segment);
            self.parallel_loop(depth + 1);
            self.close_segment(axis);
        }
    }

    /// Cuts `base .. base + extent` into whole tiles, whole vectors, and the rest.
    fn segments(&mut self, axis: usize, base: Val, extent: &Extent) -> Vec<Segment> {
        let Some(n) = extent.known() else {
            let len = self.builder.extent(extent);
            let end = self.builder.index_op(BinaryOp::Add, base, len);
            return self.dynamic_segments(axis, base, end);
        };
        let (lanes, copies) = (self.lanes(axis), self.plan.tile[axis]);
        let unit = i64::from(lanes);
        let mut segments = Vec::new();
        let mut at = 0;
        let mut add =
            |builder: &mut NestBuilder<'_>, len: i64, step: i64, copies: usize, lanes: u16, is_masked: bool| {
                let begin = builder.index_op(BinaryOp::Add, base, int(at));
                let end = builder.index_op(BinaryOp::Add, base, int(at + len));
                let bound = is_masked.then_some(end);
                let is_single = len <= step;
                segments.push(Segment { begin, end, step, is_single, may_be_empty: false, copies, lanes, bound });
                at += len;
            };
        let tile = unit * i64::try_from(copies).expect("tiles are small");
        let builder = &mut self.builder;
        if n >= tile {
            add(builder, n / tile * tile, tile, copies, lanes, false);
        }
        let rest = n % tile;
        if rest >= unit {
            let n_vectors = rest / unit;
            add(builder, n_vectors * unit, n_vectors * unit, usize::try_from(n_vectors).unwrap_or(1), lanes, false);
        }
        let mut rest = rest % unit;
        if rest > 0 && self.plan.may_mask {
            let narrow = u64::try_from(rest).unwrap_or(1).next_power_of_two();
            // A reduction's accumulators have one width.
            let is_reduced = self.flat.kinds[axis] == AxisKind::Reduce;
            let narrow = if is_reduced { lanes } else { u16::try_from(narrow).unwrap_or(lanes).min(lanes) };
            add(builder, rest, i64::from(narrow), 1, narrow, narrow > 1 && i64::from(narrow) != rest);
        } else {
            let is_reduced = self.flat.kinds[axis] == AxisKind::Reduce;
            // Exact narrower vectors; a reduction's accumulators have one width, so its end is scalar.
            let mut narrow = if is_reduced { 1 } else { lanes / 2 };
            while rest > 0 {
                let width = i64::from(narrow.max(1));
                if rest >= width {
                    add(builder, rest / width * width, width, 1, narrow.max(1), false);
                    rest %= width;
                }
                narrow /= 2;
            }
        }
        segments
    }

    fn dynamic_segments(&mut self, axis: usize, begin: Val, end: Val) -> Vec<Segment> {
        let (lanes, copies) = (self.lanes(axis), self.plan.tile[axis]);
        let mut segments = Vec::new();
        let mut begin = begin;
        let len = self.builder.index_op(BinaryOp::Sub, end, begin);
        let start = begin;
        let mut widths = vec![(lanes, copies), (lanes, 1), (1, 1)];
        widths.dedup();
        for (lanes, copies) in widths {
            let is_last = lanes == 1 && copies == 1;
            let step = i64::from(lanes) * i64::try_from(copies).expect("tiles are small");
            let until = if is_last {
                end
            } else {
                let rest = self.builder.index_op(BinaryOp::Rem, len, int(step));
                let whole = self.builder.index_op(BinaryOp::Sub, len, rest);
                self.builder.index_op(BinaryOp::Add, start, whole)
            };
            let (is_single, may_be_empty) = (false, true);
            segments.push(Segment { begin, end: until, step, is_single, may_be_empty, copies, lanes, bound: None });
            begin = until;
        }
        segments
    }

    fn open_segment(&mut self, axis: usize, segment: &Segment) {
        let Segment { begin, end, step, is_single, may_be_empty, copies, lanes, bound } = *segment;
        let counter = if is_single {
            self.builder.open_scope();
            begin
        } else {
            self.builder.open_loop(&LoopSpec { begin, end, step, parallel: false, may_be_empty })
        };
        self.builder.set_axis(axis, counter);
        self.copies[axis] = copies;
        if lanes > 1 {
            self.builder.vector = Some((axis, lanes));
            self.builder.mask = bound.map(|bound| {
                let left = self.builder.index_op(BinaryOp::Sub, bound, counter);
                let lane = self.builder.emit(RegType { dtype: DType::I64, lanes }, Op::Iota(int(0)), 0);
                self.builder.binary(BinaryOp::Lt, lane, left)
            });
        }
    }

    fn close_segment(&mut self, axis: usize) {
        self.builder.close();
        self.copies[axis] = 1;
        if self.builder.vector.is_some_and(|(v, _)| v == axis) {
            self.builder.vector = None;
            self.builder.mask = None;
        }
    }

    /// The points of the current tile over axes of these kinds: what to add to the counters.
    fn points(&self, is_wanted: impl Fn(AxisKind) -> bool) -> Vec<Vec<i64>> {
        let mut points = vec![vec![0; self.copies.len()]];
        for (axis, &copies) in self.copies.iter().enumerate() {
            if copies == 1 || !is_wanted(self.flat.kinds[axis]) {
                continue;
            }
            let unit = match self.builder.vector {
                Some((v, lanes)) if v == axis => i64::from(lanes),
                _ => 1,
            };
            let spread = points.into_iter().flat_map(|point| {
                (0..copies).map(move |copy| {
                    let mut point = point.clone();
                    point[axis] = i64::try_from(copy).expect("tiles are small") * unit;
                    point
                })
            });
            points = spread.collect();
        }
        points
    }

    /// Reductions and stores for one tile of parallel points.
    fn point(&mut self) {
        let tile = self.points(|kind| kind != AxisKind::Reduce);
        self.start_reductions(tile.len());
        let scan = self.flat.axes_of(AxisKind::Scan).first().copied();
        if let Some(axis) = scan {
            let extent = self.flat.extents[axis].clone();
            let segment = &self.segments(axis, int(0), &extent)[0];
            self.open_segment(axis, segment);
        }
        let reduced = self.flat.axes_of(AxisKind::Reduce);
        if !self.flat.reductions.is_empty() && reduced.iter().all(|&a| self.flat.extents[a].known() != Some(0)) {
            self.reduced_loop(&reduced, &tile);
        }
        self.finish_reductions(&tile);
        let flat = self.flat;
        for point in tile {
            self.builder.pos.clone_from(&point);
            for store in &flat.stores {
                self.builder.store(store);
            }
        }
        self.builder.pos.fill(0);
        if let Some(axis) = scan {
            self.close_segment(axis);
        }
        self.accs.clear();
        self.builder.accs.clear();
    }

    fn start_reductions(&mut self, n_points: usize) {
        let flat = self.flat;
        for reduction in &flat.reductions {
            let dtype = flat.exprs.dtype(reduction.value);
            let start = neutral(reduction.op, dtype);
            let is_arg = matches!(reduction.op, ReduceOp::ArgMax | ReduceOp::ArgMin);
            let mut accs = Vec::new();
            for _ in 0..n_points {
                let reduced_lanes = self.plan.vector.filter(|&(v, _)| flat.kinds[v] == AxisKind::Reduce);
                let lanes = reduced_lanes.or(self.builder.vector).map_or(1, |(_, lanes)| lanes);
                let n_main = reduced_lanes.map_or(1, |(axis, _)| self.plan.tile[axis]);
                let ty = RegType { dtype, lanes };
                let main = (0..n_main).map(|_| self.start(ty, start)).collect();
                let rest = reduced_lanes.map(|_| self.start(RegType::scalar(dtype), start));
                let arg = is_arg.then(|| {
                    let payload = self.start(RegType { dtype: DType::I64, lanes }, Const::int(0));
                    (payload, self.start(RegType::scalar(DType::Bool), Const::bool(false)))
                });
                accs.push(Acc { main, rest, arg });
            }
            self.accs.push(accs);
        }
    }

    /// A new register that starts as a constant.
    fn start(&mut self, ty: RegType, value: Const) -> Reg {
        let reg = self.builder.new_reg(ty);
        self.set(reg, Op::Copy(Val::Const(value)));
        reg
    }

    fn set(&mut self, reg: Reg, op: Op) {
        self.builder.push(NestStmt::Set(reg, op));
    }

    /// A new register with the result of an operation, computed exactly here.
    fn compute(&mut self, ty: RegType, op: Op) -> Reg {
        let reg = self.builder.new_reg(ty);
        self.set(reg, op);
        reg
    }

    fn reduced_loop(&mut self, axes: &[usize], tile: &[Vec<i64>]) {
        let Some((&axis, inner)) = axes.split_first() else {
            self.take_in(tile);
            return;
        };
        let extent = self.flat.extents[axis].clone();
        for segment in &self.segments(axis, int(0), &extent) {
            self.open_segment(axis, segment);
            self.reduced_loop(inner, tile);
            self.close_segment(axis);
        }
    }

    /// Adds the values of the current tile to the accumulators.
    fn take_in(&mut self, tile: &[Vec<i64>]) {
        let flat = self.flat;
        let copies = self.points(|kind| kind == AxisKind::Reduce);
        let in_lanes = self.builder.vector.is_some_and(|(v, _)| flat.kinds[v] == AxisKind::Reduce);
        for (copy, shift) in copies.iter().enumerate() {
            for (number, point) in tile.iter().enumerate() {
                self.builder.pos = point.iter().zip(shift).map(|(p, s)| p + s).collect();
                for (r, reduction) in flat.reductions.iter().enumerate() {
                    let acc = &self.accs[r][number];
                    let is_end = acc.rest.is_some() && !in_lanes;
                    let target = if is_end { acc.rest.unwrap_or(acc.main[0]) } else { acc.main[copy % acc.main.len()] };
                    let arg = acc.arg;
                    match (reduction.payload, arg) {
                        (Some(payload), Some(arg)) => {
                            let (value, payload) = (self.builder.eval(reduction.value), self.builder.eval(payload));
                            self.take_arg(reduction.op, target, arg, value, payload);
                        }
                        _ => self.take(reduction.op, target, reduction.value, in_lanes),
                    }
                }
            }
        }
        self.builder.pos.fill(0);
        if let Some(prefetch) = &self.plan.prefetch {
            self.builder.prefetch(prefetch);
        }
    }

    fn take(&mut self, op: ReduceOp, target: Reg, id: crate::loops::ExprId, in_lanes: bool) {
        let (mask, acc) = (self.builder.mask.filter(|_| in_lanes), Val::Reg(target));
        if op == ReduceOp::Sum
            && mask.is_none()
            && let Some((a, b)) = self.builder.as_product(id)
        {
            let (a, b) = (self.builder.eval(a), self.builder.eval(b));
            self.set(target, Op::Fma(a, b, acc));
            return;
        }
        let mut value = self.builder.eval(id);
        if let Some(mask) = mask {
            let dtype = self.flat.exprs.dtype(id);
            value = self.builder.select(mask, value, Val::Const(neutral(op, dtype)));
        }
        self.set(target, Op::Binary(combine(op), acc, value));
    }

    /// A point replaces the best so far if it is the first, better, or the first NaN.
    fn take_arg(&mut self, op: ReduceOp, best: Reg, (payload, any): (Reg, Reg), value: Val, new_payload: Val) {
        let ty = self.builder.ty(Val::Reg(best));
        let bools = RegType { dtype: DType::Bool, lanes: ty.lanes };
        let order = if op == ReduceOp::ArgMax { BinaryOp::Gt } else { BinaryOp::Lt };
        let mut wins = self.compute(bools, Op::Binary(order, value, Val::Reg(best)));
        if ty.dtype.is_floating_point() {
            let is_nan = self.compute(bools, Op::Unary(UnaryOp::IsNan, value));
            let was_nan = self.compute(bools, Op::Unary(UnaryOp::IsNan, Val::Reg(best)));
            let not_yet = self.compute(bools, Op::Unary(UnaryOp::Not, Val::Reg(was_nan)));
            let first_nan = self.compute(bools, Op::Binary(BinaryOp::And, Val::Reg(is_nan), Val::Reg(not_yet)));
            wins = self.compute(bools, Op::Binary(BinaryOp::Or, Val::Reg(wins), Val::Reg(first_nan)));
        }
        let is_first = self.compute(RegType::scalar(DType::Bool), Op::Unary(UnaryOp::Not, Val::Reg(any)));
        wins = self.compute(bools, Op::Binary(BinaryOp::Or, Val::Reg(wins), Val::Reg(is_first)));
        self.set(best, Op::Select(Val::Reg(wins), value, Val::Reg(best)));
        self.set(payload, Op::Select(Val::Reg(wins), new_payload, Val::Reg(payload)));
        self.set(any, Op::Copy(Val::Const(Const::bool(true))));
    }

    /// Puts accumulators together and makes the results known to the stores.
    fn finish_reductions(&mut self, tile: &[Vec<i64>]) {
        let flat = self.flat;
        for (r, reduction) in flat.reductions.iter().enumerate() {
            for (number, point) in tile.iter().enumerate() {
                let acc = &self.accs[r][number];
                let (main, rest, arg) = (acc.main.clone(), acc.rest, acc.arg);
                let ty = self.builder.ty(Val::Reg(main[0]));
                let source = arg.map_or(main[0], |(payload, _)| payload);
                let source_ty = self.builder.ty(Val::Reg(source));
                let mut result = self.compute(source_ty, Op::Copy(Val::Reg(source)));
                let op = combine(reduction.op);
                for &other in &main[1..] {
                    result = self.compute(ty, Op::Binary(op, Val::Reg(result), Val::Reg(other)));
                }
                if let Some(rest) = rest {
                    let scalar = RegType::scalar(ty.dtype);
                    result = self.compute(scalar, Op::Horizontal(reduction.op, result));
                    result = self.compute(scalar, Op::Binary(op, Val::Reg(result), Val::Reg(rest)));
                }
                self.builder.accs.insert((r, point.clone()), Val::Reg(result));
            }
        }
    }
}
