//! The graph verifier: every use is defined before it, in the block of the use or in one around it.

use super::{BlockId, Graph, ValueDef, ValueId};
use crate::index::{Id as _, IndexVec};

/// Checks the graph; the error names the node and the rule it breaks.
pub fn verify(graph: &Graph) -> Result<(), String> {
    let mut defined: IndexVec<ValueId, bool> = graph.values.iter().map(|_| false).collect();
    verify_block(graph, graph.top, &mut defined)
}

fn verify_block(graph: &Graph, block: BlockId, defined: &mut IndexVec<ValueId, bool>) -> Result<(), String> {
    let body = graph.blocks.get(block).ok_or_else(|| format!("{block} does not exist"))?;
    let mut scope = Vec::new();
    for (at, &param) in body.params.iter().enumerate() {
        if graph.values[param].def != ValueDef::Param(block, at) {
            return Err(format!("{param} is listed as parameter {at} of {block} but says otherwise"));
        }
        defined[param] = true;
        scope.push(param);
    }
    for &id in &body.nodes {
        let node = graph.nodes.get(id).ok_or_else(|| format!("{id} of {block} does not exist"))?;
        for &input in &node.inputs {
            if input.index() >= graph.values.len() || !defined[input] {
                return Err(format!("{id} ({}) uses {input} before its definition", node.op));
            }
        }
        let n_blocks = match &*node.op.name {
            "prim::If" => 2,
            "prim::Loop" => 1,
            _ => node.blocks.len(),
        };
        if node.blocks.len() != n_blocks {
            return Err(format!("{id} ({}) has {} blocks, not {n_blocks}", node.op, node.blocks.len()));
        }
        for &inner in &node.blocks {
            verify_block(graph, inner, defined)?;
            let extra = usize::from(node.is("prim::Loop"));
            let returns = graph.blocks[inner].returns.len();
            if matches!(&*node.op.name, "prim::If" | "prim::Loop") && returns != node.outputs.len() + extra {
                return Err(format!(
                    "{inner} of {id} ({}) returns {returns} values for {} outputs",
                    node.op,
                    node.outputs.len()
                ));
            }
        }
        for (at, &output) in node.outputs.iter().enumerate() {
            if graph.values[output].def != ValueDef::Output(id, at) {
                return Err(format!("{output} is listed as output {at} of {id} but says otherwise"));
            }
            defined[output] = true;
            scope.push(output);
        }
    }
    for &value in &body.returns {
        if !defined[value] {
            return Err(format!("{block} returns {value}, which is not defined there"));
        }
    }
    for value in scope {
        defined[value] = false;
    }
    Ok(())
}
