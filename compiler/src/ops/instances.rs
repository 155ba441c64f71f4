//! Instances of script classes that only the running program knows: items of run-time lists and dicts, one of several in a place.
//!
//! An instance is known by its attributes until it is put where its identity counts; then it becomes an object of the running program,
//! and from there on every name of it reads and writes that object. What is known of an attribute then is what its declared type says,
//! and of tensors what is known of those in lists and dicts that others hold.

use super::builder::Builder;
use super::run_time::var_arg;
use super::value::{Cell, CellId, ItemFacts, ObjectCell, RunTimeObject, Value, int};
use crate::diag::Result;
use crate::ir::{Class, ClassKind, Module};
use crate::loops::{Arg, Const, Operand, VarId, VarType};
use crate::types::Type;
use aot_runtime::routines::kinds::kind;
use indexmap::IndexMap;
use std::sync::Arc;

/// The script classes of a module.
#[derive(Debug, Default)]
pub struct Classes {
    attributes: IndexMap<Arc<str>, IndexMap<Arc<str>, Type>>,
    /// For each interface, the classes that have its methods.
    interfaces: IndexMap<Arc<str>, Vec<Arc<str>>>,
}

impl Classes {
    /// Those of a module.
    pub fn of(module: &Module) -> Self {
        let classes = || module.classes.values().filter(|class| class.kind == ClassKind::Class);
        let attributes = classes().map(|class| (Arc::clone(&class.name), class.attrs.clone())).collect();
        let has_all = |class: &Class, of: &Class| of.methods.iter().all(|method| class.methods.contains(method));
        let interfaces = module.classes.values().filter(|class| class.interface.is_some()).map(|interface| {
            let members = classes().filter(|class| has_all(class, interface));
            (Arc::clone(&interface.name), members.map(|class| Arc::clone(&class.name)).collect())
        });
        Self { interfaces: interfaces.collect(), attributes }
    }

    /// Whether instances of a class may be objects of the running program. Modules may not: they are where they are.
    pub fn contains(&self, class: &str) -> bool {
        self.attributes.contains_key(class)
    }

    /// Whether a class is of an interface.
    pub fn is_of(&self, class: &str, interface: &str) -> bool {
        self.interfaces.get(interface).is_some_and(|members| members.iter().any(|member| **member == *class))
    }
}

impl Builder<'_> {
    /// What is known of instances that are of an interface.
    pub(super) fn members_of(&self, interface: &str) -> ItemFacts {
        let members = self.classes.interfaces.get(interface).into_iter().flatten();
        let mut members: Vec<ItemFacts> = members.map(|class| ItemFacts::Object(Arc::clone(class))).collect();
        match members.len() {
            0 => ItemFacts::Empty,
            1 => members.remove(0),
            _ => ItemFacts::OneOf(members.into()),
        }
    }

    /// Makes an instance an object of the running program, if it is none yet.
    pub fn to_run_time_object(&mut self, id: CellId) -> Result<RunTimeObject> {
        let object = match self.heap.cells[id].clone() {
            Cell::RunTimeObject(object) => return Ok(object),
            Cell::Object(object) => object,
            Cell::List(_) | Cell::Dict(_) | Cell::RunTimeList(_) | Cell::RunTimeDict(_) | Cell::Future(_) => {
                return Err(self.user(format!("{} needs an object", self.op_name)));
            }
        };
        let var = self.new_object(&object.class)?;
        let made = RunTimeObject { var, class: Arc::clone(&object.class) };
        // Before what it holds, which may hold it.
        self.heap.cells[id] = Cell::RunTimeObject(made.clone());
        self.set_attributes(&made, &object)?;
        Ok(made)
    }

    /// An object of the running program with the attributes of an instance; gives its variable.
    pub fn run_time_object(&mut self, object: &ObjectCell) -> Result<VarId> {
        let var = self.new_object(&object.class)?;
        self.set_attributes(&RunTimeObject { var, class: Arc::clone(&object.class) }, object)?;
        Ok(var)
    }

    /// An object of the running program whose attributes are not set.
    fn new_object(&mut self, class: &Arc<str>) -> Result<VarId> {
        let Some(attributes) = self.classes.attributes.get(class) else {
            return Err(self.unsupported(format!("a list or dict of {class} that only the running program knows")));
        };
        let n = i64::try_from(attributes.len()).unwrap_or(i64::MAX);
        Ok(self.call_for_object("object_new", vec![Arg::Scalar(int(kind::class(class))), Arg::Scalar(int(n))]))
    }

    fn set_attributes(&mut self, object: &RunTimeObject, of: &ObjectCell) -> Result<()> {
        let names: Vec<Arc<str>> = self.classes.attributes[&object.class].keys().cloned().collect();
        for name in names {
            match of.attrs.get(&name) {
                Some(value) => self.set_attribute(object, &name, value)?,
                None if of.loaded.is_some() => {
                    let class = &object.class;
                    return Err(self
                        .unsupported(format!("an object {class} of the archive among those of the running program")));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The place of an attribute in its object and what is known of it; `None` where the class declares no such.
    fn declared(&self, object: &RunTimeObject, name: &str) -> Option<(Arg, ItemFacts)> {
        let (at, _, ty) = self.classes.attributes.get(&object.class)?.get_full(name)?;
        let at = int(i64::try_from(at).unwrap_or(i64::MAX));
        Some((Arg::Scalar(at), self.with_tensors(ItemFacts::of_type(ty), ty)))
    }

    /// An attribute; `None` where the class declares no such.
    pub fn attribute(&mut self, object: &RunTimeObject, name: &str) -> Option<Value> {
        let (at, facts) = self.declared(object, name)?;
        Some(self.fetched("object_get", vec![var_arg(object.var), at], &facts))
    }

    /// Sets an attribute.
    pub fn set_attribute(&mut self, object: &RunTimeObject, name: &str, value: &Value) -> Result<()> {
        let Some((at, facts)) = self.declared(object, name) else {
            return Err(self.user(format!("'{}' object has no attribute '{name}'", object.class)));
        };
        let (item, joined) = self.kept_arg(&facts, value)?;
        self.check_held(&joined)?;
        if joined != facts {
            return Err(self.unsupported(format!("a {} in the attribute '{name}' of an object", value.kind())));
        }
        self.call("object_set", vec![var_arg(object.var), at, item], &[]);
        Ok(())
    }

    /// Whether two lists, dicts or objects are one.
    pub fn is_same_cell(&mut self, x: CellId, y: CellId) -> Operand {
        let var = |cell: &Cell| match cell {
            Cell::RunTimeList(list) => Some(list.var),
            Cell::RunTimeDict(dict) => Some(dict.var),
            Cell::RunTimeObject(object) => Some(object.var),
            Cell::Future(future) => Some(future.var),
            Cell::List(_) | Cell::Dict(_) | Cell::Object(_) => None,
        };
        match (var(&self.heap.cells[x]), var(&self.heap.cells[y])) {
            (Some(p), Some(q)) if x != y => {
                Operand::Var(self.call("object_is", vec![var_arg(p), var_arg(q)], &[VarType::Bool])[0])
            }
            _ => Operand::Const(Const::bool(x == y)),
        }
    }
}
