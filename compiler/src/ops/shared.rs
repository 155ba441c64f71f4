//! Memory that tensors share where only the running program knows which of them do: tensors in lists and dicts of its own, places
//! that hold one of several tensors, views with strides that it computes.
//!
//! The contents of a storage may be those of a tensor object. Then they stay there: writes go to that memory, and other storages
//! may show the same, which the schedule takes into account (all tensor objects are one place to it). A storage moves into an
//! object when one of its tensors is put where its identity counts, and from then on every name of it sees what is written
//! through any. In a program that writes to no tensor nothing has to be shared, and copies are as good.

use super::builder::{Builder, Heap};
use super::run_time::var_arg;
use super::value::{Contents, StorageId, Tensor, TensorFacts, int};
use crate::loops::{Arg, BinaryOp, Buffer, BufferClass, BufferId, Dim, Layout, Operand, VarId, VarType};
use crate::types::DType;

impl Builder<'_> {
    fn buffer_in(&self, heap: &Heap, id: StorageId) -> Option<&Buffer> {
        match heap.storages.get(id)?.contents {
            Contents::Buffer(buffer) => Some(&self.function.buffers[buffer]),
            Contents::Splat(_) => None,
        }
    }

    fn buffer_behind(&self, id: StorageId) -> Option<&Buffer> {
        self.buffer_in(&self.heap, id)
    }

    /// The variable of the tensor object that a storage's elements are in, if they are in one.
    pub fn object_behind(&self, id: StorageId) -> Option<VarId> {
        self.object_in(&self.heap, id)
    }

    /// The same for another state of things.
    pub fn object_in(&self, heap: &Heap, id: StorageId) -> Option<VarId> {
        match self.buffer_in(heap, id)?.class {
            BufferClass::Object(var) => Some(var),
            _ => None,
        }
    }

    /// The strides of a storage whose elements do not lie row-major.
    pub fn strides_behind(&self, id: StorageId) -> Option<&[Dim]> {
        match &self.buffer_behind(id)?.layout {
            Layout::Strided(strides) => Some(strides),
            Layout::RowMajor | Layout::Blocked { .. } => None,
        }
    }

    /// Whether the storage may move into an object. Constants stay where they are, and what quantised integers stand for belongs
    /// to their storage.
    pub fn may_move(&self, id: StorageId) -> bool {
        let is_constant = self
            .buffer_behind(id)
            .is_some_and(|buffer| matches!(buffer.class, BufferClass::Weight(_) | BufferClass::Prepared(_)));
        self.shares_memory && !is_constant && self.heap.storages[id].quantizer.is_none()
    }

    /// Moves the elements of a storage into a tensor object, if they are in none yet and may be; gives its variable.
    pub fn move_to_object(&mut self, id: StorageId) -> Option<VarId> {
        if let Some(var) = self.object_behind(id) {
            return Some(var);
        }
        if !self.may_move(id) {
            return None;
        }
        let buffer = self.storage_buffer(id);
        let var = self.call_for_object("tensor_new", vec![Arg::Buffer(buffer)]);
        let (dtype, dims) = (self.heap.storages[id].dtype, self.heap.storages[id].dims.clone());
        let moved = self.add_buffer(dtype, &dims, BufferClass::Object(var));
        self.heap.storages[id].contents = Contents::Buffer(moved);
        Some(var)
    }

    /// An object that is this tensor: of the same memory if that may be in an object, else a copy.
    pub fn object_of(&mut self, tensor: &Tensor) -> VarId {
        let Some(var) = self.move_to_object(tensor.storage) else {
            let copy = self.row_major(tensor);
            return self.call_for_object("tensor_new", vec![Arg::Buffer(copy)]);
        };
        if self.shows_all(tensor) {
            return var;
        }
        let (strides, offset) = self.strides_of(tensor);
        let dims: Vec<Operand> = tensor.dims.iter().map(|dim| Operand::from(*dim)).collect();
        self.view_of_object(var, offset, &dims, &strides)
    }

    /// The arguments that moved into objects, with their own buffers.
    pub fn arguments_in_objects(&self) -> Vec<(StorageId, BufferId)> {
        let moved = self.heap.storages.iter_ids().filter(|(id, _)| self.object_behind(*id).is_some());
        moved.filter_map(|(id, storage)| Some((id, storage.argument?))).collect()
    }

    fn view_of_object(&mut self, var: VarId, offset: Operand, dims: &[Operand], strides: &[Operand]) -> VarId {
        let measures = std::iter::once(&offset).chain(dims).chain(strides);
        let args = std::iter::once(var_arg(var)).chain(measures.cloned().map(Arg::Scalar)).collect();
        self.call_for_object("tensor_view", args)
    }

    /// What is known of a tensor that is put into a run-time container.
    pub fn tensor_facts(&self, tensor: &Tensor) -> TensorFacts {
        let dims = tensor.dims.iter().map(|d| d.known()).collect();
        TensorFacts { dtype: tensor.dtype, dims, is_row_major: self.is_row_major_object(tensor) }
    }

    /// Whether the elements of the object that [`Self::object_of`] gives lie row-major.
    pub fn is_row_major_object(&self, tensor: &Tensor) -> bool {
        let moves = self.object_behind(tensor.storage).is_some() || self.may_move(tensor.storage);
        !moves || self.lies_row_major(tensor)
    }

    /// The distance in elements of neighbours along each dimension in the storage's memory, and the first element's offset. Empty
    /// dimensions count as 1, and a dimension that a view added lies around what follows it, as in PyTorch.
    pub fn strides_of(&mut self, tensor: &Tensor) -> (Vec<Operand>, Operand) {
        let own = self.strides_behind(tensor.storage).map(<[Dim]>::to_vec);
        let (dims, mut offset) = match &tensor.view.reshaped {
            Some(r) => (r.dims.clone(), r.offset.into()),
            None => (self.heap.storages[tensor.storage].dims.clone(), int(0)),
        };
        let base: Vec<Operand> = match own {
            Some(strides) => strides.into_iter().map(Operand::from).collect(),
            None => {
                let counted: Vec<Dim> =
                    dims.iter().map(|dim| if *dim == Dim::Const(0) { Dim::Const(1) } else { *dim }).collect();
                (0..counted.len()).map(|d| self.product(&counted[d + 1..])).collect()
            }
        };
        let mut strides = vec![int(0); tensor.rank()];
        for (affine, stride) in tensor.view.index.clone().iter().zip(&base) {
            for &(axis, coefficient) in &affine.terms {
                let step = self.binary(BinaryOp::Mul, stride.clone(), int(coefficient));
                strides[axis] = self.binary(BinaryOp::Add, strides[axis].clone(), step);
            }
            let skipped = self.binary(BinaryOp::Mul, affine.offset.clone(), stride.clone());
            offset = self.binary(BinaryOp::Add, offset, skipped);
        }
        let moves = |axis: usize| tensor.view.index.iter().any(|affine| affine.terms.iter().any(|(at, _)| *at == axis));
        for axis in (0..tensor.rank()).rev().filter(|axis| tensor.dims[*axis] == Dim::Const(1) && !moves(*axis)) {
            strides[axis] = match tensor.dims.get(axis + 1) {
                Some(next) => self.binary(BinaryOp::Mul, (*next).into(), strides[axis + 1].clone()),
                None => int(1),
            };
        }
        (strides, offset)
    }

    /// The indices `start`, `start + step`, ... of a dimension, as a view whose step only the running program knows; `None` where
    /// the memory may not be in an object.
    pub fn stepped(
        &mut self,
        tensor: &Tensor,
        dim: usize,
        start: Operand,
        extent: Dim,
        step: Operand,
    ) -> Option<Tensor> {
        let object = self.move_to_object(tensor.storage)?;
        let (mut strides, mut offset) = self.strides_of(tensor);
        let skipped = self.binary(BinaryOp::Mul, start, strides[dim].clone());
        offset = self.binary(BinaryOp::Add, offset, skipped);
        strides[dim] = self.binary(BinaryOp::Mul, strides[dim].clone(), step);
        let mut dims = tensor.dims.clone();
        dims[dim] = extent;
        let operands: Vec<Operand> = dims.iter().map(|dim| Operand::from(*dim)).collect();
        let var = self.view_of_object(object, offset, &operands, &strides);
        let strides = strides.into_iter().map(|stride| self.dim(stride)).collect();
        Some(self.tensor_object(var, tensor.dtype, dims, Some(strides)))
    }

    /// The tensor in an object variable; extents that vary, and strides, are asked of the object.
    pub fn tensor_in(&mut self, var: VarId, facts: &TensorFacts) -> Tensor {
        let mut asked = |routine, i: usize| {
            let i = Arg::Scalar(int(i64::try_from(i).unwrap_or(i64::MAX)));
            Dim::Var(self.call(routine, vec![var_arg(var), i], &[VarType::Int])[0])
        };
        let dims: Vec<Dim> =
            facts.dims.iter().enumerate().map(|(i, n)| n.map_or_else(|| asked("tensor_dim", i), Dim::Const)).collect();
        let strides = (!facts.is_row_major).then(|| (0..dims.len()).map(|i| asked("tensor_stride", i)).collect());
        self.tensor_object(var, facts.dtype, dims, strides)
    }

    /// The tensor in an object variable, row-major unless there are strides.
    pub fn tensor_object(&mut self, var: VarId, dtype: DType, dims: Vec<Dim>, strides: Option<Vec<Dim>>) -> Tensor {
        let buffer = self.add_buffer(dtype, &dims, BufferClass::Object(var));
        if let Some(strides) = strides {
            self.function.buffers[buffer].layout = Layout::Strided(strides);
        }
        self.tensor_of(buffer)
    }
}
