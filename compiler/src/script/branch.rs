//! Branches in SSA form: an `if` with its refinements, and the join of what its two sides assigned.

use super::exits::Flow;
use super::function::{Emitter, MAX_DEPTH};
use super::mismatch::repr;
use super::ssa::{Binding, Changed, V};
use super::typing::unify;
use crate::diag::Result;
use crate::ir::{BlockId, OpName, ValueId};
use crate::syntax::ast::{Expr, Stmt, StmtId, TextRange};
use crate::types::Type;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One finished branch.
pub(crate) struct Branch {
    block: BlockId,
    flow: Flow,
    changed: Changed,
}

impl Emitter<'_, '_> {
    /// Emits an `if`.
    pub(crate) fn if_stmt(&mut self, stmt: &Stmt, cond: &Expr, then: &[StmtId], orelse: &[StmtId]) -> Result<Flow> {
        let range = stmt.range;
        let condition = self.condition(cond)?;
        let value = match condition.value {
            Ok(value) => value,
            Err(truth) => {
                let (refined, live) = if truth { (condition.then, then) } else { (condition.orelse, orelse) };
                for (name, ty) in refined {
                    self.refine(&name, ty, range);
                }
                return self.stmts(live);
            }
        };
        let then = self.branch(&condition.then, range, |e| e.stmts(then))?;
        let orelse = self.branch(&condition.orelse, range, |e| e.stmts(orelse))?;
        self.merge(&value, then, orelse, range)
    }

    /// A branch of its own block, in which names have narrower types.
    pub(crate) fn branch(
        &mut self,
        refined: &[(Arc<str>, Type)],
        range: TextRange,
        body: impl FnOnce(&mut Self) -> Result<Flow>,
    ) -> Result<Branch> {
        let block = self.graph.add_block();
        self.in_block(block, range, |e| {
            for (name, ty) in refined {
                e.refine(name, ty.clone(), range);
            }
            body(e)
        })
        .map(|(flow, changed)| Branch { block, flow, changed })
    }

    /// Runs `body` with nodes going to `block`, inside a new frame of names.
    pub(crate) fn in_block<T>(
        &mut self,
        block: BlockId,
        range: TextRange,
        body: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Changed)> {
        if self.program.depth >= MAX_DEPTH {
            return Err(self.unsupported(range, format!("blocks are nested more than {MAX_DEPTH} deep")));
        }
        self.program.depth += 1;
        let outside = std::mem::replace(&mut self.block, block);
        self.scope.open();
        let made = body(self);
        let changed = self.scope.close();
        self.block = outside;
        self.program.depth -= 1;
        Ok((made?, changed))
    }

    /// Joins two branches into a `prim::If` with an output for each name they leave different.
    pub(crate) fn merge(&mut self, cond: &V, then: Branch, orelse: Branch, range: TextRange) -> Result<Flow> {
        let node = self.node(OpName::new("prim::If"), vec![cond.id], &[], range);
        self.graph.nodes[node].blocks = vec![then.block, orelse.block];
        let flow = then.flow.join(orelse.flow);
        // In the order of the names, as PyTorch's compiler has them.
        let names: BTreeSet<Arc<str>> = then.changed.keys().chain(orelse.changed.keys()).cloned().collect();
        for name in names {
            let is_hidden = name.starts_with('$');
            let side = |branch: &Branch, e: &Self| -> Option<Binding> {
                match branch.changed.get(&name) {
                    Some(binding) => binding.clone(),
                    None => e.scope.get(&name).cloned(),
                }
            };
            let (a, b) = (side(&then, self), side(&orelse, self));
            // What a branch assigns before it ends a round counts, as in PyTorch's compiler.
            let leaves = |flow: Flow, side: &Option<Binding>| match flow {
                Flow::Raises | Flow::Exits => true,
                Flow::EndsRound => side.is_none(),
                Flow::Falls => false,
            };
            let (a_leaves, b_leaves) = (leaves(then.flow, &a), leaves(orelse.flow, &b));
            if a_leaves && b_leaves {
                continue;
            }
            let (a, b) = match (a, b) {
                (Some(a), _) if b_leaves => (Some(a.clone()), Some(a)),
                (_, Some(b)) if a_leaves => (Some(b.clone()), Some(b)),
                sides => sides,
            };
            let merged = match (a, b) {
                (Some(Binding::Value { value: a }), Some(Binding::Value { value: b, .. })) => {
                    if a.id == b.id && !a_leaves && !b_leaves && a.ty == b.ty {
                        self.scope.set(name, Some(Binding::Value { value: a }));
                        continue;
                    }
                    let declared = if is_hidden {
                        None
                    } else {
                        self.scope.get(&name).and_then(|outer| match outer {
                            Binding::Value { value, .. } => Some(value.ty.clone()),
                            Binding::Sugar(_) | Binding::Conflict(..) => None,
                        })
                    };
                    let ty = unify(&a.ty, &b.ty, self.program)
                        .or(declared.filter(|ty| self.is_subtype(&a.ty, ty) && self.is_subtype(&b.ty, ty)));
                    match ty {
                        Some(ty) => {
                            let a_id = if a_leaves { self.uninitialized_in(then.block, &ty, range) } else { a.id };
                            let b_id = if b_leaves { self.uninitialized_in(orelse.block, &ty, range) } else { b.id };
                            self.graph.blocks[then.block].returns.push(a_id);
                            self.graph.blocks[orelse.block].returns.push(b_id);
                            let id = self.graph.add_output(node, ty.clone());
                            let value = V { id, ty };
                            if !is_hidden {
                                self.name_value(&value, &name);
                            }
                            Some(Binding::Value { value })
                        }
                        None => Some(Binding::Conflict(
                            format!(
                                "Type mismatch: {name} is set to type {} in the true branch and type {} in the false branch",
                                a.ty.annotation(),
                                b.ty.annotation()
                            )
                            .into(),
                            range,
                        )),
                    }
                }
                (Some(Binding::Sugar(a)), Some(Binding::Sugar(_))) => Some(Binding::Sugar(a)),
                (Some(Binding::Conflict(text, made)), _) | (_, Some(Binding::Conflict(text, made))) => {
                    Some(Binding::Conflict(text, made))
                }
                (Some(_), None) => {
                    Some(Binding::Conflict(format!("{name} is not defined in the false branch").into(), range))
                }
                (None, Some(_)) => {
                    Some(Binding::Conflict(format!("{name} is not defined in the true branch").into(), range))
                }
                (Some(_), Some(_)) => {
                    Some(Binding::Conflict(format!("{name} is set to different kinds of things").into(), range))
                }
                (None, None) => None,
            };
            self.scope.set(name, merged);
        }
        Ok(flow)
    }

    /// A value chosen by a condition; both sides are compiled, one runs.
    pub(crate) fn select(
        &mut self,
        cond: &V,
        then_types: Vec<(Arc<str>, Type)>,
        else_types: Vec<(Arc<str>, Type)>,
        range: TextRange,
        then: impl FnOnce(&mut Self) -> Result<V>,
        orelse: impl FnOnce(&mut Self) -> Result<V>,
    ) -> Result<V> {
        let run = |e: &mut Self, types: &[(Arc<str>, Type)], body: &mut dyn FnMut(&mut Self) -> Result<V>| {
            e.branch(types, range, |e| {
                let value = body(e)?;
                e.set_hidden("$value", value);
                Ok(Flow::Falls)
            })
        };
        let (mut then, mut orelse) = (Some(then), Some(orelse));
        let mut run_then = |e: &mut Self| then.take().expect("run once")(e);
        let mut run_else = |e: &mut Self| orelse.take().expect("run once")(e);
        let a = run(self, &then_types, &mut run_then)?;
        let b = run(self, &else_types, &mut run_else)?;
        let type_of = |branch: &Branch| match branch.changed.get("$value") {
            Some(Some(Binding::Value { value })) => Some(value.ty.clone()),
            _ => None,
        };
        if let (Some(a), Some(b)) = (type_of(&a), type_of(&b))
            && unify(&a, &b, self.program).is_none()
        {
            let (a, b) = (repr(&a), repr(&b));
            let text = format!("if-expression's true branch has type {a} but false branch has type {b}");
            return Err(self.error(range, text));
        }
        self.scope.set("$value".into(), None);
        self.merge(cond, a, b, range)?;
        self.hidden("$value", range)
    }

    fn uninitialized_in(&mut self, block: BlockId, ty: &Type, range: TextRange) -> ValueId {
        let outside = std::mem::replace(&mut self.block, block);
        let made = self.uninitialized(ty, range);
        self.block = outside;
        made.id
    }
}
