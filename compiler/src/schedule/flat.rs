//! A kernel with physical addresses: every access is one linear form in elements of its buffer, and axes that lie next to each
//! other everywhere are one axis.

use super::linear::{Extent, Forms, Linear};
use crate::index::Id as _;
use crate::loops::{
    AxisKind, BinaryOp, BufferId, Expr, ExprId, Exprs, Function, Kernel, Layout, ReduceOp, Reduction, StoreMode,
};
use crate::types::DType;
use std::collections::BTreeMap;

/// Set in [`Flat::deps`] of what reads memory that the kernel itself writes in order.
pub(crate) const VOLATILE: u64 = 1 << 63;

/// A store with its address.
#[derive(Clone, Debug)]
pub(crate) struct FlatStore {
    /// What is written.
    pub(crate) buffer: BufferId,
    /// Its element type.
    pub(crate) dtype: DType,
    /// The element.
    pub(crate) address: Linear,
    /// The value.
    pub(crate) value: ExprId,
    /// When.
    pub(crate) guard: Option<ExprId>,
    /// How.
    pub(crate) mode: StoreMode,
}

/// A kernel with addresses.
pub(crate) struct Flat {
    /// The kernel's expressions. Index operands of loads count only through `addresses`.
    pub(crate) exprs: Exprs,
    /// Kinds of the kernel's axes.
    pub(crate) kinds: Vec<AxisKind>,
    /// Their extents; 1 for those that were joined with their neighbour.
    pub(crate) extents: Vec<Extent>,
    /// The element each load reads.
    pub(crate) addresses: BTreeMap<ExprId, Linear>,
    /// The kernel's reductions.
    pub(crate) reductions: Vec<Reduction>,
    /// The kernel's stores.
    pub(crate) stores: Vec<FlatStore>,
    /// Whether points run in order.
    pub(crate) is_ordered: bool,
    /// For each expression in use: the axes (as bits) its value depends on, and [`VOLATILE`].
    pub(crate) deps: Vec<u64>,
    /// Expressions in use.
    pub(crate) used: Vec<ExprId>,
}

/// The memory a buffer is part of.
pub(crate) fn root(function: &Function, buffer: BufferId) -> BufferId {
    function.memory(buffer)
}

/// The index of each physical dimension of a buffer with that dimension's stride.
fn physical(exprs: &mut Exprs, function: &Function, buffer: BufferId, index: &[ExprId]) -> Vec<(ExprId, Extent)> {
    let buffer = &function.buffers[buffer];
    let mut dims: Vec<(ExprId, Extent)> =
        index.iter().zip(&buffer.dims).map(|(&i, &dim)| (i, Extent::from(dim))).collect();
    if let Layout::Strided(strides) = &buffer.layout {
        return index.iter().zip(strides).map(|(&i, &stride)| (i, Extent::from(stride))).collect();
    }
    if let Layout::Blocked { dim, block } = buffer.layout {
        let block = i64::try_from(block).expect("blocks are small");
        let (i, extent) = dims[dim].clone();
        let by = exprs.int(block);
        let outer = exprs.binary(BinaryOp::FloorDiv, i, by);
        let inner = exprs.binary(BinaryOp::FloorMod, i, by);
        let n_blocks = extent.known().expect("blocked extents are known") + block - 1;
        dims[dim] = (outer, Extent { factor: n_blocks / block, vars: Vec::new() });
        dims.push((inner, Extent { factor: block, vars: Vec::new() }));
    }
    let mut stride = Extent::ONE;
    for (_, extent) in dims.iter_mut().rev() {
        let next = stride.times(extent);
        *extent = stride;
        stride = next;
    }
    dims
}

/// How many elements a buffer's memory holds, if its extents are these.
pub(crate) fn physical_len(dims: &[i64], layout: &Layout) -> i64 {
    let of_dim = |(d, &extent): (usize, &i64)| match *layout {
        Layout::Blocked { dim, block } if dim == d => {
            let block = i64::try_from(block).expect("blocks are small");
            (extent + block - 1) / block * block
        }
        // Strided memory belongs to an object, not to the program.
        Layout::Blocked { .. } | Layout::RowMajor | Layout::Strided(_) => extent,
    };
    dims.iter().enumerate().map(of_dim).product()
}

impl Flat {
    /// The kernel with addresses, its axes joined where possible.
    pub(crate) fn new(function: &Function, kernel: &Kernel) -> Self {
        Self::with_rows(function, kernel, &[])
    }

    /// The same with these axes as they are; only others are joined.
    pub(crate) fn with_rows(function: &Function, kernel: &Kernel, rows: &[usize]) -> Self {
        let mut exprs = kernel.exprs.clone();
        let mut places = Vec::new();
        for id in kernel.exprs.ids() {
            if let Expr::Load { buffer, index, .. } = kernel.exprs.get(id) {
                places.push((id, physical(&mut exprs, function, *buffer, index)));
            }
        }
        let store_places: Vec<_> =
            kernel.stores.iter().map(|s| physical(&mut exprs, function, s.buffer, &s.index)).collect();
        let extents: Vec<Extent> = kernel.axes.iter().map(|axis| Extent::from(axis.extent)).collect();
        let mut forms = Forms::new(&exprs, extents.iter().map(Extent::known).collect());
        let mut address = |place: &[(ExprId, Extent)]| {
            let sum =
                place.iter().fold(Linear::default(), |sum, (i, stride)| sum.plus(&forms.form(*i).scaled(stride), 1));
            forms.rejoined(sum)
        };
        let addresses = places.iter().map(|(id, place)| (*id, address(place))).collect();
        let stores = kernel.stores.iter().zip(&store_places).map(|(store, place)| FlatStore {
            buffer: store.buffer,
            dtype: function.buffers[store.buffer].dtype,
            address: address(place),
            value: store.value,
            guard: store.guard,
            mode: store.mode,
        });
        let stores = stores.collect();
        let mut flat = Self {
            exprs,
            kinds: kernel.axes.iter().map(|axis| axis.kind).collect(),
            extents,
            addresses,
            reductions: kernel.reductions.clone(),
            stores,
            is_ordered: kernel.is_ordered,
            deps: Vec::new(),
            used: Vec::new(),
        };
        flat.find_used();
        flat.join_axes(rows);
        flat.find_deps(function);
        flat
    }

    /// Whether an axis has exactly one point.
    pub(crate) fn is_unit(&self, axis: usize) -> bool {
        self.extents[axis].known() == Some(1)
    }

    /// Axes of a kind with more than one point, in order.
    pub(crate) fn axes_of(&self, kind: AxisKind) -> Vec<usize> {
        (0..self.kinds.len()).filter(|&a| self.kinds[a] == kind && !self.is_unit(a)).collect()
    }

    /// What an expression needs: operands, or for loads the opaque parts of the address and the guard.
    pub(crate) fn needs(&self, id: ExprId) -> Vec<ExprId> {
        match self.exprs.get(id) {
            Expr::Load { guard, .. } => {
                let guard = guard.iter().flat_map(|g| [g.cond, g.other]);
                self.addresses[&id].opaque().chain(guard).collect()
            }
            other => Exprs::operands(other),
        }
    }

    fn find_used(&mut self) {
        let mut stack: Vec<ExprId> = Vec::new();
        for reduction in &self.reductions {
            stack.push(reduction.value);
            stack.extend(reduction.payload);
        }
        for store in &self.stores {
            stack.push(store.value);
            stack.extend(store.guard);
            stack.extend(store.address.opaque());
        }
        let mut is_used = vec![false; self.exprs.len()];
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut is_used[id.index()], true) {
                stack.extend(self.needs(id));
            }
        }
        self.used = self.exprs.ids().filter(|id| is_used[id.index()]).collect();
        self.addresses.retain(|id, _| is_used[id.index()]);
    }

    /// Joins neighbouring axes of a kind where each address moves along them as along one.
    fn join_axes(&mut self, apart: &[usize]) {
        let is_direct = |axis: usize| self.used.iter().any(|&id| *self.exprs.get(id) == Expr::Axis(axis));
        let can_join: Vec<bool> =
            (0..self.kinds.len()).map(|axis| !is_direct(axis) && !apart.contains(&axis)).collect();
        for kind in [AxisKind::Parallel, AxisKind::Reduce] {
            let axes = self.axes_of(kind);
            for pair in axes.windows(2).rev() {
                let (p, q) = (pair[0], pair[1]);
                let follows = |form: &Linear| {
                    let next = form.of_axis(q).fold(Linear::default(), |sum, (vars, k)| {
                        let term = Linear::constant(1).scaled(&Extent { factor: k, vars: vars.to_vec() });
                        sum.plus(&term.scaled(&self.extents[q]), 1)
                    });
                    let own = form.of_axis(p).fold(Linear::default(), |sum, (vars, k)| {
                        sum.plus(&Linear::constant(1).scaled(&Extent { factor: k, vars: vars.to_vec() }), 1)
                    });
                    next == own
                };
                let mut forms = self.addresses.values().chain(self.stores.iter().map(|s| &s.address));
                if can_join[p] && can_join[q] && forms.all(follows) {
                    self.extents[q] = self.extents[p].times(&self.extents[q]);
                    self.extents[p] = Extent::ONE;
                    let is_p = |m: &super::linear::Monomial| m.atom == Some(super::linear::Atom::Axis(p));
                    for form in self.addresses.values_mut().chain(self.stores.iter_mut().map(|s| &mut s.address)) {
                        form.terms.retain(|m, _| !is_p(m));
                    }
                }
            }
        }
    }

    fn find_deps(&mut self, function: &Function) {
        let in_order = self.is_ordered || self.kinds.contains(&AxisKind::Scan);
        let written: Vec<BufferId> = self.stores.iter().map(|s| root(function, s.buffer)).collect();
        let outside_reduce = (0..self.kinds.len()).filter(|&a| self.kinds[a] != AxisKind::Reduce && !self.is_unit(a));
        let acc_deps = outside_reduce.fold(0, |bits, a| bits | 1 << a);
        // A load comes before the parts of its address that the layout added, so ids are not an order here.
        let mut known = vec![None; self.exprs.len()];
        let mut stack = self.used.clone();
        while let Some(&id) = stack.last() {
            if known[id.index()].is_some() {
                stack.pop();
                continue;
            }
            let needs = self.needs(id);
            let open = needs.iter().filter(|n| known[n.index()].is_none());
            let n_before = stack.len();
            stack.extend(open);
            if stack.len() > n_before {
                continue;
            }
            let mut deps = needs.iter().fold(0, |bits, n| bits | known[n.index()].unwrap_or(0));
            match self.exprs.get(id) {
                Expr::Axis(axis) if !self.is_unit(*axis) => deps |= 1 << axis,
                Expr::Acc(..) => deps |= acc_deps,
                Expr::Load { buffer, .. } => {
                    deps |= self.form_axes(&self.addresses[&id]);
                    if in_order && written.contains(&root(function, *buffer)) {
                        deps |= VOLATILE;
                    }
                }
                _ => {}
            }
            known[id.index()] = Some(deps);
        }
        self.deps = known.into_iter().map(|deps| deps.unwrap_or(0)).collect();
    }

    fn form_axes(&self, form: &Linear) -> u64 {
        (0..self.kinds.len()).filter(|&a| form.of_axis(a).next().is_some()).fold(0, |bits, a| bits | 1 << a)
    }

    /// The axes an address depends on, its opaque parts included.
    pub(crate) fn address_deps(&self, form: &Linear) -> u64 {
        form.opaque().fold(self.form_axes(form), |bits, id| bits | self.deps[id.index()])
    }

    /// The step of an address along an axis, if it is a known number.
    pub(crate) fn stride(&self, form: &Linear, axis: usize) -> Option<i64> {
        let is_opaque = form.opaque().any(|id| self.deps[id.index()] >> axis & 1 == 1);
        if is_opaque { None } else { form.stride_along(axis) }
    }
}

/// The operation that combines two values of a reduction that is not an arg reduction.
pub(crate) fn combine(op: ReduceOp) -> BinaryOp {
    match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max | ReduceOp::ArgMax => BinaryOp::Max,
        ReduceOp::Min | ReduceOp::ArgMin => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
    }
}
