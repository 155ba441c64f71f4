//! Subscripts: reading and writing `x[...]` of tensors, lists, tuples, strings and dictionaries.

use super::function::Emitter;
use super::ssa::V;
use super::typing::unify;
use crate::diag::Result;
use crate::syntax::ast::{Expr, ExprKind, TextRange};
use crate::types::{IValue, Type};

impl Emitter<'_, '_> {
    /// `object[items]`.
    pub(crate) fn subscript_value(&mut self, object: V, items: &[Expr], range: TextRange) -> Result<V> {
        match (&object.ty, items) {
            (Type::Tensor(_), _) => {
                let (view, tensors) = self.basic_index(object, items, range)?;
                match tensors {
                    None => Ok(view),
                    Some(indices) => {
                        let list = self.index_list(&indices, range);
                        self.builtin_value("aten::index", vec![view, list], range)
                    }
                }
            }
            (Type::Class(_), [item]) if let Some(value) = self.container_subscript(&object, item, range)? => Ok(value),
            (Type::Tuple(_) | Type::NamedTuple(_), [item]) => self.tuple_subscript(&object, item, range),
            (_, [Expr { kind: ExprKind::Slice { start, stop, step }, .. }]) => {
                let one = self.int(1, range);
                let mut args = vec![object];
                for part in [start, stop] {
                    args.push(match part {
                        Some(part) => self.expr(part)?,
                        None => self.none(range),
                    });
                }
                args.push(match step {
                    Some(step) => self.expr(step)?,
                    None => one,
                });
                self.builtin_value("aten::slice", args, range)
            }
            (Type::Str | Type::List(_) | Type::Dict(..), [item]) => {
                let item = self.expr(item)?;
                self.builtin_value("aten::__getitem__", vec![object, item], range)
            }
            (Type::Class(_), [item]) => {
                let item = self.expr(item)?;
                let made = self.call_method(&object, &"__getitem__".into(), vec![item], Vec::new(), range)?;
                self.value_of(made, range)
            }
            (_, [_, _, ..] | [Expr { kind: ExprKind::Tuple(_), .. }]) if self.is_text() => Err(self.error(
                range,
                "Unsupported operation: attempted to use multidimensional indexing on a non-tensor type",
            )),
            (ty, _) => {
                let ty = ty.annotation();
                Err(self.error(range, format!("'{ty}' object is not subscriptable")))
            }
        }
    }

    fn tuple_subscript(&mut self, object: &V, item: &Expr, range: TextRange) -> Result<V> {
        let types: Vec<Type> = match &object.ty {
            Type::Tuple(items) => items.to_vec(),
            Type::NamedTuple(named) => named.fields.iter().map(|(_, ty)| ty.clone()).collect(),
            ty => return Err(self.error(range, format!("{ty} cannot be used as a tuple"))),
        };
        let n = i64::try_from(types.len()).unwrap_or(i64::MAX);
        if let ExprKind::Slice { start, stop, step } = &item.kind {
            let mut bound = |part: &Option<Box<Expr>>| match part {
                None => Ok(None),
                Some(part) => {
                    let value = self.expr(part)?;
                    match self.known(&value) {
                        Some(IValue::Int(x)) => Ok(Some(x)),
                        Some(IValue::None) => Ok(None),
                        _ => Err(self.error(range, "tuple slice indices must be integer constants")),
                    }
                }
            };
            let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
            if step == 0 {
                return Err(self.error(range, "slice step cannot be zero"));
            }
            let wrap = |x: i64, lo: i64, hi: i64| (if x < 0 { x.saturating_add(n) } else { x }).clamp(lo, hi);
            let mut picked = Vec::new();
            let (mut at, end) = if step > 0 {
                (start.map_or(0, |x| wrap(x, 0, n)), stop.map_or(n, |x| wrap(x, 0, n)))
            } else {
                (start.map_or(n - 1, |x| wrap(x, -1, n - 1)), stop.map_or(-1, |x| wrap(x, -1, n - 1)))
            };
            while (step > 0 && at < end) || (step < 0 && at > end) {
                let place = usize::try_from(at).expect("clamped to the tuple");
                picked.push(self.tuple_index(object, place, range));
                at = at.saturating_add(step);
            }
            return Ok(self.tuple(picked, range));
        }
        let index = self.expr(item)?;
        if let Some(IValue::Int(at)) = self.known(&index) {
            let place = if at < 0 { at.saturating_add(n) } else { at };
            match usize::try_from(place) {
                Ok(place) if place < types.len() => {
                    let ty = types[place].clone();
                    Ok(self.prim("prim::TupleIndex", &[object, &index], ty, range))
                }
                _ => {
                    let text = format!("Tuple index out of range. Tuple is length {n} and index is {at}");
                    Err(self.error(range, text))
                }
            }
        } else {
            let mut all = types.first().cloned();
            for ty in types.iter().skip(1) {
                all = all.and_then(|all| (unify(&all, ty, self.program) == Some(all.clone())).then_some(all));
            }
            match all {
                Some(ty) if index.ty == Type::Int => Ok(self.prim("prim::TupleIndex", &[object, &index], ty, range)),
                _ => Err(self.error(
                    range,
                    format!(
                        "Cannot index into a {} with a non-integer literal because we cannot resolve the output type",
                        object.ty.annotation()
                    ),
                )),
            }
        }
    }

    /// Element `at` of a tuple.
    pub(crate) fn tuple_index(&mut self, tuple: &V, at: usize, range: TextRange) -> V {
        let ty = match &tuple.ty {
            Type::Tuple(items) => items[at].clone(),
            Type::NamedTuple(named) => named.fields[at].1.clone(),
            _ => unreachable!("only tuples are indexed by position"),
        };
        let index = self.int(i64::try_from(at).unwrap_or(i64::MAX), range);
        self.prim("prim::TupleIndex", &[tuple, &index], ty, range)
    }

    /// The view that ints, slices, `None` and `...` make, and the list of tensor indices, if there are any.
    fn basic_index(&mut self, tensor: V, items: &[Expr], range: TextRange) -> Result<(V, Option<Vec<V>>)> {
        let flat: Vec<&Expr> = match items {
            [Expr { kind: ExprKind::Tuple(inner), .. }] => inner.iter().collect(),
            items => items.iter().collect(),
        };
        // The name says the same as the dots.
        let is_dots = |item: &Expr| match &item.kind {
            ExprKind::Ellipsis => true,
            ExprKind::Name(name) => &**name == "Ellipsis" && self.is_text() && self.scope.get(name).is_none(),
            _ => false,
        };
        let dots = flat.iter().position(|item| is_dots(item));
        // All indices are evaluated before any view is made.
        let mut indices = Vec::with_capacity(flat.len());
        for (at, item) in flat.iter().enumerate() {
            indices.push(match &item.kind {
                _ if dots == Some(at) => None,
                ExprKind::Ellipsis | ExprKind::None | ExprKind::Slice { .. } => None,
                _ => {
                    let index = self.expr(item)?;
                    Some(if matches!(index.ty, Type::List(_)) {
                        let named = vec![("dtype".into(), self.int(crate::types::DType::I64.code(), range))];
                        let made = self.builtin("aten::tensor", vec![index], named, range)?;
                        self.value_of(made, range)?
                    } else {
                        index
                    })
                }
            });
        }
        let (mut view, mut dim, mut tensors) = (tensor, 0i64, Vec::<(i64, V)>::new());
        // Dimensions after `...` are counted from the end: -1 is the last.
        for ((at, item), index) in flat.iter().enumerate().zip(indices) {
            let from_end = dots.is_some_and(|dots| at > dots);
            if from_end && dots == Some(at - 1) {
                let mut n = 0;
                for item in &flat[at..] {
                    n += i64::from(!matches!(item.kind, ExprKind::None));
                }
                dim = -n;
            }
            match &item.kind {
                _ if dots == Some(at) => {}
                ExprKind::None => {
                    // A new dimension counted from the end sits one further left.
                    let place = if from_end { if dim == 0 { -1 } else { dim - 1 } } else { dim };
                    let place = self.int(place, range);
                    view = self.builtin_value("aten::unsqueeze", vec![view, place], range)?;
                    dim += i64::from(!from_end);
                }
                ExprKind::Slice { start, stop, step } => {
                    let mut args = vec![view, self.int(dim, range)];
                    for part in [start, stop] {
                        args.push(match part {
                            Some(part) => self.expr(part)?,
                            None => self.none(range),
                        });
                    }
                    args.push(match step {
                        Some(step) => self.expr(step)?,
                        None => self.int(1, range),
                    });
                    view = self.builtin_value("aten::slice", args, range)?;
                    dim += 1;
                }
                _ => {
                    let Some(index) = index else { continue };
                    match &index.ty {
                        Type::Int => {
                            let place = self.int(dim, range);
                            view = self.builtin_value("aten::select", vec![view, place, index], range)?;
                            dim += i64::from(from_end);
                        }
                        Type::Tensor(_) => {
                            tensors.push((dim, index));
                            dim += 1;
                        }
                        Type::Optional(inner) if matches!(**inner, Type::Tensor(_)) => {
                            tensors.push((dim, index));
                            dim += 1;
                        }
                        ty => {
                            return Err(self.error(
                                item.range,
                                format!("Unsupported operation: indexing tensor with unsupported index type '{ty}'. Only ints, slices, lists and tensors are supported"),
                            ));
                        }
                    }
                }
            }
        }
        if tensors.is_empty() {
            return Ok((view, None));
        }
        if tensors.iter().any(|(dim, _)| *dim < 0) {
            return Err(self.unsupported(range, "a tensor index after `...`"));
        }
        let none = self.none(range);
        let mut list = Vec::new();
        for (dim, index) in tensors {
            while i64::try_from(list.len()).unwrap_or(i64::MAX) < dim {
                list.push(none.clone());
            }
            list.push(index);
        }
        Ok((view, Some(list)))
    }

    /// The list of indices by tensors, one for each leading dimension.
    fn index_list(&mut self, indices: &[V], range: TextRange) -> V {
        let inputs: Vec<&V> = indices.iter().collect();
        self.prim("prim::ListConstruct", &inputs, Type::list(Type::optional(Type::tensor())), range)
    }

    /// `object[items] = value`.
    pub(crate) fn assign_subscript(&mut self, object: &Expr, items: &[Expr], value: V, range: TextRange) -> Result<()> {
        let object = self.expr(object)?;
        match (&object.ty, items) {
            (Type::Tensor(_), _) => {
                let (view, tensors) = self.basic_index(object, items, range)?;
                let no = self.folded(IValue::Bool(false), Type::Bool, range);
                let is_number = matches!(
                    value.ty,
                    Type::Int | Type::Float | Type::Complex | Type::Bool | Type::Number | Type::List(_)
                );
                let value = if is_number {
                    let dtype = self.builtin_unplaced("prim::dtype", vec![view.clone()], Vec::new(), range)?;
                    let device = self.builtin_unplaced("prim::device", vec![view.clone()], Vec::new(), range)?;
                    let named =
                        vec![("dtype".into(), dtype), ("device".into(), device), ("requires_grad".into(), no.clone())];
                    self.builtin_unplaced("aten::tensor", vec![value], named, range)?
                } else {
                    value
                };
                match tensors {
                    None if matches!(value.ty, Type::Tensor(_)) => {
                        self.builtin("aten::copy_", vec![view, value, no], Vec::new(), range)?
                    }
                    None => self.builtin("aten::copy_", vec![view, value], Vec::new(), range)?,
                    Some(indices) => {
                        let list = self.index_list(&indices, range);
                        self.builtin("aten::index_put_", vec![view, list, value, no], Vec::new(), range)?
                    }
                };
                Ok(())
            }
            (Type::List(_) | Type::Dict(..) | Type::Str, [item]) => {
                let item = self.expr(item)?;
                self.builtin("aten::_set_item", vec![object, item, value], Vec::new(), range)?;
                Ok(())
            }
            (Type::Class(_), [item]) => {
                let item = self.expr(item)?;
                self.call_method(&object, &"__setitem__".into(), vec![item, value], Vec::new(), range)?;
                Ok(())
            }
            (ty, _) => {
                let ty = ty.annotation();
                Err(self.error(range, format!("{ty} does not support subscripted assignment")))
            }
        }
    }
}
