//! Memory that several tensors show: whether it may be written where a place of one of them would not see it.
//!
//! Where paths meet, a value that differs gets a place with memory of its own. If one path gave a view of memory that lives on
//! (`y = x if flag else x.clone()`), a later write through either name would be lost to the other; then such paths are not merged,
//! and what follows is lowered once for each.

use super::walk::Lowerer;
use crate::ir::{Graph, Node, NodeId, ValueId};
use crate::ops::effects;
use crate::ops::value::{Cell, CellId, StorageId, Value};
use crate::types::Type;
use std::collections::HashSet;

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
        for at in 0..self.n_activations() {
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
            // Where in its graph a caller is does not matter.
            let nodes = graph.nodes_in_order();
            let from = if at == act { first_after(&graph, &nodes, node) } else { 0 };
            let nodes: Vec<&Node> = nodes[from..].iter().map(|(_, id)| &graph.nodes[*id]).collect();
            match fate(&graph, &nodes, names, at == 0) {
                Fate::Written => return true,
                Fate::Escapes if self.module_writes_tensors() => return true,
                Fate::Escapes | Fate::Read => {}
            }
        }
        false
    }

    /// Whether any function of the module writes to a tensor.
    fn module_writes_tensors(&mut self) -> bool {
        let module = self.module;
        *self.writes_tensors.get_or_insert_with(|| {
            let writes = |graph: &Graph| graph.nodes.iter().any(|node| written_tensors(graph, node).next().is_some());
            module.functions.values().any(|function| writes(&function.graph))
        })
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

/// What becomes of the tensors that some names show.
enum Fate {
    /// One is written to.
    Written,
    /// One goes where this graph does not see it.
    Escapes,
    /// They are read at most.
    Read,
}

/// What these nodes do with tensors that the names show, or that what is made of them shows.
fn fate(graph: &Graph, nodes: &[&Node], mut names: HashSet<ValueId>, is_outermost: bool) -> Fate {
    let mut escapes = false;
    loop {
        let n_names = names.len();
        for node in nodes {
            if written_tensors(graph, node).any(|value| names.contains(&value)) {
                return Fate::Written;
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
                "prim::CallMethod" | "prim::CallFunction" | "prim::fork" | "prim::SetAttr" => {
                    let is_passed = node.inputs.iter().any(is_shown);
                    escapes |= is_passed;
                    if is_passed { node.outputs.clone() } else { Vec::new() }
                }
                _ if effects::shared(node).iter().any(is_shown) => node.outputs.clone(),
                _ => Vec::new(),
            };
            names.extend(shown.into_iter().filter(|value| !graph.values[*value].ty.is_immutable()));
        }
        if names.len() == n_names {
            break;
        }
    }
    let is_returned = graph.blocks[graph.top].returns.iter().any(|value| names.contains(value));
    if escapes || is_returned && !is_outermost { Fate::Escapes } else { Fate::Read }
}
