//! Weights in other forms: what is stored in their place, and what is computed from them when a model is opened.
//!
//! Transforms that want a weight in another form ask [`Preparing`] for it, which keeps a kernel for each form: Winograd's
//! weights ([`Preparing::add`]), panels of a weight or of such a form ([`Preparing::packed`]). [`Preparing::finish`] decides what
//! becomes of them, so that a library stores each weight about once:
//! - the panels of a weight that is read in no other form are made now and take its place;
//! - everything else is computed by the program's prepare function, an ordinary function of ordinary kernels, and the library
//!   holds the original alone.
//!
//! Forms that nothing reads in the end (those that were packed) are dropped, and so are the contents of weights.

use crate::diag::{self, Diagnostic};
use crate::index::IndexVec;
use crate::loops::{
    Axis, AxisKind, BinaryOp, Buffer, BufferClass, BufferId, Const, Dim, Expr, ExprId, Exprs, Function, Guard, Kernel,
    Layout, Prepared, PreparedId, Program, Stmt, Store, StoreMode, Weight, WeightId, kernel_reads, touched, walk,
};
use crate::types::{DType, TensorData};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Bytes that the panels stored in the place of weights may have more than those, all together: they fill up their ends.
const SLACK_BYTES: usize = 256 << 10;

/// A constant operand of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Source {
    /// As the model has it.
    Weight(WeightId),
    /// In another form.
    Prepared(PreparedId),
}

impl Source {
    /// What a buffer of this class shows.
    pub(crate) fn of(class: BufferClass) -> Option<Self> {
        match class {
            BufferClass::Weight(weight) => Some(Self::Weight(weight)),
            BufferClass::Prepared(prepared) => Some(Self::Prepared(prepared)),
            BufferClass::Input(_)
            | BufferClass::Output(_)
            | BufferClass::Temp { .. }
            | BufferClass::Slot(_)
            | BufferClass::Alias { .. }
            | BufferClass::Object(_) => None,
        }
    }
}

/// Dimensions in another order, some of the elements along one of them, cut into blocks whose positions are the fastest.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Packing {
    /// The old dimension at each new one.
    pub(crate) order: Vec<usize>,
    /// The new dimension that is cut.
    pub(crate) at: usize,
    /// First element along it.
    pub(crate) begin: i64,
    /// Elements along it; what they lack to whole blocks is filled up with zeros.
    pub(crate) len: i64,
    /// Elements in a block.
    pub(crate) block: i64,
}

impl Packing {
    /// Extents in memory of what has these sizes before.
    fn extents(&self, sizes: &[i64]) -> Vec<i64> {
        let n_blocks = (self.len + self.block - 1) / self.block;
        let of_dim = |(at, &d): (usize, &usize)| if at == self.at { n_blocks } else { sizes[d] };
        self.order.iter().enumerate().map(of_dim).chain([self.block]).collect()
    }
}

/// A form of a weight.
struct Form {
    /// Computes all of it; all axes are parallel.
    kernel: Kernel,
    /// The logical extents that the kernel's stores index.
    sizes: Vec<i64>,
    /// The weight and how it is packed, if nothing is computed.
    moves: Option<(WeightId, Packing)>,
}

/// The forms that transforms have asked for so far.
#[derive(Default)]
pub(crate) struct Preparing {
    /// Holds the buffers of the forms' kernels.
    function: Function,
    forms: IndexVec<PreparedId, Form>,
    prepared: IndexVec<PreparedId, Prepared>,
    packed: HashMap<(Source, Packing), PreparedId>,
}

fn buffer(name: &str, dtype: DType, sizes: &[i64], class: BufferClass) -> Buffer {
    let dims = sizes.iter().map(|&n| Dim::Const(n)).collect();
    Buffer { name: name.into(), dtype, dims, class, layout: Layout::RowMajor }
}

fn n_elements(sizes: &[i64]) -> usize {
    sizes.iter().map(|&n| usize::try_from(n).unwrap_or(0)).product()
}

/// A map over an index space.
pub(crate) fn map(name: String, extents: &[i64]) -> Kernel {
    let axis = |&n: &i64| Axis { extent: Dim::Const(n), kind: AxisKind::Parallel };
    Kernel {
        name,
        place: "".into(),
        axes: extents.iter().map(axis).collect(),
        exprs: Exprs::new(),
        reductions: Vec::new(),
        stores: Vec::new(),
        is_ordered: false,
    }
}

impl Preparing {
    /// A buffer of the prepare function that shows a weight.
    pub(crate) fn weight(&mut self, weights: &IndexVec<WeightId, Weight>, id: WeightId) -> BufferId {
        let Weight { name, data } = &weights[id];
        self.function.buffers.push(buffer(name, data.dtype(), data.sizes(), BufferClass::Weight(id)))
    }

    /// A new form of this type. `make` writes the kernel, whose axes are all parallel, for the buffer it is to fill.
    pub(crate) fn add(
        &mut self,
        name: &str,
        dtype: DType,
        sizes: &[i64],
        make: impl FnOnce(BufferId) -> Kernel,
    ) -> PreparedId {
        self.add_form(name, dtype, sizes, None, make)
    }

    fn add_form(
        &mut self,
        name: &str,
        dtype: DType,
        sizes: &[i64],
        moves: Option<(WeightId, Packing)>,
        make: impl FnOnce(BufferId) -> Kernel,
    ) -> PreparedId {
        let id = self.prepared.push(Prepared { name: name.into(), dtype, n_elements: n_elements(sizes) });
        let target = self.function.buffers.push(buffer(name, dtype, sizes, BufferClass::Prepared(id)));
        self.forms.push(Form { kernel: make(target), sizes: sizes.to_vec(), moves });
        id
    }

    /// A weight, or a form of one, in panels.
    pub(crate) fn packed(
        &mut self,
        weights: &IndexVec<WeightId, Weight>,
        source: Source,
        packing: Packing,
    ) -> diag::Result<PreparedId> {
        let key = (source, packing);
        if let Some(&known) = self.packed.get(&key) {
            return Ok(known);
        }
        let (source, packing) = &key;
        let (name, kernel, sizes) = match *source {
            Source::Weight(weight) => {
                let sizes = weights[weight].data.sizes().to_vec();
                let from = self.weight(weights, weight);
                (weights[weight].name.clone(), copy(&weights[weight], from, &sizes), sizes)
            }
            Source::Prepared(form) => {
                let Form { kernel, sizes, .. } = &self.forms[form];
                (self.prepared[form].name.clone(), kernel.clone(), sizes.clone())
            }
        };
        let dtype = match *source {
            Source::Weight(weight) => weights[weight].data.dtype(),
            Source::Prepared(form) => self.prepared[form].dtype,
        };
        let kernel = packed(&kernel, packing)
            .ok_or_else(|| Diagnostic::internal(format!("'{name}' is packed along no axis of its kernel")))?;
        let moves = match *source {
            Source::Weight(weight) => Some((weight, packing.clone())),
            Source::Prepared(_) => None,
        };
        let id = self.add_form(&name, dtype, &packing.extents(&sizes), moves, |target| {
            let mut kernel = kernel;
            kernel.stores.iter_mut().for_each(|store| store.buffer = target);
            kernel
        });
        self.packed.insert(key, id);
        Ok(id)
    }

    /// Decides what is stored and what is computed, and adds the prepare function if there is anything to compute.
    pub(crate) fn finish(self, program: &mut Program) -> diag::Result<()> {
        let (mut weights_read, mut forms_read) = (BTreeSet::new(), BTreeSet::new());
        for function in program.functions.iter() {
            walk(&function.body, &mut |stmt| {
                for buffer in touched(stmt) {
                    match Source::of(function.buffers[super::flat::root(function, buffer)].class) {
                        Some(Source::Weight(weight)) => _ = weights_read.insert(weight),
                        Some(Source::Prepared(form)) => _ = forms_read.insert(form),
                        None => {}
                    }
                }
            });
        }
        // The forms that could take the place of each weight.
        let mut moves: BTreeMap<WeightId, Vec<PreparedId>> = BTreeMap::new();
        for &id in &forms_read {
            match &self.forms[id].moves {
                Some((weight, _)) => moves.entry(*weight).or_default().push(id),
                None => weights_read.extend(self.sources(id)),
            }
        }
        let mut classes: BTreeMap<PreparedId, BufferClass> = BTreeMap::new();
        let mut slack = SLACK_BYTES;
        for (weight, forms) in moves {
            let bytes = |n: usize| n * program.weights[weight].data.dtype().size_bytes();
            let original = bytes(n_elements(program.weights[weight].data.sizes()));
            let packed: usize = forms.iter().map(|&form| bytes(self.prepared[form].n_elements)).sum();
            let more = packed.saturating_sub(original);
            if weights_read.contains(&weight) || more > slack {
                weights_read.insert(weight);
                continue;
            }
            slack -= more;
            for form in forms {
                let Some((_, packing)) = &self.forms[form].moves else { continue };
                let Weight { name, data } = &program.weights[weight];
                let (name, data) = (name.clone(), Arc::new(repack(data, packing)?));
                let id = program.weights.push(Weight { name, data });
                weights_read.insert(id);
                classes.insert(form, BufferClass::Weight(id));
            }
        }
        let Self { mut function, forms, prepared, .. } = self;
        for ((id, form), prepared) in forms.iter_ids().zip(prepared.iter()) {
            if forms_read.contains(&id) && !classes.contains_key(&id) {
                classes.insert(id, BufferClass::Prepared(program.prepared.push(prepared.clone())));
                function.body.0.push(Stmt::Kernel(Box::new(form.kernel.clone())));
            }
        }
        drop_unread(program, &weights_read)?;
        if !function.body.0.is_empty() {
            function.name = "prepare".into();
            function.results.push(crate::loops::OutputTree::None);
            function.body.0.push(Stmt::Return(0, Vec::new()));
            program.prepare = Some(program.functions.push(function));
        }
        for buffer in program.functions.iter_mut().flat_map(|function| function.buffers.iter_mut()) {
            if let BufferClass::Prepared(form) = buffer.class {
                // What nothing reads any more is scratch that nothing touches.
                buffer.class = classes.get(&form).copied().unwrap_or(BufferClass::Temp { offset: None });
            }
        }
        Ok(())
    }

    /// The weights that a form is computed from.
    fn sources(&self, form: PreparedId) -> impl Iterator<Item = WeightId> {
        let reads = kernel_reads(&self.forms[form].kernel).into_iter();
        reads.filter_map(|buffer| match self.function.buffers[buffer].class {
            BufferClass::Weight(weight) => Some(weight),
            _ => None,
        })
    }
}

/// Reads every element of a weight; the store is at the same index.
fn copy(weight: &Weight, from: BufferId, sizes: &[i64]) -> Kernel {
    let mut kernel = map(format!("pack+{}", weight.name), sizes);
    let e = &mut kernel.exprs;
    let index: Vec<ExprId> = (0..sizes.len()).map(|a| e.add(Expr::Axis(a))).collect();
    let dtype = weight.data.dtype();
    let value = e.add(Expr::Load { buffer: from, dtype, index: index.clone().into(), guard: None });
    kernel.stores.push(Store { buffer: from, index: index.into(), value, guard: None, mode: StoreMode::Set });
    kernel
}

/// The kernel with its results in panels: blocks are the outermost axis, positions in a block the innermost. `None` unless
/// the results move with one axis along the dimension that is cut.
fn packed(kernel: &Kernel, packing: &Packing) -> Option<Kernel> {
    let old = *packing.order.get(packing.at)?;
    let axis_of = |store: &Store| match kernel.exprs.get(*store.index.get(old)?) {
        Expr::Axis(axis) => Some(*axis),
        _ => None,
    };
    let column = axis_of(kernel.stores.first()?)?;
    if kernel.stores.iter().any(|store| axis_of(store) != Some(column) || store.guard.is_some()) {
        return None;
    }
    let inner = kernel.axes.len();
    let is_filled = packing.len % packing.block != 0;
    let mut leaf = |e: &mut Exprs, expr: &Expr| match expr {
        Expr::Axis(axis) if *axis == column => Some(column_of(e, packing, inner)),
        Expr::Axis(axis) => Some(e.add(Expr::Axis(if *axis < column { axis + 1 } else { *axis }))),
        // Zeros in give zeros out, as forms are linear.
        Expr::Load { buffer, dtype, index, guard: None } if is_filled => {
            let (at, end) = (column_of(e, packing, inner), e.int(packing.begin + packing.len));
            let cond = e.binary(BinaryOp::Lt, at, end);
            let other = e.add(Expr::Const(Const::from_i64(*dtype, 0)));
            let guard = Some(Guard { cond, other });
            Some(e.add(Expr::Load { buffer: *buffer, dtype: *dtype, index: index.clone(), guard }))
        }
        _ => None,
    };
    let mut out = super::fuse::rebuilt(kernel, &mut leaf);
    let n_blocks = (packing.len + packing.block - 1) / packing.block;
    let kind = AxisKind::Parallel;
    out.axes.remove(column);
    out.axes.insert(0, Axis { extent: Dim::Const(n_blocks), kind });
    out.axes.push(Axis { extent: Dim::Const(packing.block), kind });
    let (block, position) = (out.exprs.add(Expr::Axis(0)), out.exprs.add(Expr::Axis(inner)));
    for store in &mut out.stores {
        let of_dim = |(at, &d): (usize, &usize)| if at == packing.at { block } else { store.index[d] };
        store.index = packing.order.iter().enumerate().map(of_dim).chain([position]).collect();
    }
    Some(out)
}

/// The element along the dimension that is cut.
fn column_of(e: &mut Exprs, packing: &Packing, inner: usize) -> ExprId {
    let (panel, position) = (e.add(Expr::Axis(0)), e.add(Expr::Axis(inner)));
    let (block, begin) = (e.int(packing.block), e.int(packing.begin));
    let start = e.binary(BinaryOp::Mul, panel, block);
    let sum = e.binary(BinaryOp::Add, start, position);
    e.binary(BinaryOp::Add, sum, begin)
}

/// A weight's elements in panels.
fn repack(data: &TensorData, packing: &Packing) -> diag::Result<TensorData> {
    let size = data.dtype().size_bytes();
    let source = data.contiguous_bytes();
    let mut strides = vec![1i64; data.sizes().len()];
    for d in (0..strides.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * data.sizes()[d + 1];
    }
    let &Packing { ref order, at, begin, len, block } = packing;
    // Dimensions in memory, outermost first: extent and stride in the source.
    let extents = packing.extents(data.sizes());
    let mut loops: Vec<(i64, i64)> = order.iter().zip(&extents).map(|(&d, &extent)| (extent, strides[d])).collect();
    let stride = loops[at].1;
    loops[at].1 = stride * block;
    loops.push((block, stride));
    let last = loops.len() - 1;
    let n: i64 = extents.iter().product();
    let mut out = Vec::with_capacity(n_elements(&extents) * size);
    let mut index = vec![0i64; loops.len()];
    let mut offset = begin * stride;
    for _ in 0..n {
        if index[at] * block + index[last] >= len {
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

/// Empties the weights that nothing reads.
fn drop_unread(program: &mut Program, read: &BTreeSet<WeightId>) -> diag::Result<()> {
    let ids: Vec<WeightId> = program.weights.ids().filter(|id| !read.contains(id)).collect();
    for id in ids {
        let data = &mut program.weights[id].data;
        *data = Arc::new(TensorData::from_bytes(data.dtype(), &[0], Vec::new()).map_err(Diagnostic::internal)?);
    }
    Ok(())
}
