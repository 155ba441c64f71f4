//! Text of operations, as kernels, nests and host statements share it: no more parentheses than needed.

use super::super::{BinaryOp, Const, ReduceOp, UnaryOp};
use crate::types::DType;

/// The text of an expression and how tightly its outermost operation binds.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) level: u8,
}

/// Levels of binding besides those of the binary operators, which lie between.
const SELECT: u8 = 0;
const UNARY: u8 = 8;
const ATOM: u8 = 9;

impl Piece {
    /// A name, a number, a call: nothing binds more tightly.
    pub(super) fn atom(text: impl Into<String>) -> Self {
        Self { text: text.into(), level: ATOM }
    }

    /// The text where operations of this level and above may stand.
    fn at(&self, level: u8) -> String {
        if self.level < level { format!("({})", self.text) } else { self.text.clone() }
    }
}

/// A constant; its type is written unless the place says it (`expected`) or it is that of the literal.
pub(super) fn constant(c: Const, expected: Option<DType>) -> String {
    let natural = matches!(c.dtype, DType::I64 | DType::F64 | DType::Bool);
    let bare = match c.dtype {
        DType::Bool if c.bits <= 1 => return (c.bits == 1).to_string(),
        dtype if dtype.is_floating_point() => float(c.as_f64()),
        _ => c.as_i64().to_string(),
    };
    if expected.map_or(natural, |expected| expected == c.dtype) { bare } else { format!("{bare}:{}", c.dtype) }
}

/// The shortest text that reads back to the same bits.
pub(super) fn float(value: f64) -> String {
    match value.to_bits() {
        bits if !value.is_nan() || bits == f64::NAN.to_bits() => format!("{value:?}").to_lowercase(),
        bits => format!("nan({bits:#x})"),
    }
}

/// `op a`; negation of a constant is written as a call, as `-1` is a constant itself.
pub(super) fn unary(op: UnaryOp, a: &Piece, is_constant: bool) -> Piece {
    let symbol = match op {
        UnaryOp::Neg if !is_constant => "-",
        UnaryOp::Not if !is_constant => "!",
        op => return Piece::atom(format!("{}({})", op.word(), a.text)),
    };
    Piece { text: format!("{symbol}{}", a.at(UNARY)), level: UNARY }
}

/// `a op b`
pub(super) fn binary(op: BinaryOp, a: &Piece, b: &Piece) -> Piece {
    let Some((symbol, level)) = op.symbol() else {
        return Piece::atom(format!("{}({}, {})", op.word(), a.text, b.text));
    };
    let left = level + u8::from(op.is_comparison());
    Piece { text: format!("{} {symbol} {}", a.at(left), b.at(level + 1)), level }
}

/// `cond ? a : b`
pub(super) fn select(cond: &Piece, a: &Piece, b: &Piece) -> Piece {
    let inner = SELECT + 1;
    Piece { text: format!("{} ? {} : {}", cond.at(inner), a.at(inner), b.at(inner)), level: SELECT }
}

impl UnaryOp {
    /// The name in text.
    pub(in crate::loops) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl ReduceOp {
    /// The name in text.
    pub(in crate::loops) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl BinaryOp {
    /// The name in text, where it has no symbol.
    pub(in crate::loops) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The symbol, and how tightly it binds; all associate to the left, and comparisons not at all.
    pub(in crate::loops) fn symbol(self) -> Option<(&'static str, u8)> {
        Some(match self {
            Self::Eq => ("==", 1),
            Self::Ne => ("!=", 1),
            Self::Lt => ("<", 1),
            Self::Le => ("<=", 1),
            Self::Gt => (">", 1),
            Self::Ge => (">=", 1),
            Self::Or => ("|", 2),
            Self::Xor => ("^", 3),
            Self::And => ("&", 4),
            Self::Shl => ("<<", 5),
            Self::Shr => (">>", 5),
            Self::Add => ("+", 6),
            Self::Sub => ("-", 6),
            Self::Mul => ("*", 7),
            Self::Div => ("/", 7),
            Self::FloorDiv => ("//", 7),
            Self::FloorMod => ("%", 7),
            Self::Rem | Self::Pow | Self::Atan2 | Self::Min | Self::Max | Self::Copysign => return None,
        })
    }
}
