//! Which attributes of the archive's objects the methods change: these are the state that outlives a call.
//!
//! An attribute changes where it is assigned, or where something that may share its memory is written to: a view of it, an
//! item of a list it was put into, an argument of a method. What may share memory follows the alias marks of schemas; what
//! has none (`prim::` nodes, calls) is taken to hand on all that went in. That errs towards state, which is slower but right.
//!
//! Tensors of several attributes may lie in one storage of the archive. If one of them is written to, all see it, so the
//! storage is the state and the attributes are views of it, as are tensors in lists, tuples and dicts that attributes hold.

use crate::index::IndexVec;
use crate::ir::{Attr, Graph, Module, Node, ValueId};
use crate::ops::schema;
use crate::types::{IValue, Object, TensorData, Type};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Something that outlives a call.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// An attribute.
    Attr(Arc<Object>, Arc<str>),
    /// The storage that tensors of these attributes share, as a tensor of one dimension.
    Storage(Arc<TensorData>, Vec<(Arc<Object>, Arc<str>, Arc<TensorData>)>),
}

/// An attribute of a class.
type Name = (Arc<str>, Arc<str>);

/// What a value may share memory with.
#[derive(Clone, Default, PartialEq, Debug)]
struct Origins {
    attrs: BTreeSet<Name>,
    params: BTreeSet<usize>,
    /// Whether it was taken out of a list or dict, so that it may be whatever was put into one.
    is_item: bool,
}

impl Origins {
    fn add(&mut self, other: &Self) {
        self.attrs.extend(other.attrs.iter().cloned());
        self.params.extend(&other.params);
        self.is_item |= other.is_item;
    }
}

/// What functions do to attributes and to their parameters.
#[derive(Default)]
pub(super) struct Changes {
    assigned: BTreeSet<Name>,
    written: BTreeSet<Name>,
    /// Those of [`Self::written`] of which more is written to than tensors.
    regrouped: BTreeSet<Name>,
    /// By function, the parameters it writes to.
    params: BTreeMap<Arc<str>, BTreeSet<usize>>,
    /// By function, what its results may share memory with.
    results: BTreeMap<Arc<str>, Origins>,
    /// By function, the parameters that it puts into lists and dicts.
    kept_params: BTreeMap<Arc<str>, BTreeSet<usize>>,
    /// Attributes that are put into lists and dicts.
    kept: BTreeSet<Name>,
    /// Whether something that was taken out of one is written to.
    writes_items: bool,
}

/// A function or task.
#[derive(Clone, Copy)]
struct Body<'a> {
    name: &'a Arc<str>,
    graph: &'a Graph,
}

impl Changes {
    /// Those of all functions of a module.
    pub(super) fn of(module: &Module) -> Self {
        let mut changes = Self::default();
        // What a callee writes is known once it was looked at, so all are looked at until nothing new is found.
        loop {
            let n_before = changes.n_found();
            for function in module.functions.values() {
                changes.look_at(module, Body { name: &function.name, graph: &function.graph });
            }
            if changes.writes_items {
                changes.written.extend(changes.kept.iter().cloned());
            }
            if changes.n_found() == n_before {
                return changes;
            }
        }
    }

    /// The parameters that a function writes to.
    pub(super) fn written_params(&self, function: &str) -> impl Iterator<Item = usize> + '_ {
        self.params.get(function).into_iter().flatten().copied()
    }

    /// The parameters that a function's results may share memory with.
    pub(super) fn returned_params(&self, function: &str) -> impl Iterator<Item = usize> + '_ {
        self.results.get(function).into_iter().flat_map(|origins| origins.params.iter().copied())
    }

    /// Whether some function writes to what lies in the attribute that a `prim::SetAttr` sets.
    pub(super) fn is_written(&self, graph: &Graph, node: &Node) -> bool {
        match (&graph.values[node.inputs[0]].ty, node.attr_name("name")) {
            (Type::Class(class), Some(name)) => self.written.contains(&(Arc::clone(class), Arc::clone(name))),
            _ => true,
        }
    }

    fn n_found(&self) -> usize {
        let params = self.params.values().chain(self.kept_params.values()).map(BTreeSet::len);
        let n_kept = self.kept.len() + usize::from(self.writes_items);
        let results = self.results.values().map(|origins| origins.attrs.len() + origins.params.len());
        let n_attrs = self.assigned.len() + self.written.len() + self.regrouped.len() + n_kept;
        n_attrs + params.sum::<usize>() + results.sum::<usize>()
    }
}

/// The state of a module, in the order in which its objects are met.
pub(super) fn state(module: &Module) -> Vec<State> {
    let changes = Changes::of(module);
    let attrs = attributes(&module.root);
    let is_in = |names: &BTreeSet<Name>, object: &Object, name: &Arc<str>| {
        names.contains(&(Arc::clone(&object.class), Arc::clone(name)))
    };
    let keys_held = attrs.iter().filter(|(object, name, _)| !is_in(&changes.assigned, object, name));
    let keys_held = keys_held.filter(|(.., value)| !matches!(value, IValue::Tensor(_)));
    let held: HashSet<usize> = keys_held.flat_map(|(.., value)| tensors_in(value)).map(|t| t.storage().key()).collect();
    let mut states: Vec<State> = Vec::new();
    let mut shared = HashSet::new();
    for (object, name, value) in &attrs {
        let is_assigned = is_in(&changes.assigned, object, name);
        if !is_assigned && !is_in(&changes.written, object, name) {
            continue;
        }
        let is_regrouped = is_in(&changes.regrouped, object, name) && !matches!(value, IValue::Tensor(_));
        if !is_assigned && !is_regrouped {
            let tensors = tensors_in(value);
            let mut storages = Vec::new();
            for data in &tensors {
                let key = data.storage().key();
                if shared.contains(&key) {
                    continue;
                }
                let views: Vec<_> = attrs
                    .iter()
                    .filter(|(object, name, _)| !is_in(&changes.assigned, object, name))
                    .filter_map(|(object, name, value)| match value {
                        IValue::Tensor(view) if view.storage().key() == key => {
                            Some((Arc::clone(object), Arc::clone(name), Arc::clone(view)))
                        }
                        _ => None,
                    })
                    .collect();
                let is_shared = views.len() > 1 || held.contains(&key);
                let is_plain = |view: &Arc<TensorData>| view.dtype() == data.dtype() && view.quantizer.is_none();
                let is_plain = is_plain(data) && views.iter().all(|(_, _, view)| is_plain(view));
                match whole_storage(data) {
                    Some(whole) if is_shared && is_plain => storages.push(State::Storage(Arc::new(whole), views)),
                    _ => {
                        storages.clear();
                        break;
                    }
                }
            }
            let all_shared = tensors.iter().all(|data| shared.contains(&data.storage().key()));
            if !tensors.is_empty() && (all_shared || !storages.is_empty()) {
                shared.extend(tensors.iter().map(|data| data.storage().key()));
                states.extend(storages);
                continue;
            }
        }
        states.push(State::Attr(Arc::clone(object), Arc::clone(name)));
    }
    states
}

/// The tensors that a value is or holds, but for those of objects.
fn tensors_in(value: &IValue) -> Vec<Arc<TensorData>> {
    match value {
        IValue::Tensor(data) => vec![Arc::clone(data)],
        IValue::List(_, items) | IValue::Tuple(items) => items.iter().flat_map(tensors_in).collect(),
        IValue::Dict(_, entries) => entries.iter().flat_map(|(_, value)| tensors_in(value)).collect(),
        _ => Vec::new(),
    }
}

/// All of a tensor's storage, as a tensor of one dimension.
fn whole_storage(data: &TensorData) -> Option<TensorData> {
    let n = data.storage().bytes().len() / data.dtype().size_bytes();
    TensorData::new(data.dtype(), vec![i64::try_from(n).ok()?], vec![1], 0, data.storage().clone()).ok()
}

/// Every attribute of every object that can be reached, with its value.
fn attributes(root: &Arc<Object>) -> Vec<(Arc<Object>, Arc<str>, IValue)> {
    let mut found = Vec::new();
    let mut queue = vec![Arc::clone(root)];
    let mut seen = HashSet::new();
    while let Some(object) = queue.pop() {
        if !seen.insert(Arc::as_ptr(&object) as usize) {
            continue;
        }
        for (name, value) in &object.attrs {
            found.push((Arc::clone(&object), Arc::clone(name), value.clone()));
            let mut inner = Vec::new();
            super::state::objects_in(value, "", &mut inner);
            queue.extend(inner.into_iter().map(|(object, _)| object));
        }
    }
    found
}

impl Changes {
    fn look_at(&mut self, module: &Module, function: Body<'_>) {
        let graph = function.graph;
        let mut origins: IndexVec<ValueId, Origins> = graph.values.ids().map(|_| Origins::default()).collect();
        for (i, param) in graph.blocks[graph.top].params.iter().enumerate() {
            origins[*param].params.insert(i);
        }
        // Loops hand values back, so nodes are looked at until nothing new is found.
        loop {
            let before = origins.clone();
            for block in graph.blocks.iter() {
                for id in &block.nodes {
                    self.node(module, function, &graph.nodes[*id], &mut origins);
                }
            }
            if origins == before {
                break;
            }
        }
        let results = self.results.entry(Arc::clone(function.name)).or_default();
        for value in &graph.blocks[graph.top].returns {
            results.add(&origins[*value]);
        }
    }

    fn node(&mut self, module: &Module, function: Body<'_>, node: &Node, origins: &mut IndexVec<ValueId, Origins>) {
        let graph = function.graph;
        let class = |value: ValueId| match &graph.values[value].ty {
            Type::Class(class) => Some(Arc::clone(class)),
            _ => None,
        };
        let hand = |from: &[ValueId], to: ValueId, origins: &mut IndexVec<ValueId, Origins>| {
            for value in from {
                let known = origins[*value].clone();
                origins[to].add(&known);
            }
        };
        match &*node.op.name {
            "prim::GetAttr" => {
                if let (Some(class), Some(name), Some(&out)) =
                    (class(node.inputs[0]), node.attr_name("name"), node.outputs.first())
                    && !matches!(graph.values[out].ty, Type::Class(_))
                {
                    origins[out].attrs.insert((class, Arc::clone(name)));
                }
            }
            "prim::SetAttr" => {
                if let (Some(class), Some(name)) = (class(node.inputs[0]), node.attr_name("name")) {
                    self.assigned.insert((class, Arc::clone(name)));
                }
            }
            "prim::If" => {
                for block in &node.blocks {
                    for (from, to) in graph.blocks[*block].returns.iter().zip(&node.outputs) {
                        hand(&[*from], *to, origins);
                    }
                }
            }
            "prim::Loop" => {
                let body = &graph.blocks[node.blocks[0]];
                for (i, out) in node.outputs.iter().enumerate() {
                    let (entry, param, back) = (node.inputs[i + 2], body.params[i + 1], body.returns[i + 1]);
                    hand(&[entry, back], param, origins);
                    hand(&[entry, back], *out, origins);
                }
            }
            // What a task gives, its wait gives.
            "aten::wait" => node.outputs.iter().for_each(|out| hand(&node.inputs, *out, origins)),
            "prim::CallMethod" | "prim::CallFunction" | "prim::fork" => {
                let callee = match node.attr("Subgraph") {
                    Some(Attr::Graph(task)) => {
                        // A task has no name but its graph.
                        let name = format!("{:p}", Arc::as_ptr(task)).into();
                        self.look_at(module, Body { name: &name, graph: task });
                        Some(name)
                    }
                    _ => called(module, graph, node),
                };
                let skip = usize::from(node.is("prim::CallFunction"));
                let Some(callee) = callee else {
                    // A method of an interface: it may be any.
                    node.outputs.iter().for_each(|out| hand(&node.inputs, *out, origins));
                    return;
                };
                for at in self.params.get(&callee).cloned().unwrap_or_default() {
                    if let Some(arg) = node.inputs.get(at + skip) {
                        self.write(function, *arg, &origins[*arg]);
                    }
                }
                for at in self.kept_params.get(&callee).cloned().unwrap_or_default() {
                    if let Some(arg) = node.inputs.get(at + skip) {
                        self.keep(function, &origins[*arg]);
                    }
                }
                let results = self.results.get(&callee).cloned().unwrap_or_default();
                for out in &node.outputs {
                    origins[*out].attrs.extend(results.attrs.iter().cloned());
                    let args = results.params.iter().filter_map(|at| node.inputs.get(at + skip).copied());
                    hand(&args.collect::<Vec<_>>(), *out, origins);
                }
            }
            _ => match schema::schema(&node.op) {
                Some(schema) => {
                    for (arg, input) in schema.args.iter().zip(&node.inputs) {
                        if arg.alias.as_ref().is_some_and(|a| a.is_write) {
                            self.write(function, *input, &origins[*input]);
                        } else if arg.alias.as_ref().is_some_and(|a| a.becomes_wildcard) {
                            self.keep(function, &origins[*input]);
                        }
                    }
                    let holds = |value: &ValueId| matches!(graph.values[*value].ty, Type::List(_) | Type::Dict(..));
                    for (result, out) in schema.returns.iter().zip(&node.outputs) {
                        if result.alias.is_none() {
                            continue;
                        }
                        origins[*out].is_item |= node.inputs.iter().any(holds) && !holds(out);
                        let marked = schema.args.iter().zip(&node.inputs).filter(|(arg, _)| arg.alias.is_some());
                        let from: Vec<_> = marked.map(|(_, input)| *input).collect();
                        hand(&from, *out, origins);
                    }
                }
                None => {
                    for out in &node.outputs {
                        hand(&node.inputs, *out, origins);
                    }
                }
            },
        }
    }

    fn keep(&mut self, function: Body<'_>, origins: &Origins) {
        self.kept.extend(origins.attrs.iter().cloned());
        if !origins.params.is_empty() {
            self.kept_params.entry(Arc::clone(function.name)).or_default().extend(&origins.params);
        }
    }

    fn write(&mut self, function: Body<'_>, value: ValueId, origins: &Origins) {
        self.written.extend(origins.attrs.iter().cloned());
        self.writes_items |= origins.is_item;
        if !matches!(function.graph.values[value].ty, Type::Tensor(_)) {
            self.regrouped.extend(origins.attrs.iter().cloned());
        }
        if !origins.params.is_empty() {
            self.params.entry(Arc::clone(function.name)).or_default().extend(&origins.params);
        }
    }
}

/// The name of the function that a call reaches, where the graph says it.
pub(super) fn called(module: &Module, graph: &Graph, node: &Node) -> Option<Arc<str>> {
    let &callee = node.inputs.first()?;
    if node.is("prim::CallMethod") {
        let Type::Class(class) = &graph.values[callee].ty else { return None };
        return module.method(class, node.attr_name("name")?).map(|function| Arc::clone(&function.name));
    }
    let made = graph.nodes.iter().find(|n| n.outputs.first() == Some(&callee))?;
    made.attrs.iter().find_map(|(_, attr)| if let Attr::Name(name) = attr { Some(Arc::clone(name)) } else { None })
}
