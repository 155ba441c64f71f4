//! Nests: explicit loops over vector registers, what the emitter turns into one machine function each.
//!
//! A nest is three-address code. Registers are typed (element type and number of lanes), may be set more than once, and
//! live for the whole nest; a backend keeps them in machine registers. Offsets are in elements.
//!
//! A `For` with `parallel: true` stands only at the top level of a nest: its body may run for several values of the loop
//! register at once, so it writes no register that is read after the loop, and stores to disjoint elements. Registers set
//! before it may be read in it.

use super::{BinaryOp, Const, ReduceOp, UnaryOp};
use crate::index::{IndexVec, ids};
use crate::types::DType;

ids! {
    /// A register of a nest.
    Reg = "r";
}

/// The type of a register. One lane is a scalar. `Bool` registers are conditions (masks when they have lanes).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RegType {
    /// Type of each lane.
    pub dtype: DType,
    /// Number of lanes: 1, or a power of two.
    pub lanes: u16,
}

impl RegType {
    /// One `int64`, the type of offsets and loop counters.
    pub const INDEX: Self = Self { dtype: DType::I64, lanes: 1 };

    /// One lane of this type.
    pub const fn scalar(dtype: DType) -> Self {
        Self { dtype, lanes: 1 }
    }
}

/// Memory that a nest reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Memory {
    /// The nest's buffer parameter with this number.
    Buffer(usize),
    /// The nest's local array with this number; inside a parallel loop each task has its own.
    Local(usize),
}

/// A buffer parameter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NestBuffer {
    /// Element type as it lies in memory (`Bool` is one byte, 0 or 1).
    pub dtype: DType,
    /// Whether the nest writes to it.
    pub is_written: bool,
    /// Known alignment of the first element, in bytes.
    pub align: usize,
}

/// A scratch array of known size, aligned to 64 bytes, contents undefined at first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Local {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
}

/// An operand: a register or a scalar constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Val {
    /// A register.
    Reg(Reg),
    /// A constant, in every lane where a vector is wanted.
    Const(Const),
}

/// The value of a `Set`. Vector operands have the register's lanes; scalar registers and constants spread to all lanes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// The operand.
    Copy(Val),
    /// The nest's scalar parameter with this number.
    Param(usize),
    /// `op a`.
    Unary(UnaryOp, Val),
    /// `a op b`.
    Binary(BinaryOp, Val, Val),
    /// `a * b + c` with one rounding.
    Fma(Val, Val, Val),
    /// `cond ? a : b`, lane by lane.
    Select(Val, Val, Val),
    /// Conversion lane by lane, with the rules of `Expr::Cast`.
    Cast(Val),
    /// Elements from `offset` on: one for each lane of the register, `stride` elements apart (0: one element in all lanes).
    /// A mask lane that is false reads nothing and gives zero.
    Load {
        /// What is read.
        memory: Memory,
        /// First element.
        offset: Val,
        /// Elements from lane to lane: 0, 1 or another constant.
        stride: i64,
        /// Which lanes; `None`: all.
        mask: Option<Val>,
    },
    /// One element a lane, at the lane's own offset (an `int64` vector).
    Gather {
        /// What is read.
        memory: Memory,
        /// Offsets.
        offsets: Val,
        /// Which lanes; `None`: all.
        mask: Option<Val>,
    },
    /// `start, start + 1, ...` in an `int64` vector.
    Iota(Val),
    /// All lanes of a vector combined into a scalar register, in a fixed order (pairs of halves).
    Horizontal(ReduceOp, Reg),
    /// One lane of a vector.
    Extract(Reg, u16),
}

/// A statement of a nest.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NestStmt {
    /// Sets a register.
    Set(Reg, Op),
    /// Runs the body for `counter = begin, begin + step, ... < end`.
    For {
        /// An `int64` register; only the loop sets it.
        counter: Reg,
        /// First value.
        begin: Val,
        /// Bound.
        end: Val,
        /// Positive.
        step: i64,
        /// Whether rounds may run at once; see the module's comment.
        parallel: bool,
        /// The statements.
        body: Vec<NestStmt>,
    },
    /// Chooses by a scalar condition.
    If {
        /// A scalar `Bool`.
        cond: Val,
        /// Where it is true.
        then_body: Vec<NestStmt>,
        /// Where it is false.
        else_body: Vec<NestStmt>,
    },
    /// Writes a register's lanes (or a constant) to consecutive elements (`stride` apart).
    Store {
        /// What is written.
        memory: Memory,
        /// First element.
        offset: Val,
        /// Elements from lane to lane; 1 for vectors as a rule.
        stride: i64,
        /// What is written; a vector register writes all its lanes.
        value: Val,
        /// Which lanes; `None`: all.
        mask: Option<Val>,
    },
    /// Asks for the cache line at an element to be fetched.
    Prefetch {
        /// Where.
        memory: Memory,
        /// Element.
        offset: Val,
    },
}

/// One machine function: loops over buffers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Nest {
    /// Base of the symbol's name; not part of what makes two nests equal for sharing.
    pub name: String,
    /// Pointer parameters.
    pub buffers: Vec<NestBuffer>,
    /// Scalar parameters: `I64`, `F64` or `Bool`.
    pub scalars: Vec<DType>,
    /// Scratch arrays.
    pub locals: Vec<Local>,
    /// Register types.
    pub regs: IndexVec<Reg, RegType>,
    /// The statements.
    pub body: Vec<NestStmt>,
    /// Rough work of one call in scalar operations, for the decision to run in parallel; 0 if unknown.
    pub cost: u64,
}
