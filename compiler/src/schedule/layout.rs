//! Blocked activations: scratch buffers of convolutions keep blocks of channels next to each other.
//!
//! [`choose`] marks buffers `Layout::Blocked` along dimension 1, block as wide as a vector: whole groups of buffers that
//! kernels connect, if a convolution that works on whole vectors of channels is among them and every access can follow. [`split`] then cuts the
//! axes that run over a blocked dimension in two, so that the position in a block is an axis of its own: last of its kind for
//! parallel axes, right after its blocks for reduced ones.

use super::ScheduleTarget;
use super::contraction::forms;
use super::flat::Flat;
use super::fuse::rebuilt;
use super::linear::{Atom, Forms, Linear};
use super::plan::Plan;
use super::prepare::Source;
use crate::index::Id as _;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Block, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Kernel, Layout,
    Program, Stmt, touched, walk,
};
use crate::types::DType;
use std::collections::BTreeSet;

/// The dimension that is blocked: channels.
pub(crate) const CHANNELS: usize = 1;

/// Chooses the buffers that are blocked: those of these convolutions' groups, given function by function.
pub(crate) fn choose(program: &mut Program, target: &ScheduleTarget, wanted: &[BTreeSet<BufferId>]) {
    for (function, wanted) in program.functions.iter_mut().zip(wanted) {
        for buffer in chosen(function, target, wanted) {
            let block = target.vector_bytes / function.buffers[buffer].dtype.size_bytes();
            function.buffers[buffer].layout = Layout::Blocked { dim: CHANNELS, block };
        }
    }
}

/// Every index a kernel applies to a buffer.
pub(crate) fn accesses(kernel: &Kernel) -> impl Iterator<Item = (BufferId, &[ExprId])> {
    let loads = kernel.exprs.ids().filter_map(|id| match kernel.exprs.get(id) {
        Expr::Load { buffer, index, .. } => Some((*buffer, &**index)),
        _ => None,
    });
    loads.chain(kernel.stores.iter().map(|s| (s.buffer, &*s.index)))
}

/// For each buffer, whether it can be blocked.
pub(crate) fn eligible(function: &Function, target: &ScheduleTarget) -> Vec<bool> {
    let block_of = |id: BufferId| {
        let buffer = &function.buffers[id];
        let is_plain = matches!(buffer.class, BufferClass::Temp { .. })
            && buffer.layout == Layout::RowMajor
            && buffer.dtype == DType::F32
            && buffer.dims.len() > CHANNELS + 1;
        let dims: Option<Vec<i64>> = buffer.dims.iter().map(|dim| dim.known()).collect();
        let block = i64::try_from(target.vector_bytes / buffer.dtype.size_bytes()).ok()?;
        let dims = dims.filter(|_| is_plain)?;
        let n_positions: i64 = dims[CHANNELS + 1..].iter().product();
        (block > 1 && n_positions > 1 && dims[CHANNELS] > 0 && dims[CHANNELS] % block == 0).then_some(block)
    };
    let mut blocks: Vec<Option<i64>> = function.buffers.ids().map(block_of).collect();
    for buffer in function.buffers.iter() {
        if let BufferClass::Alias { of, .. } = buffer.class {
            blocks[of.index()] = None;
        }
    }
    walk(&function.body, &mut |stmt| {
        let Stmt::Kernel(kernel) = stmt else {
            for buffer in touched(stmt) {
                blocks[buffer.index()] = None;
            }
            return;
        };
        let mut forms = forms(kernel);
        for (buffer, index) in accesses(kernel) {
            if let Some(block) = blocks[buffer.index()]
                && (kernel.is_ordered || followed(kernel, &mut forms, index, block).is_none())
            {
                blocks[buffer.index()] = None;
            }
        }
    });
    blocks.iter().map(Option::is_some).collect()
}

fn chosen(function: &Function, target: &ScheduleTarget, wanted: &BTreeSet<BufferId>) -> Vec<BufferId> {
    let eligible = eligible(function, target);
    // Groups of buffers that kernels connect.
    let n = function.buffers.len();
    let mut group: Vec<usize> = (0..n).collect();
    walk(&function.body, &mut |stmt| {
        let Stmt::Kernel(kernel) = stmt else { return };
        let mut members = accesses(kernel).map(|(b, _)| b.index()).filter(|&b| eligible[b]);
        let Some(first) = members.next() else { return };
        for member in members {
            let (from, to) = (group[member], group[first]);
            group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        }
    });
    let groups: BTreeSet<usize> = wanted.iter().filter(|b| eligible[b.index()]).map(|b| group[b.index()]).collect();
    function.buffers.ids().filter(|b| eligible[b.index()] && groups.contains(&group[b.index()])).collect()
}

/// The axis that moves within blocks along an index, so that the index is that axis plus multiples of the block; `None` if
/// the index does not follow blocks. `Some(None)`: it only moves by whole blocks.
#[allow(clippy::option_option, reason = "no answer is not the same as no axis")]
fn followed(kernel: &Kernel, forms: &mut Forms<'_>, index: &[ExprId], block: i64) -> Option<Option<usize>> {
    let form: Linear = forms.form(index[CHANNELS]);
    let mut axis = None;
    for (monomial, &coefficient) in &form.terms {
        if coefficient % block == 0 {
            continue;
        }
        let Some(Atom::Axis(a)) = monomial.atom else { return None };
        let extent = kernel.axes[a].extent.known()?;
        if !monomial.vars.is_empty() || coefficient != 1 || axis.is_some() || extent % block != 0 {
            return None;
        }
        axis = Some(a);
    }
    // A fixed channel reads one lane of each block: correct, and slow.
    (axis.is_none() || form.constant % block == 0).then_some(axis)
}

/// Cuts the axes of kernels that run over blocked dimensions.
pub(crate) fn split(program: &mut Program) {
    for function in program.functions.iter_mut() {
        let mut body = std::mem::take(&mut function.body);
        split_block(&mut body, function);
        function.body = body;
    }
}

fn split_block(block: &mut Block, function: &Function) {
    for stmt in &mut block.0 {
        match stmt {
            Stmt::Kernel(kernel) => split_kernel(kernel, function),
            Stmt::If(_, then_body, else_body) => {
                split_block(then_body, function);
                split_block(else_body, function);
            }
            Stmt::While(_, body) => split_block(body, function),
            _ => {}
        }
    }
}

fn split_kernel(kernel: &mut Kernel, function: &Function) {
    loop {
        let mut forms = forms(kernel);
        let mut found = None;
        for (buffer, index) in accesses(kernel) {
            let buffer = &function.buffers[buffer];
            let Layout::Blocked { dim: CHANNELS, block } = buffer.layout else { continue };
            if Source::of(buffer.class).is_some() {
                continue;
            }
            let Ok(block) = i64::try_from(block) else { continue };
            if let Some(Some(axis)) = followed(kernel, &mut forms, index, block)
                && kernel.axes[axis].extent != Dim::Const(block)
            {
                found = Some((axis, block));
                break;
            }
        }
        let Some((axis, block)) = found else { break };
        *kernel = cut(kernel, axis, block);
    }
}

/// The kernel with an axis as blocks and positions in a block.
fn cut(kernel: &Kernel, axis: usize, block: i64) -> Kernel {
    let kind = kernel.axes[axis].kind;
    let n_parallel = kernel.axes.iter().filter(|axis| axis.kind == AxisKind::Parallel).count();
    let inner = if kind == AxisKind::Parallel { n_parallel } else { axis + 1 };
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Axis(a) if *a == axis => {
            let (outer, position, by) = (exprs.add(Expr::Axis(axis)), exprs.add(Expr::Axis(inner)), exprs.int(block));
            let start = exprs.binary(BinaryOp::Mul, outer, by);
            Some(exprs.binary(BinaryOp::Add, start, position))
        }
        Expr::Axis(a) if *a >= inner => Some(exprs.add(Expr::Axis(a + 1))),
        _ => None,
    };
    let mut out = rebuilt(kernel, &mut leaf);
    let extent = kernel.axes[axis].extent.known().unwrap_or(0);
    out.axes[axis].extent = Dim::Const(extent / block);
    out.axes.insert(inner, Axis { extent: Dim::Const(block), kind });
    out
}

/// Gives a copy between layouts lanes along what it reads, so that each line of memory is read once.
pub(crate) fn refine(flat: &Flat, plan: &mut Plan) {
    let Some((vector, lanes)) = plan.vector else { return };
    let [store] = &flat.stores[..] else { return };
    if !flat.reductions.is_empty() || flat.is_ordered || flat.kinds.contains(&AxisKind::Scan) {
        return;
    }
    let mut along = None;
    for form in flat.addresses.values() {
        if !matches!(flat.stride(form, vector), Some(0 | 1)) {
            let is_row = |&&a: &&usize| a != vector && flat.stride(form, a) == Some(1);
            along = plan.order.iter().find(is_row).copied().or(along);
        }
    }
    let Some(axis) = along else { return };
    let is_close = flat.stride(&store.address, axis).is_some_and(|stride| stride.abs() <= 64);
    let is_long = flat.extents[axis].known().is_some_and(|n| n >= i64::from(lanes));
    if is_close && is_long && !flat.addresses.values().any(|form| flat.stride(form, axis).is_none()) {
        plan.order.retain(|&a| a != axis);
        plan.order.push(axis);
        plan.vector = Some((axis, lanes));
        plan.tile.fill(1);
    }
}
