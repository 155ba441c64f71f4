//! Places that hold any value of a fact, and stores into them.

use super::facts::{DimFact, Fact, Kind, Outcome, Stop};
use crate::loops::{BufferClass, BufferId, Const, Dim, Operand, Stmt, VarId, VarType};
use crate::ops::builder::Builder;
use crate::ops::primitives::KernelBuilder;
use crate::ops::value::{
    Cell, Contents, FutureCell, ItemFacts, ObjectCell, OneOf, ResultId, RunTimeDict, RunTimeList, RunTimeObject,
    Tensor, Value, int,
};
use crate::types::{DType, Type};
use std::sync::Arc;

/// A place that can hold any value of a fact.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nothing to hold.
    Fixed(Value),
    /// A variable.
    Scalar(Kind, VarId),
    /// Two variables.
    Complex(VarId, VarId),
    /// A buffer; extents that vary are variables of the place's own.
    Tensor(BufferId, Vec<Option<VarId>>),
    /// A tensor object, so that the tensor stays the one that others know.
    TensorObject(TensorPlace),
    /// Items.
    Tuple(Vec<Place>, Option<Type>),
    /// Items of a list.
    List(Vec<Place>),
    /// Entries of a dict.
    Dict(Vec<(Value, Place)>),
    /// Attributes of an object.
    Object(Arc<str>, Vec<(Arc<str>, Place)>),
    /// The variable that refers to a run-time list, dict or instance, what is known of it, and whether another one holds it.
    RunTime(VarId, ItemFacts, bool),
    /// The value of a member of an enumeration.
    Enum(Arc<str>, Box<Place>),
    /// The variable that refers to a future.
    Future(VarId, ResultId),
    /// A box, and the number of the kind of what is in it.
    OneOf(OneOf),
}

/// The variable that refers to a tensor object, and what describes it.
#[derive(Clone, Debug)]
pub(super) struct TensorPlace {
    var: VarId,
    dtype: DType,
    dims: Vec<Dim>,
    /// Variables among the extents that are the place's own.
    extents: Vec<Option<VarId>>,
    /// Variables for strides, unless elements lie row-major.
    strides: Option<Vec<VarId>>,
}

/// Where a place for state keeps a part: called for each number (gives nothing) and each tensor (gives its class).
pub(super) type TensorClass<'a> = dyn FnMut(&mut Builder<'_>, &[Dim]) -> BufferClass + 'a;

/// Scratch: planned where the extents are known, else a slot of its own.
pub(super) fn scratch(b: &mut Builder<'_>, dims: &[Dim]) -> BufferClass {
    if dims.iter().all(|d| d.known().is_some()) {
        return BufferClass::Temp { offset: None };
    }
    b.program.n_slots += 1;
    BufferClass::Slot(b.program.n_slots - 1)
}

impl Place {
    /// A new place in scratch memory for values of a fact.
    pub(super) fn new(b: &mut Builder<'_>, fact: &Fact) -> Self {
        Self::with_class(b, fact, &mut scratch)
    }

    /// A new place whose tensors are buffers of the class that `class` gives.
    pub(super) fn with_class(b: &mut Builder<'_>, fact: &Fact, class: &mut TensorClass<'_>) -> Self {
        match fact {
            Fact::Fixed(value) => Self::Fixed(value.clone()),
            Fact::Scalar(kind) => Self::Scalar(*kind, b.new_var(kind.var_type(), "")),
            Fact::Complex => Self::Complex(b.new_var(VarType::Float, ""), b.new_var(VarType::Float, "")),
            Fact::Tensor(fact) => {
                let mut vars = Vec::with_capacity(fact.dims.len());
                let mut dims = Vec::with_capacity(fact.dims.len());
                for fact in &fact.dims {
                    let (dim, var) = match fact {
                        DimFact::Known(n) => (Dim::Const(*n), None),
                        DimFact::Same(var) => (Dim::Var(*var), None),
                        DimFact::Unknown => {
                            let var = b.new_var(VarType::Int, "extent");
                            (Dim::Var(var), Some(var))
                        }
                    };
                    dims.push(dim);
                    vars.push(var);
                }
                if fact.in_object {
                    let var = b.new_var(VarType::Object, "tensor");
                    let mut stride = |_: &Dim| b.new_var(VarType::Int, "stride");
                    let strides = (!fact.is_row_major).then(|| dims.iter().map(&mut stride).collect());
                    let dtype = fact.dtype;
                    return Self::TensorObject(TensorPlace { var, dtype, dims, extents: vars, strides });
                }
                let class = class(b, &dims);
                Self::Tensor(b.add_buffer(fact.dtype, &dims, class), vars)
            }
            Fact::Tuple(items, ty) => {
                Self::Tuple(items.iter().map(|f| Self::with_class(b, f, class)).collect(), ty.clone())
            }
            Fact::List(items) => Self::List(items.iter().map(|f| Self::with_class(b, f, class)).collect()),
            Fact::Dict(entries) => {
                Self::Dict(entries.iter().map(|(k, f)| (k.clone(), Self::with_class(b, f, class))).collect())
            }
            Fact::Object(name, attrs) => {
                let attrs = attrs.iter().map(|(k, f)| (Arc::clone(k), Self::with_class(b, f, class)));
                Self::Object(Arc::clone(name), attrs.collect())
            }
            Fact::RunTime(facts, is_nested) => {
                Self::RunTime(b.new_var(VarType::Object, "container"), facts.clone(), *is_nested)
            }
            Fact::Enum(name, value) => Self::Enum(Arc::clone(name), Box::new(Self::with_class(b, value, class))),
            Fact::Future(result) => Self::Future(b.new_var(VarType::Object, "future"), *result),
            Fact::OneOf(options) => {
                let (item, kind) = (b.new_var(VarType::Object, "box"), b.new_var(VarType::Int, "kind"));
                Self::OneOf(OneOf { item, kind, options: Arc::clone(options) })
            }
        }
    }

    /// The value that the place holds; lists and objects are new cells.
    pub(super) fn value(&self, b: &mut Builder<'_>) -> Value {
        match self {
            Self::Tuple(items, ty) => Value::Tuple(items.iter().map(|p| p.value(b)).collect(), ty.clone()),
            Self::List(_) | Self::Dict(_) | Self::Object(..) | Self::RunTime(..) | Self::Future(..) => {
                let cell = self.cell(b);
                Value::Cell(b.heap.cells.push(cell))
            }
            Self::Fixed(value) => value.clone(),
            Self::Scalar(kind, var) => kind.value(*var),
            Self::Complex(re, im) => Value::Complex(Operand::Var(*re), Operand::Var(*im)),
            Self::OneOf(one) => Value::OneOf(one.clone()),
            Self::Enum(class, value) => Value::Enum(Arc::clone(class), Box::new(value.value(b))),
            Self::Tensor(buffer, _) => Value::Tensor(b.tensor_of(*buffer)),
            Self::TensorObject(place) => {
                let strides = place.strides.as_ref().map(|vars| vars.iter().map(|var| Dim::Var(*var)).collect());
                Value::Tensor(b.tensor_object(place.var, place.dtype, place.dims.clone(), strides))
            }
        }
    }

    /// The contents of a cell that the place holds.
    pub(super) fn cell(&self, b: &mut Builder<'_>) -> Cell {
        match self {
            Self::List(items) => Cell::List(items.iter().map(|p| p.value(b)).collect()),
            Self::Dict(entries) => Cell::Dict(entries.iter().map(|(k, p)| (k.clone(), p.value(b))).collect()),
            Self::Object(class, attrs) => {
                let attrs = attrs.iter().map(|(k, p)| (Arc::clone(k), p.value(b))).collect();
                Cell::Object(ObjectCell { class: Arc::clone(class), loaded: None, attrs })
            }
            Self::RunTime(var, facts, is_nested) => run_time_cell(*var, facts, *is_nested),
            Self::Future(var, result) => Cell::Future(Box::new(FutureCell::new(*var, *result))),
            Self::Fixed(_)
            | Self::Scalar(..)
            | Self::Complex(..)
            | Self::Tensor(..)
            | Self::TensorObject(_)
            | Self::OneOf(_)
            | Self::Enum(..)
            | Self::Tuple(..) => {
                unreachable!("only lists, dicts and objects are cells")
            }
        }
    }

    /// The scalar variables of the place, including its extents, in order.
    pub(super) fn vars(&self, out: &mut Vec<VarId>) {
        match self {
            Self::Scalar(_, var) | Self::RunTime(var, ..) | Self::Future(var, _) => out.push(*var),
            Self::Complex(re, im) => out.extend([*re, *im]),
            Self::OneOf(one) => out.extend([one.item, one.kind]),
            Self::Tensor(_, vars) => out.extend(vars.iter().flatten()),
            Self::TensorObject(place) => {
                out.push(place.var);
                out.extend(place.extents.iter().flatten());
                out.extend(place.strides.iter().flatten());
            }
            Self::Tuple(items, _) | Self::List(items) => items.iter().for_each(|p| p.vars(out)),
            Self::Dict(entries) => entries.iter().for_each(|(_, p)| p.vars(out)),
            Self::Object(_, attrs) => attrs.iter().for_each(|(_, p)| p.vars(out)),
            Self::Enum(_, value) => value.vars(out),
            Self::Fixed(_) => {}
        }
    }
}

/// The run-time list, dict or instance in a variable.
pub(super) fn run_time_cell(var: VarId, facts: &ItemFacts, is_nested: bool) -> Cell {
    match facts {
        ItemFacts::Dict(entry) => Cell::RunTimeDict(RunTimeDict { var, entry: (**entry).clone(), is_nested }),
        ItemFacts::List(item) => Cell::RunTimeList(RunTimeList { var, item: (**item).clone(), is_nested }),
        ItemFacts::Object(class) => Cell::RunTimeObject(RunTimeObject { var, class: Arc::clone(class) }),
        _ => unreachable!("facts of a list, dict or instance"),
    }
}

/// Stores of values into places that happen as if all at once: everything is read before anything is written.
#[derive(Debug, Default)]
pub(super) struct Stores {
    scalars: Vec<(VarId, Operand)>,
    tensors: Vec<(BufferId, Vec<Option<VarId>>, Tensor)>,
    /// Slots of tensors that have no value yet.
    empty: Vec<BufferId>,
}

fn zero() -> Operand {
    Operand::Const(Const::float(DType::F64, 0.0))
}

impl Stores {
    /// Plans to store `value` in `place`.
    pub(super) fn add(&mut self, b: &mut Builder<'_>, place: &Place, value: &Value) -> Outcome<()> {
        match (place, value) {
            (Place::Fixed(_), _) => {}
            (place, Value::Uninitialized) => self.add_anything(b, place),
            (Place::OneOf(one), value) => {
                let (item, kind) = b.boxed(value)?;
                self.scalars.extend([(one.item, item), (one.kind, kind)]);
            }
            (Place::Enum(_, place), Value::Enum(_, value)) => self.add(b, place, value)?,
            (Place::Scalar(_, var), Value::Int(o) | Value::Float(o) | Value::Bool(o) | Value::Str(o)) => {
                self.scalars.push((*var, o.clone()));
            }
            (Place::Complex(re, im), Value::Complex(x, y)) => {
                self.scalars.push((*re, x.clone()));
                self.scalars.push((*im, y.clone()));
            }
            (Place::Tensor(buffer, vars), Value::Tensor(t)) => self.tensors.push((*buffer, vars.clone(), t.clone())),
            (Place::TensorObject(place), Value::Tensor(t)) => self.add_tensor_object(b, place, t)?,
            (Place::Tuple(places, _), Value::Tuple(items, _)) => {
                for (place, item) in places.iter().zip(items) {
                    self.add(b, place, item)?;
                }
            }
            // The list or dict itself becomes an object, so that its other names stay names of it.
            (Place::RunTime(var, ..), Value::Cell(id)) => {
                let object = b.to_run_time(*id)?;
                self.scalars.push((*var, Operand::Var(object)));
            }
            (_, Value::Cell(cell)) => {
                let cell = b.heap.cells[*cell].clone();
                self.add_cell(b, place, &cell)?;
            }
            _ => return Err(Stop::Incompatible(format!("a place for another kind than {}", value.kind()))),
        }
        Ok(())
    }

    /// Plans to make a place refer to a tensor.
    fn add_tensor_object(&mut self, b: &mut Builder<'_>, place: &TensorPlace, tensor: &Tensor) -> Outcome<()> {
        let object = b.object_of(tensor);
        self.scalars.push((place.var, Operand::Var(object)));
        for (var, dim) in place.extents.iter().zip(&tensor.dims) {
            self.scalars.extend(var.map(|var| (var, Operand::from(*dim))));
        }
        match &place.strides {
            Some(vars) => {
                let strides = b.strides_of(tensor).0;
                self.scalars.extend(vars.iter().copied().zip(strides));
            }
            None if b.is_row_major_object(tensor) => {}
            None => return Err(Stop::Incompatible("a place for tensors that lie row-major".to_owned())),
        }
        Ok(())
    }

    /// Plans to store some value in a place that no one will read before it is stored to again: its variables are set on
    /// every path.
    fn add_anything(&mut self, b: &mut Builder<'_>, place: &Place) {
        match place {
            Place::Fixed(_) => {}
            Place::Scalar(Kind::Int, var) => self.scalars.push((*var, int(0))),
            Place::OneOf(one) => self.scalars.push((one.kind, int(-1))),
            Place::Scalar(Kind::Bool, var) => self.scalars.push((*var, Operand::Const(Const::bool(false)))),
            Place::Scalar(Kind::Float, var) => self.scalars.push((*var, zero())),
            Place::Scalar(Kind::Str, var) => self.scalars.push((*var, Operand::Str("".into()))),
            Place::Complex(re, im) => self.scalars.extend([(*re, zero()), (*im, zero())]),
            Place::Tensor(buffer, vars) => {
                self.scalars.extend(vars.iter().flatten().map(|var| (*var, int(0))));
                if matches!(b.function.buffers[*buffer].class, BufferClass::Slot(_)) {
                    self.empty.push(*buffer);
                }
            }
            Place::TensorObject(place) => {
                let measures = place.extents.iter().flatten().chain(place.strides.iter().flatten());
                self.scalars.extend(measures.map(|var| (*var, int(0))));
            }
            Place::Tuple(places, _) | Place::List(places) => {
                for place in places {
                    self.add_anything(b, place);
                }
            }
            Place::Dict(entries) => entries.iter().for_each(|(_, place)| self.add_anything(b, place)),
            Place::Object(_, attrs) => attrs.iter().for_each(|(_, place)| self.add_anything(b, place)),
            Place::Enum(_, value) => self.add_anything(b, value),
            Place::RunTime(var, ..) | Place::Future(var, _) => {
                let is_dict = matches!(place, Place::RunTime(_, ItemFacts::Dict(_), _));
                let object = b.call_for_object(if is_dict { "dict_new" } else { "list_new" }, Vec::new());
                self.scalars.push((*var, Operand::Var(object)));
            }
        }
    }

    /// Plans to store the contents of a cell.
    pub(super) fn add_cell(&mut self, b: &mut Builder<'_>, place: &Place, cell: &Cell) -> Outcome<()> {
        match (place, cell) {
            (Place::Fixed(_), _) => Ok(()),
            (Place::List(places), Cell::List(items)) => {
                places.iter().zip(items).try_for_each(|(place, item)| self.add(b, place, item))
            }
            (Place::Dict(places), Cell::Dict(entries)) => {
                places.iter().zip(entries).try_for_each(|((_, place), (_, item))| self.add(b, place, item))
            }
            (Place::Object(_, places), Cell::Object(object)) => {
                places.iter().zip(object.attrs.values()).try_for_each(|((_, place), item)| self.add(b, place, item))
            }
            (
                Place::RunTime(var, ..),
                Cell::RunTimeList(RunTimeList { var: object, .. }) | Cell::RunTimeDict(RunTimeDict { var: object, .. }),
            ) => {
                self.scalars.push((*var, Operand::Var(*object)));
                Ok(())
            }
            (Place::RunTime(var, ..), Cell::RunTimeObject(object)) => {
                self.scalars.push((*var, Operand::Var(object.var)));
                Ok(())
            }
            (Place::RunTime(var, ..), Cell::Object(object)) => {
                let object = b.run_time_object(object)?;
                self.scalars.push((*var, Operand::Var(object)));
                Ok(())
            }
            (Place::RunTime(var, ..), Cell::List(items)) => {
                let (list, _) = b.run_time_list(items)?;
                self.scalars.push((*var, Operand::Var(list)));
                Ok(())
            }
            (Place::RunTime(var, ..), Cell::Dict(entries)) => {
                let (dict, _) = b.run_time_dict(entries)?;
                self.scalars.push((*var, Operand::Var(dict)));
                Ok(())
            }
            (Place::Future(var, _), Cell::Future(future)) => {
                self.scalars.push((*var, Operand::Var(future.var)));
                Ok(())
            }
            _ => Err(Stop::Incompatible("containers of different kinds".to_owned())),
        }
    }

    /// Plans to store a tensor in a buffer of its shape.
    pub(super) fn add_tensor(&mut self, buffer: BufferId, tensor: Tensor) {
        let vars = vec![None; tensor.rank()];
        self.tensors.push((buffer, vars, tensor));
    }

    /// Emits the stores.
    pub(super) fn emit(self, b: &mut Builder<'_>) {
        // Two buffers of one slot are one memory.
        let memory = |b: &Builder<'_>, buffer: BufferId| match b.function.buffers[buffer].class {
            BufferClass::Slot(slot) => (1, slot),
            _ => (0, buffer.0 as usize),
        };
        let written: Vec<_> = self.tensors.iter().map(|(buffer, ..)| memory(b, *buffer)).collect();
        let mut scalars = self.scalars;
        let set: Vec<VarId> = scalars.iter().map(|(var, _)| *var).collect();
        let is_given_up = |object: Option<VarId>| object.is_some_and(|var| set.contains(&var));
        let mut copies = Vec::new();
        for (buffer, vars, tensor) in self.tensors {
            let mut tensor = tensor;
            if let Contents::Buffer(source) = b.heap.storages[tensor.storage].contents {
                if source == buffer && b.shows_all(&tensor) {
                    continue;
                }
                if written.contains(&memory(b, source)) || is_given_up(b.object_behind(tensor.storage)) {
                    tensor = b.copy(&tensor);
                }
            }
            for (var, dim) in vars.iter().zip(&tensor.dims) {
                scalars.extend(var.map(|var| (var, Operand::from(*dim))));
            }
            copies.push((buffer, tensor));
        }
        let targets: Vec<VarId> = scalars.iter().map(|(var, _)| *var).collect();
        let mut ready = Vec::with_capacity(scalars.len());
        for (var, value) in scalars {
            let is_target = matches!(&value, Operand::Var(v) if *v != var && targets.contains(v));
            let value = if is_target {
                let ty = b.operand_type(&value);
                let held = b.new_var(ty, "");
                b.assign(held, value);
                Operand::Var(held)
            } else {
                value
            };
            ready.push((var, value));
        }
        for (var, value) in ready {
            b.assign(var, value);
        }
        self.empty.into_iter().for_each(|buffer| b.push(Stmt::Alloc(buffer)));
        for (buffer, tensor) in copies {
            if matches!(b.function.buffers[buffer].class, BufferClass::Slot(_)) {
                b.push(Stmt::Alloc(buffer));
            }
            // The copy runs over the place's own extents: the tensor's may be variables that were just changed.
            let dims = b.function.buffers[buffer].dims.clone();
            let source = Tensor { dims: dims.clone(), ..tensor };
            "store".clone_into(&mut b.op_name);
            let mut k = KernelBuilder::new(b);
            let index = k.parallel(&dims);
            let value = k.load(&source, &index);
            k.store(buffer, &index, value);
            k.finish();
        }
    }
}
