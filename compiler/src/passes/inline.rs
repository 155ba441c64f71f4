//! Calls of methods and functions are replaced by what they call, so that the graph has no calls left.
//!
//! In: any graph of a module. After: only calls that cannot be resolved (through an interface whose object is not known,
//! or recursive ones) are left. Chains of `prim::GetAttr` stay. Each callee is inlined once and copied as often as called.

use super::{Changed, edit};
use crate::ir::{Graph, Module, Node, ValueDef, ValueId};
use crate::types::{IValue, Object, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// Inlines every call of a graph of this module. Where the graph's first parameter is of the root's class, objects behind
/// interfaces are found through the root object.
pub fn run(graph: &mut Graph, module: &Module) -> Changed {
    run_prepared(graph, module, &|_| {})
}

/// Like [`run`]; what is called is prepared before it is copied.
pub fn run_prepared(graph: &mut Graph, module: &Module, prepare: &dyn Fn(&mut Graph)) -> Changed {
    let mut inliner = Inliner { module, prepare, done: HashMap::new(), active: Vec::new() };
    inliner.inline(graph, is_of_root(graph, module))
}

fn is_of_root(graph: &Graph, module: &Module) -> bool {
    let first = graph.blocks[graph.top].params.first();
    first.is_some_and(|&p| matches!(&graph.values[p].ty, Type::Class(class) if *class == module.root.class))
}

struct Inliner<'m> {
    module: &'m Module,
    /// What is done to a callee without calls.
    prepare: &'m dyn Fn(&mut Graph),
    /// Callees that call nothing any more.
    done: HashMap<Arc<str>, Arc<Graph>>,
    /// Callees whose inlining is in progress.
    active: Vec<Arc<str>>,
}

impl Inliner<'_> {
    fn inline(&mut self, graph: &mut Graph, is_of_root: bool) -> Changed {
        let (mut changed, mut new) = (false, HashMap::new());
        // Copies are free of calls except unresolved ones, so one round over the original nodes is enough; a second one
        // finds calls whose object only shows after the first (through interfaces).
        for (block, id) in graph.nodes_in_order() {
            let node = &graph.nodes[id];
            let Some(name) = self.callee(graph, node, is_of_root, &new) else { continue };
            let Some(callee) = self.inlined(&name) else { continue };
            let node = &graph.nodes[id];
            let skip = usize::from(node.is("prim::CallFunction"));
            let args: Vec<ValueId> = node.inputs[skip..].to_vec();
            if args.len() != callee.blocks[callee.top].params.len() {
                continue;
            }
            let (span, outputs) = (node.span.clone(), node.outputs.clone());
            let (nodes, returns) = edit::copy_body(graph, &callee, &args, span.as_ref());
            for (&output, &value) in outputs.iter().zip(&returns) {
                // The caller's name of a result wins, as it is the one people look for.
                if let (Some(name), ValueDef::Output(..)) = (&graph.values[output].name, graph.values[value].def) {
                    graph.values[value].name = Some(name.clone());
                }
                new.insert(output, value);
            }
            edit::replace_node(graph, block, id, nodes);
            changed = true;
        }
        edit::substitute(graph, &new);
        changed
    }

    /// The name of what a call node calls.
    fn callee(
        &self,
        graph: &Graph,
        node: &Node,
        is_of_root: bool,
        new: &HashMap<ValueId, ValueId>,
    ) -> Option<Arc<str>> {
        match &*node.op.name {
            "prim::CallFunction" => edit::producer(graph, *node.inputs.first()?)?.attr_name("name").cloned(),
            "prim::CallMethod" => {
                let method = node.attr_name("name")?;
                let mut object = *node.inputs.first()?;
                while let Some(&value) = new.get(&object) {
                    object = value;
                }
                let class = match &graph.values[object].ty {
                    Type::Class(class) => class.clone(),
                    _ if is_of_root => object_of(graph, object, &self.module.root)?.class.clone(),
                    _ => return None,
                };
                Some(format!("{class}.{method}").into())
            }
            _ => None,
        }
    }

    /// A function without calls.
    fn inlined(&mut self, name: &Arc<str>) -> Option<Arc<Graph>> {
        if let Some(done) = self.done.get(name) {
            return Some(done.clone());
        }
        if self.active.contains(name) {
            return None;
        }
        let mut graph = self.module.functions.get(name)?.graph.clone();
        self.active.push(name.clone());
        let is_of_root = is_of_root(&graph, self.module);
        self.inline(&mut graph, is_of_root);
        (self.prepare)(&mut graph);
        self.active.pop();
        let graph = Arc::new(graph);
        self.done.insert(name.clone(), graph.clone());
        Some(graph)
    }
}

/// The path of attributes from the graph's first parameter to a value.
pub fn path(graph: &Graph, value: ValueId) -> Option<Vec<Arc<str>>> {
    if graph.blocks[graph.top].params.first() == Some(&value) {
        return Some(Vec::new());
    }
    let node = edit::producer(graph, value).filter(|node| node.is("prim::GetAttr"))?;
    let mut path = path(graph, *node.inputs.first()?)?;
    path.push(node.attr_name("name")?.clone());
    Some(path)
}

/// The object of the root that a value stands for.
pub fn object_of(graph: &Graph, value: ValueId, root: &Arc<Object>) -> Option<Arc<Object>> {
    let mut object = root.clone();
    for name in path(graph, value)? {
        let Some(IValue::Object(next)) = object.attrs.get(&name) else { return None };
        object = next.clone();
    }
    Some(object)
}
