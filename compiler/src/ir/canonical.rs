//! What two texts of one graph have in common: a form without all that hangs on how the graph came to be.
//!
//! PyTorch gives values their numbers as its compiler happens to make them, moves equal constants to the top in an order that
//! depends on how often it has done so (or not at all where it traces), counts warnings through a whole process, and drops
//! the shapes that tracing saw when it saves. So a graph in memory, saved and loaded again, prints otherwise and means
//! the same.

use super::print::{attributes, in_order, nodes_in_order};
use super::{Attr, BlockId, Graph, NodeId, ValueId};
use crate::types::Type;
use std::collections::HashMap;
use std::sync::Arc;

/// The graph with values numbered in the order of the text, constants first, each once and in the order of their first
/// use, tensor types without shapes, and no numbers of warnings.
#[must_use]
pub fn canonical(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for value in graph.values.iter_mut() {
        value.ty = shapeless(&value.ty);
    }
    constants_first(&mut graph);
    for node in graph.nodes.iter_mut() {
        node.attrs.retain(|(key, _)| *key != "warn_id");
        for (_, attr) in &mut node.attrs {
            if let Attr::Graph(inner) = attr {
                *attr = Attr::Graph(Arc::new(canonical(inner)));
            }
        }
    }
    for (number, id) in in_order(&graph).into_iter().enumerate() {
        graph.values[id].name = Some(number.to_string().into());
    }
    graph
}

/// Every constant that is used, once, in the order of their first use. Tensors whose elements the text hides stay apart.
fn constants_first(graph: &mut Graph) {
    let (mut kept, mut same): (HashMap<String, ValueId>, HashMap<ValueId, ValueId>) = (HashMap::new(), HashMap::new());
    let mut constants = Vec::new();
    for id in nodes_in_order(graph) {
        let node = &graph.nodes[id];
        let (true, [value]) = (node.is("prim::Constant"), &node.outputs[..]) else { continue };
        let mut text = graph.values[*value].ty.to_string();
        attributes(graph, node, &mut text);
        if text.contains("<Tensor") {
            constants.push((id, *value));
            continue;
        }
        match kept.get(&text) {
            Some(&known) => _ = same.insert(*value, known),
            None => {
                kept.insert(text, *value);
                constants.push((id, *value));
            }
        }
    }
    let swap = |values: &mut Vec<ValueId>| {
        for value in values {
            *value = same.get(value).copied().unwrap_or(*value);
        }
    };
    graph.nodes.iter_mut().for_each(|node| swap(&mut node.inputs));
    graph.blocks.iter_mut().for_each(|block| swap(&mut block.returns));
    let nodes = &graph.nodes;
    graph.blocks.iter_mut().for_each(|block| block.nodes.retain(|&id| !nodes[id].is("prim::Constant")));
    let uses = first_uses(graph);
    constants.retain(|(_, value)| uses.contains_key(value));
    constants.sort_by_key(|(_, value)| uses[value]);
    let top = graph.top;
    graph.blocks[top].nodes.splice(0..0, constants.into_iter().map(|(id, _)| id));
}

/// A number for each value that is used, in the order of first uses in the text.
#[must_use]
pub fn first_uses(graph: &Graph) -> HashMap<ValueId, usize> {
    enum Step {
        Node(NodeId),
        Block(BlockId),
        Return(BlockId),
    }
    let mut uses = HashMap::new();
    let mut steps = vec![Step::Block(graph.top)];
    while let Some(step) = steps.pop() {
        let values = match step {
            Step::Block(id) => {
                steps.push(Step::Return(id));
                steps.extend(graph.blocks[id].nodes.iter().rev().map(|&node| Step::Node(node)));
                continue;
            }
            Step::Node(id) => {
                steps.extend(graph.nodes[id].blocks.iter().rev().map(|&block| Step::Block(block)));
                &graph.nodes[id].inputs
            }
            Step::Return(id) => &graph.blocks[id].returns,
        };
        for &value in values {
            let place = uses.len();
            uses.entry(value).or_insert(place);
        }
    }
    uses
}

/// The type without the shapes of tensors in it.
fn shapeless(ty: &Type) -> Type {
    let inner = |ty: &Arc<Type>| Arc::new(shapeless(ty));
    match ty {
        Type::Tensor(_) => Type::tensor(),
        Type::List(of) => Type::List(inner(of)),
        Type::Optional(of) => Type::Optional(inner(of)),
        Type::Future(of) => Type::Future(inner(of)),
        Type::Dict(key, value) => Type::Dict(inner(key), inner(value)),
        Type::Tuple(items) => Type::Tuple(items.iter().map(shapeless).collect()),
        other => other.clone(),
    }
}

/// Code with the variables that PyTorch numbers (`_3`, `x1`) numbered anew, each in the order of its first place.
#[must_use]
pub fn renumbered(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut new: HashMap<&str, String> = HashMap::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = if first == '"' {
            end_of_string(rest)
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        let base = token.trim_end_matches(|c: char| c.is_ascii_digit());
        // What follows a dot is an attribute; a word of digits is a number.
        if !first.is_alphabetic() && first != '_' || base.len() == token.len() || out.ends_with('.') {
            out.push_str(token);
            continue;
        }
        let name = new.entry(token).or_insert_with(|| {
            let count = counts.entry(base).or_insert(0);
            *count += 1;
            format!("{base}{}", *count - 1)
        });
        out.push_str(name);
    }
    out
}

/// The length of the quoted string that the text begins with.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
