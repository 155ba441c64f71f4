//! Nodes without effects whose operands are constants become constants; conditions that are known choose their branch, and
//! loops that run no round vanish.
//!
//! Only values without identity are computed (numbers, text, tuples of them) and, with [`Options::lists`], lists of numbers
//! that nothing changes; never tensors. Uses the operators' own definitions, see [`evaluate`](super::evaluate). Dead nodes
//! are left for [`eliminate_dead_code`](super::eliminate_dead_code).

use super::{Changed, edit, evaluate};
use crate::ir::{BlockId, Graph, NodeId, ValueDef, ValueId, first_uses};
use crate::ops::effects::{self, Writes};
use crate::types::{IValue, Type};
use std::collections::{HashMap, HashSet};

/// What to fold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Whether literal lists of numbers become constants.
    pub lists: bool,
}

/// Folds constants.
pub fn run(graph: &mut Graph, options: Options) -> Changed {
    let used = first_uses(graph).into_keys().collect();
    let top = graph.blocks[graph.top].nodes.iter().copied().collect();
    let mut folder = Folder { options, writes: Writes::of(graph), used, top, new: HashMap::new(), changed: false };
    folder.block(graph, graph.top);
    edit::substitute(graph, &folder.new);
    folder.changed
}

struct Folder {
    options: Options,
    writes: Writes,
    /// Values that anything uses.
    used: HashSet<ValueId>,
    /// Nodes of the top block.
    top: HashSet<NodeId>,
    /// Outputs of removed nodes.
    new: HashMap<ValueId, ValueId>,
    changed: bool,
}

/// What an output is known to be.
enum Known {
    Value(ValueId),
    /// Another constant like this one.
    Copy(ValueId),
}

impl Folder {
    fn block(&mut self, graph: &mut Graph, block: BlockId) {
        let mut nodes = Vec::new();
        let mut pending: Vec<NodeId> = graph.blocks[block].nodes.iter().rev().copied().collect();
        while let Some(id) = pending.pop() {
            for input in &mut graph.nodes[id].inputs {
                while let Some(&other) = self.new.get(input) {
                    *input = other;
                }
            }
            if let Some((body, outputs)) = self.chosen(graph, id) {
                let old = graph.nodes[id].outputs.clone();
                self.new.extend(old.into_iter().zip(outputs));
                pending.extend(body.into_iter().rev());
                self.changed = true;
                continue;
            }
            for inner in graph.nodes[id].blocks.clone() {
                self.block(graph, inner);
            }
            for (old, value) in self.repeated(graph, id) {
                let value = match value {
                    Known::Value(value) => value,
                    Known::Copy(value) => {
                        let Some(constant) = graph.constant(value) else { continue };
                        let ty = graph.values[value].ty.clone();
                        let constant = edit::create_constant(graph, constant, ty, None);
                        nodes.push(constant);
                        graph.nodes[constant].outputs[0]
                    }
                };
                self.new.insert(old, value);
                self.changed = true;
            }
            let Some(values) = self.values(graph, id) else {
                nodes.push(id);
                continue;
            };
            for (value, output) in values.into_iter().zip(graph.nodes[id].outputs.clone()) {
                let (ty, name) = (type_of(&value, &graph.values[output].ty), graph.values[output].name.clone());
                let constant = edit::create_constant(graph, value, ty, name);
                self.new.insert(output, graph.nodes[constant].outputs[0]);
                nodes.push(constant);
            }
            self.changed = true;
        }
        graph.blocks[block].nodes = nodes;
    }

    /// Outputs that are known though the node stays: both branches give the same, or no round of a loop changes it. An
    /// output that nobody uses is as good as removed.
    fn repeated(&self, graph: &Graph, id: NodeId) -> Vec<(ValueId, Known)> {
        let node = &graph.nodes[id];
        let resolve = |value: ValueId| self.resolve(value);
        let is_known = |value: ValueId| self.new.contains_key(&value);
        let mut found = Vec::new();
        match &*node.op.name {
            "prim::If" => {
                let returns = |at: usize| &graph.blocks[node.blocks[at]].returns;
                for ((&output, &a), &b) in node.outputs.iter().zip(returns(0)).zip(returns(1)) {
                    let (a, b) = (resolve(a), resolve(b));
                    if is_known(output) || !self.used.contains(&output) {
                        continue;
                    }
                    let known = match (graph.constant(a), graph.constant(b)) {
                        _ if a == b => Known::Value(a),
                        (Some(x), Some(y)) if edit::is_same_constant(&x, &y) && self.is_outside(graph, a) => {
                            Known::Value(a)
                        }
                        // Written in the branches, where nobody else sees them.
                        (Some(x), Some(y)) if edit::is_same_constant(&x, &y) && edit::plain_type(&x).is_some() => {
                            Known::Copy(a)
                        }
                        _ => continue,
                    };
                    found.push((output, known));
                }
            }
            "prim::Loop" => {
                let body = &graph.blocks[node.blocks[0]];
                for (at, &output) in node.outputs.iter().enumerate() {
                    let (param, input) = (body.params[at + 1], resolve(node.inputs[at + 2]));
                    if resolve(body.returns[at + 1]) == param {
                        let of = [output, param];
                        let new = of.into_iter().filter(|&v| !is_known(v) && self.used.contains(&v));
                        found.extend(new.map(|value| (value, Known::Value(input))));
                    }
                }
            }
            _ => {}
        }
        found
    }

    /// Whether a constant stands at the top of the graph, where everything sees it.
    fn is_outside(&self, graph: &Graph, value: ValueId) -> bool {
        matches!(graph.values[value].def, ValueDef::Output(node, _) if self.top.contains(&node))
    }

    fn resolve(&self, mut value: ValueId) -> ValueId {
        while let Some(&other) = self.new.get(&value) {
            value = other;
        }
        value
    }

    /// What takes the place of a node whose condition is known: the nodes of the branch, and its results.
    fn chosen(&self, graph: &Graph, id: NodeId) -> Option<(Vec<NodeId>, Vec<ValueId>)> {
        let node = &graph.nodes[id];
        let constant = |at: usize| graph.constant(node.inputs[at]);
        let resolve = |value: &ValueId| self.resolve(*value);
        match &*node.op.name {
            "prim::If" => {
                let Some(IValue::Bool(cond)) = constant(0) else { return None };
                let branch = &graph.blocks[node.blocks[usize::from(!cond)]];
                Some((branch.nodes.clone(), branch.returns.iter().map(resolve).collect()))
            }
            "prim::Loop" => {
                let is_empty = matches!(constant(0), Some(IValue::Int(n)) if n <= 0)
                    || matches!(constant(1), Some(IValue::Bool(false)));
                is_empty.then(|| (Vec::new(), node.inputs[2..].to_vec()))
            }
            _ => None,
        }
    }

    /// The values of the outputs of a node, where they are known.
    fn values(&self, graph: &Graph, id: NodeId) -> Option<Vec<IValue>> {
        let node = &graph.nodes[id];
        let is_candidate = !node.outputs.is_empty()
            && node.blocks.is_empty()
            && !node.is("prim::Constant")
            // Takes any number of operands, so no schema says what it does.
            && !node.is("aten::format")
            && !effects::is_kept(node)
            && effects::is_deterministic(node)
            && node.inputs.iter().all(|&input| graph.constant(input).is_some());
        if !is_candidate {
            return None;
        }
        let ty = &graph.values[node.outputs[0]].ty;
        if let (Type::List(of), "prim::ListConstruct") = (ty, &*node.op.name) {
            let is_plain = matches!(**of, Type::Int | Type::Float | Type::Bool | Type::Str);
            if !self.options.lists || !is_plain || self.writes.containers {
                return None;
            }
            let items: Option<Vec<_>> = node.inputs.iter().map(|&input| graph.constant(input)).collect();
            return Some(vec![IValue::List(Some((**of).clone()), items?.into())]);
        }
        // Objects and tensors among the operands may be written to elsewhere.
        let is_stable = |&input: &ValueId| !self.writes.touch(&graph.values[input].ty);
        let is_plain = |output: &ValueId| {
            let ty = &graph.values[*output].ty;
            ty.is_immutable() && !matches!(ty, Type::Function)
        };
        if !node.outputs.iter().all(is_plain) || !node.inputs.iter().all(is_stable) {
            return None;
        }
        let values = evaluate::node(graph, id)?;
        values.iter().all(|value| edit::plain_type(value).is_some()).then_some(values)
    }
}

/// The type of a constant in place of a value of this type: `None` keeps what else the value might have been.
fn type_of(value: &IValue, ty: &Type) -> Type {
    match (value, ty) {
        (IValue::Int(_) | IValue::Float(_) | IValue::Bool(_) | IValue::Str(_), Type::Optional(_) | Type::Union(_)) => {
            value.ty()
        }
        (IValue::Tuple(items), Type::Tuple(types)) if items.len() == types.len() => {
            let item = |(item, ty): (&IValue, &Type)| {
                if matches!(item, IValue::None) { Type::None } else { type_of(item, ty) }
            };
            Type::Tuple(items.iter().zip(types.iter()).map(item).collect())
        }
        _ => ty.clone(),
    }
}
