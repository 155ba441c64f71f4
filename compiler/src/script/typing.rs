//! Relations between types: subtyping, the common type of two, and binding the type variables of schemas.

use crate::types::Type;
use std::sync::Arc;

/// What type relations ask of the classes of the program.
pub(crate) trait Classes {
    /// Whether a class has every method of an interface.
    fn satisfies(&self, class: &str, interface: &str) -> bool;
}

/// The type without what is known of a tensor's dtype and shape.
pub(crate) fn unshaped(ty: &Type) -> Type {
    if matches!(ty, Type::Tensor(_)) { Type::tensor() } else { ty.clone() }
}

/// The members of a union or optional; a type that is neither is its own only member.
pub(crate) fn members(ty: &Type) -> Vec<Type> {
    match ty {
        Type::Optional(inner) => {
            let mut all = members(inner);
            all.push(Type::None);
            all
        }
        Type::Union(items) => items.iter().flat_map(members).collect(),
        Type::Number => vec![Type::Int, Type::Float, Type::Complex],
        other => vec![other.clone()],
    }
}

/// The union of these types in canonical form: no duplicates, no member inside another, `Optional` and `number` where they say the same.
pub(crate) fn union(types: Vec<Type>, classes: &dyn Classes) -> Type {
    let mut flat: Vec<Type> = Vec::new();
    for ty in types.iter().flat_map(members) {
        if !flat.contains(&ty) {
            flat.push(ty);
        }
    }
    let kept: Vec<Type> = flat
        .iter()
        .enumerate()
        .filter(|&(i, ty)| !flat.iter().enumerate().any(|(j, other)| i != j && is_subtype(ty, other, classes)))
        .map(|(_, ty)| ty.clone())
        .collect();
    let is_number = [Type::Int, Type::Float, Type::Complex].iter().all(|n| kept.contains(n));
    let has_none = kept.contains(&Type::None);
    let mut rest: Vec<Type> = kept.into_iter().filter(|ty| *ty != Type::None).collect();
    if is_number {
        rest.retain(|ty| !matches!(ty, Type::Int | Type::Float | Type::Complex));
        rest.push(Type::Number);
    }
    match (rest.len(), has_none) {
        (0, _) => Type::None,
        (1, false) => rest.remove(0),
        (1, true) => Type::optional(rest.remove(0)),
        (_, has_none) => {
            if has_none {
                rest.push(Type::None);
            }
            in_order(&mut rest);
            Type::Union(rest.into())
        }
    }
}

/// Members in the order in which unions and `isinstance` print, each once.
pub(crate) fn in_order(types: &mut Vec<Type>) {
    types.sort_by_cached_key(|ty| (rank(ty), ty.to_string()));
    types.dedup();
}

/// Where a member stands in the printed order of a union.
fn rank(ty: &Type) -> u8 {
    match ty {
        Type::Tensor(_) => 0,
        Type::List(_) => 1,
        Type::Dict(..) => 2,
        Type::Tuple(_) | Type::NamedTuple(_) => 3,
        Type::Int => 5,
        Type::Float => 4,
        Type::Complex => 6,
        Type::Number => 7,
        Type::Bool => 8,
        Type::None => 9,
        Type::Str => 10,
        Type::Device
        | Type::Generator
        | Type::Stream
        | Type::Storage
        | Type::Capsule
        | Type::Any
        | Type::AnyTuple
        | Type::AnyList
        | Type::Function
        | Type::Optional(_)
        | Type::Union(_)
        | Type::Future(_)
        | Type::Await(_)
        | Type::RRef(_)
        | Type::Enum(_)
        | Type::Class(_)
        | Type::Interface(_)
        | Type::Var(_) => 11,
    }
}

/// Whether every value of `sub` is one of `sup`.
pub(crate) fn is_subtype(sub: &Type, sup: &Type, classes: &dyn Classes) -> bool {
    if sub == sup {
        return true;
    }
    match (sub, sup) {
        (_, Type::Any) => true,
        (Type::Union(items), _) => items.iter().all(|item| is_subtype(item, sup, classes)),
        (Type::Optional(inner), _) => is_subtype(&Type::None, sup, classes) && is_subtype(inner, sup, classes),
        (_, Type::Optional(inner)) => *sub == Type::None || is_subtype(sub, inner, classes),
        (_, Type::Union(items)) => items.iter().any(|item| is_subtype(sub, item, classes)),
        (Type::Int | Type::Float | Type::Complex, Type::Number) => true,
        (Type::Tensor(_), Type::Tensor(general)) => general.dtype.is_none() && general.sizes.is_none(),
        (Type::List(a), Type::List(b)) => unshaped(a) == unshaped(b) || is_list_of_tensors(a, b),
        (Type::List(_), Type::AnyList) | (Type::Tuple(_) | Type::NamedTuple(_), Type::AnyTuple) => true,
        (Type::Tuple(a), Type::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| is_subtype(a, b, classes))
        }
        (Type::NamedTuple(a), Type::Tuple(b)) => {
            a.fields.len() == b.len() && a.fields.iter().zip(b.iter()).all(|((_, a), b)| is_subtype(a, b, classes))
        }
        (Type::NamedTuple(a), Type::NamedTuple(b)) => a.name == b.name,
        (Type::Future(a), Type::Future(b)) | (Type::Await(a), Type::Await(b)) | (Type::RRef(a), Type::RRef(b)) => {
            is_subtype(a, b, classes)
        }
        (Type::Class(class), Type::Interface(interface)) => classes.satisfies(class, interface),
        (Type::Enum(a), Type::Enum(b)) => a.name == b.name,
        (Type::Interface(a), Type::Interface(b)) => classes.satisfies(a, b),
        _ => false,
    }
}

/// Operators that take `Tensor?[]` take `Tensor[]` too.
fn is_list_of_tensors(elem: &Type, optional: &Type) -> bool {
    matches!((elem, optional), (Type::Tensor(_), Type::Optional(inner)) if matches!(**inner, Type::Tensor(_)))
}

/// The narrowest type that both are, if the language names one.
pub(crate) fn unify(a: &Type, b: &Type, classes: &dyn Classes) -> Option<Type> {
    match (a, b) {
        _ if is_subtype(a, b, classes) => Some(b.clone()),
        _ if is_subtype(b, a, classes) => Some(a.clone()),
        (Type::Tensor(_), Type::Tensor(_)) => Some(Type::tensor()),
        (Type::None, other) | (other, Type::None) => Some(Type::optional(other.clone())),
        (Type::Optional(x), y) | (y, Type::Optional(x)) => {
            let y = if let Type::Optional(y) = y { y } else { y };
            unify(x, y, classes).map(Type::optional)
        }
        (Type::Tuple(x), Type::Tuple(y)) if x.len() == y.len() => {
            let items = x.iter().zip(y.iter()).map(|(x, y)| unify(x, y, classes)).collect::<Option<Vec<_>>>()?;
            Some(Type::Tuple(items.into()))
        }
        (Type::List(x), Type::List(y)) if unshaped(x) == unshaped(y) => Some(Type::list(unshaped(x))),
        _ => None,
    }
}

/// Bindings of the type variables of one schema.
pub(crate) type Bindings = Vec<(Arc<str>, Type)>;

/// Whether a name in a schema is no variable but stands for all enumerations or all classes.
fn is_any_of_a_kind(name: &str) -> bool {
    matches!(name, "AnyEnumType" | "AnyClassType")
}

/// Whether the type is of the kind that `AnyEnumType` or `AnyClassType` stands for.
pub(crate) fn is_of_kind(ty: &Type, name: &str) -> bool {
    matches!((ty, name), (Type::Enum(_), "AnyEnumType") | (Type::Class(_), "AnyClassType"))
}

/// Whether a type mentions a type variable that must be bound.
pub(crate) fn has_vars(ty: &Type) -> bool {
    match ty {
        Type::Var(name) => !is_any_of_a_kind(name),
        Type::List(t) | Type::Optional(t) | Type::Future(t) | Type::Await(t) | Type::RRef(t) => has_vars(t),
        Type::Dict(k, v) => has_vars(k) || has_vars(v),
        Type::Tuple(items) | Type::Union(items) => items.iter().any(has_vars),
        Type::Tensor(_)
        | Type::Int
        | Type::Float
        | Type::Bool
        | Type::Complex
        | Type::Number
        | Type::Str
        | Type::None
        | Type::Device
        | Type::Generator
        | Type::Stream
        | Type::Storage
        | Type::Capsule
        | Type::Any
        | Type::AnyTuple
        | Type::AnyList
        | Type::Function
        | Type::NamedTuple(_)
        | Type::Enum(_)
        | Type::Class(_)
        | Type::Interface(_) => false,
    }
}

/// Binds the variables of `formal` so that `actual` fits; `false` if it cannot.
pub(crate) fn bind(formal: &Type, actual: &Type, bindings: &mut Bindings, classes: &dyn Classes) -> bool {
    if !has_vars(formal) {
        return true;
    }
    match (formal, actual) {
        (Type::Var(name), _) => {
            if let Some((_, bound)) = bindings.iter_mut().find(|(bound, _)| bound == name) {
                match unify(bound, actual, classes) {
                    Some(ty) => {
                        *bound = ty;
                        true
                    }
                    None => false,
                }
            } else {
                bindings.push((Arc::clone(name), unshaped(actual)));
                true
            }
        }
        (Type::List(f), Type::List(a)) => bind(f, a, bindings, classes),
        (Type::List(f), Type::Tuple(items)) if !items.is_empty() => {
            let mut all = items[0].clone();
            for item in &items[1..] {
                match unify(&all, item, classes) {
                    Some(ty) => all = ty,
                    None => return false,
                }
            }
            bind(f, &all, bindings, classes)
        }
        (Type::Optional(f), Type::Optional(a)) => bind(f, a, bindings, classes),
        (Type::Optional(_), Type::None) => true,
        (Type::Optional(f), _) => bind(f, actual, bindings, classes),
        (Type::Dict(fk, fv), Type::Dict(ak, av)) => bind(fk, ak, bindings, classes) && bind(fv, av, bindings, classes),
        (Type::Tuple(f), Type::Tuple(a)) if f.len() == a.len() => {
            f.iter().zip(a.iter()).all(|(f, a)| bind(f, a, bindings, classes))
        }
        (Type::Future(f), Type::Future(a)) | (Type::Await(f), Type::Await(a)) | (Type::RRef(f), Type::RRef(a)) => {
            bind(f, a, bindings, classes)
        }
        _ => false,
    }
}

/// The type with its variables replaced; `None` if one is not bound.
pub(crate) fn substitute(ty: &Type, bindings: &Bindings) -> Option<Type> {
    let sub = |t: &Arc<Type>| substitute(t, bindings).map(Arc::new);
    Some(match ty {
        Type::Var(name) if !is_any_of_a_kind(name) => bindings.iter().find(|(bound, _)| bound == name)?.1.clone(),
        Type::List(t) => Type::List(sub(t)?),
        Type::Optional(t) => Type::optional(substitute(t, bindings)?),
        Type::Future(t) => Type::Future(sub(t)?),
        Type::Await(t) => Type::Await(sub(t)?),
        Type::RRef(t) => Type::RRef(sub(t)?),
        Type::Dict(k, v) => Type::Dict(sub(k)?, sub(v)?),
        Type::Tuple(items) => {
            Type::Tuple(items.iter().map(|t| substitute(t, bindings)).collect::<Option<Vec<_>>>()?.into())
        }
        other => other.clone(),
    })
}
