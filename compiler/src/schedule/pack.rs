//! Weights of contractions put into panels when compiling: the columns of a tile next to each other, in the order of the loop.
//!
//! `out[m, n] += x[m, k] * w[n, k]` becomes a loop over panels of `n`; a panel holds `[k][block]`, so that the innermost loop
//! reads whole vectors one after another. The same holds for convolutions, with `k` standing for input channels and taps. The
//! columns that do not fill a panel become a kernel of their own, with a narrower panel. Weights that nothing reads any more are dropped.

use super::ScheduleTarget;
use super::contraction::{known_dims, recognise};
use super::fuse::rebuilt;
use super::gemm::{Shape, best_tile};
use super::memory::{touched, walk};
use crate::diag::{self, Diagnostic};
use crate::index::IndexVec;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Kernel, Layout,
    Program, Stmt, Weight, WeightId,
};
use crate::types::TensorData;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Terms of a sum from which on writing the results apart is cheap beside computing them.
const LONG_SUM: i64 = 256;

/// Stands for the axis along a dimension of one element.
const NO_AXIS: usize = usize::MAX;

/// A weight in panels, or some of its columns: which, dimensions in new order, first column, columns, panel width.
type Key = (WeightId, Vec<usize>, i64, i64, usize);

/// Packs the weights of the program's contractions.
pub(crate) fn pack_weights(program: &mut Program, target: &ScheduleTarget) -> diag::Result<()> {
    let mut known = HashMap::new();
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        let mut packer = Packer { function, weights: &mut program.weights, known: &mut known, target };
        packer.block(&mut body)?;
        function.body = body;
    }
    drop_unused(program)
}

struct Packer<'a> {
    function: &'a mut Function,
    weights: &'a mut IndexVec<WeightId, Weight>,
    known: &'a mut HashMap<Key, WeightId>,
    target: &'a ScheduleTarget,
}

/// How a contraction is cut into panels.
struct Choice {
    /// The weight's buffer.
    buffer: BufferId,
    weight: WeightId,
    /// The axis of the weight's columns.
    column: usize,
    /// For each dimension of the weight, the axis along it, or [`NO_AXIS`].
    axes: Vec<usize>,
    /// Width of a panel.
    block: i64,
    /// Elements of a vector.
    lanes: i64,
}

impl Packer<'_> {
    fn block(&mut self, block: &mut Block) -> diag::Result<()> {
        for mut stmt in std::mem::take(&mut block.0) {
            match &mut stmt {
                Stmt::Kernel(kernel) => {
                    if let Some(choice) = self.choose(kernel) {
                        for part in self.packed(kernel, &choice)? {
                            block.0.push(Stmt::Kernel(Box::new(part)));
                        }
                        continue;
                    }
                }
                Stmt::If(_, then_body, else_body) => {
                    self.block(then_body)?;
                    self.block(else_body)?;
                }
                Stmt::While(_, body) => self.block(body)?,
                _ => {}
            }
            block.0.push(stmt);
        }
        Ok(())
    }

    fn choose(&self, kernel: &Kernel) -> Option<Choice> {
        let contraction = recognise(kernel)?;
        let [a, b] = contraction.loads;
        self.choose_with(kernel, a, b).or_else(|| self.choose_with(kernel, b, a))
    }

    fn choose_with(&self, kernel: &Kernel, weight: ExprId, other: ExprId) -> Option<Choice> {
        let Expr::Load { buffer, dtype, index, guard: None } = kernel.exprs.get(weight) else { return None };
        let BufferClass::Weight(id) = self.function.buffers[*buffer].class else { return None };
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
        let is_blocked = |b: BufferId| self.function.buffers[b].layout != Layout::RowMajor;
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
        Some(Choice { buffer: *buffer, weight: id, column, axes, block, lanes })
    }

    /// The kernel over whole panels, and the one for the columns left over.
    fn packed(&mut self, kernel: &Kernel, choice: &Choice) -> diag::Result<Vec<Kernel>> {
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
        let mut parts = Vec::new();
        if whole > 0 {
            parts.push(self.part(kernel, choice, &order, 0, whole, choice.block)?);
        }
        if whole < n {
            parts.push(self.part(kernel, choice, &order, whole, n - whole, 0)?);
        }
        Ok(parts)
    }

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
        let block = width;
        let width = usize::try_from(block).unwrap_or(0);
        let key = (choice.weight, order.to_vec(), begin, len, width);
        let weight = match self.known.get(&key) {
            Some(&weight) => weight,
            None => {
                let source = &self.weights[choice.weight];
                let data = repack(&source.data, order, column_dim, begin, &dims, (at, block))?;
                let weight = self.weights.push(Weight { name: source.name.clone(), data: Arc::new(data) });
                self.known.insert(key, weight);
                weight
            }
        };
        let layout = Layout::Blocked { dim: at, block: width };
        let dims = dims.into_iter().map(Dim::Const).collect();
        let class = BufferClass::Weight(weight);
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

/// The elements of a weight with its dimensions in another order, from `begin` on along one of them, and one dimension (of
/// the new order) cut into blocks whose positions are the fastest.
fn repack(
    data: &TensorData,
    order: &[usize],
    cut_dim: usize,
    begin: i64,
    dims: &[i64],
    (at, block): (usize, i64),
) -> diag::Result<TensorData> {
    let size = data.dtype().size_bytes();
    let source = data.contiguous_bytes();
    let mut strides = vec![1i64; data.sizes().len()];
    for d in (0..strides.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * data.sizes()[d + 1];
    }
    // Physical dimensions, outermost first: extent and stride in the source.
    let mut loops: Vec<(i64, i64)> = dims.iter().zip(order).map(|(&extent, &d)| (extent, strides[d])).collect();
    let (extent, stride) = loops[at];
    loops[at] = ((extent + block - 1) / block, stride * block);
    loops.push((block, stride));
    let last = loops.len() - 1;
    let n: i64 = loops.iter().map(|l| l.0).product();
    let mut out = Vec::with_capacity(usize::try_from(n).unwrap_or(0) * size);
    let mut index = vec![0i64; loops.len()];
    let mut offset = begin * strides[cut_dim];
    for _ in 0..n {
        if index[at] * block + index[last] >= extent {
            out.resize(out.len() + size, 0);
        } else {
            let at = usize::try_from(offset).unwrap_or(0) * size;
            let element =
                source.get(at..at + size).ok_or_else(|| Diagnostic::internal("a weight is smaller than its shape"))?;
            out.extend_from_slice(element);
        }
        for d in (0..loops.len()).rev() {
            index[d] += 1;
            offset += loops[d].1;
            if index[d] < loops[d].0 {
                break;
            }
            offset -= loops[d].0 * loops[d].1;
            index[d] = 0;
        }
    }
    TensorData::from_bytes(data.dtype(), &[n], out).map_err(Diagnostic::internal)
}

/// Empties the weights that no statement reads.
fn drop_unused(program: &mut Program) -> diag::Result<()> {
    let mut used: BTreeSet<WeightId> = BTreeSet::new();
    for function in program.functions.iter() {
        walk(&function.body, &mut |stmt| {
            for buffer in touched(stmt) {
                if let BufferClass::Weight(weight) = function.buffers[super::flat::root(function, buffer)].class {
                    used.insert(weight);
                }
            }
        });
    }
    for id in program.weights.ids() {
        if !used.contains(&id) {
            let dtype = program.weights[id].data.dtype();
            let empty = TensorData::from_bytes(dtype, &[0], Vec::new()).map_err(Diagnostic::internal)?;
            program.weights[id].data = Arc::new(empty);
        }
    }
    Ok(())
}
