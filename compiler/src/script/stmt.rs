//! Statements: one after the other, until one of them leaves.

use super::exits::{ASSERTION, Flow};
use super::function::Emitter;
use super::mismatch::repr;
use super::ssa::{Binding, V};
use super::sugar::Sugared;
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::Dialect;
use crate::syntax::ast::{self, Expr, ExprKind, Stmt, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

impl Emitter<'_, '_> {
    /// Emits statements in order.
    pub(crate) fn stmts(&mut self, ids: &[StmtId]) -> Result<Flow> {
        let file = Arc::clone(&self.file);
        for &id in ids {
            let flow = self.stmt(id, &file.stmts[id])?;
            // What follows an exit is never reached, and not compiled.
            if flow.leaves() {
                return Ok(flow);
            }
        }
        Ok(Flow::Falls)
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
                let method = self.name.rsplit('.').next().unwrap_or("");
                if file.dialect == Dialect::Python
                    && method != "__init__"
                    && matches!(&target.kind, ExprKind::Attribute { value, .. } if matches!(&value.kind, ExprKind::Name(name) if &**name == "self"))
                {
                    let text =
                        format!("Type annotations on instance attributes must be declared in __init__, not '{method}'");
                    return Err(self.error(target.range, text));
                }
                let ty = self.program.ty(annotation, &file)?;
                let Some(value) = value else {
                    return Err(self.error(range, "annotated assignments without assigned value aren't supported"));
                };
                let made = self.expr_sugar(value, Some(&ty))?;
                let made = self.value_of(made, value.range)?;
                let made = self.convert(made, &ty, true, value.range).map_err(|v| {
                    let (have, name, ty) = (self.repr(&v), self.file.text(target.range), repr(&ty));
                    self.error(
                        target.range,
                        format!("Variable '{name}' is annotated with type {ty} but is being assigned to a value of type {have}"),
                    )
                })?;
                self.assign(target, Sugared::Value(V { id: made.id, ty }))?;
            }
            StmtKind::AugAssign { target, op, value } => self.aug_assign(target, *op, value, range)?,
            StmtKind::If { cond, then, orelse } => return self.if_stmt(stmt, cond, &then.stmts, &orelse.stmts),
            StmtKind::For { target, iter, body, orelse } => {
                if !orelse.stmts.is_empty() {
                    return Err(self.error(range, "else branches of for loops aren't supported"));
                }
                if let (ExprKind::Tuple(_), Dialect::Own) = (&iter.kind, self.file.dialect)
                    && !self.file.text(iter.range).starts_with('(')
                {
                    return Err(self.error(range, "List of iterables is not supported currently"));
                }
                return self.for_stmt(target, iter, &body.stmts, range);
            }
            StmtKind::While { cond, body, orelse } => {
                if !orelse.stmts.is_empty() {
                    return Err(self.error(range, "else branches of while loops aren't supported"));
                }
                return self.while_stmt(id, cond, &body.stmts, range);
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
            StmtKind::Assert { cond, message } => return self.assert_stmt(cond, message.as_ref(), range),
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
                                "del statements are only supported for deleting list and dict items and variables",
                            ));
                        }
                    }
                }
            }
            StmtKind::Break | StmtKind::Continue => {
                self.round_stmt(matches!(stmt.kind, StmtKind::Break), range)?;
                return Ok(Flow::EndsRound);
            }
            StmtKind::Pass => {}
            StmtKind::Def(_) if self.file.dialect == Dialect::Python => {
                return Err(self.error(range, "function definitions aren't supported"));
            }
            StmtKind::Def(def) => {
                if self.is_text() {
                    self.check_closure(id)?;
                }
                let closure = Sugared::Closure(id);
                self.scope.set(Arc::clone(&def.name.text), Some(Binding::Sugar(closure)));
            }
            StmtKind::Import(_) if self.is_text() => {
                return Err(self.error(range, "import statements aren't supported"));
            }
            StmtKind::Import(_) => {}
            StmtKind::Class(_) => return Err(self.error(range, "class definitions aren't supported")),
            StmtKind::Unsupported { what, .. } => {
                let what = match &**what {
                    "try" => "try blocks",
                    "global" => "global variables",
                    "nonlocal" => "nonlocal variables",
                    other => other,
                };
                return Err(self.error(range, format!("{what} aren't supported")));
            }
        }
        Ok(Flow::Falls)
    }

    fn assert_stmt(&mut self, cond: &Expr, message: Option<&Expr>, range: TextRange) -> Result<Flow> {
        let condition = self.condition(cond)?;
        let value = match condition.value {
            Ok(value) => value,
            Err(true) => {
                for (name, ty) in condition.then {
                    self.refine(&name, ty, range);
                }
                return Ok(Flow::Falls);
            }
            Err(false) => return self.fail_assertion(message, range),
        };
        let then = self.branch(&condition.then, range, |_| Ok(Flow::Falls))?;
        let orelse = self.branch(&condition.orelse, range, |e| e.fail_assertion(message, range))?;
        self.merge(&value, then, orelse, range)?;
        Ok(Flow::Falls)
    }

    /// Raises what a failed `assert` raises.
    pub(crate) fn fail_assertion(&mut self, message: Option<&Expr>, range: TextRange) -> Result<Flow> {
        let text = match message {
            Some(message) => self.expr(message)?,
            None => self.constant(IValue::Str("".into()), Type::Str, range),
        };
        let text = self.exception_message(ASSERTION, vec![text], range)?;
        let class = self.none(range);
        self.node(OpName::new("prim::RaiseException"), vec![text.id, class.id], &[], range);
        Ok(Flow::Raises)
    }

    /// Refuses a class whose `__enter__` and `__exit__` cannot be called around a block.
    fn check_context_manager(&self, class: &str, range: TextRange) -> Result<()> {
        let params = |method: &str| {
            let name = format!("{class}.{method}");
            self.program.functions.get(name.as_str()).map_or(&[][..], |function| &function.params)
        };
        if params("__enter__").len() != 1 {
            return Err(self.error(range, "__enter__ must have only one argument and one return value"));
        }
        let exit = params("__exit__");
        if exit.len() != 4 {
            return Err(self.error(range, "__exit__ must have four arguments"));
        }
        match exit.iter().skip(1).position(|param| param.ty != Type::Any) {
            None => Ok(()),
            Some(at) => Err(self.error(
                range,
                format!(
                    "argument {} of __exit__ must have Any type; TorchScript does not currently support passing exception type, value, or traceback to the __exit__ function.",
                    at + 1
                ),
            )),
        }
    }

    fn with_stmt(&mut self, items: &[ast::WithItem], body: &[StmtId], range: TextRange) -> Result<Flow> {
        let mut entered = Vec::new();
        for item in items {
            let object = self.expr(&item.context)?;
            let Type::Class(class) = object.ty.clone() else {
                return Err(self.error(item.context.range, "With item expression must return an object"));
            };
            let place = item.context.range;
            let result = self.method_result(&class, "__enter__", place)?;
            let exit = self.method_result(&class, "__exit__", place)?;
            let (Some(result), Some(_)) = (result, exit) else {
                return Err(self.error(
                    place,
                    "Object returned by with item expression does not define __enter__ and __exit__ methods",
                ));
            };
            self.check_context_manager(&class, place)?;
            let value = self.prim("prim::Enter", &[&object], result, item.context.range);
            if let Some(target) = &item.target {
                self.assign(target, Sugared::Value(value))?;
            }
            entered.push(object);
        }
        let flow = self.stmts(body)?;
        for object in entered.into_iter().rev() {
            self.prim("prim::Exit", &[&object], Type::tensor(), range);
        }
        Ok(flow)
    }
}
