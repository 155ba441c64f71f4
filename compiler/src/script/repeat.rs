//! Loops in SSA form: `while`, `for` and comprehensions. A loop carries what its body assigns.

use super::assign::is_meaningful;
use super::display::Display;
use super::exits::{Flow, OpenLoop};
use super::function::Emitter;
use super::mismatch::{self, repr};
use super::ssa::{Binding, V};
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::ast::{self, Expr, ExprKind, File, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Emitter<'_, '_> {
    /// `while cond: body`.
    pub(crate) fn while_stmt(&mut self, id: StmtId, cond: &Expr, body: &[StmtId], range: TextRange) -> Result<Flow> {
        let trip = self.literal(IValue::Int(i64::MAX), Type::Int, range);
        let first = self.next_round(&[], cond)?;
        self.loop_node(&trip, &first, Some((id, cond)), &[], body, range, |_, _| Ok(()))
    }

    /// `for target in iter: body`; unrolled if the items are known.
    pub(crate) fn for_stmt(&mut self, target: &Expr, iter: &Expr, body: &[StmtId], range: TextRange) -> Result<Flow> {
        let items = self.iterable(iter)?;
        if let Some(items) = self.unrolled(&items, iter.range)? {
            self.loops.push(OpenLoop::Unrolled);
            let rounds = items.into_iter().try_for_each(|item| {
                self.assign(target, item)?;
                self.stmts(body).map(|_| ())
            });
            self.loops.pop();
            return rounds.map(|()| Flow::Falls);
        }
        let trip = self.iterable_len(&items, iter.range)?;
        let first = self.constant(IValue::Bool(true), Type::Bool, range);
        self.loop_node(&trip, &first, None, &[target], body, range, |e, index| {
            let item = e.iterable_item(&items, index, iter.range)?;
            e.assign(target, item)
        })
    }

    /// Emits a `prim::Loop`. `start` binds the loop's own names from the iteration number.
    #[allow(clippy::too_many_arguments, reason = "the parts of a loop")]
    fn loop_node(
        &mut self,
        trip: &V,
        first: &V,
        cond: Option<(StmtId, &Expr)>,
        targets: &[&Expr],
        body: &[StmtId],
        range: TextRange,
        start: impl FnOnce(&mut Self, &V) -> Result<()>,
    ) -> Result<Flow> {
        let mut assigned = BTreeSet::new();
        for target in targets {
            target_names(target, &mut assigned);
        }
        assigned_names(&self.file, body, &mut assigned);
        let block = self.graph.add_block();
        let index = self.graph.add_param(block, Type::Int, None);
        let mut carried: Vec<(Arc<str>, V, V)> = Vec::new();
        for name in assigned {
            if let Some(Binding::Value { value, .. }) = self.scope.get(&name) {
                let value = value.clone();
                let debug = is_meaningful(&name).then(|| Arc::clone(&name));
                let id = self.graph.add_param(block, value.ty.clone(), debug);
                let inner = V { id, ty: value.ty.clone() };
                carried.push((name, value, inner));
            }
        }
        let saved: Vec<_> = carried
            .iter()
            .map(|(name, _, inner)| {
                let binding = Binding::Value { value: inner.clone() };
                (Arc::clone(name), self.scope.swap(name, binding).expect("a carried name is bound"))
            })
            .collect();
        self.loops.push(OpenLoop::Runs(names_of(&carried), cond.map(|(id, _)| id)));
        let ends = self.in_block(block, range, |e| {
            let index = V { id: index, ty: Type::Int };
            start(e, &index)?;
            let flow = e.stmts(body)?;
            let next = match cond {
                // Never reached.
                _ if flow.leaves() => e.uninitialized(&Type::Bool, range),
                None => e.constant(IValue::Bool(true), Type::Bool, range),
                Some((_, cond)) => e.next_round(&names_of(&carried), cond)?,
            };
            e.graph.blocks[block].returns.push(next.id);
            for (name, _, inner) in &carried {
                let value = match e.carried_value(name, &inner.ty, range) {
                    Err(_) if flow.leaves() => e.uninitialized(&inner.ty, range),
                    value => value?,
                };
                e.graph.blocks[block].returns.push(value.id);
            }
            Ok(())
        });
        self.loops.pop();
        for (name, binding) in saved {
            self.scope.swap(&name, binding);
        }
        ends?;
        let mut inputs = vec![trip.id, first.id];
        inputs.extend(carried.iter().map(|(_, outer, _)| outer.id));
        let types: Vec<Type> = carried.iter().map(|(_, _, inner)| inner.ty.clone()).collect();
        let node = self.node(OpName::new("prim::Loop"), inputs, &types, range);
        self.graph.nodes[node].blocks.push(block);
        let outputs = self.graph.nodes[node].outputs.clone();
        for ((name, _, inner), id) in carried.into_iter().zip(outputs) {
            let value = V { id, ty: inner.ty };
            self.name_value(&value, &name);
            self.scope.set(name, Some(Binding::Value { value }));
        }
        Ok(Flow::Falls)
    }

    /// Whether a `while` runs on; its condition sees what it carries as declared, whatever the round made of it.
    pub(crate) fn next_round(&mut self, names: &[(Arc<str>, V)], cond: &Expr) -> Result<V> {
        let before: Vec<_> = names
            .iter()
            .filter_map(|(name, inner)| match self.scope.get(name) {
                Some(Binding::Value { value, .. }) if self.is_subtype(&value.ty, &inner.ty) => {
                    let value = V { id: value.id, ty: inner.ty.clone() };
                    let wide = Binding::Value { value };
                    self.scope.swap(name, wide).map(|before| (Arc::clone(name), before))
                }
                _ => None,
            })
            .collect();
        // What the condition says of types is not known to what follows.
        self.scope.open();
        let next = self.condition_value(cond);
        self.scope.close();
        for (name, binding) in before {
            self.scope.swap(&name, binding);
        }
        next
    }

    /// What a round hands to the next one under this name.
    pub(crate) fn carried_value(&mut self, name: &Arc<str>, ty: &Type, range: TextRange) -> Result<V> {
        let value = match self.scope.get(name) {
            Some(Binding::Value { value, .. }) => value.clone(),
            Some(Binding::Conflict(text, made)) => return Err(self.conflict(text, *made, range)),
            Some(Binding::Sugar(_)) | None => {
                return Err(self.error(range, format!("{name} is not a value at the end of the loop")));
            }
        };
        if self.is_subtype(&value.ty, ty) {
            return Ok(value);
        }
        Err(self.error(range, mismatch::reassigned(name, ty, &value.ty)))
    }

    /// A list comprehension: a loop that appends.
    pub(crate) fn comprehension(
        &mut self,
        generator: &ast::Generator,
        range: TextRange,
        element_ty: impl Fn(&mut Self, &Expr) -> Result<V>,
        element: &Expr,
        hint: Option<&Type>,
    ) -> Result<V> {
        if let Some(condition) = generator.conditions.first() {
            return Err(self.error(condition.range, "Comprehension ifs are not supported yet"));
        }
        let elem = match self.display_type(Display::List, hint, false, range)? {
            Some(Type::List(elem)) => Some((*elem).clone()),
            _ => None,
        };
        let list = self.node(OpName::new("prim::ListConstruct"), Vec::new(), &[Type::list(Type::tensor())], range);
        let list_node = list;
        let list = self.graph.nodes[list].outputs[0];
        let items = self.iterable(&generator.iter)?;
        if let Some(items) = self.unrolled(&items, range)? {
            self.scope.open();
            let mut made = Vec::new();
            for item in items {
                self.assign(&generator.target, item)?;
                made.push(self.expr(element)?);
            }
            self.scope.close();
            let ty = made.first().map_or_else(Type::tensor, |v| v.ty.clone());
            let inputs: Vec<&V> = made.iter().collect();
            self.graph.blocks[self.block].nodes.retain(|&node| node != list_node);
            return Ok(self.prim("prim::ListConstruct", &inputs, Type::list(ty), range));
        }
        let mut ty = Type::list(Type::tensor());
        self.for_each(&items, range, |e, item| {
            e.assign(&generator.target, item)?;
            let mut made = element_ty(e, element)?;
            if let Some(elem @ Type::Optional(_)) = &elem
                && made.ty == Type::None
            {
                made = e.constant(IValue::None, elem.clone(), element.range);
            }
            if let Some(elem) = &elem
                && e.is_text()
                && !e.is_subtype(&made.ty, elem)
            {
                return Err(e.wrong_elements(elem, &made.ty, range));
            }
            ty = Type::list(elem.clone().unwrap_or_else(|| made.ty.clone()));
            e.graph.values[list].ty = ty.clone();
            let append = OpName::with_overload("aten::append", "t");
            e.node(append, vec![list, made.id], std::slice::from_ref(&ty), range);
            Ok(())
        })?;
        let made = V { id: list, ty };
        self.check_union(Display::List, hint, &made, range)?;
        Ok(made)
    }
}

impl Emitter<'_, '_> {
    /// A dict comprehension: a loop that stores.
    pub(crate) fn dict_comprehension(
        &mut self,
        generator: &ast::Generator,
        key: &Expr,
        value: &Expr,
        hint: Option<&Type>,
        range: TextRange,
    ) -> Result<V> {
        if let Some(condition) = generator.conditions.first() {
            return Err(self.error(condition.range, "Comprehension ifs are not supported yet"));
        }
        let placeholder = Type::Dict(Arc::new(Type::Str), Arc::new(Type::tensor()));
        let dict = self.node(OpName::new("prim::DictConstruct"), Vec::new(), &[placeholder], range);
        let dict = self.graph.nodes[dict].outputs[0];
        let items = self.iterable(&generator.iter)?;
        if self.unrolled(&items, range)?.is_some() {
            return Err(self.unsupported(range, "a dict comprehension over a tuple"));
        }
        let mut made = Type::None;
        self.for_each(&items, range, |e, item| {
            e.assign(&generator.target, item)?;
            let (k, v) = (e.expr(key)?, e.expr(value)?);
            if !super::annotation::is_key(&k.ty) {
                return Err(e.error(
                    range,
                    format!(
                        "Dicts may only contain homogeneous keys, but the type of the first generated key was {}",
                        k.ty.annotation()
                    ),
                ));
            }
            let ty = match hint {
                Some(ty @ Type::Dict(keys, values)) => {
                    for (have, want, what) in [(&k.ty, keys, "key"), (&v.ty, values, "value")] {
                        if !e.is_subtype(have, want) {
                            let (ty, have) = (repr(ty), repr(have));
                            let text = format!(
                                "Dict type annotation `{ty}` did not match the type of an actual {what} type `{have}`"
                            );
                            return Err(e.error(range, text));
                        }
                    }
                    ty.clone()
                }
                _ => Type::Dict(Arc::new(k.ty.clone()), Arc::new(v.ty.clone())),
            };
            e.graph.values[dict].ty = ty.clone();
            let dict = V { id: dict, ty: ty.clone() };
            e.builtin("aten::_set_item", vec![dict, k, v], Vec::new(), range)?;
            made = ty;
            Ok(())
        })?;
        Ok(V { id: dict, ty: made })
    }
}

/// What a loop carries, by name, as its body sees it at first.
fn names_of(carried: &[(Arc<str>, V, V)]) -> Vec<(Arc<str>, V)> {
    carried.iter().map(|(name, _, inner)| (Arc::clone(name), inner.clone())).collect()
}

/// Adds the names a target binds.
fn target_names(target: &Expr, out: &mut BTreeSet<Arc<str>>) {
    match &target.kind {
        ExprKind::Name(name) => _ = out.insert(Arc::clone(name)),
        ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().for_each(|item| target_names(item, out)),
        ExprKind::Starred(inner) => target_names(inner, out),
        _ => {}
    }
}

/// Adds the names that statements assign at any depth.
fn assigned_names(file: &File, body: &[StmtId], out: &mut BTreeSet<Arc<str>>) {
    let mut todo: Vec<&[StmtId]> = vec![body];
    while let Some(ids) = todo.pop() {
        for &id in ids {
            match &file.stmts[id].kind {
                StmtKind::Assign { targets, .. } => targets.iter().for_each(|target| target_names(target, out)),
                StmtKind::AnnAssign { target, .. } | StmtKind::AugAssign { target, .. } => target_names(target, out),
                StmtKind::If { then, orelse, .. } => todo.extend([&*then.stmts, &*orelse.stmts]),
                StmtKind::For { target, body, .. } => {
                    target_names(target, out);
                    todo.push(&body.stmts);
                }
                StmtKind::While { body, .. } => todo.push(&body.stmts),
                StmtKind::With { items, body } => {
                    items.iter().filter_map(|item| item.target.as_ref()).for_each(|target| target_names(target, out));
                    todo.push(&body.stmts);
                }
                StmtKind::Delete(targets) => targets.iter().for_each(|target| target_names(target, out)),
                _ => {}
            }
        }
    }
}
