//! Reads the annotation form of a type (`Dict[str, List[int]]`), as archives write it.

use super::Type;
use std::sync::Arc;

/// Deepest nesting of a type text.
const MAX_TYPE_DEPTH: usize = 64;

impl Type {
    /// The type that an annotation names, or `None` if the text is not a type. A name that is not built in becomes
    /// [`Type::Class`]; who knows the class definitions tells enums, named tuples and interfaces apart.
    ///
    /// ```
    /// use aot::types::Type;
    /// assert_eq!(Type::parse_annotation("List[ int ]"), Some(Type::list(Type::Int)));
    /// assert_eq!(Type::parse_annotation("List["), None);
    /// ```
    pub fn parse_annotation(text: &str) -> Option<Self> {
        let mut rest = text;
        let ty = parse(&mut rest, 0)?;
        rest.trim_start().is_empty().then_some(ty)
    }
}

fn parse(rest: &mut &str, depth: usize) -> Option<Type> {
    if depth > MAX_TYPE_DEPTH {
        return None;
    }
    let name = take_name(rest)?;
    if !take(rest, '[') {
        return plain(name);
    }
    let args = arguments(rest, depth + 1)?;
    let mut args = args.into_iter();
    let count = args.len();
    let mut next = || args.next().map(Arc::new);
    Some(match (name, count) {
        ("List" | "list", 1) => Type::List(next()?),
        ("Dict" | "dict", 2) => Type::Dict(next()?, next()?),
        ("Tuple" | "tuple", _) => Type::Tuple(args.collect()),
        ("Optional", 1) => Type::optional(args.next()?),
        ("Union", 1..) => union(args.collect()),
        ("Future", 1) => Type::Future(next()?),
        ("Await", 1) => Type::Await(next()?),
        ("RRef", 1) => Type::RRef(next()?),
        ("Final", 1) => args.next()?,
        _ => return None,
    })
}

/// A union of nothing but one type and `None` is an optional.
fn union(items: Vec<Type>) -> Type {
    let others: Vec<_> = items.iter().filter(|t| **t != Type::None).collect();
    match others.as_slice() {
        [one] if items.len() > 1 => Type::optional((*one).clone()),
        [one] => (*one).clone(),
        _ => Type::Union(items.into()),
    }
}

/// The arguments after `[`, up to and with `]`. The empty tuple's argument is written `()`.
fn arguments(rest: &mut &str, depth: usize) -> Option<Vec<Type>> {
    let mut args = Vec::new();
    if take(rest, '(') {
        return (take(rest, ')') && take(rest, ']')).then_some(args);
    }
    loop {
        if take(rest, ']') {
            return Some(args);
        }
        args.push(parse(rest, depth)?);
        if !take(rest, ',') {
            return take(rest, ']').then_some(args);
        }
    }
}

fn take(rest: &mut &str, c: char) -> bool {
    match rest.trim_start().strip_prefix(c) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn take_name<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == '<' || c == '>'));
    let (name, after) = text.split_at(end.unwrap_or(text.len()));
    *rest = after;
    let is_name = name.split('.').all(|part| !part.is_empty() && !part.starts_with(|c: char| c.is_ascii_digit()));
    is_name.then_some(name)
}

fn plain(name: &str) -> Option<Type> {
    Some(match name {
        "Tensor" | "torch.Tensor" => Type::tensor(),
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "complex" => Type::Complex,
        "number" | "Scalar" => Type::Number,
        "str" => Type::Str,
        "None" | "NoneType" => Type::None,
        "Device" | "torch.device" => Type::Device,
        "Generator" | "torch.Generator" => Type::Generator,
        "Stream" => Type::Stream,
        "Storage" => Type::Storage,
        "Capsule" => Type::Capsule,
        "Any" => Type::Any,
        "tuple" | "AnyTupleType" | "AnyTuple" => Type::AnyTuple,
        "list" | "AnyListType" | "AnyList" => Type::AnyList,
        "Function" => Type::Function,
        "List" | "Dict" | "Tuple" | "Optional" | "Union" | "Future" | "Await" | "RRef" | "Final" | "dict" => {
            return None;
        }
        "torch.dtype" | "torch.layout" | "torch.memory_format" | "torch.qscheme" => Type::Int,
        _ => Type::Class(name.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in [
            "Tensor",
            "List[int]",
            "Dict[str, Dict[str, List[int]]]",
            "Tuple[int, Tuple[str, float]]",
            "Tuple[()]",
            "Optional[List[Optional[Tensor]]]",
            "Union[int, str, List[int]]",
            "__torch__.torch.nn.modules.linear.___torch_mangle_0.Linear",
            "Future[Tensor]",
            "NoneType",
        ] {
            let ty = Type::parse_annotation(text).unwrap_or_else(|| panic!("{text} parses"));
            assert_eq!(ty.annotation(), text);
        }
        assert_eq!(Type::parse_annotation("Union[int, NoneType]"), Some(Type::optional(Type::Int)));
    }

    #[test]
    fn refuses_what_is_no_type() {
        for text in
            ["", "List", "List[", "List[]x", "List[int", "List[int]]", "int int", "Dict[int]", "a..b", "3", "[]"]
        {
            assert_eq!(Type::parse_annotation(text), None, "{text}");
        }
        assert_eq!(Type::parse_annotation(&("List[".repeat(5000) + "int" + &"]".repeat(5000))), None);
    }
}
