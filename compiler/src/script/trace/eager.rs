//! The values of a trace: one flat graph of all that ran, evaluated only where Python asks for a number.
//!
//! Types and extents of every result are known without running anything: the operator is lowered by itself. Elements are
//! wanted seldom, by conditions and conversions; then the graph up to there runs on the example inputs, so views, writes
//! and random numbers come out as they would one by one.

use crate::diag::Result;
use crate::ir::{Argument, Attr, Class, ClassKind, Function, Graph, Module, OpName, ValueDef, ValueId};
use crate::ops::schema;
use crate::script::Machine;
use crate::types::{IValue, Object, Type};
use aot_runtime::random::Generator;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The class of the module whose method is run.
const CLASS: &str = "__torch__.Tracing";

/// Operators that draw random numbers without taking a generator.
const RANDOM: [&str; 12] = [
    "aten::rand",
    "aten::randn",
    "aten::randint",
    "aten::randperm",
    "aten::rand_like",
    "aten::randn_like",
    "aten::randint_like",
    "aten::dropout",
    "aten::dropout_",
    "aten::alpha_dropout",
    "aten::feature_dropout",
    "aten::rrelu",
];

/// What ran under trace.
#[derive(Debug)]
pub(crate) struct Eager {
    graph: Graph,
    /// Whether nothing was written to and no random number drawn, so that what a value does not need may be left out.
    is_pure: bool,
    /// The generator as it was before.
    generator: Generator,
    /// Types that were inferred, by the text of what they are the results of: loops repeat themselves.
    inferred: HashMap<String, Vec<Type>>,
}

impl Eager {
    pub(crate) fn new(generator: Generator) -> Self {
        Self { graph: Graph::new(), is_pure: true, generator, inferred: HashMap::new() }
    }

    /// A constant.
    pub(crate) fn constant(&mut self, value: IValue, ty: Type) -> ValueId {
        self.graph.append_constant(self.graph.top, value, ty, None)
    }

    /// Tells what was found out of a value.
    pub(crate) fn set_type(&mut self, value: ValueId, ty: Type) {
        self.graph.values[value].ty = ty;
    }

    /// A node whose results have these types.
    pub(crate) fn node(
        &mut self,
        op: OpName,
        attrs: Vec<(&'static str, Attr)>,
        inputs: Vec<ValueId>,
        types: &[Type],
    ) -> Vec<ValueId> {
        let is_write =
            |schema: &schema::Schema| schema.args.iter().any(|arg| arg.alias.as_ref().is_some_and(|a| a.is_write));
        let is_random = RANDOM.contains(&&*op.name);
        let schema = schema::schema(&op);
        self.is_pure &=
            !is_random && schema.is_none_or(|schema| !is_write(schema) && !schema.text.contains("Generator"));
        self.is_pure &= !matches!(&*op.name, "prim::CallFunction" | "prim::CallMethod");
        let node = self.graph.append(self.graph.top, op, inputs, types, None);
        self.graph.nodes[node].attrs = attrs;
        self.graph.nodes[node].outputs.clone()
    }

    /// The types that results of a node would have, with extents; a list of tensors is a tuple of them.
    pub(crate) fn infer(
        &mut self,
        machine: &Machine,
        around: &Module,
        op: &OpName,
        attrs: &[(&'static str, Attr)],
        inputs: &[ValueId],
        types: &[Type],
    ) -> Result<Vec<Type>> {
        let mut copy = Copy { from: &self.graph, graph: Graph::new(), known: HashMap::new(), params: Vec::new() };
        let top = copy.graph.top;
        copy.graph.add_param(top, Type::Class(CLASS.into()), Some("self".into()));
        let inputs = inputs.iter().map(|&input| copy.value(input)).collect();
        let Copy { mut graph, params, .. } = copy;
        let node = graph.append(top, op.clone(), inputs, types, None);
        graph.nodes[node].attrs = attrs.to_vec();
        let outputs = graph.nodes[node].outputs.clone();
        returning(&mut graph, outputs);
        let key = format!("{op} {graph}");
        if let Some(known) = self.inferred.get(&key) {
            return Ok(known.clone());
        }
        let made = match (machine.infer)(&module_of(graph, around), &params)? {
            Type::Tuple(items) if types.len() != 1 => items.to_vec(),
            other => vec![other],
        };
        self.inferred.insert(key, made.clone());
        Ok(made)
    }

    /// The value, computed.
    pub(crate) fn value(&self, machine: &Machine, around: &Module, value: ValueId) -> Result<IValue> {
        let mut graph = self.graph.clone();
        let top = graph.top;
        if self.is_pure {
            let mut wanted: HashSet<ValueId> = HashSet::from([value]);
            let mut kept = Vec::new();
            for &node in graph.blocks[top].nodes.iter().rev() {
                let node_ref = &graph.nodes[node];
                if node_ref.outputs.iter().any(|output| wanted.contains(output)) {
                    wanted.extend(&node_ref.inputs);
                    kept.push(node);
                }
            }
            kept.reverse();
            graph.blocks[top].nodes = kept;
        }
        graph.add_param(top, Type::Class(CLASS.into()), Some("self".into()));
        graph.blocks[top].returns = vec![value];
        (machine.evaluate)(&module_of(graph, around), &[], &mut self.generator.clone())
    }
}

/// A part of a graph as the graph of a function whose arguments are the part's tensors.
struct Copy<'a> {
    from: &'a Graph,
    graph: Graph,
    known: HashMap<ValueId, ValueId>,
    params: Vec<Type>,
}

impl Copy<'_> {
    fn value(&mut self, value: ValueId) -> ValueId {
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        let ty = self.from.values[value].ty.clone();
        let top = self.graph.top;
        let made = match self.from.values[value].def {
            ValueDef::Output(node, 0) if !matches!(ty, Type::Tensor(_)) => {
                let node = &self.from.nodes[node];
                let inputs = node.inputs.iter().map(|&input| self.value(input)).collect();
                let made = self.graph.append(top, node.op.clone(), inputs, &[ty], None);
                self.graph.nodes[made].attrs.clone_from(&node.attrs);
                self.graph.nodes[made].outputs[0]
            }
            _ => {
                self.params.push(ty.clone());
                self.graph.add_param(top, ty, None)
            }
        };
        self.known.insert(value, made);
        made
    }
}

/// Ends the graph with these values, several as a tuple.
fn returning(graph: &mut Graph, values: Vec<ValueId>) {
    let top = graph.top;
    let returned = match values[..] {
        [only] => only,
        _ => {
            let ty = Type::Tuple(values.iter().map(|&value| graph.values[value].ty.clone()).collect());
            let node = graph.append(top, OpName::new("prim::TupleConstruct"), values, &[ty], None);
            graph.nodes[node].outputs[0]
        }
    };
    graph.blocks[top].returns = vec![returned];
}

/// The graph as `forward` of a module without attributes, among the functions and classes it may call.
fn module_of(graph: Graph, around: &Module) -> Module {
    let class = Class { methods: vec!["forward".into()], ..Class::new(CLASS.into(), ClassKind::Module) };
    let name: Arc<str> = format!("{CLASS}.forward").into();
    let argument = |(at, &value): (usize, &ValueId)| Argument {
        name: if at == 0 { "self".into() } else { format!("x{at}").into() },
        ty: graph.values[value].ty.clone(),
        default: None,
    };
    let params = graph.blocks[graph.top].params.iter().enumerate().map(argument).collect();
    let result = graph.blocks[graph.top].returns.first().map_or(Type::None, |&value| graph.values[value].ty.clone());
    let function = Function { name: Arc::clone(&name), params, result, graph, span: None, is_traced: false };
    let mut module = around.clone();
    module.classes.insert(CLASS.into(), class);
    module.functions.insert(name, function);
    module.root = Arc::new(Object { class: CLASS.into(), attrs: IndexMap::new() });
    module
}
