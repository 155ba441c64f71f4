//! Element types of tensors, with PyTorch's integer codes and names.

use std::cmp::Ordering;
use std::fmt;

/// The element type of a tensor. Codes and names are those of PyTorch's `ScalarType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are PyTorch's own names")]
pub enum DType {
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    F32,
    F64,
    C32,
    C64,
    C128,
    Bool,
    QI8,
    QU8,
    QI32,
    BF16,
    F8E5M2,
    F8E4M3,
    U16,
    U32,
    U64,
}

/// Where an element type stands in type promotion: `Bool < Int < Float < Complex`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Category {
    Bool,
    Int,
    Float,
    Complex,
}

impl DType {
    /// Every element type, in the order of their codes.
    pub const ALL: [Self; 21] = [
        Self::U8,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::C32,
        Self::C64,
        Self::C128,
        Self::Bool,
        Self::QI8,
        Self::QU8,
        Self::QI32,
        Self::BF16,
        Self::F8E5M2,
        Self::F8E4M3,
        Self::U16,
        Self::U32,
        Self::U64,
    ];

    /// PyTorch's code: (code, graph name, Python name, storage class prefix).
    const fn row(self) -> (i64, &'static str, &'static str, usize) {
        match self {
            Self::U8 => (0, "Byte", "uint8", 1),
            Self::I8 => (1, "Char", "int8", 1),
            Self::I16 => (2, "Short", "int16", 2),
            Self::I32 => (3, "Int", "int32", 4),
            Self::I64 => (4, "Long", "int64", 8),
            Self::F16 => (5, "Half", "float16", 2),
            Self::F32 => (6, "Float", "float32", 4),
            Self::F64 => (7, "Double", "float64", 8),
            Self::C32 => (8, "ComplexHalf", "complex32", 4),
            Self::C64 => (9, "ComplexFloat", "complex64", 8),
            Self::C128 => (10, "ComplexDouble", "complex128", 16),
            Self::Bool => (11, "Bool", "bool", 1),
            Self::QI8 => (12, "QInt8", "qint8", 1),
            Self::QU8 => (13, "QUInt8", "quint8", 1),
            Self::QI32 => (14, "QInt32", "qint32", 4),
            Self::BF16 => (15, "BFloat16", "bfloat16", 2),
            Self::F8E5M2 => (23, "Float8_e5m2", "float8_e5m2", 1),
            Self::F8E4M3 => (24, "Float8_e4m3fn", "float8_e4m3fn", 1),
            Self::U16 => (27, "UInt16", "uint16", 2),
            Self::U32 => (28, "UInt32", "uint32", 4),
            Self::U64 => (29, "UInt64", "uint64", 8),
        }
    }

    /// The integer that stands for this type in TorchScript (`dtype=6` is `float32`).
    pub const fn code(self) -> i64 {
        self.row().0
    }

    /// The type with this TorchScript code.
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.code() == code)
    }

    /// The name in graph text (`Float`), which is also the storage class's prefix (`FloatStorage`).
    pub const fn graph_name(self) -> &'static str {
        self.row().1
    }

    /// The type with this graph name.
    pub fn from_graph_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.graph_name() == name)
    }

    /// The name in Python, without `torch.` (`float32`).
    pub const fn python_name(self) -> &'static str {
        self.row().2
    }

    /// The type with this Python name (without `torch.`).
    pub fn from_python_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.python_name() == name)
    }

    /// Size of one element in bytes.
    pub const fn size_bytes(self) -> usize {
        self.row().3
    }

    /// The promotion category. Quantised types count as integers.
    pub const fn category(self) -> Category {
        match self {
            Self::Bool => Category::Bool,
            Self::U8
            | Self::I8
            | Self::I16
            | Self::I32
            | Self::I64
            | Self::QI8
            | Self::QU8
            | Self::QI32
            | Self::U16
            | Self::U32
            | Self::U64 => Category::Int,
            Self::F16 | Self::F32 | Self::F64 | Self::BF16 | Self::F8E5M2 | Self::F8E4M3 => Category::Float,
            Self::C32 | Self::C64 | Self::C128 => Category::Complex,
        }
    }

    /// Whether this is a quantised type: integers that stand for real numbers.
    pub const fn is_quantised(self) -> bool {
        matches!(self, Self::QI8 | Self::QU8 | Self::QI32)
    }

    /// The type that elements have in memory: the integer type of a quantised one.
    #[must_use]
    pub const fn stored(self) -> Self {
        match self {
            Self::QI8 => Self::I8,
            Self::QU8 => Self::U8,
            Self::QI32 => Self::I32,
            other => other,
        }
    }

    /// Whether this is a real floating-point type.
    pub const fn is_floating_point(self) -> bool {
        matches!(self.category(), Category::Float)
    }

    /// Whether this is a complex type.
    pub const fn is_complex(self) -> bool {
        matches!(self.category(), Category::Complex)
    }

    /// Whether this is an integer type; `Bool` is not.
    pub const fn is_integer(self) -> bool {
        matches!(self.category(), Category::Int)
    }

    /// Whether values are signed.
    pub const fn is_signed(self) -> bool {
        !matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::Bool | Self::QU8)
    }

    /// The type two dimensioned tensors of these types compute in.
    #[must_use]
    pub fn promote(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        let (lo, hi) = if self.category() <= other.category() { (self, other) } else { (other, self) };
        match (lo.category(), hi.category()) {
            (a, b) if a != b && b != Category::Complex => hi,
            (Category::Complex, _) | (_, Category::Complex) => promote_complex(lo, hi),
            (Category::Float, _) => promote_float(lo, hi),
            _ => promote_int(lo, hi),
        }
    }
}

fn promote_complex(lo: DType, hi: DType) -> DType {
    let wide = |d: DType| matches!(d, DType::F64 | DType::C128);
    let half = |d: DType| matches!(d, DType::C32);
    if wide(lo) || wide(hi) {
        DType::C128
    } else if half(hi) && (half(lo) || lo == DType::F16 || lo.is_integer() || lo == DType::Bool) {
        DType::C32
    } else {
        DType::C64
    }
}

fn promote_float(a: DType, b: DType) -> DType {
    match a.size_bytes().cmp(&b.size_bytes()) {
        Ordering::Equal => DType::F32,
        Ordering::Greater => a,
        Ordering::Less => b,
    }
}

fn promote_int(a: DType, b: DType) -> DType {
    if a.is_signed() == b.is_signed() {
        return if a.size_bytes() >= b.size_bytes() { a } else { b };
    }
    let (signed, unsigned) = if a.is_signed() { (a, b) } else { (b, a) };
    if signed.size_bytes() > unsigned.size_bytes() {
        return signed;
    }
    match unsigned.size_bytes() {
        1 => DType::I16,
        2 => DType::I32,
        _ => DType::I64,
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.graph_name())
    }
}
