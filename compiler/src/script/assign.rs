//! Assignments: names, tuples of targets, attributes and subscripts; plain, annotated and augmented.

use super::function::Emitter;
use super::mismatch;
use super::ssa::{Binding, V};
use super::sugar::{Sugared, kind_of};
use crate::diag::Result;
use crate::ir::ValueDef;
use crate::syntax::Dialect;
use crate::syntax::ast::{BinaryOp, Expr, ExprKind, TextRange};
use crate::types::Type;
use std::sync::Arc;

const LONE_STAR: &str =
    "A Starred expression may only appear on the lhs within the presence of another non-starred expression";

impl Emitter<'_, '_> {
    /// `target = ... = value`.
    pub(crate) fn assign_stmt(&mut self, targets: &[Expr], value: &Expr) -> Result<()> {
        let hint = match targets {
            [Expr { kind: ExprKind::Attribute { .. }, .. }] => self.attribute_type(&targets[0])?,
            _ => None,
        };
        let made = self.expr_sugar(value, hint.as_ref())?;
        for target in targets {
            if matches!(target.kind, ExprKind::Tuple(_) | ExprKind::List(_)) {
                self.check_unpacked(&made, value.range)?;
            }
            match (&target.kind, &value.kind) {
                // What one variable holds does not take the name of the next.
                (ExprKind::Name(name), ExprKind::Name(_)) => self.bind_name(name, made.clone(), target.range, false)?,
                _ => self.assign(target, made.clone())?,
            }
        }
        Ok(())
    }

    /// Refuses to unpack what has no items that a text may name; printed code unpacks tensors.
    fn check_unpacked(&self, value: &Sugared, range: TextRange) -> Result<()> {
        let value = match value {
            Sugared::Value(value) => value,
            Sugared::Multi(..) | Sugared::Row(_) => return Ok(()),
            other => return Err(self.error(range, format!("{} cannot be used as a tuple", kind_of(other)))),
        };
        match &value.ty {
            Type::AnyTuple => Err(self.error(
                range,
                "Provided tuple is not fully defined/refined including its element types, please provide a value of type like Tuple[int, int]",
            )),
            Type::Tensor(_) if !self.is_text() => Ok(()),
            Type::Tensor(_) | Type::Int | Type::Float | Type::Complex | Type::Number | Type::Bool | Type::Optional(_) => {
                Err(self.error(range, format!("{} cannot be used as a tuple", value.ty.annotation())))
            }
            _ => Ok(()),
        }
    }

    /// `target op= value`.
    pub(crate) fn aug_assign(&mut self, target: &Expr, op: BinaryOp, value: &Expr, range: TextRange) -> Result<()> {
        let kind = match op {
            BinaryOp::FloorDiv => "FloorDiv",
            BinaryOp::MatMul => "MatMult",
            _ => "",
        };
        if !kind.is_empty() && self.is_text() && self.file.dialect == Dialect::Python {
            // The last character of the operator is blamed, and the one before it.
            let written = self.file.text(TextRange { start: target.range.end, end: value.range.start });
            let equals = written.rfind('=').unwrap_or(0) as u32 + target.range.end;
            let place = TextRange { start: equals.saturating_sub(1), end: equals + 1 };
            return Err(self.error(place, format!("unsupported kind of augmented assignment: {kind}")));
        }
        let current = match &target.kind {
            ExprKind::Subscript { value: object, items } => {
                let object = self.expr(object)?;
                if let Type::Tensor(_) = object.ty {
                    let view = self.subscript_value(object, items, range)?;
                    let rhs = self.expr(value)?;
                    self.in_place(op, view, rhs, range)?;
                    return Ok(());
                }
                if matches!(object.ty, Type::Tuple(_) | Type::NamedTuple(_)) {
                    let ty = object.ty.annotation();
                    return Err(self.error(target.range, format!("{ty} does not support augmented assignment.")));
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

    /// Makes the target mean the value.
    pub(crate) fn assign(&mut self, target: &Expr, value: Sugared) -> Result<()> {
        let range = target.range;
        match &target.kind {
            ExprKind::Name(name) => self.bind_name(name, value, range, true),
            ExprKind::Tuple(targets) | ExprKind::List(targets) => {
                if let [Expr { kind: ExprKind::Starred(_), range }] = targets.as_slice() {
                    return Err(self.error(*range, LONE_STAR));
                }
                let star = targets.iter().position(|t| matches!(t.kind, ExprKind::Starred(_)));
                if let Sugared::Row(items) = &value
                    && star.is_none()
                    && items.len() == targets.len()
                {
                    return targets.iter().zip(items).try_for_each(|(target, item)| self.assign(target, item.clone()));
                }
                let items = self.unpack(value, targets.len(), star.is_some(), range)?;
                let n_rest = (items.len() + 1).saturating_sub(targets.len());
                let mut items = items.into_iter();
                for target in targets {
                    if let ExprKind::Starred(inner) = &target.kind {
                        let rest: Vec<V> = items.by_ref().take(n_rest).collect();
                        let tuple = self.tuple(rest, range);
                        self.assign(inner, Sugared::Value(tuple))?;
                    } else {
                        let item = items.next().expect("unpack gives an item for each target");
                        self.assign(target, Sugared::Value(item))?;
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
            ExprKind::Starred(_) => Err(self.error(range, LONE_STAR)),
            _ => Err(self.error(range, "unexpected expression on left-hand side of assignment")),
        }
    }

    /// Makes a name mean the value, which is called so if it `is_new` and made in this block.
    fn bind_name(&mut self, name: &Arc<str>, value: Sugared, range: TextRange, is_new: bool) -> Result<()> {
        let value = match value {
            Sugared::Value(value) => value,
            several @ (Sugared::Multi(..) | Sugared::Row(_)) => self.value_of(several, range)?,
            other => {
                self.scope.set(Arc::clone(name), Some(Binding::Sugar(other)));
                return Ok(());
            }
        };
        if let Some(Binding::Value { value: outer, .. }) = self.scope.outer(name)
            && !self.is_subtype(&value.ty, &Self::stored_type(&outer.ty))
        {
            return Err(self.error(range, mismatch::reassigned(name, &outer.ty, &value.ty)));
        }
        if is_new && self.is_made_here(&value) {
            self.name_value(&value, name);
        }
        self.scope.set(Arc::clone(name), Some(Binding::Value { value }));
        Ok(())
    }

    /// Whether the present block defines the value. A constant may stand anywhere.
    fn is_made_here(&self, value: &V) -> bool {
        match self.graph.values[value.id].def {
            ValueDef::Param(block, _) => block == self.block,
            ValueDef::Output(node, _) => {
                self.graph.nodes[node].is("prim::Constant")
                    || self.graph.blocks[self.block].nodes.iter().rev().any(|&other| other == node)
            }
        }
    }

    /// Gives the SSA value the name it is assigned to, unless it has one.
    pub(crate) fn name_value(&mut self, value: &V, name: &Arc<str>) {
        self.empty_literals.remove(&value.id);
        let slot = &mut self.graph.values[value.id].name;
        if slot.is_none() && is_meaningful(name) && !self.nameless.contains(&value.id) {
            *slot = Some(Arc::clone(name));
        }
    }
}

/// Whether a variable's name tells a reader something: not a temporary of printed code (`_12`), not one of this compiler's.
pub(crate) fn is_meaningful(name: &str) -> bool {
    let is_temporary = name.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && !name.starts_with('$') && !is_temporary
}
