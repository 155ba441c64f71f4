//! What a node does besides giving its outputs, from its operator's schema.
//!
//! Graphs that were read from text have no overloads; then every overload of the name with as many arguments counts.

use super::schema::{self, Schema};
use crate::ir::{Graph, Node, ValueId};
use crate::types::Type;

/// Nodes that are kept whether or not their outputs are used.
const KEPT: &[&str] = &[
    "prim::Print",
    "prim::RaiseException",
    "prim::PythonOp",
    "prim::SetAttr",
    "prim::fork",
    "prim::awaitable",
    "prim::awaitable_wait",
    "prim::Enter",
    "prim::Exit",
    "prim::CallMethod",
    "prim::CallFunction",
    "aten::warn",
    "aten::wait",
    "aten::manual_seed",
    "aten::save",
    "aten::backward",
    "aten::grad",
    "prim::AddStatValue",
    "prim::TimePoint",
];

/// Operators that draw random numbers: not equal to another of the same operands.
const RANDOM: &[&str] = &[
    "aten::rand",
    "aten::rand_like",
    "aten::randn",
    "aten::randn_like",
    "aten::randint",
    "aten::randint_like",
    "aten::randperm",
    "aten::normal",
    "aten::bernoulli",
    "aten::multinomial",
    "aten::poisson",
    "aten::binomial",
    "aten::dropout",
    "aten::feature_dropout",
    "aten::alpha_dropout",
    "aten::feature_alpha_dropout",
    "aten::native_dropout",
    "aten::rrelu",
    "aten::rrelu_with_noise",
    "aten::gumbel_softmax",
    "aten::seed",
    "aten::initial_seed",
    "aten::empty",
    "aten::empty_like",
];

/// The schemas that a node may be of.
fn schemas(node: &Node) -> Vec<&'static Schema> {
    let fits = |s: &&Schema| s.is_vararg || s.args.len() == node.inputs.len();
    match schema::schema(&node.op) {
        Some(schema) if !node.op.overload.is_empty() => vec![schema],
        _ => schema::overloads(&node.op.name).iter().filter(fits).collect(),
    }
}

/// The inputs that a node writes through.
pub fn written(node: &Node) -> Vec<ValueId> {
    if node.is("prim::SetAttr") {
        return node.inputs.first().into_iter().copied().collect();
    }
    let mut out: Vec<ValueId> = Vec::new();
    for schema in schemas(node) {
        for (arg, &input) in schema.args.iter().zip(&node.inputs) {
            if arg.alias.as_ref().is_some_and(|alias| alias.is_write) && !out.contains(&input) {
                out.push(input);
            }
        }
    }
    out
}

/// Whether a node must run even if nobody uses what it gives. Its blocks are not looked into.
pub fn is_kept(node: &Node) -> bool {
    let is_known = node.is("prim::If") || node.is("prim::Loop") || node.op.name.starts_with("prim::");
    let is_unknown = !is_known && schema::overloads(&node.op.name).is_empty();
    KEPT.contains(&&*node.op.name) || is_unknown || !written(node).is_empty()
}

/// The inputs that a node writes through, if that is all there is to it besides its outputs.
pub fn only_written(node: &Node) -> Option<Vec<ValueId>> {
    let has_more = KEPT.contains(&&*node.op.name) || schema::overloads(&node.op.name).is_empty();
    (!has_more).then(|| written(node))
}

/// Whether a node gives the same for the same inputs.
pub fn is_deterministic(node: &Node) -> bool {
    !RANDOM.contains(&&*node.op.name) && !node.is("prim::CreateObject") && !node.is("prim::Uninitialized")
}

/// The inputs whose memory (or identity) an output of a node may share.
pub fn shared(node: &Node) -> Vec<ValueId> {
    if node.op.name.starts_with("prim::") {
        // Containers, casts and their parts.
        return node.inputs.clone();
    }
    let mut out = Vec::new();
    for schema in schemas(node) {
        for (arg, &input) in schema.args.iter().zip(&node.inputs) {
            if arg.alias.is_some() && !out.contains(&input) {
                out.push(input);
            }
        }
    }
    out
}

/// Which kinds of values some node of a graph writes to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Writes {
    /// Contents of tensors.
    pub tensors: bool,
    /// Lists and dicts.
    pub containers: bool,
    /// Attributes of objects.
    pub objects: bool,
}

impl Writes {
    /// What the nodes of a graph write to.
    pub fn of(graph: &Graph) -> Self {
        let mut writes = Self::default();
        for (_, id) in graph.nodes_in_order() {
            let node = &graph.nodes[id];
            if matches!(&*node.op.name, "prim::CallMethod" | "prim::CallFunction" | "prim::fork") {
                return Self { tensors: true, containers: true, objects: true };
            }
            for value in written(node) {
                match &graph.values[value].ty {
                    Type::Tensor(_) => writes.tensors = true,
                    Type::Class(_) | Type::Interface(_) => writes.objects = true,
                    // Through a list of tensors, `_foreach_` operators write to the tensors.
                    Type::List(of) if matches!(**of, Type::Tensor(_)) => {
                        (writes.tensors, writes.containers) = (true, true);
                    }
                    _ => writes.containers = true,
                }
            }
        }
        writes
    }

    /// Whether a value of this type may change because of them.
    pub fn touch(self, ty: &Type) -> bool {
        if ty.is_immutable() {
            return false;
        }
        match ty {
            Type::Tensor(_) => self.tensors,
            Type::List(of) | Type::Optional(of) if matches!(ty, Type::Optional(_)) => self.touch(of),
            Type::List(of) => self.containers || self.touch(of),
            Type::Dict(_, of) => self.containers || self.touch(of),
            Type::Tuple(items) => items.iter().any(|item| self.touch(item)),
            _ => self.tensors || self.containers || self.objects,
        }
    }
}
