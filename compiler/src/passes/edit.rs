//! What passes share: walks in order, counts of uses, copies between graphs, splicing.

use crate::index::IndexVec;
use crate::ir::{Attr, Block, BlockId, Graph, Node, NodeId, OpName, ValueDef, ValueId};
use crate::source::Span;
use crate::types::{DType, IValue, TensorData, TensorType, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// The top block and every block of a node that is in a block.
pub fn blocks(graph: &Graph) -> Vec<BlockId> {
    let inner = graph.nodes_in_order().into_iter().flat_map(|(_, id)| graph.nodes[id].blocks.clone());
    std::iter::once(graph.top).chain(inner).collect()
}

/// How often each value is used by nodes and returns that are in a block.
pub fn use_counts(graph: &Graph) -> IndexVec<ValueId, usize> {
    let mut counts: IndexVec<ValueId, usize> = graph.values.iter().map(|_| 0).collect();
    for (_, id) in graph.nodes_in_order() {
        graph.nodes[id].inputs.iter().for_each(|&input| counts[input] += 1);
    }
    for block in blocks(graph) {
        graph.blocks[block].returns.iter().for_each(|&value| counts[value] += 1);
    }
    counts
}

/// Replaces every use of values that have a substitute; chains of substitutes are followed.
pub fn substitute(graph: &mut Graph, new: &HashMap<ValueId, ValueId>) {
    if new.is_empty() {
        return;
    }
    let swap = |values: &mut Vec<ValueId>| {
        for value in values {
            while let Some(&other) = new.get(value) {
                *value = other;
            }
        }
    };
    graph.nodes.iter_mut().for_each(|node| swap(&mut node.inputs));
    graph.blocks.iter_mut().for_each(|block| swap(&mut block.returns));
}

/// The node that defines a value as its only output, if there is one.
pub fn producer(graph: &Graph, value: ValueId) -> Option<&Node> {
    match graph.values[value].def {
        ValueDef::Output(node, 0) => Some(&graph.nodes[node]).filter(|node| node.outputs.len() == 1),
        ValueDef::Output(..) | ValueDef::Param(..) => None,
    }
}

/// Removes these nodes from their blocks.
pub fn remove_nodes(graph: &mut Graph, is_removed: impl Fn(NodeId) -> bool) {
    graph.blocks.iter_mut().for_each(|block| block.nodes.retain(|&node| !is_removed(node)));
}

/// A constant that is in no block yet. Tensors get their complete type.
pub fn create_constant(graph: &mut Graph, value: IValue, ty: Type, name: Option<Arc<str>>) -> NodeId {
    let ty = if let IValue::Tensor(data) = &value { Type::Tensor(tensor_type(data)) } else { ty };
    let node = graph.create_node(OpName::new("prim::Constant"), Vec::new(), None);
    let output = graph.add_output(node, ty);
    graph.values[output].name = name;
    if !matches!(value, IValue::None) {
        graph.nodes[node].attrs.push(("value", Attr::Value(value)));
    }
    node
}

/// The complete type of a constant tensor, detached.
pub fn tensor_type(data: &TensorData) -> TensorType {
    TensorType {
        dtype: Some(data.dtype()),
        sizes: Some(data.sizes().iter().map(|&n| Some(n)).collect()),
        strides: Some(data.strides().to_vec()),
        requires_grad: Some(false),
        device: Some("cpu".into()),
    }
}

/// The type of a value that is not a tensor or an object; `None` for those and for what holds them.
pub fn plain_type(value: &IValue) -> Option<Type> {
    Some(match value {
        IValue::None => Type::None,
        IValue::Bool(_) => Type::Bool,
        IValue::Int(_) => Type::Int,
        IValue::Float(_) => Type::Float,
        IValue::Complex(..) => Type::Complex,
        IValue::Str(_) => Type::Str,
        IValue::Device(_) => Type::Device,
        IValue::Tuple(items) => Type::Tuple(items.iter().map(plain_type).collect::<Option<Vec<_>>>()?.into()),
        IValue::Tensor(_) | IValue::List(..) | IValue::Dict(..) | IValue::Object(_) | IValue::Enum { .. } => {
            return None;
        }
    })
}

/// Copies the body of `from` into `graph`, with these values for its parameters. Gives the copied nodes, which are in no
/// block yet, and the values that stand for its returns. `call` is the place of the call that the copy replaces.
pub fn copy_body(
    graph: &mut Graph,
    from: &Graph,
    args: &[ValueId],
    call: Option<&Span>,
) -> (Vec<NodeId>, Vec<ValueId>) {
    let top: &Block = &from.blocks[from.top];
    let mut known: HashMap<ValueId, ValueId> = top.params.iter().copied().zip(args.iter().copied()).collect();
    let nodes = copy_nodes(graph, from, &top.nodes, &mut known, call);
    (nodes, top.returns.iter().map(|value| known[value]).collect())
}

fn copy_nodes(
    graph: &mut Graph,
    from: &Graph,
    nodes: &[NodeId],
    known: &mut HashMap<ValueId, ValueId>,
    call: Option<&Span>,
) -> Vec<NodeId> {
    let mut out = Vec::with_capacity(nodes.len());
    for &id in nodes {
        let node = &from.nodes[id];
        let inputs = node.inputs.iter().map(|value| known[value]).collect();
        let new = graph.create_node(node.op.clone(), inputs, node.span.clone());
        graph.nodes[new].attrs.clone_from(&node.attrs);
        graph.nodes[new].callers = node.callers.iter().chain(call).cloned().collect();
        for &inner in &node.blocks {
            let block = graph.add_block();
            for &param in &from.blocks[inner].params {
                let value = &from.values[param];
                known.insert(param, graph.add_param(block, value.ty.clone(), value.name.clone()));
            }
            let body = copy_nodes(graph, from, &from.blocks[inner].nodes, known, call);
            graph.blocks[block].nodes = body;
            graph.blocks[block].returns = from.blocks[inner].returns.iter().map(|value| known[value]).collect();
            graph.nodes[new].blocks.push(block);
        }
        for &output in &node.outputs {
            let value = graph.add_output(new, from.values[output].ty.clone());
            graph.values[value].name.clone_from(&from.values[output].name);
            known.insert(output, value);
        }
        out.push(new);
    }
    out
}

/// Puts nodes in place of one node of a block.
pub fn replace_node(graph: &mut Graph, block: BlockId, node: NodeId, with: Vec<NodeId>) {
    let nodes = &mut graph.blocks[block].nodes;
    if let Some(at) = nodes.iter().position(|&n| n == node) {
        nodes.splice(at..=at, with);
    }
}

/// Whether two constants are the same; tensors by type and contents.
pub fn is_same_constant(a: &IValue, b: &IValue) -> bool {
    let all = |a: &[IValue], b: &[IValue]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_constant(a, b));
    match (a, b) {
        (IValue::None, IValue::None) => true,
        (IValue::Bool(a), IValue::Bool(b)) => a == b,
        (IValue::Int(a), IValue::Int(b)) => a == b,
        (IValue::Float(a), IValue::Float(b)) => a.to_bits() == b.to_bits(),
        (IValue::Complex(a, c), IValue::Complex(b, d)) => (a.to_bits(), c.to_bits()) == (b.to_bits(), d.to_bits()),
        (IValue::Str(a), IValue::Str(b)) | (IValue::Device(a), IValue::Device(b)) => a == b,
        (IValue::Tensor(a), IValue::Tensor(b)) => {
            let is_quantised = |t: &TensorData| matches!(t.dtype(), DType::QI8 | DType::QU8 | DType::QI32);
            Arc::ptr_eq(a, b)
                || (a.dtype(), a.sizes(), a.strides()) == (b.dtype(), b.sizes(), b.strides())
                    && !is_quantised(a)
                    && a.contiguous_bytes() == b.contiguous_bytes()
        }
        (IValue::Tuple(a), IValue::Tuple(b)) | (IValue::List(_, a), IValue::List(_, b)) => all(a, b),
        (IValue::Dict(..), IValue::Dict(..)) => false,
        (IValue::Object(a), IValue::Object(b)) => Arc::ptr_eq(a, b),
        (IValue::Enum { class, value }, IValue::Enum { class: c, value: v }) => {
            class == c && is_same_constant(value, v)
        }
        _ => false,
    }
}
