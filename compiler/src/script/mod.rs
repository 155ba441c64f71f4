//! The front end: the parsed source of an archive becomes the SSA IR.
//!
//! ```text
//! archive ─► names (files, classes, signatures on demand) ─► function (one body at a time) ─► ir::Module
//!                                                                │
//!       statements: stmt  assign  branch  repeat  exits ◄────────┴───────► expressions: expr  sugar  attribute  index
//!                                                                           operator  refine  iterate  call  form  overload
//! ```
//!
//! A body is turned into SSA while it is walked: [`ssa`] keeps what each name means, an `if` merges what its branches
//! assigned into outputs, a loop carries what its body assigns. `return`, `break` and `continue` are nodes at first (see
//! [`exits`]), which [`structure`] replaces. Every `aten::` node has all arguments of its schema, defaults as constants.
//! Whatever the input, the result is a module whose graphs the verifier accepts, or a diagnostic.

mod annotation;
mod assign;
mod attribute;
mod branch;
mod call;
mod choice;
mod classes;
mod collect;
mod construct;
mod container;
mod dataclass;
mod display;
mod exits;
mod expr;
mod form;
mod function;
mod index;
mod inlined;
mod iterate;
mod layers;
mod library;
mod mismatch;
mod names;
mod operator;
mod overload;
mod parts;
mod python;
mod refine;
mod repeat;
mod source;
mod ssa;
mod stmt;
mod structure;
mod sugar;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_tests;
mod trace;
mod typing;
mod upgrade;

pub use construct::{Evaluate, Machine};
pub use parts::{Field, Parts, Role, compile_parts};
pub use source::{Attributes, FUNCTION_MODULE, Text, Values, compile_text, empty_archive, module_of};

use crate::archive::Archive;
use crate::diag::{self, Diagnostic, Result};
use crate::ir::{Argument, ClassKind, InterfaceMethod, Module};
use crate::types::{IValue, Object, Type};
use std::collections::HashSet;
use std::sync::Arc;

/// Stack of the thread that compiles: nested blocks and calls are walked by recursion, bounded by `MAX_DEPTH` and
/// `MAX_CALL_DEPTH`. Only touched pages cost memory.
const STACK_BYTES: usize = 1 << 30;

/// Compiles all methods of the root class and whatever they reach.
///
/// # Errors
/// User errors begin with PyTorch's words and carry the place; constructs we cannot compile are `unsupported`.
pub fn compile(archive: &Archive) -> Result<Module> {
    on_large_stack(|| compile_here(archive, false))
}

/// Compiles all methods of the classes of all objects, whether or not the root's methods reach them.
///
/// # Errors
/// As [`compile()`].
pub fn compile_whole(archive: &Archive) -> Result<Module> {
    on_large_stack(|| compile_here(archive, true))
}

fn on_large_stack<T: Send>(run: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    diag::on_stack("the front end", STACK_BYTES, run)
}

fn compile_here(archive: &Archive, is_whole: bool) -> Result<Module> {
    let mut program = names::Program::new(archive);
    classes::check_objects(&mut program, &archive.root)?;
    let root = Arc::clone(&archive.root.class);
    for method in methods(&program, &root) {
        program.compile_method(&root, &method)?;
    }
    for class in classes_of(&archive.root) {
        let has_state = program.classes.get(&class).is_some_and(|c| c.methods.contains_key("__setstate__"));
        let all = if is_whole { methods(&program, &class) } else { Vec::new() };
        for method in all.into_iter().chain(has_state.then(|| "__setstate__".into())) {
            program.compile_method(&class, &method)?;
        }
    }
    compile_interfaces(&mut program)?;
    finished(program, Arc::clone(&archive.root))
}

/// The module of a program that is compiled.
fn finished(mut program: names::Program<'_>, root: Arc<Object>) -> Result<Module> {
    if let Some(error) = program.first_error() {
        return Err(error);
    }
    describe_interfaces(&mut program)?;
    let functions = program.functions;
    for function in functions.values() {
        crate::ir::verify(&function.graph)
            .map_err(|e| Diagnostic::internal(format!("the graph of {} is malformed: {e}", function.name)))?;
    }
    let classes = program.classes.into_iter().map(|(name, declared)| (name, declared.class)).collect();
    Ok(Module { classes, functions, root })
}

/// Notes the signatures of what interfaces ask for.
fn describe_interfaces(program: &mut names::Program<'_>) -> Result<()> {
    let is_interface = |name: &&Arc<str>| program.classes[*name].class.kind == ClassKind::Interface;
    let mut todo: Vec<Arc<str>> = program.classes.keys().filter(is_interface).cloned().collect();
    let mut done = HashSet::new();
    while let Some(class) = todo.pop() {
        if !done.insert(Arc::clone(&class)) {
            continue;
        }
        let ty = Type::Interface(Arc::clone(&class));
        let mut described = Vec::new();
        for name in methods(program, &class) {
            let Some(signature) = program.signature(&format!("{class}.{name}").into(), Some(&ty))? else { continue };
            let argument =
                |param: &names::Param| Argument { name: Arc::clone(&param.name), ty: param.ty.clone(), default: None };
            described.push(InterfaceMethod {
                name,
                params: signature.params.iter().skip(1).map(argument).collect(),
                result: signature.result.clone().unwrap_or_else(Type::tensor),
            });
        }
        if let Some(interface) = program.classes.get_mut(&class).and_then(|declared| declared.class.interface.as_mut())
        {
            interface.methods = described;
        }
        // What signatures name may be interfaces that were not known before.
        let is_new =
            |name: &&Arc<str>| program.classes[*name].class.kind == ClassKind::Interface && !done.contains(*name);
        todo.extend(program.classes.keys().filter(is_new).cloned());
    }
    Ok(())
}

fn methods(program: &names::Program<'_>, class: &str) -> Vec<Arc<str>> {
    program.classes.get(class).map_or_else(Vec::new, |declared| declared.class.methods.clone())
}

/// Compiles, in every known class of an interface, the methods that were called through it; of modules that are held as
/// an interface all methods of that; and of other classes all there are; until none is new.
fn compile_interfaces(program: &mut names::Program<'_>) -> Result<()> {
    let mut done = HashSet::new();
    loop {
        let classes: Vec<Arc<str>> = program.classes.keys().cloned().collect();
        let mut wanted = Vec::new();
        for class in &classes {
            match program.classes[class].class.kind {
                ClassKind::Interface | ClassKind::NamedTuple | ClassKind::Enum => continue,
                ClassKind::Module => {}
                ClassKind::Class => {
                    let all = methods(program, class);
                    let is_compiled = |method: &Arc<str>| program.is_compiled_method(class, method);
                    wanted.extend(all.into_iter().filter(is_compiled).map(|method| (Arc::clone(class), method)));
                }
            }
            for (interface, method) in program.interface_calls.keys() {
                if typing::Classes::satisfies(program, class, interface) {
                    wanted.push((Arc::clone(class), Arc::clone(method)));
                }
            }
        }
        for (class, interface) in &program.held_as {
            wanted.extend(methods(program, interface).into_iter().map(|method| (Arc::clone(class), method)));
        }
        let mut is_new = false;
        for (class, method) in wanted {
            if done.insert((Arc::clone(&class), Arc::clone(&method))) {
                let compiled = program.compile_method(&class, &method);
                program.noted(compiled)?;
                is_new = true;
            }
        }
        if !is_new {
            return Ok(());
        }
    }
}

/// The classes of all objects reachable from `root`, in the order they are met.
fn classes_of(root: &Arc<Object>) -> Vec<Arc<str>> {
    let (mut seen, mut classes, mut todo) = (HashSet::new(), Vec::new(), vec![IValue::Object(Arc::clone(root))]);
    while let Some(value) = todo.pop() {
        match value {
            IValue::Object(object) if seen.insert(Arc::as_ptr(&object)) => {
                if !classes.contains(&object.class) {
                    classes.push(Arc::clone(&object.class));
                }
                todo.extend(object.attrs.values().rev().cloned());
            }
            IValue::Tuple(items) | IValue::List(_, items) => todo.extend(items.iter().rev().cloned()),
            IValue::Dict(_, entries) => todo.extend(entries.iter().rev().map(|(_, v)| v.clone())),
            _ => {}
        }
    }
    classes
}
