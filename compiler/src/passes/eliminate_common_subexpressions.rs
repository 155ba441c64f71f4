//! A node that computes what an earlier node in scope has computed is replaced by it.
//!
//! Only nodes without effects whose operands nothing in the graph may change; relies on [`effects`](crate::ops::effects), which
//! errs on the side of change. Dead nodes are left for [`eliminate_dead_code`](super::eliminate_dead_code).

use super::{Changed, edit};
use crate::ir::{Attr, BlockId, Graph, Node, NodeId, ValueId};
use crate::ops::effects::{self, Writes};
use crate::types::Type;
use std::collections::{HashMap, HashSet};

/// Replaces repeated computations.
pub fn run(graph: &mut Graph) -> Changed {
    let escaping = escaping(graph);
    let mut merger = Merger { writes: Writes::of(graph), escaping, new: HashMap::new(), scopes: Vec::new() };
    merger.block(graph, graph.top);
    let removed: HashSet<_> = merger.new.keys().copied().collect();
    edit::substitute(graph, &merger.new);
    let is_removed = |graph: &Graph, id: NodeId| graph.nodes[id].outputs.iter().any(|output| removed.contains(output));
    let dead: HashSet<NodeId> = graph.nodes.ids().filter(|&id| is_removed(graph, id)).collect();
    edit::remove_nodes(graph, |id| dead.contains(&id));
    !dead.is_empty()
}

/// Values that leave the graph, where it matters whether two lists are one.
fn escaping(graph: &Graph) -> HashSet<ValueId> {
    let mut out = HashSet::new();
    let mut pending: Vec<ValueId> = edit::blocks(graph).iter().flat_map(|&b| graph.blocks[b].returns.clone()).collect();
    while let Some(value) = pending.pop() {
        if out.insert(value)
            && let Some(node) = edit::producer(graph, value)
        {
            pending.extend(effects::shared(node));
        }
    }
    out
}

/// What makes two nodes the same.
type Key = (String, Vec<ValueId>, Vec<Type>);

struct Merger {
    writes: Writes,
    escaping: HashSet<ValueId>,
    new: HashMap<ValueId, ValueId>,
    scopes: Vec<HashMap<Key, NodeId>>,
}

impl Merger {
    fn block(&mut self, graph: &Graph, block: BlockId) {
        self.scopes.push(HashMap::new());
        for &id in &graph.blocks[block].nodes {
            let node = &graph.nodes[id];
            node.blocks.iter().for_each(|&inner| self.block(graph, inner));
            let Some(key) = self.key(graph, node) else { continue };
            match self.scopes.iter().find_map(|scope| scope.get(&key)) {
                Some(&known) => {
                    let known = &graph.nodes[known];
                    self.new.extend(node.outputs.iter().copied().zip(known.outputs.iter().copied()));
                }
                None => _ = self.scopes.last_mut().expect("a scope was pushed").insert(key, id),
            }
        }
        self.scopes.pop();
    }

    fn key(&self, graph: &Graph, node: &Node) -> Option<Key> {
        let is_mergeable = node.blocks.is_empty()
            && !node.outputs.is_empty()
            && !node.is("prim::Constant")
            && !effects::is_kept(node)
            && effects::is_deterministic(node);
        let is_touched = |value: &ValueId| {
            let ty = &graph.values[*value].ty;
            self.writes.touch(ty) && !matches!(ty, Type::Class(_) | Type::Interface(_))
        };
        if !is_mergeable || node.inputs.iter().chain(&node.outputs).any(is_touched) {
            return None;
        }
        if node.is("prim::GetAttr") && self.writes.objects {
            // Sub-modules cannot be replaced; other attributes may have been set in between.
            matches!(graph.values[node.outputs[0]].ty, Type::Class(_)).then_some(())?;
        }
        let is_fresh = |value: &ValueId| {
            !graph.values[*value].ty.is_immutable() && self.escaping.contains(value) && !node.is("prim::GetAttr")
        };
        if node.outputs.iter().any(is_fresh) {
            return None;
        }
        let mut text = node.op.to_string();
        for (key, attr) in &node.attrs {
            match attr {
                Attr::Name(name) => text.extend([" ", key, "=", name]),
                Attr::Int(n) => text.extend([" ", key, "=", &n.to_string()]),
                Attr::Types(types) => text.extend([" ", key, "=", &format!("{types:?}")]),
                Attr::Value(_) | Attr::Graph(_) => return None,
            }
        }
        let resolve = |value: &ValueId| {
            let mut value = *value;
            while let Some(&other) = self.new.get(&value) {
                value = other;
            }
            value
        };
        let types = node.outputs.iter().map(|output| graph.values[*output].ty.clone()).collect();
        Some((text, node.inputs.iter().map(resolve).collect(), types))
    }
}
