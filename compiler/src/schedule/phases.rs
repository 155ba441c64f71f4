//! Transposed convolutions by phases: results whose taps fall on input points together are one plain convolution.
//!
//! A transposed convolution of stride `s` sums only over taps for which `position - tap` is a multiple of `s`. Results at
//! positions of equal remainder use the same taps, so each remainder (for each dimension) becomes a kernel of its own with a
//! part of the weights and without the test.

use super::contraction::{Rewrite, forms, is_bounds_check, known_dims};
use super::fuse::rebuilt;
use super::linear::{Atom, Linear};
use crate::diag::{self, Diagnostic};
use crate::index::IndexVec;
use crate::loops::{
    AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Guard, Kernel,
    Layout, Program, Stmt, Weight, WeightId,
};
use crate::types::TensorData;
use std::collections::HashMap;
use std::sync::Arc;

/// Most kernels that one becomes.
const MAX_PHASES: i64 = 64;

/// Part of a weight: which, and for each dimension the first element and the step.
type Key = (WeightId, Vec<(i64, i64)>);

/// Cuts the transposed convolutions of the program.
pub(crate) fn cut(program: &mut Program) -> diag::Result<()> {
    let mut known = HashMap::new();
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        let mut cutter = Cutter { function, weights: &mut program.weights, known: &mut known };
        cutter.block(&mut body)?;
        function.body = body;
    }
    Ok(())
}

struct Cutter<'a> {
    function: &'a mut Function,
    weights: &'a mut IndexVec<WeightId, Weight>,
    known: &'a mut HashMap<Key, WeightId>,
}

/// A dimension of the input that is read at `(position - tap + constant) / stride`.
#[derive(Clone, Copy, Debug)]
struct Spread {
    /// The dimension of the input.
    dim: usize,
    /// The axis of results, its extent.
    position: usize,
    n_positions: i64,
    /// The axis of taps, its extent, the weight's dimension along it.
    tap: usize,
    n_taps: i64,
    weight_dim: usize,
    constant: i64,
    stride: i64,
}

impl Spread {
    /// The first tap of a phase.
    fn first_tap(&self, phase: i64) -> i64 {
        (phase + self.constant).rem_euclid(self.stride)
    }

    /// How many taps a phase has.
    fn taps(&self, phase: i64) -> i64 {
        (self.n_taps - self.first_tap(phase) + self.stride - 1).div_euclid(self.stride)
    }

    /// How many positions a phase has.
    fn positions(&self, phase: i64) -> i64 {
        (self.n_positions - phase + self.stride - 1).div_euclid(self.stride)
    }
}

/// A transposed convolution.
struct Found {
    data: ExprId,
    weight_buffer: BufferId,
    weight: WeightId,
    weight_dims: Vec<i64>,
    data_dims: Vec<i64>,
    spreads: Vec<Spread>,
    /// Other dimensions of the input whose bounds are tested.
    tested: Vec<usize>,
}

impl Rewrite for Cutter<'_> {
    type Found = Found;

    fn find(&self, kernel: &Kernel, data: ExprId, weight: ExprId) -> Option<Found> {
        let Expr::Load { buffer: w, index: w_index, guard: None, .. } = kernel.exprs.get(weight) else { return None };
        let BufferClass::Weight(weight) = self.function.buffers[*w].class else { return None };
        let weight_dims = known_dims(self.function, *w)?;
        let Expr::Load { buffer, index, guard: Some(guard), .. } = kernel.exprs.get(data) else { return None };
        let data_dims = known_dims(self.function, *buffer)?;
        kernel.exprs.constant(guard.other).filter(|c| c.bits == 0)?;
        let mut forms = forms(kernel);
        let index_forms: Vec<Linear> = index.iter().map(|&i| forms.form(i)).collect();
        let mut conditions = Vec::new();
        let mut stack = vec![guard.cond];
        while let Some(cond) = stack.pop() {
            match *kernel.exprs.get(cond) {
                Expr::Binary(BinaryOp::And, a, b) => stack.extend([b, a]),
                _ => conditions.push(cond),
            }
        }
        let mut spreads = Vec::new();
        for cond in conditions {
            let Expr::Binary(BinaryOp::Eq, left, zero) = *kernel.exprs.get(cond) else {
                if is_bounds_check(kernel, &mut forms, cond, &index_forms, &data_dims) {
                    continue;
                }
                return None;
            };
            kernel.exprs.constant(zero).filter(|c| c.bits == 0)?;
            let Expr::Binary(BinaryOp::FloorMod, point, by) = *kernel.exprs.get(left) else { return None };
            let stride = kernel.exprs.constant(by)?.as_i64();
            let is_source = |i: ExprId| *kernel.exprs.get(i) == Expr::Binary(BinaryOp::FloorDiv, point, by);
            let dim = index.iter().position(|&i| is_source(i))?;
            let form = forms.form(point);
            let (mut position, mut tap) = (None, None);
            for (monomial, &coefficient) in &form.terms {
                let Some(Atom::Axis(axis)) = monomial.atom.filter(|_| monomial.vars.is_empty()) else { return None };
                match (coefficient, kernel.axes[axis].kind) {
                    (1, AxisKind::Parallel) if position.is_none() => position = Some(axis),
                    (-1, AxisKind::Reduce) if tap.is_none() => tap = Some(axis),
                    _ => return None,
                }
            }
            let (position, tap) = (position?, tap?);
            let weight_dim = w_index.iter().position(|&i| *kernel.exprs.get(i) == Expr::Axis(tap))?;
            let (n_positions, n_taps) = (kernel.axes[position].extent.known()?, kernel.axes[tap].extent.known()?);
            let constant = form.constant;
            spreads.push(Spread { dim, position, n_positions, tap, n_taps, weight_dim, constant, stride });
        }
        let n_phases = spreads.iter().try_fold(1i64, |n, s| n.checked_mul(s.stride))?;
        let is_full = spreads.iter().all(|s| (0..s.stride).all(|phase| s.taps(phase) > 0 && s.positions(phase) > 0));
        // Each axis must be told from the others by its dimension alone.
        let is_distinct = spreads
            .iter()
            .enumerate()
            .all(|(i, s)| spreads[..i].iter().all(|o| o.dim != s.dim && o.position != s.position && o.tap != s.tap));
        let of_buffer = |b: BufferId| {
            let ids = kernel.exprs.ids();
            ids.filter(|&id| matches!(kernel.exprs.get(id), Expr::Load { buffer, .. } if *buffer == b)).count()
        };
        if of_buffer(*buffer) != 1 || of_buffer(*w) != 1 {
            return None;
        }
        let is_inside =
            |d: usize| forms.range(&index_forms[d]).is_some_and(|(low, high)| low >= 0 && high < data_dims[d]);
        let others = (0..data_dims.len()).filter(|&d| spreads.iter().all(|s| s.dim != d));
        let tested = others.filter(|&d| !is_inside(d)).collect();
        let is_plain = self.function.buffers[*w].layout == Layout::RowMajor;
        if spreads.is_empty() || n_phases > MAX_PHASES || !is_full || !is_distinct || !is_plain {
            return None;
        }
        Some(Found { data, weight_buffer: *w, weight, weight_dims, data_dims, spreads, tested })
    }

    fn replace(&mut self, kernel: &Kernel, found: &Found, out: &mut Block) -> diag::Result<()> {
        let n_phases: i64 = found.spreads.iter().map(|s| s.stride).product();
        for number in 0..n_phases {
            let mut left = number;
            let mut phases = Vec::new();
            for spread in &found.spreads {
                phases.push(left % spread.stride);
                left /= spread.stride;
            }
            let weight = self.weight_part(found, &phases)?;
            out.0.push(Stmt::Kernel(Box::new(self.phase(kernel, found, &phases, weight))));
        }
        Ok(())
    }
}

impl Cutter<'_> {
    /// The weights of a phase's taps.
    fn weight_part(&mut self, found: &Found, phases: &[i64]) -> diag::Result<BufferId> {
        let mut dims = found.weight_dims.clone();
        let mut cut = vec![(0, 1); dims.len()];
        for (spread, &phase) in found.spreads.iter().zip(phases) {
            dims[spread.weight_dim] = spread.taps(phase);
            cut[spread.weight_dim] = (spread.first_tap(phase), spread.stride);
        }
        let key = (found.weight, cut);
        let id = match self.known.get(&key) {
            Some(&id) => id,
            None => {
                let source = &self.weights[found.weight];
                let data = &source.data;
                let (mut strides, mut offset) = (data.strides().to_vec(), data.offset());
                for (stride, &(first, step)) in strides.iter_mut().zip(&key.1) {
                    offset += *stride * first;
                    *stride *= step;
                }
                let view = TensorData::new(data.dtype(), dims.clone(), strides, offset, data.storage().clone());
                let view = view.map_err(Diagnostic::internal)?;
                let bytes = view.contiguous_bytes().into_owned();
                let part = TensorData::from_bytes(data.dtype(), &dims, bytes).map_err(Diagnostic::internal)?;
                let id = self.weights.push(Weight { name: source.name.clone(), data: Arc::new(part) });
                self.known.insert(key, id);
                id
            }
        };
        let old = &self.function.buffers[found.weight_buffer];
        let buffer = Buffer {
            name: old.name.clone(),
            dtype: old.dtype,
            dims: dims.into_iter().map(Dim::Const).collect(),
            class: BufferClass::Weight(id),
            layout: Layout::RowMajor,
        };
        Ok(self.function.buffers.push(buffer))
    }

    fn phase(&self, kernel: &Kernel, found: &Found, phases: &[i64], weight: BufferId) -> Kernel {
        let Expr::Load { buffer: data, dtype, .. } = *kernel.exprs.get(found.data) else { return kernel.clone() };
        let spread_of = |axis: usize| {
            let both = found.spreads.iter().zip(phases);
            both.clone()
                .find(|(s, _)| s.position == axis)
                .map(|(s, &phase)| (s.stride, phase))
                .or_else(|| both.clone().find(|(s, _)| s.tap == axis).map(|(s, &phase)| (s.stride, s.first_tap(phase))))
        };
        let mut leaf = |e: &mut Exprs, expr: &Expr| match expr {
            Expr::Axis(axis) => {
                let (stride, first) = spread_of(*axis)?;
                let (axis, stride, first) = (e.add(Expr::Axis(*axis)), e.int(stride), e.int(first));
                let start = e.binary(BinaryOp::Mul, axis, stride);
                Some(e.binary(BinaryOp::Add, start, first))
            }
            Expr::Load { buffer, dtype: d, index, guard: None } if *buffer == found.weight_buffer => {
                let mut index = index.to_vec();
                for (spread, &phase) in found.spreads.iter().zip(phases) {
                    let is_one = spread.taps(phase) == 1;
                    index[spread.weight_dim] = if is_one { e.int(0) } else { e.add(Expr::Axis(spread.tap)) };
                }
                Some(e.add(Expr::Load { buffer: weight, dtype: *d, index: index.into(), guard: None }))
            }
            Expr::Load { buffer, index, guard: Some(guard), .. } if *buffer == data => {
                let mut index = index.to_vec();
                let mut cond = e.add(Expr::Const(crate::loops::Const::bool(true)));
                for (spread, &phase) in found.spreads.iter().zip(phases) {
                    let shift = (phase + spread.constant - spread.first_tap(phase)).div_euclid(spread.stride);
                    let (n, taps, extent) = (spread.positions(phase), spread.taps(phase), found.data_dims[spread.dim]);
                    let (position, shift_id) = (e.add(Expr::Axis(spread.position)), e.int(shift));
                    let mut at = e.binary(BinaryOp::Add, position, shift_id);
                    if taps > 1 {
                        let tap = e.add(Expr::Axis(spread.tap));
                        at = e.binary(BinaryOp::Sub, at, tap);
                    }
                    index[spread.dim] = at;
                    let (zero, end) = (e.int(0), e.int(extent));
                    if shift - (taps - 1) < 0 {
                        let test = e.binary(BinaryOp::Ge, at, zero);
                        cond = e.binary(BinaryOp::And, cond, test);
                    }
                    if n - 1 + shift >= extent {
                        let test = e.binary(BinaryOp::Lt, at, end);
                        cond = e.binary(BinaryOp::And, cond, test);
                    }
                }
                for &dim in &found.tested {
                    let (zero, end) = (e.int(0), e.int(found.data_dims[dim]));
                    for (op, bound) in [(BinaryOp::Ge, zero), (BinaryOp::Lt, end)] {
                        let test = e.binary(op, index[dim], bound);
                        cond = e.binary(BinaryOp::And, cond, test);
                    }
                }
                let guard = Some(Guard { cond, other: guard.other });
                Some(e.add(Expr::Load { buffer: data, dtype, index: index.into(), guard }))
            }
            _ => None,
        };
        let mut out = rebuilt(kernel, &mut leaf);
        for (spread, &phase) in found.spreads.iter().zip(phases) {
            out.axes[spread.position].extent = Dim::Const(spread.positions(phase));
            out.axes[spread.tap].extent = Dim::Const(spread.taps(phase));
        }
        out
    }
}
