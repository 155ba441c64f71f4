//! Runs kernels, a block of points at a time.
//!
//! The points of the index space are taken in row-major order and cut into blocks: the outer axes fixed, a range of one
//! axis, the inner axes whole. Each expression is evaluated for a whole block as a [`Column`]; axes that are fixed in a block
//! give single values, and so does everything computed from them alone. Reductions fold the columns of their values into
//! states, and the stores run over the blocks' outer points. Every index is checked against the buffer's dims.

use super::column::{Column, Element, each};
use super::contraction;
use super::fold::State;
use super::math;
use crate::index::Id as _;
use crate::loops::{AxisKind, BufferId, Expr, ExprId, Exprs, Kernel, ReduceOp, Store, StoreMode, VarId};
use crate::types::DType;
use std::borrow::Cow;
use std::collections::HashMap;

/// Most points of a block.
const BLOCK_POINTS: i64 = 4096;

/// Where a buffer lies at the moment.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Place {
    /// Which memory.
    pub(super) storage: usize,
    /// First byte.
    pub(super) offset: usize,
    /// Element type.
    pub(super) dtype: DType,
    /// Extents.
    pub(super) dims: Vec<i64>,
}

/// What a kernel sees of the function it runs in.
pub(super) struct World<'a, 'm> {
    /// The buffers the kernel names.
    pub(super) places: HashMap<BufferId, Place>,
    /// The variables the kernel names, as single values.
    pub(super) vars: HashMap<VarId, Column>,
    /// All memory.
    pub(super) memory: &'a mut [Cow<'m, [u8]>],
}

/// A box of points: for each axis the first index and how many.
pub(super) struct Block {
    pub(super) start: Vec<i64>,
    pub(super) len: Vec<i64>,
}

impl Block {
    pub(super) fn points(&self) -> usize {
        usize::try_from(self.len.iter().product::<i64>()).unwrap_or(0)
    }

    /// The index along an axis at each point; single where the axis is fixed.
    fn axis(&self, axis: usize) -> Vec<i64> {
        let (start, len) = (self.start[axis], self.len[axis]);
        if len == 1 {
            return vec![start];
        }
        let inner: i64 = self.len[axis + 1..].iter().product();
        let outer: i64 = self.len[..axis].iter().product();
        let mut out = Vec::with_capacity(self.points());
        for _ in 0..outer {
            for index in start..start + len {
                out.extend(std::iter::repeat_n(index, usize::try_from(inner).unwrap_or(0)));
            }
        }
        out
    }

    /// The box of the first axes only.
    pub(super) fn outer(&self, axes: usize) -> Self {
        Self { start: self.start[..axes].to_vec(), len: self.len[..axes].to_vec() }
    }
}

/// Cuts the space of these extents into blocks of at most about `most` points, in row-major order.
pub(super) fn for_each_block(
    extents: &[i64],
    most: i64,
    mut run: impl FnMut(&Block) -> Result<(), String>,
) -> Result<(), String> {
    if extents.contains(&0) {
        return Ok(());
    }
    let (mut split, mut inner) = (extents.len(), 1i64);
    while split > 0 && inner.saturating_mul(extents[split - 1]) <= most {
        split -= 1;
        inner *= extents[split];
    }
    // Axes from `split` on are whole; the one before is cut into ranges.
    let mut block = Block { start: vec![0; extents.len()], len: vec![1; extents.len()] };
    block.len[split..].copy_from_slice(&extents[split..]);
    let step = (most / inner).max(1);
    loop {
        if split > 0 {
            block.len[split - 1] = step.min(extents[split - 1] - block.start[split - 1]);
        }
        run(&block)?;
        let mut axis = split;
        loop {
            if axis == 0 {
                return Ok(());
            }
            axis -= 1;
            block.start[axis] += block.len[axis];
            if block.start[axis] < extents[axis] {
                break;
            }
            block.start[axis] = 0;
        }
    }
}

/// The expressions that `roots` need, operands first.
pub(super) fn reachable(exprs: &Exprs, roots: impl Iterator<Item = ExprId>) -> Vec<ExprId> {
    let mut is_needed = vec![false; exprs.len()];
    for root in roots {
        is_needed[root.index()] = true;
    }
    for id in exprs.ids().rev() {
        if is_needed[id.index()] {
            for operand in Exprs::operands(exprs.get(id)) {
                is_needed[operand.index()] = true;
            }
        }
    }
    exprs.ids().filter(|id| is_needed[id.index()]).collect()
}

/// Runs one kernel whose axes have these extents.
pub(super) fn run(kernel: &Kernel, extents: &[i64], world: &mut World<'_, '_>) -> Result<(), String> {
    if contraction::run(kernel, extents, world)? {
        return Ok(());
    }
    run_general(kernel, extents, world)
}

/// The way that runs every kernel.
pub(super) fn run_general(kernel: &Kernel, extents: &[i64], world: &mut World<'_, '_>) -> Result<(), String> {
    let is_reduced = |kind| kind == AxisKind::Reduce;
    let n_outer = kernel.axes.iter().position(|axis| is_reduced(axis.kind)).unwrap_or(kernel.axes.len());
    let scan = kernel.axes[..n_outer].iter().position(|axis| axis.kind == AxisKind::Scan);
    let in_stores = |s: &Store| s.index.iter().copied().chain([s.value]).chain(s.guard).collect::<Vec<_>>();
    let reduced =
        reachable(&kernel.exprs, kernel.reductions.iter().flat_map(|r| std::iter::once(r.value).chain(r.payload)));
    let stored = reachable(&kernel.exprs, kernel.stores.iter().flat_map(in_stores));
    let mut states: Vec<State> = Vec::new();
    for r in &kernel.reductions {
        states.push(State::new(r.op, kernel.exprs.dtype(r.value))?);
    }
    // Where a point may see what an earlier one stored, points run one at a time.
    let is_serial = (kernel.is_ordered || scan.is_some()) && {
        let written: Vec<usize> = kernel.stores.iter().map(|s| world.places[&s.buffer].storage).collect();
        let loads = |id: ExprId| match kernel.exprs.get(id) {
            Expr::Load { buffer, .. } => written.contains(&world.places[buffer].storage),
            _ => false,
        };
        let is_twice = written.iter().enumerate().any(|(i, storage)| written[..i].contains(storage));
        is_twice || reduced.iter().chain(&stored).any(|&id| loads(id))
    };
    let mut values = Values::new(&kernel.exprs);
    let n_reduced: i64 = extents[n_outer..].iter().product();
    let has_reductions = !kernel.reductions.is_empty();
    if !has_reductions || n_reduced == 0 || n_reduced <= BLOCK_POINTS && !is_serial {
        // A block holds whole outer points.
        let most = if is_serial { 1 } else { (BLOCK_POINTS / n_reduced.max(1)).max(1) };
        return for_each_block(&extents[..n_outer], most, |outer| {
            if has_reductions {
                let mut block = outer.outer(n_outer);
                block.start.extend(extents[n_outer..].iter().map(|_| 0));
                block.len.extend(&extents[n_outer..]);
                values.evaluate(&reduced, &block, world)?;
                fold_block(kernel, &mut states, &mut values, outer, scan, block.points())?;
            }
            values.evaluate(&stored, outer, world)?;
            store_block(kernel, &values, outer, world)
        });
    }
    // Blocks within one outer point.
    for_each_block(&extents[..n_outer], 1, |outer| {
        if scan.is_none_or(|axis| outer.start[axis] == 0) {
            for state in &mut states {
                state.reset();
            }
        }
        for_each_block(&extents[n_outer..], BLOCK_POINTS, |inner| {
            let block = Block {
                start: outer.start.iter().chain(&inner.start).copied().collect(),
                len: outer.len.iter().chain(&inner.len).copied().collect(),
            };
            values.evaluate(&reduced, &block, world)?;
            let n = block.points();
            for (r, state) in kernel.reductions.iter().zip(&mut states) {
                let payload = r.payload.map(|p| values.expanded(p, n));
                state.fold(&values.expanded(r.value, n), payload.as_ref(), 0..n)?;
            }
            Ok(())
        })?;
        values.accs.clear();
        for state in &states {
            let mut out = state.column()?;
            state.push_to(&mut out)?;
            values.accs.push(out);
        }
        values.evaluate(&stored, outer, world)?;
        store_block(kernel, &values, outer, world)
    })
}

/// Folds the `n` values of a block that holds whole outer points; leaves one result a point in `accs`.
fn fold_block(
    kernel: &Kernel,
    states: &mut [State],
    values: &mut Values<'_>,
    outer: &Block,
    scan: Option<usize>,
    n: usize,
) -> Result<(), String> {
    let points = outer.points();
    let each = n / points.max(1);
    let scan_index = scan.map(|axis| outer.axis(axis));
    values.accs.clear();
    for (r, state) in kernel.reductions.iter().zip(states) {
        let column = values.expanded(r.value, n);
        let payload = r.payload.map(|p| values.expanded(p, n));
        let mut out = state.column()?;
        for point in 0..points {
            if scan_index.as_ref().is_none_or(|index| index[if index.len() == 1 { 0 } else { point }] == 0) {
                state.reset();
            }
            state.fold(&column, payload.as_ref(), point * each..(point + 1) * each)?;
            state.push_to(&mut out)?;
        }
        values.accs.push(out);
    }
    Ok(())
}

/// The columns of a kernel's expressions for the present block.
pub(super) struct Values<'k> {
    pub(super) exprs: &'k Exprs,
    pub(super) columns: Vec<Option<Column>>,
    /// Results of the reductions.
    pub(super) accs: Vec<Column>,
}

impl<'k> Values<'k> {
    /// Nothing evaluated yet.
    pub(super) fn new(exprs: &'k Exprs) -> Self {
        Self { exprs, columns: vec![None; exprs.len()], accs: Vec::new() }
    }

    /// The column of an expression evaluated before.
    pub(super) fn get(&self, id: ExprId) -> Result<&Column, String> {
        self.columns[id.index()].as_ref().ok_or_else(|| format!("expression {id} is used before it is evaluated"))
    }

    /// Its values, one for each of `n` points.
    fn expanded(&self, id: ExprId, n: usize) -> Column {
        let mut column = self.columns[id.index()].clone().unwrap_or(Column::I64(vec![0]));
        column.expand(n);
        column
    }

    /// Evaluates these expressions for a block.
    pub(super) fn evaluate(&mut self, ids: &[ExprId], block: &Block, world: &World<'_, '_>) -> Result<(), String> {
        for &id in ids {
            let column = match self.exprs.get(id) {
                Expr::Const(c) => {
                    if self.columns[id.index()].is_some() {
                        continue;
                    }
                    Column::constant(*c)?
                }
                Expr::Axis(axis) => Column::I64(block.axis(*axis)),
                Expr::Var(var, _) => world.vars[var].clone(),
                // Where there are no points nothing is read; the one value stands for none.
                Expr::Load { buffer, .. } if block.points() == 0 => {
                    Column::gather(world.places[buffer].dtype, &[0; 16], &[0])?
                }
                Expr::Load { buffer, index, guard, .. } => {
                    let place = &world.places[buffer];
                    let cond = guard.map(|g| self.get(g.cond)).transpose()?.map(Column::bools).transpose()?;
                    let other = guard.map(|g| self.get(g.other)).transpose()?;
                    let offsets = self.offsets(index, cond, place).map_err(|e| format!("load of {buffer}: {e}"))?;
                    load(place, &world.memory[place.storage], offsets, other)?
                }
                Expr::Unary(op, a) => self.get(*a)?.unary(*op)?,
                Expr::Binary(op, a, b) => self.get(*a)?.binary(*op, self.get(*b)?)?,
                Expr::Select(c, a, b) => Column::select(self.get(*c)?, self.get(*a)?, self.get(*b)?)?,
                Expr::Cast(dtype, a) => self.get(*a)?.cast(*dtype)?,
                Expr::Acc(number, _) => {
                    self.accs.get(*number).cloned().ok_or_else(|| format!("there is no reduction {number}"))?
                }
            };
            self.columns[id.index()] = Some(column);
        }
        Ok(())
    }

    /// The element offset of an index at each point; [`NOWHERE`] where the condition does not hold.
    fn offsets(&self, index: &[ExprId], cond: Option<&[bool]>, place: &Place) -> Result<Vec<usize>, String> {
        if index.len() != place.dims.len() {
            return Err(format!("{} indices for {} dimensions", index.len(), place.dims.len()));
        }
        let mut n = cond.map_or(1, <[bool]>::len);
        let mut columns = Vec::with_capacity(index.len());
        for &id in index {
            let column = self.get(id)?.ints()?;
            n = n.max(column.len());
            columns.push(column);
        }
        let is_on = |at: usize| cond.is_none_or(|c| c[if c.len() == 1 { 0 } else { at }]);
        let mut offsets = vec![0i64; n];
        for (dim, (column, &extent)) in columns.iter().zip(&place.dims).enumerate() {
            let outside = |at: usize, i: i64| {
                Err(format!("index {i} is outside dimension {dim} of size {extent} at point {at} of the block"))
            };
            if let [i] = **column {
                if !(0..extent).contains(&i)
                    && let Some(at) = (0..n).find(|&at| is_on(at))
                {
                    return outside(at, i);
                }
                for offset in &mut offsets {
                    *offset = offset.wrapping_mul(extent).wrapping_add(i);
                }
                continue;
            }
            let mut is_inside = true;
            for (offset, &i) in offsets.iter_mut().zip(*column) {
                is_inside &= (0..extent).contains(&i);
                *offset = offset.wrapping_mul(extent).wrapping_add(i);
            }
            if !is_inside {
                let bad = column.iter().enumerate().find(|&(at, i)| is_on(at) && !(0..extent).contains(i));
                if let Some((at, &i)) = bad {
                    return outside(at, i);
                }
            }
        }
        let to_usize = |(at, offset): (usize, i64)| {
            if is_on(at) { usize::try_from(offset).unwrap_or(NOWHERE) } else { NOWHERE }
        };
        Ok(offsets.into_iter().enumerate().map(to_usize).collect())
    }
}

/// The offset of an element that is not touched.
const NOWHERE: usize = usize::MAX;

/// The elements at these offsets, and `other` where there is none.
fn load(place: &Place, memory: &[u8], offsets: Vec<usize>, other: Option<&Column>) -> Result<Column, String> {
    fn guarded<T: Element>(bytes: &[u8], offsets: &[usize], other: &[T]) -> Vec<T> {
        let step = usize::from(other.len() > 1);
        let read = |(at, &offset): (usize, &usize)| match offset {
            NOWHERE => other[at * step],
            _ => T::read(&bytes[offset * T::SIZE..(offset + 1) * T::SIZE]),
        };
        offsets.iter().enumerate().map(read).collect()
    }
    let bytes = &memory[place.offset..];
    let Some(other) = other else { return Column::gather(place.dtype, bytes, &offsets) };
    if !offsets.contains(&NOWHERE) {
        return Column::gather(place.dtype, bytes, &offsets);
    }
    if std::mem::discriminant(other) != std::mem::discriminant(&Column::empty(place.dtype)?) {
        return Err(format!("a guarded load of {} gives another type where the guard fails", place.dtype));
    }
    let mut offsets = offsets;
    if offsets.len() == 1 && other.len() > 1 {
        offsets = vec![offsets[0]; other.len()];
    }
    Ok(super::column::map_each!(other, v => guarded(bytes, &offsets, v)))
}

/// Runs the stores for the outer points of a block.
pub(super) fn store_block(
    kernel: &Kernel,
    values: &Values<'_>,
    outer: &Block,
    world: &mut World<'_, '_>,
) -> Result<(), String> {
    let n = outer.points();
    for store in &kernel.stores {
        let place = world.places[&store.buffer].clone();
        let cond = store.guard.map(|g| values.get(g)).transpose()?.map(Column::bools).transpose()?;
        let mut offsets =
            values.offsets(&store.index, cond, &place).map_err(|e| format!("store to {}: {e}", store.buffer))?;
        if offsets.len() == 1 && n > 1 {
            offsets = vec![offsets[0]; n];
        }
        let value = values.get(store.value)?;
        if std::mem::discriminant(value) != std::mem::discriminant(&Column::empty(place.dtype)?) {
            return Err(format!("store to {}: the value is not of type {}", store.buffer, place.dtype));
        }
        let bytes = &mut world.memory[place.storage].to_mut()[place.offset..];
        match store.mode {
            StoreMode::Set => each!(value, v => set(bytes, &offsets, v)),
            StoreMode::Combine(op) => combine(bytes, &offsets, value, op)?,
        }
    }
    Ok(())
}

fn set<T: Element>(bytes: &mut [u8], offsets: &[usize], values: &[T]) {
    let step = usize::from(values.len() > 1);
    for (at, &offset) in offsets.iter().enumerate() {
        if offset != NOWHERE {
            values[at * step].write(&mut bytes[offset * T::SIZE..(offset + 1) * T::SIZE]);
        }
    }
}

/// Combines values with the elements that are there, one point after another.
fn combine(bytes: &mut [u8], offsets: &[usize], value: &Column, op: ReduceOp) -> Result<(), String> {
    fn run<T: Element>(bytes: &mut [u8], offsets: &[usize], values: &[T], f: impl Fn(T, T) -> T) {
        let step = usize::from(values.len() > 1);
        for (at, &offset) in offsets.iter().enumerate() {
            if offset != NOWHERE {
                let element = &mut bytes[offset * T::SIZE..(offset + 1) * T::SIZE];
                f(T::read(element), values[at * step]).write(element);
            }
        }
    }
    let wrong = || Err(format!("a store cannot combine by {op:?}"));
    macro_rules! ints {
        ($v:ident, $t:ty) => {
            match op {
                ReduceOp::Sum => run(bytes, offsets, $v, <$t>::wrapping_add),
                ReduceOp::Prod => run(bytes, offsets, $v, <$t>::wrapping_mul),
                ReduceOp::Max => run(bytes, offsets, $v, |a, b| a.max(b)),
                ReduceOp::Min => run(bytes, offsets, $v, |a, b| a.min(b)),
                ReduceOp::And => run(bytes, offsets, $v, |a, b| a & b),
                ReduceOp::Or => run(bytes, offsets, $v, |a, b| a | b),
                ReduceOp::ArgMax | ReduceOp::ArgMin => return wrong(),
            }
        };
    }
    macro_rules! floats {
        ($v:ident, $in:expr, $out:expr) => {{
            let (from, to) = ($in, $out);
            match op {
                ReduceOp::Sum => run(bytes, offsets, $v, |a, b| to(from(a) + from(b))),
                ReduceOp::Prod => run(bytes, offsets, $v, |a, b| to(from(a) * from(b))),
                ReduceOp::Max => {
                    run(bytes, offsets, $v, |a, b| if from(a) > from(b) || from(a).is_nan() { a } else { b })
                }
                ReduceOp::Min => {
                    run(bytes, offsets, $v, |a, b| if from(a) < from(b) || from(a).is_nan() { a } else { b })
                }
                ReduceOp::And | ReduceOp::Or | ReduceOp::ArgMax | ReduceOp::ArgMin => return wrong(),
            }
        }};
    }
    match value {
        Column::Bool(v) => match op {
            ReduceOp::And | ReduceOp::Min | ReduceOp::Prod => run(bytes, offsets, v, |a, b| a & b),
            ReduceOp::Or | ReduceOp::Max | ReduceOp::Sum => run(bytes, offsets, v, |a, b| a | b),
            ReduceOp::ArgMax | ReduceOp::ArgMin => return wrong(),
        },
        Column::U8(v) => ints!(v, u8),
        Column::I8(v) => ints!(v, i8),
        Column::I16(v) => ints!(v, i16),
        Column::I32(v) => ints!(v, i32),
        Column::I64(v) => ints!(v, i64),
        Column::U16(v) => ints!(v, u16),
        Column::U32(v) => ints!(v, u32),
        Column::U64(v) => ints!(v, u64),
        Column::F32(v) => floats!(v, |x: f32| x, |x: f32| x),
        Column::F64(v) => floats!(v, |x: f64| x, |x: f64| x),
        Column::F16(v) => floats!(v, math::f16_to_f32, math::f32_to_f16),
        Column::BF16(v) => floats!(v, math::bf16_to_f32, math::f32_to_bf16),
        Column::C64(v) if op == ReduceOp::Sum => run(bytes, offsets, v, |a, b| [a[0] + b[0], a[1] + b[1]]),
        Column::C128(v) if op == ReduceOp::Sum => run(bytes, offsets, v, |a, b| [a[0] + b[0], a[1] + b[1]]),
        Column::C64(_) | Column::C128(_) => return wrong(),
    }
    Ok(())
}
