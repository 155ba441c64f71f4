//! Expressions: literals, displays, comparisons, choices; each other kind has its file.

use super::classes;
use super::function::Emitter;
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::Result;
use crate::ir::ClassKind;
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind, FormatPiece, TextRange};
use crate::types::{IValue, Type};
use std::sync::Arc;

/// The arguments of a call, by position and by name.
type Arguments = (Vec<V>, Vec<(Arc<str>, V)>);

impl Emitter<'_, '_> {
    /// The value of an expression.
    pub(crate) fn expr(&mut self, expr: &Expr) -> Result<V> {
        let made = self.expr_sugar(expr, None)?;
        self.value_of(made, expr.range)
    }

    /// What an expression means; `hint` is the type wanted, which decides empty lists and the like.
    pub(crate) fn expr_sugar(&mut self, expr: &Expr, hint: Option<&Type>) -> Result<Sugared> {
        let range = expr.range;
        let value = match &expr.kind {
            ExprKind::Name(name) => return self.name(name, range),
            ExprKind::Int(value) => self.number(IValue::Int(*value), Type::Int, range),
            ExprKind::Float(value) => self.number(IValue::Float(*value), Type::Float, range),
            ExprKind::Imaginary(value) => self.number(IValue::Complex(0.0, *value), Type::Complex, range),
            ExprKind::Bool(value) => self.constant(IValue::Bool(*value), Type::Bool, range),
            ExprKind::Str(text) => self.constant(IValue::Str(classes::string(text)), Type::Str, range),
            ExprKind::None => self.none(range),
            ExprKind::Attribute { value, name } => {
                let object = self.expr_sugar(value, None)?;
                return self.attribute(object, &name.text, range);
            }
            ExprKind::Subscript { value, items } => {
                let object = self.expr(value)?;
                if let (Type::Class(class), Some(hint)) = (&object.ty, hint)
                    && self.program.classes.get(class).is_some_and(|c| c.class.kind == ClassKind::Module)
                    && let [key] = items.as_slice()
                {
                    let (key, hint) = (key.clone(), hint.clone());
                    return Ok(Sugared::Value(self.contained_as(&object, &key, &hint, range)?));
                }
                self.subscript_value(object, items, range)?
            }
            ExprKind::Call { callee, args } => return self.call(callee, args, range, hint),
            ExprKind::Tuple(items) => {
                let hints: Vec<Option<Type>> = match hint {
                    Some(Type::Tuple(types)) if types.len() == items.len() => types.iter().cloned().map(Some).collect(),
                    _ => vec![None; items.len()],
                };
                let mut values = Vec::with_capacity(items.len());
                for (item, hint) in items.iter().zip(hints) {
                    if let ExprKind::Starred(inner) = &item.kind {
                        let made = self.expr_sugar(inner, None)?;
                        let n = self.n_unpacked(&made, inner.range)?;
                        values.extend(self.unpack(made, n, false, inner.range)?);
                    } else {
                        let made = self.expr_sugar(item, hint.as_ref())?;
                        values.push(self.value_of(made, item.range)?);
                    }
                }
                self.tuple(values, range)
            }
            ExprKind::List(items) => self.list(items, hint, range)?,
            ExprKind::Dict(entries) => self.dict(entries, hint, range)?,
            ExprKind::ListComp { element, generators } => {
                let [generator] = generators.as_slice() else {
                    return Err(self.error(range, "Only a single generator is currently supported"));
                };
                self.comprehension(generator, range, Self::expr, element, hint)?
            }
            ExprKind::DictComp { key, value, generators } => {
                let [generator] = generators.as_slice() else {
                    return Err(self.error(range, "Only a single generator is currently supported"));
                };
                self.dict_comprehension(generator, key, value, hint, range)?
            }
            ExprKind::Unary { op, operand } => self.unary(*op, operand, range)?,
            ExprKind::Binary { op: BinaryOp::And | BinaryOp::Or | BinaryOp::Is | BinaryOp::IsNot, .. } => {
                let condition = self.condition(expr)?;
                self.condition_as_value(condition, range)
            }
            ExprKind::Binary { op, lhs, rhs } => {
                let (lhs, rhs) = (self.expr(lhs)?, self.expr(rhs)?);
                self.binary(*op, lhs, rhs, range)?
            }
            ExprKind::Compare { first, rest } => self.chained(first, rest, range)?,
            ExprKind::Ternary { cond, then, orelse } => self.ternary(cond, then, orelse, hint, range)?,
            ExprKind::Format(pieces) => {
                let (mut text, mut args) = (Vec::new(), Vec::new());
                for piece in pieces {
                    match piece {
                        FormatPiece::Text(bytes) => text.extend_from_slice(bytes),
                        FormatPiece::Value(value) => {
                            text.extend_from_slice(b"{}");
                            args.push(self.expr(value)?);
                        }
                    }
                }
                let text = self.constant(IValue::Str(classes::string(&text)), Type::Str, range);
                args.insert(0, text);
                self.builtin_value("aten::format", args, range)?
            }
            ExprKind::Ellipsis | ExprKind::Slice { .. } | ExprKind::Starred(_) => {
                let kind = if matches!(expr.kind, ExprKind::Ellipsis) { "dots" } else { "slice or starred" };
                return Err(self.error(range, format!("Cannot emit expr for: ({kind})")));
            }
            ExprKind::Set(_) => return Err(self.error(range, "Set aren't supported")),
            ExprKind::Unsupported(what) => return Err(self.error(range, *what)),
        };
        Ok(Sugared::Value(value))
    }

    /// `a < b < c < d` is `(a < b and b < c) and c < d`; as in PyTorch, an operand between two comparisons stands in both.
    fn chained(&mut self, first: &Expr, rest: &[(BinaryOp, Expr)], range: TextRange) -> Result<V> {
        let compared = |e: &mut Self, lhs: &Expr, op: BinaryOp, rhs: &Expr| {
            let (a, b) = (e.expr(lhs)?, e.expr(rhs)?);
            e.binary(op, a, b, range)
        };
        let Some(((op, rhs), rest)) = rest.split_first() else {
            return Err(self.error(range, "a comparison without operands"));
        };
        let mut result = compared(self, first, *op, rhs)?;
        let mut lhs = rhs;
        for (op, rhs) in rest {
            let so_far = self.truth(result, range)?;
            result = self.select(
                &so_far,
                Vec::new(),
                Vec::new(),
                range,
                |e| compared(e, lhs, *op, rhs),
                |e| Ok(e.constant(IValue::Bool(false), Type::Bool, range)),
            )?;
            lhs = rhs;
        }
        Ok(result)
    }

    fn ternary(&mut self, cond: &Expr, then: &Expr, orelse: &Expr, hint: Option<&Type>, range: TextRange) -> Result<V> {
        let condition = self.condition(cond)?;
        let value = match condition.value {
            Ok(value) => value,
            Err(truth) => {
                let live = if truth { then } else { orelse };
                let made = self.expr_sugar(live, hint)?;
                return self.value_of(made, live.range);
            }
        };
        // Where anything is wanted, both sides become that, so that they need not agree.
        let side = |e: &mut Self, side: &Expr| {
            let made = e.expr_sugar(side, hint)?;
            let made = e.value_of(made, side.range)?;
            let is_cast = hint == Some(&Type::Any) && made.ty != Type::Any;
            Ok(if is_cast { e.prim("prim::unchecked_cast", &[&made], Type::Any, side.range) } else { made })
        };
        self.select(&value, condition.then, condition.orelse, range, |e| side(e, then), |e| side(e, orelse))
    }

    /// A tuple of the values.
    pub(crate) fn tuple(&mut self, values: Vec<V>, range: TextRange) -> V {
        let ty = Type::Tuple(values.iter().map(|v| v.ty.clone()).collect());
        let inputs: Vec<&V> = values.iter().collect();
        self.prim("prim::TupleConstruct", &inputs, ty, range)
    }

    /// The arguments of a call as values.
    pub(crate) fn arguments(&mut self, args: &[ast::Arg]) -> Result<Arguments> {
        let (mut positional, mut named) = (Vec::with_capacity(args.len()), Vec::new());
        for arg in args {
            match (&arg.name, &arg.value.kind) {
                (Some(name), _) => {
                    let value = self.expr(&arg.value)?;
                    named.push((Arc::clone(&name.text), value));
                }
                (None, ExprKind::Starred(inner)) => {
                    let made = self.expr_sugar(inner, None)?;
                    let n = self.n_unpacked(&made, inner.range)?;
                    positional.extend(self.unpack(made, n, false, inner.range)?);
                }
                (None, _) => positional.push(self.expr(&arg.value)?),
            }
        }
        Ok((positional, named))
    }
}
