//! Statements: assignments, branches and loops in SSA form, and early exits.
//!
//! `return`, `break` and `continue` that are not the end of everything become hidden variables: `$ret` holds the
//! result, `$did` says that the rest of the block must be skipped, `$stop` ends the loop, `$returned` says that the loop
//! ended by a `return`. Where a branch always leaves, the statements after the `if` simply move into the other branch.

use super::expr::Sugared;
use super::function::{Emitter, MAX_DEPTH};
use super::ssa::{Binding, Changed, V};
use super::typing::unify;
use crate::diag::{Diagnostic, Result};
use crate::ir::{BlockId, OpName};
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind, File, Stmt, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use indexmap::IndexSet;
use std::collections::HashMap;
use std::sync::Arc;

/// How control leaves a statement or block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// To what follows.
    Falls,
    /// Never: it raises.
    Raises,
    /// By `return`, `break` or `continue`, always.
    Exits,
    /// By one of them, sometimes; `$did` says so.
    Maybe,
}

impl Flow {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Raises, flow) | (flow, Self::Raises) => flow,
            (a, b) if a == b => a,
            _ => Self::Maybe,
        }
    }

    fn leaves(self) -> bool {
        matches!(self, Self::Raises | Self::Exits)
    }
}

/// Which statements hold an exit of their block, found once per function.
#[derive(Default)]
pub(crate) struct Exits {
    /// Statements that hold a `return`, or a `break`/`continue` of a loop around them; whether they always leave;
    /// whether they hold a `return`.
    found: HashMap<StmtId, (bool, bool)>,
}

impl Exits {
    /// Scans a body.
    pub(crate) fn of(file: &Arc<File>, body: &[StmtId]) -> Self {
        let mut exits = Self::default();
        exits.scan(file, body);
        exits
    }

    /// (always leaves, holds a return) of a block that holds an exit.
    fn scan(&mut self, file: &Arc<File>, body: &[StmtId]) -> Option<(bool, bool)> {
        let mut all: Option<(bool, bool)> = None;
        for &id in body {
            let one = match &file.stmts[id].kind {
                StmtKind::Return(_) => Some((true, true)),
                StmtKind::Break | StmtKind::Continue => Some((true, false)),
                StmtKind::If { then, orelse, .. } => {
                    match (self.scan(file, &then.stmts), self.scan(file, &orelse.stmts)) {
                        (Some(a), Some(b)) => Some((a.0 && b.0, a.1 || b.1)),
                        (Some(a), None) | (None, Some(a)) => Some((false, a.1)),
                        (None, None) => None,
                    }
                }
                StmtKind::For { body, .. } | StmtKind::While { body, .. } => {
                    // A `break` inside leaves the loop only.
                    self.scan(file, &body.stmts).filter(|found| found.1).map(|_| (false, true))
                }
                StmtKind::With { body, .. } => self.scan(file, &body.stmts),
                _ => None,
            };
            if let Some((always, returns)) = one {
                self.found.insert(id, (always, returns));
                let before = all.unwrap_or((false, false));
                all = Some((before.0 || always, before.1 || returns));
            }
        }
        all
    }

    /// Whether the body leaves anywhere but by its last statement.
    pub(crate) fn has_early(&self, body: &[StmtId]) -> bool {
        self.found.len() > usize::from(body.last().is_some_and(|id| self.found.contains_key(id)))
    }

    fn holds_exit(&self, id: StmtId) -> bool {
        self.found.contains_key(&id)
    }

    fn always(&self, body: &[StmtId]) -> bool {
        body.iter().any(|id| self.found.get(id).is_some_and(|found| found.0))
    }

    fn holds_return(&self, body: &[StmtId]) -> bool {
        body.iter().any(|id| self.found.get(id).is_some_and(|found| found.1))
    }
}

/// One finished branch.
struct Branch {
    block: BlockId,
    flow: Flow,
    changed: Changed,
}

/// A condition: what is known of it before the program runs, and what it says about types.
pub(crate) struct Condition {
    /// The value, or the truth itself if the types decide it.
    pub value: std::result::Result<V, bool>,
    /// Names with their types if it holds.
    pub then: Vec<(Arc<str>, Type)>,
    /// Names with their types if it does not.
    pub orelse: Vec<(Arc<str>, Type)>,
}

impl Emitter<'_, '_> {
    /// Emits statements in order.
    pub(crate) fn stmts(&mut self, ids: &[StmtId]) -> Result<Flow> {
        let file = Arc::clone(&self.file);
        for (at, &id) in ids.iter().enumerate() {
            let rest = &ids[at + 1..];
            let stmt = &file.stmts[id];
            if let StmtKind::If { cond, then, orelse } = &stmt.kind {
                let (flow, took_rest) = self.if_stmt(id, stmt, cond, &then.stmts, &orelse.stmts, rest)?;
                match flow {
                    _ if took_rest => return Ok(flow),
                    Flow::Falls => continue,
                    Flow::Raises | Flow::Exits => return Ok(flow),
                    Flow::Maybe => return self.guarded(rest, stmt.range),
                }
            }
            match self.stmt(id, stmt)? {
                Flow::Falls => {}
                flow @ (Flow::Raises | Flow::Exits) => return Ok(flow),
                Flow::Maybe => return self.guarded(rest, stmt.range),
            }
        }
        Ok(Flow::Falls)
    }

    /// The statements after one that may have left.
    fn guarded(&mut self, rest: &[StmtId], range: TextRange) -> Result<Flow> {
        if rest.is_empty() {
            return Ok(Flow::Maybe);
        }
        let did = self.hidden("$did", range)?;
        let then = self.branch(&[], range, |_| Ok(Flow::Exits))?;
        let orelse = self.branch(&[], range, |e| e.stmts(rest))?;
        let flow = self.merge(&did, then, orelse, range)?;
        Ok(flow)
    }

    fn stmt(&mut self, id: StmtId, stmt: &Stmt) -> Result<Flow> {
        let range = stmt.range;
        match &stmt.kind {
            StmtKind::Expr(expr) => {
                if !matches!(expr.kind, ExprKind::Str(_)) {
                    self.expr_sugar(expr, None)?;
                }
            }
            StmtKind::Assign { targets, value } => self.assign_stmt(targets, value)?,
            StmtKind::AnnAssign { target, annotation, value } => {
                let file = Arc::clone(&self.file);
                let ty = self.program.ty(annotation, &file)?;
                let Some(value) = value else {
                    return Err(self.error(range, "Expected a value: annotation without assigned value"));
                };
                let made = self.expr_sugar(value, Some(&ty))?;
                let made = self.value_of(made, value.range)?;
                let made = self.convert(made, &ty, true, value.range).map_err(|v| {
                    let (have, name) = (v.ty, self.file.text(target.range));
                    self.error(
                        value.range,
                        format!("Variable '{name}' is annotated with type {ty} but is being assigned to a value of type {have}"),
                    )
                })?;
                self.assign(target, Sugared::Value(V { id: made.id, ty }))?;
            }
            StmtKind::AugAssign { target, op, value } => self.aug_assign(target, *op, value, range)?,
            StmtKind::If { .. } => return Err(Diagnostic::internal("an `if` is not a simple statement")),
            StmtKind::For { target, iter, body, orelse } => {
                if !orelse.stmts.is_empty() {
                    return Err(self.error(range, "else branches of for loops aren't supported"));
                }
                return self.for_stmt(target, iter, &body.stmts, range);
            }
            StmtKind::While { cond, body, orelse } => {
                if !orelse.stmts.is_empty() {
                    return Err(self.error(range, "else branches of while loops aren't supported"));
                }
                return self.while_stmt(cond, &body.stmts, range);
            }
            StmtKind::With { items, body } => return self.with_stmt(items, &body.stmts, range),
            StmtKind::Return(value) => {
                self.return_stmt(value.as_ref(), range)?;
                return Ok(Flow::Exits);
            }
            StmtKind::Raise { error, .. } => {
                let Some(error) = error else { return Err(self.error(range, "raise without an exception")) };
                self.raise_stmt(error, range)?;
                return Ok(Flow::Raises);
            }
            StmtKind::Assert { cond, message } => self.assert_stmt(cond, message.as_ref(), range)?,
            StmtKind::Delete(targets) => {
                for target in targets {
                    match &target.kind {
                        ExprKind::Name(name) => {
                            if self.scope.get(name).is_none() {
                                return Err(self.error(target.range, format!("undefined value {name}")));
                            }
                            self.scope.set(Arc::clone(name), None);
                        }
                        ExprKind::Subscript { value, items } if items.len() == 1 => {
                            let (list, key) = (self.expr(value)?, self.expr(&items[0])?);
                            self.builtin("aten::Delete", vec![list, key], Vec::new(), range)?;
                        }
                        _ => {
                            return Err(self.error(
                                target.range,
                                "del statements are only supported for deletion at a list and dict index",
                            ));
                        }
                    }
                }
            }
            StmtKind::Break | StmtKind::Continue => {
                if self.n_loops == 0 {
                    let word = if matches!(stmt.kind, StmtKind::Break) { "break" } else { "continue" };
                    return Err(self.error(range, format!("{word} statement outside of a loop")));
                }
                let yes = self.constant(IValue::Bool(true), Type::Bool, range);
                if matches!(stmt.kind, StmtKind::Break) {
                    self.set_hidden("$stop", yes.clone());
                }
                self.set_hidden("$did", yes);
                return Ok(Flow::Exits);
            }
            StmtKind::Pass => {}
            StmtKind::Def(def) => {
                let closure = Sugared::Closure(id);
                self.scope.set(Arc::clone(&def.name.text), Some(Binding::Sugar(closure)));
            }
            StmtKind::Import(_) => {}
            StmtKind::Class(_) => return Err(self.error(range, "class definitions aren't supported")),
            StmtKind::Unsupported { what, .. } => return Err(self.error(range, format!("{what} aren't supported"))),
        }
        Ok(Flow::Falls)
    }

    fn return_stmt(&mut self, value: Option<&Expr>, range: TextRange) -> Result<()> {
        let hint = self.result.clone();
        let made = match value {
            None => self.none(range),
            Some(expr) => {
                let made = self.expr_sugar(expr, hint.as_ref())?;
                self.value_of(made, expr.range)?
            }
        };
        let made = match hint {
            Some(ty) => {
                let is_declared = self.is_result_declared;
                let made = self.convert(made, &ty, true, range).map_err(|v| {
                    let have = v.ty;
                    self.error(
                        range,
                        if is_declared {
                            format!("Return value was annotated as having type {ty} but is actually of type {have}")
                        } else {
                            format!("Previous return statement returned a value of type {ty} but this return statement returns a value of type {have}")
                        },
                    )
                })?;
                V { id: made.id, ty }
            }
            None => {
                self.result = Some(made.ty.clone());
                made
            }
        };
        self.set_hidden("$ret", made);
        if self.exits_are_flagged() {
            let yes = self.constant(IValue::Bool(true), Type::Bool, range);
            for flag in ["$did", "$stop", "$returned"] {
                self.set_hidden(flag, yes.clone());
            }
        }
        Ok(())
    }

    fn exits_are_flagged(&self) -> bool {
        self.scope.get("$did").is_some()
    }

    fn raise_stmt(&mut self, error: &Expr, range: TextRange) -> Result<()> {
        let (callee, args) = match &error.kind {
            ExprKind::Call { callee, args } => (&**callee, args.as_slice()),
            _ => (error, [].as_slice()),
        };
        let name = super::names::dotted(callee).unwrap_or_else(|| "Exception".to_owned());
        let message = match args {
            [] => self.constant(IValue::Str("".into()), Type::Str, range),
            [one, ..] => {
                let made = self.expr(&one.value)?;
                if made.ty == Type::Str { made } else { self.builtin_value("aten::str", vec![made], range)? }
            }
        };
        let qualified = if name.contains('.') { name } else { format!("builtins.{name}") };
        let class = self.constant(IValue::Str(qualified.into()), Type::Str, range);
        self.node(OpName::new("prim::RaiseException"), vec![message.id, class.id], &[], range);
        Ok(())
    }

    fn assert_stmt(&mut self, cond: &Expr, message: Option<&Expr>, range: TextRange) -> Result<()> {
        let condition = self.condition(cond)?;
        let Ok(value) = condition.value else {
            for (name, ty) in condition.then {
                self.refine(&name, ty, range);
            }
            return Ok(());
        };
        let then = self.branch(&condition.then, range, |_| Ok(Flow::Falls))?;
        let orelse = self.branch(&condition.orelse, range, |e| {
            let text = match message {
                Some(message) => e.expr(message)?,
                None => e.constant(IValue::Str("".into()), Type::Str, range),
            };
            let prefix = e.constant(IValue::Str("AssertionError: ".into()), Type::Str, range);
            let text = e.builtin_value("aten::add", vec![prefix, text], range)?;
            let class = e.none(range);
            e.node(OpName::new("prim::RaiseException"), vec![text.id, class.id], &[], range);
            Ok(Flow::Raises)
        })?;
        self.merge(&value, then, orelse, range)?;
        Ok(())
    }

    /// Emits an `if`; the flag says whether it took the statements after it into a branch.
    fn if_stmt(
        &mut self,
        id: StmtId,
        stmt: &Stmt,
        cond: &Expr,
        then: &[StmtId],
        orelse: &[StmtId],
        rest: &[StmtId],
    ) -> Result<(Flow, bool)> {
        let range = stmt.range;
        let condition = self.condition(cond)?;
        let value = match condition.value {
            Ok(value) => value,
            Err(truth) => {
                let (refined, live) = if truth { (condition.then, then) } else { (condition.orelse, orelse) };
                for (name, ty) in refined {
                    self.refine(&name, ty, range);
                }
                return Ok((self.stmts(live)?, false));
            }
        };
        let moves_rest = self.exits.holds_exit(id) && !rest.is_empty();
        let (then_leaves, else_leaves) = (self.exits.always(then), self.exits.always(orelse));
        let (rest_in_then, rest_in_else) =
            (moves_rest && else_leaves && !then_leaves, moves_rest && then_leaves && !else_leaves);
        let then = self.branch(&condition.then, range, |e| e.stmts_then(then, rest_in_then.then_some(rest), range))?;
        let orelse =
            self.branch(&condition.orelse, range, |e| e.stmts_then(orelse, rest_in_else.then_some(rest), range))?;
        let flow = self.merge(&value, then, orelse, range)?;
        Ok((flow, rest_in_then || rest_in_else))
    }

    fn stmts_then(&mut self, body: &[StmtId], rest: Option<&[StmtId]>, range: TextRange) -> Result<Flow> {
        let flow = self.stmts(body)?;
        match (flow, rest) {
            (Flow::Falls, Some(rest)) => self.stmts(rest),
            (Flow::Maybe, Some(rest)) => self.guarded(rest, range),
            (flow, _) => Ok(flow),
        }
    }

    fn branch(
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
    fn in_block<T>(
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

    /// From now on the name has this narrower type.
    fn refine(&mut self, name: &Arc<str>, ty: Type, range: TextRange) {
        let Some(Binding::Value { value, .. }) = self.scope.get(name) else { return };
        if value.ty == ty {
            return;
        }
        let value = value.clone();
        let value = self.prim("prim::unchecked_cast", &[&value], ty, range);
        self.name_value(&value, name);
        self.scope.set(Arc::clone(name), Some(Binding::Value { value, is_refined: true }));
    }

    /// Joins two branches into a `prim::If` with an output for each name they leave different.
    fn merge(&mut self, cond: &V, then: Branch, orelse: Branch, range: TextRange) -> Result<Flow> {
        let node = self.node(OpName::new("prim::If"), vec![cond.id], &[], range);
        self.graph.nodes[node].blocks = vec![then.block, orelse.block];
        let flow = then.flow.join(orelse.flow);
        let names: IndexSet<Arc<str>> = then.changed.keys().chain(orelse.changed.keys()).cloned().collect();
        for name in names {
            let is_hidden = name.starts_with('$');
            let side = |branch: &Branch, other: &Branch, e: &Self| -> Option<Binding> {
                match branch.changed.get(&name) {
                    // A refinement ends with its block, unless the other branch never gets here.
                    Some(Some(Binding::Value { is_refined: true, .. })) if !other.flow.leaves() => {
                        e.scope.get(&name).cloned()
                    }
                    Some(binding) => binding.clone(),
                    None => e.scope.get(&name).cloned(),
                }
            };
            let (a, b) = (side(&then, &orelse, self), side(&orelse, &then, self));
            // What a loop carries keeps its value through `break` and `continue`.
            let is_carried = self.carried.contains(&name);
            let leaves = |flow: Flow, side: &Option<Binding>| match flow {
                Flow::Raises => true,
                Flow::Exits => !is_carried || side.is_none(),
                Flow::Falls | Flow::Maybe => false,
            };
            let (mut a_leaves, mut b_leaves) = (leaves(then.flow, &a), leaves(orelse.flow, &b));
            if is_hidden {
                // Flags and results count on every path; only a missing one is made up.
                (a_leaves, b_leaves) = (a.is_none(), b.is_none());
            }
            if a_leaves && b_leaves {
                continue;
            }
            let (a, b) = match (a, b) {
                (Some(a), _) if b_leaves => (Some(a.clone()), Some(a)),
                (_, Some(b)) if a_leaves => (Some(b.clone()), Some(b)),
                sides => sides,
            };
            let merged = match (a, b) {
                (Some(Binding::Value { value: a, is_refined }), Some(Binding::Value { value: b, .. })) => {
                    if a.id == b.id && !a_leaves && !b_leaves {
                        if a.ty == b.ty {
                            self.scope.set(name, Some(Binding::Value { value: a, is_refined }));
                            continue;
                        }
                    }
                    let declared = if is_hidden {
                        None
                    } else {
                        self.scope.get(&name).and_then(|outer| match outer {
                            Binding::Value { value, .. } => Some(value.ty.clone()),
                            Binding::Sugar(_) | Binding::Conflict(_) => None,
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
                            Some(Binding::Value { value, is_refined: is_refined && (a_leaves || b_leaves) })
                        }
                        None => Some(Binding::Conflict(
                            format!(
                                "Type mismatch: {name} is set to type {} in the true branch and type {} in the false branch",
                                a.ty, b.ty
                            )
                            .into(),
                        )),
                    }
                }
                (Some(Binding::Sugar(a)), Some(Binding::Sugar(_))) => Some(Binding::Sugar(a)),
                (Some(Binding::Conflict(text)), _) | (_, Some(Binding::Conflict(text))) => {
                    Some(Binding::Conflict(text))
                }
                (Some(_), None) => Some(Binding::Conflict(format!("{name} is not defined in the false branch").into())),
                (None, Some(_)) => Some(Binding::Conflict(format!("{name} is not defined in the true branch").into())),
                (Some(_), Some(_)) => {
                    Some(Binding::Conflict(format!("{name} is set to different kinds of things").into()))
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
        self.scope.set("$value".into(), None);
        self.merge(cond, a, b, range)?;
        self.hidden("$value", range)
    }

    fn uninitialized_in(&mut self, block: BlockId, ty: &Type, range: TextRange) -> crate::ir::ValueId {
        let outside = std::mem::replace(&mut self.block, block);
        let made = self.uninitialized(ty, range);
        self.block = outside;
        made.id
    }

    fn while_stmt(&mut self, cond: &Expr, body: &[StmtId], range: TextRange) -> Result<Flow> {
        let trip = self.int(i64::MAX, range);
        let first = self.condition_value(cond)?;
        self.loop_node(&trip, &first, Some(cond), &[], body, range, |_, _| Ok(()))
    }

    /// Emits a `prim::Loop`. `start` binds the loop's own names from the iteration number.
    #[allow(clippy::too_many_arguments, reason = "the parts of a loop")]
    fn loop_node(
        &mut self,
        trip: &V,
        first: &V,
        cond: Option<&Expr>,
        targets: &[&Expr],
        body: &[StmtId],
        range: TextRange,
        start: impl FnOnce(&mut Self, &V) -> Result<()>,
    ) -> Result<Flow> {
        let mut assigned = IndexSet::new();
        targets.iter().for_each(|target| target_names(target, &mut assigned));
        assigned_names(&self.file, body, &mut assigned);
        let returns = self.exits.holds_return(body);
        let exits = body.iter().any(|&id| self.exits.holds_exit(id)) || holds_exit(&self.exits, body);
        if returns {
            let no = self.constant(IValue::Bool(false), Type::Bool, range);
            self.set_hidden("$returned", no);
            if self.scope.get("$ret").is_none() {
                let Some(ty) = self.result.clone() else {
                    return Err(self.unsupported(range, "return inside a loop of a function without a result type"));
                };
                let none = self.uninitialized(&ty, range);
                self.set_hidden("$ret", none);
            }
            assigned.extend(["$returned".into(), "$ret".into()]);
        }
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
                let binding = Binding::Value { value: inner.clone(), is_refined: false };
                (Arc::clone(name), self.scope.swap(name, binding).expect("a carried name is bound"))
            })
            .collect();
        self.n_loops += 1;
        let n_carried = self.carried.len();
        self.carried.extend(carried.iter().map(|(name, ..)| Arc::clone(name)));
        let ends = self.in_block(block, range, |e| {
            if exits {
                let no = e.constant(IValue::Bool(false), Type::Bool, range);
                e.set_hidden("$did", no.clone());
                e.set_hidden("$stop", no);
            }
            let index = V { id: index, ty: Type::Int };
            start(e, &index)?;
            e.stmts(body)?;
            let stop = if exits { Some(e.hidden("$stop", range)?) } else { None };
            let next = match (cond, stop) {
                (None, None) => e.constant(IValue::Bool(true), Type::Bool, range),
                (None, Some(stop)) => e.builtin_value("aten::__not__", vec![stop], range)?,
                (Some(cond), None) => e.condition_value(cond)?,
                (Some(cond), Some(stop)) => {
                    let then = e.branch(&[], range, |e| {
                        let no = e.constant(IValue::Bool(false), Type::Bool, range);
                        e.set_hidden("$next", no);
                        Ok(Flow::Falls)
                    })?;
                    let orelse = e.branch(&[], range, |e| {
                        let next = e.condition_value(cond)?;
                        e.set_hidden("$next", next);
                        Ok(Flow::Falls)
                    })?;
                    e.merge(&stop, then, orelse, range)?;
                    e.hidden("$next", range)?
                }
            };
            e.graph.blocks[block].returns.push(next.id);
            for (name, _, inner) in &carried {
                let value = match e.scope.get(name) {
                    Some(Binding::Value { value, .. }) => value.clone(),
                    Some(Binding::Conflict(text)) => return Err(e.error(range, text.to_string())),
                    Some(Binding::Sugar(_)) | None => {
                        return Err(e.error(range, format!("{name} is not a value at the end of the loop")));
                    }
                };
                if !e.is_subtype(&value.ty, &inner.ty) {
                    return Err(e.error(
                        range,
                        format!(
                            "Variable '{name}' previously had type {} but is now being assigned to a value of type {}",
                            inner.ty, value.ty
                        ),
                    ));
                }
                e.graph.blocks[block].returns.push(value.id);
            }
            Ok(())
        });
        self.n_loops -= 1;
        self.carried.truncate(n_carried);
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
            if !name.starts_with('$') {
                self.name_value(&value, &name);
            }
            self.scope.set(name, Some(Binding::Value { value, is_refined: false }));
        }
        if returns {
            let returned = self.hidden("$returned", range)?;
            self.set_hidden("$did", returned.clone());
            if self.n_loops > 0 {
                self.set_hidden("$stop", returned);
            }
            return Ok(Flow::Maybe);
        }
        Ok(Flow::Falls)
    }

    fn for_stmt(&mut self, target: &Expr, iter: &Expr, body: &[StmtId], range: TextRange) -> Result<Flow> {
        let items = self.iterable(iter)?;
        if let Some(items) = self.unrolled(&items, iter.range)? {
            for item in items {
                self.assign(target, Sugared::Value(item))?;
                let flow = self.stmts(body)?;
                if flow != Flow::Falls {
                    return Err(self.unsupported(
                        range,
                        "Because we emit iteration over modulelists or tuples as unrolled loops, we do not support break or continue inside the body of these loops",
                    ));
                }
            }
            return Ok(Flow::Falls);
        }
        let trip = self.iterable_len(&items, iter.range)?;
        let first = self.constant(IValue::Bool(true), Type::Bool, range);
        self.loop_node(&trip, &first, None, &[target], body, range, |e, index| {
            let item = e.iterable_item(&items, index, iter.range)?;
            e.assign(target, item)
        })
    }

    /// A list comprehension: a loop that appends.
    pub(crate) fn comprehension(
        &mut self,
        generator: &ast::Generator,
        range: TextRange,
        element_ty: impl FnOnce(&mut Self, &Expr) -> Result<V>,
        element: &Expr,
        hint: Option<&Type>,
    ) -> Result<V> {
        if let Some(condition) = generator.conditions.first() {
            return Err(self.error(condition.range, "Comprehension ifs are not supported yet"));
        }
        let items = self.iterable(&generator.iter)?;
        if let Some(items) = self.unrolled(&items, range)? {
            self.scope.open();
            let mut made = Vec::new();
            for item in items {
                self.assign(&generator.target, Sugared::Value(item))?;
                made.push(self.expr(element)?);
            }
            self.scope.close();
            let ty = made.first().map_or_else(Type::tensor, |v| v.ty.clone());
            let inputs: Vec<&V> = made.iter().collect();
            return Ok(self.prim("prim::ListConstruct", &inputs, Type::list(ty), range));
        }
        let trip = self.iterable_len(&items, range)?;
        let first = self.constant(IValue::Bool(true), Type::Bool, range);
        let elem = match hint {
            Some(Type::List(elem)) => Some((**elem).clone()),
            _ => None,
        };
        let list = self.node(OpName::new("prim::ListConstruct"), Vec::new(), &[Type::list(Type::tensor())], range);
        let list = self.graph.nodes[list].outputs[0];
        let block = self.graph.add_block();
        let index = V { id: self.graph.add_param(block, Type::Int, None), ty: Type::Int };
        let (ty, _) = self.in_block(block, range, |e| {
            let item = e.iterable_item(&items, &index, range)?;
            e.assign(&generator.target, item)?;
            let made = element_ty(e, element)?;
            let ty = Type::list(elem.unwrap_or_else(|| made.ty.clone()));
            e.graph.values[list].ty = ty.clone();
            let append = OpName::with_overload("aten::append", "t");
            e.node(append, vec![list, made.id], std::slice::from_ref(&ty), range);
            let again = e.constant(IValue::Bool(true), Type::Bool, range);
            e.graph.blocks[block].returns.push(again.id);
            Ok(ty)
        })?;
        let node = self.node(OpName::new("prim::Loop"), vec![trip.id, first.id], &[], range);
        self.graph.nodes[node].blocks.push(block);
        Ok(V { id: list, ty })
    }

    fn with_stmt(&mut self, items: &[ast::WithItem], body: &[StmtId], range: TextRange) -> Result<Flow> {
        let mut entered = Vec::new();
        for item in items {
            let object = self.expr(&item.context)?;
            let Type::Class(class) = object.ty.clone() else {
                return Err(self.error(item.context.range, "With item expression must return an object"));
            };
            let result = self.method_result(&class, "__enter__", item.context.range)?;
            let exit = self.method_result(&class, "__exit__", item.context.range)?;
            let (Some(result), Some(_)) = (result, exit) else {
                return Err(self.error(item.context.range, "Object does not have an __enter__ and an __exit__ method"));
            };
            let value = self.prim("prim::Enter", &[&object], result, item.context.range);
            if let Some(target) = &item.target {
                self.assign(target, Sugared::Value(value))?;
            }
            entered.push(object);
        }
        let flow = self.stmts(body)?;
        if matches!(flow, Flow::Exits | Flow::Maybe) && self.exits_are_flagged() {
            return Err(self.unsupported(range, "leaving a `with` early"));
        }
        for object in entered.into_iter().rev() {
            self.prim("prim::Exit", &[&object], Type::None, range);
        }
        Ok(flow)
    }

    fn assign_stmt(&mut self, targets: &[Expr], value: &Expr) -> Result<()> {
        let hint = match targets {
            [Expr { kind: ExprKind::Attribute { .. }, .. }] => self.attribute_type(&targets[0])?,
            _ => None,
        };
        let made = self.expr_sugar(value, hint.as_ref())?;
        for target in targets {
            self.assign(target, made.clone())?;
        }
        Ok(())
    }

    /// Makes the target mean the value.
    pub(crate) fn assign(&mut self, target: &Expr, value: Sugared) -> Result<()> {
        let range = target.range;
        match &target.kind {
            ExprKind::Name(name) => self.assign_name(name, value, range),
            ExprKind::Tuple(targets) | ExprKind::List(targets) => {
                let star = targets.iter().position(|t| matches!(t.kind, ExprKind::Starred(_)));
                let items = self.unpack(value, targets.len(), star.is_some(), range)?;
                let n_rest = (items.len() + 1).saturating_sub(targets.len());
                let mut items = items.into_iter();
                for target in targets {
                    match &target.kind {
                        ExprKind::Starred(inner) => {
                            let rest: Vec<V> = items.by_ref().take(n_rest).collect();
                            let tuple = self.tuple(rest, range);
                            self.assign(inner, Sugared::Value(tuple))?;
                        }
                        _ => {
                            let item = items.next().expect("unpack gives an item for each target");
                            self.assign(target, Sugared::Value(item))?;
                        }
                    }
                }
                Ok(())
            }
            ExprKind::Attribute { value: object, name } => {
                let object = self.expr(object)?;
                let value = self.value_of(value, range)?;
                self.set_attribute(&object, &name.text, value, range)
            }
            ExprKind::Subscript { value: object, items } => {
                let value = self.value_of(value, range)?;
                self.assign_subscript(object, items, value, range)
            }
            _ => Err(self.error(range, "unexpected expression on the left side of an assignment")),
        }
    }

    fn assign_name(&mut self, name: &Arc<str>, value: Sugared, range: TextRange) -> Result<()> {
        let value = match value {
            Sugared::Value(value) => value,
            multi @ Sugared::Multi(..) => self.value_of(multi, range)?,
            other => {
                self.scope.set(Arc::clone(name), Some(Binding::Sugar(other)));
                return Ok(());
            }
        };
        if let Some(Binding::Value { value: outer, .. }) = self.scope.outer(name)
            && !self.is_subtype(&value.ty, &super::function::Emitter::stored_type(&outer.ty))
        {
            return Err(self.error(
                range,
                format!(
                    "Variable '{name}' previously had type {} but is now being assigned to a value of type {}",
                    outer.ty, value.ty
                ),
            ));
        }
        self.name_value(&value, name);
        self.scope.set(Arc::clone(name), Some(Binding::Value { value, is_refined: false }));
        Ok(())
    }

    /// Gives the SSA value the name it is assigned to, unless it has one.
    fn name_value(&mut self, value: &V, name: &Arc<str>) {
        let slot = &mut self.graph.values[value.id].name;
        if slot.is_none() && is_meaningful(name) {
            *slot = Some(Arc::clone(name));
        }
    }

    fn aug_assign(&mut self, target: &Expr, op: BinaryOp, value: &Expr, range: TextRange) -> Result<()> {
        let current = match &target.kind {
            ExprKind::Subscript { value: object, items } => {
                let object = self.expr(object)?;
                if let Type::Tensor(_) = object.ty {
                    let view = self.subscript_value(object, items, range)?;
                    let rhs = self.expr(value)?;
                    self.in_place(op, view, rhs, range)?;
                    return Ok(());
                }
                self.subscript_value(object, items, range)?
            }
            _ => self.expr(target)?,
        };
        let rhs = self.expr(value)?;
        let made = if matches!(current.ty, Type::Tensor(_)) {
            self.in_place(op, current, rhs, range)?
        } else if matches!((&current.ty, op), (Type::List(_), BinaryOp::Add)) {
            self.builtin_value("aten::add_", vec![current, rhs], range)?
        } else {
            self.binary(op, current, rhs, range)?
        };
        self.assign(target, Sugared::Value(made))
    }

    fn in_place(&mut self, op: BinaryOp, lhs: V, rhs: V, range: TextRange) -> Result<V> {
        let name = match op {
            BinaryOp::Add => "aten::add_",
            BinaryOp::Sub => "aten::sub_",
            BinaryOp::Mul => "aten::mul_",
            BinaryOp::Div => "aten::div_",
            BinaryOp::Mod => "aten::fmod_",
            BinaryOp::Pow => "aten::pow_",
            BinaryOp::BitAnd => "aten::__iand__",
            BinaryOp::BitOr => "aten::__ior__",
            BinaryOp::BitXor => "aten::__ixor__",
            BinaryOp::ShiftLeft => "aten::__ilshift__",
            BinaryOp::ShiftRight => "aten::__irshift__",
            other => {
                return Err(self.error(range, format!("unsupported kind of augmented assignment: {}", other.text())));
            }
        };
        self.builtin_value(name, vec![lhs, rhs], range)
    }
}

/// Whether any statement of the body, or of an `if` in it, leaves this loop.
fn holds_exit(exits: &Exits, body: &[StmtId]) -> bool {
    body.iter().any(|&id| exits.holds_exit(id))
}

/// Adds the names a target binds.
fn target_names(target: &Expr, out: &mut IndexSet<Arc<str>>) {
    match &target.kind {
        ExprKind::Name(name) => _ = out.insert(Arc::clone(name)),
        ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().for_each(|item| target_names(item, out)),
        ExprKind::Starred(inner) => target_names(inner, out),
        _ => {}
    }
}

/// Adds the names that statements assign at any depth.
fn assigned_names(file: &File, body: &[StmtId], out: &mut IndexSet<Arc<str>>) {
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

/// Whether a variable's name tells a reader something: not a temporary of printed code (`_12`), not one of this compiler's.
fn is_meaningful(name: &str) -> bool {
    let is_temporary = name.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && !name.starts_with('$') && !is_temporary
}
