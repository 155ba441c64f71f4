//! Early exits: `return`, `break` and `continue` that are not the end of everything.
//!
//! They become hidden variables: `$ret` holds the result, `$did` says that the rest of the block must be skipped,
//! `$stop` ends the loop, `$returned` says that the loop ended by a `return`.
//! Where a branch always leaves, the statements after the `if` simply move into the other branch.

use super::function::Emitter;
use super::ssa::V;
use super::typing::unify;
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::ast::{Expr, ExprKind, File, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
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
    /// How control leaves an `if` with these two sides.
    pub(crate) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Raises, flow) | (flow, Self::Raises) => flow,
            (a, b) if a == b => a,
            _ => Self::Maybe,
        }
    }

    /// Whether what follows is never reached.
    pub(crate) fn leaves(self) -> bool {
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

    /// Whether the statement can leave its block.
    pub(crate) fn holds_exit(&self, id: StmtId) -> bool {
        self.found.contains_key(&id)
    }

    /// Whether the body leaves whenever it runs.
    pub(crate) fn always(&self, body: &[StmtId]) -> bool {
        body.iter().any(|id| self.found.get(id).is_some_and(|found| found.0))
    }

    /// Whether a `return` may leave the body.
    pub(crate) fn holds_return(&self, body: &[StmtId]) -> bool {
        body.iter().any(|id| self.found.get(id).is_some_and(|found| found.1))
    }
}

impl Emitter<'_, '_> {
    /// The statements after one that may have left.
    pub(crate) fn guarded(&mut self, rest: &[StmtId], range: TextRange) -> Result<Flow> {
        if rest.is_empty() {
            return Ok(Flow::Maybe);
        }
        let did = self.hidden("$did", range)?;
        let then = self.branch(&[], range, |_| Ok(Flow::Exits))?;
        let orelse = self.branch(&[], range, |e| e.stmts(rest))?;
        let flow = self.merge(&did, then, orelse, range)?;
        Ok(flow)
    }

    /// `return` on the paths that have not left yet.
    pub(crate) fn guarded_return(&mut self, range: TextRange) -> Result<Flow> {
        let did = self.hidden("$did", range)?;
        let then = self.branch(&[], range, |_| Ok(Flow::Exits))?;
        let orelse = self.branch(&[], range, |e| {
            e.return_stmt(None, range)?;
            Ok(Flow::Exits)
        })?;
        self.merge(&did, then, orelse, range)
    }

    /// `return value`: the result and, inside blocks, the flags that skip what follows.
    pub(crate) fn return_stmt(&mut self, value: Option<&Expr>, range: TextRange) -> Result<()> {
        let hint = self.result.clone();
        let made = match value {
            None => self.none(range),
            Some(expr) => {
                let made = self.expr_sugar(expr, hint.as_ref())?;
                self.value_of(made, expr.range)?
            }
        };
        let made = if let Some(ty) = hint {
            let wider = unify(&ty, &made.ty, self.program);
            if let (false, true, Some(wider)) = (self.is_result_declared, self.is_text(), wider) {
                // The first `return` said one type; with this one it is a wider one, perhaps.
                self.result = Some(wider);
                made
            } else {
                let is_declared = self.is_result_declared;
                let made = self.convert(made, &ty, true, range).map_err(|v| {
                    let (have, ty) = (v.ty.annotation(), ty.annotation());
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
        } else {
            self.result = Some(made.ty.clone());
            made
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

    /// Whether flags tell that the present block has been left.
    pub(crate) fn exits_are_flagged(&self) -> bool {
        self.scope.get("$did").is_some()
    }

    /// `raise error`.
    pub(crate) fn raise_stmt(&mut self, error: &Expr, range: TextRange) -> Result<()> {
        let (callee, args) = match &error.kind {
            ExprKind::Call { callee, args } => (&**callee, args.as_slice()),
            _ => (error, [].as_slice()),
        };
        let name = super::names::dotted(callee).unwrap_or_else(|| "Exception".to_owned());
        if self.is_text() && !self.is_exception(&name) {
            self.expr_sugar(callee, None)?;
        }
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

    /// Whether a name of a text is one of Python's exceptions, or imported and so unknown here.
    fn is_exception(&self, name: &str) -> bool {
        let first = name.split('.').next().unwrap_or(name);
        let is_imported = self.program.text_of(&self.file).is_some_and(|parsed| parsed.imports.contains_key(first));
        is_imported || BUILTIN_EXCEPTIONS.contains(&name)
    }
}

/// The exceptions of Python that need no import.
const BUILTIN_EXCEPTIONS: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "BlockingIOError",
    "BrokenPipeError",
    "BufferError",
    "BytesWarning",
    "ChildProcessError",
    "ConnectionError",
    "DeprecationWarning",
    "EOFError",
    "EnvironmentError",
    "Exception",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "FutureWarning",
    "GeneratorExit",
    "IOError",
    "ImportError",
    "ImportWarning",
    "IndentationError",
    "IndexError",
    "InterruptedError",
    "IsADirectoryError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "MemoryError",
    "ModuleNotFoundError",
    "NameError",
    "NotADirectoryError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PendingDeprecationWarning",
    "PermissionError",
    "ProcessLookupError",
    "RecursionError",
    "ReferenceError",
    "ResourceWarning",
    "RuntimeError",
    "RuntimeWarning",
    "StopAsyncIteration",
    "StopIteration",
    "SyntaxError",
    "SyntaxWarning",
    "SystemError",
    "SystemExit",
    "TabError",
    "TimeoutError",
    "TypeError",
    "UnboundLocalError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "UnicodeTranslateError",
    "UnicodeWarning",
    "UserWarning",
    "ValueError",
    "Warning",
    "ZeroDivisionError",
];
