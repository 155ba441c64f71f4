//! The outputs of `prim::If` and `prim::Loop` in the order of their first use; unused ones last.
//!
//! Code prints in one way only, however the front end found what branches assign.

use super::Changed;
use crate::ir::{BlockId, Graph, NodeId, ValueDef, ValueId};
use std::collections::HashMap;

/// Reorders the outputs of every node with blocks, the last first: what follows a node says in which order it gives its outputs,
/// and that order is the one in which its blocks use what they give.
pub fn run(graph: &mut Graph) -> Changed {
    let uses = Uses::of(graph);
    let mut changed = false;
    let mut pending = vec![graph.top];
    while let Some(block) = pending.pop() {
        for id in graph.blocks[block].nodes.clone().into_iter().rev() {
            changed |= reorder(graph, id, &uses);
            pending.extend(&graph.nodes[id].blocks);
        }
    }
    changed
}

/// Who reads a value.
#[derive(Clone, Copy)]
enum User {
    Node(NodeId),
    Return(BlockId),
}

/// The first user of each value, and its number in the order of the text.
struct Uses {
    first: HashMap<ValueId, (usize, User)>,
}

impl Uses {
    fn of(graph: &Graph) -> Self {
        enum Step {
            Node(NodeId),
            Block(BlockId),
            Return(BlockId),
        }
        let (mut first, mut place) = (HashMap::new(), 0);
        let mut steps = vec![Step::Block(graph.top)];
        while let Some(step) = steps.pop() {
            let (values, user) = match step {
                Step::Block(id) => {
                    steps.push(Step::Return(id));
                    steps.extend(graph.blocks[id].nodes.iter().rev().map(|&node| Step::Node(node)));
                    continue;
                }
                Step::Node(id) => {
                    steps.extend(graph.nodes[id].blocks.iter().rev().map(|&block| Step::Block(block)));
                    (&graph.nodes[id].inputs, User::Node(id))
                }
                Step::Return(id) => (&graph.blocks[id].returns, User::Return(id)),
            };
            for &value in values {
                first.entry(value).or_insert((place, user));
            }
            place += 1;
        }
        Self { first }
    }

    /// The place of a value's first use: of its user, and there as things stand now.
    fn place(&self, graph: &Graph, value: ValueId) -> (usize, usize) {
        let Some(&(place, user)) = self.first.get(&value) else { return (usize::MAX, 0) };
        let values = match user {
            User::Node(id) => &graph.nodes[id].inputs,
            User::Return(id) => &graph.blocks[id].returns,
        };
        (place, values.iter().position(|&other| other == value).unwrap_or(usize::MAX))
    }
}

fn reorder(graph: &mut Graph, id: NodeId, uses: &Uses) -> Changed {
    let n = graph.nodes[id].outputs.len();
    let is_if = graph.nodes[id].is("prim::If");
    if n < 2 || !(is_if || graph.nodes[id].is("prim::Loop")) {
        return false;
    }
    let places: Vec<_> = graph.nodes[id].outputs.iter().map(|&output| uses.place(graph, output)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&at| places[at]);
    if order.iter().enumerate().all(|(at, &from)| at == from) {
        return false;
    }
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
    true
}
