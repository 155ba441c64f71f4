//! What tasks take from their starter: values of the one as values of the other.

use super::aliases::held;
use super::walk::Lowerer;
use crate::loops::{BufferClass, Dim, Function, Input, InputKind, Operand, VarId, VarType};
use crate::ops::builder::{Builder, Heap};
use crate::ops::value::{
    Affine, Cell, CellId, Contents, FutureCell, ItemFacts, ObjectCell, OneOf, Quantizer, Reshape, RunTimeDict,
    RunTimeList, RunTimeObject, Storage, StorageId, Tensor, Value, View,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a starter passes to a task.
#[derive(Clone, Debug)]
pub(super) enum Passed {
    Operand(Operand),
    Storage(StorageId),
}

/// Values of a starter as values of its task, whose inputs come up on the way.
pub(super) struct Capture<'a> {
    heap: &'a Heap,
    function: &'a Function,
    /// Storages to pass as memory though their elements are constant.
    as_memory: &'a BTreeSet<StorageId>,
    pub(super) vars: BTreeMap<VarId, VarId>,
    pub(super) storages: BTreeMap<StorageId, StorageId>,
    pub(super) cells: BTreeMap<CellId, CellId>,
    pub(super) passed: Vec<Passed>,
    pub(super) has_lists: bool,
}

impl<'a> Capture<'a> {
    pub(super) fn new(heap: &'a Heap, function: &'a Function, as_memory: &'a BTreeSet<StorageId>) -> Self {
        Self {
            heap,
            function,
            as_memory,
            vars: BTreeMap::new(),
            storages: BTreeMap::new(),
            cells: BTreeMap::new(),
            passed: Vec::new(),
            has_lists: false,
        }
    }

    /// Whether tensors of a result may share memory with what was captured, or among each other: copies of them would not.
    pub(super) fn shares(&self, b: &Builder<'_>, result: &Value) -> bool {
        let (mut storages, mut in_containers) = (Vec::new(), false);
        storages_within(b, result, &mut storages, &mut in_containers);
        let is_captured = |own: &StorageId| self.storages.values().any(|captured| captured == own);
        let in_object = storages.iter().any(|own| b.object_behind(*own).is_some());
        let n_storages = storages.len();
        let is_distinct = storages.iter().collect::<BTreeSet<_>>().len() == n_storages;
        // Only the running program knows what tensor objects show.
        let may_show = self.has_lists || !b.arguments_in_objects().is_empty() || n_storages > 1;
        !is_distinct || storages.iter().any(is_captured) || may_show && (in_object || in_containers)
    }

    /// The arguments, and all objects of the archive; `None` if something cannot be passed.
    pub(super) fn all(
        &mut self,
        inner: &mut Lowerer<'_, '_>,
        args: &[Value],
        objects: &BTreeMap<CellId, usize>,
    ) -> Option<Vec<Value>> {
        for (cell, key) in objects {
            let own = self.cell(&mut inner.b, *cell)?;
            inner.objects.insert(*key, own);
        }
        args.iter().map(|arg| self.value(&mut inner.b, arg)).collect()
    }

    fn input(&mut self, b: &mut Builder<'_>, kind: InputKind, passed: Passed) {
        b.function.inputs.push(Input { name: format!("captured {}", self.passed.len()), kind });
        self.passed.push(passed);
    }

    fn var(&mut self, b: &mut Builder<'_>, var: VarId) -> VarId {
        if let Some(own) = self.vars.get(&var) {
            return *own;
        }
        let ty = self.function.vars[var].ty;
        let own = b.new_var(ty, &self.function.vars[var].name);
        self.vars.insert(var, own);
        let kind =
            if ty == VarType::Object { InputKind::Object(own) } else { InputKind::Scalar { var: own, only: None } };
        self.input(b, kind, Passed::Operand(Operand::Var(var)));
        own
    }

    fn operand(&mut self, b: &mut Builder<'_>, operand: &Operand) -> Operand {
        match operand {
            Operand::Var(var) => Operand::Var(self.var(b, *var)),
            Operand::Const(_) | Operand::Str(_) => operand.clone(),
        }
    }

    fn dims(&mut self, b: &mut Builder<'_>, dims: &[Dim]) -> Vec<Dim> {
        let mut dim = |dim: &Dim| match dim {
            Dim::Var(var) => Dim::Var(self.var(b, *var)),
            Dim::Const(_) => *dim,
        };
        dims.iter().map(&mut dim).collect()
    }

    fn values(&mut self, b: &mut Builder<'_>, values: &[Value]) -> Option<Vec<Value>> {
        values.iter().map(|value| self.value(b, value)).collect()
    }

    fn value(&mut self, b: &mut Builder<'_>, value: &Value) -> Option<Value> {
        Some(match value {
            Value::None | Value::Device(_) | Value::Function(_) | Value::Uninitialized => value.clone(),
            Value::Int(o) => Value::Int(self.operand(b, o)),
            Value::Float(o) => Value::Float(self.operand(b, o)),
            Value::Bool(o) => Value::Bool(self.operand(b, o)),
            Value::Str(o) => Value::Str(self.operand(b, o)),
            Value::Complex(re, im) => Value::Complex(self.operand(b, re), self.operand(b, im)),
            Value::OneOf(one) => {
                Value::OneOf(OneOf { item: self.var(b, one.item), kind: self.var(b, one.kind), ..one.clone() })
            }
            Value::Tensor(t) => Value::Tensor(self.tensor(b, t)?),
            Value::Tuple(items, ty) => Value::Tuple(self.values(b, items)?, ty.clone()),
            Value::Cell(cell) => Value::Cell(self.cell(b, *cell)?),
            Value::Enum(class, value) => Value::Enum(Arc::clone(class), Box::new(self.value(b, value)?)),
        })
    }

    fn tensor(&mut self, b: &mut Builder<'_>, tensor: &Tensor) -> Option<Tensor> {
        let storage = self.storage(b, tensor.storage)?;
        let mut affine = |a: &Affine| Affine { offset: self.operand(b, &a.offset), terms: a.terms.clone() };
        let index = tensor.view.index.iter().map(&mut affine).collect();
        let reshaped = tensor.view.reshaped.as_ref().map(|reshape| {
            let offset = self.dims(b, &[reshape.offset])[0];
            Reshape { offset, dims: self.dims(b, &reshape.dims) }
        });
        let dims = self.dims(b, &tensor.dims);
        Some(Tensor { storage, dims, view: View { reshaped, index }, ..tensor.clone() })
    }

    fn storage(&mut self, b: &mut Builder<'_>, id: StorageId) -> Option<StorageId> {
        if let Some(own) = self.storages.get(&id) {
            return Some(*own);
        }
        let storage = &self.heap.storages[id];
        let quantizer = match &storage.quantizer {
            None => None,
            Some(Quantizer::PerTensor(scale, zero_point)) => {
                Some(Quantizer::PerTensor(self.operand(b, scale), self.operand(b, zero_point)))
            }
            Some(Quantizer::PerChannel { scales, zero_points, dim }) => Some(Quantizer::PerChannel {
                scales: Box::new(self.tensor(b, scales)?),
                zero_points: Box::new(self.tensor(b, zero_points)?),
                dim: *dim,
            }),
        };
        let dims = self.dims(b, &storage.dims);
        let constant = match &storage.contents {
            _ if self.as_memory.contains(&id) => None,
            Contents::Splat(value) => Some(Contents::Splat(self.operand(b, value))),
            Contents::Buffer(buffer) => match self.function.buffers[*buffer].class {
                class @ BufferClass::Weight(_) => Some(Contents::Buffer(b.add_buffer(storage.dtype, &dims, class))),
                _ => None,
            },
        };
        let mut argument = None;
        let contents = constant.unwrap_or_else(|| {
            let buffer = b.add_buffer(storage.dtype, &dims, BufferClass::Input(b.function.inputs.len()));
            self.input(b, InputKind::Tensor { buffer, is_mutated: false }, Passed::Storage(id));
            argument = Some(buffer);
            Contents::Buffer(buffer)
        });
        let region = b.depth();
        let own = Storage { contents, dims, dtype: storage.dtype, region, argument, quantizer };
        let own = b.heap.storages.push(own);
        self.storages.insert(id, own);
        Some(own)
    }

    fn cell(&mut self, b: &mut Builder<'_>, id: CellId) -> Option<CellId> {
        if let Some(own) = self.cells.get(&id) {
            return Some(*own);
        }
        // Objects may refer to one another in a circle.
        let own = b.heap.cells.push(Cell::List(Vec::new()));
        self.cells.insert(id, own);
        b.heap.cells[own] = match &self.heap.cells[id] {
            Cell::List(items) => Cell::List(self.values(b, items)?),
            Cell::Dict(entries) => {
                let entry = |(k, v): &(Value, Value)| Some((self.value(b, k)?, self.value(b, v)?));
                Cell::Dict(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Cell::Object(object) => {
                let attr = |(name, value): (&Arc<str>, &Value)| Some((Arc::clone(name), self.value(b, value)?));
                let attrs = object.attrs.iter().map(attr).collect::<Option<_>>()?;
                Cell::Object(ObjectCell { class: Arc::clone(&object.class), loaded: object.loaded.clone(), attrs })
            }
            Cell::RunTimeList(list) => {
                self.has_lists = true;
                Cell::RunTimeList(RunTimeList { var: self.var(b, list.var), ..list.clone() })
            }
            Cell::RunTimeDict(dict) => {
                self.has_lists = true;
                Cell::RunTimeDict(RunTimeDict { var: self.var(b, dict.var), ..dict.clone() })
            }
            Cell::RunTimeObject(object) => {
                self.has_lists = true;
                Cell::RunTimeObject(RunTimeObject { var: self.var(b, object.var), ..object.clone() })
            }
            Cell::Future(future) => Cell::Future(Box::new(FutureCell::new(self.var(b, future.var), future.result))),
        };
        Some(own)
    }
}

/// The storages that tensors of a result show, and whether there are others in run-time lists or dicts.
fn storages_within(b: &Builder<'_>, value: &Value, storages: &mut Vec<StorageId>, in_containers: &mut bool) {
    let is_tensor = |facts: &ItemFacts| !facts.is_of_type();
    match value {
        Value::Tensor(tensor) => storages.push(tensor.storage),
        Value::Tuple(items, _) => items.iter().for_each(|item| storages_within(b, item, storages, in_containers)),
        Value::OneOf(one) => *in_containers |= one.options.iter().any(is_tensor),
        Value::Cell(cell) => match &b.heap.cells[*cell] {
            Cell::RunTimeList(list) => *in_containers |= is_tensor(&list.item),
            Cell::RunTimeDict(dict) => *in_containers |= is_tensor(&dict.entry.value),
            cell => held(cell).for_each(|item| storages_within(b, item, storages, in_containers)),
        },
        _ => {}
    }
}
