//! A compiled module as an archive: its classes and functions as text in the dialect of archives, beside the root object.
//!
//! ```text
//! ir::Module ─ code printer ─► sources, constants ─► Archive ─ archive::write ─► bytes that PyTorch loads
//! ```

use crate::archive::{self, Archive};
use crate::diag::Result;
use crate::ir::{self, Attr, Class, ClassKind, CodeOptions, Function, Graph, Module};
use crate::ops::facts::PrinterFacts;
use crate::source::Source;
use crate::types::{IValue, Object, TensorData};
use indexmap::IndexMap;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

/// The file-format version of what is written: today's operators, which no reader upgrades.
const VERSION: u64 = 10;

/// The module as an archive of this name, with the extra files of `from`.
///
/// # Errors
/// A user error for calls of functions that stay with Python.
pub fn archive(module: &Module, path: &Path, from: &Archive) -> Result<Archive> {
    let mut files: IndexMap<String, String> = IndexMap::new();
    let mut constants = Vec::new();
    let facts = PrinterFacts { module: Some(module) };
    for function in module.functions.values() {
        let mut nodes = function.graph.nodes_in_order().into_iter().map(|(_, id)| &function.graph.nodes[id]);
        if let Some(call) = nodes.find(|node| node.is("prim::PythonOp")) {
            return Err(ir::not_exportable(call));
        }
    }
    for class in module.classes.values() {
        if class.name.starts_with("__torch__.torch.classes.") {
            continue;
        }
        let text = class_text(module, class, &facts, &mut constants);
        files.entry(file_of(&class.name)).or_default().push_str(&text);
    }
    let called = called_functions(module);
    for function in module.functions.values() {
        // Hooks are methods that are called as functions: PyTorch looks for these in a file of the class.
        if is_method(module, &function.name) && !called.contains(&function.name) {
            continue;
        }
        let text = function_text(function, 0, &facts, &mut constants);
        files.entry(file_of(&function.name)).or_default().push_str(&text);
    }
    let source = |(name, text): (String, String)| (name.clone(), Arc::new(Source { name, text, origins: Vec::new() }));
    Ok(Archive {
        path: path.to_owned(),
        version: VERSION,
        root: Arc::clone(&module.root),
        constants,
        sources: files.into_iter().map(source).collect(),
        traced_inputs: IndexMap::new(),
        extra_files: from.extra_files.clone(),
    })
}

/// The module as the bytes of an archive.
///
/// # Errors
/// As [`archive()`], and for values that have no form in archives.
pub fn bytes(module: &Module, path: &Path, from: &Archive) -> Result<Vec<u8>> {
    let archive = archive(module, path, from)?;
    let mut parameters = HashSet::new();
    let mut todo: Vec<&Arc<Object>> = vec![&archive.root];
    let mut seen = HashSet::new();
    while let Some(object) = todo.pop() {
        if !seen.insert(Arc::as_ptr(object)) {
            continue;
        }
        let class = module.classes.get(&object.class);
        for (name, value) in &object.attrs {
            match value {
                IValue::Object(inner) => todo.push(inner),
                IValue::Tensor(data) if class.is_some_and(|class| class.parameters.contains(name)) => {
                    _ = parameters.insert(Arc::as_ptr(data));
                }
                _ => {}
            }
        }
    }
    let trainable = |data: &Arc<TensorData>| parameters.contains(&Arc::as_ptr(data));
    archive::write(&archive, &trainable)
}

/// The member that holds a class or function: `__torch__.a.b.C` is in `code/__torch__/a/b.py`.
fn file_of(name: &str) -> String {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    format!("code/{}.py", module.replace('.', "/"))
}

/// The functions that constants of graphs stand for.
fn called_functions(module: &Module) -> HashSet<Arc<str>> {
    let mut called = HashSet::new();
    let mut todo: Vec<&Graph> = module.functions.values().map(|function| &function.graph).collect();
    while let Some(graph) = todo.pop() {
        for node in graph.nodes.iter() {
            match node.attr("Subgraph") {
                Some(Attr::Graph(inner)) => todo.push(inner),
                _ if node.is("prim::Constant") => called.extend(node.attr_name("name").cloned()),
                _ => {}
            }
        }
    }
    called
}

fn is_method(module: &Module, name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(owner, _)| module.classes.contains_key(owner))
}

fn function_text(function: &Function, level: usize, facts: &PrinterFacts<'_>, constants: &mut Vec<IValue>) -> String {
    let options = CodeOptions { self_type: true, level, constants: std::mem::take(constants) };
    let code = ir::code_with(function, facts, options);
    *constants = code.constants;
    code.text
}

fn class_text(module: &Module, class: &Class, facts: &PrinterFacts<'_>, constants: &mut Vec<IValue>) -> String {
    let name = class.name.rsplit('.').next().unwrap_or(&class.name);
    let base = match class.kind {
        ClassKind::Module => "(Module)",
        ClassKind::Class => "",
        ClassKind::NamedTuple => "(NamedTuple)",
        ClassKind::Enum => "(Enum)",
        ClassKind::Interface if class.is_module() => "(ModuleInterface)",
        ClassKind::Interface => "(Interface)",
    };
    let mut out = format!("class {name}{base}:\n");
    let before = out.len();
    for method in class.interface.iter().flat_map(|interface| &interface.methods) {
        let _ = write!(out, "  def {}(self", method.name);
        for param in &method.params {
            let _ = write!(out, ", {}: {}", param.name, param.ty.annotation());
        }
        let _ = writeln!(out, ") -> {}:\n    pass", method.result.annotation());
    }
    if class.kind == ClassKind::Module {
        let lists = [
            ("__parameters__", &class.parameters, true),
            ("__buffers__", &class.buffers, true),
            ("__forward_pre_hooks__", &class.forward_pre_hooks, false),
            ("__forward_hooks__", &class.forward_hooks, false),
        ];
        for (what, names, _) in lists.into_iter().filter(|(_, names, always)| *always || !names.is_empty()) {
            let names: String = names.iter().map(|name| format!("{}, ", ir::quoted(name))).collect();
            let _ = writeln!(out, "  {what} = [{names}]");
        }
    }
    for (at, (name, ty)) in class.attrs.iter().enumerate() {
        if is_identifier(name) {
            let _ = writeln!(out, "  {name} : {}", ty.annotation());
            continue;
        }
        if at == 0 {
            out.push_str("  __annotations__ = []\n");
        }
        let _ = writeln!(out, "  __annotations__[{}] = {}", ir::quoted(name), ty.annotation());
    }
    for (name, value) in &class.constants {
        let text = ir::repr(value, &mut |_| None);
        if class.kind == ClassKind::Enum {
            let _ = writeln!(out, "  {name} = {text}");
        } else {
            let _ = writeln!(out, "  {name} : Final[{}] = {text}", value.ty().annotation());
        }
    }
    // In order of compilation, callees first, which is the order they can be read in.
    for function in module.functions.values() {
        if function.name.rsplit_once('.').is_some_and(|(owner, _)| *owner == *class.name) {
            out.push_str(&function_text(function, 1, facts, constants));
        }
    }
    if out.len() == before && class.kind != ClassKind::Module {
        out.push_str("  pass\n");
    }
    out
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
