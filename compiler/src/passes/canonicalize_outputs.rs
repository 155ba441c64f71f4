//! The outputs of `prim::If` and `prim::Loop` in the order of their first use; unused ones last.
//!
//! Code prints in one way only, however the front end found what branches assign.

use super::{Changed, edit};
use crate::ir::{Graph, NodeId, ValueDef, ValueId};
use std::collections::HashMap;

/// Reorders the outputs of every node with blocks.
pub fn run(graph: &mut Graph) -> Changed {
    let mut first: HashMap<ValueId, usize> = HashMap::new();
    let mut place = 0;
    visit(graph, graph.top, &mut first, &mut place);
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

/// Numbers the first use of each value in order of the text.
fn visit(graph: &Graph, block: crate::ir::BlockId, first: &mut HashMap<ValueId, usize>, place: &mut usize) {
    for &id in &graph.blocks[block].nodes {
        for &input in &graph.nodes[id].inputs {
            *place += 1;
            first.entry(input).or_insert(*place);
        }
        for &inner in &graph.nodes[id].blocks {
            visit(graph, inner, first, place);
        }
    }
    for &value in &graph.blocks[block].returns {
        *place += 1;
        first.entry(value).or_insert(*place);
    }
}
