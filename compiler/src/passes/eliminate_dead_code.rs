//! Removes what nobody uses: nodes without effects, outputs of `prim::If` and values that `prim::Loop` carries in vain. A list or dict
//! that is only written to is not used.
//!
//! Works on any graph. Unused random operators go, too, as in PyTorch. Costs one walk of the graph.

use super::{Changed, edit};
use crate::index::IndexVec;
use crate::ir::{BlockId, Graph, NodeId, ValueDef, ValueId};
use crate::ops::effects;
use std::collections::{HashMap, HashSet};

/// Removes dead nodes and dead outputs.
pub fn run(graph: &mut Graph) -> Changed {
    eliminate(graph, false)
}

/// Like [`run`], but what a loop carries from round to round stays if the loop reads it at all, as in PyTorch's compiler.
pub fn run_as_scripted(graph: &mut Graph) -> Changed {
    eliminate(graph, true)
}

fn eliminate(graph: &mut Graph, keeps_carried: bool) -> Changed {
    let all = graph.nodes_in_order();
    let mut live = Live {
        graph,
        nodes: graph.nodes.iter().map(|_| false).collect(),
        values: graph.values.iter().map(|_| false).collect(),
        block_of: all.iter().map(|&(block, node)| (node, block)).collect(),
        owner: all.iter().flat_map(|&(_, node)| graph.nodes[node].blocks.iter().map(move |&b| (b, node))).collect(),
        pending: Vec::new(),
        writers: HashMap::new(),
    };
    let private = private_containers(graph, &all);
    if keeps_carried {
        let read = edit::use_counts(graph);
        for &(_, id) in all.iter().filter(|&&(_, id)| graph.nodes[id].is("prim::Loop")) {
            let body = &graph.blocks[graph.nodes[id].blocks[0]];
            let carried = body.params.iter().zip(&body.returns).skip(1);
            let is_made = |value: ValueId| matches!(graph.values[value].def, ValueDef::Output(..));
            let kept = carried.filter(|&(&param, &next)| read[param] > 0 && is_made(next));
            live.pending.extend(kept.map(|(_, &next)| next));
        }
    }
    live.pending.extend(graph.blocks[graph.top].returns.iter().copied());
    for &(_, id) in &all {
        let node = &graph.nodes[id];
        match effects::only_written(node) {
            Some(written) if !written.is_empty() && written.iter().all(|value| private.contains(value)) => {
                for value in written {
                    live.writers.entry(value).or_default().push(id);
                }
            }
            _ if effects::is_kept(node) => live.node(id),
            _ => {}
        }
    }
    while let Some(value) = live.pending.pop() {
        live.value(value);
    }
    let (live_nodes, live_values) = (live.nodes, live.values);
    let mut changed = all.iter().any(|&(_, id)| !live_nodes[id]);
    edit::remove_nodes(graph, |id| !live_nodes[id]);
    for (_, id) in graph.nodes_in_order() {
        changed |= trim(graph, id, &live_values);
    }
    changed
}

struct Live<'g> {
    graph: &'g Graph,
    nodes: IndexVec<NodeId, bool>,
    values: IndexVec<ValueId, bool>,
    block_of: HashMap<NodeId, BlockId>,
    owner: HashMap<BlockId, NodeId>,
    pending: Vec<ValueId>,
    /// Nodes that only write to a list or dict, which matter if it is used.
    writers: HashMap<ValueId, Vec<NodeId>>,
}

/// Lists and dicts of which this graph sees all names: made in it, and neither handed on nor part of anything.
fn private_containers(graph: &Graph, all: &[(BlockId, NodeId)]) -> HashSet<ValueId> {
    let made = all.iter().map(|&(_, id)| &graph.nodes[id]);
    let made = made.filter(|node| node.is("prim::ListConstruct") || node.is("prim::DictConstruct"));
    let mut private: HashSet<ValueId> = made.filter_map(|node| node.outputs.first().copied()).collect();
    let uses = edit::use_counts(graph);
    for block in graph.blocks.iter() {
        for value in &block.returns {
            private.remove(value);
        }
    }
    for &(_, id) in all {
        let node = &graph.nodes[id];
        let is_handed_on = !node.blocks.is_empty() || node.outputs.iter().any(|output| uses[*output] > 0);
        let is_called =
            matches!(&*node.op.name, "prim::CallMethod" | "prim::CallFunction" | "prim::fork" | "prim::SetAttr");
        if is_handed_on || is_called {
            for value in effects::shared(node) {
                private.remove(&value);
            }
        }
        // Part of another one.
        let written = effects::written(node);
        for value in node.inputs.iter().filter(|value| !written.is_empty() && !written.contains(value)) {
            private.remove(value);
        }
    }
    private
}

impl Live<'_> {
    /// A node runs: with it whatever it takes, and the node in whose block it is.
    fn node(&mut self, id: NodeId) {
        let mut next = Some(id);
        while let Some(id) = next.filter(|&id| !self.nodes[id]) {
            self.nodes[id] = true;
            let node = &self.graph.nodes[id];
            match &*node.op.name {
                "prim::If" => self.pending.push(node.inputs[0]),
                "prim::Loop" => {
                    self.pending.extend(&node.inputs[..2]);
                    self.pending.extend(self.graph.blocks[node.blocks[0]].returns.first());
                }
                _ => {
                    self.pending.extend(&node.inputs);
                    self.pending.extend(node.blocks.iter().flat_map(|&b| &self.graph.blocks[b].returns));
                }
            }
            next = self.block_of.get(&id).and_then(|block| self.owner.get(block)).copied();
        }
    }

    fn value(&mut self, value: ValueId) {
        if std::mem::replace(&mut self.values[value], true) {
            return;
        }
        for writer in self.writers.remove(&value).unwrap_or_default() {
            self.node(writer);
        }
        match self.graph.values[value].def {
            ValueDef::Output(id, at) => {
                self.node(id);
                let node = &self.graph.nodes[id];
                match &*node.op.name {
                    "prim::If" => {
                        self.pending.extend(node.blocks.iter().map(|&b| self.graph.blocks[b].returns[at]));
                    }
                    "prim::Loop" => self.carried(id, at),
                    _ => {}
                }
            }
            ValueDef::Param(block, at) => {
                if let (Some(&id), Some(at)) = (self.owner.get(&block), at.checked_sub(1))
                    && self.graph.nodes[id].is("prim::Loop")
                {
                    self.carried(id, at);
                }
            }
        }
    }

    /// What a loop carries at this position is used, in the loop or after it.
    fn carried(&mut self, id: NodeId, at: usize) {
        let node = &self.graph.nodes[id];
        let body = &self.graph.blocks[node.blocks[0]];
        self.pending.extend([node.inputs[at + 2], body.params[at + 1], body.returns[at + 1], node.outputs[at]]);
    }
}

/// Drops the dead outputs of a live node with blocks.
fn trim(graph: &mut Graph, id: NodeId, live: &IndexVec<ValueId, bool>) -> Changed {
    let node = &graph.nodes[id];
    let is_loop = node.is("prim::Loop");
    if !is_loop && !node.is("prim::If") {
        return false;
    }
    let dead: Vec<usize> = (0..node.outputs.len()).filter(|&at| !live[node.outputs[at]]).collect();
    let blocks = node.blocks.clone();
    for &at in dead.iter().rev() {
        graph.nodes[id].outputs.remove(at);
        if is_loop {
            graph.nodes[id].inputs.remove(at + 2);
            graph.blocks[blocks[0]].params.remove(at + 1);
            graph.blocks[blocks[0]].returns.remove(at + 1);
        } else {
            for &block in &blocks {
                graph.blocks[block].returns.remove(at);
            }
        }
    }
    for at in 0..graph.nodes[id].outputs.len() {
        let output = graph.nodes[id].outputs[at];
        graph.values[output].def = ValueDef::Output(id, at);
    }
    for block in blocks {
        for at in 0..graph.blocks[block].params.len() {
            let param = graph.blocks[block].params[at];
            graph.values[param].def = ValueDef::Param(block, at);
        }
    }
    !dead.is_empty()
}
