//! Memory that several tensors show: whether it may be written where a place of one of them would not see it.
//!
//! Where paths meet, a value that differs gets a place with memory of its own. If one path gave a view of memory that lives on
//! (`y = x if flag else x.clone()`), a later write through either name would be lost to the other; then such paths are not merged,
//! and what follows is lowered once for each.

use super::attributes::{Changes, called};
use super::walk::Lowerer;
use crate::ir::{Graph, Module, Node, NodeId, ValueId};
use crate::ops::effects;
use crate::ops::value::{Cell, CellId, StorageId, Value};
use crate::types::Type;
use std::collections::HashSet;
use std::sync::Arc;

/// The storage that a value shows, or those of a tuple's items.
pub(super) fn storages_of(value: &Value) -> Box<dyn Iterator<Item = StorageId> + '_> {
    match value {
        Value::Tensor(t) => Box::new(std::iter::once(t.storage)),
        Value::Tuple(items, _) => Box::new(items.iter().flat_map(storages_of)),
        _ => Box::new(std::iter::empty()),
    }
}

/// The items of a list or dict, or an object's attributes.
pub(super) fn held(cell: &Cell) -> Box<dyn Iterator<Item = &Value> + '_> {
    match cell {
        Cell::List(items) => Box::new(items.iter()),
        Cell::Dict(entries) => Box::new(entries.iter().map(|(_, value)| value)),
        Cell::Object(object) => Box::new(object.attrs.values()),
        Cell::RunTimeList(_) | Cell::RunTimeDict(_) | Cell::Future(_) => Box::new(std::iter::empty()),
    }
}

/// Whether some operator of a module writes to a tensor.
pub(super) fn writes_to_tensors(module: &Module) -> bool {
    let mut nodes = module.functions.values().flat_map(|f| f.graph.nodes.iter().map(|node| (&f.graph, node)));
    nodes.any(|(graph, node)| written_tensors(graph, node).next().is_some())
}

impl Lowerer<'_, '_> {
    /// Whether an output of a node, or memory that one of its paths gives for it or puts into a cell, may be written to afterwards.
    pub(super) fn may_be_written(
        &mut self,
        act: usize,
        node: NodeId,
        outputs: &[usize],
        storages: &[StorageId],
        cell: Option<CellId>,
    ) -> bool {
        let outputs: Vec<ValueId> = outputs.iter().map(|at| self.graph(act).nodes[node].outputs[*at]).collect();
        let changes = self.changes();
        let mut returns = false;
        for at in (0..self.n_activations()).rev() {
            let graph = self.graph(at);
            let shows = |id: &ValueId| {
                let value = self.get(at, *id).ok();
                value.is_some_and(|value| {
                    storages_of(&value).any(|storage| storages.contains(&storage))
                        || cell.is_some_and(|cell| value == Value::Cell(cell))
                })
            };
            let mut names: HashSet<ValueId> = graph.values.ids().filter(shows).collect();
            names.extend(outputs.iter().filter(|_| at == act));
            let nodes = graph.nodes_in_order();
            if returns {
                // What the function inside gives may be it.
                let inner = self.graph(at + 1);
                let calls = nodes.iter().map(|(_, id)| &graph.nodes[*id]).filter(|node| {
                    let callee = called(self.module, &graph, node);
                    callee.and_then(|name| self.graphs.get(&name)).is_some_and(|callee| Arc::ptr_eq(callee, &inner))
                });
                names.extend(calls.flat_map(|node| node.outputs.iter().copied()));
            }
            // Where in its graph a caller is does not matter.
            let from = if at == act { first_after(&graph, &nodes, node) } else { 0 };
            let nodes: Vec<&Node> = nodes[from..].iter().map(|(_, id)| &graph.nodes[*id]).collect();
            let Some(shown) = unwritten(self.module, &changes, &graph, &nodes, names) else { return true };
            returns = graph.blocks[graph.top].returns.iter().any(|value| shown.contains(value));
        }
        false
    }

    /// What functions write to.
    fn changes(&mut self) -> Arc<Changes> {
        Arc::clone(self.changes.get_or_insert_with(|| Arc::new(Changes::of(self.module))))
    }
}

/// The position of the first node that may run after this one: in a loop, that of the loop.
fn first_after(graph: &Graph, nodes: &[(crate::ir::BlockId, NodeId)], node: NodeId) -> usize {
    let holds = |id: NodeId| {
        let outer = &graph.nodes[id];
        let mut blocks = outer.blocks.iter();
        outer.is("prim::Loop") && blocks.any(|block| graph.nodes_within(*block).iter().any(|(_, inner)| *inner == node))
    };
    nodes.iter().position(|(_, id)| holds(*id) || *id == node).unwrap_or(0)
}

fn written_tensors<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = ValueId> + 'a {
    let is_tensor = |value: &ValueId| match &graph.values[*value].ty {
        Type::Tensor(_) => true,
        // Through a list of tensors, `_foreach_` operators write to the tensors.
        Type::List(of) => matches!(**of, Type::Tensor(_)) && node.op.name.starts_with("aten::_foreach"),
        _ => false,
    };
    effects::written(node).into_iter().filter(is_tensor)
}

/// All names that show the same memory as these, or what is made of it; `None` if one of these nodes writes to it.
fn unwritten(
    module: &Module,
    changes: &Changes,
    graph: &Graph,
    nodes: &[&Node],
    mut names: HashSet<ValueId>,
) -> Option<HashSet<ValueId>> {
    loop {
        let n_names = names.len();
        for node in nodes {
            if written_tensors(graph, node).any(|value| names.contains(&value)) {
                return None;
            }
            let is_shown = |value: &ValueId| names.contains(value);
            let shown: Vec<ValueId> = match &*node.op.name {
                "prim::If" => {
                    let returned = |at: usize| node.blocks.iter().any(|b| is_shown(&graph.blocks[*b].returns[at]));
                    node.outputs.iter().enumerate().filter(|(at, _)| returned(*at)).map(|(_, value)| *value).collect()
                }
                "prim::Loop" => {
                    let body = &graph.blocks[node.blocks[0]];
                    let carried = |at: usize| is_shown(&node.inputs[at + 2]) || is_shown(&body.returns[at + 1]);
                    let both = |at: usize| [node.outputs[at], body.params[at + 1]];
                    (0..node.outputs.len()).filter(|at| carried(*at)).flat_map(both).collect()
                }
                "prim::CallMethod" | "prim::CallFunction" if node.inputs.iter().any(is_shown) => {
                    // A method of an interface may be any.
                    let callee = called(module, graph, node)?;
                    let skip = usize::from(node.is("prim::CallFunction"));
                    let is_passed = |at: &usize| node.inputs.get(at + skip).is_some_and(is_shown);
                    if changes.written_params(&callee).any(|at| is_passed(&at)) {
                        return None;
                    }
                    let is_given = changes.returned_params(&callee).any(|at| is_passed(&at));
                    if is_given { node.outputs.clone() } else { Vec::new() }
                }
                "prim::fork" if node.inputs.iter().any(is_shown) => return None,
                "prim::SetAttr" if is_shown(&node.inputs[1]) && changes.is_written(graph, node) => return None,
                _ if effects::shared(node).iter().any(is_shown) => node.outputs.clone(),
                _ => Vec::new(),
            };
            names.extend(shown.into_iter().filter(|value| !graph.values[*value].ty.is_immutable()));
        }
        if names.len() == n_names {
            return Some(names);
        }
    }
}
