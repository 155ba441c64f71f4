//! Small rewrites that look at a node and what defines its operands: neutral elements, casts to the same type, parts of
//! literals, questions whose answer is in a type.
//!
//! As in PyTorch, a convolution is taken to give a batch, so a check of its rank is gone: what is wrong there is an input
//! without a batch.
//!
//! Parts of lists are only taken where nothing in the graph changes lists. Dead nodes are left for
//! [`eliminate_dead_code`](super::eliminate_dead_code).

use super::{Changed, edit};
use crate::ir::{BlockId, Graph, Node, NodeId, ValueId};
use crate::ops::effects::Writes;
use crate::types::{IValue, TensorType, Type};
use std::collections::HashMap;

/// What takes the place of a node.
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
enum New {
    /// These values, one for each output.
    Values(Vec<ValueId>),
    /// Constants, one for each output.
    Constants(Vec<(IValue, Type)>),
}

/// Rewrites every node once, operands first.
pub fn run(graph: &mut Graph) -> Changed {
    rewrite_all(graph, false)
}

/// The rewrites that PyTorch does before it inlines: tuples stay.
pub fn run_as_inlined(graph: &mut Graph) -> Changed {
    rewrite_all(graph, true)
}

fn rewrite_all(graph: &mut Graph, as_inlined: bool) -> Changed {
    let writes = Writes::of(graph);
    let mut new: HashMap<ValueId, ValueId> = HashMap::new();
    let uses = edit::use_counts(graph);
    let mut repeats_condition = false;
    let mut removed: Vec<(BlockId, NodeId, Vec<NodeId>)> = Vec::new();
    for (block, id) in graph.nodes_in_order() {
        for input in &mut graph.nodes[id].inputs {
            while let Some(&other) = new.get(input) {
                *input = other;
            }
        }
        let node = &graph.nodes[id];
        let known = conditions(graph, node).filter(|output| uses[*output] > 0);
        let known: Vec<ValueId> = known.collect();
        if !known.is_empty() {
            new.extend(known.into_iter().map(|output| (output, node.inputs[0])));
            repeats_condition = true;
            continue;
        }
        let outputs = node.outputs.clone();
        match rewrite(graph, node, writes, as_inlined) {
            None => {}
            Some(New::Values(values)) => {
                new.extend(outputs.into_iter().zip(values));
                removed.push((block, id, Vec::new()));
            }
            Some(New::Constants(values)) => {
                let mut constants = Vec::with_capacity(values.len());
                for (output, (value, ty)) in outputs.into_iter().zip(values) {
                    let name = graph.values[output].name.clone();
                    let constant = edit::create_constant(graph, value, ty, name);
                    new.insert(output, graph.nodes[constant].outputs[0]);
                    constants.push(constant);
                }
                removed.push((block, id, constants));
            }
        }
    }
    edit::substitute(graph, &new);
    let changed = repeats_condition || !removed.is_empty();
    for (block, id, constants) in removed {
        edit::replace_node(graph, block, id, constants);
    }
    changed
}

/// The outputs of an `if` that are its condition: true where it holds, and false where not.
fn conditions<'g>(graph: &'g Graph, node: &'g Node) -> impl Iterator<Item = ValueId> + 'g {
    let is = move |block: BlockId, at: usize, truth: bool| {
        let value = graph.blocks[block].returns.get(at).and_then(|&value| graph.constant(value));
        matches!(value, Some(IValue::Bool(value)) if value == truth)
    };
    let outputs = node.outputs.iter().enumerate().filter(move |_| node.is("prim::If"));
    outputs
        .filter(move |&(at, _)| is(node.blocks[0], at, true) && is(node.blocks[1], at, false))
        .map(|(_, &output)| output)
}

fn rewrite(graph: &Graph, node: &Node, writes: Writes, as_inlined: bool) -> Option<New> {
    let ty = |value: ValueId| &graph.values[value].ty;
    let input = |at: usize| node.inputs.get(at).copied();
    let made_by = |value: ValueId, name: &str| edit::producer(graph, value).filter(|node| node.is(name));
    let is_int =
        |at: usize, n: i64| matches!(input(at).and_then(|v| graph.constant(v)), Some(IValue::Int(x)) if x == n);
    let first = input(0)?;
    let same = || Some(New::Values(vec![first]));
    let constant = |value: IValue, ty: Type| Some(New::Constants(vec![(value, ty)]));
    let bool = |value: bool| constant(IValue::Bool(value), Type::Bool);
    let int = |value: i64| constant(IValue::Int(value), Type::Int);
    let literal = |value: ValueId| made_by(value, "prim::ListConstruct").filter(|_| !writes.containers);
    match &*node.op.name {
        "aten::add" | "aten::sub" if node.inputs.len() == 3 && is_int(1, 0) => {
            matches!(ty(first), Type::Tensor(_)).then(same)?
        }
        "aten::t" if !writes.tensors => {
            let inner = made_by(first, "aten::t")?;
            Some(New::Values(vec![inner.inputs[0]]))
        }
        "aten::eq" | "aten::le" | "aten::ge" if input(1)? == first && matches!(ty(first), Type::Int) => bool(true),
        "aten::ne" | "aten::lt" | "aten::gt" if input(1)? == first && matches!(ty(first), Type::Int) => bool(false),
        "aten::__is__" | "aten::__isnot__" => {
            let is_not = node.is("aten::__isnot__");
            let (a, b) = (ty(first), ty(input(1)?));
            let ((Type::None, other) | (other, Type::None)) = (a, b) else { return None };
            match other {
                Type::None => bool(!is_not),
                Type::Optional(_) | Type::Any | Type::Union(_) | Type::Var(_) => None,
                _ => bool(is_not),
            }
        }
        "prim::GetAttr" if *ty(node.outputs[0]) == Type::None => constant(IValue::None, Type::None),
        "prim::unchecked_cast" if ty(first) == ty(node.outputs[0]) => same(),
        "aten::_unwrap_optional" | "prim::unchecked_unwrap_optional" => {
            (!matches!(ty(first), Type::Optional(_) | Type::None)).then(same)?
        }
        "aten::Int" | "aten::Float" | "aten::IntImplicit" | "aten::FloatImplicit" | "aten::ScalarImplicit"
            if made_by(first, "prim::NumToTensor").is_some() =>
        {
            let number = made_by(first, "prim::NumToTensor")?.inputs[0];
            let (have, want) = (ty(number), ty(node.outputs[0]));
            (have == want || *want == Type::Number).then(|| New::Values(vec![number]))
        }
        "aten::Int" if matches!(ty(first), Type::Int) => same(),
        "aten::Float" if matches!(ty(first), Type::Float) => same(),
        "aten::Bool" if matches!(ty(first), Type::Bool) => same(),
        "aten::len" => int(i64::try_from(literal(first)?.inputs.len()).ok()?),
        "aten::__getitem__" => {
            let items = &literal(first)?.inputs;
            let Some(IValue::Int(index)) = graph.constant(input(1)?) else { return None };
            Some(New::Values(vec![*items.get(position(index, items.len())?)?]))
        }
        "prim::ListUnpack" => {
            let items = literal(first)?.inputs.clone();
            (items.len() == node.outputs.len()).then_some(New::Values(items))
        }
        "prim::TupleUnpack" | "prim::TupleIndex" if as_inlined => None,
        "prim::TupleUnpack" if graph.constant(first).is_some() => {
            let Some(IValue::Tuple(items)) = graph.constant(first) else { return None };
            let constants = items.iter().map(|item| Some((item.clone(), edit::plain_type(item)?)));
            (items.len() == node.outputs.len()).then_some(New::Constants(constants.collect::<Option<_>>()?))
        }
        "prim::TupleUnpack" => {
            let items = made_by(first, "prim::TupleConstruct")?.inputs.clone();
            (items.len() == node.outputs.len()).then_some(New::Values(items))
        }
        "prim::TupleIndex" => {
            let items = &made_by(first, "prim::TupleConstruct")?.inputs;
            let Some(IValue::Int(index)) = graph.constant(input(1)?) else { return None };
            Some(New::Values(vec![*items.get(position(index, items.len())?)?]))
        }
        "aten::dim" if n_convolved_dims(graph, first).is_some() => int(n_convolved_dims(graph, first)?),
        "aten::dim" => {
            let Type::Tensor(TensorType { sizes: Some(sizes), .. }) = ty(first) else { return None };
            int(i64::try_from(sizes.len()).ok()?)
        }
        "aten::size" if !writes.tensors => {
            let Type::Tensor(TensorType { sizes: Some(sizes), .. }) = ty(first) else { return None };
            match input(1) {
                None => {
                    let sizes = sizes.iter().map(|size| size.map(IValue::Int)).collect::<Option<Vec<_>>>()?;
                    (!writes.containers).then_some(())?;
                    constant(IValue::List(Some(Type::Int), sizes.into()), Type::list(Type::Int))
                }
                Some(dim) => {
                    let Some(IValue::Int(dim)) = graph.constant(dim) else { return None };
                    int((*sizes.get(position(dim, sizes.len())?)?)?)
                }
            }
        }
        "prim::dtype" => {
            let Type::Tensor(TensorType { dtype: Some(dtype), .. }) = ty(first) else { return None };
            int(dtype.code())
        }
        "prim::device" => {
            let Type::Tensor(TensorType { device: Some(device), .. }) = ty(first) else { return None };
            constant(IValue::Device(device.clone()), Type::Device)
        }
        "prim::is_cuda" => {
            let Type::Tensor(TensorType { device: Some(device), .. }) = ty(first) else { return None };
            bool(device.starts_with("cuda"))
        }
        _ => None,
    }
}

/// The rank of a batch of results, if a convolution makes the value.
fn n_convolved_dims(graph: &Graph, value: ValueId) -> Option<i64> {
    match &*edit::producer(graph, value)?.op.name {
        "aten::conv1d" => Some(3),
        "aten::conv2d" => Some(4),
        "aten::conv3d" => Some(5),
        _ => None,
    }
}

/// A Python index as a position.
fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + i64::try_from(len).ok()? } else { index };
    usize::try_from(index).ok().filter(|&at| at < len)
}
