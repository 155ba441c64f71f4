//! Depthwise convolutions: each channel with a kernel of its own.
//!
//! There is nothing to share between channels, so channels lie in lanes, and the activations around such convolutions lie with
//! channels last: a pixel's channels are next to each other, whatever their number. [`choose`] gives buffers that layout, going
//! out from depthwise convolutions along the axes that kernels use for channels, and turns the weights. [`refine`] gives such a
//! convolution its tile: some pixels of a row, with all taps of a row of the kernel at once, so that inputs that several taps
//! of several pixels use are loaded once.

use super::ScheduleTarget;
use super::contraction::{forms, recognise};
use super::flat::Flat;
use super::fuse::rebuilt;
use super::layout::{CHANNELS, accesses};
use super::linear::{Atom, Linear};
use super::plan::Plan;
use crate::diag::{self, Diagnostic};
use crate::index::Id as _;
use crate::loops::{
    AxisKind, BinaryOp, Block, Buffer, BufferClass, BufferId, Expr, ExprId, Function, Kernel, Layout, Program,
    ReduceOp, Stmt, Weight, WeightId, touched, walk,
};
use crate::types::{DType, TensorData};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A depthwise convolution.
struct Depthwise {
    data: BufferId,
    out: BufferId,
    /// The load of weights, their buffer, and which of their dimensions is channels.
    load: ExprId,
    weights: BufferId,
    channel_dim: usize,
    n_channels: i64,
}

/// Chooses the buffers whose channels lie last, and lays out the weights of depthwise convolutions over blocked buffers.
pub(crate) fn choose(program: &mut Program, target: &ScheduleTarget) -> diag::Result<()> {
    let mut turned: HashMap<(WeightId, usize), WeightId> = HashMap::new();
    for function in program.functions.iter_mut() {
        for (buffer, n_channels) in channels_last(function, target) {
            let block = usize::try_from(n_channels).unwrap_or(1);
            function.buffers[buffer].layout = Layout::Blocked { dim: CHANNELS, block };
        }
        let mut body = std::mem::take(&mut function.body);
        turn_weights(&mut body, function, &mut program.weights, &mut turned)?;
        function.body = body;
    }
    Ok(())
}

/// The depthwise convolution a kernel is, if it is one.
fn find(kernel: &Kernel, function: &Function) -> Option<Depthwise> {
    let contraction = recognise(kernel)?;
    let [store] = &kernel.stores[..] else { return None };
    let mut forms = forms(kernel);
    for [load, other] in [contraction.loads, [contraction.loads[1], contraction.loads[0]]] {
        let Expr::Load { buffer: weights, index, guard: None, .. } = kernel.exprs.get(load) else { continue };
        let Expr::Load { buffer: data, index: at, guard: None, .. } = kernel.exprs.get(other) else { continue };
        let is_weight = matches!(function.buffers[*weights].class, BufferClass::Weight(_));
        if !is_weight || function.buffers[*weights].layout != Layout::RowMajor || at.len() <= CHANNELS {
            continue;
        }
        let Some(channel) = single_axis(&forms.form(at[CHANNELS])) else { continue };
        let is_channel = |&i: &ExprId| *kernel.exprs.get(i) == Expr::Axis(channel);
        let Some(channel_dim) = index.iter().position(is_channel) else { continue };
        let out_channel = store.index.get(CHANNELS).is_some_and(is_channel);
        let is_parallel = kernel.axes[channel].kind == AxisKind::Parallel;
        let (Some(n_channels), true, true) = (kernel.axes[channel].extent.known(), is_parallel, out_channel) else {
            continue;
        };
        return Some(Depthwise { data: *data, out: store.buffer, load, weights: *weights, channel_dim, n_channels });
    }
    None
}

/// The axis that a form is, if it is one.
fn single_axis(form: &Linear) -> Option<usize> {
    let (monomial, &coefficient) = form.terms.first_key_value()?;
    let Some(Atom::Axis(axis)) = monomial.atom else { return None };
    (form.terms.len() == 1 && form.constant == 0 && coefficient == 1 && monomial.vars.is_empty()).then_some(axis)
}

/// The buffers to lay out with channels last, and how many channels each has.
fn channels_last(function: &Function, target: &ScheduleTarget) -> Vec<(BufferId, i64)> {
    let mut kernels: Vec<Kernel> = Vec::new();
    walk(&function.body, &mut |stmt| {
        if let Stmt::Kernel(kernel) = stmt {
            kernels.push((**kernel).clone());
        }
    });
    let can_be = eligible(function);
    // By buffer, the dimension that is channels.
    let mut dims: Vec<Option<usize>> = vec![None; function.buffers.len()];
    let lanes = i64::try_from(target.vector_bytes / 4).unwrap_or(1);
    for found in kernels.iter().filter_map(|kernel| find(kernel, function)) {
        if can_be[found.data.index()] && can_be[found.out.index()] && found.n_channels * 2 >= lanes {
            dims[found.data.index()] = Some(CHANNELS);
            dims[found.out.index()] = Some(CHANNELS);
        }
    }
    if dims.iter().all(Option::is_none) {
        return Vec::new();
    }
    let indexed: Vec<Vec<(BufferId, usize, usize)>> = kernels.iter().map(axes_of_dims).collect();
    loop {
        let mut changed = false;
        for (kernel, indexed) in kernels.iter().zip(&indexed) {
            let mut channels: BTreeSet<usize> =
                indexed.iter().filter(|(b, d, _)| dims[b.index()] == Some(*d)).map(|&(.., axis)| axis).collect();
            if !channels.is_empty() {
                channels.extend(other_side(kernel, function));
            }
            for &(buffer, dim, axis) in indexed {
                if channels.contains(&axis) && dims[buffer.index()].is_none() {
                    dims[buffer.index()] = Some(dim);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let is_last = |b: &BufferId| can_be[b.index()] && dims[b.index()] == Some(CHANNELS);
    let n_channels = |b: BufferId| function.buffers[b].dims[CHANNELS].known().unwrap_or(1);
    function.buffers.ids().filter(is_last).map(|b| (b, n_channels(b))).collect()
}

/// Where a kernel's accesses have an axis as the index of a dimension: buffer, dimension, axis.
fn axes_of_dims(kernel: &Kernel) -> Vec<(BufferId, usize, usize)> {
    let mut forms = forms(kernel);
    let mut found = Vec::new();
    for (buffer, index) in accesses(kernel) {
        for (dim, &i) in index.iter().enumerate() {
            if let Some(axis) = single_axis(&forms.form(i)) {
                found.push((buffer, dim, axis));
            }
        }
    }
    found
}

/// The channels of a contraction with weights: those summed over and those of the result. Where the one are last, so should
/// be the other.
fn other_side(kernel: &Kernel, function: &Function) -> Vec<usize> {
    let Some(contraction) = recognise(kernel) else { return Vec::new() };
    let index_of = |id: ExprId| match kernel.exprs.get(id) {
        Expr::Load { buffer, index, .. } => Some((*buffer, index)),
        _ => None,
    };
    let [Some(a), Some(b)] = contraction.loads.map(index_of) else { return Vec::new() };
    let is_weight = |buffer: BufferId| matches!(function.buffers[buffer].class, BufferClass::Weight(_));
    let (weights, data) = if is_weight(a.0) { (a, b) } else { (b, a) };
    if !is_weight(weights.0) {
        return Vec::new();
    }
    let mut forms = forms(kernel);
    let of_data: BTreeSet<usize> = data
        .1
        .iter()
        .flat_map(|&i| forms.form(i).terms.into_keys())
        .filter_map(|m| if let Some(Atom::Axis(axis)) = m.atom { Some(axis) } else { None })
        .collect();
    let summed = data.1.iter().filter_map(|&i| single_axis(&forms.form(i)));
    let summed: Vec<usize> = summed.filter(|&a| kernel.axes[a].kind == AxisKind::Reduce).collect();
    let columns = weights.1.iter().filter_map(|&i| match kernel.exprs.get(i) {
        Expr::Axis(a) if kernel.axes[*a].kind == AxisKind::Parallel && !of_data.contains(a) => Some(*a),
        _ => None,
    });
    columns.chain(summed).collect()
}

/// For each buffer, whether its channels can lie last: memory of our own that only kernels touch, at linear addresses.
fn eligible(function: &Function) -> Vec<bool> {
    let is_plain = |buffer: &Buffer| {
        let is_own = matches!(buffer.class, BufferClass::Temp { .. }) && buffer.layout == Layout::RowMajor;
        let dims: Option<Vec<i64>> = buffer.dims.iter().map(|dim| dim.known()).collect();
        let is_image = dims.is_some_and(|dims| {
            dims.len() > CHANNELS + 1 && dims[CHANNELS] > 1 && dims[CHANNELS + 1..].iter().product::<i64>() > 1
        });
        is_own && is_image && buffer.dtype == DType::F32
    };
    let mut can_be: Vec<bool> = function.buffers.iter().map(is_plain).collect();
    for buffer in function.buffers.iter() {
        if let BufferClass::Alias { of, .. } = buffer.class {
            can_be[of.index()] = false;
        }
    }
    walk(&function.body, &mut |stmt| {
        let Stmt::Kernel(kernel) = stmt else {
            for buffer in touched(stmt) {
                can_be[buffer.index()] = false;
            }
            return;
        };
        let mut forms = forms(kernel);
        for (buffer, index) in accesses(kernel) {
            let is_linear = index.iter().all(|&i| forms.form(i).opaque().next().is_none());
            can_be[buffer.index()] &= is_linear && !kernel.is_ordered;
        }
    });
    can_be
}

fn turn_weights(
    block: &mut Block,
    function: &mut Function,
    weights: &mut crate::index::IndexVec<WeightId, Weight>,
    turned: &mut HashMap<(WeightId, usize), WeightId>,
) -> diag::Result<()> {
    for stmt in &mut block.0 {
        match stmt {
            Stmt::Kernel(kernel) => {
                let found = find(kernel, function)
                    .filter(|found| matches!(function.buffers[found.data].layout, Layout::Blocked { .. }));
                if let Some(found) = found {
                    **kernel = with_channels_last(kernel, &found, function, weights, turned)?;
                }
            }
            Stmt::If(_, then_body, else_body) => {
                turn_weights(then_body, function, weights, turned)?;
                turn_weights(else_body, function, weights, turned)?;
            }
            Stmt::While(_, body) => turn_weights(body, function, weights, turned)?,
            _ => {}
        }
    }
    Ok(())
}

/// The convolution with weights whose channels are the last dimension.
fn with_channels_last(
    kernel: &Kernel,
    found: &Depthwise,
    function: &mut Function,
    weights: &mut crate::index::IndexVec<WeightId, Weight>,
    turned: &mut HashMap<(WeightId, usize), WeightId>,
) -> diag::Result<Kernel> {
    let old = function.buffers[found.weights].clone();
    let BufferClass::Weight(id) = old.class else { return Ok(kernel.clone()) };
    let dim = found.channel_dim;
    let order: Vec<usize> = (0..old.dims.len()).filter(|&d| d != dim).chain([dim]).collect();
    let weight = match turned.get(&(id, dim)) {
        Some(&weight) => weight,
        None => {
            let data = Arc::new(permuted(&weights[id].data, &order)?);
            let weight = weights.push(Weight { name: weights[id].name.clone(), data });
            turned.insert((id, dim), weight);
            weight
        }
    };
    let dims = order.iter().map(|&d| old.dims[d]).collect();
    let buffer = function.buffers.push(Buffer { dims, class: BufferClass::Weight(weight), ..old });
    let target = kernel.exprs.get(found.load).clone();
    Ok(rebuilt(kernel, &mut |exprs, expr| match (expr, &target) {
        (Expr::Load { buffer: b, dtype, index, .. }, Expr::Load { .. }) if *b == found.weights => {
            let index = order.iter().map(|&d| index[d]).collect();
            Some(exprs.add(Expr::Load { buffer, dtype: *dtype, index, guard: None }))
        }
        _ => None,
    }))
}

/// The elements of a tensor with its dimensions in another order.
fn permuted(data: &TensorData, order: &[usize]) -> diag::Result<TensorData> {
    let (size, source) = (data.dtype().size_bytes(), data.contiguous_bytes());
    let sizes: Vec<i64> = order.iter().map(|&d| data.sizes()[d]).collect();
    let stride = |d: usize| data.sizes()[d + 1..].iter().product::<i64>();
    let strides: Vec<i64> = order.iter().map(|&d| stride(d)).collect();
    let n: i64 = sizes.iter().product();
    let mut out = Vec::with_capacity(source.len());
    for number in 0..n {
        let (mut rest, mut at) = (number, 0);
        for (extent, stride) in sizes.iter().zip(&strides).rev() {
            at += rest % extent * stride;
            rest /= extent;
        }
        let at = usize::try_from(at).unwrap_or(0) * size;
        let element = source.get(at..at + size);
        out.extend_from_slice(element.ok_or_else(|| Diagnostic::internal("a weight is smaller than its shape"))?);
    }
    TensorData::from_bytes(data.dtype(), &sizes, out).map_err(Diagnostic::internal)
}

/// Gives a depthwise convolution with channels in lanes its tile.
pub(crate) fn refine(flat: &Flat, plan: &mut Plan, target: &ScheduleTarget) {
    let Some((vector, _)) = plan.vector else { return };
    let [reduction] = flat.reductions[..] else { return };
    let Expr::Binary(BinaryOp::Mul, a, b) = *flat.exprs.get(reduction.value) else { return };
    let is_plain = flat.kinds[vector] == AxisKind::Parallel && !flat.kinds.contains(&AxisKind::Scan);
    let in_lanes = |id: ExprId| match flat.exprs.get(id) {
        Expr::Load { guard: None, .. } => flat.stride(&flat.addresses[&id], vector) == Some(1),
        _ => false,
    };
    if reduction.op != ReduceOp::Sum || flat.is_ordered || !is_plain || !in_lanes(a) || !in_lanes(b) {
        return;
    }
    let on = |id: ExprId, axis: usize| flat.deps[id.index()] >> axis & 1 == 1;
    let others = || plan.order.iter().copied().filter(|&axis| axis != vector);
    let data = match (others().all(|axis| !on(a, axis)), others().all(|axis| !on(b, axis))) {
        (false, true) => a,
        (true, false) => b,
        _ => return,
    };
    let step = |axis: usize| flat.stride(&flat.addresses[&data], axis).map(i64::abs).filter(|&step| step > 0);
    let nearest = |axes: Vec<usize>| axes.into_iter().filter_map(|a| Some((step(a)?, a))).min().map(|found| found.1);
    let Some(pixel) = nearest(others().collect()) else { return };
    let taps = nearest(flat.axes_of(AxisKind::Reduce));
    let extent = |axis: usize| flat.extents[axis].known().and_then(|n| usize::try_from(n).ok());
    let Some(n_pixels) = extent(pixel) else { return };
    // A sum and an input for each pixel, and a weight; two channel blocks would only need more of them.
    let most = (target.n_registers / 2).saturating_sub(1).clamp(1, 14);
    let n_tiles = n_pixels.div_ceil(most);
    plan.tile.fill(1);
    plan.tile[pixel] = n_pixels.div_ceil(n_tiles);
    if let Some(taps) = taps
        && let Some(n) = extent(taps).filter(|&n| n <= MAX_TAPS)
    {
        plan.tile[taps] = n;
    }
}

/// Taps of a row of a kernel that are written out.
const MAX_TAPS: usize = 11;
