//! The small set that operators' lowerings are written in: maps, reductions, scans and scatters over index spaces.
//!
//! A lowering says which tensors it reads at which indices; views, broadcasting of storages and row-major copies are dealt
//! with here.
//!
//! ```ignore
//! // relu: any shape, any real type
//! let y = b.map(x.dtype, &x.dims, |k, i| { let v = k.load(&x, i); let zero = k.zero(x.dtype); k.max(v, zero) });
//! ```

use super::builder::Builder;
use super::value::{Contents, StorageId, Tensor, known_int};
use crate::loops::{
    Axis, AxisKind, BinaryOp, BufferId, Const, Dim, Expr, ExprId, Exprs, Guard, Kernel, Operand, ReduceOp, Reduction,
    Store, StoreMode, UnaryOp,
};
use crate::types::DType;

/// Builds one kernel: expressions over its axes.
#[derive(Debug)]
pub struct KernelBuilder<'a, 'p> {
    /// The function the kernel goes into.
    pub b: &'a mut Builder<'p>,
    exprs: Exprs,
    axes: Vec<Axis>,
    reductions: Vec<Reduction>,
    stores: Vec<Store>,
}

impl<'a, 'p> KernelBuilder<'a, 'p> {
    /// A kernel without axes.
    pub fn new(b: &'a mut Builder<'p>) -> Self {
        Self { b, exprs: Exprs::new(), axes: Vec::new(), reductions: Vec::new(), stores: Vec::new() }
    }

    /// A new axis; its index.
    pub fn axis(&mut self, extent: Dim, kind: AxisKind) -> ExprId {
        self.axes.push(Axis { extent, kind });
        // An axis of one point has the index 0, which lets views of it fold.
        if extent == Dim::Const(1) { self.int(0) } else { self.exprs.add(Expr::Axis(self.axes.len() - 1)) }
    }

    /// New parallel axes; their indices.
    pub fn parallel(&mut self, dims: &[Dim]) -> Vec<ExprId> {
        dims.iter().map(|d| self.axis(*d, AxisKind::Parallel)).collect()
    }

    /// New reduced axes; their indices.
    pub fn reduced(&mut self, dims: &[Dim]) -> Vec<ExprId> {
        dims.iter().map(|d| self.axis(*d, AxisKind::Reduce)).collect()
    }

    // ---- leaves

    /// An `int64` constant.
    pub fn int(&mut self, value: i64) -> ExprId {
        self.exprs.int(value)
    }

    /// A constant of this type, from a float.
    pub fn float(&mut self, dtype: DType, value: f64) -> ExprId {
        self.exprs.add(Expr::Const(Const::from_f64(dtype, value)))
    }

    /// Zero of this type.
    pub fn zero(&mut self, dtype: DType) -> ExprId {
        self.exprs.add(Expr::Const(Const::from_i64(dtype, 0)))
    }

    /// One of this type.
    pub fn one(&mut self, dtype: DType) -> ExprId {
        self.exprs.add(Expr::Const(Const::from_i64(dtype, 1)))
    }

    /// A constant boolean.
    pub fn bool(&mut self, value: bool) -> ExprId {
        self.exprs.add(Expr::Const(Const::bool(value)))
    }

    /// A constant, in its own type.
    pub fn constant(&mut self, value: Const) -> ExprId {
        self.exprs.add(Expr::Const(value))
    }

    /// A host number, in its own type (`I64`, `F64`, `Bool`).
    pub fn operand(&mut self, operand: &Operand) -> ExprId {
        match operand {
            Operand::Const(c) => self.exprs.add(Expr::Const(*c)),
            Operand::Var(var) => {
                let dtype = self.b.function.vars[*var].ty.dtype().expect("kernels see no objects");
                self.exprs.add(Expr::Var(*var, dtype))
            }
            Operand::Str(_) => unreachable!("kernels see no text"),
        }
    }

    /// A host number as this type.
    pub fn number(&mut self, operand: &Operand, dtype: DType) -> ExprId {
        let value = self.operand(operand);
        self.cast(dtype, value)
    }

    /// An extent as an `int64`.
    pub fn dim(&mut self, dim: Dim) -> ExprId {
        self.operand(&dim.into())
    }

    // ---- loads

    /// The element of a tensor at these indices, one a dimension. `Bool`, halves and bfloats come in their own type.
    pub fn load(&mut self, tensor: &Tensor, index: &[ExprId]) -> ExprId {
        self.load_where(tensor, index, None)
    }

    /// The element where `cond` holds, else `other`, without touching memory.
    pub fn load_or(&mut self, tensor: &Tensor, index: &[ExprId], cond: ExprId, other: ExprId) -> ExprId {
        self.load_where(tensor, index, Some(Guard { cond, other }))
    }

    fn load_where(&mut self, tensor: &Tensor, index: &[ExprId], guard: Option<Guard>) -> ExprId {
        debug_assert_eq!(index.len(), tensor.rank(), "one index a dimension");
        let storage = &self.b.heap.storages[tensor.storage];
        if let Contents::Splat(operand) = &storage.contents {
            let operand = operand.clone();
            let value = self.number(&operand, tensor.dtype);
            return match guard {
                Some(g) => self.select(g.cond, value, g.other),
                None => value,
            };
        }
        let (buffer, index) = self.address(tensor, index);
        self.exprs.add(Expr::Load { buffer, dtype: tensor.dtype, index: index.into(), guard })
    }

    /// The element of a buffer at these indices.
    pub fn load_buffer(&mut self, buffer: BufferId, index: &[ExprId]) -> ExprId {
        let dtype = self.b.function.buffers[buffer].dtype;
        self.exprs.add(Expr::Load { buffer, dtype, index: index.into(), guard: None })
    }

    /// The buffer a tensor's elements are in, and the buffer's indices of one of them.
    fn address(&mut self, tensor: &Tensor, index: &[ExprId]) -> (BufferId, Vec<ExprId>) {
        let buffer = self.b.buffer_of(tensor);
        let view = tensor.view.index.clone();
        let mapped = view.iter().map(|affine| {
            let mut sum = self.operand(&affine.offset);
            for &(axis, coefficient) in &affine.terms {
                let c = self.int(coefficient);
                let term = self.mul(index[axis], c);
                sum = self.add(term, sum);
            }
            sum
        });
        let mapped = mapped.collect();
        (buffer, mapped)
    }

    // ---- arithmetic

    /// `a op b`, of one type.
    pub fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
        self.exprs.binary(op, a, b)
    }

    /// `op a`.
    pub fn unary(&mut self, op: UnaryOp, a: ExprId) -> ExprId {
        self.exprs.unary(op, a)
    }

    /// `a + b`.
    pub fn add(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Div, a, b)
    }

    /// The greater, NaN if either is.
    pub fn max(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Max, a, b)
    }

    /// The lesser, NaN if either is.
    pub fn min(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::Min, a, b)
    }

    /// Both conditions.
    pub fn and(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.binary(BinaryOp::And, a, b)
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: ExprId, a: ExprId, b: ExprId) -> ExprId {
        self.exprs.add(Expr::Select(cond, a, b))
    }

    /// Conversion, with the rules of [`Expr::Cast`].
    pub fn cast(&mut self, dtype: DType, a: ExprId) -> ExprId {
        self.exprs.cast(dtype, a)
    }

    /// The type of an expression.
    pub fn dtype(&self, a: ExprId) -> DType {
        self.exprs.dtype(a)
    }

    /// Whether `0 <= index < extent`.
    pub fn in_bounds(&mut self, index: ExprId, extent: Dim) -> ExprId {
        let zero = self.int(0);
        let extent = self.dim(extent);
        let low = self.binary(BinaryOp::Ge, index, zero);
        let high = self.binary(BinaryOp::Lt, index, extent);
        self.and(low, high)
    }

    /// The value of an expression as a host number, if it is made of integers, booleans and host numbers alone: extents that
    /// programs compute with as tensors stay extents.
    fn host_value(&mut self, at: ExprId) -> Option<Operand> {
        let is_whole = |dtype: DType| matches!(dtype, DType::I64 | DType::Bool);
        if !is_whole(self.exprs.dtype(at)) {
            return None;
        }
        match self.exprs.get(at).clone() {
            Expr::Const(c) => Some(Operand::Const(c)),
            Expr::Var(var, _) => Some(Operand::Var(var)),
            Expr::Unary(op @ (UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not), a) => {
                let a = self.host_value(a)?;
                Some(self.b.unary(op, a))
            }
            Expr::Binary(op, a, c) => {
                let (a, c) = (self.host_value(a)?, self.host_value(c)?);
                let divides = matches!(op, BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::FloorMod | BinaryOp::Rem);
                let is_safe = match op {
                    _ if divides => known_int(&c).is_some_and(|c| c != 0 && c != -1),
                    BinaryOp::Pow | BinaryOp::Shl | BinaryOp::Shr => known_int(&a).is_some() && known_int(&c).is_some(),
                    _ => true,
                };
                is_safe.then(|| self.b.binary(op, a, c))
            }
            Expr::Select(cond, a, c) => {
                let (cond, a, c) = (self.host_value(cond)?, self.host_value(a)?, self.host_value(c)?);
                Some(self.b.select(cond, a, c))
            }
            Expr::Cast(dtype, a) => {
                let a = self.host_value(a)?;
                Some(self.b.cast(dtype, a))
            }
            Expr::Unary(..) | Expr::Axis(_) | Expr::Load { .. } | Expr::Acc(..) => None,
        }
    }

    // ---- reductions and stores

    /// Combines `value` over the reduced (or scanned) axes; the result, for stores.
    pub fn reduce(&mut self, op: ReduceOp, value: ExprId) -> ExprId {
        let dtype = self.exprs.dtype(value);
        self.reductions.push(Reduction { op, value, payload: None });
        self.exprs.add(Expr::Acc(self.reductions.len() - 1, dtype))
    }

    /// `payload` (an `int64`) at the greatest or least `value`.
    pub fn reduce_arg(&mut self, op: ReduceOp, value: ExprId, payload: ExprId) -> ExprId {
        self.reductions.push(Reduction { op, value, payload: Some(payload) });
        self.exprs.add(Expr::Acc(self.reductions.len() - 1, DType::I64))
    }

    /// Writes an element of a buffer.
    pub fn store(&mut self, buffer: BufferId, index: &[ExprId], value: ExprId) {
        let (index, guard, mode) = (index.into(), None, StoreMode::Set);
        self.stores.push(Store { buffer, index, value, guard, mode });
    }

    /// Writes, where `guard` holds, the element of a tensor's storage that the tensor shows at these indices, or combines
    /// with it. The storage must be one that may be written in place.
    pub fn store_through(
        &mut self,
        tensor: &Tensor,
        index: &[ExprId],
        value: ExprId,
        guard: Option<ExprId>,
        mode: StoreMode,
    ) {
        let (buffer, index) = self.address(tensor, index);
        self.stores.push(Store { buffer, index: index.into(), value, guard, mode });
    }

    /// Appends the kernel to the function.
    pub fn finish(self) {
        self.finish_as(false);
    }

    /// Appends the kernel, whose points must run in order because stores may collide.
    pub fn finish_ordered(self) {
        self.finish_as(true);
    }

    fn finish_as(self, is_ordered: bool) {
        let Self { b, exprs, axes, reductions, stores } = self;
        let (name, place) = (b.op_name.clone(), b.place());
        b.kernel(Kernel { name, place, axes, exprs, reductions, stores, is_ordered });
    }
}

impl<'p> Builder<'p> {
    /// A new tensor whose elements are `f` of their indices. `f` gives a value of type `dtype`.
    pub fn map(
        &mut self,
        dtype: DType,
        dims: &[Dim],
        f: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId]) -> ExprId,
    ) -> Tensor {
        let mut k = KernelBuilder::new(self);
        let index = k.parallel(dims);
        let value = f(&mut k, &index);
        let value = k.cast(dtype, value);
        if dims.is_empty()
            && matches!(dtype, DType::I64 | DType::Bool)
            && let Some(number) = k.host_value(value)
        {
            return self.splat(number, dtype, dims);
        }
        let buffer = k.b.new_buffer(dtype, dims);
        k.store(buffer, &index, value);
        k.finish();
        self.tensor_of(buffer)
    }

    /// A new tensor whose elements combine `value(indices, reduced indices)` over the reduced extents; `finish` makes the
    /// element of type `dtype` of the combined value.
    pub fn reduce(
        &mut self,
        op: ReduceOp,
        dtype: DType,
        dims: &[Dim],
        reduced: &[Dim],
        value: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId], &[ExprId]) -> ExprId,
        finish: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId], ExprId) -> ExprId,
    ) -> Tensor {
        let buffer = self.new_buffer(dtype, dims);
        let mut k = KernelBuilder::new(self);
        let index = k.parallel(dims);
        let over = k.reduced(reduced);
        let v = value(&mut k, &index, &over);
        let acc = k.reduce(op, v);
        let result = finish(&mut k, &index, acc);
        let result = k.cast(dtype, result);
        k.store(buffer, &index, result);
        k.finish();
        self.tensor_of(buffer)
    }

    /// A tensor with one value everywhere, that takes no memory until it is written to. `value` is a host number.
    pub fn splat(&mut self, value: Operand, dtype: DType, dims: &[Dim]) -> Tensor {
        if dtype.is_complex() {
            return crate::ops::aten::complex::filled(self, [value, Operand::Const(Const::int(0))], dtype, dims);
        }
        let storage = self.new_storage(Contents::Splat(value), dtype, dims);
        Tensor::whole(storage, dtype, dims)
    }

    /// The tensor that shows a buffer, in a storage of its own.
    pub fn tensor_of(&mut self, buffer: BufferId) -> Tensor {
        let (dtype, dims) = (self.function.buffers[buffer].dtype, self.function.buffers[buffer].dims.clone());
        let storage = self.new_storage(Contents::Buffer(buffer), dtype, &dims);
        Tensor::whole(storage, dtype, &dims)
    }

    /// The buffer a tensor's view indexes. A splat is written out first.
    pub fn buffer_of(&mut self, tensor: &Tensor) -> BufferId {
        let buffer = self.storage_buffer(tensor.storage);
        match &tensor.view.reshaped {
            Some(r) => {
                let (offset, dims) = (r.offset, r.dims.clone());
                self.alias(buffer, offset, &dims)
            }
            None => buffer,
        }
    }

    /// The buffer that holds a storage's elements; a splat is written out first.
    pub fn storage_buffer(&mut self, id: StorageId) -> BufferId {
        let storage = self.heap.storages[id].clone();
        match storage.contents {
            Contents::Buffer(buffer) => buffer,
            Contents::Splat(value) => {
                let buffer = self.new_buffer(storage.dtype, &storage.dims);
                let mut k = KernelBuilder::new(self);
                let index = k.parallel(&storage.dims);
                let value = k.number(&value, storage.dtype);
                k.store(buffer, &index, value);
                k.finish();
                self.heap.storages[id].contents = Contents::Buffer(buffer);
                buffer
            }
        }
    }

    /// The buffer that holds a storage's elements, or a copy of it that lies row-major.
    pub fn row_major_storage(&mut self, id: StorageId) -> BufferId {
        let storage = &self.heap.storages[id];
        let whole = Tensor::whole(id, storage.dtype, &storage.dims.clone());
        self.row_major(&whole)
    }

    /// The number every element of a tensor is, if that is known without looking at memory.
    pub fn splat_of(&self, tensor: &Tensor) -> Option<Operand> {
        match &self.heap.storages[tensor.storage].contents {
            Contents::Splat(value) => Some(value.clone()),
            Contents::Buffer(_) => None,
        }
    }

    /// A buffer that holds the tensor's elements row-major and nothing else; a copy unless it already lies so.
    pub fn row_major(&mut self, tensor: &Tensor) -> BufferId {
        if let Some(lying) = self.row_major_view(tensor) {
            return lying;
        }
        let copy = self.copy(tensor);
        self.storage_buffer(copy.storage)
    }

    /// The buffer (or alias of one) with exactly the tensor's elements in row-major order, where one exists.
    fn row_major_view(&mut self, tensor: &Tensor) -> Option<BufferId> {
        if self.is_prefix(tensor) {
            // A prefix of the storage (or its reshape) starts where that starts.
            let offset = tensor.view.reshaped.as_ref().map_or(Dim::Const(0), |r| r.offset);
            let storage = self.storage_buffer(tensor.storage);
            return Some(self.alias(storage, offset, &tensor.dims));
        }
        if self.strides_behind(tensor.storage).is_some() || !self.lies_row_major(tensor) {
            return None;
        }
        let (_, offset) = self.flat_view(tensor)?;
        let base = self.storage_buffer(tensor.storage);
        Some(self.alias(base, offset, &tensor.dims.clone()))
    }

    /// Whether the tensor's elements lie row-major without gaps, as far as is known. If there are none, they do.
    pub fn lies_row_major(&self, tensor: &Tensor) -> bool {
        if self.is_prefix(tensor) || tensor.dims.contains(&Dim::Const(0)) {
            return true;
        }
        let Some(strides) = self.known_strides(tensor) else { return false };
        let mut expect = Some(1);
        tensor.dims.iter().zip(&strides).rev().filter(|(dim, _)| **dim != Dim::Const(1)).all(|(dim, &stride)| {
            let is_next = expect == Some(stride);
            expect = dim.known().and_then(|n| n.checked_mul(stride));
            is_next
        })
    }

    /// The dims under which the storage is seen, and whether the tensor's indices are those of it, in order.
    fn base<'t>(&'t self, tensor: &'t Tensor) -> (&'t [Dim], bool) {
        let dims = match &tensor.view.reshaped {
            Some(r) => &r.dims,
            None => &self.heap.storages[tensor.storage].dims,
        };
        let index = &tensor.view.index;
        let in_order = index.len() == tensor.rank() && index.iter().enumerate().all(|(i, a)| a.is_axis(i));
        (dims, in_order)
    }

    /// Whether the tensor is all of its storage, under the storage's own dims.
    pub fn shows_all(&self, tensor: &Tensor) -> bool {
        let (dims, in_order) = self.base(tensor);
        in_order && tensor.view.reshaped.is_none() && dims == tensor.dims
    }

    /// Whether the tensor is the storage (or its reshape), or the first part of it along the first dimension: its elements
    /// lie row-major from the start of that.
    pub fn is_prefix(&self, tensor: &Tensor) -> bool {
        let (dims, in_order) = self.base(tensor);
        in_order && dims.get(1..) == tensor.dims.get(1..) && self.strides_behind(tensor.storage).is_none()
    }

    /// The strides of the dims that a tensor's view indexes, where they are known.
    fn known_base_strides(&self, tensor: &Tensor) -> Option<Vec<i64>> {
        if let Some(strides) = self.strides_behind(tensor.storage) {
            return strides.iter().map(|stride| stride.known()).collect();
        }
        let (dims, _) = self.base(tensor);
        let mut strides = vec![1i64; dims.len()];
        for dim in (0..dims.len().saturating_sub(1)).rev() {
            strides[dim] = strides[dim + 1].checked_mul(dims[dim + 1].known()?)?;
        }
        Some(strides)
    }

    /// Strides of a tensor in its storage's memory, in elements, where they are known.
    fn known_strides(&self, tensor: &Tensor) -> Option<Vec<i64>> {
        let base = self.known_base_strides(tensor)?;
        let mut strides = vec![0i64; tensor.rank()];
        for (affine, &stride) in tensor.view.index.iter().zip(&base) {
            for &(axis, coefficient) in &affine.terms {
                strides[axis] += coefficient * stride;
            }
        }
        Some(strides)
    }

    /// Strides of a tensor in its storage's memory, and the offset of its first element, in elements. `None` where the storage's
    /// inner extents are not known.
    pub fn flat_view(&mut self, tensor: &Tensor) -> Option<(Vec<i64>, Dim)> {
        let (base, strides) = (self.known_base_strides(tensor)?, self.known_strides(tensor)?);
        let mut offset: Operand = tensor.view.reshaped.as_ref().map_or(Dim::Const(0), |r| r.offset).into();
        for (affine, &stride) in tensor.view.index.iter().zip(&base) {
            let skipped = self.binary(BinaryOp::Mul, affine.offset.clone(), Operand::Const(Const::int(stride)));
            offset = self.binary(BinaryOp::Add, offset, skipped);
        }
        let offset = self.dim(offset);
        Some((strides, offset))
    }

    /// A row-major copy in a storage of its own.
    pub fn copy(&mut self, tensor: &Tensor) -> Tensor {
        if let Some(value) = self.splat_of(tensor) {
            return self.splat(value, tensor.dtype, &tensor.dims.clone());
        }
        self.map(tensor.dtype, &tensor.dims.clone(), |k, i| k.load(tensor, i))
    }

    /// Writes `value(old element, indices)` to every element of a tensor, in place: all views of the storage see it.
    pub fn write(&mut self, tensor: &Tensor, value: impl FnOnce(&mut KernelBuilder<'_, 'p>, &[ExprId]) -> ExprId) {
        let storage = self.heap.storages[tensor.storage].clone();
        let is_own = storage.argument.is_none() && self.object_behind(tensor.storage).is_none();
        let covers_all = self.shows_all(tensor) && is_own;
        if covers_all {
            // Nothing of the old contents stays: the storage moves to a new buffer, which keeps buffers written once.
            let new = self.map(tensor.dtype, &tensor.dims, value);
            self.heap.storages[tensor.storage].contents = self.heap.storages[new.storage].contents.clone();
            return;
        }
        // The new elements are computed before any is written, since they may read the storage through another view.
        let new = self.map(tensor.dtype, &tensor.dims, value);
        self.own(tensor.storage);
        let mut k = KernelBuilder::new(self);
        let index = k.parallel(&tensor.dims);
        let element = k.load(&new, &index);
        k.store_through(tensor, &index, element, None, StoreMode::Set);
        k.finish();
    }

    /// Makes a storage's memory writable in place here: its own, and made in the current region.
    pub fn own(&mut self, id: StorageId) {
        let storage = self.heap.storages[id].clone();
        let is_ours = storage.region == self.depth() || storage.argument.is_some();
        if let Contents::Buffer(buffer) = storage.contents {
            let class = self.function.buffers[buffer].class;
            let is_writable = match class {
                crate::loops::BufferClass::Temp { .. } | crate::loops::BufferClass::Slot(_) => is_ours,
                crate::loops::BufferClass::Object(_) => true,
                crate::loops::BufferClass::Input(_) => storage.argument.is_some(),
                crate::loops::BufferClass::Output(_)
                | crate::loops::BufferClass::Weight(_)
                | crate::loops::BufferClass::Prepared(_)
                | crate::loops::BufferClass::Alias { .. } => false,
            };
            if is_writable {
                return;
            }
        }
        let whole = Tensor::whole(id, storage.dtype, &storage.dims);
        let copy = self.map(storage.dtype, &storage.dims, |k, i| k.load(&whole, i));
        let entry = &self.heap.storages[copy.storage];
        let (contents, region) = (entry.contents.clone(), entry.region);
        self.heap.storages[id].contents = contents;
        self.heap.storages[id].region = region;
        // One value everywhere is written out.
        self.storage_buffer(id);
    }

    /// The one element of a tensor as a host number of its category.
    pub fn item(&mut self, tensor: &Tensor) -> Operand {
        use crate::loops::{Stmt, VarType};
        let ty = match tensor.dtype {
            DType::Bool => VarType::Bool,
            d if d.is_floating_point() => VarType::Float,
            _ => VarType::Int,
        };
        if let Some(value) = self.splat_of(tensor) {
            let through = self.cast_to_element(value, tensor.dtype);
            return self.cast(ty.dtype().expect("a number"), through);
        }
        let buffer = self.row_major(tensor);
        let var = self.new_var(ty, "");
        self.push(Stmt::Read(var, buffer));
        Operand::Var(var)
    }

    /// A host number rounded or wrapped to an element type where that is known to change nothing; other types keep it.
    fn cast_to_element(&mut self, value: Operand, dtype: DType) -> Operand {
        if dtype == DType::F32
            && let Operand::Const(c) = &value
        {
            #[allow(clippy::cast_possible_truncation, reason = "rounding to the element type is the point")]
            return Operand::Const(Const::float(DType::F64, f64::from(c.as_f64() as f32)));
        }
        value
    }
}

impl Tensor {
    /// The tensor that shows all of a storage.
    pub fn whole(storage: StorageId, dtype: DType, dims: &[Dim]) -> Self {
        use super::value::{Affine, View};
        let view = View { reshaped: None, index: (0..dims.len()).map(Affine::axis).collect() };
        Self { storage, dtype, dims: dims.to_vec(), view, is_wrapped_number: false }
    }

    /// The extent of a dimension given as users do: negative counts from the end. `None` if out of range.
    pub fn wrap_dim(&self, dim: i64) -> Option<usize> {
        let rank = i64::try_from(self.rank().max(1)).ok()?;
        let wrapped = if dim < 0 { dim + rank } else { dim };
        (0..rank).contains(&wrapped).then(|| usize::try_from(wrapped).expect("not negative"))
    }
}
