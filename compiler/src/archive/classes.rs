//! Checks values against the classes that the archive's source declares.
//!
//! This reads the few lines of a class it needs (`class Name(`, `  attr : Type`) from the text, without a parser, so that
//! an archive whose data does not fit its code is refused before anything relies on it.

use super::Fault;
use super::values::is_custom;
use crate::source::Source;
use crate::types::{IValue, Object, Type};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Checks every object and enum in `value`: its class is defined, and an object has the attributes that its class
/// declares, of kinds that fit.
pub(super) fn check(value: &IValue, sources: &IndexMap<String, Arc<Source>>) -> Result<(), Fault> {
    Checker { sources, files: HashMap::new(), classes: HashMap::new(), seen: HashSet::new() }.value(value)
}

/// What is known of a class from its text.
struct Class {
    /// Attributes with their types; `None` for a type text that is not understood.
    attrs: Vec<(Arc<str>, Option<Type>)>,
    /// Whether the state comes from `__getstate__`.
    has_state: bool,
}

struct Checker<'a> {
    sources: &'a IndexMap<String, Arc<Source>>,
    /// For each file looked at, the text after each `class NAME(` line.
    files: HashMap<String, HashMap<&'a str, &'a str>>,
    classes: HashMap<Arc<str>, Arc<Class>>,
    /// Addresses of the shared values that are checked already.
    seen: HashSet<usize>,
}

impl Checker<'_> {
    fn value(&mut self, value: &IValue) -> Result<(), Fault> {
        match value {
            IValue::None
            | IValue::Bool(_)
            | IValue::Int(_)
            | IValue::Float(_)
            | IValue::Complex(..)
            | IValue::Str(_)
            | IValue::Device(_)
            | IValue::Tensor(_) => Ok(()),
            IValue::Tuple(items) | IValue::List(_, items) => {
                if self.is_new(items.as_ptr().addr()) {
                    items.iter().try_for_each(|item| self.value(item))?;
                }
                Ok(())
            }
            IValue::Dict(_, entries) => {
                if self.is_new(entries.as_ptr().addr()) {
                    entries.iter().try_for_each(|(key, value)| self.value(key).and_then(|()| self.value(value)))?;
                }
                Ok(())
            }
            IValue::Enum { class, .. } => self.class(class).map(drop),
            IValue::Object(object) => {
                if self.is_new(Arc::as_ptr(object).addr()) {
                    self.object(object)?;
                }
                Ok(())
            }
        }
    }

    fn is_new(&mut self, address: usize) -> bool {
        self.seen.insert(address)
    }

    fn object(&mut self, object: &Object) -> Result<(), Fault> {
        let name = &object.class;
        if name.starts_with("__torch__.") && !is_custom(name) {
            let class = self.class(name)?;
            let is_state = object.attrs.contains_key("__state__") && object.attrs.len() == 1;
            if !class.has_state && !is_state {
                for (attr, ty) in &class.attrs {
                    let Some(value) = object.attrs.get(attr) else {
                        return Err(Fault::bad(format!("an object of class {name} lacks the attribute '{attr}'")));
                    };
                    if let Some(ty) = ty.as_ref().filter(|ty| !fits(value, ty)) {
                        return Err(Fault::bad(format!(
                            "attribute '{attr}' of class {name} is declared as {} but the archive holds a {}",
                            ty.annotation(),
                            value.kind()
                        )));
                    }
                }
            }
        }
        object.attrs.values().try_for_each(|value| self.value(value))
    }

    /// The class of this qualified name, which must be defined in the file that its name says.
    fn class(&mut self, name: &Arc<str>) -> Result<Arc<Class>, Fault> {
        if let Some(class) = self.classes.get(name) {
            return Ok(class.clone());
        }
        let (module, last) = name.rsplit_once('.').unwrap_or(("__torch__", name));
        let file = format!("code/{}.py", module.replace('.', "/"));
        if !self.files.contains_key(&file) {
            let found = self.sources.get(&file).map(|source| class_bodies(&source.text)).unwrap_or_default();
            self.files.insert(file.clone(), found);
        }
        let body = self.files.get(&file).and_then(|bodies| bodies.get(last));
        let body = body.ok_or_else(|| {
            Fault::bad(format!("Unknown type name '{name}': no class of this name is defined in {file}"))
        })?;
        let class = Arc::new(read_class(body));
        self.classes.insert(name.clone(), class.clone());
        Ok(class)
    }
}

/// Whether a value's kind can be of a declared type. Classes, named tuples and interfaces are told apart only later.
fn fits(value: &IValue, ty: &Type) -> bool {
    match ty {
        // A sparse tensor is an object here, see `values.rs`.
        Type::Tensor(_) => matches!(value, IValue::Tensor(_) | IValue::Object(_) | IValue::None),
        Type::Int => matches!(value, IValue::Int(_)),
        Type::Float => matches!(value, IValue::Float(_)),
        Type::Bool => matches!(value, IValue::Bool(_)),
        Type::Complex => matches!(value, IValue::Complex(..)),
        Type::Number => matches!(value, IValue::Int(_) | IValue::Float(_) | IValue::Complex(..) | IValue::Bool(_)),
        Type::Str => matches!(value, IValue::Str(_)),
        Type::None => matches!(value, IValue::None),
        Type::Device => matches!(value, IValue::Device(_)),
        Type::List(elem) => match value {
            IValue::List(_, items) => items.iter().all(|item| fits(item, elem)),
            _ => false,
        },
        Type::AnyList => matches!(value, IValue::List(..)),
        Type::Dict(key, elem) => match value {
            IValue::Dict(_, entries) => entries.iter().all(|(k, v)| fits(k, key) && fits(v, elem)),
            _ => false,
        },
        Type::Tuple(types) => match value {
            IValue::Tuple(items) => {
                items.len() == types.len() && items.iter().zip(types.iter()).all(|(item, ty)| fits(item, ty))
            }
            _ => false,
        },
        Type::AnyTuple | Type::NamedTuple(_) => matches!(value, IValue::Tuple(_)),
        Type::Optional(inner) => matches!(value, IValue::None) || fits(value, inner),
        Type::Union(types) => types.iter().any(|ty| fits(value, ty)),
        Type::Class(name) if !name.starts_with("__torch__.") => true,
        Type::Class(_) | Type::Interface(_) | Type::Enum(_) => {
            matches!(value, IValue::Object(_) | IValue::Tuple(_) | IValue::Enum { .. })
        }
        Type::Any
        | Type::Generator
        | Type::Stream
        | Type::Storage
        | Type::Capsule
        | Type::Function
        | Type::Future(_)
        | Type::Await(_)
        | Type::RRef(_)
        | Type::Var(_) => true,
    }
}

/// The text after each `class NAME(` at the start of a line; the first definition of a name counts.
fn class_bodies(text: &str) -> HashMap<&str, &str> {
    let mut bodies = HashMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if let Some((name, _)) = line.strip_prefix("class ").and_then(|head| head.split_once(['(', ':'])) {
            bodies.entry(name.trim()).or_insert(after);
        }
        rest = after;
    }
    bodies
}

/// Reads the attribute lines of a class from the text after its first line.
fn read_class(body: &str) -> Class {
    let mut class = Class { attrs: Vec::new(), has_state: false };
    for line in body.lines() {
        if !line.is_empty() && !line.starts_with([' ', '\t', '#']) {
            break;
        }
        let Some(member) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) else { continue };
        class.has_state |= member.starts_with("def __setstate__(");
        class.attrs.extend(read_attribute(member));
    }
    class
}

/// Reads `name : Type` or `__annotations__["name"] = Type`; constants (`name : Final[T] = value`) are no attributes.
fn read_attribute(line: &str) -> Option<(Arc<str>, Option<Type>)> {
    let (name, ty) = match line.strip_prefix("__annotations__[\"") {
        Some(rest) => {
            let (name, ty) = rest.split_once("\"] = ")?;
            // An escaped name is left to the parser proper.
            (!name.contains('\\')).then_some((name, ty))?
        }
        None => line.split_once(':')?,
    };
    let (name, ty) = (name.trim(), ty.trim());
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    let is_annotated = line.starts_with("__annotations__[\"") && !name.contains('"');
    if !(is_name || is_annotated) || ty.is_empty() || ty.contains('=') {
        return None;
    }
    Some((name.into(), Type::parse_annotation(ty)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_attributes_of_one_class() {
        let text = "class A(Module):\n  x : int\nclass B(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n  \
                    __annotations__[\"0\"] = __torch__.A\n  k : Final[int] = 7\n  def f(self: __torch__.B) -> int:\n    \
                    y : int = 1\n    return y\nclass C(Module):\n  z : int\n";
        let bodies = class_bodies(text);
        let class = read_class(bodies["B"]);
        let attrs: Vec<_> = class.attrs.iter().map(|(name, ty)| (&**name, ty.clone())).collect();
        assert_eq!(attrs, [("w", Some(Type::tensor())), ("0", Some(Type::Class("__torch__.A".into())))]);
        assert!(!bodies.contains_key("D"));
    }
}
