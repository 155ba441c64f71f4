//! Modules given in parts: attributes with their types and values, submodules, and methods as text. The way of
//! `torch::jit::Module` in C++, where no Python class stands behind a module.

use super::construct::ModuleFacts;
use super::names::{Declared, Definition, Item, ParsedFile, Program};
use super::{classes, compile_interfaces, finished, on_large_stack, source};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Class, ClassKind, Module};
use crate::source::Source;
use crate::syntax::ast::StmtKind;
use crate::syntax::{Dialect, parse_dialect};
use crate::types::{IValue, Object, Type};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Most modules that a module holds, at any depth.
const MAX_MODULES: usize = 100_000;

/// A module in parts.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The class's name, without a module.
    pub name: Arc<str>,
    /// Attributes and submodules, in the order of their slots.
    pub fields: IndexMap<Arc<str>, Field>,
    /// Constants of the class.
    pub constants: IndexMap<Arc<str>, IValue>,
    /// Texts with methods, as `define` takes them.
    pub methods: Vec<Arc<Source>>,
}

/// What a name of a module means.
#[derive(Clone, Debug)]
pub enum Field {
    /// A value of a type.
    Value {
        /// The type.
        ty: Type,
        /// A value of this type.
        value: IValue,
        /// What it is registered as.
        role: Role,
    },
    /// A submodule.
    Module(Parts),
}

/// What a value is registered as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the variants are PyTorch's own names")]
pub enum Role {
    Parameter,
    Buffer,
    Attribute,
}

/// Compiles the methods of a module and of all it holds.
///
/// # Errors
/// User errors in PyTorch's words with their place in the texts; unsupported for what cannot be compiled yet.
pub fn compile_parts(parts: &Parts) -> Result<Module> {
    on_large_stack(|| {
        let empty = source::empty_archive(Path::new(&*parts.name));
        let mut program = Program::new(&empty);
        program.has_library = true;
        let mut order = Vec::new();
        let root = declare(&mut program, parts, &mut order)?;
        classes::check_objects(&mut program, &root)?;
        for (class, methods) in order {
            for method in methods {
                program.compile_method(&class, &method)?;
            }
        }
        compile_interfaces(&mut program)?;
        source::name_methods(&mut program);
        finished(program, root)
    })
}

/// Classes with their methods, submodules before what holds them.
type Order = Vec<(Arc<str>, Vec<Arc<str>>)>;

fn declare(program: &mut Program<'_>, parts: &Parts, order: &mut Order) -> Result<Arc<Object>> {
    if order.len() > MAX_MODULES {
        return Err(Diagnostic::unsupported(format!("a module that holds more than {MAX_MODULES} others")));
    }
    let (mut types, mut values) = (IndexMap::new(), IndexMap::new());
    let (mut parameters, mut buffers) = (Vec::new(), Vec::new());
    for (name, field) in &parts.fields {
        let (ty, value) = match field {
            Field::Value { ty, value, role } => {
                match role {
                    Role::Parameter => parameters.push(Arc::clone(name)),
                    Role::Buffer => buffers.push(Arc::clone(name)),
                    Role::Attribute => {}
                }
                (ty.clone(), value.clone())
            }
            Field::Module(inner) => {
                let object = declare(program, inner, order)?;
                (Type::Class(Arc::clone(&object.class)), IValue::Object(object))
            }
        };
        types.insert(Arc::clone(name), ty);
        values.insert(Arc::clone(name), value);
    }
    let plain: Arc<str> = format!("__torch__.{}", parts.name).into();
    let mangled = |n: usize| format!("__torch__.___torch_mangle_{n}.{}", parts.name).into();
    let name = if program.classes.contains_key(&plain) { mangled(order.len()) } else { plain };
    let mut methods = HashMap::new();
    let mut names = Vec::new();
    for text in &parts.methods {
        let module = format!("{name}.{}", text.name);
        let file = Arc::new(parse_dialect(text, Dialect::Own)?);
        for &stmt in &file.body.stmts {
            let StmtKind::Def(def) = &file.stmts[stmt].kind else {
                let span = file.span(file.stmts[stmt].range);
                return Err(Diagnostic::user("only methods can be defined here").at(Some(&span)));
            };
            let method = &def.name.text;
            let known = types.contains_key(method) || parts.constants.contains_key(method);
            let definition = Definition { file: Arc::clone(&file), stmt, declared: None };
            if known || methods.insert(Arc::clone(method), definition).is_some() {
                let text = format!("'{method}' is already defined in '{}'", parts.name);
                return Err(Diagnostic::user(text).at(Some(&file.span(def.name.range))));
            }
            names.push(Arc::clone(method));
        }
        program.add_parsed(ParsedFile::of(file, &module));
    }
    let class = Class {
        attrs: types,
        constants: parts.constants.clone(),
        parameters,
        buffers,
        ..Class::new(Arc::clone(&name), ClassKind::Module)
    };
    program.classes.insert(Arc::clone(&name), Declared { class, methods });
    program.items.insert(Arc::clone(&name), Item::Class(Type::Class(Arc::clone(&name))));
    program.modules.insert(Arc::clone(&name), ModuleFacts::default());
    order.push((Arc::clone(&name), names));
    Ok(Arc::new(Object { class: name, attrs: values }))
}
