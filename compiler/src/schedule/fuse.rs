//! Fusion of kernels: what is made for the next kernel only is computed in it.
//!
//! Two rewrites on statements of one block, until nothing changes:
//! - *inline*: a map that fills a scratch buffer is evaluated where its consumers load it, if that does not repeat much work;
//! - *join*: a map over the results of the kernel before it becomes that kernel's stores (the epilogue of a contraction,
//!   several maps over one index space).
//!
//! Both move a kernel down to its consumer. That is silent if no statement between them writes what the kernel reads, touches
//! what it writes, or sets a variable it uses. A buffer disappears only if every statement that touches it took part, it has
//! no alias, and its memory is this function's own. Anything else stays as it was.

use super::effects::{Effects, Place, kernel_vars, place, slot_users, uses};
use super::linear::{Atom, Forms};
use crate::index::Id as _;
use crate::loops::{
    AxisKind, BinaryOp, Block, BufferClass, BufferId, Const, Expr, ExprId, Exprs, Function, Guard, Kernel, Layout,
    Program, Stmt, Store, StoreMode, UnaryOp, kernel_reads,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Expressions a fused kernel may have; more would not stay in registers and compile slowly.
const MAX_EXPRS: usize = 400;
/// Buffers a fused kernel may touch.
const MAX_BUFFERS: usize = 16;

/// Fuses the kernels of every function.
pub(crate) fn fuse(program: &mut Program) {
    let slots = slot_users(program);
    for function in program.functions.iter_mut() {
        remove_dead(function);
        let mut body = std::mem::take(&mut function.body);
        fuse_block(&mut body, &[], function, &slots);
        function.body = body;
        remove_dead(function);
    }
}

/// Position of a nested block: statement number and branch, from the outside in.
type Path = [(usize, usize)];

fn fuse_block(root: &mut Block, path: &Path, function: &mut Function, slots: &BTreeMap<usize, usize>) {
    let mut at = 0;
    while at < block_at(root, path).0.len() {
        let n_branches = match &block_at(root, path).0[at] {
            Stmt::If(..) => 2,
            Stmt::While(..) => 1,
            _ => 0,
        };
        for branch in 0..n_branches {
            fuse_block(root, &[path, &[(at, branch)]].concat(), function, slots);
        }
        // The counts are of the whole function, whose body is `root` for now.
        function.body = std::mem::take(root);
        let facts = Facts::new(function, slots);
        *root = std::mem::take(&mut function.body);
        let block = block_at(root, path);
        let changed = inline(block, at, function, &facts) || join(block, at, function, &facts);
        if changed {
            // What is here now may be fused again, and so may what comes before it.
            at = at.saturating_sub(1);
        } else {
            at += 1;
        }
    }
}

fn block_at<'a>(root: &'a mut Block, path: &Path) -> &'a mut Block {
    path.iter().fold(root, |block, &(stmt, branch)| match &mut block.0[stmt] {
        Stmt::If(_, then_body, else_body) => {
            if branch == 0 {
                then_body
            } else {
                else_body
            }
        }
        Stmt::While(_, body) => body,
        _ => unreachable!("the path leads through statements with blocks"),
    })
}

/// Facts about a function's buffers.
struct Facts<'a> {
    counts: Vec<usize>,
    has_alias: Vec<bool>,
    slots: &'a BTreeMap<usize, usize>,
}

impl<'a> Facts<'a> {
    fn new(function: &Function, slots: &'a BTreeMap<usize, usize>) -> Self {
        let (counts, has_alias) = uses(function);
        Self { counts, has_alias, slots }
    }

    /// Whether nobody but the statements of this function that name the buffer can see it.
    fn is_private(&self, function: &Function, buffer: BufferId) -> bool {
        let is_own = match function.buffers[buffer].class {
            BufferClass::Temp { .. } => true,
            BufferClass::Slot(slot) => self.slots.get(&slot) == Some(&1),
            _ => false,
        };
        is_own && !self.has_alias[buffer.index()] && function.buffers[buffer].layout == Layout::RowMajor
    }
}

/// For each dimension of the buffer of a store, the axis that runs along it (`None`: extent 1); if the store fills the buffer.
fn filled(function: &Function, kernel: &Kernel, store: &Store) -> Option<Vec<Option<usize>>> {
    if store.guard.is_some() || store.mode != StoreMode::Set || kernel.is_ordered {
        return None;
    }
    let dims = &function.buffers[store.buffer].dims;
    let mut axes = Vec::new();
    for (&i, dim) in store.index.iter().zip(dims) {
        axes.push(match kernel.exprs.get(i) {
            Expr::Axis(axis) => {
                let is_whole = kernel.axes[*axis].extent == *dim && kernel.axes[*axis].kind == AxisKind::Parallel;
                if !is_whole || axes.contains(&Some(*axis)) {
                    return None;
                }
                Some(*axis)
            }
            Expr::Const(c) if c.bits == 0 && dim.known() == Some(1) => None,
            _ => return None,
        });
    }
    let outer = kernel.axes.iter().enumerate().filter(|(_, axis)| axis.kind != AxisKind::Reduce);
    let covered = |(n, axis): (usize, &crate::loops::Axis)| axis.extent.known() == Some(1) || axes.contains(&Some(n));
    outer.clone().all(covered).then_some(axes)
}

fn is_map(kernel: &Kernel) -> bool {
    kernel.reductions.is_empty() && !kernel.is_ordered && kernel.axes.iter().all(|a| a.kind == AxisKind::Parallel)
}

fn kernel_at(block: &Block, at: usize) -> Option<&Kernel> {
    if let Stmt::Kernel(kernel) = block.0.get(at)? { Some(kernel) } else { None }
}

/// Whether the kernel at `from` can be run just before the statement at `to` instead.
fn can_sink(block: &Block, function: &Function, from: usize, to: usize, kernel: &Kernel) -> bool {
    let mut between = Effects::default();
    for stmt in &block.0[from + 1..to] {
        between.add(function, stmt);
    }
    let reads: BTreeSet<Place> = kernel_reads(kernel).iter().map(|&b| place(function, b)).collect();
    let writes: BTreeSet<Place> = kernel.stores.iter().map(|s| place(function, s.buffer)).collect();
    // Memory that others see must be written before the function can end.
    let is_seen = |place: &Place| !matches!(place, Place::Own(_));
    !(between.may_end && writes.iter().any(is_seen))
        && between.writes.is_disjoint(&reads)
        && between.writes.is_disjoint(&writes)
        && between.reads.is_disjoint(&writes)
        && between.assigned.is_disjoint(&kernel_vars(function, kernel))
}

/// Work of one element, and whether it can be computed where the element does not exist.
fn work(kernel: &Kernel, value: ExprId) -> (usize, bool) {
    let (mut stack, mut seen) = (vec![value], BTreeSet::new());
    let (mut work, mut is_total) = (0, true);
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        let expr = kernel.exprs.get(id);
        work += match expr {
            Expr::Const(_) | Expr::Axis(_) | Expr::Var(..) | Expr::Acc(..) | Expr::Load { .. } => 0,
            Expr::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::IsNan, _) => 1,
            Expr::Unary(..) | Expr::Binary(BinaryOp::Pow | BinaryOp::Atan2, ..) => 10,
            Expr::Binary(BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod, _, by) => {
                let by = kernel.exprs.constant(*by);
                is_total &= kernel.exprs.dtype(id).is_floating_point() || by.is_some_and(|c| c.bits != 0);
                4
            }
            Expr::Binary(..) | Expr::Select(..) | Expr::Cast(..) => 1,
        };
        // The arithmetic of addresses is not counted: most of it disappears.
        if !matches!(expr, Expr::Load { .. }) {
            stack.extend(Exprs::operands(expr));
        }
    }
    (work, is_total)
}

/// Points of a kernel, as far as known; an unknown extent counts as one.
fn n_points(kernel: &Kernel) -> i64 {
    kernel.axes.iter().filter_map(|axis| axis.extent.known()).fold(1, i64::saturating_mul)
}

fn n_elements(function: &Function, buffer: BufferId) -> i64 {
    function.buffers[buffer].dims.iter().filter_map(|dim| dim.known()).fold(1, i64::saturating_mul)
}

fn loads_of(kernel: &Kernel, buffer: BufferId) -> Vec<ExprId> {
    let is_load = |id: &ExprId| matches!(kernel.exprs.get(*id), Expr::Load { buffer: b, .. } if *b == buffer);
    kernel.exprs.ids().filter(is_load).collect()
}

fn n_buffers(kernel: &Kernel) -> usize {
    kernel_reads(kernel).len() + kernel.stores.len()
}

/// Inlines the map at `at` into all its consumers, which must be later kernels of the block.
fn inline(block: &mut Block, at: usize, function: &Function, facts: &Facts<'_>) -> bool {
    let Some(producer) = kernel_at(block, at) else { return false };
    let [store] = &producer.stores[..] else { return false };
    let buffer = store.buffer;
    if !is_map(producer) || !facts.is_private(function, buffer) || kernel_reads(producer).contains(&buffer) {
        return false;
    }
    let Some(axes) = filled(function, producer, store) else { return false };
    let is_consumer = |&n: &usize| kernel_at(block, n).is_some_and(|k| kernel_reads(k).contains(&buffer));
    let consumers: Vec<usize> = (at + 1..block.0.len()).filter(is_consumer).collect();
    if consumers.is_empty() || consumers.len() + 1 != facts.counts[buffer.index()] {
        return false;
    }
    let (work, is_total) = work(producer, store.value);
    let has_complex = producer.exprs.ids().any(|id| producer.exprs.dtype(id).is_complex());
    let mut repeats = 0;
    for &n in &consumers {
        let Some(consumer) = kernel_at(block, n) else { return false };
        let loads = loads_of(consumer, buffer);
        let is_written = consumer.stores.iter().any(|s| s.buffer == buffer);
        let writes: BTreeSet<Place> = consumer.stores.iter().map(|s| place(function, s.buffer)).collect();
        let has_guard = loads.iter().any(|&l| matches!(consumer.exprs.get(l), Expr::Load { guard: Some(_), .. }));
        // The consumer would load what it stores, at other places perhaps.
        let overlaps = kernel_reads(producer).iter().any(|&b| writes.contains(&place(function, b)));
        let is_large = consumer.exprs.len() + loads.len() * producer.exprs.len() > MAX_EXPRS
            || n_buffers(consumer) + kernel_reads(producer).len() > MAX_BUFFERS;
        let refuses = has_guard && (!is_total || has_complex);
        if is_written || overlaps || is_large || refuses || consumer.is_ordered {
            return false;
        }
        if !can_sink(block, function, at, n, producer) {
            return false;
        }
        let n_unknown = consumer.axes.iter().filter(|axis| axis.extent.known().is_none()).count();
        let n_own_unknown = function.buffers[buffer].dims.iter().filter(|dim| dim.known().is_none()).count();
        let mut times = n_points(consumer) / n_elements(function, buffer).max(1);
        if n_unknown > n_own_unknown {
            times = i64::MAX;
        }
        repeats += usize::try_from(times.max(1)).unwrap_or(usize::MAX).saturating_mul(loads.len());
    }
    let n_loads = kernel_reads(producer).len();
    // A copy (a materialised view) is as well read through; work is repeated only if it is next to none.
    let is_free = work == 0 && n_loads <= 1;
    let is_cheap = work <= 2 && n_loads <= 1 && consumers.len() <= 3 && repeats <= 16;
    if !(is_free || is_cheap || consumers.len() == 1 && repeats == 1) {
        return false;
    }
    let producer = producer.clone();
    for n in consumers {
        if let Stmt::Kernel(consumer) = &mut block.0[n] {
            **consumer = inlined(&producer, &axes, consumer);
        }
    }
    block.0.remove(at);
    true
}

/// The consumer with the producer's value in place of loads from its buffer.
fn inlined(producer: &Kernel, axes: &[Option<usize>], consumer: &Kernel) -> Kernel {
    let store = &producer.stores[0];
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| {
        let Expr::Load { buffer, index, guard, .. } = expr else { return None };
        if *buffer != store.buffer {
            return None;
        }
        let value = value_at(exprs, producer, axes, index, *guard);
        Some(match guard {
            Some(guard) => exprs.add(Expr::Select(guard.cond, value, guard.other)),
            None => value,
        })
    };
    let mut fused = rebuilt(consumer, &mut leaf);
    fused.name = joined_name(&producer.name, &consumer.name);
    fused
}

/// The producer's value at this index, in expressions of another kernel; its loads happen only where the guard holds.
fn value_at(
    exprs: &mut Exprs,
    producer: &Kernel,
    axes: &[Option<usize>],
    index: &[ExprId],
    guard: Option<Guard>,
) -> ExprId {
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Axis(axis) => {
            let dim = axes.iter().position(|a| *a == Some(*axis));
            Some(dim.map_or_else(|| exprs.int(0), |dim| index[dim]))
        }
        Expr::Load { buffer, dtype, index, guard: own } => {
            let outer = guard?;
            let cond = match own {
                Some(own) => exprs.binary(BinaryOp::And, outer.cond, own.cond),
                None => outer.cond,
            };
            let other = own.map_or_else(|| exprs.add(Expr::Const(Const::from_i64(*dtype, 0))), |own| own.other);
            let (buffer, dtype, index) = (*buffer, *dtype, index.clone());
            Some(exprs.add(Expr::Load { buffer, dtype, index, guard: Some(Guard { cond, other }) }))
        }
        _ => None,
    };
    exprs.import(&producer.exprs, producer.stores[0].value, &mut HashMap::new(), &mut leaf)
}

/// The kernel with its leaves replaced; expressions it does not use are gone.
pub(crate) fn rebuilt(kernel: &Kernel, leaf: &mut crate::loops::Substitution<'_>) -> Kernel {
    let mut exprs = Exprs::new();
    let mut memo = HashMap::new();
    let mut import = |exprs: &mut Exprs, id: ExprId| exprs.import(&kernel.exprs, id, &mut memo, leaf);
    let mut reductions = kernel.reductions.clone();
    for reduction in &mut reductions {
        reduction.value = import(&mut exprs, reduction.value);
        reduction.payload = reduction.payload.map(|p| import(&mut exprs, p));
    }
    let mut stores = kernel.stores.clone();
    for store in &mut stores {
        store.index = store.index.iter().map(|&i| import(&mut exprs, i)).collect();
        store.value = import(&mut exprs, store.value);
        store.guard = store.guard.map(|g| import(&mut exprs, g));
    }
    let (name, place, axes, is_ordered) =
        (kernel.name.clone(), kernel.place.clone(), kernel.axes.clone(), kernel.is_ordered);
    Kernel { name, place, axes, exprs, reductions, stores, is_ordered }
}

/// Names joined, as long as that stays readable.
fn joined_name(first: &str, second: &str) -> String {
    let total = first.len() + second.len();
    if first.is_empty() || total > 60 { second.to_owned() } else { format!("{first}+{second}") }
}

/// Turns the first map after the kernel at `at` that works on its result, element for element, into stores of it.
fn join(block: &mut Block, at: usize, function: &Function, facts: &Facts<'_>) -> bool {
    let Some(producer) = kernel_at(block, at) else { return false };
    if producer.axes.iter().any(|axis| axis.kind == AxisKind::Scan) || producer.is_ordered {
        return false;
    }
    let stored: Vec<BufferId> = producer.stores.iter().map(|s| s.buffer).collect();
    let reads_result =
        |&n: &usize| kernel_at(block, n).is_some_and(|k| kernel_reads(k).iter().any(|b| stored.contains(b)));
    let Some(to) = (at + 1..block.0.len()).find(reads_result) else { return false };
    let Some(consumer) = kernel_at(block, to) else { return false };
    if !is_map(consumer)
        || !can_sink(block, function, at, to, producer)
        || producer.exprs.len() + consumer.exprs.len() > MAX_EXPRS
        || n_buffers(producer) + n_buffers(consumer) > MAX_BUFFERS
    {
        return false;
    }
    let Some(map) = correspondence(function, producer, consumer) else { return false };
    let (p_reads, c_reads) = (kernel_reads(producer), kernel_reads(consumer));
    let at_place = |b: &BufferId| place(function, *b);
    let p_writes: BTreeSet<Place> = stored.iter().map(at_place).collect();
    let c_writes: BTreeSet<Place> = consumer.stores.iter().map(|s| at_place(&s.buffer)).collect();
    let conflicts = c_reads.iter().filter(|b| !stored.contains(b)).any(|b| p_writes.contains(&at_place(b)))
        || p_reads.iter().any(|b| c_writes.contains(&at_place(b)))
        || !p_writes.is_disjoint(&c_writes);
    if conflicts {
        return false;
    }
    let mut fused = producer.clone();
    let mut leaf = |exprs: &mut Exprs, expr: &Expr| match expr {
        Expr::Axis(axis) => Some(map.axes[*axis].build(exprs)),
        Expr::Load { buffer, .. } => producer.stores.iter().find(|s| s.buffer == *buffer).map(|s| s.value),
        _ => None,
    };
    let mut memo = HashMap::new();
    for store in &consumer.stores {
        let mut import = |id: ExprId| fused.exprs.import(&consumer.exprs, id, &mut memo, &mut leaf);
        let index = store.index.iter().map(|&i| import(i)).collect();
        let (value, guard) = (import(store.value), store.guard.map(&mut import));
        fused.stores.push(Store { buffer: store.buffer, index, value, guard, mode: store.mode });
    }
    // What only the consumer read is not stored any more.
    let is_needed = |buffer: BufferId| {
        let others = facts.counts[buffer.index()] > 2;
        others || !c_reads.contains(&buffer) || !facts.is_private(function, buffer)
    };
    let n_first = producer.stores.len();
    let mut number = 0;
    fused.stores.retain(|store| {
        number += 1;
        number > n_first || is_needed(store.buffer)
    });
    fused.name = joined_name(&producer.name, &consumer.name);
    let fused = rebuilt(&fused, &mut |_, _| None);
    block.0[to] = Stmt::Kernel(Box::new(fused));
    block.0.remove(at);
    true
}

/// How the index along an axis of the consumer follows from those of the producer.
#[derive(Clone, Debug)]
enum AxisMap {
    Zero,
    /// `axis / divisor % extent`; no remainder where `extent` is `None`.
    Part {
        axis: usize,
        divisor: i64,
        extent: Option<i64>,
    },
}

impl AxisMap {
    fn build(&self, exprs: &mut Exprs) -> ExprId {
        match *self {
            Self::Zero => exprs.int(0),
            Self::Part { axis, divisor, extent } => {
                let axis = exprs.add(Expr::Axis(axis));
                let by = exprs.int(divisor);
                let quotient = exprs.binary(BinaryOp::FloorDiv, axis, by);
                let Some(extent) = extent else { return quotient };
                let extent = exprs.int(extent);
                exprs.binary(BinaryOp::FloorMod, quotient, extent)
            }
        }
    }
}

struct Correspondence {
    /// By axis of the consumer.
    axes: Vec<AxisMap>,
}

/// The one-to-one map of index spaces under which every load the consumer makes from the producer's results is the element
/// the producer has just made.
fn correspondence(function: &Function, producer: &Kernel, consumer: &Kernel) -> Option<Correspondence> {
    let extents: Vec<Option<i64>> = consumer.axes.iter().map(|axis| axis.extent.known()).collect();
    let mut forms = Forms::new(&consumer.exprs, extents.clone());
    let mut result: Option<Vec<AxisMap>> = None;
    for store in &producer.stores {
        for load in loads_of(consumer, store.buffer) {
            let Expr::Load { index, guard: None, .. } = consumer.exprs.get(load) else { return None };
            let along = filled(function, producer, store)?;
            let mut axes: Vec<Option<AxisMap>> =
                extents.iter().map(|e| (*e == Some(1)).then_some(AxisMap::Zero)).collect();
            for (d, &i) in index.iter().enumerate() {
                let Some(axis) = along[d] else { continue };
                let dim = function.buffers[store.buffer].dims[d];
                let form = forms.form(i);
                if form.constant != 0 {
                    return None;
                }
                let mut terms = Vec::new();
                for (monomial, &k) in &form.terms {
                    match monomial.atom {
                        Some(Atom::Axis(own)) if monomial.vars.is_empty() => terms.push((k, own)),
                        _ => return None,
                    }
                }
                terms.sort_unstable();
                if let [(1, own)] = terms[..] {
                    // The whole dimension, of whatever extent.
                    if consumer.axes[own].extent != dim || axes[own].is_some() {
                        return None;
                    }
                    axes[own] = Some(AxisMap::Part { axis, divisor: 1, extent: None });
                    continue;
                }
                // Several axes of the consumer cut this one: strides must follow from extents.
                let n_terms = terms.len();
                let mut divisor = 1;
                for (number, (k, own)) in terms.into_iter().enumerate() {
                    if k != divisor || axes[own].is_some() {
                        return None;
                    }
                    let extent = extents[own]?;
                    let is_outermost = number + 1 == n_terms;
                    axes[own] = Some(AxisMap::Part { axis, divisor, extent: (!is_outermost).then_some(extent) });
                    divisor *= extent;
                }
                if dim.known() != Some(divisor) {
                    return None;
                }
            }
            let axes: Vec<AxisMap> = axes.into_iter().collect::<Option<_>>()?;
            let same = |a: &AxisMap, b: &AxisMap| format!("{a:?}") == format!("{b:?}");
            match &result {
                None => result = Some(axes),
                Some(known) if known.iter().zip(&axes).all(|(a, b)| same(a, b)) => {}
                Some(_) => return None,
            }
        }
    }
    result.map(|axes| Correspondence { axes })
}

/// Removes stores to scratch that nothing reads, kernels without stores, and memory requests for what nothing touches.
pub(crate) fn remove_dead(function: &mut Function) {
    loop {
        let mut is_read = vec![false; function.buffers.len()];
        crate::loops::walk(&function.body, &mut |stmt| {
            let reads = match stmt {
                Stmt::Kernel(kernel) => {
                    // A store that combines reads what is there, but only matters if somebody reads the result.
                    kernel_reads(kernel)
                }
                Stmt::Alloc(_) => Vec::new(),
                _ => crate::loops::touched(stmt),
            };
            for buffer in reads {
                is_read[super::flat::root(function, buffer).index()] = true;
            }
        });
        let is_dead = |buffer: BufferId| {
            let root = super::flat::root(function, buffer);
            matches!(function.buffers[root].class, BufferClass::Temp { .. }) && !is_read[root.index()]
        };
        let mut changed = false;
        let mut body = function.body.clone();
        prune(&mut body, &is_dead, &mut changed);
        if changed {
            function.body = body;
        } else {
            return;
        }
    }
}

fn prune(block: &mut Block, is_dead: &dyn Fn(BufferId) -> bool, changed: &mut bool) {
    block.0.retain_mut(|stmt| {
        match stmt {
            Stmt::Kernel(kernel) => {
                let before = kernel.stores.len();
                kernel.stores.retain(|store| !is_dead(store.buffer));
                if kernel.stores.len() < before {
                    *changed = true;
                    **kernel = rebuilt(kernel, &mut |_, _| None);
                }
                return !kernel.stores.is_empty();
            }
            Stmt::If(_, then_body, else_body) => {
                prune(then_body, is_dead, changed);
                prune(else_body, is_dead, changed);
            }
            Stmt::While(_, body) => prune(body, is_dead, changed),
            _ => {}
        }
        true
    });
}
