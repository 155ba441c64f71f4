//! The operators of the language: which builtin, or which magic method of a class, each one is.

use super::function::Emitter;
use super::mismatch::repr;
use super::ssa::V;
use super::sugar::Sugared;
use crate::diag::Result;
use crate::syntax::ast::{BinaryOp, Expr, ExprKind, TextRange, UnaryOp};
use crate::types::{IValue, Type};

impl Emitter<'_, '_> {
    /// `op operand`.
    pub(crate) fn unary(&mut self, op: UnaryOp, operand: &Expr, range: TextRange) -> Result<V> {
        if let (UnaryOp::Neg, ExprKind::Name(name)) = (op, &operand.kind)
            && &**name == "inf"
            && self.scope.get("inf").is_none()
        {
            return Ok(self.constant(IValue::Float(f64::NEG_INFINITY), Type::Float, range));
        }
        if op == UnaryOp::Not {
            let value = self.condition_value(operand)?;
            return self.builtin_value("aten::__not__", vec![value], range);
        }
        let value = self.expr(operand)?;
        match (op, self.known(&value)) {
            (UnaryOp::Neg, Some(IValue::Int(x))) => return Ok(self.int(x.wrapping_neg(), range)),
            (UnaryOp::Neg, Some(IValue::Float(x))) => return Ok(self.constant(IValue::Float(-x), Type::Float, range)),
            (UnaryOp::Neg, Some(IValue::Complex(re, im))) => {
                return Ok(self.constant(IValue::Complex(-re, -im), Type::Complex, range));
            }
            _ => {}
        }
        match op {
            UnaryOp::Neg => self.operator("__neg__", "aten::neg", vec![value], range),
            UnaryOp::Invert => self.operator("__invert__", "aten::bitwise_not", vec![value], range),
            UnaryOp::Pos => Err(self.error(range, "unsupported unary operator: +")),
            UnaryOp::Not => unreachable!("handled above"),
        }
    }

    /// `lhs op rhs`, except `and`, `or`.
    pub(crate) fn binary(&mut self, op: BinaryOp, lhs: V, rhs: V, range: TextRange) -> Result<V> {
        if let (BinaryOp::Add | BinaryOp::Sub, Some(re), Some(IValue::Complex(zero, im))) =
            (op, self.known(&lhs), self.known(&rhs))
            && zero == 0.0
        {
            let im = if op == BinaryOp::Sub { -im } else { im };
            let re = match re {
                IValue::Float(x) => Some(x),
                IValue::Int(x) => Some(x as f64),
                _ => None,
            };
            if let Some(re) = re {
                return Ok(self.folded(IValue::Complex(re, im), Type::Complex, range));
            }
        }
        if let (BinaryOp::Add, Type::Tuple(a), Type::Tuple(b), true) = (op, &lhs.ty, &rhs.ty, self.is_text()) {
            let (n, m) = (a.len(), b.len());
            let mut items = self.unpack(Sugared::Value(lhs), n, false, range)?;
            items.extend(self.unpack(Sugared::Value(rhs), m, false, range)?);
            return Ok(self.tuple(items, range));
        }
        let (magic, name) = match op {
            BinaryOp::Add => ("__add__", "aten::add"),
            BinaryOp::Sub => ("__sub__", "aten::sub"),
            BinaryOp::Mul => ("__mul__", "aten::mul"),
            BinaryOp::Div => ("__truediv__", "aten::div"),
            BinaryOp::FloorDiv if matches!(lhs.ty, Type::Tensor(_)) => ("__floordiv__", "aten::floor_divide"),
            BinaryOp::FloorDiv => ("__floordiv__", "aten::floordiv"),
            BinaryOp::Mod if lhs.ty == Type::Str => ("", "aten::percentFormat"),
            BinaryOp::Mod => ("__mod__", "aten::remainder"),
            BinaryOp::Pow => ("__pow__", "aten::pow"),
            BinaryOp::MatMul => ("__matmul__", "aten::matmul"),
            BinaryOp::BitAnd => ("__and__", "aten::__and__"),
            BinaryOp::BitOr => ("__or__", "aten::__or__"),
            BinaryOp::BitXor => ("__xor__", "aten::__xor__"),
            BinaryOp::ShiftLeft => ("__lshift__", "aten::__lshift__"),
            BinaryOp::ShiftRight => ("__rshift__", "aten::__rshift__"),
            BinaryOp::Eq => ("__eq__", "aten::eq"),
            BinaryOp::Ne => ("__ne__", "aten::ne"),
            BinaryOp::Lt => ("__lt__", "aten::lt"),
            BinaryOp::Le => ("__le__", "aten::le"),
            BinaryOp::Gt => ("__gt__", "aten::gt"),
            BinaryOp::Ge => ("__ge__", "aten::ge"),
            BinaryOp::In => return self.contains(rhs, lhs, range),
            BinaryOp::NotIn => {
                let is_in = self.contains(rhs, lhs, range)?;
                return self.builtin_value("aten::__not__", vec![is_in], range);
            }
            // Truth values are compared, as they have no identity.
            BinaryOp::Is if lhs.ty == Type::Bool && rhs.ty == Type::Bool => ("", "aten::eq"),
            BinaryOp::IsNot if lhs.ty == Type::Bool && rhs.ty == Type::Bool => ("", "aten::ne"),
            BinaryOp::Is => ("", "aten::__is__"),
            BinaryOp::IsNot => ("", "aten::__isnot__"),
            BinaryOp::And | BinaryOp::Or => return Err(self.error(range, "and/or is a condition")),
        };
        self.operator(magic, name, vec![lhs, rhs], range)
    }

    fn contains(&mut self, container: V, item: V, range: TextRange) -> Result<V> {
        if container.ty == Type::Str && item.ty == Type::Str {
            let zero = self.int(0, range);
            let len = self.builtin_value("aten::len", vec![container.clone()], range)?;
            let at = self.builtin_value("aten::find", vec![container, item, zero, len], range)?;
            let missing = self.int(-1, range);
            return self.builtin_value("aten::ne", vec![at, missing], range);
        }
        let args = vec![container, item];
        match self.container_question("__contains__", &args, range)? {
            Some(value) => Ok(value),
            None => self.operator("__contains__", "aten::__contains__", args, range),
        }
    }

    /// `lhs op= rhs` for a tensor.
    pub(crate) fn in_place(&mut self, op: BinaryOp, lhs: V, rhs: V, range: TextRange) -> Result<V> {
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

    /// An operator with a magic method for classes.
    fn operator(&mut self, magic: &str, op: &str, mut values: Vec<V>, range: TextRange) -> Result<V> {
        if let Type::Class(class) = &values[0].ty
            && (self.program.classes.get(class).is_some_and(|c| c.methods.contains_key(magic))
                || self.is_text() && !magic.is_empty())
        {
            let object = values.remove(0);
            let made = self.call_method(&object, &magic.into(), values, Vec::new(), range)?;
            return self.value_of(made, range);
        }
        self.builtin_value(op, values, range)
    }

    /// The value as a `bool`.
    pub(crate) fn truth(&mut self, value: V, range: TextRange) -> Result<V> {
        match &value.ty {
            Type::Bool => Ok(value),
            Type::Int | Type::Float | Type::Tensor(_) => self.builtin_value("aten::Bool", vec![value], range),
            Type::Str | Type::List(_) | Type::Dict(..) => {
                let len = self.builtin_value("aten::len", vec![value], range)?;
                let zero = self.int(0, range);
                self.builtin_value("aten::gt", vec![len, zero], range)
            }
            Type::Class(class)
                if self.program.classes.get(class).is_some_and(|c| c.methods.contains_key("__bool__")) =>
            {
                self.operator("__bool__", "aten::Bool", vec![value], range)
            }
            ty => Err(self.error(range, format!("Could not cast value of type {} to bool", repr(ty)))),
        }
    }
}
