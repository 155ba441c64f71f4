//! Columns: the values of one expression at many points, and the scalar operations over them.
//!
//! A column has one value for each point of a block, or a single value that is the same at all of them; operations keep
//! single values single, which is how work that does not depend on the inner axes is done once. The rules are those of
//! compiled code: integers wrap, `f32` computes in `f32`, floats out of range convert to integers as x86 converts them.

use super::math;
use crate::loops::{BinaryOp, Const, UnaryOp};
use crate::types::DType;

/// The values of one expression. Half floats and complex numbers are only moved and converted.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Column {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F16(Vec<u16>),
    BF16(Vec<u16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Complex numbers: real and imaginary part. `C32` is not supported.
    C64(Vec<[f32; 2]>),
    C128(Vec<[f64; 2]>),
}

/// Runs the same code for the vector inside a column, whatever its type.
macro_rules! each {
    ($column:expr, $v:ident => $body:expr) => {
        match $column {
            Column::Bool($v) => $body,
            Column::U8($v) => $body,
            Column::I8($v) => $body,
            Column::I16($v) => $body,
            Column::I32($v) => $body,
            Column::I64($v) => $body,
            Column::U16($v) => $body,
            Column::U32($v) => $body,
            Column::U64($v) => $body,
            Column::F16($v) => $body,
            Column::BF16($v) => $body,
            Column::F32($v) => $body,
            Column::F64($v) => $body,
            Column::C64($v) => $body,
            Column::C128($v) => $body,
        }
    };
}

/// The same, giving a column of the same type again.
macro_rules! map_each {
    ($column:expr, $v:ident => $body:expr) => {
        match $column {
            Column::Bool($v) => Column::Bool($body),
            Column::U8($v) => Column::U8($body),
            Column::I8($v) => Column::I8($body),
            Column::I16($v) => Column::I16($body),
            Column::I32($v) => Column::I32($body),
            Column::I64($v) => Column::I64($body),
            Column::U16($v) => Column::U16($body),
            Column::U32($v) => Column::U32($body),
            Column::U64($v) => Column::U64($body),
            Column::F16($v) => Column::F16($body),
            Column::BF16($v) => Column::BF16($body),
            Column::F32($v) => Column::F32($body),
            Column::F64($v) => Column::F64($body),
            Column::C64($v) => Column::C64($body),
            Column::C128($v) => Column::C128($body),
        }
    };
}

/// The same for two columns of one type.
macro_rules! zip_each {
    ($a:expr, $b:expr, ($x:ident, $y:ident) => $body:expr, else $other:expr) => {
        match ($a, $b) {
            (Column::Bool($x), Column::Bool($y)) => Column::Bool($body),
            (Column::U8($x), Column::U8($y)) => Column::U8($body),
            (Column::I8($x), Column::I8($y)) => Column::I8($body),
            (Column::I16($x), Column::I16($y)) => Column::I16($body),
            (Column::I32($x), Column::I32($y)) => Column::I32($body),
            (Column::I64($x), Column::I64($y)) => Column::I64($body),
            (Column::U16($x), Column::U16($y)) => Column::U16($body),
            (Column::U32($x), Column::U32($y)) => Column::U32($body),
            (Column::U64($x), Column::U64($y)) => Column::U64($body),
            (Column::F16($x), Column::F16($y)) => Column::F16($body),
            (Column::BF16($x), Column::BF16($y)) => Column::BF16($body),
            (Column::F32($x), Column::F32($y)) => Column::F32($body),
            (Column::F64($x), Column::F64($y)) => Column::F64($body),
            (Column::C64($x), Column::C64($y)) => Column::C64($body),
            (Column::C128($x), Column::C128($y)) => Column::C128($body),
            _ => $other,
        }
    };
}
pub(super) use {each, map_each};

/// An element as it lies in memory.
pub(super) trait Element: Copy {
    /// Bytes of one element.
    const SIZE: usize;
    /// The element in these bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Writes the element to these bytes.
    fn write(self, bytes: &mut [u8]);
}

macro_rules! element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<$t>()];
                raw.copy_from_slice(bytes);
                Self::from_ne_bytes(raw)
            }
            #[inline]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}
element!(u8, i8, i16, i32, i64, u16, u32, u64, f32, f64);

impl Element for bool {
    const SIZE: usize = 1;
    fn read(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
    fn write(self, bytes: &mut [u8]) {
        bytes[0] = u8::from(self);
    }
}

impl<T: Element> Element for [T; 2] {
    const SIZE: usize = 2 * T::SIZE;
    fn read(bytes: &[u8]) -> Self {
        [T::read(&bytes[..T::SIZE]), T::read(&bytes[T::SIZE..])]
    }
    fn write(self, bytes: &mut [u8]) {
        self[0].write(&mut bytes[..T::SIZE]);
        self[1].write(&mut bytes[T::SIZE..]);
    }
}

/// Reads the elements at these element offsets.
fn gather<T: Element>(bytes: &[u8], offsets: &[usize]) -> Vec<T> {
    offsets.iter().map(|&at| T::read(&bytes[at * T::SIZE..(at + 1) * T::SIZE])).collect()
}

impl Column {
    /// Number of values: 1, or one for each point.
    pub(super) fn len(&self) -> usize {
        each!(self, v => v.len())
    }

    /// The column of one constant.
    pub(super) fn constant(c: Const) -> Result<Self, String> {
        let int = Self::I64(vec![c.as_i64()]);
        match c.dtype {
            dtype if dtype.is_floating_point() => Self::F64(vec![c.as_f64()]).cast(dtype),
            dtype if dtype.is_complex() => Err(format!("constant of type {dtype}")),
            dtype => int.cast(dtype),
        }
    }

    /// No values yet, of the type that a buffer of this element type has.
    pub(super) fn empty(dtype: DType) -> Result<Self, String> {
        Ok(match dtype {
            DType::Bool => Self::Bool(Vec::new()),
            DType::U8 | DType::QU8 => Self::U8(Vec::new()),
            DType::I8 | DType::QI8 => Self::I8(Vec::new()),
            DType::I16 => Self::I16(Vec::new()),
            DType::I32 | DType::QI32 => Self::I32(Vec::new()),
            DType::I64 => Self::I64(Vec::new()),
            DType::U16 => Self::U16(Vec::new()),
            DType::U32 => Self::U32(Vec::new()),
            DType::U64 => Self::U64(Vec::new()),
            DType::F16 => Self::F16(Vec::new()),
            DType::BF16 => Self::BF16(Vec::new()),
            DType::F32 => Self::F32(Vec::new()),
            DType::F64 => Self::F64(Vec::new()),
            DType::C64 => Self::C64(Vec::new()),
            DType::C128 => Self::C128(Vec::new()),
            DType::C32 | DType::F8E5M2 | DType::F8E4M3 => return Err(format!("values of type {dtype}")),
        })
    }

    /// The elements of this type at these offsets, which are in bounds.
    pub(super) fn gather(dtype: DType, bytes: &[u8], offsets: &[usize]) -> Result<Self, String> {
        let empty = Self::empty(dtype)?;
        Ok(map_each!(empty, v => { let _ = v; gather(bytes, offsets) }))
    }

    /// Exactly `n` values: a single one is repeated.
    pub(super) fn expand(&mut self, n: usize) {
        each!(self, v => if v.len() == 1 && n != 1 { let x = v[0]; v.resize(n, x); });
    }

    /// The single values as booleans.
    pub(super) fn bools(&self) -> Result<&[bool], String> {
        if let Self::Bool(v) = self { Ok(v) } else { Err("a condition is not a boolean".into()) }
    }

    /// The values as indices.
    pub(super) fn ints(&self) -> Result<&[i64], String> {
        if let Self::I64(v) = self { Ok(v) } else { Err("an index is not an int64".into()) }
    }

    /// `cond ? self : other`.
    pub(super) fn select(cond: &Self, a: &Self, b: &Self) -> Result<Self, String> {
        let c = cond.bools()?;
        if let [c] = *c {
            return Ok(if c { a.clone() } else { b.clone() });
        }
        Ok(zip_each!(a, b, (x, y) => {
            let (sx, sy) = (usize::from(x.len() > 1), usize::from(y.len() > 1));
            c.iter().enumerate().map(|(i, &c)| if c { x[i * sx] } else { y[i * sy] }).collect()
        }, else return Err("select between values of two types".into())))
    }

    /// Conversion to another type.
    pub(super) fn cast(&self, dtype: DType) -> Result<Self, String> {
        math::cast(self, dtype)
    }

    /// `op self`.
    pub(super) fn unary(&self, op: UnaryOp) -> Result<Self, String> {
        macro_rules! int {
            ($v:ident, $kind:ident) => {
                match op {
                    UnaryOp::Neg => Ok(Self::$kind($v.iter().map(|x| x.wrapping_neg()).collect())),
                    UnaryOp::Not => Ok(Self::$kind($v.iter().map(|x| !x).collect())),
                    UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => Ok(self.clone()),
                    UnaryOp::IsNan => Ok(Self::Bool(vec![false; $v.len()])),
                    _ => Err(format!("{op:?} of an integer")),
                }
            };
        }
        macro_rules! signed {
            ($v:ident, $kind:ident) => {
                match op {
                    UnaryOp::Abs => Ok(Self::$kind($v.iter().map(|x| x.wrapping_abs()).collect())),
                    _ => int!($v, $kind),
                }
            };
        }
        macro_rules! unsigned {
            ($v:ident, $kind:ident) => {
                match op {
                    UnaryOp::Abs => Ok(self.clone()),
                    _ => int!($v, $kind),
                }
            };
        }
        match self {
            Self::F32(v) => {
                if op == UnaryOp::IsNan {
                    Ok(Self::Bool(v.iter().map(|x| x.is_nan()).collect()))
                } else {
                    let f = math::unary_f32(op).ok_or_else(|| format!("{op:?} of a float"))?;
                    Ok(Self::F32(v.iter().map(|&x| f(x)).collect()))
                }
            }
            Self::F64(v) => {
                if op == UnaryOp::IsNan {
                    Ok(Self::Bool(v.iter().map(|x| x.is_nan()).collect()))
                } else {
                    let f = math::unary_f64(op).ok_or_else(|| format!("{op:?} of a float"))?;
                    Ok(Self::F64(v.iter().map(|&x| f(x)).collect()))
                }
            }
            Self::Bool(v) => match op {
                UnaryOp::Not => Ok(Self::Bool(v.iter().map(|x| !x).collect())),
                UnaryOp::IsNan => Ok(Self::Bool(vec![false; v.len()])),
                _ => Err(format!("{op:?} of a boolean")),
            },
            Self::I8(v) => signed!(v, I8),
            Self::I16(v) => signed!(v, I16),
            Self::I32(v) => signed!(v, I32),
            Self::I64(v) => signed!(v, I64),
            Self::U8(v) => unsigned!(v, U8),
            Self::U16(v) => unsigned!(v, U16),
            Self::U32(v) => unsigned!(v, U32),
            Self::U64(v) => unsigned!(v, U64),
            Self::F16(_) | Self::BF16(_) | Self::C64(_) | Self::C128(_) => {
                Err(format!("{op:?} of a type that has no arithmetic"))
            }
        }
    }

    /// `self op other`.
    pub(super) fn binary(&self, op: BinaryOp, other: &Self) -> Result<Self, String> {
        macro_rules! ints {
            ($a:ident, $b:ident, $kind:ident, $t:ty) => {{
                let has_zero = || $b.contains(&0);
                let f: fn($t, $t) -> $t = match op {
                    BinaryOp::Add => <$t>::wrapping_add,
                    BinaryOp::Sub => <$t>::wrapping_sub,
                    BinaryOp::Mul => <$t>::wrapping_mul,
                    BinaryOp::Div | BinaryOp::Rem | BinaryOp::FloorDiv | BinaryOp::FloorMod if has_zero() => {
                        return Err("integer division by zero".into());
                    }
                    BinaryOp::Div => <$t>::wrapping_div,
                    BinaryOp::Rem => <$t>::wrapping_rem,
                    BinaryOp::FloorDiv => |x, y| {
                        let q = x.wrapping_div(y);
                        #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                        let is_down = x.wrapping_rem(y) != 0 && (x < 0) != (y < 0);
                        if is_down { q.wrapping_sub(1) } else { q }
                    },
                    BinaryOp::FloorMod => |x, y| {
                        let r = x.wrapping_rem(y);
                        #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                        let is_off = r != 0 && (r < 0) != (y < 0);
                        if is_off { r.wrapping_add(y) } else { r }
                    },
                    BinaryOp::Pow => |x, y| {
                        #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                        let is_negative = y < 0;
                        // A negative power of an integer is 0 except for 1 and -1.
                        if is_negative {
                            return if x == 1 {
                                1
                            } else if x == (0 as $t).wrapping_sub(1) {
                                if y & 1 == 0 { 1 } else { x }
                            } else {
                                0
                            };
                        }
                        let (mut base, mut left, mut out): ($t, $t, $t) = (x, y, 1);
                        while left != 0 {
                            if left & 1 != 0 {
                                out = out.wrapping_mul(base);
                            }
                            base = base.wrapping_mul(base);
                            left >>= 1;
                        }
                        out
                    },
                    BinaryOp::Min => |x, y| x.min(y),
                    BinaryOp::Max => |x, y| x.max(y),
                    BinaryOp::And => |x, y| x & y,
                    BinaryOp::Or => |x, y| x | y,
                    BinaryOp::Xor => |x, y| x ^ y,
                    // Shifts by the width or more give what shifting one bit at a time would.
                    BinaryOp::Shl => |x, y| u32::try_from(y).ok().filter(|&y| y < <$t>::BITS).map_or(0, |y| x << y),
                    BinaryOp::Shr => |x, y| {
                        let y = u32::try_from(y).unwrap_or(<$t>::BITS);
                        x >> y.min(<$t>::BITS - 1) >> u32::from(y >= <$t>::BITS)
                    },
                    BinaryOp::Atan2 | BinaryOp::Copysign => return Err(format!("{op:?} of integers")),
                    BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                        return Ok(Self::Bool(zip($a, $b, compare(op))));
                    }
                };
                // The operations of index arithmetic are spelled out so that they are vectorised.
                Ok(Self::$kind(match op {
                    BinaryOp::Add => zip($a, $b, <$t>::wrapping_add),
                    BinaryOp::Mul => zip($a, $b, <$t>::wrapping_mul),
                    _ => zip($a, $b, f),
                }))
            }};
        }
        macro_rules! floats {
            ($a:ident, $b:ident, $kind:ident, $t:ty) => {{
                Ok(Self::$kind(match op {
                    BinaryOp::Add => zip($a, $b, |x, y| x + y),
                    BinaryOp::Sub => zip($a, $b, |x, y| x - y),
                    BinaryOp::Mul => zip($a, $b, |x, y| x * y),
                    BinaryOp::Div => zip($a, $b, |x, y| x / y),
                    BinaryOp::Rem => zip($a, $b, |x, y| x % y),
                    BinaryOp::FloorDiv => zip($a, $b, |x: $t, y: $t| (x / y).floor()),
                    BinaryOp::FloorMod => zip($a, $b, |x: $t, y: $t| {
                        let r = x % y;
                        if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
                    }),
                    BinaryOp::Pow => zip($a, $b, <$t>::powf),
                    BinaryOp::Atan2 => zip($a, $b, <$t>::atan2),
                    BinaryOp::Min => zip($a, $b, |x, y| if x < y || x != x { x } else { y }),
                    BinaryOp::Max => zip($a, $b, |x, y| if x > y || x != x { x } else { y }),
                    BinaryOp::Copysign => zip($a, $b, <$t>::copysign),
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => {
                        return Err(format!("{op:?} of floats"));
                    }
                    BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                        return Ok(Self::Bool(zip($a, $b, compare(op))));
                    }
                }))
            }};
        }
        match (self, other) {
            (Self::F32(a), Self::F32(b)) => floats!(a, b, F32, f32),
            (Self::F64(a), Self::F64(b)) => floats!(a, b, F64, f64),
            (Self::I64(a), Self::I64(b)) => ints!(a, b, I64, i64),
            (Self::I32(a), Self::I32(b)) => ints!(a, b, I32, i32),
            (Self::I16(a), Self::I16(b)) => ints!(a, b, I16, i16),
            (Self::I8(a), Self::I8(b)) => ints!(a, b, I8, i8),
            (Self::U8(a), Self::U8(b)) => ints!(a, b, U8, u8),
            (Self::U16(a), Self::U16(b)) => ints!(a, b, U16, u16),
            (Self::U32(a), Self::U32(b)) => ints!(a, b, U32, u32),
            (Self::U64(a), Self::U64(b)) => ints!(a, b, U64, u64),
            (Self::Bool(a), Self::Bool(b)) => match op {
                BinaryOp::And | BinaryOp::Min | BinaryOp::Mul => Ok(Self::Bool(zip(a, b, |x, y| x & y))),
                BinaryOp::Or | BinaryOp::Max | BinaryOp::Add => Ok(Self::Bool(zip(a, b, |x, y| x | y))),
                BinaryOp::Xor => Ok(Self::Bool(zip(a, b, |x, y| x ^ y))),
                op if op.is_comparison() => Ok(Self::Bool(zip(a, b, compare(op)))),
                _ => Err(format!("{op:?} of booleans")),
            },
            _ => Err(format!("{op:?} of values of two types or of a type that has no arithmetic")),
        }
    }
}

/// `f` at each point.
fn zip<T: Copy, R>(a: &[T], b: &[T], f: impl Fn(T, T) -> R) -> Vec<R> {
    match (a, b) {
        (&[x], b) => b.iter().map(|&y| f(x, y)).collect(),
        (a, &[y]) => a.iter().map(|&x| f(x, y)).collect(),
        (a, b) => a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect(),
    }
}

/// The comparison as a function.
fn compare<T: PartialOrd>(op: BinaryOp) -> fn(T, T) -> bool {
    match op {
        BinaryOp::Ne => |x, y| x != y,
        BinaryOp::Lt => |x, y| x < y,
        BinaryOp::Le => |x, y| x <= y,
        BinaryOp::Gt => |x, y| x > y,
        BinaryOp::Ge => |x, y| x >= y,
        _ => |x, y| x == y,
    }
}
