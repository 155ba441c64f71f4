//! Displays of lists and dictionaries, and what an annotation says of their items.

use super::function::Emitter;
use super::mismatch::repr;
use super::ssa::V;
use super::typing::{members, unify, union, unshaped};
use crate::diag::{Diagnostic, Result};
use crate::syntax::ast::{Expr, ExprKind, TextRange};
use crate::types::Type;
use std::sync::Arc;

/// What is displayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Display {
    List,
    Dict,
}

impl Display {
    fn is_kind_of(self, ty: &Type) -> bool {
        match self {
            Self::List => matches!(ty, Type::List(_)),
            Self::Dict => matches!(ty, Type::Dict(..)),
        }
    }

    /// As annotations and messages name it.
    fn name(self) -> &'static str {
        match self {
            Self::List => "List",
            Self::Dict => "Dict",
        }
    }
}

impl Emitter<'_, '_> {
    /// The types that an annotation allows for a display; none where it leaves that open.
    fn display_types(&self, kind: Display, hint: Option<&Type>, is_empty: bool, range: TextRange) -> Result<Vec<Type>> {
        let Some(hint) = hint else { return Ok(Vec::new()) };
        let types: Vec<Type> = members(hint).into_iter().filter(|ty| kind.is_kind_of(ty)).collect();
        if !self.is_text() {
            return Ok(types);
        }
        let name = kind.name();
        let is_other = match hint {
            Type::Tensor(_) | Type::Int | Type::Float | Type::Complex | Type::Bool | Type::Str | Type::Tuple(_) => true,
            Type::List(_) | Type::Dict(..) => !kind.is_kind_of(hint),
            _ => false,
        };
        if is_other {
            return Err(self.error(range, format!("Expected an annotation of type {name} but got {}", repr(hint))));
        }
        if is_empty && types.len() > 1 {
            let text = format!(
                "Cannot assign an empty {} to a variable annotated to be type {} because there are multiple possible {name} type candidates in the Union annotation",
                name.to_lowercase(),
                repr(hint)
            );
            return Err(self.error(range, text));
        }
        Ok(types)
    }

    /// The one type that an annotation wants a display to have, if it wants one.
    pub(crate) fn display_type(
        &self,
        kind: Display,
        hint: Option<&Type>,
        is_empty: bool,
        range: TextRange,
    ) -> Result<Option<Type>> {
        let mut types = self.display_types(kind, hint, is_empty, range)?;
        Ok(if types.len() == 1 { types.pop() } else { None })
    }

    /// Refuses a display whose type is none of those that a union allows for it.
    pub(crate) fn check_union(&self, kind: Display, hint: Option<&Type>, made: &V, range: TextRange) -> Result<()> {
        let types = self.display_types(kind, hint, false, range)?;
        let (Some(hint), true) = (hint, self.is_text() && types.len() > 1) else { return Ok(()) };
        if types.iter().any(|ty| self.is_subtype(&made.ty, ty)) {
            return Ok(());
        }
        let list = types.iter().map(repr).collect::<Vec<_>>().join(" or ");
        let rest = match (kind, &made.ty) {
            (Display::List, Type::List(elem)) => {
                format!("types match the types of the given list elements, which were unified to {}", repr(elem))
            }
            (_, ty) => format!(
                "dict types can hold the types of the given keys and values, which were unified to {}",
                repr(ty)
            ),
        };
        let text = format!("Union type annotation `{}` can hold {list}, but none of those {rest}", repr(hint));
        Err(self.error(range, text))
    }

    /// The error of a list whose elements are not what its annotation says.
    pub(crate) fn wrong_elements(&self, elem: &Type, unified: &Type, range: TextRange) -> Box<Diagnostic> {
        let (elem, unified) = (elem.annotation(), repr(unified));
        self.error(
            range,
            format!(
                "List type annotation `List[{elem}]` did not match the types of the given list elements, which were unified to {unified}"
            ),
        )
    }

    /// `[a, b]`.
    pub(crate) fn list(&mut self, items: &[Expr], hint: Option<&Type>, range: TextRange) -> Result<V> {
        let is_nameless = items.is_empty() && hint.is_none() && self.is_text();
        let wanted = match self.display_type(Display::List, hint, items.is_empty(), range)? {
            Some(Type::List(elem)) => Some((*elem).clone()),
            _ => None,
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            if let ExprKind::Starred(inner) = &item.kind {
                let made = self.expr_sugar(inner, None)?;
                let n = self.n_unpacked(&made, inner.range)?;
                values.extend(self.unpack(made, n, false, inner.range)?);
            } else {
                let made = self.expr_sugar(item, wanted.as_ref())?;
                values.push(self.value_of(made, item.range)?);
            }
        }
        let elem = match wanted {
            Some(elem) => {
                let unified = self.common_type(&values);
                let convert = |e: &mut Self, v: V| {
                    e.convert(v, &elem, true, range).map_err(|_| e.wrong_elements(&elem, &unified, range))
                };
                values = values.into_iter().map(|v| convert(self, v)).collect::<Result<_>>()?;
                elem
            }
            None => self.common_type(&values),
        };
        let inputs: Vec<&V> = values.iter().collect();
        let made = self.prim("prim::ListConstruct", &inputs, Type::list(elem), range);
        self.check_union(Display::List, hint, &made, range)?;
        if is_nameless {
            self.nameless.insert(made.id);
            self.empty_literals.insert(made.id);
        }
        Ok(self.as_union(made, hint, range))
    }

    /// The element type of a display; `Tensor` if it is empty.
    fn common_type(&self, values: &[V]) -> Type {
        let Some(first) = values.first() else { return Type::tensor() };
        let mut all = unshaped(&first.ty);
        for value in &values[1..] {
            all = unify(&all, &value.ty, self.program)
                .unwrap_or_else(|| union(vec![all.clone(), value.ty.clone()], self.program));
        }
        all
    }

    /// `{a: b}`.
    pub(crate) fn dict(&mut self, entries: &[(Expr, Expr)], hint: Option<&Type>, range: TextRange) -> Result<V> {
        let wanted = match self.display_type(Display::Dict, hint, entries.is_empty(), range)? {
            Some(Type::Dict(k, v)) => Some(((*k).clone(), (*v).clone())),
            _ => None,
        };
        let (mut keys, mut values): (Vec<V>, Vec<V>) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let made = self.expr(key)?;
            if let Some(first) = keys.first().filter(|first| self.is_text() && first.ty != made.ty) {
                let (first, other) = (repr(&first.ty), repr(&made.ty));
                return Err(self.error(
                    key.range,
                    format!("Dict keys must contain only a single type. Expected: {first} but found {other} instead"),
                ));
            }
            keys.push(made);
            let made = self.expr_sugar(value, wanted.as_ref().map(|wanted| &wanted.1))?;
            values.push(self.value_of(made, value.range)?);
        }
        let given = (if keys.is_empty() { Type::Str } else { self.common_type(&keys) }, self.common_type(&values));
        let (key, value) = wanted.unwrap_or_else(|| given.clone());
        let mut inputs = Vec::with_capacity(keys.len() * 2);
        for (k, v) in keys.into_iter().zip(values) {
            for (item, ty, what, given) in [(k, &key, "keys", &given.0), (v, &value, "values", &given.1)] {
                let item = self.convert(item, ty, true, range).map_err(|_| {
                    let (key, value, given) = (key.annotation(), value.annotation(), repr(given));
                    let text = format!(
                        "Type annotation was inferred to be `Dict[{key}, {value}]`, but the type of {what} given by the dict literal is {given}"
                    );
                    self.error(range, text)
                })?;
                inputs.push(item);
            }
        }
        let inputs: Vec<&V> = inputs.iter().collect();
        let ty = Type::Dict(Arc::new(key), Arc::new(value));
        let made = self.prim("prim::DictConstruct", &inputs, ty, range);
        self.check_union(Display::Dict, hint, &made, range)?;
        Ok(self.as_union(made, hint, range))
    }

    /// A display as a value of the union that it is annotated with.
    fn as_union(&mut self, made: V, hint: Option<&Type>, range: TextRange) -> V {
        match hint {
            Some(ty @ (Type::Union(_) | Type::Optional(_))) if self.is_text() && self.is_subtype(&made.ty, ty) => {
                self.prim("prim::unchecked_cast", &[&made], ty.clone(), range)
            }
            _ => made,
        }
    }
}
