//! Attributes of the root object that nothing writes become constants named after their path: `self.fc.weight`.
//!
//! In: an inlined graph of a method of the root, and those of all methods that stay callable. After: `prim::GetAttr` is
//! left only for what may change and for objects on the way there. A tensor may change if an operator writes to it, to
//! another attribute of the same memory, or to anything that may share its memory; [`effects`](crate::ops::effects) says what may.

use super::{Changed, edit, inline};
use crate::ir::{Graph, Node, ValueId};
use crate::ops::effects;
use crate::types::{IValue, Object, Type};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type Path = Vec<Arc<str>>;

/// What the methods of a module may change.
#[derive(Clone, Debug, Default)]
pub struct Written {
    attributes: HashSet<Path>,
    storages: HashSet<usize>,
}

impl Written {
    /// Adds what an inlined graph of a method of the root writes to.
    pub fn add(&mut self, graph: &Graph, root: &Arc<Object>) {
        let roots = sources(graph);
        for (_, id) in graph.nodes_in_order() {
            let node = &graph.nodes[id];
            if let ("prim::SetAttr", [object, value]) = (&*node.op.name, &node.inputs[..]) {
                let attribute = |mut path: Path| {
                    path.extend(node.attr_name("name").cloned());
                    path
                };
                // An object that came through containers or branches may be any of its sources.
                let objects = inline::path(graph, *object).map(|path| HashSet::from([path]));
                let objects = objects.or_else(|| roots.get(object).cloned()).unwrap_or_default();
                self.attributes.extend(objects.into_iter().map(attribute));
                // What is stored may be written to later.
                self.add_sources(&roots, *value, root);
                continue;
            }
            let is_call = matches!(&*node.op.name, "prim::CallMethod" | "prim::CallFunction" | "prim::fork");
            let values = if is_call { node.inputs.clone() } else { effects::written(node) };
            for value in values {
                self.add_sources(&roots, value, root);
            }
        }
    }

    fn add_sources(&mut self, sources: &HashMap<ValueId, HashSet<Path>>, value: ValueId, root: &Arc<Object>) {
        for path in sources.get(&value).into_iter().flatten() {
            self.attributes.insert(path.clone());
            if let Some(value) = lookup(root, path) {
                storages(&value, &mut self.storages);
            }
        }
    }

    fn may_change(&self, path: &Path, value: &IValue) -> bool {
        // Writing an attribute of an object changes the object's path, so every prefix counts.
        let mut own = HashSet::new();
        storages(value, &mut own);
        (1..=path.len()).any(|n| self.attributes.contains(&path[..n])) || !own.is_disjoint(&self.storages)
    }
}

/// Replaces what cannot change. `written` covers every method that stays callable.
pub fn run(graph: &mut Graph, root: &Arc<Object>, written: &Written) -> Changed {
    let (mut new, mut constants) = (HashMap::new(), Vec::new());
    let mut known: HashMap<Path, ValueId> = HashMap::new();
    for (_, id) in graph.nodes_in_order() {
        let node = &graph.nodes[id];
        if !node.is("prim::GetAttr") {
            continue;
        }
        let output = node.outputs[0];
        let Some(path) = inline::path(graph, output) else { continue };
        let Some(value) = lookup(root, &path) else { continue };
        if !is_freezable(&value) || written.may_change(&path, &value) {
            continue;
        }
        let ty = graph.values[output].ty.clone();
        let constant = *known.entry(path.clone()).or_insert_with(|| {
            let ty = if matches!(value, IValue::None) { Type::None } else { ty };
            let name = format!("self.{}", path.join("."));
            let node = edit::create_constant(graph, value.clone(), ty, Some(name.into()));
            constants.push(node);
            graph.nodes[node].outputs[0]
        });
        new.insert(output, constant);
    }
    edit::substitute(graph, &new);
    let top = graph.top;
    graph.blocks[top].nodes.splice(0..0, constants);
    !new.is_empty()
}

/// Values without identity, tensors, and lists of numbers and text.
fn is_freezable(value: &IValue) -> bool {
    match value {
        IValue::Tensor(_) | IValue::Enum { .. } => true,
        IValue::List(_, items) => items.iter().all(|item| edit::plain_type(item).is_some()),
        IValue::Object(_) | IValue::Dict(..) => false,
        other => edit::plain_type(other).is_some(),
    }
}

/// The value of an attribute of the root.
fn lookup(root: &Arc<Object>, path: &[Arc<str>]) -> Option<IValue> {
    let mut value = IValue::Object(root.clone());
    for name in path {
        let IValue::Object(object) = value else { return None };
        value = object.attrs.get(name)?.clone();
    }
    Some(value)
}

/// The memory of every tensor in a value.
fn storages(value: &IValue, out: &mut HashSet<usize>) {
    match value {
        IValue::Tensor(data) => _ = out.insert(data.storage().key()),
        IValue::Tuple(items) | IValue::List(_, items) => items.iter().for_each(|item| storages(item, out)),
        IValue::Dict(_, entries) => entries.iter().for_each(|(_, item)| storages(item, out)),
        IValue::Object(object) => object.attrs.values().for_each(|item| storages(item, out)),
        IValue::None
        | IValue::Bool(_)
        | IValue::Int(_)
        | IValue::Float(_)
        | IValue::Complex(..)
        | IValue::Str(_)
        | IValue::Device(_)
        | IValue::Enum { .. } => {}
    }
}

/// For each value the attributes that it may be, hold or share memory with.
fn sources(graph: &Graph) -> HashMap<ValueId, HashSet<Path>> {
    let mut out: HashMap<ValueId, HashSet<Path>> = HashMap::new();
    let all = graph.nodes_in_order();
    // Loops carry sources round; sets only grow, so this ends.
    loop {
        let mut changed = false;
        let mut join = |from: Vec<ValueId>, to: ValueId| {
            let joined: HashSet<Path> = from.iter().filter_map(|v| out.get(v)).flatten().cloned().collect();
            if graph.values[to].ty.is_immutable() || joined.is_empty() {
                return;
            }
            let known = out.entry(to).or_default();
            let before = known.len();
            known.extend(joined);
            changed |= known.len() != before;
        };
        for &(_, id) in &all {
            let node: &Node = &graph.nodes[id];
            for (at, &output) in node.outputs.iter().enumerate() {
                match &*node.op.name {
                    "prim::If" => join(node.blocks.iter().map(|&b| graph.blocks[b].returns[at]).collect(), output),
                    "prim::Loop" => {
                        let body = &graph.blocks[node.blocks[0]];
                        let from = vec![node.inputs[at + 2], body.returns[at + 1]];
                        join(from.clone(), body.params[at + 1]);
                        join(from, output);
                    }
                    "prim::GetAttr" if inline::path(graph, output).is_some() => {}
                    _ => join(effects::shared(node), output),
                }
            }
            // A container that a value is put in holds it; what is written to a tensor is copied.
            for written in effects::written(node) {
                if !matches!(graph.values[written].ty, Type::Tensor(_)) {
                    join(node.inputs.clone(), written);
                }
            }
        }
        for &(_, id) in &all {
            let node = &graph.nodes[id];
            for &output in node.outputs.iter().filter(|_| node.is("prim::GetAttr")) {
                if graph.values[output].ty.is_immutable() {
                    continue;
                }
                if let Some(path) = inline::path(graph, output) {
                    changed |= out.entry(output).or_default().insert(path);
                }
            }
        }
        if !changed {
            return out;
        }
    }
}
