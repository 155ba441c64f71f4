//! Weights of contractions in panels: the columns of a tile next to each other, in the order of the loop.
//!
//! `out[m, n] += x[m, k] * w[n, k]` becomes a loop over panels of `n`; a panel holds `[k][block]`, so that the innermost loop
//! reads whole vectors one after another. The same holds for convolutions, with `k` standing for input channels and taps. The
//! columns that do not fill a panel become a kernel of their own, with a narrower panel. Whether panels take the
//! weight's place or are made when a model is opened is `prepare`'s choice.

use super::ScheduleTarget;
use super::contraction::{Rewrite, known_dims};
use super::fuse::rebuilt;
use super::gemm::{Shape, best_tile};
use super::prepare::{Packing, Preparing, Source};
use crate::diag;
use crate::index::IndexVec;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Kernel, Layout,
    Program, Stmt, Weight, WeightId,
};
use std::collections::BTreeSet;

/// Terms of a sum from which on writing the results apart is cheap beside computing them.
const LONG_SUM: i64 = 256;

/// Stands for the axis along a dimension of one element.
const NO_AXIS: usize = usize::MAX;

/// Packs the weights of the program's contractions.
pub(crate) fn pack_weights(
    program: &mut Program,
    preparing: &mut Preparing,
    target: &ScheduleTarget,
) -> diag::Result<()> {
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        let mut packer = Packer { function, weights: &program.weights, preparing, target };
        packer.block(&mut body)?;
        function.body = body;
    }
    Ok(())
}

struct Packer<'a> {
    function: &'a mut Function,
    weights: &'a IndexVec<WeightId, Weight>,
    preparing: &'a mut Preparing,
    target: &'a ScheduleTarget,
}

/// How a contraction is cut into panels.
struct Choice {
    /// The weight's buffer.
    buffer: BufferId,
    source: Source,
    /// The axis of the weight's columns.
    column: usize,
    /// For each dimension of the weight, the axis along it, or [`NO_AXIS`].
    axes: Vec<usize>,
    /// Width of a panel.
    block: i64,
    /// Elements of a vector.
    lanes: i64,
}

impl Rewrite for Packer<'_> {
    type Found = Choice;

    fn find(&self, kernel: &Kernel, other: ExprId, weight: ExprId) -> Option<Choice> {
        let Expr::Load { buffer, dtype, index, guard: None } = kernel.exprs.get(weight) else { return None };
        let source = Source::of(self.function.buffers[*buffer].class)?;
        if self.function.buffers[*buffer].layout != Layout::RowMajor {
            return None;
        }
        let dims = known_dims(self.function, *buffer)?;
        let mut axes = Vec::new();
        for (&i, &dim) in index.iter().zip(&dims) {
            let axis = match *kernel.exprs.get(i) {
                Expr::Axis(axis) => axis,
                Expr::Const(_) if dim == 1 => {
                    axes.push(NO_AXIS);
                    continue;
                }
                _ => return None,
            };
            if axes.contains(&axis) || kernel.axes[axis].extent.known() != Some(dim) {
                return None;
            }
            axes.push(axis);
        }
        let flat = super::flat::Flat::new(self.function, kernel);
        // Joined axes have lost their number, so ask the kernel's own expressions what the other operand depends on.
        let other_axes = axes_in(kernel, other);
        let is_column =
            |&&a: &&usize| a != NO_AXIS && kernel.axes[a].kind == AxisKind::Parallel && !other_axes.contains(&a);
        let column = *axes.iter().find(is_column)?;
        let is_shared = |&a: &usize| {
            a == column || a == NO_AXIS || kernel.axes[a].kind == AxisKind::Reduce || other_axes.contains(&a)
        };
        if !axes.iter().all(is_shared) || kernel.axes.iter().any(|axis| axis.kind == AxisKind::Scan) {
            return None;
        }
        let n = kernel.axes[column].extent.known()?;
        let lanes = i64::try_from(self.target.vector_bytes / dtype.size_bytes()).ok().filter(|&lanes| lanes > 1)?;
        if n < lanes && !(self.target.has_masks && n * 2 >= lanes) {
            return None;
        }
        let is_blocked = |b: BufferId| matches!(self.function.buffers[b].layout, Layout::Blocked { .. });
        let is_contiguous =
            flat.stores.iter().all(|s| is_blocked(s.buffer) || flat.stride(&s.address, column) == Some(1));
        let reduced = kernel.axes.iter().filter(|axis| axis.kind == AxisKind::Reduce);
        let n_terms = reduced.fold(1i64, |n, axis| n.saturating_mul(axis.extent.known().unwrap_or(1)));
        // Otherwise the axis that results lie along could be in lanes, with the weights spread, if the data lies along it too.
        let lies_along = |a: usize| flat.stores.iter().all(|s| flat.stride(&s.address, a) == Some(1));
        let along = flat.axes_of(AxisKind::Parallel).into_iter().find(|&a| lies_along(a));
        let is_readable = along.is_some_and(|a| {
            let mut moving = flat.addresses.values().filter(|form| flat.address_deps(form) >> a & 1 == 1);
            moving.all(|form| flat.stride(form, a) == Some(1)) && flat.extents[a].known().is_some_and(|n| n >= lanes)
        });
        // Whether few lanes are wasted at the end of each stretch of results.
        let is_filled = along.and_then(|a| flat.extents[a].known()).is_some_and(|n| n * 6 >= n_lanes(n, lanes) * 5);
        let is_aliased = flat.stores.iter().any(|s| flat.stride(&s.address, column).is_none_or(|n| n % 512 == 0));
        if !is_contiguous && is_readable && (n_terms < LONG_SUM || is_aliased || is_filled) {
            return None;
        }
        let mut rows = flat.axes_of(AxisKind::Parallel).into_iter().filter(|a| *a != column && !axes.contains(a));
        let mut next = || rows.next_back().map_or(1, |a| super::plan::estimate(&flat, a).max(1));
        let inner = next();
        let shape = Shape { rows: [next(), inner], vectors: (n + lanes - 1) / lanes, terms: n_terms };
        let block = lanes * best_tile(&shape, self.target, None).vectors;
        Some(Choice { buffer: *buffer, source, column, axes, block, lanes })
    }

    /// The kernel over whole panels, and the one for the columns left over.
    fn replace(&mut self, kernel: &Kernel, choice: &Choice, out: &mut Block) -> diag::Result<()> {
        let n = kernel.axes[choice.column].extent.known().unwrap_or(0);
        let whole = n / choice.block * choice.block;
        // Axes both operands have, then columns, then what is summed in the order of the loops.
        let mut order: Vec<usize> = (0..choice.axes.len()).collect();
        order.sort_by_key(|&d| {
            let axis = choice.axes[d];
            if axis == NO_AXIS {
                return (0, axis);
            }
            let class = match kernel.axes[axis].kind {
                AxisKind::Parallel if axis != choice.column => 0,
                AxisKind::Parallel => 1,
                AxisKind::Scan | AxisKind::Reduce => 2,
            };
            (class, axis)
        });
        if whole > 0 {
            let part = self.part(kernel, choice, &order, 0, whole, choice.block)?;
            out.0.push(Stmt::Kernel(Box::new(part)));
        }
        if whole < n {
            let part = self.part(kernel, choice, &order, whole, n - whole, 0)?;
            out.0.push(Stmt::Kernel(Box::new(part)));
        }
        Ok(())
    }
}

impl Packer<'_> {
    /// The kernel for `len` columns from `begin` on; in panels, unless `block` is 0.
    fn part(
        &mut self,
        kernel: &Kernel,
        choice: &Choice,
        order: &[usize],
        begin: i64,
        len: i64,
        block: i64,
    ) -> diag::Result<Kernel> {
        let buffer = self.weight_part(choice, order, begin, len, block)?;
        let column = choice.column;
        let n_parallel = kernel.axes.iter().filter(|axis| axis.kind == AxisKind::Parallel).count();
        let mut axes: Vec<Axis> = kernel.axes.clone();
        // New axis numbers: panels first, columns of a panel last of the parallel ones, the others in order between.
        let mut number: Vec<usize> = (0..axes.len()).collect();
        if block > 0 {
            let kind = AxisKind::Parallel;
            axes.remove(column);
            axes.insert(0, Axis { extent: Dim::Const(len / block), kind });
            axes.insert(n_parallel, Axis { extent: Dim::Const(block), kind });
            for (axis, number) in number.iter_mut().enumerate() {
                *number = if axis >= n_parallel || axis < column { axis + 1 } else { axis };
            }
        } else {
            axes[column].extent = Dim::Const(len);
        }
        let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
            Expr::Axis(axis) if *axis == column && block > 0 => {
                let (panel, inner) = (exprs.add(Expr::Axis(0)), exprs.add(Expr::Axis(n_parallel)));
                let (block, begin) = (exprs.int(block), exprs.int(begin));
                let start = exprs.binary(BinaryOp::Mul, panel, block);
                let sum = exprs.binary(BinaryOp::Add, start, inner);
                Some(exprs.binary(BinaryOp::Add, sum, begin))
            }
            Expr::Axis(axis) if *axis == column => {
                let (axis, begin) = (exprs.add(Expr::Axis(column)), exprs.int(begin));
                Some(exprs.binary(BinaryOp::Add, axis, begin))
            }
            Expr::Axis(axis) => Some(exprs.add(Expr::Axis(number[*axis]))),
            Expr::Load { buffer: b, dtype, index, guard: None } if *b == choice.buffer => {
                let begin = exprs.int(begin);
                let of_dim = |exprs: &mut Exprs, d: usize| {
                    if choice.axes[d] == column { exprs.binary(BinaryOp::Sub, index[d], begin) } else { index[d] }
                };
                let index = order.iter().map(|&d| of_dim(exprs, d)).collect();
                Some(exprs.add(Expr::Load { buffer, dtype: *dtype, index, guard: None }))
            }
            _ => None,
        };
        let mut part = rebuilt(kernel, &mut leaf);
        part.axes = axes;
        Ok(part)
    }

    /// The buffer of a weight's part in its new order.
    fn weight_part(
        &mut self,
        choice: &Choice,
        order: &[usize],
        begin: i64,
        len: i64,
        block: i64,
    ) -> diag::Result<BufferId> {
        let old = &self.function.buffers[choice.buffer];
        let sizes: Vec<i64> = old.dims.iter().map(|dim| dim.known().unwrap_or(0)).collect();
        let (name, dtype) = (old.name.clone(), old.dtype);
        let column_dim = choice.axes.iter().position(|&a| a == choice.column).unwrap_or(0);
        let at = order.iter().position(|&d| d == column_dim).unwrap_or(0);
        let dims: Vec<i64> = order.iter().map(|&d| if d == column_dim { len } else { sizes[d] }).collect();
        // Columns that do not fill a panel are a narrow one, filled up with zeros to whole vectors.
        let width = if block > 0 { block } else { n_lanes(len, choice.lanes) };
        let packing = Packing { order: order.to_vec(), at, begin, len, block: width };
        let class = BufferClass::Prepared(self.preparing.packed(self.weights, choice.source, packing)?);
        let layout = Layout::Blocked { dim: at, block: usize::try_from(width).unwrap_or(0) };
        let dims = dims.into_iter().map(Dim::Const).collect();
        Ok(self.function.buffers.push(Buffer { name, dtype, dims, class, layout }))
    }
}

/// `n` filled up to whole vectors.
fn n_lanes(n: i64, lanes: i64) -> i64 {
    (n + lanes - 1) / lanes * lanes
}

/// The axes that an expression depends on, by the kernel's own expressions.
fn axes_in(kernel: &Kernel, id: ExprId) -> BTreeSet<usize> {
    let (mut stack, mut axes) = (vec![id], BTreeSet::new());
    while let Some(id) = stack.pop() {
        match kernel.exprs.get(id) {
            Expr::Axis(axis) => _ = axes.insert(*axis),
            other => stack.extend(Exprs::operands(other)),
        }
    }
    axes
}
