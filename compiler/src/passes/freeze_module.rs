//! Freezing of a whole module: methods that nothing calls from outside are gone, and so is every attribute whose value
//! stands in the methods that stay.
//!
//! In: a compiled module in eval mode. After: the root's class has `forward` and the preserved methods, as
//! [`pipeline::frozen`](super::pipeline::frozen) leaves them, and of the attributes those that these still read or write, and
//! the preserved ones.

use super::{inline, pipeline};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Graph, Module};
use crate::types::{IValue, Object};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

type Path = Vec<Arc<str>>;

/// Freezes; `preserved` names methods and attributes of the root that stay.
///
/// # Errors
/// User errors if the module is in training mode, or has none of a preserved name.
pub fn run(module: &Module, preserved: &[Arc<str>]) -> Result<Module> {
    let root = &module.root;
    let class = module.classes.get(&root.class).ok_or_else(|| Diagnostic::internal("the root has no class"))?;
    let mut methods: Vec<Arc<str>> = Vec::new();
    let mut kept: HashSet<Path> = HashSet::new();
    for name in [Arc::from("forward")].iter().chain(preserved) {
        if module.method(&root.class, name).is_some() {
            methods.push(Arc::clone(name));
        } else if class.attrs.contains_key(name) {
            kept.insert(vec![Arc::clone(name)]);
        } else if &**name != "forward" {
            return Err(Diagnostic::user(format!("Module does not have a method or attribute '{name}'")));
        }
    }
    let graphs = pipeline::frozen_methods(module, &methods)?;
    let mut calls = false;
    for graph in &graphs {
        calls |= used(graph, &mut kept);
    }
    let mut made = module.clone();
    if !calls {
        made.functions
            .retain(|name, _| methods.iter().any(|method| *name.as_ref() == *format!("{}.{method}", root.class)));
    }
    for (method, graph) in methods.iter().zip(graphs) {
        if let Some(function) = made.functions.get_mut(format!("{}.{method}", root.class).as_str()) {
            function.graph = graph;
        }
    }
    let mut names: HashMap<Arc<str>, BTreeSet<Arc<str>>> = HashMap::new();
    collect(root, &mut Vec::new(), &kept, &mut names);
    made.root = reduced(root, &names);
    for class in made.classes.values_mut() {
        let Some(names) = names.get(&class.name) else { continue };
        class.attrs.retain(|name, _| names.contains(name));
        class.parameters.retain(|name| names.contains(name));
        class.buffers.retain(|name| names.contains(name));
    }
    if let Some(class) = made.classes.get_mut(&root.class) {
        class.methods = methods;
    }
    if !calls {
        let used = classes_of(&made.root);
        made.classes.retain(|name, class| used.contains(name) || class.kind != crate::ir::ClassKind::Module);
    }
    Ok(made)
}

/// Adds the attributes that a graph reads or writes; says whether it calls anything.
fn used(graph: &Graph, kept: &mut HashSet<Path>) -> bool {
    let mut calls = false;
    for (_, id) in graph.nodes_in_order() {
        let node = &graph.nodes[id];
        match &*node.op.name {
            "prim::GetAttr" => kept.extend(inline::path(graph, node.outputs[0])),
            "prim::SetAttr" => {
                if let (Some(mut path), Some(name)) = (inline::path(graph, node.inputs[0]), node.attr_name("name")) {
                    path.push(Arc::clone(name));
                    kept.insert(path);
                }
            }
            "prim::CallMethod" | "prim::CallFunction" | "prim::fork" => calls = true,
            _ => {}
        }
    }
    calls
}

/// For each class, the attributes that stay of any of its objects.
fn collect(
    object: &Arc<Object>,
    at: &mut Path,
    kept: &HashSet<Path>,
    names: &mut HashMap<Arc<str>, BTreeSet<Arc<str>>>,
) {
    names.entry(Arc::clone(&object.class)).or_default();
    for (name, value) in &object.attrs {
        at.push(Arc::clone(name));
        if kept.iter().any(|path| path.starts_with(at)) {
            names.entry(Arc::clone(&object.class)).or_default().insert(Arc::clone(name));
            if let IValue::Object(inner) = value {
                collect(inner, at, kept, names);
            }
        }
        at.pop();
    }
}

/// The object with the attributes that stay of its class.
fn reduced(object: &Arc<Object>, names: &HashMap<Arc<str>, BTreeSet<Arc<str>>>) -> Arc<Object> {
    let is_kept = |name: &Arc<str>| names.get(&object.class).is_some_and(|names| names.contains(name));
    let value = |value: &IValue| match value {
        IValue::Object(inner) => IValue::Object(reduced(inner, names)),
        other => other.clone(),
    };
    let kept = object.attrs.iter().filter(|(name, _)| is_kept(name));
    let attrs = kept.map(|(name, own)| (Arc::clone(name), value(own))).collect();
    Arc::new(Object { class: Arc::clone(&object.class), attrs })
}

fn classes_of(object: &Arc<Object>) -> HashSet<Arc<str>> {
    let mut found = HashSet::from([Arc::clone(&object.class)]);
    for value in object.attrs.values() {
        if let IValue::Object(inner) = value {
            found.extend(classes_of(inner));
        }
    }
    found
}
