//! Statements of module-level code and of the functions it calls.

use super::value::Closure;
use super::{Cell, Flow, Frame, Interpreter, Value};
use crate::diag::{Blame, Diagnostic, Result};
use crate::script::names::{Definition, Item, dotted};
use crate::syntax::ast::{self, Expr, ExprKind, StmtId, StmtKind, TextRange};
use std::sync::Arc;

/// Contexts whose only effect is on gradients or warnings.
const QUIET_CONTEXTS: [&str; 6] = [
    "torch.no_grad",
    "torch.enable_grad",
    "torch.inference_mode",
    "torch.set_grad_enabled",
    "torch.autograd.no_grad",
    "warnings.catch_warnings",
];

impl Interpreter<'_, '_> {
    /// Runs a block.
    pub(crate) fn block(&mut self, frame: &mut Frame, block: &ast::Block) -> Result<Flow> {
        for &id in &block.stmts {
            match self.stmt(frame, id)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    /// Runs a statement.
    pub(crate) fn stmt(&mut self, frame: &mut Frame, id: StmtId) -> Result<Flow> {
        let file = Arc::clone(&frame.file);
        let stmt = &file.stmts[id];
        self.step(frame, stmt.range)?;
        match &stmt.kind {
            StmtKind::Expr(expr) => {
                if !matches!(expr.kind, ExprKind::Str(_) | ExprKind::Ellipsis)
                    && let Value::Unknown(why) = self.eval(frame, expr)?
                {
                    return Err(Box::new((*why).clone()));
                }
            }
            StmtKind::Assign { targets, .. } if frame.is_global && self.is_named_tuple(frame, targets)? => {}
            StmtKind::Assign { targets, value } => {
                let value = self.eval_or_unknown(frame, value)?;
                for target in targets {
                    self.assign(frame, target, value.clone())?;
                }
            }
            StmtKind::AnnAssign { target, value, .. } => {
                if let Some(value) = value {
                    let value = self.eval_or_unknown(frame, value)?;
                    self.assign(frame, target, value)?;
                }
            }
            StmtKind::AugAssign { target, op, value } => {
                let (old, value) = (self.eval(frame, target)?, self.eval(frame, value)?);
                let new = self.augmented(frame, *op, &old, &value, stmt.range)?;
                self.assign(frame, target, new)?;
            }
            StmtKind::If { cond, then, orelse } => {
                let value = self.eval(frame, cond)?;
                let taken = if self.truth(frame, &value, cond.range)? { then } else { orelse };
                return self.block(frame, taken);
            }
            StmtKind::For { target, iter, body, orelse } => {
                let items = self.eval(frame, iter)?;
                for item in self.items(frame, &items, iter.range)? {
                    self.step(frame, stmt.range)?;
                    self.assign(frame, target, item)?;
                    match self.block(frame, body)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => return Ok(Flow::Next),
                        done @ Flow::Return(_) => return Ok(done),
                    }
                }
                return self.block(frame, orelse);
            }
            StmtKind::While { cond, body, orelse } => {
                loop {
                    self.step(frame, stmt.range)?;
                    let value = self.eval(frame, cond)?;
                    if !self.truth(frame, &value, cond.range)? {
                        break;
                    }
                    match self.block(frame, body)? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => return Ok(Flow::Next),
                        done @ Flow::Return(_) => return Ok(done),
                    }
                }
                return self.block(frame, orelse);
            }
            StmtKind::With { items, body } => {
                for item in items {
                    let callee =
                        if let ExprKind::Call { callee, .. } = &item.context.kind { callee } else { &item.context };
                    let path = dotted(callee).map(|path| self.program.absolute(&file, &path)).unwrap_or_default();
                    if !QUIET_CONTEXTS.contains(&path.as_str()) || item.target.is_some() {
                        return Err(
                            frame.unsupported(item.context.range, format!("'with {path}' outside of compiled code"))
                        );
                    }
                }
                return self.block(frame, body);
            }
            StmtKind::Return(value) => {
                let value = match value {
                    Some(value) => self.eval_or_unknown(frame, value)?,
                    None => Value::None,
                };
                return Ok(Flow::Return(value));
            }
            StmtKind::Raise { error, .. } => return Err(self.raised(frame, error.as_ref(), stmt.range)),
            StmtKind::Assert { cond, message } => {
                let value = self.eval(frame, cond)?;
                if !self.truth(frame, &value, cond.range)? {
                    let text = match message {
                        Some(message) => {
                            let value = self.eval(frame, message)?;
                            format!("AssertionError: {}", self.str(&value))
                        }
                        None => "AssertionError".to_owned(),
                    };
                    return Err(frame.error(stmt.range, text));
                }
            }
            StmtKind::Delete(targets) => {
                for target in targets {
                    self.delete(frame, target)?;
                }
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Pass => {}
            StmtKind::Import(imports) => {
                if !frame.is_global {
                    for import in imports {
                        let name = &import.name.text;
                        let path = import
                            .from
                            .as_ref()
                            .map_or_else(|| Arc::clone(name), |from| format!("{from}.{name}").into());
                        let local = import.alias.as_ref().map_or(name, |alias| &alias.text);
                        frame.locals.insert(Arc::clone(local), Value::Path(path));
                    }
                }
            }
            StmtKind::Def(def) => {
                if !frame.is_global {
                    let definition = Definition { file: Arc::clone(&file), stmt: id, declared: None };
                    let closure = Closure { definition, names: frame.locals.clone(), class: frame.class.clone() };
                    frame.locals.insert(Arc::clone(&def.name.text), Value::Closure(Arc::new(closure)));
                }
            }
            StmtKind::Class(class) => {
                if !frame.is_global {
                    return Err(frame.unsupported(class.head, "classes inside of functions that run as Python"));
                }
            }
            StmtKind::Unsupported { what, .. } => {
                return Err(frame.unsupported(stmt.range, format!("'{what}' outside of compiled code")));
            }
        }
        Ok(Flow::Next)
    }

    /// Whether a statement of the top level makes a class of named tuples, which is declared where it is needed.
    fn is_named_tuple(&mut self, frame: &Frame, targets: &[Expr]) -> Result<bool> {
        let [Expr { kind: ExprKind::Name(name), .. }] = targets else { return Ok(false) };
        let parsed = Arc::clone(&frame.parsed);
        Ok(matches!(self.program.item_of_value(&parsed, name)?, Some(Item::NamedTuple(_))))
    }

    /// The value of an expression; what is not known here is an unknown value, unless evaluating it was to change something
    /// that was there before.
    fn eval_or_unknown(&mut self, frame: &mut Frame, expr: &Expr) -> Result<Value> {
        let n_before = self.heap.len();
        let outside = std::mem::replace(&mut self.oldest_changed, usize::MAX);
        let value = self.eval(frame, expr);
        let is_pure = self.oldest_changed >= n_before;
        self.oldest_changed = self.oldest_changed.min(outside);
        match value {
            Err(error) if error.blame == Blame::Unsupported && is_pure => Ok(Value::Unknown(Arc::new(*error))),
            other => other,
        }
    }

    fn raised(&mut self, frame: &mut Frame, error: Option<&Expr>, range: TextRange) -> Box<Diagnostic> {
        let Some(error) = error else { return frame.unsupported(range, "'raise' without an exception") };
        let text = match &error.kind {
            ExprKind::Call { callee, args } => {
                let class = dotted(callee).unwrap_or_else(|| "Exception".into());
                let mut parts = Vec::new();
                for arg in args {
                    match self.eval(frame, &arg.value) {
                        Ok(value) => parts.push(self.str(&value)),
                        Err(error) => return error,
                    }
                }
                if parts.is_empty() { class } else { format!("{class}: {}", parts.join(", ")) }
            }
            _ => dotted(error).unwrap_or_else(|| "Exception".into()),
        };
        frame.error(range, text)
    }

    /// `target = value`.
    pub(crate) fn assign(&mut self, frame: &mut Frame, target: &Expr, value: Value) -> Result<()> {
        match &target.kind {
            ExprKind::Name(name) => {
                if frame.is_global {
                    self.set_global(&frame.parsed.module, name, value);
                } else {
                    frame.locals.insert(Arc::clone(name), value);
                }
                Ok(())
            }
            ExprKind::Attribute { value: object, name } => {
                let object = self.eval(frame, object)?;
                self.set_attribute(frame, &object, &name.text, value, target.range)
            }
            ExprKind::Subscript { value: object, items } => {
                let container = self.eval(frame, object)?;
                if self.is_tensor(&container) {
                    return self.set_elements(frame, &container, items, &value, target.range);
                }
                let key = self.key(frame, items)?;
                self.set_item(frame, &container, key, value, target.range)
            }
            ExprKind::Tuple(targets) | ExprKind::List(targets) => {
                if let Value::Unknown(_) = value {
                    return targets.iter().try_for_each(|target| self.assign(frame, target, value.clone()));
                }
                let items = self.items(frame, &value, target.range)?;
                let star = targets.iter().position(|target| matches!(target.kind, ExprKind::Starred(_)));
                let n_fixed = targets.len() - usize::from(star.is_some());
                if items.len() < n_fixed || star.is_none() && items.len() > n_fixed {
                    let what = if items.len() < n_fixed { "not enough" } else { "too many" };
                    return Err(
                        frame.error(target.range, format!("ValueError: {what} values to unpack (expected {n_fixed})"))
                    );
                }
                let n_starred = items.len() - n_fixed;
                let mut items = items.into_iter();
                for (at, target) in targets.iter().enumerate() {
                    if let (ExprKind::Starred(inner), true) = (&target.kind, star == Some(at)) {
                        let rest = items.by_ref().take(n_starred).collect();
                        let list = Value::Ref(self.heap.push(Cell::List(rest)));
                        self.assign(frame, inner, list)?;
                    } else if let Some(item) = items.next() {
                        self.assign(frame, target, item)?;
                    }
                }
                Ok(())
            }
            _ => Err(frame.unsupported(target.range, "assignments to targets of this kind outside of compiled code")),
        }
    }

    fn delete(&mut self, frame: &mut Frame, target: &Expr) -> Result<()> {
        match &target.kind {
            ExprKind::Name(name) => {
                if frame.is_global {
                    self.remove_global(&frame.parsed.module, name);
                } else {
                    frame.locals.shift_remove(name);
                }
                Ok(())
            }
            ExprKind::Attribute { value, name } => {
                let object = self.eval(frame, value)?;
                self.delete_attribute(frame, &object, &name.text, target.range)
            }
            ExprKind::Subscript { value, items } => {
                let container = self.eval(frame, value)?;
                let key = self.key(frame, items)?;
                self.delete_item(frame, &container, &key, target.range)
            }
            _ => Err(frame.unsupported(target.range, "'del' of targets of this kind outside of compiled code")),
        }
    }
}
