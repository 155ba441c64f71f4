//! The outputs of `prim::If` and `prim::Loop` in the order of their first use; unused ones last.
//!
//! Code prints in one way only, however the front end found what branches assign.

use super::{Changed, edit};
use crate::ir::{Graph, NodeId, ValueDef, ValueId, first_uses};

/// Reorders the outputs of every node with blocks.
pub fn run(graph: &mut Graph) -> Changed {
    let first = first_uses(graph);
    let mut changed = false;
    let ids: Vec<NodeId> = edit::nodes(graph).into_iter().map(|(_, id)| id).collect();
    for id in ids {
        let n = graph.nodes[id].outputs.len();
        let is_if = graph.nodes[id].is("prim::If");
        if n < 2 || !(is_if || graph.nodes[id].is("prim::Loop")) {
            continue;
        }
        let use_of = |at: &usize| first.get(&graph.nodes[id].outputs[*at]).copied().unwrap_or(usize::MAX);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(use_of);
        if order.iter().enumerate().all(|(at, &from)| at == from) {
            continue;
        }
        changed = true;
        let pick = |values: &[ValueId], skip: usize| {
            let kept = values.iter().take(skip).copied();
            kept.chain(order.iter().map(|&from| values[skip + from])).collect::<Vec<_>>()
        };
        let outputs = pick(&graph.nodes[id].outputs, 0);
        for (at, &value) in outputs.iter().enumerate() {
            graph.values[value].def = ValueDef::Output(id, at);
        }
        graph.nodes[id].outputs = outputs;
        let blocks = graph.nodes[id].blocks.clone();
        if !is_if {
            graph.nodes[id].inputs = pick(&graph.nodes[id].inputs, 2);
        }
        for block in blocks {
            let returns = pick(&graph.blocks[block].returns, usize::from(!is_if));
            graph.blocks[block].returns = returns;
            if !is_if {
                let params = pick(&graph.blocks[block].params, 1);
                for (at, &value) in params.iter().enumerate() {
                    graph.values[value].def = ValueDef::Param(block, at);
                }
                graph.blocks[block].params = params;
            }
        }
    }
    changed
}
