//! Conditions, and what they say about types: after `x is not None` or `isinstance(x, T)` the name `x` is narrower.
//!
//! A condition that the types alone decide is no condition: only the live side is compiled, so code for a `None` that
//! cannot be there needs no types that fit.

use super::classes;
use super::construct::ModuleFacts;
use super::function::Emitter;
use super::mismatch::repr;
use super::names::Item;
use super::ssa::{Binding, V};
use super::sugar::Sugared;
use super::typing::{in_order, is_subtype, members, union};
use crate::diag::Result;
use crate::ir::Attr;
use crate::syntax::ast::{BinaryOp, Expr, ExprKind, TextRange, UnaryOp};
use crate::types::{IValue, Type};
use std::sync::Arc;

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
    /// A condition with what it says about types.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Result<Condition> {
        let range = expr.range;
        match &expr.kind {
            ExprKind::Unary { op: UnaryOp::Not, operand } => {
                let inner = self.condition(operand)?;
                let value = match inner.value {
                    Ok(value) => Ok(self.builtin_value("aten::__not__", vec![value], range)?),
                    Err(truth) => Err(!truth),
                };
                Ok(Condition { value, then: inner.orelse, orelse: inner.then })
            }
            ExprKind::Binary { op: op @ (BinaryOp::Is | BinaryOp::IsNot), lhs, rhs } => {
                let (left, right) = (self.expr(lhs)?, self.expr(rhs)?);
                let is_not = *op == BinaryOp::IsNot;
                let (subject, name) = match (&left.ty, &right.ty) {
                    (_, Type::None) => (&left, lhs),
                    (Type::None, _) => (&right, rhs),
                    _ => {
                        let value = self.binary(*op, left, right, range)?;
                        return Ok(Condition { value: Ok(value), then: Vec::new(), orelse: Vec::new() });
                    }
                };
                let may_be_none = is_subtype(&Type::None, &subject.ty, self.program);
                let decided = match &subject.ty {
                    Type::None => Some(true),
                    _ if !may_be_none => Some(false),
                    _ => None,
                };
                if let Some(is_none) = decided {
                    return Ok(Condition { value: Err(is_none != is_not), then: Vec::new(), orelse: Vec::new() });
                }
                let mut some = Vec::new();
                if let ExprKind::Name(name) = &name.kind
                    && subject.ty != Type::Any
                {
                    let rest = members(&subject.ty).into_iter().filter(|ty| *ty != Type::None).collect();
                    some.push((Arc::clone(name), union(rest, self.program)));
                }
                let value = self.binary(*op, left, right, range)?;
                let (then, orelse) = if is_not { (some, Vec::new()) } else { (Vec::new(), some) };
                Ok(Condition { value: Ok(value), then, orelse })
            }
            ExprKind::Binary { op: op @ (BinaryOp::And | BinaryOp::Or), lhs, rhs } => {
                let is_and = *op == BinaryOp::And;
                let mut left = self.condition(lhs)?;
                // A constant on the left decides nothing yet: it is folded later.
                let is_constant =
                    !matches!(lhs.kind, ExprKind::Unary { .. } | ExprKind::Binary { .. } | ExprKind::Call { .. });
                if let (Err(truth), true) = (&left.value, is_constant) {
                    left.value = Ok(self.constant(IValue::Bool(*truth), Type::Bool, lhs.range));
                }
                match left.value {
                    // Decided by the left side alone: the right side is not compiled.
                    Err(truth) if truth != is_and => Ok(left),
                    Err(_) => {
                        let right = self.condition(rhs)?;
                        let (mut then, mut orelse) = (left.then, left.orelse);
                        if is_and {
                            then.extend(right.then);
                            orelse.clear();
                        } else {
                            orelse.extend(right.orelse);
                            then.clear();
                        }
                        Ok(Condition { value: right.value, then, orelse })
                    }
                    Ok(value) => {
                        let mut both = Vec::new();
                        let live = |e: &mut Self, both: &mut Vec<(Arc<str>, Type)>| {
                            let right = e.condition(rhs)?;
                            both.extend(if is_and { right.then.clone() } else { right.orelse.clone() });
                            Ok(e.condition_as_value(right, rhs.range))
                        };
                        let fixed = |e: &mut Self| Ok(e.constant(IValue::Bool(!is_and), Type::Bool, range));
                        let (then, orelse) = (left.then.clone(), left.orelse.clone());
                        let value = if is_and {
                            self.select(&value, then, orelse, range, |e| live(e, &mut both), fixed)?
                        } else {
                            self.select(&value, then, orelse, range, fixed, |e| live(e, &mut both))?
                        };
                        let (mut then, mut orelse) = (left.then, left.orelse);
                        if is_and {
                            then.extend(both);
                            orelse.clear();
                        } else {
                            orelse.extend(both);
                            then.clear();
                        }
                        Ok(Condition { value: Ok(value), then, orelse })
                    }
                }
            }
            ExprKind::Call { callee, .. } if self.question(callee) == Some("is_scripting") => {
                Ok(Condition { value: Err(true), then: Vec::new(), orelse: Vec::new() })
            }
            ExprKind::Call { callee, args } if self.question(callee).is_some() => {
                if args.len() == 2
                    && let Some(question) = self.question(callee)
                {
                    return if question == "isinstance" {
                        self.isinstance(&args[0].value, &args[1].value, range)
                    } else {
                        let object = match self.expr_sugar(&args[0].value, None)? {
                            Sugared::Item(Item::Class(class)) => class,
                            other => self.value_of(other, args[0].value.range)?.ty,
                        };
                        let ExprKind::Str(attr) = &args[1].value.kind else {
                            let text = "hasattr's second argument must be a string literal";
                            return Err(self.error(args[1].value.range, text));
                        };
                        let attr = classes::string(attr);
                        let has = match &object {
                            Type::Class(class) => {
                                let is_function = |facts: &ModuleFacts| facts.functions.contains_key(&attr);
                                self.program.classes.get(class).is_some_and(|c| {
                                    c.class.attrs.contains_key(&attr) || c.class.constants.contains_key(&attr)
                                }) || self.has_method(class, &attr)
                                    || self.program.modules.get(class).is_some_and(is_function)
                            }
                            Type::NamedTuple(named) => named.fields.iter().any(|(field, _)| *field == attr),
                            _ => {
                                if !matches!(args[1].value.kind, ExprKind::Str(_)) {
                                    let text = "hasattr's second argument must be a string literal";
                                    return Err(self.error(range, text));
                                }
                                let have = repr(&object);
                                return Err(self.error(
                                    range,
                                    format!(
                                        "hasattr's first argument must be an object or NamedTuple, got {have} instead"
                                    ),
                                ));
                            }
                        };
                        Ok(Condition { value: Err(has), then: Vec::new(), orelse: Vec::new() })
                    };
                }
                let form = self.question(callee).unwrap_or("isinstance");
                let text = if args.iter().any(|arg| arg.name.is_some()) {
                    format!("{form} takes no keyword arguments")
                } else {
                    format!("{form} expected exactly 2 arguments but found {}", args.len())
                };
                Err(self.error(range, text))
            }
            _ => {
                let value = self.expr(expr)?;
                let value = self.truth(value, range)?;
                // Literals and constants of classes decide which side is compiled.
                let value = self.constant_truth(&value).map_or(Ok(value), Err);
                Ok(Condition { value, then: Vec::new(), orelse: Vec::new() })
            }
        }
    }

    /// The truth of a value that is a constant.
    fn constant_truth(&self, value: &V) -> Option<bool> {
        match self.graph.constant(value.id) {
            Some(IValue::Bool(truth)) => Some(truth),
            _ => None,
        }
    }

    /// The question about types that a callee asks.
    fn question(&self, callee: &Expr) -> Option<&'static str> {
        let is_known = |name: &str| self.scope.get(name).is_none();
        match &callee.kind {
            ExprKind::Name(name) => match &**name {
                "isinstance" if is_known(name) => Some("isinstance"),
                "hasattr" if is_known(name) => Some("hasattr"),
                _ => None,
            },
            ExprKind::Attribute { .. } => {
                let path = super::names::dotted(callee)?;
                match self.program.absolute(&self.file, &path).as_str() {
                    "torch.jit.isinstance" => Some("isinstance"),
                    "torch.jit.is_scripting" if self.is_text() => Some("is_scripting"),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn isinstance(&mut self, subject: &Expr, types: &Expr, range: TextRange) -> Result<Condition> {
        let value = self.expr(subject)?;
        let file = Arc::clone(&self.file);
        let exprs: Vec<&Expr> = match &types.kind {
            ExprKind::Tuple(items) => items.iter().collect(),
            _ => vec![types],
        };
        let mut types = Vec::new();
        for ty in exprs {
            types.extend(members(&self.program.ty(ty, &file)?));
        }
        in_order(&mut types);
        let is_one = |ty: &Type, e: &Self| types.iter().any(|t| is_subtype(ty, t, e.program));
        let all = members(&value.ty);
        let (yes, no): (Vec<Type>, Vec<Type>) = all.into_iter().partition(|ty| is_one(ty, self));
        let is_open = value.ty == Type::Any || types.iter().any(|t| is_subtype(t, &value.ty, self.program));
        let (mut then, mut orelse) = (Vec::new(), Vec::new());
        if let ExprKind::Name(name) = &subject.kind {
            let narrow = if yes.is_empty() { types.clone() } else { yes.clone() };
            then.push((Arc::clone(name), union(narrow, self.program)));
            orelse.push((Arc::clone(name), union(no.clone(), self.program)));
        }
        if no.is_empty() {
            return Ok(Condition { value: Err(true), then, orelse: Vec::new() });
        }
        if yes.is_empty() && !is_open {
            return Ok(Condition { value: Err(false), then: Vec::new(), orelse });
        }
        let made = self.prim_attr("prim::isinstance", ("types", Attr::Types(types)), &[&value], Type::Bool, range);
        Ok(Condition { value: Ok(made), then, orelse })
    }

    /// The value of a condition as a `bool`.
    pub(crate) fn condition_value(&mut self, expr: &Expr) -> Result<V> {
        let condition = self.condition(expr)?;
        Ok(self.condition_as_value(condition, expr.range))
    }

    /// A condition's value: the truth as a constant, or the SSA value.
    pub(crate) fn condition_as_value(&mut self, condition: Condition, range: TextRange) -> V {
        match condition.value {
            Ok(value) => value,
            Err(truth) => self.constant(IValue::Bool(truth), Type::Bool, range),
        }
    }

    /// From now on the name has this narrower type: it is assigned anew, so that what follows an `if` sees both sides' value.
    pub(crate) fn refine(&mut self, name: &Arc<str>, ty: Type, range: TextRange) {
        let Some(Binding::Value { value, .. }) = self.scope.get(name) else { return };
        let value = value.clone();
        let value = self.prim("prim::unchecked_cast", &[&value], ty, range);
        self.name_value(&value, name);
        self.scope.set(Arc::clone(name), Some(Binding::Value { value }));
    }
}
