//! Traced lowering: the program tells which functions and statements begin and what values they give.
//!
//! The calls are part of the program, so loops, branches, tasks and writes through views show what they do; nothing else
//! changes but that values are kept apart. A statement begins at its first operator in a block, so once in each round of a loop.

use super::facts::Outcome;
use super::walk::Lowerer;
use crate::ir::{BlockId, Graph, Node, NodeId, ValueId};
use crate::loops::{Arg, Operand};
use crate::ops::value::{Cell, Value};
use crate::source::Span;

/// Nodes that compute nothing.
const SILENT: [&str; 3] = ["prim::Constant", "prim::GetAttr", "prim::Uninitialized"];

fn text(text: &str) -> Arg {
    Arg::Scalar(Operand::Str(text.into()))
}

/// The statement of a node that computes something.
fn statement_of(node: &Node) -> Option<String> {
    node.span.as_ref().filter(|_| !SILENT.contains(&&*node.op.name)).map(statement)
}

impl Lowerer<'_, '_> {
    /// Tells that a statement begins, if this node of a block is its first.
    pub(super) fn trace_statement(&mut self, graph: &Graph, block: BlockId, at: usize) {
        if !self.is_traced {
            return;
        }
        let nodes = &graph.blocks[block].nodes;
        let Some(statement) = statement_of(&graph.nodes[nodes[at]]) else { return };
        let before = nodes[..at].iter().rev().find_map(|id| statement_of(&graph.nodes[*id]));
        if before.as_ref() != Some(&statement) {
            self.b.call("trace_statement", vec![text(&statement)], &[]);
        }
    }

    /// Tells that a function begins, with its arguments.
    pub(super) fn trace_enter(&mut self, name: &str, graph: &Graph, args: &[Value]) {
        if !self.is_traced {
            return;
        }
        self.b.call("trace_enter", vec![text(name)], &[]);
        let params = graph.blocks[graph.top].params.clone();
        for (param, value) in params.iter().zip(args) {
            let name = source_name(graph, *param).unwrap_or("?");
            let operands = std::iter::once(text(name)).chain(self.traced_value(value)).collect();
            self.b.call("trace_argument", operands, &[]);
        }
    }

    /// Tells that the function ends.
    pub(super) fn trace_leave(&mut self) {
        if self.is_traced {
            self.b.call("trace_leave", Vec::new(), &[]);
        }
    }

    /// Emits the trace of a node that was just lowered, if this is asked for.
    pub(super) fn trace(&mut self, act: usize, node: NodeId) -> Outcome<()> {
        if !self.is_traced {
            return Ok(());
        }
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        let Some(statement) = statement_of(node) else { return Ok(()) };
        if node.outputs.is_empty() {
            self.b.call("trace_value", vec![text(&statement), text(&node.op.name)], &[]);
        }
        for output in &node.outputs {
            let value = self.get(act, *output)?;
            let name = source_name(&graph, *output).unwrap_or(&node.op.name);
            // What has no text, as objects, is named only.
            let value = self.traced_value(&value).unwrap_or_else(|| text(value.kind()));
            self.b.call("trace_value", vec![text(&statement), text(name), value], &[]);
        }
        Ok(())
    }

    /// Tells the number of a loop's round, if the source has a name for it.
    pub(super) fn trace_round(&mut self, act: usize, node: NodeId) {
        if !self.is_traced {
            return;
        }
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        let counter = graph.blocks[node.blocks[0]].params[0];
        if let (Some(name), Some(statement), Ok(value)) =
            (source_name(&graph, counter), statement_of(node), self.get(act, counter))
            && let Some(value) = self.traced_value(&value)
        {
            self.b.call("trace_value", vec![text(&statement), text(name), value], &[]);
        }
    }

    /// A value as it is told: lists and dicts of plain items as objects of their own, others as text.
    fn traced_value(&mut self, value: &Value) -> Option<Arg> {
        let is_plain = |item: &Value| !matches!(item, Value::Cell(_) | Value::None);
        if let Value::Cell(id) = value {
            match self.b.heap.cells[*id].clone() {
                Cell::List(items) if items.iter().all(is_plain) => {
                    if let Ok((var, _)) = self.b.run_time_list(&items) {
                        return Some(Arg::Scalar(Operand::Var(var)));
                    }
                }
                Cell::Dict(entries) if entries.iter().all(|(_, value)| is_plain(value)) => {
                    if let Ok((var, _)) = self.b.run_time_dict(&entries) {
                        return Some(Arg::Scalar(Operand::Var(var)));
                    }
                }
                _ => {}
            }
        }
        self.print_arg(value).ok()
    }
}

/// The name of a value in the source; a name that is set again is numbered there: `y.5`.
fn source_name(graph: &Graph, value: ValueId) -> Option<&str> {
    let name = graph.values[value].name.as_deref()?.split('.').next()?;
    Some(name).filter(|name| !name.is_empty())
}

/// The statements of a graph's nodes.
pub(crate) fn statements(graph: &Graph) -> impl Iterator<Item = String> + '_ {
    graph.nodes.iter().filter_map(|node| node.span.as_ref().map(statement))
}

/// `net.py:12: y = x + 1`
fn statement(span: &Span) -> String {
    let (file, line, _) = span.file_line_column();
    let text = match span.origin() {
        Some(origin) => origin.excerpt.lines().next().map(str::to_owned),
        None => span.source.text.lines().nth(line - 1).map(str::to_owned),
    };
    format!("{file}:{line}: {}", text.unwrap_or_default().trim())
}
