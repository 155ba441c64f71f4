//! The text of a graph, as PyTorch prints `.graph`. [`parse`](super::parse) reads it back.
//!
//! Overloads are not printed, as in PyTorch. Each value prints by its debug name, by its number if its name is only digits,
//! or by its id; two values never share a name in the text.

use super::{Attr, BlockId, Graph, Node, NodeId, Value, ValueId};
use crate::index::{Id as _, IndexVec};
use crate::types::Type;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fmt::Write as _;

use super::text::{attribute, quoted};

/// What to print beside the graph itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PrintOptions {
    /// `# file:line:col` after nodes whose source is known.
    pub places: bool,
}

impl Value {
    /// The name the program gave to this value; a name of digits is just a number that the text form keeps.
    pub fn debug_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !is_number(name))
    }
}

/// Whether a name is a number and no debug name.
pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// A debug name without its `.N`.
pub(super) fn base_name(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((base, suffix)) if is_number(suffix) => base,
        _ => name,
    }
}

/// The text without places.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(PrintOptions::default()))
    }
}

impl Graph {
    /// The text of the graph, then of the graphs nested in it.
    pub fn text(&self, options: PrintOptions) -> String {
        let mut out = String::new();
        print(self, options, &mut out);
        out
    }
}

/// What is still to be printed, last first; blocks may nest deeper than the stack would bear.
enum Step {
    Node(NodeId, usize),
    Open(BlockId, usize, usize),
    Close(BlockId, usize),
}

fn print(graph: &Graph, options: PrintOptions, out: &mut String) {
    let names = names(graph);
    let mut subgraphs = Vec::new();
    let top = &graph.blocks[graph.top];
    let params = typed(graph, &names, &top.params, ",\n      ");
    let _ = writeln!(out, "graph({params}):");
    let mut steps: Vec<Step> = top.nodes.iter().rev().map(|&id| Step::Node(id, 1)).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Node(id, level) => {
                let node = &graph.nodes[id];
                let _ = write!(
                    out,
                    "{}{} = {}",
                    "  ".repeat(level),
                    typed(graph, &names, &node.outputs, ", "),
                    node.op.name
                );
                attributes(graph, node, out);
                if let Some(Attr::Graph(inner)) = node.attr("Subgraph") {
                    let _ = write!(out, "_{}", subgraphs.len());
                    subgraphs.push((&node.op.name, inner));
                }
                let _ = write!(out, "({})", untyped(&names, &node.inputs));
                if let Some(span) = node.span.as_ref().filter(|_| options.places && !node.hides_place) {
                    let _ = write!(out, " # {}", span.printed_place());
                }
                out.push('\n');
                for (at, &block) in node.blocks.iter().enumerate().rev() {
                    steps.push(Step::Open(block, at, level + 1));
                }
            }
            Step::Open(id, at, level) => {
                let block = &graph.blocks[id];
                let params = typed(graph, &names, &block.params, ", ");
                let _ = writeln!(out, "{}block{at}({params}):", "  ".repeat(level));
                steps.push(Step::Close(id, level + 1));
                steps.extend(block.nodes.iter().rev().map(|&node| Step::Node(node, level + 1)));
            }
            Step::Close(id, level) => {
                let _ = writeln!(out, "{}-> ({})", "  ".repeat(level), untyped(&names, &graph.blocks[id].returns));
            }
        }
    }
    let _ = writeln!(out, "  return ({})", untyped(&names, &top.returns));
    for (at, (kind, inner)) in subgraphs.into_iter().enumerate() {
        let _ = write!(out, "with {kind}_{at} = ");
        print(inner, options, out);
    }
}

fn typed(graph: &Graph, names: &IndexVec<ValueId, String>, values: &[ValueId], separator: &str) -> String {
    let each = values.iter().map(|&id| format!("%{} : {}", names[id], graph.values[id].ty));
    each.collect::<Vec<_>>().join(separator)
}

fn untyped(names: &IndexVec<ValueId, String>, values: &[ValueId]) -> String {
    values.iter().map(|&id| format!("%{}", names[id])).collect::<Vec<_>>().join(", ")
}

pub(super) fn attributes(graph: &Graph, node: &Node, out: &mut String) {
    let ty = node.outputs.first().map(|&id| &graph.values[id].ty);
    let mut n_printed = 0;
    for (key, attr) in &node.attrs {
        let text = match attr {
            Attr::Graph(_) => continue,
            Attr::Value(value) => attribute(value, ty.unwrap_or(&Type::Any)),
            // Functions are known by qualified names here, but the text has only the last part.
            Attr::Name(name) if ty == Some(&Type::Function) => quoted(name.rsplit('.').next().unwrap_or(name)),
            Attr::Name(name) => quoted(name),
            Attr::Types(types) => format!("[{}]", types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            Attr::Int(value) => value.to_string(),
        };
        let _ = write!(out, "{}{key}={text}", if n_printed == 0 { "[" } else { ", " });
        n_printed += 1;
    }
    if n_printed > 0 {
        out.push(']');
    }
}

/// A distinct name for every value: its own where it is free, `base.k` where another value has it, its id where it has none.
fn names(graph: &Graph) -> IndexVec<ValueId, String> {
    let order = in_order(graph);
    let mut names: IndexVec<ValueId, String> = graph.values.iter().map(|_| String::new()).collect();
    let mut taken: HashSet<&str> = HashSet::new();
    let mut doubles = Vec::new();
    for &id in &order {
        match graph.values[id].name.as_deref() {
            Some(name) if !name.is_empty() && taken.insert(name) => name.clone_into(&mut names[id]),
            _ => doubles.push(id),
        }
    }
    let mut made: HashSet<String> = HashSet::new();
    let mut next_suffix: HashMap<&str, usize> = HashMap::new();
    let mut next_number = graph.values.len();
    for id in doubles {
        let name = match graph.values[id].debug_name() {
            Some(name) if !name.is_empty() => {
                let base = base_name(name);
                let suffix = next_suffix.entry(base).or_insert(1);
                loop {
                    let name = format!("{base}.{suffix}");
                    *suffix += 1;
                    if !taken.contains(name.as_str()) && !made.contains(&name) {
                        break name;
                    }
                }
            }
            _ => {
                let mut name = id.index().to_string();
                while taken.contains(name.as_str()) || made.contains(&name) {
                    name = next_number.to_string();
                    next_number += 1;
                }
                name
            }
        };
        made.insert(name.clone());
        names[id] = name;
    }
    names
}

/// Every value that prints as a definition, in the order of the text.
pub(super) fn in_order(graph: &Graph) -> Vec<ValueId> {
    let mut order = Vec::new();
    walk(graph, |values, _| order.extend(values));
    order
}

/// Every node, in the order of the text.
pub(super) fn nodes_in_order(graph: &Graph) -> Vec<NodeId> {
    let mut order = Vec::new();
    walk(graph, |_, node| order.extend(node));
    order
}

/// Visits what blocks and nodes define, in the order of the text.
fn walk<'g>(graph: &'g Graph, mut visit: impl FnMut(&'g [ValueId], Option<NodeId>)) {
    enum Step {
        Node(NodeId),
        Block(BlockId),
    }
    let mut steps = vec![Step::Block(graph.top)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Node(id) => {
                let node = &graph.nodes[id];
                visit(&node.outputs, Some(id));
                steps.extend(node.blocks.iter().rev().map(|&block| Step::Block(block)));
            }
            Step::Block(id) => {
                let block = &graph.blocks[id];
                visit(&block.params, None);
                steps.extend(block.nodes.iter().rev().map(|&node| Step::Node(node)));
            }
        }
    }
}
