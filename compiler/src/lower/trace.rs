//! Traced lowering: the program tells which functions and statements begin and what values they give.
//!
//! The calls are part of the program, so loops, branches, tasks and writes through views show what they do; nothing else
//! changes but that values are kept apart. A statement begins at its first operator in a block, so once in each round of a loop.

use super::aliases::storages_of;
use super::facts::Outcome;
use super::walk::Lowerer;
use crate::ir::{BlockId, Graph, Node, NodeId, ValueId};
use crate::loops::{Arg, Operand};
use crate::ops::effects;
use crate::ops::value::{Cell, CellId, ObjectCell, RunTimeDict, RunTimeList, Value, int};
use crate::source::Span;
use crate::types::IValue;
use std::collections::HashSet;
use std::sync::Arc;

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
            self.trace_attributes(value, &mut HashSet::new());
        }
    }

    /// The name under which an object is told: with its path if it is of the archive, else with a number.
    fn object_name(&self, id: CellId, object: &ObjectCell) -> String {
        match &object.loaded {
            Some(loaded) => {
                let path = self.paths.get(&(Arc::as_ptr(loaded) as usize));
                archived_object_name(&object.class, path.map_or("", String::as_str))
            }
            None => format!("<{} #{}>", object.class, id.0),
        }
    }

    /// Tells the attributes of an object that are not those of the archive, and those of objects it holds.
    fn trace_attributes(&mut self, value: &Value, seen: &mut HashSet<CellId>) {
        let Value::Cell(id) = value else { return };
        let Cell::Object(object) = self.b.heap.cells[*id].clone() else { return };
        if !seen.insert(*id) {
            return;
        }
        let owner = self.object_name(*id, &object);
        for (name, value) in &object.attrs {
            self.trace_attribute(&owner, name, value);
            self.trace_attributes(value, seen);
        }
        for value in object.loaded.iter().flat_map(|loaded| loaded.attrs.values()) {
            if let IValue::Object(inner) = value
                && let Some(cell) = self.objects.get(&(Arc::as_ptr(inner) as usize))
            {
                self.trace_attributes(&Value::Cell(*cell), seen);
            }
        }
    }

    fn trace_attribute(&mut self, owner: &str, name: &str, value: &Value) {
        let told = self.traced_value(value);
        if !told.is_empty() {
            let operands = [Arg::Scalar(int(-1)), text(&format!("{owner}.{name}"))].into_iter().chain(told).collect();
            self.b.call("trace_update", operands, &[]);
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
        let Some(statement) = statement_of(node) else {
            // A constant that the source has a name for.
            for output in node.outputs.iter().filter(|_| node.is("prim::Constant")) {
                self.trace_update(act, *output)?;
            }
            return Ok(());
        };
        if node.outputs.is_empty() {
            self.b.call("trace_value", vec![text(&statement), text(&node.op.name)], &[]);
        }
        for output in &node.outputs {
            let value = self.get(act, *output)?;
            let name = source_name(&graph, *output).unwrap_or(&node.op.name);
            // What has no text, as objects, is named only.
            let told = self.traced_value(&value);
            let told = if told.is_empty() { vec![text(value.kind())] } else { told };
            let operands = [text(&statement), text(name)].into_iter().chain(told).collect();
            self.b.call("trace_value", operands, &[]);
            self.trace_attributes(&value, &mut HashSet::new());
        }
        if let ("prim::SetAttr", Some(name)) = (&*node.op.name, node.attr_name("name"))
            && let Value::Cell(id) = self.get(act, node.inputs[0])?
            && let Cell::Object(object) = &self.b.heap.cells[id]
        {
            let owner = self.object_name(id, object);
            let value = self.get(act, node.inputs[1])?;
            self.trace_attribute(&owner, name, &value);
        }
        self.trace_writes(node, act)
    }

    /// Tells what names show now that a node has written to what they are or share memory with.
    fn trace_writes(&mut self, node: &Node, act: usize) -> Outcome<()> {
        let written = effects::written(node);
        let written = written.iter().map(|value| self.get(act, *value)).collect::<Outcome<Vec<_>>>()?;
        let storages: Vec<_> = written.iter().flat_map(storages_of).collect();
        for at in (0..=act).filter(|_| !written.is_empty()) {
            let graph = self.graph(at);
            let is_changed = |value: &Value| {
                storages_of(value).any(|storage| storages.contains(&storage))
                    || matches!(value, Value::Cell(_)) && written.contains(value)
            };
            for id in graph.values.ids() {
                if self.get(at, id).is_ok_and(|value| is_changed(&value)) {
                    self.trace_update(at, id)?;
                }
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        let is_changed = |value: &Value| {
            storages_of(value).any(|storage| storages.contains(&storage))
                || matches!(value, Value::Cell(_)) && written.contains(value)
        };
        let mut changed = Vec::new();
        for id in self.b.heap.cells.ids() {
            if let Cell::Object(object) = &self.b.heap.cells[id] {
                let attrs = object.attrs.iter().filter(|(_, value)| is_changed(value));
                let owner = self.object_name(id, object);
                changed.extend(attrs.map(|(name, value)| (owner.clone(), Arc::clone(name), value.clone())));
            }
        }
        for (owner, name, value) in changed {
            self.trace_attribute(&owner, &name, &value);
        }
        Ok(())
    }

    /// Tells the value that a name of the source has in a function that runs.
    fn trace_update(&mut self, act: usize, id: ValueId) -> Outcome<()> {
        let (graph, value) = (self.graph(act), self.get(act, id)?);
        if let Some(name) = source_name(&graph, id) {
            let told = self.traced_value(&value);
            if !told.is_empty() {
                let depth = Arg::Scalar(int(i64::try_from(act).unwrap_or(i64::MAX)));
                let operands = [depth, text(name)].into_iter().chain(told).collect();
                self.b.call("trace_update", operands, &[]);
            }
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
        {
            let operands = [text(&statement), text(name)].into_iter().chain(self.traced_value(&value)).collect();
            self.b.call("trace_value", operands, &[]);
        }
    }

    /// A value as it is told, as operands: tuples, lists and dicts of plain items as objects of their own, others as text, objects
    /// by name; nothing for what has no text, and two operands for `None`.
    fn traced_value(&mut self, value: &Value) -> Vec<Arg> {
        fn is_plain(item: &Value) -> bool {
            match item {
                Value::Tuple(items, _) => items.iter().all(is_plain),
                _ => !matches!(item, Value::Cell(_) | Value::None | Value::Enum(..) | Value::Device(_)),
            }
        }
        let object = match value {
            Value::None => return vec![text("None"), text("None")],
            Value::Tuple(items, _) if items.iter().all(is_plain) => {
                return self.b.item_arg(value).into_iter().collect();
            }
            Value::Cell(id) => match self.b.heap.cells[*id].clone() {
                Cell::List(items) if items.iter().all(is_plain) => {
                    self.b.run_time_list(&items).map(|(var, _)| var).ok()
                }
                Cell::Dict(entries) if entries.iter().all(|(_, value)| is_plain(value)) => {
                    self.b.run_time_dict(&entries).map(|(var, _)| var).ok()
                }
                Cell::Object(object) => return vec![text(&self.object_name(*id, &object))],
                Cell::RunTimeList(RunTimeList { var, .. }) | Cell::RunTimeDict(RunTimeDict { var, .. }) => Some(var),
                _ => None,
            },
            _ => None,
        };
        match object {
            Some(var) => vec![Arg::Scalar(Operand::Var(var))],
            None => self.print_arg(value).into_iter().collect(),
        }
    }
}

/// The name under which an object of the archive is told.
pub(crate) fn archived_object_name(class: &str, path: &str) -> String {
    format!("<{class} {path}>")
}

/// The name of a value in the source; a name that is set again is numbered there: `y.5`.
fn source_name(graph: &Graph, value: ValueId) -> Option<&str> {
    let name = graph.values[value].name.as_deref()?.split('.').next()?;
    Some(name).filter(|name| !name.is_empty())
}

/// The places of a graph's nodes, and whether a traced program tells of a statement there.
pub(crate) fn places(graph: &Graph) -> impl Iterator<Item = (&Span, bool)> {
    let nodes = graph.nodes_in_order().into_iter().map(|(_, id)| &graph.nodes[id]);
    nodes.filter_map(|node| node.span.as_ref().map(|span| (span, statement_of(node).is_some())))
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
