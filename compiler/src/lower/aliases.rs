//! Memory that several tensors show: whether it may be written where a place of one of them would not see it.
//!
//! Where paths meet, a value that differs gets a place with memory of its own. If one path gave a view of memory that lives on
//! (`y = x if flag else x.clone()`), a later write through either name would be lost to the other; then such paths are not merged,
//! and what follows is lowered once for each.

use super::attributes::{Changes, called};
use super::facts::{Outcome, Stop};
use super::walk::Lowerer;
use crate::index::Id as _;
use crate::ir::{Attr, BlockId, Graph, Module, Node, NodeId, ValueId};
use crate::ops::builder::Heap;
use crate::ops::effects;
use crate::ops::value::{Cell, CellId, Contents, StorageId, Value};

use crate::types::Type;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A tensor that moves in a loop: the storages it shows on entry, in a round, and at the end of one.
pub(super) struct Moving {
    pub(super) entry: StorageId,
    pub(super) place: StorageId,
    pub(super) result: StorageId,
}

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
        Cell::RunTimeList(_) | Cell::RunTimeDict(_) | Cell::RunTimeObject(_) | Cell::Future(_) => {
            Box::new(std::iter::empty())
        }
    }
}

/// Whether some operator of a module writes to a tensor.
pub(super) fn writes_to_tensors(module: &Module) -> bool {
    module.functions.values().any(|function| graph_writes(&function.graph))
}

fn graph_writes(graph: &Graph) -> bool {
    let by_task = |node: &Node| matches!(node.attr("Subgraph"), Some(Attr::Graph(task)) if graph_writes(task));
    graph.nodes.iter().any(|node| written_tensors(graph, node).next().is_some() || by_task(node))
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

    /// Of the tensors that move in a loop, the storages that places have to refer to. A place with memory of its own can stand for
    /// a tensor if nothing is written through it that other names show, nor through them what it shows.
    pub(super) fn must_share(
        &self,
        act: usize,
        node: NodeId,
        moving: &[Moving],
        inside: &Heap,
        base: &Heap,
    ) -> Outcome<BTreeSet<StorageId>> {
        let is_lasting = |id: &StorageId| id.index() < base.storages.len();
        let is_written = |id: StorageId| match &inside.storages[id].contents {
            contents if *contents != self.b.heap.storages[id].contents => true,
            Contents::Buffer(buffer) => self.b.stores_into(*buffer),
            Contents::Splat(_) => false,
        };
        // What goes from place to place is, in time, in all of them.
        let mut groups: Vec<usize> = (0..moving.len()).collect();
        for (i, one) in moving.iter().enumerate() {
            for (j, other) in moving.iter().enumerate().filter(|(j, _)| *j != i) {
                let meets = one.entry == other.entry || one.result == other.result;
                if meets || one.result == other.place || one.result == other.entry {
                    let (from, to) = (groups[i], groups[j]);
                    groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
                }
            }
        }
        let mut must = BTreeSet::new();
        for group in groups.iter().copied().collect::<BTreeSet<_>>() {
            let members: Vec<&Moving> =
                moving.iter().zip(&groups).filter(|(_, g)| **g == group).map(|(m, _)| m).collect();
            let is_own = |m: &&&Moving| m.place != m.entry && self.b.object_in(inside, m.place).is_none();
            if !members.iter().any(|m| is_own(&m)) {
                continue;
            }
            let places: Vec<StorageId> = members.iter().map(|m| m.place).collect();
            let lasting: Vec<StorageId> = members
                .iter()
                .flat_map(|m| [m.entry, m.result])
                .filter(|id| is_lasting(id) && !places.contains(id))
                .collect();
            let mut distinct = lasting.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let has_twins = || {
                let twice = |of: fn(&Moving) -> StorageId| {
                    members.iter().map(|m| of(m)).collect::<HashSet<_>>().len() < members.len()
                };
                twice(|m| m.entry) || twice(|m| m.result)
            };
            let is_named = || distinct.iter().any(|id| self.has_other_names(act, node, *id, base));
            let has_conflict = distinct.iter().any(|id| is_written(*id))
                || places.iter().any(|id| is_written(*id)) && (has_twins() || is_named());
            if !has_conflict {
                continue;
            }
            let apart = distinct.into_iter().filter(|id| self.b.object_behind(*id).is_none());
            let (movable, fixed): (Vec<_>, Vec<_>) = apart.partition(|id| self.b.may_move(*id));
            if !fixed.is_empty() {
                return Err(Stop::Incompatible("a loop writes to memory that several of its tensors share".to_owned()));
            }
            must.extend(movable);
        }
        Ok(must)
    }

    /// Whether something besides what this node gives may show this memory after it; of a loop, in its rounds, too.
    pub(super) fn has_other_names(&self, act: usize, node: NodeId, id: StorageId, base: &Heap) -> bool {
        let shows = |value: &Value| storages_of(value).any(|storage| storage == id);
        if base.storages[id].argument.is_some() || base.cells.iter().any(|cell| held(cell).any(shows)) {
            return true;
        }
        (0..self.n_activations()).any(|at| {
            let graph = self.graph(at);
            let nodes = graph.nodes_in_order();
            // Where in its graph a caller is does not matter.
            let from = if at == act { first_after(&graph, &nodes, node) } else { 0 };
            // A branch is over when paths meet; it runs again only as part of a loop.
            let is_over = at == act && nodes[from].1 == node && !graph.nodes[node].is("prim::Loop");
            let blocks = if is_over { &graph.nodes[node].blocks[..] } else { &[] };
            let within: Vec<(BlockId, NodeId)> = blocks.iter().flat_map(|block| graph.nodes_within(*block)).collect();
            let is_within = |id: NodeId| at == act && id == node || within.iter().any(|(_, inner)| *inner == id);
            let uses = nodes[from..].iter().filter(|(_, id)| !is_within(*id));
            let uses = uses.flat_map(|(_, id)| &graph.nodes[*id].inputs);
            let own = |block: BlockId| blocks.contains(&block) || within.iter().any(|(inner, _)| *inner == block);
            let returns =
                graph.blocks.iter_ids().filter(|(block, _)| !own(*block)).flat_map(|(_, block)| &block.returns);
            let named = uses.chain(returns).copied().collect::<HashSet<ValueId>>();
            named.into_iter().any(|name| self.known(at, name).is_some_and(shows))
        })
    }

    /// What functions write to.
    fn changes(&mut self) -> Arc<Changes> {
        Arc::clone(self.changes.get_or_insert_with(|| Arc::new(Changes::of(self.module))))
    }
}

/// The position of the first node that may run after this one: in a loop, that of the loop.
fn first_after(graph: &Graph, nodes: &[(BlockId, NodeId)], node: NodeId) -> usize {
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
