//! Dropout outside training gives its operand: such nodes vanish.

use super::{Changed, edit};
use crate::ir::Graph;
use crate::types::IValue;
use std::collections::{HashMap, HashSet};

/// Operators `(input, p, train)`.
const DROPOUT: &[&str] = &[
    "aten::dropout",
    "aten::dropout_",
    "aten::feature_dropout",
    "aten::feature_dropout_",
    "aten::alpha_dropout",
    "aten::alpha_dropout_",
    "aten::feature_alpha_dropout",
    "aten::feature_alpha_dropout_",
];

/// Removes every dropout whose `train` is the constant false.
pub fn run(graph: &mut Graph) -> Changed {
    let (mut new, mut removed) = (HashMap::new(), HashSet::new());
    for (_, id) in graph.nodes_in_order() {
        let node = &graph.nodes[id];
        let is_dropout = DROPOUT.contains(&&*node.op.name) && node.inputs.len() == 3 && node.outputs.len() == 1;
        if is_dropout && matches!(graph.constant(node.inputs[2]), Some(IValue::Bool(false))) {
            new.insert(node.outputs[0], node.inputs[0]);
            removed.insert(id);
        }
    }
    edit::remove_nodes(graph, |id| removed.contains(&id));
    edit::substitute(graph, &new);
    !removed.is_empty()
}
