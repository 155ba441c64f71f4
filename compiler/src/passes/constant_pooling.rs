//! Every constant stands once, at the top of the graph. Tensors are equal by type and contents.
//!
//! PyTorch moves each in front of all others as it meets it, so the last met comes first.

use super::{Changed, edit};
use crate::ir::{Attr, Graph, Node, NodeId};
use std::collections::{HashMap, HashSet};

/// Merges equal constants and moves them to the top, the last met first.
pub fn run(graph: &mut Graph) -> Changed {
    let mut kept: Vec<NodeId> = Vec::new();
    let (mut new, mut merged) = (HashMap::new(), HashSet::new());
    let constants =
        graph.nodes_in_order().into_iter().map(|(_, id)| id).filter(|&id| graph.nodes[id].is("prim::Constant"));
    for id in constants.collect::<Vec<_>>() {
        match kept.iter().find(|&&known| is_same(graph, &graph.nodes[known], &graph.nodes[id])) {
            Some(&known) => {
                new.insert(graph.nodes[id].outputs[0], graph.nodes[known].outputs[0]);
                merged.insert(id);
            }
            None => kept.push(id),
        }
    }
    let before = graph.blocks[graph.top].nodes.clone();
    let moved: HashSet<NodeId> = kept.iter().chain(&merged).copied().collect();
    edit::remove_nodes(graph, |id| moved.contains(&id));
    edit::substitute(graph, &new);
    let top = graph.top;
    graph.blocks[top].nodes.splice(0..0, kept.into_iter().rev());
    graph.blocks[top].nodes != before
}

fn is_same(graph: &Graph, a: &Node, b: &Node) -> bool {
    let ty = |node: &Node| &graph.values[node.outputs[0]].ty;
    if ty(a) != ty(b) || a.attrs.len() != b.attrs.len() {
        return false;
    }
    a.attrs.iter().zip(&b.attrs).all(|((k, a), (l, b))| {
        k == l
            && match (a, b) {
                (Attr::Value(a), Attr::Value(b)) => edit::is_same_constant(a, b),
                (Attr::Name(a), Attr::Name(b)) => a == b,
                (Attr::Int(a), Attr::Int(b)) => a == b,
                (Attr::Types(a), Attr::Types(b)) => a == b,
                _ => false,
            }
    })
}
