//! Lists and dicts that only the running program knows: objects that routines of the runtime make, change and read.
//!
//! What is known of all items (`ItemFacts`) is known of the container; an item that is read is a value with those facts. A list
//! or dict that is put into another one becomes an object too, so that both names stay names of one thing. What the outer one
//! knows of it is then fixed, except for what its static type says anyway.

use super::builder::Builder;
use super::value::{
    Cell, CellId, EntryFacts, FutureCell, ItemFacts, ObjectCell, OneOf, RunTimeDict, RunTimeList, RunTimeObject,
    TensorFacts, Value, int,
};
use crate::diag::Result;
use crate::loops::{Arg, Const, Operand, VarId, VarType};
use crate::types::{DType, Type};
use std::sync::Arc;

/// A variable as a routine's argument.
pub fn var_arg(var: VarId) -> Arg {
    Arg::Scalar(Operand::Var(var))
}

impl Builder<'_> {
    /// Calls a routine that gives an object.
    pub fn call_for_object(&mut self, routine: &'static str, args: Vec<Arg>) -> VarId {
        self.call(routine, args, &[VarType::Object])[0]
    }

    /// The run-time list in a variable.
    pub fn list_in(&mut self, var: VarId, item: ItemFacts) -> Value {
        Value::Cell(self.heap.cells.push(Cell::RunTimeList(RunTimeList { var, item, is_nested: false })))
    }

    /// A run-time list with the items of a known one.
    pub fn run_time_list(&mut self, items: &[Value]) -> Result<(VarId, ItemFacts)> {
        let var = self.call_for_object("list_new", Vec::new());
        let mut facts = ItemFacts::Empty;
        for item in items {
            facts = self.run_time_push(var, &facts, item)?;
        }
        Ok((var, facts))
    }

    /// A run-time dict with the entries of a known one.
    pub fn run_time_dict(&mut self, entries: &[(Value, Value)]) -> Result<(VarId, EntryFacts)> {
        let var = self.call_for_object("dict_new", Vec::new());
        let mut facts = EntryFacts { key: ItemFacts::Empty, value: ItemFacts::Empty };
        for (key, value) in entries {
            facts = self.run_time_set(var, &facts, key, value)?;
        }
        Ok((var, facts))
    }

    /// Appends an item to a run-time list; gives what is then known of its items.
    pub fn run_time_push(&mut self, list: VarId, facts: &ItemFacts, item: &Value) -> Result<ItemFacts> {
        let (arg, joined) = self.kept_arg(facts, item)?;
        // Compiled code appends objects as they are, boxes and null too.
        let is_plain = !matches!(joined, ItemFacts::OneOf(_) | ItemFacts::Complex | ItemFacts::None);
        self.call(if is_plain { "list_push" } else { "list_push_boxed" }, vec![var_arg(list), arg], &[]);
        Ok(joined)
    }

    /// Sets a key of a run-time dict; gives what is then known of its entries.
    pub fn run_time_set(&mut self, dict: VarId, facts: &EntryFacts, key: &Value, value: &Value) -> Result<EntryFacts> {
        let key_arg = self.item_arg(key)?;
        let (value_arg, value) = self.kept_arg(&facts.value, value)?;
        self.call("dict_set", vec![var_arg(dict), key_arg, value_arg], &[]);
        Ok(EntryFacts { key: self.join_item(&facts.key, key)?, value })
    }

    /// Notes what is now known of the items of a list.
    pub fn widen_list(&mut self, id: CellId, list: RunTimeList, item: ItemFacts) -> Result<()> {
        if list.is_nested && list.item != item {
            self.check_held(&item)?;
        }
        self.heap.cells[id] = Cell::RunTimeList(RunTimeList { item, ..list });
        Ok(())
    }

    /// Notes what is now known of the entries of a dict.
    pub fn widen_dict(&mut self, id: CellId, dict: RunTimeDict, entry: EntryFacts) -> Result<()> {
        if dict.is_nested && dict.entry != entry {
            self.check_held(&entry.key)?;
            self.check_held(&entry.value)?;
        }
        self.heap.cells[id] = Cell::RunTimeDict(RunTimeDict { entry, ..dict });
        Ok(())
    }

    /// Whether this is known of all items of their type in lists and dicts that others hold, which therefore know it, too. If not,
    /// lowering has to begin again with more general facts of such tensors.
    pub(super) fn check_held(&mut self, item: &ItemFacts) -> Result<()> {
        if item.is_of_type() || *item == self.nested {
            return Ok(());
        }
        let leaves = item.leaves();
        let mut tensors = leaves.iter().filter(|leaf| matches!(leaf, ItemFacts::Tensor(_)));
        let wider = tensors.try_fold(self.nested.clone(), |known, tensor| self.join_items(&known, tensor));
        if wider.as_ref().is_ok_and(|wider| *wider == self.nested) && self.as_nested(item) == *item {
            return Ok(());
        }
        let message = "tensors of another type or shape in a list or dict that a run-time list or dict holds";
        let error = self.unsupported(message);
        self.wider_nested = wider.ok().filter(|wider| *wider != self.nested);
        Err(error)
    }

    /// What is known of items of a list or dict that another one holds.
    pub fn as_nested(&self, item: &ItemFacts) -> ItemFacts {
        match item {
            ItemFacts::Tensor(_) | ItemFacts::OneOf(_) if self.nested != ItemFacts::Empty && !item.is_of_type() => {
                self.join_items(item, &self.nested).unwrap_or_else(|_| item.clone())
            }
            ItemFacts::List(inner) => ItemFacts::List(Box::new(self.as_nested(inner))),
            ItemFacts::Dict(entry) => ItemFacts::Dict(Box::new(self.as_nested_entry(entry))),
            ItemFacts::Tuple(items, ty) => {
                ItemFacts::Tuple(items.iter().map(|item| self.as_nested(item)).collect(), ty.clone())
            }
            other => other.clone(),
        }
    }

    /// The same of entries.
    pub fn as_nested_entry(&self, entry: &EntryFacts) -> EntryFacts {
        EntryFacts { key: self.as_nested(&entry.key), value: self.as_nested(&entry.value) }
    }

    /// Makes a list an object of the running program, if it is none yet.
    pub fn to_run_time_list(&mut self, id: CellId) -> Result<RunTimeList> {
        let list = match self.heap.cells[id].clone() {
            Cell::RunTimeList(list) => list,
            Cell::List(items) => {
                let (var, item) = self.run_time_list(&items)?;
                RunTimeList { var, item, is_nested: false }
            }
            Cell::Dict(_) | Cell::RunTimeDict(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
                return Err(self.user(format!("{} needs a list", self.op_name)));
            }
        };
        self.heap.cells[id] = Cell::RunTimeList(list.clone());
        Ok(list)
    }

    /// Makes a dict an object of the running program, if it is none yet.
    pub fn to_run_time_dict(&mut self, id: CellId) -> Result<RunTimeDict> {
        let dict = match self.heap.cells[id].clone() {
            Cell::RunTimeDict(dict) => dict,
            Cell::Dict(entries) => {
                let (var, entry) = self.run_time_dict(&entries)?;
                RunTimeDict { var, entry, is_nested: false }
            }
            Cell::List(_) | Cell::RunTimeList(_) | Cell::Object(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
                return Err(self.user(format!("{} needs a dict", self.op_name)));
            }
        };
        self.heap.cells[id] = Cell::RunTimeDict(dict.clone());
        Ok(dict)
    }

    /// Makes a list, dict or instance an object of the running program, if it is none yet; gives its variable.
    pub fn to_run_time(&mut self, id: CellId) -> Result<VarId> {
        match &self.heap.cells[id] {
            Cell::Dict(_) | Cell::RunTimeDict(_) => self.to_run_time_dict(id).map(|dict| dict.var),
            Cell::Object(_) | Cell::RunTimeObject(_) => self.to_run_time_object(id).map(|object| object.var),
            _ => self.to_run_time_list(id).map(|list| list.var),
        }
    }

    /// Makes the lists and dicts among these values objects of the running program; those that cannot be stay what they are.
    pub fn to_run_time_where_possible(&mut self, values: &[Value]) {
        for value in values {
            if let Value::Cell(id) = value
                && matches!(self.heap.cells[*id], Cell::List(_) | Cell::Dict(_))
                && self.item_facts(value).is_ok()
            {
                // Facts were found for every item, so each can be put in.
                drop(self.to_run_time(*id));
            }
        }
    }

    /// The object that a list, dict or future is once another one holds it.
    fn nest(&mut self, id: CellId) -> Result<VarId> {
        match &self.heap.cells[id] {
            Cell::List(_) | Cell::RunTimeList(_) => {
                let list = self.to_run_time_list(id)?;
                let (var, item) = (list.var, self.as_nested(&list.item));
                self.heap.cells[id] = Cell::RunTimeList(RunTimeList { is_nested: true, item, ..list });
                Ok(var)
            }
            Cell::Dict(_) | Cell::RunTimeDict(_) => {
                let dict = self.to_run_time_dict(id)?;
                let (var, entry) = (dict.var, self.as_nested_entry(&dict.entry));
                self.heap.cells[id] = Cell::RunTimeDict(RunTimeDict { is_nested: true, entry, ..dict });
                Ok(var)
            }
            Cell::Future(future) => Ok(future.var),
            Cell::Object(_) | Cell::RunTimeObject(_) => self.to_run_time_object(id).map(|object| object.var),
        }
    }

    /// An item of a run-time list or dict as the argument of a routine.
    pub fn item_arg(&mut self, item: &Value) -> Result<Arg> {
        Ok(match item {
            // Compiled code relies on it that the items of a list of ints are ints, whatever the operand is.
            Value::Int(o) => Arg::Scalar(self.cast(DType::I64, o.clone())),
            Value::Float(o) => Arg::Scalar(self.cast(DType::F64, o.clone())),
            Value::Bool(o) => Arg::Scalar(self.cast(DType::Bool, o.clone())),
            Value::Str(o) => Arg::Scalar(o.clone()),
            Value::Tensor(t) if self.shares_memory => var_arg(self.object_of(t)),
            Value::Tensor(t) => Arg::Buffer(self.row_major(t)),
            Value::Tuple(items, _) => {
                let items = items.iter().map(|item| self.item_arg(item)).collect::<Result<_>>()?;
                var_arg(self.call_for_object("tuple_new", items))
            }
            Value::Cell(id) => var_arg(self.nest(*id)?),
            Value::Enum(_, value) => return self.item_arg(value),
            Value::OneOf(one) => var_arg(one.item),
            Value::Complex(re, im) => var_arg(self.boxed_complex(re, im)),
            // An object variable that nothing sets is null.
            Value::None => var_arg(self.new_var(VarType::Object, "none")),
            other => return Err(self.no_item(other)),
        })
    }

    /// An item as the argument of a routine that puts it among items of which this is known, and what is then known of all. Where
    /// they are of several kinds it is in a box, since compiled code takes a number for one of a list of such numbers.
    pub fn kept_arg(&mut self, facts: &ItemFacts, item: &Value) -> Result<(Arg, ItemFacts)> {
        let joined = self.join_item(facts, item)?;
        let arg = match (&joined, item) {
            (_, Value::Uninitialized) => return Err(self.no_item(item)),
            (ItemFacts::OneOf(_), item) => Arg::Scalar(self.boxed(item)?.0),
            _ => self.item_arg(item)?,
        };
        Ok((arg, joined))
    }

    fn no_item(&self, value: &Value) -> Box<crate::diag::Diagnostic> {
        self.unsupported(format!("a list or dict of {} that only the running program knows", value.kind()))
    }

    /// What is known of an item.
    pub fn item_facts(&self, item: &Value) -> Result<ItemFacts> {
        Ok(match item {
            Value::Int(_) => ItemFacts::Int,
            Value::Float(_) => ItemFacts::Float,
            Value::Bool(_) => ItemFacts::Bool,
            Value::Str(_) => ItemFacts::Str,
            Value::Tensor(t) => ItemFacts::Tensor(self.tensor_facts(t)),
            Value::Tuple(items, ty) => {
                ItemFacts::Tuple(items.iter().map(|item| self.item_facts(item)).collect::<Result<_>>()?, ty.clone())
            }
            Value::Cell(id) => match &self.heap.cells[*id] {
                Cell::List(items) => {
                    let items = items.iter().try_fold(ItemFacts::Empty, |facts, item| self.join_item(&facts, item))?;
                    ItemFacts::List(Box::new(self.as_nested(&items)))
                }
                Cell::Dict(entries) => {
                    let mut facts = EntryFacts { key: ItemFacts::Empty, value: ItemFacts::Empty };
                    for (key, value) in entries {
                        facts.key = self.join_item(&facts.key, key)?;
                        facts.value = self.join_item(&facts.value, value)?;
                    }
                    ItemFacts::Dict(Box::new(self.as_nested_entry(&facts)))
                }
                Cell::RunTimeList(list) => ItemFacts::List(Box::new(self.as_nested(&list.item))),
                Cell::RunTimeDict(dict) => ItemFacts::Dict(Box::new(self.as_nested_entry(&dict.entry))),
                Cell::Future(future) => ItemFacts::Future(future.result),
                Cell::Object(ObjectCell { class, .. }) if !self.classes.contains(class) => {
                    return Err(
                        self.unsupported(format!("a list or dict of {class} that only the running program knows"))
                    );
                }
                Cell::Object(ObjectCell { class, .. }) | Cell::RunTimeObject(RunTimeObject { class, .. }) => {
                    ItemFacts::Object(Arc::clone(class))
                }
            },
            Value::Enum(class, value) => ItemFacts::Enum(Arc::clone(class), Box::new(self.item_facts(value)?)),
            Value::OneOf(one) => ItemFacts::OneOf(Arc::clone(&one.options)),
            Value::Complex(..) => ItemFacts::Complex,
            Value::None => ItemFacts::None,
            other => return Err(self.no_item(other)),
        })
    }

    /// What is known of items when this one joins them.
    pub fn join_item(&self, facts: &ItemFacts, item: &Value) -> Result<ItemFacts> {
        self.join_items(facts, &self.item_facts(item)?)
    }

    /// What is known of the items of either of two lists.
    pub fn join_items(&self, a: &ItemFacts, b: &ItemFacts) -> Result<ItemFacts> {
        match (a, b) {
            (ItemFacts::Empty, other) | (other, ItemFacts::Empty) => Ok(other.clone()),
            (ItemFacts::Tensor(m), ItemFacts::Tensor(n)) if m.dtype == n.dtype && m.dims.len() == n.dims.len() => {
                let dims = m.dims.iter().zip(&n.dims).map(|(x, y)| if x == y { *x } else { None }).collect();
                let is_row_major = m.is_row_major && n.is_row_major;
                Ok(ItemFacts::Tensor(TensorFacts { dtype: m.dtype, dims, is_row_major }))
            }
            (ItemFacts::Tuple(m, ty), ItemFacts::Tuple(n, _)) if m.len() == n.len() => {
                let items = m.iter().zip(n).map(|(x, y)| self.join_items(x, y)).collect::<Result<_>>()?;
                Ok(ItemFacts::Tuple(items, ty.clone()))
            }
            (ItemFacts::List(m), ItemFacts::List(n)) => Ok(ItemFacts::List(Box::new(self.join_items(m, n)?))),
            (ItemFacts::Dict(m), ItemFacts::Dict(n)) => Ok(ItemFacts::Dict(Box::new(self.join_entries(m, n)?))),
            (ItemFacts::Enum(c, m), ItemFacts::Enum(d, n)) if c == d => {
                Ok(ItemFacts::Enum(Arc::clone(c), Box::new(self.join_items(m, n)?)))
            }
            (a, b) if a == b => Ok(a.clone()),
            (a, b) => self.join_kinds(a, b),
        }
    }

    /// What is known of the entries of either of two dicts.
    pub fn join_entries(&self, a: &EntryFacts, b: &EntryFacts) -> Result<EntryFacts> {
        Ok(EntryFacts { key: self.join_items(&a.key, &b.key)?, value: self.join_items(&a.value, &b.value)? })
    }

    /// What is known of the items of the list that is argument `at` of the current operator.
    pub fn items_at(&self, at: usize, facts: &ItemFacts) -> ItemFacts {
        match self.argument_type(at) {
            Some(Type::List(item)) => self.with_tensors(facts.completed(item), item),
            _ => facts.clone(),
        }
    }

    /// What is known of the entries of the dict that is argument `at` of the current operator.
    pub fn entries_at(&self, at: usize, facts: &EntryFacts) -> EntryFacts {
        match self.argument_type(at) {
            Some(Type::Dict(key, value)) => {
                let value = self.with_tensors(facts.value.completed(value), value);
                EntryFacts { key: facts.key.completed(key), value }
            }
            _ => facts.clone(),
        }
    }

    /// Where nothing is known of tensors, what is known of those in lists and dicts that others hold.
    pub(super) fn with_tensors(&self, facts: ItemFacts, ty: &Type) -> ItemFacts {
        match (facts, ty) {
            (ItemFacts::Empty, Type::Tensor(_)) => self.nested.clone(),
            (ItemFacts::Empty, Type::Interface(name)) => self.members_of(name),
            (ItemFacts::OneOf(options), Type::Optional(_) | Type::Union(_)) => {
                let types = if let Type::Union(members) = ty { members } else { std::slice::from_ref(ty) };
                let types = types.iter().map(|ty| if let Type::Optional(inner) = ty { inner } else { ty });
                let mut options = options.to_vec();
                for option in types.flat_map(|ty| self.with_tensors(ItemFacts::of_type(ty), ty).options()) {
                    // What is known of tensors is known of all of them, of whatever kind.
                    let is_known = |known: &ItemFacts| match (known, &option) {
                        (ItemFacts::Tensor(_), ItemFacts::Tensor(_)) => true,
                        (known, option) => known.kind() == option.kind(),
                    };
                    if !options.iter().any(is_known) {
                        options.push(option);
                    }
                }
                ItemFacts::OneOf(options.into())
            }
            (ItemFacts::List(item), Type::List(ty)) => ItemFacts::List(Box::new(self.with_tensors(*item, ty))),
            (ItemFacts::Dict(entry), Type::Dict(_, ty)) => {
                let EntryFacts { key, value } = *entry;
                ItemFacts::Dict(Box::new(EntryFacts { key, value: self.with_tensors(value, ty) }))
            }
            (ItemFacts::Tuple(items, named), Type::Tuple(types)) if items.len() == types.len() => {
                let items = items.into_iter().zip(types.iter()).map(|(item, ty)| self.with_tensors(item, ty));
                ItemFacts::Tuple(items.collect(), named)
            }
            (facts, _) => facts,
        }
    }

    /// The item that a routine gives; where there can be none, the program ends with an exception of this class.
    pub fn fetched(&mut self, routine: &'static str, args: Vec<Arg>, facts: &ItemFacts) -> Value {
        if let ItemFacts::OneOf(options) = facts {
            return self.fetched_box(routine, args, options);
        }
        if let ItemFacts::Enum(class, value) = facts {
            return Value::Enum(Arc::clone(class), Box::new(self.fetched(routine, args, value)));
        }
        let ty = match facts {
            ItemFacts::Complex => {
                let Value::OneOf(one) = self.fetched_box(routine, args, &Arc::default()) else { return Value::None };
                return self.complex_in(one.item);
            }
            ItemFacts::Int => VarType::Int,
            ItemFacts::Float => VarType::Float,
            ItemFacts::Bool => VarType::Bool,
            _ => VarType::Object,
        };
        let var = self.call(routine, args, &[ty])[0];
        self.item_in(var, facts)
    }

    /// The item in a variable.
    pub fn item_in(&mut self, var: VarId, facts: &ItemFacts) -> Value {
        let operand = Operand::Var(var);
        match facts {
            ItemFacts::Int => Value::Int(operand),
            ItemFacts::Float => Value::Float(operand),
            ItemFacts::Bool => Value::Bool(operand),
            ItemFacts::Str => Value::Str(operand),
            ItemFacts::Tensor(facts) => Value::Tensor(self.tensor_in(var, facts)),
            ItemFacts::Future(result) => {
                Value::Cell(self.heap.cells.push(Cell::Future(Box::new(FutureCell::new(var, *result)))))
            }
            ItemFacts::Tuple(items, ty) => {
                let item = |(at, facts): (i64, &ItemFacts)| {
                    self.fetched("tuple_get", vec![var_arg(var), Arg::Scalar(int(at))], facts)
                };
                Value::Tuple((0..).zip(items).map(item).collect(), ty.clone())
            }
            ItemFacts::List(item) => {
                let list = RunTimeList { var, item: (**item).clone(), is_nested: true };
                Value::Cell(self.heap.cells.push(Cell::RunTimeList(list)))
            }
            ItemFacts::Dict(entry) => {
                let dict = RunTimeDict { var, entry: (**entry).clone(), is_nested: true };
                Value::Cell(self.heap.cells.push(Cell::RunTimeDict(dict)))
            }
            ItemFacts::Object(class) => {
                let object = RunTimeObject { var, class: Arc::clone(class) };
                Value::Cell(self.heap.cells.push(Cell::RunTimeObject(object)))
            }
            ItemFacts::Enum(class, value) => Value::Enum(Arc::clone(class), Box::new(self.item_in(var, value))),
            ItemFacts::None => Value::None,
            ItemFacts::Complex => self.complex_in(var),
            ItemFacts::OneOf(options) => {
                let kind = self.call("box_kind", vec![var_arg(var)], &[VarType::Int])[0];
                Value::OneOf(OneOf { item: var, kind, options: Arc::clone(options) })
            }
            // The container is empty, so the routine has raised.
            ItemFacts::Empty => {
                self.check(Operand::Const(Const::bool(false)), "an item of an empty container");
                Value::Uninitialized
            }
        }
    }
}
