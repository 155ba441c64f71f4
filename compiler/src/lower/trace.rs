//! Traced lowering: after each operator, the program tells where it is and what the results are.
//!
//! The calls are part of the program, so loops, branches, tasks and writes through views show what they do; nothing else
//! changes but that values are kept apart.

use super::facts::Outcome;
use super::walk::Lowerer;
use crate::ir::NodeId;
use crate::loops::{Arg, Operand};
use crate::source::Span;

/// Nodes that compute nothing.
const SILENT: [&str; 3] = ["prim::Constant", "prim::GetAttr", "prim::Uninitialized"];

impl Lowerer<'_, '_> {
    /// Emits the trace of a node that was just lowered, if this is asked for.
    pub(super) fn trace(&mut self, act: usize, node: NodeId) -> Outcome<()> {
        if !self.is_traced {
            return Ok(());
        }
        let graph = self.graph(act);
        let node = &graph.nodes[node];
        let Some(span) = node.span.as_ref().filter(|_| !SILENT.contains(&&*node.op.name)) else {
            return Ok(());
        };
        let statement = statement(span);
        let text = |text: &str| Arg::Scalar(Operand::Str(text.into()));
        if node.outputs.is_empty() {
            self.b.call("trace", vec![text(&statement), text(&node.op.name)], &[]);
        }
        for output in &node.outputs {
            let value = self.get(act, *output)?;
            // Names are numbered where a variable is set again: `y.5`.
            let name = graph.values[*output].name.as_deref().and_then(|name| name.split('.').next());
            let name = name.filter(|name| !name.is_empty()).unwrap_or(&node.op.name);
            // What has no text, as objects, is named only.
            let value = self.print_arg(&value).unwrap_or_else(|_| text(value.kind()));
            self.b.call("trace", vec![text(&statement), text(name), value], &[]);
        }
        Ok(())
    }
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
