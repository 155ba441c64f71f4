//! Class statements: attributes, constants, methods, fields and members; and whether stored objects agree with them.

use super::names::{Declared, Definition, Item, Program};
use super::typing::{is_subtype, unify};
use crate::diag::{Diagnostic, Result};
use crate::ir::{Class, ClassKind};
use crate::syntax::ast::{self, ExprKind, File, StmtKind};
use crate::types::{EnumType, IValue, NamedTupleType, Object, Type};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Declares the class: resolves the types of its attributes, not the bodies of its methods.
pub(crate) fn declare(
    program: &mut Program<'_>,
    qualified: &Arc<str>,
    file: &Arc<File>,
    syntax: &ast::Class,
) -> Result<Item> {
    let base = match syntax.bases.first() {
        None => "",
        Some(ast::Expr { kind: ExprKind::Name(name), .. }) => name,
        Some(other) => file.text(other.range),
    };
    let kind = match base {
        "" => ClassKind::Class,
        "Module" => ClassKind::Module,
        "Interface" | "ModuleInterface" => ClassKind::Interface,
        "NamedTuple" => ClassKind::NamedTuple,
        "Enum" => ClassKind::Enum,
        other => {
            let span = file.span(syntax.head);
            return Err(Diagnostic::user(format!("Torchscript does not support class inheritance from '{other}'"))
                .at(Some(&span)));
        }
    };
    let mut class = Class::new(Arc::clone(qualified), kind);
    if let Some(interface) = &mut class.interface {
        interface.is_module = base == "ModuleInterface";
    }
    let mut methods = HashMap::new();
    for &id in &syntax.body.stmts {
        let stmt = &file.stmts[id];
        match &stmt.kind {
            StmtKind::Def(def) => {
                class.methods.push(Arc::clone(&def.name.text));
                methods.insert(
                    Arc::clone(&def.name.text),
                    Definition { file: Arc::clone(file), stmt: id, declared: None },
                );
            }
            StmtKind::AnnAssign { target, annotation, value } => {
                let Some(name) = attribute_name(target) else { continue };
                let ty = program.ty(annotation, file)?;
                match value {
                    Some(value) if kind != ClassKind::NamedTuple => {
                        class.constants.insert(name, literal(value, file)?);
                    }
                    _ => {
                        class.attrs.insert(name, ty);
                    }
                }
            }
            StmtKind::Assign { targets, value } => match targets.first().map(|target| &target.kind) {
                Some(ExprKind::Name(name)) if kind == ClassKind::Enum => {
                    class.constants.insert(Arc::clone(name), literal(value, file)?);
                }
                Some(ExprKind::Name(name)) if &**name == "__parameters__" => class.parameters = names(value),
                Some(ExprKind::Name(name)) if &**name == "__buffers__" => class.buffers = names(value),
                Some(ExprKind::Name(name)) if &**name == "__forward_pre_hooks__" => {
                    class.forward_pre_hooks = names(value);
                }
                Some(ExprKind::Name(name)) if &**name == "__forward_hooks__" => class.forward_hooks = names(value),
                // `__annotations__["0"] = T` declares an attribute whose name is not an identifier.
                Some(ExprKind::Subscript { .. }) => {
                    if let Some(name) = targets.first().and_then(attribute_name) {
                        let ty = program.ty(value, file)?;
                        class.attrs.insert(name, ty);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    let item = match kind {
        ClassKind::Module | ClassKind::Class => Item::Class(Type::Class(Arc::clone(qualified))),
        ClassKind::Interface => Item::Class(Type::Interface(Arc::clone(qualified))),
        ClassKind::NamedTuple => {
            let fields = class.attrs.iter().map(|(name, ty)| (Arc::clone(name), ty.clone())).collect();
            Item::NamedTuple(Arc::new(NamedTupleType { name: Arc::clone(qualified), fields }))
        }
        ClassKind::Enum => {
            let mut value: Option<Type> = None;
            for member in class.constants.values() {
                let ty = type_of(member);
                if value.as_ref().is_some_and(|known| *known != ty)
                    || !matches!(ty, Type::Int | Type::Float | Type::Str)
                {
                    return Err(Diagnostic::user(format!(
                        "Could not unify type list for enum '{qualified}': its values must be all int, all float or all str"
                    ))
                    .at(Some(&file.span(syntax.head))));
                }
                value = Some(ty);
            }
            Item::Enum(Arc::new(EnumType { name: Arc::clone(qualified), value: value.unwrap_or(Type::Int) }))
        }
    };
    program.classes.insert(Arc::clone(qualified), Declared { class, methods });
    Ok(item)
}

/// `x` or `__annotations__["x"]`.
fn attribute_name(target: &ast::Expr) -> Option<Arc<str>> {
    match &target.kind {
        ExprKind::Name(name) => Some(Arc::clone(name)),
        ExprKind::Subscript { items, .. } => match items.as_slice() {
            [ast::Expr { kind: ExprKind::Str(text), .. }] => Some(String::from_utf8_lossy(text).into()),
            _ => None,
        },
        _ => None,
    }
}

fn names(list: &ast::Expr) -> Vec<Arc<str>> {
    let ExprKind::List(items) = &list.kind else { return Vec::new() };
    let name = |item: &ast::Expr| match &item.kind {
        ExprKind::Str(text) => Some(String::from_utf8_lossy(text).into()),
        _ => None,
    };
    items.iter().filter_map(name).collect()
}

/// The value of a literal: a constant of a class, a member of an enumeration, a default.
pub(crate) fn literal(expr: &ast::Expr, file: &Arc<File>) -> Result<IValue> {
    let refuse = || Diagnostic::user("Expected a literal").at(Some(&file.span(expr.range)));
    let items = |items: &[ast::Expr]| items.iter().map(|item| literal(item, file)).collect::<Result<Vec<_>>>();
    Ok(match &expr.kind {
        ExprKind::Int(value) => IValue::Int(*value),
        ExprKind::Float(value) => IValue::Float(*value),
        ExprKind::Imaginary(value) => IValue::Complex(0.0, *value),
        ExprKind::Bool(value) => IValue::Bool(*value),
        ExprKind::Str(text) => IValue::Str(string(text)),
        ExprKind::None => IValue::None,
        ExprKind::Name(name) => match &**name {
            "inf" => IValue::Float(f64::INFINITY),
            "nan" => IValue::Float(f64::NAN),
            "infj" => IValue::Complex(0.0, f64::INFINITY),
            "nanj" => IValue::Complex(0.0, f64::NAN),
            _ => return Err(refuse()),
        },
        ExprKind::Unary { op: ast::UnaryOp::Neg, operand } => match literal(operand, file)? {
            IValue::Int(value) => IValue::Int(value.wrapping_neg()),
            IValue::Float(value) => IValue::Float(-value),
            IValue::Complex(re, im) => IValue::Complex(-re, -im),
            _ => return Err(refuse()),
        },
        ExprKind::Binary { op: op @ (ast::BinaryOp::Add | ast::BinaryOp::Sub), lhs, rhs } => {
            let sign = if *op == ast::BinaryOp::Sub { -1.0 } else { 1.0 };
            match (literal(lhs, file)?, literal(rhs, file)?) {
                (IValue::Float(re), IValue::Complex(_, im)) => IValue::Complex(re, sign * im),
                (IValue::Int(re), IValue::Complex(_, im)) => IValue::Complex(re as f64, sign * im),
                _ => return Err(refuse()),
            }
        }
        ExprKind::Tuple(all) => IValue::Tuple(items(all)?.into()),
        ExprKind::List(all) => {
            let all = items(all)?;
            IValue::List(all.first().map(type_of), all.into())
        }
        ExprKind::Dict(entries) => {
            let pair = |(k, v): &(ast::Expr, ast::Expr)| Ok((literal(k, file)?, literal(v, file)?));
            let entries = entries.iter().map(pair).collect::<Result<Vec<_>>>()?;
            IValue::Dict(entries.first().map(|(k, v)| (type_of(k), type_of(v))), entries.into())
        }
        ExprKind::Call { callee, args } => match (super::names::dotted(callee).as_deref(), args.as_slice()) {
            (Some("torch.device"), [ast::Arg { value: ast::Expr { kind: ExprKind::Str(text), .. }, .. }]) => {
                IValue::Device(string(text))
            }
            (Some("annotate"), [_, value]) => literal(&value.value, file)?,
            _ => return Err(refuse()),
        },
        _ => return Err(refuse()),
    })
}

/// The text of a string literal.
pub(crate) fn string(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

/// The type of a stored value, as far as the value tells.
pub(crate) fn type_of(value: &IValue) -> Type {
    value.ty()
}

/// Checks every object reachable from `root` against the declaration of its class, declaring classes as they are met.
pub(crate) fn check_objects(program: &mut Program<'_>, root: &Arc<Object>) -> Result<()> {
    let (mut seen, mut todo) = (HashSet::new(), vec![Arc::clone(root)]);
    while let Some(object) = todo.pop() {
        if !seen.insert(Arc::as_ptr(&object))
            || !object.class.starts_with("__torch__.")
            || object.class.starts_with("__torch__.torch.classes.")
        {
            continue;
        }
        let Some(Item::Class(_)) = program.item(&object.class)? else {
            return Err(Diagnostic::user(format!("Unknown type name '{}'", object.class)));
        };
        let declared = &program.classes[&object.class];
        if object.attrs.contains_key("__state__") && declared.methods.contains_key("__setstate__") {
            object.attrs.values().for_each(|value| objects_of(value, &mut todo));
            continue;
        }
        let attrs = declared.class.attrs.clone();
        for (name, ty) in &attrs {
            let Some(value) = object.attrs.get(name) else {
                return Err(Diagnostic::user(format!("'{}' lacks the value of its attribute '{name}'", object.class)));
            };
            if !fits(program, value, ty, 0) {
                return Err(Diagnostic::user(format!(
                    "Expected a value of type '{ty}' for attribute '{name}' of '{}' but instead found type '{}'",
                    object.class,
                    type_of(value)
                )));
            }
            objects_of(value, &mut todo);
        }
        if let Some(extra) = object.attrs.keys().find(|name| !attrs.contains_key(*name)) {
            return Err(Diagnostic::user(format!(
                "'{}' has no attribute '{extra}', but the archive stores one",
                object.class
            )));
        }
    }
    Ok(())
}

fn objects_of(value: &IValue, out: &mut Vec<Arc<Object>>) {
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        match value {
            IValue::Object(object) => out.push(Arc::clone(object)),
            IValue::Tuple(items) | IValue::List(_, items) => todo.extend(items.iter()),
            IValue::Dict(_, entries) => entries.iter().for_each(|(k, v)| todo.extend([k, v])),
            IValue::Enum { value, .. } => todo.push(value),
            IValue::None
            | IValue::Bool(_)
            | IValue::Int(_)
            | IValue::Float(_)
            | IValue::Complex(..)
            | IValue::Str(_)
            | IValue::Device(_)
            | IValue::Tensor(_) => {}
        }
    }
}

/// Whether a stored value can be an attribute of this type.
fn fits(program: &mut Program<'_>, value: &IValue, ty: &Type, depth: usize) -> bool {
    if depth > 100 {
        return false;
    }
    match (value, ty) {
        (_, Type::Any) => true,
        (IValue::None, Type::Optional(_)) => true,
        (_, Type::Optional(inner)) => fits(program, value, inner, depth + 1),
        (_, Type::Union(items)) => items.iter().any(|item| fits(program, value, item, depth + 1)),
        (IValue::Tuple(items), Type::Tuple(types)) => {
            items.len() == types.len() && items.iter().zip(types.iter()).all(|(v, t)| fits(program, v, t, depth + 1))
        }
        (IValue::Tuple(items), Type::NamedTuple(named)) => {
            items.len() == named.fields.len()
                && items.iter().zip(&named.fields).all(|(v, (_, t))| fits(program, v, t, depth + 1))
        }
        (IValue::List(_, items), Type::List(elem)) => items.iter().all(|v| fits(program, v, elem, depth + 1)),
        (IValue::Dict(_, entries), Type::Dict(k, v)) => {
            entries.iter().all(|(key, value)| fits(program, key, k, depth + 1) && fits(program, value, v, depth + 1))
        }
        (IValue::Object(object), Type::Class(class)) => object.class == *class,
        // A sparse tensor is stored as the parts it is rebuilt from.
        (IValue::Object(object), Type::Tensor(_)) => object.class.starts_with("torch."),
        (IValue::Object(object), Type::Interface(interface)) => {
            let is_of = matches!(program.item(&object.class), Ok(Some(_)))
                && is_subtype(&Type::Class(Arc::clone(&object.class)), ty, program);
            program.held_as.extend(is_of.then(|| (Arc::clone(&object.class), Arc::clone(interface))));
            is_of
        }
        (IValue::Enum { class, .. }, Type::Enum(named)) => *class == named.name,
        // The layout of quantised and recurrent parameter packs is the runtime's own.
        (_, Type::Class(class)) if class.starts_with("__torch__.torch.classes.") => true,
        (IValue::Str(_), Type::Device) => true,
        (value, ty) => {
            let have = type_of(value);
            is_subtype(&have, ty, program) && unify(&have, ty, program).is_some()
        }
    }
}
