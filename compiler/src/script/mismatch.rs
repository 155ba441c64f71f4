//! Why arguments do not fit parameters, in PyTorch's words: the one place that phrases it for operators and functions.

use super::function::Emitter;
use super::names::{Program, Signature};
use super::ssa::V;
use super::typing::{Bindings, Classes, bind, has_vars, unify};
use crate::types::Type;
use std::fmt::Write as _;
use std::sync::Arc;

/// A type as messages name it: enumerations say that they are some.
pub(crate) fn repr(ty: &Type) -> String {
    if matches!(ty, Type::Enum(_)) { ty.to_string() } else { ty.annotation() }
}

/// The message about calls that fit none of several schemas, each with the reason.
pub(crate) fn no_variant(variants: &[(String, String)]) -> String {
    let mut text = "Arguments for call are not valid.\nThe following variants are available:\n".to_owned();
    for (schema, why) in variants {
        let _ = writeln!(text, "\n  {schema}:");
        for line in why.trim_end().lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The message about a call that does not fit the one schema there is.
pub(crate) fn not_the_schema(schema: &str, why: &str) -> String {
    format!("{schema}:\n{}", why.trim_end())
}

/// What an argument left out is told with.
pub(crate) fn not_provided(name: &str) -> String {
    format!("Argument {name} not provided.")
}

/// What arguments beyond the last parameter are told with.
pub(crate) fn too_many(n_taken: usize, n_given: usize) -> String {
    format!("Expected at most {n_taken} arguments but found {n_given} positional arguments.")
}

/// What a named argument is told with that no parameter takes.
pub(crate) fn unused_keyword(name: &str, is_parameter: bool) -> String {
    format!("Keyword argument {name} {}.", if is_parameter { "specified twice" } else { "unknown" })
}

/// The functions by an operator's name that are no operators, and so in no registry: their parameters and results.
fn function_variants(operator: &str) -> Vec<([(&'static str, Type); 2], Type)> {
    let numbers: &[Type] = match operator {
        "aten::add" | "aten::sub" | "aten::mul" | "aten::div" | "aten::eq" | "aten::ne" => {
            &[Type::Float, Type::Int, Type::Complex]
        }
        "aten::lt" | "aten::le" | "aten::gt" | "aten::ge" => &[Type::Float, Type::Int],
        "aten::__contains__" => return vec![([("self", Type::Str), ("key", Type::Str)], Type::Bool)],
        _ => &[],
    };
    numbers.iter().map(|ty| ([("a", ty.clone()), ("b", Type::tensor())], Type::tensor())).collect()
}

/// Why a value does not fit a parameter whose type has variables.
pub(crate) fn unbound(schema_type: &Type, name: &str, have: &str, actual: &Type, why: &Unmatched<'_>) -> String {
    let reason = why.reason(schema_type, actual, have);
    format!("Could not match type {have} to {} in argument '{name}': {reason}.", schema_type.annotation())
}

/// What is known when a type cannot be matched to one with variables.
pub(crate) struct Unmatched<'a> {
    /// The variables that have types.
    pub bindings: &'a Bindings,
    /// For relations between types.
    pub classes: &'a dyn Classes,
}

const EMPTY_LISTS: &str = "\nEmpty lists default to List[Tensor]. Add a variable annotation to the assignment to create an empty list of another type (torch.jit.annotate(List[T, []]) where T is the type of elements in the list for Python 2)";

/// Why a variable of an outer block, or of the last round, does not take a value.
pub(crate) fn reassigned(name: &str, had: &Type, has: &Type) -> String {
    let (had_text, has_text) = (had.annotation(), has.annotation());
    let more = if matches!((had, has), (Type::List(_), Type::List(_))) { EMPTY_LISTS } else { "" };
    format!(
        "Variable '{name}' previously had type {had_text} but is now being assigned to a value of type {has_text}{more}"
    )
}

impl Unmatched<'_> {
    fn reason(&self, formal: &Type, actual: &Type, have: &str) -> String {
        let inside = |formal: &Type, actual: &Type| self.reason(formal, actual, &repr(actual));
        match (formal, actual) {
            (Type::Var(var), _) => match self.bindings.iter().find(|(bound, _)| bound == var) {
                Some((_, bound)) if unify(bound, actual, self.classes).is_none() => {
                    format!(
                        "Type variable '{var}' previously matched to type {} is matched to type {have}",
                        repr(bound)
                    )
                }
                _ => format!("Cannot match {var} to {have}"),
            },
            (Type::List(f), Type::List(a)) | (Type::Optional(f), Type::Optional(a)) => inside(f, a),
            (Type::Future(f), Type::Future(a)) | (Type::Await(f), Type::Await(a)) => inside(f, a),
            (Type::Optional(f), _) => self.reason(f, actual, have),
            (Type::Dict(fk, fv), Type::Dict(ak, av)) => {
                let fits = !has_vars(fk) || bind(fk, ak, &mut self.bindings.clone(), self.classes);
                if fits { inside(fv, av) } else { inside(fk, ak) }
            }
            (Type::Tuple(f), Type::Tuple(a)) if f.len() == a.len() => {
                let fits = |f: &Type, a: &Type| bind(f, a, &mut self.bindings.clone(), self.classes);
                let bad = f.iter().zip(a.iter()).find(|(f, a)| !fits(f, a));
                bad.map_or_else(String::new, |(f, a)| inside(f, a))
            }
            (Type::Tuple(_), Type::Tuple(_)) => "Cannot match tuples of mismatched size".to_owned(),
            (Type::Tuple(_), _) => format!("Cannot match a tuple to {have}"),
            (Type::Dict(..), _) => format!("Cannot match a dict to {have}"),
            (Type::Future(_), _) => format!("Cannot match a future to {have}"),
            (Type::Await(_), _) => format!("Cannot match an await to {have}"),
            (Type::RRef(_), _) => format!("Cannot match a rref to {have}"),
            _ => format!("Cannot match {} to {have}", formal.annotation()),
        }
    }
}

impl Emitter<'_, '_> {
    /// The type of a value as messages name it: that of a parameter without annotation says so.
    pub(crate) fn repr(&self, value: &V) -> String {
        let is_inferred = matches!(value.ty, Type::Tensor(_)) && self.inferred.contains(&value.id);
        if is_inferred { "Tensor (inferred)".to_owned() } else { repr(&value.ty) }
    }

    /// Why a value does not fit a parameter's type.
    pub(crate) fn misfit(&self, want: &str, name: &str, value: &V) -> String {
        let have = self.repr(value);
        let mut text =
            format!("Expected a value of type '{want}' for argument '{name}' but instead found type '{have}'.");
        if want == "Tensor (inferred)" {
            let _ = write!(
                text,
                "\nInferred '{name}' to be of type 'Tensor' because it was not annotated with an explicit type."
            );
        }
        if have == "Tensor (inferred)" {
            let _ = write!(
                text,
                "\nInferred the value for argument '{name}' to be of type 'Tensor' because it was not annotated with an explicit type."
            );
        }
        if matches!(&value.ty, Type::List(elem) if matches!(**elem, Type::Tensor(_))) {
            text.push_str(EMPTY_LISTS);
        }
        text
    }

    /// Why an operator's variants that are functions do not fit, each with its schema.
    pub(crate) fn no_function(&self, operator: &str, positional: &[V]) -> Vec<(String, String)> {
        let base = operator.rsplit("::").next().unwrap_or(operator);
        let variants = function_variants(operator).into_iter();
        let described = variants.map(|(params, result)| {
            let listed: Vec<String> = params.iter().map(|(name, ty)| format!("{ty} {name}")).collect();
            let mut given = positional.iter();
            let misfit = params.iter().find_map(|(name, ty)| match given.next() {
                Some(value) if self.is_convertible(&value.ty, ty) => None,
                Some(value) => Some(self.misfit(&repr(ty), name, value)),
                None => Some(not_provided(name)),
            });
            let why = misfit.unwrap_or_else(|| too_many(params.len(), positional.len()));
            (format!("{base}({}) -> {result}", listed.join(", ")), why)
        });
        described.collect()
    }
}

impl Program<'_> {
    /// A function's schema as PyTorch prints it; the result is the one it is known to have.
    pub(crate) fn schema_text(&self, name: &str, signature: &Signature, result: Option<&Type>) -> String {
        let short = name.rsplit('.').next().unwrap_or(name);
        let mut text = format!("{short}(");
        let mut is_open = true;
        for (at, param) in signature.params.iter().enumerate() {
            if at > 0 {
                text.push_str(", ");
            }
            if param.is_keyword_only && std::mem::take(&mut is_open) {
                text.push_str("*, ");
            }
            let _ = write!(text, "{} {}", param.ty, param.name);
            if let Some(default) = &param.default {
                let written = signature.file.as_ref().map_or("...", |file| file.text(default.range));
                let _ = write!(text, "={written}");
            }
        }
        let result = result.unwrap_or(&Type::tensor()).to_string();
        let result = if result.starts_with('(') { format!("({result})") } else { result };
        let _ = write!(text, ") -> {result}");
        text
    }

    /// Why a class or interface is not of an interface, in sentences.
    pub(crate) fn why_not_of(&self, have: &Type, want: &Type) -> Option<String> {
        let Type::Interface(interface) = want else { return None };
        let (Type::Class(class) | Type::Interface(class)) = have else { return None };
        let is_class = matches!(have, Type::Class(_));
        let (own, wanted) = (self.classes.get(class)?, self.classes.get(interface)?);
        for method in &wanted.class.methods {
            if !own.methods.contains_key(method) {
                return Some(if is_class {
                    format!("Class '{class}' does not have method '{method}' but '{interface}' does.")
                } else {
                    format!("Interface '{class}' does not have method '{method}' but interface '{interface}' does.")
                });
            }
            if !self.is_compatible(class, interface, method) {
                let kind = if is_class { "class" } else { "interface" };
                let text = |owner: &Arc<str>| {
                    let full: Arc<str> = format!("{owner}.{method}").into();
                    let signature = self.known_signature(&full)?;
                    Some(self.schema_text(method, &signature, self.result_of(&full, &signature).as_ref()))
                };
                return Some(format!(
                    "Method on {kind} '{class}' (1) is not compatible with interface '{interface}' (2)\n  (1) {}\n  (2) {}",
                    text(class)?,
                    text(interface)?
                ));
            }
        }
        None
    }

    /// Whether a class's method can be called as the interface says; yes where a signature is not known.
    pub(crate) fn is_compatible(&self, class: &str, interface: &str, method: &str) -> bool {
        let (own, wanted) = (format!("{class}.{method}").into(), format!("{interface}.{method}").into());
        let (Some(have), Some(want)) = (self.known_signature(&own), self.known_signature(&wanted)) else { return true };
        let is_sub = |sub: &Type, sup: &Type| super::typing::is_subtype(sub, sup, self);
        let params = have.params.iter().zip(&want.params).skip(1);
        have.params.len() == want.params.len()
            && params.into_iter().all(|(have, want)| have.name == want.name && is_sub(&want.ty, &have.ty))
            && match (self.result_of(&own, &have), self.result_of(&wanted, &want)) {
                (Some(have), Some(want)) => is_sub(&have, &want),
                _ => true,
            }
    }

    /// A function's result: declared, or that of its compiled body.
    fn result_of(&self, name: &Arc<str>, signature: &Signature) -> Option<Type> {
        signature.result.clone().or_else(|| self.functions.get(name).map(|f| f.result.clone()))
    }
}
