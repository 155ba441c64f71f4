//! `return`, `raise`, `break` and `continue` as they are emitted: nodes that [`structure`](super::structure) replaces.

use super::function::Emitter;
use super::mismatch::repr;
use super::ssa::V;
use super::structure::{CONTINUE, RETURN};
use super::sugar::Sugared;
use super::typing::unify;
use crate::diag::Result;
use crate::ir::OpName;
use crate::syntax::ast::{Expr, ExprKind, StmtId, StmtKind, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

/// How control leaves a statement or block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// To what follows, at least sometimes.
    Falls,
    /// Never: it raises.
    Raises,
    /// By `return`, or never.
    Exits,
    /// By `break` or `continue`, or not even so far.
    EndsRound,
}

impl Flow {
    /// How control leaves an `if` with these two sides.
    pub(crate) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Falls, _) | (_, Self::Falls) => Self::Falls,
            (Self::Raises, flow) | (flow, Self::Raises) => flow,
            (Self::Exits, Self::Exits) => Self::Exits,
            (Self::EndsRound, _) | (_, Self::EndsRound) => Self::EndsRound,
        }
    }

    /// Whether what follows is never reached.
    pub(crate) fn leaves(self) -> bool {
        self != Self::Falls
    }
}

/// A loop around the present statement.
pub(crate) enum OpenLoop {
    /// One that runs, with the names that it carries and the `while` statement it is, if it is one.
    Runs(Vec<(Arc<str>, V)>, Option<StmtId>),
    /// One that is written out, round by round.
    Unrolled,
}

impl Emitter<'_, '_> {
    /// `break` or `continue`: the next round's condition and what it starts from.
    pub(crate) fn round_stmt(&mut self, is_break: bool, range: TextRange) -> Result<()> {
        let (names, stmt) = match self.loops.last() {
            Some(OpenLoop::Runs(names, stmt)) => (names.clone(), *stmt),
            Some(OpenLoop::Unrolled) => {
                let text = "Because we emit iteration over modulelists or tuples as unrolled loops, we do not support break or continue inside the body of these loops";
                return Err(self.error(range, text));
            }
            None => {
                let word = if is_break { "break" } else { "continue" };
                return Err(self.error(range, format!("SyntaxError: '{word}' outside loop")));
            }
        };
        let file = Arc::clone(&self.file);
        let again = match stmt.map(|id| &file.stmts[id].kind) {
            _ if is_break => {
                // As PyTorch's passes on exits have them: both before all else, from no place.
                let [_, no] = [true, false].map(|value| {
                    let flag = self.top_constant(IValue::Bool(value), Type::Bool, range);
                    self.hide_place(&flag);
                    flag
                });
                no
            }
            Some(StmtKind::While { cond, .. }) => self.next_round(&names, cond)?,
            _ => self.constant(IValue::Bool(true), Type::Bool, range),
        };
        let mut inputs = vec![again.id];
        for (name, inner) in &names {
            inputs.push(self.carried_value(name, &inner.ty, range)?.id);
        }
        self.node(OpName::new(CONTINUE), inputs, &[], range);
        Ok(())
    }

    /// `return value`.
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
                    let (have, ty) = (self.repr(&v), repr(&ty));
                    self.error(
                        range,
                        if is_declared {
                            format!("Return value was annotated as having type {ty} but is actually of type {have}")
                        } else {
                            format!("Previous return statement returned a value of type {ty} but this return statement returns a value of type {have}")
                        },
                    )
                })?;
                if is_declared && ty == Type::Any && made.ty != Type::Any {
                    self.prim("prim::unchecked_cast", &[&made], ty, range)
                } else {
                    V { id: made.id, ty }
                }
            }
        } else {
            self.result = Some(made.ty.clone());
            made
        };
        self.node(OpName::new(RETURN), vec![made.id], &[], range);
        Ok(())
    }

    /// `raise error`.
    pub(crate) fn raise_stmt(&mut self, error: &Expr, range: TextRange) -> Result<()> {
        let (callee, args) = match &error.kind {
            ExprKind::Call { callee, args } => (&**callee, args.as_slice()),
            _ => (error, [].as_slice()),
        };
        let name = super::names::dotted(callee).unwrap_or_else(|| "Exception".to_owned());
        if self.is_text() && !(super::names::dotted(callee).is_some() && self.is_exception(&name)) {
            return match self.expr_sugar(error, None)? {
                Sugared::Raised(message, class) => {
                    self.raise_value(&message, &class, range);
                    Ok(())
                }
                Sugared::Exception(_) => {
                    self.raise_bare(range);
                    Ok(())
                }
                Sugared::Value(V { ty: Type::Class(_), .. }) => {
                    let args = args.iter().map(|arg| self.expr(&arg.value)).collect::<Result<_>>()?;
                    let message = self.exception_message(&name, args, range)?;
                    self.raise_value(&message, &name.into(), range);
                    Ok(())
                }
                _ => Err(self.error(range, "exceptions must derive from BaseException")),
            };
        }
        let args = args.iter().map(|arg| self.expr(&arg.value)).collect::<Result<_>>()?;
        let qualified: Arc<str> = if name.contains('.') { name.into() } else { format!("builtins.{name}").into() };
        if self.is_text() && !matches!(error.kind, ExprKind::Call { .. }) {
            self.raise_bare(range);
            return Ok(());
        }
        let message = self.exception_message(&qualified, args, range)?;
        self.raise_value(&message, &qualified, range);
        Ok(())
    }

    /// Raises a class of exceptions that was not called: PyTorch's compiler then forgets which.
    fn raise_bare(&mut self, range: TextRange) {
        let (message, class) = (self.constant(IValue::Str("".into()), Type::Str, range), self.none(range));
        self.node(OpName::new("prim::RaiseException"), vec![message.id, class.id], &[], range);
    }

    fn raise_value(&mut self, message: &V, class: &Arc<str>, range: TextRange) {
        let class = if **class == *ASSERTION {
            self.none(range)
        } else {
            self.constant(IValue::Str(Arc::clone(class)), Type::Str, range)
        };
        self.node(OpName::new("prim::RaiseException"), vec![message.id, class.id], &[], range);
    }

    /// The message of an exception of this class that is made of these arguments.
    pub(crate) fn exception_message(&mut self, class: &str, mut args: Vec<V>, range: TextRange) -> Result<V> {
        if class == ASSERTION {
            // PyTorch's compiler has this class itself: its name is part of the message, as where an `assert` fails.
            let mut message = self.constant(IValue::Str("AssertionError: ".into()), Type::Str, range);
            for arg in args {
                let text = self.text_of(arg, range)?;
                message = self.builtin_value("aten::add", vec![message, text], range)?;
            }
            return Ok(message);
        }
        let made = match args.len() {
            0 => return Ok(self.constant(IValue::Str("".into()), Type::Str, range)),
            1 => args.remove(0),
            _ => self.tuple(args, range),
        };
        self.text_of(made, range)
    }

    fn text_of(&mut self, value: V, range: TextRange) -> Result<V> {
        if value.ty == Type::Str { Ok(value) } else { self.builtin_value("aten::str", vec![value], range) }
    }

    /// Whether a name of a text is one of Python's exceptions, or imported and so unknown here.
    fn is_exception(&self, name: &str) -> bool {
        let first = name.split('.').next().unwrap_or(name);
        let is_imported = self.program.text_of(&self.file).is_some_and(|parsed| parsed.imports.contains_key(first));
        is_imported || is_builtin_exception(name)
    }
}

/// The class of exceptions that a failed `assert` raises.
pub(crate) const ASSERTION: &str = "builtins.AssertionError";

/// Whether a name is one of Python's exceptions that need no import.
pub(crate) fn is_builtin_exception(name: &str) -> bool {
    BUILTIN_EXCEPTIONS.contains(&name)
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
