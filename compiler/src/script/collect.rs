//! `list(...)` and `dict(...)` of what a `for` can run over: a new collection, filled item by item.

use super::function::Emitter;
use super::iterate::Iterable;
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::ast::{self, ExprKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

impl Emitter<'_, '_> {
    /// Calls `body` for each item: once in a loop, or once for each where their number is known from the types.
    pub(crate) fn for_each(
        &mut self,
        items: &Iterable,
        range: TextRange,
        mut body: impl FnMut(&mut Self, Sugared) -> Result<()>,
    ) -> Result<()> {
        if let Some(items) = self.unrolled(items, range)? {
            return items.into_iter().try_for_each(|item| body(self, item));
        }
        let trip = self.iterable_len(items, range)?;
        let first = self.constant(IValue::Bool(true), Type::Bool, range);
        let block = self.graph.add_block();
        let index = V { id: self.graph.add_param(block, Type::Int, None), ty: Type::Int };
        self.in_block(block, range, |e| {
            let item = e.iterable_item(items, &index, range)?;
            body(e, item)?;
            let again = e.constant(IValue::Bool(true), Type::Bool, range);
            e.graph.blocks[block].returns.push(again.id);
            Ok(())
        })?;
        let node = self.node(OpName::new("prim::Loop"), vec![trip.id, first.id], &[], range);
        self.graph.nodes[node].blocks.push(block);
        Ok(())
    }

    /// `list(x)` for an `x` that is no list or string; `None` leaves it to the operator.
    pub(crate) fn list_call(&mut self, args: &[ast::Arg], range: TextRange, hint: Option<&Type>) -> Result<Option<V>> {
        if args.len() > 1 {
            let text = format!("list expected exactly 1 arguments but found {}", args.len());
            return Err(self.error(range, text));
        }
        let [ast::Arg { name: None, value: source }] = args else {
            let ty = hint.filter(|ty| args.is_empty() && matches!(ty, Type::List(_))).cloned();
            return Ok(args.is_empty().then(|| {
                self.prim("prim::ListConstruct", &[], ty.unwrap_or_else(|| Type::list(Type::tensor())), range)
            }));
        };
        let items = match self.iterable(source)? {
            Iterable::Items(value) if matches!(value.ty, Type::List(_) | Type::Str) => {
                return self.builtin_value("aten::list", vec![value], range).map(Some);
            }
            items => items,
        };
        let mut list = self.prim("prim::ListConstruct", &[], Type::list(Type::tensor()), range);
        if let Some(ty @ Type::List(_)) = hint {
            self.set_type(&mut list, ty.clone());
        }
        let mut is_typed = matches!(hint, Some(Type::List(_)));
        self.for_each(&items, range, |e, item| {
            let item = e.value_of(item, range)?;
            if !std::mem::replace(&mut is_typed, true) {
                e.set_type(&mut list, Type::list(item.ty.clone()));
            }
            e.builtin("aten::append", vec![list.clone(), item], Vec::new(), range).map(|_| ())
        })?;
        Ok(Some(list))
    }

    /// `dict(x, key=value, ...)`; `None` leaves it to the operator.
    pub(crate) fn dict_call(&mut self, args: &[ast::Arg], range: TextRange, hint: Option<&Type>) -> Result<Option<V>> {
        let hint = hint.filter(|ty| matches!(ty, Type::Dict(..)));
        let (positional, named): (Vec<&ast::Arg>, Vec<&ast::Arg>) = args.iter().partition(|arg| arg.name.is_none());
        let mut is_typed = true;
        let mut dict = match positional.as_slice() {
            [] => {
                is_typed = hint.is_some();
                self.empty_dict(hint, range)
            }
            [source] => {
                if matches!(&source.value.kind, ExprKind::List(items) if items.is_empty()) {
                    is_typed = hint.is_some();
                    self.empty_dict(hint, range)
                } else if self.is_lazy(&source.value) {
                    let items = self.iterable(&source.value)?;
                    self.dict_of(&items, hint, range)?
                } else {
                    let place = source.value.range;
                    let source = self.expr(&source.value)?;
                    if matches!(source.ty, Type::Dict(..)) || !self.is_text() {
                        self.builtin_value("aten::dict", vec![source], range)?
                    } else {
                        let items = self.iterable_value(source, place)?;
                        self.dict_of(&items, hint, range)?
                    }
                }
            }
            _ => return Ok(None),
        };
        for arg in named {
            let Some(name) = &arg.name else { continue };
            let key = self.constant(IValue::Str(Arc::clone(&name.text)), Type::Str, range);
            let value = self.expr(&arg.value)?;
            if !std::mem::replace(&mut is_typed, true) {
                self.set_type(&mut dict, Type::Dict(Arc::new(Type::Str), Arc::new(value.ty.clone())));
            }
            self.builtin("aten::_set_item", vec![dict.clone(), key, value], Vec::new(), range)?;
        }
        Ok(Some(dict))
    }

    fn empty_dict(&mut self, ty: Option<&Type>, range: TextRange) -> V {
        let plain = || Type::Dict(Arc::new(Type::Str), Arc::new(Type::tensor()));
        self.prim("prim::DictConstruct", &[], ty.cloned().unwrap_or_else(plain), range)
    }

    /// A new dictionary of the pairs that a `for` runs over.
    fn dict_of(&mut self, items: &Iterable, ty: Option<&Type>, range: TextRange) -> Result<V> {
        let mut dict = self.empty_dict(ty, range);
        let mut is_known = ty.is_some();
        self.for_each(items, range, |e, item| {
            let pair = e.unpack(item, 2, false, range)?;
            let (key, value) = (pair[0].clone(), pair[1].clone());
            if !std::mem::replace(&mut is_known, true) {
                e.set_type(&mut dict, Type::Dict(Arc::new(key.ty.clone()), Arc::new(value.ty.clone())));
            }
            e.builtin("aten::_set_item", vec![dict.clone(), key, value], Vec::new(), range).map(|_| ())
        })?;
        Ok(dict)
    }

    /// Whether an expression only has a meaning in front of a `for`: `zip(...)`, `enumerate(...)`.
    fn is_lazy(&self, expr: &ast::Expr) -> bool {
        let ExprKind::Call { callee, .. } = &expr.kind else { return false };
        matches!(&callee.kind, ExprKind::Name(name) if matches!(&**name, "zip" | "enumerate") && self.scope.get(name).is_none())
    }

    fn set_type(&mut self, value: &mut V, ty: Type) {
        self.graph.values[value.id].ty = ty.clone();
        value.ty = ty;
    }
}
