//! Scalar expressions: what one element of a kernel computes. The same operations serve host scalars and vector registers.

use super::{BufferId, VarId};
use crate::index::{Id as _, IndexVec, ids};
use crate::types::DType;
use std::collections::HashMap;

ids! {
    /// An expression of a kernel.
    ExprId = "e";
}

/// A typed constant, as bits: integers and booleans sign-extended to 64 bits, floats as the bits of an `f64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Const {
    /// Its type.
    pub dtype: DType,
    /// `i64 as u64` for integers and booleans, `f64::to_bits` for every floating type.
    pub bits: u64,
}

impl Const {
    /// An `int64`.
    pub fn int(value: i64) -> Self {
        Self { dtype: DType::I64, bits: value.cast_unsigned() }
    }

    /// A boolean.
    pub fn bool(value: bool) -> Self {
        Self { dtype: DType::Bool, bits: u64::from(value) }
    }

    /// A floating constant of this type; the value is rounded to it when used.
    pub fn float(dtype: DType, value: f64) -> Self {
        Self { dtype, bits: value.to_bits() }
    }

    /// A number of any type from an `f64`; truncated for integers.
    pub fn from_f64(dtype: DType, value: f64) -> Self {
        if dtype.is_floating_point() {
            return Self::float(dtype, value);
        }
        #[allow(clippy::cast_possible_truncation, reason = "truncation towards zero is the conversion's rule")]
        let int = if dtype == DType::Bool { i64::from(value != 0.0) } else { value as i64 };
        Self { dtype, bits: int.cast_unsigned() }
    }

    /// A number of any type from an `i64`.
    pub fn from_i64(dtype: DType, value: i64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "rounding is the conversion's rule")]
        if dtype.is_floating_point() {
            return Self::float(dtype, value as f64);
        }
        let value = if dtype == DType::Bool { i64::from(value != 0) } else { value };
        Self { dtype, bits: value.cast_unsigned() }
    }

    /// The value as an integer; floats are truncated.
    pub fn as_i64(self) -> i64 {
        #[allow(clippy::cast_possible_truncation, reason = "truncation towards zero is the conversion's rule")]
        if self.dtype.is_floating_point() { f64::from_bits(self.bits) as i64 } else { self.bits.cast_signed() }
    }

    /// The value of a floating constant, rounded to its type; `None` for types that the host does not have.
    fn rounded(self) -> Option<f64> {
        #[allow(clippy::cast_possible_truncation, reason = "rounding to the element type is the point")]
        match self.dtype {
            DType::F64 => Some(self.as_f64()),
            DType::F32 => Some(f64::from(self.as_f64() as f32)),
            _ => None,
        }
    }

    /// The value as a float.
    pub fn as_f64(self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "rounding is the conversion's rule")]
        if self.dtype.is_floating_point() { f64::from_bits(self.bits) } else { self.bits.cast_signed() as f64 }
    }
}

/// An operation on one value. Those from `Sqrt` on take and give floats.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names of mathematics")]
pub enum UnaryOp {
    Neg,
    Abs,
    /// Logical for booleans, bitwise for integers.
    Not,
    /// Whether a float is NaN; gives a boolean.
    IsNan,
    Sqrt,
    Rsqrt,
    Exp,
    Exp2,
    Expm1,
    Log,
    Log2,
    Log10,
    Log1p,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Erfc,
    Erfinv,
    Lgamma,
    Digamma,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    Trunc,
}

/// An operation on two values of one type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the names of mathematics")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// True division of floats; truncating division of integers (the divisor is known not to be 0).
    Div,
    /// Remainder with the sign of the dividend (C `%` and `fmod`).
    Rem,
    /// Division of integers rounding down (the divisor is known not to be 0).
    FloorDiv,
    /// Remainder of integers with the sign of the divisor (which is known not to be 0).
    FloorMod,
    Pow,
    Atan2,
    /// NaN if either is.
    Min,
    /// NaN if either is.
    Max,
    /// Logical for booleans, bitwise for integers.
    And,
    Or,
    Xor,
    Shl,
    /// Arithmetic for signed types.
    Shr,
    Copysign,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl UnaryOp {
    /// Every operation.
    pub(super) const ALL: [Self; 34] = [
        Self::Neg,
        Self::Abs,
        Self::Not,
        Self::IsNan,
        Self::Sqrt,
        Self::Rsqrt,
        Self::Exp,
        Self::Exp2,
        Self::Expm1,
        Self::Log,
        Self::Log2,
        Self::Log10,
        Self::Log1p,
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Tanh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::Erf,
        Self::Erfc,
        Self::Erfinv,
        Self::Lgamma,
        Self::Digamma,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::Trunc,
    ];
}

impl BinaryOp {
    /// Every operation.
    pub(super) const ALL: [Self; 23] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Rem,
        Self::FloorDiv,
        Self::FloorMod,
        Self::Pow,
        Self::Atan2,
        Self::Min,
        Self::Max,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Shl,
        Self::Shr,
        Self::Copysign,
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
    ];

    /// Whether the result is a boolean whatever the operands.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }
}

/// A condition on a load: where it does not hold, memory is not touched and the value is `other`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Guard {
    /// A boolean expression.
    pub cond: ExprId,
    /// The value where `cond` is false; of the buffer's type.
    pub other: ExprId,
}

/// One expression; operands come earlier in the same [`Exprs`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Expr {
    /// A constant.
    Const(Const),
    /// The current index along an axis of the kernel, an `int64`.
    Axis(usize),
    /// A host scalar, read when the kernel starts.
    Var(VarId, DType),
    /// An element of a buffer, one `int64` index a dimension, all in bounds where the guard holds.
    Load {
        /// What is read.
        buffer: BufferId,
        /// The buffer's element type.
        dtype: DType,
        /// One index for each dimension of the buffer.
        index: Box<[ExprId]>,
        /// Condition under which the element exists.
        guard: Option<Guard>,
    },
    /// An operation on one value.
    Unary(UnaryOp, ExprId),
    /// An operation on two values of one type.
    Binary(BinaryOp, ExprId, ExprId),
    /// `cond ? a : b`; both sides are computed.
    Select(ExprId, ExprId, ExprId),
    /// Conversion: floats to integers truncate, to boolean test against zero, integers wrap.
    Cast(DType, ExprId),
    /// The result of the kernel's reduction with this number; only in stores.
    Acc(usize, DType),
}

/// The expressions of one kernel, each once: building the same expression again gives the same id.
#[derive(Clone, Debug, Default)]
pub struct Exprs {
    nodes: IndexVec<ExprId, (Expr, DType)>,
    known: HashMap<Expr, ExprId>,
}

/// What [`Exprs::import`] does with a leaf or load: the replacement, or `None` to keep it.
pub type Substitution<'a> = dyn FnMut(&mut Exprs, &Expr) -> Option<ExprId> + 'a;

impl Exprs {
    /// No expressions.
    pub fn new() -> Self {
        Self::default()
    }

    /// The expression with this id.
    pub fn get(&self, id: ExprId) -> &Expr {
        &self.nodes[id].0
    }

    /// The type of its value.
    pub fn dtype(&self, id: ExprId) -> DType {
        self.nodes[id].1
    }

    /// Ids in order: operands before users.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ExprId> + use<> {
        (0..self.nodes.len()).map(ExprId::new)
    }

    /// Number of expressions.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The id of this expression; integer arithmetic on constants is folded and neutral elements dropped, so that index
    /// expressions stay small.
    pub fn add(&mut self, expr: Expr) -> ExprId {
        if let Some(simple) = self.simplify(&expr) {
            return simple;
        }
        if let Some(&id) = self.known.get(&expr) {
            return id;
        }
        let dtype = match &expr {
            Expr::Const(c) => c.dtype,
            Expr::Axis(_) => DType::I64,
            Expr::Var(_, dtype) | Expr::Load { dtype, .. } | Expr::Cast(dtype, _) | Expr::Acc(_, dtype) => *dtype,
            Expr::Unary(UnaryOp::IsNan, _) => DType::Bool,
            Expr::Unary(_, a) => self.dtype(*a),
            Expr::Binary(op, ..) if op.is_comparison() => DType::Bool,
            Expr::Binary(_, a, b) | Expr::Select(_, a, b) => {
                debug_assert_eq!(self.dtype(*a), self.dtype(*b), "operands have one type: {expr:?}");
                self.dtype(*a)
            }
        };
        let id = self.nodes.push((expr.clone(), dtype));
        self.known.insert(expr, id);
        id
    }

    /// The constant an expression is, if it is one.
    pub fn constant(&self, id: ExprId) -> Option<Const> {
        if let Expr::Const(c) = self.get(id) { Some(*c) } else { None }
    }

    /// An `int64` constant.
    pub fn int(&mut self, value: i64) -> ExprId {
        self.add(Expr::Const(Const::int(value)))
    }

    /// `a op b`.
    pub fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
        self.add(Expr::Binary(op, a, b))
    }

    /// `op a`.
    pub fn unary(&mut self, op: UnaryOp, a: ExprId) -> ExprId {
        self.add(Expr::Unary(op, a))
    }

    /// `a` as this type; itself where it has it.
    pub fn cast(&mut self, dtype: DType, a: ExprId) -> ExprId {
        self.add(Expr::Cast(dtype, a))
    }

    /// The operands of an expression, in order, guard last.
    pub fn operands(expr: &Expr) -> Vec<ExprId> {
        match expr {
            Expr::Const(_) | Expr::Axis(_) | Expr::Var(..) | Expr::Acc(..) => Vec::new(),
            Expr::Load { index, guard, .. } => {
                let guard = guard.iter().flat_map(|g| [g.cond, g.other]);
                index.iter().copied().chain(guard).collect()
            }
            Expr::Unary(_, a) | Expr::Cast(_, a) => vec![*a],
            Expr::Binary(_, a, b) => vec![*a, *b],
            Expr::Select(c, a, b) => vec![*c, *a, *b],
        }
    }

    /// Copies `id` of `from` into `self`. `leaf` sees each leaf or load once its operands are copied (so a load comes with
    /// the copied index and guard). `memo` keeps what was copied before.
    pub fn import(
        &mut self,
        from: &Self,
        id: ExprId,
        memo: &mut HashMap<ExprId, ExprId>,
        leaf: &mut Substitution<'_>,
    ) -> ExprId {
        if let Some(&done) = memo.get(&id) {
            return done;
        }
        let mut expr = from.get(id).clone();
        let mut is_leaf = false;
        match &mut expr {
            Expr::Const(_) | Expr::Axis(_) | Expr::Var(..) | Expr::Acc(..) => is_leaf = true,
            Expr::Load { index, guard, .. } => {
                is_leaf = true;
                for i in &mut **index {
                    *i = self.import(from, *i, memo, leaf);
                }
                if let Some(g) = guard {
                    g.cond = self.import(from, g.cond, memo, leaf);
                    g.other = self.import(from, g.other, memo, leaf);
                }
            }
            Expr::Unary(_, a) | Expr::Cast(_, a) => *a = self.import(from, *a, memo, leaf),
            Expr::Binary(_, a, b) => {
                *a = self.import(from, *a, memo, leaf);
                *b = self.import(from, *b, memo, leaf);
            }
            Expr::Select(c, a, b) => {
                *c = self.import(from, *c, memo, leaf);
                *a = self.import(from, *a, memo, leaf);
                *b = self.import(from, *b, memo, leaf);
            }
        }
        let new = if is_leaf { leaf(self, &expr) } else { None };
        let new = new.unwrap_or_else(|| self.add(expr));
        memo.insert(id, new);
        new
    }

    fn simplify(&mut self, expr: &Expr) -> Option<ExprId> {
        match *expr {
            Expr::Cast(dtype, a) if self.dtype(a) == dtype => Some(a),
            Expr::Cast(dtype, a) => {
                let c = self.constant(a)?;
                let wraps = dtype.is_integer() && dtype != DType::I64;
                if wraps || c.dtype.is_floating_point() && !dtype.is_floating_point() || dtype.is_complex() {
                    return None;
                }
                let folded = if c.dtype.is_floating_point() {
                    Const::float(dtype, c.rounded()?)
                } else {
                    Const::from_i64(dtype, c.as_i64())
                };
                Some(self.add(Expr::Const(folded)))
            }
            Expr::Select(_, a, b) if a == b => Some(a),
            Expr::Select(c, a, b) => self.constant(c).map(|c| if c.bits != 0 { a } else { b }),
            Expr::Load { guard: Some(g), ref index, buffer, dtype } => match self.constant(g.cond)?.bits {
                0 => Some(g.other),
                _ => Some(self.add(Expr::Load { guard: None, index: index.clone(), buffer, dtype })),
            },
            Expr::Binary(op, a, b) => self.simplify_binary(op, a, b),
            Expr::Const(_) | Expr::Axis(_) | Expr::Var(..) | Expr::Load { .. } | Expr::Unary(..) | Expr::Acc(..) => {
                None
            }
        }
    }

    /// Integer and boolean identities only: floats keep their exact operations.
    fn simplify_binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> Option<ExprId> {
        let (ca, cb) = (self.constant(a).map(Const::as_i64), self.constant(b).map(Const::as_i64));
        if self.dtype(a) == DType::Bool {
            return match (op, ca, cb) {
                (BinaryOp::And, Some(1), _) | (BinaryOp::Or, Some(0), _) => Some(b),
                (BinaryOp::And, _, Some(1)) | (BinaryOp::Or, _, Some(0)) => Some(a),
                (BinaryOp::And, Some(0), _) | (BinaryOp::Or, Some(1), _) => Some(a),
                (BinaryOp::And, _, Some(0)) | (BinaryOp::Or, _, Some(1)) => Some(b),
                _ => None,
            };
        }
        if self.dtype(a) != DType::I64 {
            return None;
        }
        if let (Some(x), Some(y)) = (ca, cb) {
            let folded = fold_i64(op, x, y)?;
            let constant = if op.is_comparison() { Const::bool(folded != 0) } else { Const::int(folded) };
            return Some(self.add(Expr::Const(constant)));
        }
        match (op, ca, cb) {
            (BinaryOp::Add, Some(0), _) | (BinaryOp::Mul, Some(1), _) => Some(b),
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0)) => Some(a),
            (BinaryOp::Mul | BinaryOp::FloorDiv | BinaryOp::Div, _, Some(1)) => Some(a),
            (BinaryOp::Mul, Some(0), _) => Some(a),
            (BinaryOp::Mul, _, Some(0)) => Some(b),
            (BinaryOp::FloorMod | BinaryOp::Rem, _, Some(1)) => Some(self.int(0)),
            // Constants move to the right and join, so that nested views give one offset.
            (BinaryOp::Add | BinaryOp::Mul, Some(_), None) => Some(self.binary(op, b, a)),
            (BinaryOp::Sub, None, Some(y)) => {
                let y = self.int(y.checked_neg()?);
                Some(self.binary(BinaryOp::Add, a, y))
            }
            (BinaryOp::Add | BinaryOp::Mul, None, Some(y)) => {
                let Expr::Binary(inner, p, q) = *self.get(a) else { return None };
                let x = self.constant(q).map(Const::as_i64).filter(|_| inner == op)?;
                let joined = self.int(fold_i64(op, x, y)?);
                Some(self.binary(op, p, joined))
            }
            _ => None,
        }
    }
}

/// `x op y` on 64-bit integers, with 1 and 0 for comparisons; `None` where it would overflow, trap or is not integral.
pub fn fold_i64(op: BinaryOp, x: i64, y: i64) -> Option<i64> {
    match op {
        BinaryOp::Add => x.checked_add(y),
        BinaryOp::Sub => x.checked_sub(y),
        BinaryOp::Mul => x.checked_mul(y),
        BinaryOp::Div => x.checked_div(y),
        BinaryOp::Rem => x.checked_rem(y),
        BinaryOp::FloorDiv => {
            let q = x.checked_div(y)?;
            Some(if x % y != 0 && (x < 0) != (y < 0) { q - 1 } else { q })
        }
        BinaryOp::FloorMod => {
            let r = x.checked_rem(y)?;
            Some(if r != 0 && (r < 0) != (y < 0) { r + y } else { r })
        }
        BinaryOp::Min => Some(x.min(y)),
        BinaryOp::Max => Some(x.max(y)),
        BinaryOp::And => Some(x & y),
        BinaryOp::Or => Some(x | y),
        BinaryOp::Xor => Some(x ^ y),
        BinaryOp::Eq => Some(i64::from(x == y)),
        BinaryOp::Ne => Some(i64::from(x != y)),
        BinaryOp::Lt => Some(i64::from(x < y)),
        BinaryOp::Le => Some(i64::from(x <= y)),
        BinaryOp::Gt => Some(i64::from(x > y)),
        BinaryOp::Ge => Some(i64::from(x >= y)),
        BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Copysign => None,
    }
}
