//! The schemas of every operator, read once from `schemas.txt` (the text of PyTorch's operator registry).
//!
//! `ns::name.overload(Type name=default, *, Type name) -> Type`. Types may carry an alias mark (`Tensor(a!)` is written
//! through, `Tensor(a)` shares memory), `int[2]` is a list one scalar may stand for, `...` takes any arguments.
//! The table keeps the overloads of a name in the order of the file; looking one up costs a hash.

use crate::ir::OpName;
use crate::types::{IValue, Type};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One overload of an operator.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Name and overload.
    pub name: OpName,
    /// Arguments in order, keyword-only ones last.
    pub args: Vec<SchemaArg>,
    /// Results.
    pub returns: Vec<SchemaReturn>,
    /// Whether it takes any further arguments (`...`).
    pub is_vararg: bool,
    /// Whether its results are as the call makes them (`-> ...`).
    pub is_varret: bool,
    /// The line it was read from, for messages.
    pub text: &'static str,
}

/// An argument of a schema.
#[derive(Clone, Debug)]
pub struct SchemaArg {
    /// Name.
    pub name: Arc<str>,
    /// Type; may hold type variables.
    pub ty: Type,
    /// Default value, if the argument may be left out.
    pub default: Option<IValue>,
    /// Whether it can only be given by name.
    pub kw_only: bool,
    /// For `int[N]`: the length a single scalar is spread to.
    pub list_size: Option<usize>,
    /// Memory it shares, if any.
    pub alias: Option<AliasMark>,
}

/// A result of a schema.
#[derive(Clone, Debug)]
pub struct SchemaReturn {
    /// Field name; empty if it has none.
    pub name: Arc<str>,
    /// Type; may hold type variables.
    pub ty: Type,
    /// Memory it shares, if any.
    pub alias: Option<AliasMark>,
}

/// An alias mark: `(a)`, `(a!)`, `(a -> *)`, `(*)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasMark {
    /// The alias set's name; `*` is "anything of this type". A union `a|b` keeps the bar.
    pub set: Arc<str>,
    /// Whether it is written through.
    pub is_write: bool,
    /// Whether the value becomes part of a container after the call (`-> *`).
    pub becomes_wildcard: bool,
    /// Whether the mark is on the elements of a list (`Tensor(a)[]`) and not on the list itself.
    pub is_on_elements: bool,
}

impl Schema {
    /// The position of the argument with this name.
    pub fn arg_index(&self, name: &str) -> Option<usize> {
        self.args.iter().position(|arg| &*arg.name == name)
    }
}

/// The file of schemas.
const TEXT: &str = include_str!("schemas.txt");

/// All overloads by `ns::name`.
static TABLE: LazyLock<HashMap<&'static str, Vec<Schema>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static str, Vec<Schema>> = HashMap::new();
    for line in TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let schema =
            parse(line).unwrap_or_else(|message| panic!("schemas.txt is well formed, but {line:?}: {message}"));
        let name = line.split(['(', '.']).next().expect("a split has a first part");
        table.entry(name).or_default().push(schema);
    }
    table
});

/// The overloads of `ns::name`, in the order of the file; empty if there is no such operator.
pub fn overloads(name: &str) -> &'static [Schema] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// The schema of this very overload.
pub fn schema(op: &OpName) -> Option<&'static Schema> {
    overloads(&op.name).iter().find(|schema| schema.name.overload == op.overload)
}

/// All `ns::name`s that have schemas, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE.keys().copied().collect();
    names.sort_unstable();
    names
}

/// Parses one line of schema text.
pub fn parse(line: &'static str) -> Result<Schema, String> {
    let mut p = Parser { text: line, at: 0 };
    let full = p.take_while(|c| c != '(');
    let (space, rest) = full.split_once("::").ok_or("no namespace")?;
    let (base, overload) = rest.split_once('.').unwrap_or((rest, ""));
    let name = OpName::with_overload(&format!("{space}::{base}"), overload);
    p.expect("(")?;
    let (mut args, mut is_vararg, mut kw_only) = (Vec::new(), false, false);
    while !p.eat(")") {
        if p.eat("...") {
            is_vararg = true;
        } else if p.eat("*") {
            kw_only = true;
        } else {
            let (ty, list_size, alias) = p.ty()?;
            p.spaces();
            let name = p.identifier().into();
            let default = if p.eat("=") { Some(p.default(&ty, list_size)?) } else { None };
            args.push(SchemaArg { name, ty, default, kw_only, list_size, alias });
        }
        p.spaces();
        p.eat(",");
        p.spaces();
        if p.rest().is_empty() {
            return Err("the argument list does not end".into());
        }
    }
    p.spaces();
    p.expect("->")?;
    p.spaces();
    let is_varret = p.eat("...");
    let mut returns = Vec::new();
    if p.eat("(") {
        while !p.eat(")") {
            returns.push(p.result()?);
            p.eat(",");
            p.spaces();
            if p.rest().is_empty() {
                return Err("the results do not end".into());
            }
        }
    } else if !is_varret {
        returns.push(p.result()?);
    }
    if !p.rest().is_empty() {
        return Err(format!("{:?} is left over", p.rest()));
    }
    Ok(Schema { name, args, returns, is_vararg, is_varret, text: line })
}

struct Parser {
    text: &'static str,
    at: usize,
}

impl Parser {
    fn rest(&self) -> &'static str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.take_while(|c| c == ' ');
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("expected {token:?} at {:?}", self.rest())) }
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'static str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn identifier(&mut self) -> &'static str {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    }

    fn result(&mut self) -> Result<SchemaReturn, String> {
        let (ty, _, alias) = self.ty()?;
        self.spaces();
        Ok(SchemaReturn { name: self.identifier().into(), ty, alias })
    }

    /// A type with its marks: `Tensor(a!)`, `int[2]?`, `Dict(str, t)(a)`, `(int, Tensor)[]`.
    fn ty(&mut self) -> Result<(Type, Option<usize>, Option<AliasMark>), String> {
        let mut ty = self.base()?;
        let (mut size, mut alias): (_, Option<AliasMark>) = (None, None);
        loop {
            if self.eat("[]") {
                ty = Type::list(ty);
                alias = alias.map(|mark| AliasMark { is_on_elements: true, ..mark });
            } else if self.eat("?") {
                ty = Type::optional(ty);
            } else if self.eat("[") {
                size = self.take_while(|c| c.is_ascii_digit()).parse().ok();
                self.expect("]")?;
                ty = Type::list(ty);
            } else if self.eat("(") {
                alias = Some(self.mark()?);
            } else {
                return Ok((ty, size, alias));
            }
        }
    }

    fn mark(&mut self) -> Result<AliasMark, String> {
        let set = self.take_while(|c| c.is_ascii_lowercase() || c == '|' || c == '*').into();
        let is_write = self.eat("!");
        let becomes_wildcard = self.eat(" -> *");
        self.expect(")")?;
        Ok(AliasMark { set, is_write, becomes_wildcard, is_on_elements: false })
    }

    fn types(&mut self) -> Result<Vec<Type>, String> {
        let mut types = Vec::new();
        while !self.eat(")") {
            types.push(self.ty()?.0);
            self.eat(",");
            self.spaces();
            if self.rest().is_empty() {
                return Err("the types do not end".into());
            }
        }
        Ok(types)
    }

    fn base(&mut self) -> Result<Type, String> {
        if self.eat("(") {
            return Ok(Type::Tuple(self.types()?.into()));
        }
        let name = self.identifier();
        let takes = matches!(name, "Dict" | "Future" | "RRef" | "Await");
        let mut inner = if takes && self.eat("(") { self.types()?.into_iter() } else { Vec::new().into_iter() };
        let mut next = || inner.next().map(Arc::new).ok_or(format!("{name} lacks a type"));
        Ok(match name {
            "Tensor" => Type::tensor(),
            "int" | "SymInt" | "ScalarType" | "Layout" | "MemoryFormat" | "QScheme" => Type::Int,
            "float" => Type::Float,
            "bool" | "SymBool" => Type::Bool,
            "complex" => Type::Complex,
            "Scalar" => Type::Number,
            "str" | "Dimname" => Type::Str,
            "NoneType" | "None" => Type::None,
            "Device" => Type::Device,
            "Generator" => Type::Generator,
            "Stream" => Type::Stream,
            "Storage" => Type::Storage,
            "Any" => Type::Any,
            "AnyListType" | "list" => Type::AnyList,
            "AnyTupleType" | "tuple" => Type::AnyTuple,
            "Function" => Type::Function,
            "Dict" => Type::Dict(next()?, next()?),
            "Future" => Type::Future(next()?),
            "RRef" => Type::RRef(next()?),
            "Await" => Type::Await(next()?),
            "" => return Err(format!("expected a type at {:?}", self.rest())),
            class if class.starts_with("__torch__.") => Type::Class(class.into()),
            // A variable, or a name that any enumeration or class matches.
            variable if variable.starts_with('t') || matches!(variable, "AnyEnumType" | "AnyClassType") => {
                Type::Var(variable.into())
            }
            other => return Err(format!("unknown type {other}")),
        })
    }

    fn default(&mut self, ty: &Type, list_size: Option<usize>) -> Result<IValue, String> {
        let element = match ty {
            Type::Optional(inner) => inner,
            other => other,
        };
        let value = self.literal(element)?;
        Ok(match (element, list_size, value) {
            (Type::List(_), _, list @ IValue::List(..)) => list,
            (Type::List(elem), Some(n), value @ (IValue::Int(_) | IValue::Float(_) | IValue::Bool(_))) => {
                IValue::List(Some((**elem).clone()), vec![value; n].into())
            }
            (_, _, value) => value,
        })
    }

    fn literal(&mut self, ty: &Type) -> Result<IValue, String> {
        let elem = if let Type::List(elem) = ty { elem } else { ty };
        if self.eat("[") {
            let mut items = Vec::new();
            while !self.eat("]") {
                items.push(self.literal(elem)?);
                self.eat(",");
                self.spaces();
                if self.rest().is_empty() {
                    return Err("the list does not end".into());
                }
            }
            return Ok(IValue::List(Some(elem.clone()), items.into()));
        }
        if self.eat("\"") {
            let (mut text, mut chars) = (String::new(), self.rest().char_indices());
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        self.at += at + 1;
                        return Ok(IValue::Str(text.into()));
                    }
                    '\\' => text.push(match chars.next().map(|(_, c)| c) {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some('f') => '\u{c}',
                        Some('v') => '\u{b}',
                        Some(other) => other,
                        None => return Err("a string does not end".into()),
                    }),
                    other => text.push(other),
                }
            }
            return Err("a string does not end".into());
        }
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+'));
        Ok(match word {
            "None" => IValue::None,
            "True" => IValue::Bool(true),
            "False" => IValue::Bool(false),
            "inf" => IValue::Float(f64::INFINITY),
            "nan" => IValue::Float(f64::NAN),
            "Mean" => IValue::Int(1),
            "contiguous_format" => IValue::Int(0),
            "strided" => IValue::Int(0),
            number => match (number.parse::<i64>(), number.parse::<f64>(), elem) {
                (Ok(int), _, Type::Float) => IValue::Float(int as f64),
                (Ok(int), ..) => IValue::Int(int),
                (_, Ok(float), _) => IValue::Float(float),
                _ => return Err(format!("unknown default {number:?}")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file_parses() {
        assert!(names().len() > 1000);
        assert!(!overloads("aten::add").is_empty());
        assert!(overloads("aten::no_such_thing").is_empty());
    }

    #[test]
    fn defaults_marks_and_sizes() {
        let conv = schema(&OpName::new("aten::conv2d")).expect("conv2d");
        let stride = &conv.args[conv.arg_index("stride").expect("stride")];
        assert_eq!(stride.list_size, Some(2));
        assert!(matches!(&stride.default, Some(IValue::List(_, items)) if items.len() == 2));
        let add = schema(&OpName::with_overload("aten::add_", "Tensor")).expect("add_");
        assert!(add.args[0].alias.as_ref().is_some_and(|mark| mark.is_write && &*mark.set == "a"));
        assert!(add.args[2].kw_only);
        let get = schema(&OpName::with_overload("aten::get", "str")).expect("get");
        assert_eq!(get.args[0].ty.to_string(), "Dict(str, t)");
        let max = schema(&OpName::with_overload("aten::max", "dim")).expect("max");
        assert_eq!(&*max.returns[1].name, "indices");
    }
}
