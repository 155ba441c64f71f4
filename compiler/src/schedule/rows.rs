//! Row groups: kernels that work on the same rows one after another become one nest that takes a row through all of them.
//!
//! A softmax is a greatest element, exponentials, their sum and a division; a normalisation is a mean, a variance and a map.
//! As nests of their own each would pass over memory once. Here the outermost loop runs over rows; what the kernels hand to
//! each other is a row long and lies in a local array where nobody else wants it.
//!
//! Kernels belong together if each has leading parallel axes with the same number of points, and if every access to what
//! one of them writes and another touches stays in the row of the point. Contractions whose tiles would span rows stay out;
//! those of a batch, where a row is a whole product, do not.

use super::effects::{Place, place, uses};
use super::flat::{Flat, physical_len};
use super::linear::{Atom, Linear};
use super::plan::{PARALLEL_COST, Plan};
use super::{Options, ScheduleTarget, generic};
use crate::index::Id as _;
use crate::loops::nest::Nest;
use crate::loops::{
    AxisKind, BinaryOp, BufferClass, BufferId, Dim, Expr, ExprId, Exprs, Function, Kernel, Layout, ReduceOp, Stmt,
    StoreMode, VarId, kernel_reads,
};
use std::collections::{BTreeMap, BTreeSet};

/// Most kernels of a group.
const MAX_MEMBERS: usize = 12;
/// Most buffers of a group.
const MAX_BUFFERS: usize = 24;
/// Local arrays of a group together are at most this large, so that a row stays in a near cache.
const MAX_LOCAL_BYTES: i64 = 128 << 10;
/// A row has at least this many points; shorter ones are better worked on several at once, in lanes.
const MIN_ROW: i64 = 32;

/// What is known of a function's buffers.
pub(crate) struct Facts {
    counts: Vec<usize>,
    has_alias: Vec<bool>,
}

impl Facts {
    /// Of a function whose body is whole.
    pub(crate) fn new(function: &Function) -> Self {
        let (counts, has_alias) = uses(function);
        Self { counts, has_alias }
    }
}

/// A kernel of a group.
struct Member<'a> {
    kernel: &'a Kernel,
    flat: Flat,
    /// Its axes of rows, the outermost first; unit axes left out.
    rows: Vec<usize>,
}

/// The nest of a group, how many statements it replaces, and what it is launched with.
pub(crate) struct Group {
    /// The nest.
    pub(crate) nest: Nest,
    /// Its buffers.
    pub(crate) buffers: Vec<BufferId>,
    /// Its scalars.
    pub(crate) scalars: Vec<VarId>,
    /// Statements it stands for.
    pub(crate) n_stmts: usize,
}

/// The longest group that begins with the first statement, if there is one.
pub(crate) fn group(
    stmts: &[Stmt],
    function: &Function,
    facts: &Facts,
    target: &ScheduleTarget,
    options: &Options,
) -> Option<Group> {
    let kernels: Vec<&Kernel> = stmts
        .iter()
        .take(MAX_MEMBERS)
        .map_while(|stmt| if let Stmt::Kernel(kernel) = stmt { Some(&**kernel) } else { None })
        .collect();
    if kernels.len() < 2 || !is_member(kernels[0]) {
        return None;
    }
    let mut best: Option<Vec<Member<'_>>> = None;
    let mut n_rows = 1i64;
    for axis in kernels[0].axes.iter().take_while(|axis| axis.kind == AxisKind::Parallel) {
        n_rows = n_rows.checked_mul(axis.extent.known()?)?;
        if axis.extent.known() == Some(1) || n_rows < 2 {
            continue;
        }
        let members = members(&kernels, n_rows, function);
        if members.len() >= 2 && best.as_ref().is_none_or(|best| best.len() <= members.len()) {
            best = Some(members);
        }
    }
    let members = best?;
    let n_rows: i64 = members[0].rows.iter().filter_map(|&a| members[0].kernel.axes[a].extent.known()).product();
    let n_reductions: usize = members.iter().map(|m| m.kernel.reductions.len()).sum();
    let longest = members.iter().map(|m| points(m.kernel) / n_rows.max(1)).max()?;
    if n_reductions == 0 || longest < MIN_ROW {
        return None;
    }
    build(members, n_rows, function, facts, target, options)
}

fn points(kernel: &Kernel) -> i64 {
    kernel.axes.iter().filter_map(|axis| axis.extent.known()).fold(1, i64::saturating_mul)
}

/// Whether the kernel may be part of a group.
fn is_member(kernel: &Kernel) -> bool {
    let is_plain = kernel.axes.iter().all(|a| a.kind != AxisKind::Scan && a.extent.known().is_some_and(|n| n > 0));
    is_plain && !kernel.is_ordered && kernel.stores.iter().all(|s| s.mode == StoreMode::Set)
}

/// The leading parallel axes with this many points together, unit axes left out.
fn rows_of(kernel: &Kernel, n_rows: i64) -> Option<Vec<usize>> {
    let (mut rows, mut n) = (Vec::new(), 1);
    for (number, axis) in kernel.axes.iter().enumerate() {
        if n == n_rows {
            break;
        }
        let extent = axis.extent.known()?;
        if axis.kind != AxisKind::Parallel {
            return None;
        }
        n *= extent;
        if extent > 1 {
            rows.push(number);
        }
    }
    (n == n_rows).then_some(rows)
}

/// Whether a sum of products uses one operand for several rows.
fn is_contraction(flat: &Flat, rows: &[usize]) -> bool {
    let bits = |axes: &[usize]| axes.iter().fold(0u64, |bits, &a| bits | 1 << a);
    let (rows, reduced) = (bits(rows), bits(&flat.axes_of(AxisKind::Reduce)));
    flat.reductions.iter().any(|reduction| {
        let Expr::Binary(BinaryOp::Mul, a, b) = *flat.exprs.get(reduction.value) else { return false };
        let spans = |id: ExprId| {
            let deps = flat.deps[id.index()];
            deps & rows != rows && deps & reduced != 0
        };
        reduction.op == ReduceOp::Sum && (spans(a) || spans(b))
    })
}

/// As many of the kernels, from the first on, as fit together with this number of rows.
fn members<'a>(kernels: &[&'a Kernel], n_rows: i64, function: &Function) -> Vec<Member<'a>> {
    let mut members: Vec<Member<'a>> = Vec::new();
    // What is written so far, and what is read of it or before it was.
    let mut buffers: BTreeSet<BufferId> = BTreeSet::new();
    let mut is_linked = 0;
    for (number, &kernel) in kernels.iter().enumerate() {
        let Some(rows) = rows_of(kernel, n_rows).filter(|_| is_member(kernel)) else { break };
        let flat = Flat::with_rows(function, kernel, &rows);
        if is_contraction(&flat, &rows) || super::check_types(&flat).is_err() {
            break;
        }
        let member = Member { kernel, flat, rows };
        let touched = kernel_reads(kernel).into_iter().chain(kernel.stores.iter().map(|s| s.buffer));
        let mut all = buffers.clone();
        all.extend(touched);
        if all.len() > MAX_BUFFERS || !agrees(&members, &member, n_rows, function) {
            break;
        }
        buffers = all;
        let written: Vec<BufferId> = members.iter().flat_map(|m| m.kernel.stores.iter().map(|s| s.buffer)).collect();
        let reads = kernel_reads(member.kernel);
        members.push(member);
        if number == 0 || reads.iter().any(|b| written.contains(b)) {
            is_linked = members.len();
        }
    }
    // Kernels at the end that use nothing of the group gain nothing by it.
    members.truncate(is_linked);
    members
}

/// Whether a kernel can run row by row with those before it.
fn agrees(members: &[Member<'_>], new: &Member<'_>, n_rows: i64, function: &Function) -> bool {
    let at = |b: &BufferId| place(function, *b);
    let writes: BTreeSet<Place> = new.kernel.stores.iter().map(|s| at(&s.buffer)).collect();
    let reads = kernel_reads(new.kernel);
    for old in members {
        let old_reads: BTreeSet<Place> = kernel_reads(old.kernel).iter().map(at).collect();
        let old_writes: BTreeSet<Place> = old.kernel.stores.iter().map(|s| at(&s.buffer)).collect();
        // Each place is written by one kernel, before others read it.
        if !writes.is_disjoint(&old_reads) || !writes.is_disjoint(&old_writes) {
            return false;
        }
        for &buffer in reads.iter().filter(|&b| old_writes.contains(&at(b))) {
            let Some(stored) = row_len(function, buffer, n_rows) else { return false };
            let is_own = old.kernel.stores.iter().filter(|s| at(&s.buffer) == at(&buffer)).all(|s| s.buffer == buffer);
            if !is_own || !stays_in_row(old, buffer, stored) || !stays_in_row(new, buffer, stored) {
                return false;
            }
        }
    }
    true
}

/// Elements of a row of a buffer that is cut evenly.
fn row_len(function: &Function, buffer: BufferId, n_rows: i64) -> Option<i64> {
    let buffer = &function.buffers[buffer];
    let dims: Vec<i64> = buffer.dims.iter().map(|dim: &Dim| dim.known()).collect::<Option<_>>()?;
    let len = physical_len(&dims, &buffer.layout);
    (buffer.layout == Layout::RowMajor && len % n_rows == 0).then_some(len / n_rows)
}

/// Whether all accesses of a kernel to a buffer are in the point's row.
fn stays_in_row(member: &Member<'_>, buffer: BufferId, row_len: i64) -> bool {
    let flat = &member.flat;
    let is_load = |id: ExprId| matches!(flat.exprs.get(id), Expr::Load { buffer: b, .. } if *b == buffer);
    let loads = flat.addresses.iter().filter(|&(&id, _)| is_load(id)).map(|(_, address)| address);
    let stores = flat.stores.iter().filter(|s| s.buffer == buffer).map(|s| &s.address);
    let mut strides: BTreeMap<usize, i64> = BTreeMap::new();
    let mut stride = row_len;
    for &axis in member.rows.iter().rev() {
        strides.insert(axis, stride);
        stride *= member.kernel.axes[axis].extent.known().unwrap_or(1);
    }
    loads.chain(stores).all(|address| is_in_row(flat, address, &strides, row_len))
}

fn is_in_row(flat: &Flat, address: &Linear, strides: &BTreeMap<usize, i64>, row_len: i64) -> bool {
    let mut last = address.constant;
    for (monomial, &k) in &address.terms {
        let Some(Atom::Axis(axis)) = monomial.atom else { return false };
        if !monomial.vars.is_empty() {
            return false;
        }
        if strides.contains_key(&axis) {
            continue;
        }
        let Some(extent) = flat.extents[axis].known() else { return false };
        if k < 0 {
            return false;
        }
        last += k * (extent - 1).max(0);
    }
    let follows = |(&axis, &stride): (&usize, &i64)| address.stride_along(axis) == Some(stride);
    address.constant >= 0 && last < row_len && strides.iter().all(follows)
}

/// Writes the nest.
fn build(
    mut members: Vec<Member<'_>>,
    n_rows: i64,
    function: &Function,
    facts: &Facts,
    target: &ScheduleTarget,
    options: &Options,
) -> Option<Group> {
    let mut locals: Vec<(BufferId, usize)> = Vec::new();
    let mut n_bytes = 0;
    let written: BTreeSet<BufferId> = members.iter().flat_map(|m| m.kernel.stores.iter().map(|s| s.buffer)).collect();
    for buffer in written {
        let touches = |m: &&Member<'_>| {
            kernel_reads(m.kernel).contains(&buffer) || m.kernel.stores.iter().any(|s| s.buffer == buffer)
        };
        let is_own = matches!(function.buffers[buffer].class, BufferClass::Temp { .. });
        let is_private = is_own && !facts.has_alias[buffer.index()];
        if !is_private || members.iter().filter(touches).count() != facts.counts[buffer.index()] {
            continue;
        }
        let Some(len) = row_len(function, buffer, n_rows) else { continue };
        let bytes = len * i64::try_from(function.buffers[buffer].dtype.size_bytes()).ok()?;
        if n_bytes + bytes > MAX_LOCAL_BYTES || !members.iter().all(|m| stays_in_row(m, buffer, len)) {
            continue;
        }
        n_bytes += bytes;
        locals.push((buffer, usize::try_from(len).ok()?));
    }
    if locals.is_empty() {
        return None;
    }
    for member in &mut members {
        let rows = member.rows.clone();
        let is_local = |buffer: BufferId| locals.iter().any(|&(b, _)| b == buffer);
        let flat = &mut member.flat;
        let local = |exprs: &Exprs, id: ExprId| matches!(exprs.get(id), Expr::Load { buffer, .. } if is_local(*buffer));
        let loads = flat.addresses.iter_mut().filter(|&(&id, _)| local(&flat.exprs, id)).map(|(_, address)| address);
        let stores = flat.stores.iter_mut().filter(|s| is_local(s.buffer)).map(|s| &mut s.address);
        for address in loads.chain(stores) {
            address.terms.retain(|m, _| !matches!(m.atom, Some(Atom::Axis(a)) if rows.contains(&a)));
        }
    }
    let plan = |member: &Member<'_>| {
        let mut plan = Plan::within_rows(&member.flat, &member.rows, target, options);
        super::gemm::refine(&member.flat, &mut plan, target);
        plan
    };
    let plans: Vec<Plan> = members.iter().map(plan).collect();
    let parts: Vec<generic::Part<'_>> = members
        .iter()
        .zip(&plans)
        .map(|(member, plan)| generic::Part { flat: &member.flat, plan, rows: &member.rows })
        .collect();
    let names: Vec<&str> = members.iter().map(|m| m.kernel.name.as_str()).filter(|name| !name.is_empty()).collect();
    let mut name = names.join("+");
    if name.len() > 60 {
        name = names.last().map_or_else(String::new, |&name| name.to_owned());
    }
    let cost: u64 = plans.iter().map(|plan| plan.cost).sum();
    let parallel = options.threads && cost >= PARALLEL_COST;
    let (nest, buffers, scalars) = generic::build_rows(function, &parts, n_rows, &locals, &name, parallel);
    Some(Group { nest, buffers, scalars, n_stmts: members.len() })
}
