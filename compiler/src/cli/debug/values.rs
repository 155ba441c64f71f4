//! What a debugger knows of values: attributes of objects, and expressions over the names of a frame.

use super::super::run::print;
use crate::check;
use crate::diag::Diagnostic;
use crate::driver::{self, Backend};
use crate::lower::{archived_object_name, object_paths};
use crate::module::Module;
use crate::script::{Attributes, Text};
use crate::source::Source;
use crate::syntax::Dialect;
use crate::types::{DType, IValue, Object};
use aot_runtime::Value;
use indexmap::IndexMap;
use std::collections::HashMap;
use std::sync::Arc;

/// The values of a frame's names; `None` for what the program does not tell.
pub(super) type Names = IndexMap<String, Option<Value>>;

type Answer<T> = std::result::Result<T, String>;

/// What an expression gives.
pub(super) enum Found {
    Value(Value),
    /// A number that stands for an element type.
    DType(DType),
}

/// The objects that a call works on. A value that is an object is a text, its name.
#[derive(Default)]
pub(super) struct Objects {
    /// Objects of the archive by name, with what they held before the call.
    archived: HashMap<String, Arc<Object>>,
    /// The names of those, by address.
    names: HashMap<usize, String>,
    /// Constants of classes.
    constants: HashMap<String, IndexMap<Arc<str>, IValue>>,
    /// What the program told of attributes.
    told: HashMap<String, Names>,
}

impl Objects {
    pub(super) fn of(module: &crate::ir::Module) -> Self {
        let mut objects = Self::default();
        for (object, path) in object_paths(&module.root) {
            let name = archived_object_name(&object.class, &path);
            objects.names.insert(Arc::as_ptr(&object).addr(), name.clone());
            objects.archived.insert(name, object);
        }
        let constants = module.classes.values().map(|class| (class.name.to_string(), class.constants.clone()));
        objects.constants = constants.collect();
        objects
    }

    /// Notes an attribute's value, given by the object's name and its own.
    pub(super) fn set(&mut self, attribute: &str, value: Option<Value>) {
        if let Some((owner, name)) = attribute.rsplit_once('.') {
            self.told.entry(owner.to_owned()).or_default().insert(name.to_owned(), value);
        }
    }

    fn object<'a>(&self, value: &'a Value) -> Option<&'a str> {
        match value {
            Value::Str(name) if self.archived.contains_key(name) || self.told.contains_key(name) => Some(name),
            _ => None,
        }
    }

    fn attribute(&self, owner: &str, name: &str) -> Answer<Value> {
        if let Some(value) = self.told.get(owner).and_then(|attrs| attrs.get(name)) {
            return value.clone().ok_or_else(|| format!("the value of '{name}' is not told"));
        }
        let class = class_of(owner);
        let archived = self.archived.get(owner).and_then(|object| object.attrs.get(name));
        let constant = || self.constants.get(class).and_then(|constants| constants.get(name));
        match archived.or_else(constant) {
            Some(IValue::Object(inner)) => {
                let name = self.names.get(&Arc::as_ptr(inner).addr()).cloned();
                name.map(Value::Str).ok_or_else(|| format!("'{}' is not known", inner.class))
            }
            Some(value) => check::value(value).map_err(|error| error.message),
            None => Err(format!("'{}' object has no attribute '{name}'", short(class))),
        }
    }

    /// The type of a value, of objects the class.
    pub(super) fn type_of(&self, value: &Value) -> String {
        match self.object(value) {
            Some(name) => class_of(name).to_owned(),
            None => type_text(value).unwrap_or_else(|| value.type_name()),
        }
    }

    /// A value as text, objects without their attributes.
    pub(super) fn brief(&self, value: &Value) -> String {
        if let Some(name) = self.object(value) {
            return format!("{}(...)", short(class_of(name)));
        }
        let mut text = String::new();
        print(value, 0, &mut text);
        text
    }

    /// An object with its attributes, as text; `None` for other values.
    pub(super) fn describe(&self, value: &Value) -> Option<String> {
        let owner = self.object(value)?;
        let mut names: Vec<&str> =
            self.archived.get(owner).into_iter().flat_map(|o| o.attrs.keys()).map(|n| &**n).collect();
        let told = self.told.get(owner).into_iter().flat_map(IndexMap::keys).map(String::as_str);
        names.extend(told.filter(|name| self.archived.get(owner).is_none_or(|o| !o.attrs.contains_key(*name))));
        let mut text = format!("{}(", short(class_of(owner)));
        for name in &names {
            text.push_str("\n  ");
            text.push_str(name);
            text.push_str(" = ");
            match self.attribute(owner, name) {
                Ok(value) => match self.object(&value) {
                    Some(inner) => text.push_str(&format!("{}(...)", short(class_of(inner)))),
                    None => print(&value, 1, &mut text),
                },
                Err(_) => text.push_str("..."),
            }
            text.push(',');
        }
        text.push_str(if names.is_empty() { ")" } else { "\n)" });
        Some(text)
    }

    /// The value of an expression over what is known in a frame: compiled as a function of the values it uses, after what it takes
    /// from objects has been looked up.
    pub(super) fn evaluated(&self, names: &Names, expression: &str) -> Answer<Found> {
        let (mut text, mut params, mut values) = (String::new(), Vec::new(), Vec::new());
        let mut rest = expression;
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '"' | '\'' => string_length(rest),
                c if c.is_alphanumeric() || c == '_' => word_length(rest),
                c => c.len_utf8(),
            };
            let (word, after) = rest.split_at(length);
            let is_name = !text.trim_end().ends_with('.');
            let known = names.get(word).filter(|_| is_name);
            rest = after;
            let Some(value) = known else {
                text.push_str(word);
                continue;
            };
            let value = value.clone().ok_or_else(|| format!("the value of '{word}' is not told"))?;
            // `word = ...` in a call names a parameter.
            if after.trim_start().starts_with('=') && !after.trim_start().starts_with("==") && text.contains('(') {
                text.push_str(word);
                continue;
            }
            let (value, after) = self.followed(value, after)?;
            rest = after;
            if text.trim().is_empty() && rest.trim().is_empty() {
                return Ok(Found::Value(value));
            }
            let ty = match self.object(&value) {
                Some(_) => Err(format!("'{word}' is an object, of which expressions can only use attributes")),
                None => type_text(&value).ok_or_else(|| format!("'{word}' is of a type that expressions cannot use")),
            }?;
            let param = format!("{word}_{}", params.len());
            text.push_str(&param);
            params.push(format!("{param}: {ty}"));
            values.push(value);
        }
        let text = format!("def value({}):\n  return {text}\n", params.join(", "));
        let source = Arc::new(Source { name: "<expression>".into(), text, origins: Vec::new() });
        let text = Text { source, dialect: Dialect::Own, module: "__torch__".into(), imports: None, seed: None };
        let message = |error: Box<Diagnostic>| error.message.lines().next().unwrap_or_default().to_owned();
        let module = Module::of_ir(driver::script(&text, None, Attributes::Own).map_err(message)?, Backend::Reference);
        let value = module.method("forward").and_then(|method| method.call_values(&values)).map_err(message)?;
        Ok(match value {
            Value::Int(code) if gives_dtype(module.ir()) => match DType::from_code(code) {
                Some(dtype) => Found::DType(dtype),
                None => Found::Value(Value::Int(code)),
            },
            value => Found::Value(value),
        })
    }

    /// A value after `.name` and `[key]`, as far as these follow and it is of objects, and the rest of the text.
    fn followed<'a>(&self, mut value: Value, mut rest: &'a str) -> Answer<(Value, &'a str)> {
        loop {
            let next = rest.trim_start();
            if let Some(after) = next.strip_prefix('.') {
                let length = word_length(after);
                let (name, after) = after.split_at(length);
                if let Some(owner) = self.object(&value) {
                    if after.trim_start().starts_with('(') {
                        return Err(format!("methods of objects, as '{name}', cannot be called here"));
                    }
                    value = self.attribute(owner, name)?;
                } else if let Value::NamedTuple { fields, .. } = &value {
                    let field = fields.iter().find(|(field, _)| field == name);
                    value = field.ok_or_else(|| format!("there is no field '{name}'"))?.1.clone();
                } else {
                    return Ok((value, rest));
                }
                rest = after;
                continue;
            }
            // Items of containers of modules are attributes.
            if let (Some(after), Some(owner)) = (next.strip_prefix('['), self.object(&value)) {
                let (key, after) = after.split_once(']').ok_or("']' is missing")?;
                value = self.attribute(owner, key.trim().trim_matches(['"', '\'']))?;
                rest = after;
                continue;
            }
            return Ok((value, rest));
        }
    }
}

/// The class in the name of an object.
fn class_of(owner: &str) -> &str {
    owner.trim_start_matches('<').split(' ').next().unwrap_or(owner)
}

fn short(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The length of a string literal, with its quotes.
fn string_length(text: &str) -> usize {
    let quote = text.chars().next().unwrap_or('"');
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether the function `value` of a module gives an element type, which to a model is a number.
fn gives_dtype(module: &crate::ir::Module) -> bool {
    let Some(function) = module.functions.get("__torch__.value") else { return false };
    let graph = &function.graph;
    let returned = graph.blocks[graph.top].returns.first();
    returned.is_some_and(|value| match graph.values[*value].def {
        crate::ir::ValueDef::Output(node, _) => graph.nodes[node].is("prim::dtype"),
        crate::ir::ValueDef::Param(..) => false,
    })
}

/// The type of a value as source text says it.
fn type_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Tensor(_) => "Tensor".to_owned(),
        Value::Int(_) => "int".to_owned(),
        Value::Float(_) => "float".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Complex(..) => "complex".to_owned(),
        Value::Str(_) => "str".to_owned(),
        Value::None => "NoneType".to_owned(),
        Value::Tuple(items) => {
            format!("Tuple[{}]", items.iter().map(type_text).collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::List(items) => format!("List[{}]", items.first().map_or(Some("int".to_owned()), type_text)?),
        Value::Dict(entries) => match entries.first() {
            Some((key, value)) => format!("Dict[{}, {}]", type_text(key)?, type_text(value)?),
            None => "Dict[str, int]".to_owned(),
        },
        Value::NamedTuple { .. } => return None,
    })
}
