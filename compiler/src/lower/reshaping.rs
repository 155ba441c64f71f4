//! Names for tensors that change their shape in place (`ops::reshaping`).
//!
//! The walk gives each name one value, but `x.unsqueeze_(0)` changes what `x` and every other name of that tensor stand for. Here
//! the graph gets a new name for the tensor after each such operator, which all later uses take; branches and loops hand it on like
//! anything they set. The tensor's names must be known for that: it was made in this graph, and up to its last change nothing was
//! given it that could hand it out again. Such nodes get a mark; others are refused where the shape does change.
//!
//! ```text
//! %y = aten::unsqueeze_(%x, %0)        %y = aten::unsqueeze_[renames](%x, %0)
//! %z = aten::relu(%x)             ->   %z = aten::relu(%y)
//! ```

use super::walk::Lowerer;
use crate::ir::{Attr, BlockId, Graph, Node, NodeId, ValueDef, ValueId};
use crate::ops::reshaping::{Names, reshaped};
use crate::ops::schema;
use crate::ops::value::Value;
use crate::types::Type;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The mark of a node whose result is the name of the reshaped tensor.
const MARK: &str = "renames";

/// Operators whose result may be their argument itself.
const MAY_GIVE_ARGUMENT: &[&str] = &[
    "aten::contiguous",
    "aten::to",
    "aten::cpu",
    "aten::type_as",
    "aten::flatten",
    "aten::reshape",
    "aten::dropout",
    "aten::feature_dropout",
    "aten::alpha_dropout",
    "aten::feature_alpha_dropout",
    "aten::conj",
    "aten::real",
    "aten::positive",
    "aten::resolve_conj",
    "aten::resolve_neg",
    "aten::atleast_1d",
    "aten::atleast_2d",
    "aten::atleast_3d",
    "aten::as_tensor",
    "aten::sum_to_size",
    "aten::pin_memory",
    "aten::to_dense",
    "aten::lift",
    "aten::lift_fresh",
    "aten::_cast_Byte",
    "aten::_cast_Char",
    "aten::_cast_Double",
    "aten::_cast_Float",
    "aten::_cast_Half",
    "aten::_cast_Int",
    "aten::_cast_Long",
    "aten::_cast_Short",
];

/// Nodes whose result is their first input under another type.
const CASTS: &[&str] = &["prim::unchecked_cast", "prim::unchecked_unwrap_optional", "aten::_unwrap_optional"];

impl Lowerer<'_, '_> {
    /// What the names of the tensor are that this node may give another shape.
    pub(super) fn names_after(&self, act: usize, node: &Node) -> Names {
        if node.attr(MARK).is_none() {
            return Names::Unknown;
        }
        let ValueDef::Output(id, _) = self.graph(act).values[node.outputs[0]].def else { return Names::Unknown };
        let is_alone = reshaped(node).into_iter().all(|(input, _)| match self.known(act, node.inputs[input]) {
            Some(Value::Tensor(t)) => !self.has_other_names(act, id, t.storage, &self.b.heap),
            _ => false,
        });
        if is_alone { Names::NewAlone } else { Names::New }
    }
}

/// The graph with new names for tensors that change their shape, where all their names are known.
pub(super) fn renamed(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let order = graph.nodes_in_order();
    if order.iter().all(|(_, id)| reshaped(&graph.nodes[*id]).is_empty()) {
        return graph;
    }
    let objects = Objects::of(&graph, &order);
    let mut renaming = Renaming { objects: &objects, graph: &mut graph };
    let top = renaming.graph.top;
    renaming.block(top, &mut HashMap::new());
    graph
}

/// Which names are surely the same tensor, and which tensors change their shape and have no names but these.
struct Objects {
    /// The first name of a tensor that has several.
    first: HashMap<ValueId, ValueId>,
    /// The tensors that get new names, by their first name.
    renamed: BTreeSet<ValueId>,
    /// For each node with blocks, the tensors from before it that change within.
    changed_within: HashMap<NodeId, BTreeSet<ValueId>>,
}

impl Objects {
    fn of(graph: &Graph, order: &[(BlockId, NodeId)]) -> Self {
        let mut objects = Self { first: HashMap::new(), renamed: BTreeSet::new(), changed_within: HashMap::new() };
        let mut changes: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for (at, (_, id)) in order.iter().enumerate() {
            let node = &graph.nodes[*id];
            for (input, result) in reshaped(node) {
                let first = objects.first(node.inputs[input]);
                changes.entry(first).or_default().push(at);
                objects.first.insert(node.outputs[result], first);
            }
            if let Some(input) = same_tensor(node) {
                let first = objects.first(input);
                objects.first.insert(node.outputs[0], first);
            }
        }
        let uses = Uses::of(graph, order, &objects);
        for (&tensor, changes) in &changes {
            if is_made(graph, tensor) && !uses.may_have_other_names(tensor, changes) {
                objects.renamed.insert(tensor);
            }
        }
        for (_, id) in order {
            let within: BTreeSet<NodeId> = graph.nodes[*id]
                .blocks
                .iter()
                .flat_map(|block| graph.nodes_within(*block))
                .map(|(_, inner)| inner)
                .collect();
            let is_outer = |tensor: &&ValueId| match graph.values[**tensor].def {
                ValueDef::Output(node, _) => !within.contains(&node),
                ValueDef::Param(..) => false,
            };
            let changes_here = |tensor: &&ValueId| changes[*tensor].iter().any(|at| within.contains(&order[*at].1));
            let changed = objects.renamed.iter().filter(is_outer).filter(changes_here).copied().collect();
            objects.changed_within.insert(*id, changed);
        }
        objects
    }

    fn first(&self, value: ValueId) -> ValueId {
        self.first.get(&value).copied().unwrap_or(value)
    }
}

/// The input that a node gives back as its only output.
fn same_tensor(node: &Node) -> Option<ValueId> {
    let &[_] = &node.outputs[..] else { return None };
    let &input = node.inputs.first()?;
    if CASTS.contains(&&*node.op.name) {
        return Some(input);
    }
    let schema = schema::schema(&node.op)?;
    let (arg, result) = (schema.args.first()?.alias.as_ref()?, schema.returns.first()?.alias.as_ref()?);
    (arg.is_write && result.is_write && arg.set == result.set && !arg.is_on_elements).then_some(input)
}

/// Whether a value is a tensor that an operator of this graph makes.
fn is_made(graph: &Graph, value: ValueId) -> bool {
    let ValueDef::Output(node, _) = graph.values[value].def else { return false };
    let node = &graph.nodes[node];
    let Some(schema) = schema::schema(&node.op) else { return false };
    let is_tensor = matches!(graph.values[value].ty, Type::Tensor(_));
    let of_container = schema.args.first().is_some_and(|arg| matches!(arg.ty, Type::List(_) | Type::Dict(..)));
    // `cat` and its kin take a list, but give no item of it.
    let is_item = of_container && schema.returns.iter().any(|r| r.alias.is_some() || !matches!(r.ty, Type::Tensor(_)));
    is_tensor && !is_item && node.op.name.starts_with("aten::") && !MAY_GIVE_ARGUMENT.contains(&&*node.op.name)
}

/// Where tensors are put that could be read from there again.
struct Uses {
    /// For each tensor, from where to where in the order of nodes something else holds it.
    held: HashMap<ValueId, Vec<(usize, usize)>>,
    /// The positions of the first and last node of each loop.
    loops: Vec<(usize, usize)>,
    /// The positions of the nodes that make values.
    made: HashMap<ValueId, usize>,
}

impl Uses {
    fn of(graph: &Graph, order: &[(BlockId, NodeId)], objects: &Objects) -> Self {
        let position: HashMap<NodeId, usize> = order.iter().enumerate().map(|(at, (_, id))| (*id, at)).collect();
        let mut uses = Self { held: HashMap::new(), loops: Vec::new(), made: HashMap::new() };
        for (at, (_, id)) in order.iter().enumerate() {
            let node = &graph.nodes[*id];
            node.outputs.iter().for_each(|output| _ = uses.made.insert(*output, at));
            let within = node.blocks.iter().flat_map(|block| graph.nodes_within(*block));
            let last = within.map(|(_, inner)| position[&inner]).max().unwrap_or(at);
            for value in node.blocks.iter().flat_map(|block| &graph.blocks[*block].returns) {
                uses.held.entry(objects.first(*value)).or_default().push((last, usize::MAX));
            }
            if node.is("prim::Loop") {
                uses.loops.push((at, last));
            }
            if let Some(until) = holds_until(graph, order, node) {
                for input in &node.inputs {
                    uses.held.entry(objects.first(*input)).or_default().push((at, until));
                }
            }
        }
        uses
    }

    /// Whether something may still hold a tensor when one of these nodes changes it.
    fn may_have_other_names(&self, tensor: ValueId, changes: &[usize]) -> bool {
        let made = self.made.get(&tensor).copied().unwrap_or(0);
        let meets = |(from, until): (usize, usize), change: usize| {
            let again = |(first, last): &(usize, usize)| {
                let rounds = *first..=*last;
                until == usize::MAX && made < *first && rounds.contains(&from) && rounds.contains(&change)
            };
            from < change && change < until || self.loops.iter().any(again)
        };
        let held = self.held.get(&tensor).map_or(&[][..], Vec::as_slice);
        held.iter().any(|held| changes.iter().any(|change| meets(*held, *change)))
    }
}

/// Up to where what a node gives, or something else, may hold the node's inputs; `None` if nothing does.
fn holds_until(graph: &Graph, order: &[(BlockId, NodeId)], node: &Node) -> Option<usize> {
    let name = &*node.op.name;
    if CASTS.contains(&name) {
        return None;
    }
    if matches!(name, "prim::ListConstruct" | "prim::TupleConstruct") {
        // A list that only operators read which give none of its items is gone when the last of them has run.
        let list = node.outputs[0];
        let is_returned = graph.blocks.iter().any(|block| block.returns.contains(&list));
        let readers = || order.iter().enumerate().filter(|(_, (_, id))| graph.nodes[*id].inputs.contains(&list));
        let only_reads = |node: &Node| {
            let schema = schema::schema(&node.op);
            let takes_part = |arg: &schema::SchemaArg| arg.alias.is_some() && matches!(arg.ty, Type::List(_));
            schema.is_some_and(|s| !s.args.iter().any(takes_part) && s.returns.iter().all(|r| r.alias.is_none()))
                && node.op.name.starts_with("aten::")
                && schema.is_some_and(|s| s.returns.iter().all(|r| matches!(r.ty, Type::Tensor(_))))
        };
        if is_returned || !readers().all(|(_, (_, id))| only_reads(&graph.nodes[*id])) {
            return Some(usize::MAX);
        }
        return Some(readers().map(|(at, _)| at).max().unwrap_or(0));
    }
    if name.starts_with("prim::") {
        let is_plain = matches!(
            name,
            "prim::If" | "prim::Print" | "prim::isinstance" | "prim::device" | "prim::dtype" | "prim::layout"
        ) || schema::schema(&node.op).is_some_and(|s| s.returns.iter().all(|r| r.alias.is_none()));
        return (!is_plain).then_some(usize::MAX);
    }
    let Some(schema) = schema::schema(&node.op) else { return Some(usize::MAX) };
    let keeps = |arg: &schema::SchemaArg| arg.alias.as_ref().is_some_and(|alias| alias.becomes_wildcard);
    // An item that a list takes has the list's type variable for its type.
    let stores = schema.args.iter().any(keeps)
        || matches!(name, "aten::append" | "aten::insert" | "aten::_set_item" | "aten::setdefault" | "aten::extend");
    (stores || MAY_GIVE_ARGUMENT.contains(&name)).then_some(usize::MAX)
}

/// Gives the tensors their new names.
struct Renaming<'g> {
    graph: &'g mut Graph,
    objects: &'g Objects,
}

impl Renaming<'_> {
    /// Renames in a block, given the present names of tensors, and leaves those at its end.
    fn block(&mut self, block: BlockId, names: &mut HashMap<ValueId, ValueId>) {
        for id in self.graph.blocks[block].nodes.clone() {
            let mut inputs = std::mem::take(&mut self.graph.nodes[id].inputs);
            for input in &mut inputs {
                *input = self.present(*input, names);
            }
            self.graph.nodes[id].inputs = inputs;
            let node = &self.graph.nodes[id];
            let changes = reshaped(node);
            let first = |(_, result): &(usize, usize)| self.objects.first(node.outputs[*result]);
            if !changes.is_empty() && changes.iter().all(|change| self.objects.renamed.contains(&first(change))) {
                for change in &changes {
                    names.insert(first(change), node.outputs[change.1]);
                }
                self.graph.nodes[id].attrs.push((MARK, Attr::Int(1)));
            }
            if !self.graph.nodes[id].blocks.is_empty() {
                self.nested(id, names);
            }
        }
        let mut returns = std::mem::take(&mut self.graph.blocks[block].returns);
        for value in &mut returns {
            *value = self.present(*value, names);
        }
        self.graph.blocks[block].returns = returns;
    }

    /// A branch or loop hands on the names that change in it.
    fn nested(&mut self, id: NodeId, names: &mut HashMap<ValueId, ValueId>) {
        let changed: Vec<ValueId> = self.objects.changed_within[&id].iter().copied().collect();
        let is_loop = self.graph.nodes[id].is("prim::Loop");
        for block in self.graph.nodes[id].blocks.clone() {
            let mut inside = names.clone();
            for tensor in changed.iter().filter(|_| is_loop) {
                let ty = self.graph.values[*tensor].ty.clone();
                let param = self.graph.add_param(block, ty, None);
                inside.insert(*tensor, param);
            }
            self.block(block, &mut inside);
            for tensor in &changed {
                let last = self.present(*tensor, &inside);
                self.graph.blocks[block].returns.push(last);
            }
        }
        for tensor in changed {
            let (ty, before) = (self.graph.values[tensor].ty.clone(), self.present(tensor, names));
            if is_loop {
                self.graph.nodes[id].inputs.push(before);
            }
            let after = self.graph.add_output(id, ty);
            names.insert(tensor, after);
        }
    }

    fn present(&self, value: ValueId, names: &HashMap<ValueId, ValueId>) -> ValueId {
        let first = self.objects.first(value);
        if !self.objects.renamed.contains(&first) {
            return value;
        }
        names.get(&first).copied().unwrap_or(first)
    }
}
