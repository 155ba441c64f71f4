//! Tuples that are taken apart where they are made vanish: unpacking, indexing and slicing of a `prim::TupleConstruct`.
//!
//! Dead constructions are left for [`eliminate_dead_code`](super::eliminate_dead_code).

use super::{Changed, edit};
use crate::ir::{BlockId, Graph, NodeId, ValueId};
use crate::types::IValue;
use std::collections::HashMap;

/// Rewrites every such node, in order, so that nested tuples come apart from the outside in.
pub fn run(graph: &mut Graph) -> Changed {
    let mut new: HashMap<ValueId, ValueId> = HashMap::new();
    let mut removed: Vec<(BlockId, NodeId)> = Vec::new();
    for (block, id) in graph.nodes_in_order() {
        for input in &mut graph.nodes[id].inputs {
            while let Some(&other) = new.get(input) {
                *input = other;
            }
        }
        if let Some(values) = parts(graph, id) {
            let outputs = graph.nodes[id].outputs.clone();
            new.extend(outputs.into_iter().zip(values));
            removed.push((block, id));
        }
    }
    edit::substitute(graph, &new);
    let changed = !removed.is_empty();
    for (block, id) in removed {
        edit::replace_node(graph, block, id, Vec::new());
    }
    changed
}

/// What the outputs of the node are, if its operand is a tuple made in this graph.
fn parts(graph: &Graph, id: NodeId) -> Option<Vec<ValueId>> {
    let node = &graph.nodes[id];
    let tuple = edit::producer(graph, *node.inputs.first()?).filter(|made| made.is("prim::TupleConstruct"))?;
    let values = match &*node.op.name {
        "prim::TupleUnpack" => tuple.inputs.clone(),
        "prim::TupleIndex" => {
            let Some(IValue::Int(at)) = graph.constant(*node.inputs.get(1)?) else { return None };
            let n = i64::try_from(tuple.inputs.len()).ok()?;
            let place = usize::try_from(if at < 0 { at + n } else { at }).ok()?;
            vec![*tuple.inputs.get(place)?]
        }
        _ => return None,
    };
    // A part whose static type is narrower than what its reader expects keeps its own; a wider reading stays as it is.
    let is_same = node.outputs.iter().zip(&values).all(|(o, v)| graph.values[*o].ty == graph.values[*v].ty);
    is_same.then_some(values)
}
