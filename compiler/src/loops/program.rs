//! Programs, functions, statements, buffers and kernels.

use super::nest::Nest;
use super::{BinaryOp, Const, ExprId, Exprs, UnaryOp};
use crate::index::{IndexVec, ids};
use crate::types::{DType, TensorData, Type};
use std::sync::Arc;

ids! {
    /// A host scalar or object of a function.
    VarId = "v";
    /// A buffer of a function.
    BufferId = "b";
    /// A weight of the program.
    WeightId = "w";
    /// A prepared tensor of the program.
    PreparedId = "p";
    /// A function of the program.
    FunctionId = "f";
}

/// A compiled model before it becomes machine code.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Constant tensors, shared by all functions.
    pub weights: IndexVec<WeightId, Weight>,
    /// Entry points.
    pub methods: Vec<Method>,
    /// Bodies: the variants of methods, and the one that initialises state.
    pub functions: IndexVec<FunctionId, Function>,
    /// Scheduled loop nests, shared by all functions; equal nests are stored once.
    pub nests: Vec<Arc<Nest>>,
    /// Per-instance state: number of 64-bit scalars. Scalar 0 is the state tag that chooses variants.
    pub n_state_scalars: usize,
    /// Number of growable memory slots an instance has: dynamic buffers and state tensors.
    pub n_slots: usize,
    /// Writes the initial state; run once for a new instance, before any method.
    pub init: Option<FunctionId>,
    /// Tensors that are computed from weights when a model is opened.
    pub prepared: IndexVec<PreparedId, Prepared>,
    /// Computes them: run once for a model, before any instance is made. It has no inputs and no state; it reads weights and
    /// is the only function that writes buffers of class [`BufferClass::Prepared`].
    pub prepare: Option<FunctionId>,
}

/// A tensor computed when a model is opened: another form of weights, larger than what a library should store. Its memory
/// starts undefined, lives as long as the model, and is only read once it has been computed, by all instances and threads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// For people.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Number of elements in memory, with what the layout of its buffers adds; 0 where nothing reads it any more.
    pub n_elements: usize,
}

impl Prepared {
    /// Bytes in memory.
    pub fn size_bytes(&self) -> usize {
        self.n_elements * self.dtype.size_bytes()
    }
}

/// A constant tensor.
#[derive(Clone, Debug)]
pub struct Weight {
    /// For people: the attribute path where known.
    pub name: String,
    /// Row-major logical contents. Packing replaces it by the physical contents of the chosen layout.
    pub data: Arc<TensorData>,
}

/// An entry point: the first variant whose inputs and state tag fit runs.
#[derive(Clone, Debug)]
pub struct Method {
    /// `forward`
    pub name: String,
    /// Parameter names and static types, without `self`.
    pub params: Vec<(String, Type)>,
    /// Compiled versions, most special first.
    pub variants: Vec<Variant>,
}

/// A compiled version of a method and when it applies.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The state tag it is for (scalar 0 of the state); `None`: any.
    pub state_tag: Option<i64>,
    /// The body. Its `params` and `inputs` say what arguments it accepts.
    pub function: FunctionId,
}

/// What a leaf of the argument tree must be for a function to apply.
#[derive(Clone, PartialEq, Debug)]
pub enum InputKind {
    /// A tensor: row-major in `buffer` (the entry code copies others). Constant dims must match; variable dims are set from
    /// the argument before the body runs.
    Tensor {
        /// A buffer of class [`BufferClass::Input`].
        buffer: BufferId,
        /// Whether the body writes to it, so that a copy must be written back.
        is_mutated: bool,
    },
    /// A number, put in a variable; where `only` is given it must have this value.
    Scalar {
        /// The variable.
        var: VarId,
        /// The one value, for a variant specialised on it.
        only: Option<Const>,
    },
    /// `None` and nothing else.
    None,
    /// A string with exactly this text.
    Str(Arc<str>),
    /// A run-time object (string, list, dict), put in an object variable.
    Object(VarId),
    /// A tensor of which other arguments may show the same memory, as a tensor object.
    Shared {
        /// The object variable.
        var: VarId,
        /// Element type.
        dtype: DType,
        /// Extents.
        dims: Vec<i64>,
        /// The distance in elements of neighbours along each dimension.
        strides: Vec<i64>,
    },
}

/// One leaf of a function's flattened arguments.
#[derive(Clone, PartialEq, Debug)]
pub struct Input {
    /// Path for messages: `x`, `state[0]`.
    pub name: String,
    /// What it must be.
    pub kind: InputKind,
}

/// How an argument or result nests; its leaves are numbered in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OutputTree {
    /// `None`; a leaf in arguments, none in results.
    None,
    /// A leaf: a tensor.
    Tensor,
    /// A leaf: an int.
    Int,
    /// A leaf: a float.
    Float,
    /// A leaf: a bool.
    Bool,
    /// Two leaves: real and imaginary part.
    Complex,
    /// A leaf: a run-time object, converted by its own tag (string, list, dict, tensor).
    Object,
    /// A constant string; a leaf in arguments, none in results.
    Str(Arc<str>),
    /// A tuple.
    Tuple(Vec<OutputTree>),
    /// A named tuple: class name, fields.
    NamedTuple(Arc<str>, Vec<(Arc<str>, OutputTree)>),
    /// A list.
    List(Vec<OutputTree>),
    /// A dict.
    Dict(Vec<(OutputTree, OutputTree)>),
}

/// A body with its variables and buffers.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// `forward`, `forward.1`, `init`.
    pub name: String,
    /// How the method's arguments nest; the leaves match `inputs` in order.
    pub params: Vec<OutputTree>,
    /// Flattened argument leaves.
    pub inputs: Vec<Input>,
    /// Host variables; mutable.
    pub vars: IndexVec<VarId, Var>,
    /// Tensors in memory.
    pub buffers: IndexVec<BufferId, Buffer>,
    /// The statements.
    pub body: Block,
    /// Size of the planned arena, in bytes; 0 before memory planning.
    pub arena_bytes: usize,
    /// Shapes of results that `Return` statements refer to.
    pub results: Vec<OutputTree>,
}

impl Function {
    /// The buffer whose memory a buffer shows: itself, but for an alias.
    pub fn memory(&self, buffer: BufferId) -> BufferId {
        match self.buffers[buffer].class {
            BufferClass::Alias { of, .. } => of,
            _ => buffer,
        }
    }
}

/// A host variable.
#[derive(Clone, Debug)]
pub struct Var {
    /// Its type.
    pub ty: VarType,
    /// For people; may be empty.
    pub name: String,
}

/// The type of a host variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VarType {
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Float,
    /// Boolean.
    Bool,
    /// A counted reference to a run-time object (string, list, dict, tensor), or null.
    Object,
}

impl VarType {
    /// The element type a kernel sees such a variable as; objects are not seen by kernels.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::Int => Some(DType::I64),
            Self::Float => Some(DType::F64),
            Self::Bool => Some(DType::Bool),
            Self::Object => None,
        }
    }
}

/// An extent: known, or an `Int` variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dim {
    /// Known when compiling; not negative.
    Const(i64),
    /// Known when the program runs; not negative.
    Var(VarId),
}

impl Dim {
    /// The extent, if known.
    pub fn known(self) -> Option<i64> {
        match self {
            Self::Const(n) => Some(n),
            Self::Var(_) => None,
        }
    }
}

/// A host value: a constant, text, or a variable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// A number. Its type is `I64`, `F64` or `Bool`.
    Const(Const),
    /// Constant text, an object where used as a value.
    Str(Arc<str>),
    /// A variable.
    Var(VarId),
}

impl From<Dim> for Operand {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Const(n) => Self::Const(Const::int(n)),
            Dim::Var(var) => Self::Var(var),
        }
    }
}

/// A computation on host scalars, with the same operations as kernels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostExpr {
    /// The operand itself.
    Copy(Operand),
    /// `op a`
    Unary(UnaryOp, Operand),
    /// `a op b`
    Binary(BinaryOp, Operand, Operand),
    /// `cond ? a : b`
    Select(Operand, Operand, Operand),
    /// Conversion between `I64`, `F64` and `Bool`.
    Cast(DType, Operand),
}

/// Statements in order.
#[derive(Clone, Debug, Default)]
pub struct Block(pub Vec<Stmt>);

/// A host statement.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// Sets a variable.
    Assign(VarId, HostExpr),
    /// Runs a kernel (before scheduling).
    Kernel(Box<Kernel>),
    /// Runs a scheduled nest.
    Launch(Launch),
    /// Gives a slot buffer memory for its present dims; former contents are lost.
    Alloc(BufferId),
    /// Reads the one element of a one-element buffer, converted to the variable's type.
    Read(VarId, BufferId),
    /// Reads a scalar of the instance's state, as bits of the variable's type.
    LoadState(VarId, usize),
    /// Writes a scalar of the instance's state.
    StoreState(usize, Operand),
    /// Chooses a branch.
    If(Operand, Block, Block),
    /// Runs the block while the boolean variable is true, testing before each round.
    While(VarId, Block),
    /// Calls a run-time routine by name, e.g. `list_push`; see the runtime's routines. A failing routine ends the function.
    Call {
        /// The routine.
        routine: &'static str,
        /// Arguments.
        args: Vec<Arg>,
        /// Variables that take its results.
        results: Vec<VarId>,
        /// Where the user wrote it, for messages.
        place: Arc<str>,
    },
    /// Ends the function with an exception unless the condition holds.
    Check {
        /// What must hold.
        cond: Operand,
        /// Exception class, e.g. `RuntimeError`.
        class: Arc<str>,
        /// Message: constant text or a string object.
        message: Operand,
        /// What the `{}` of constant text stand for; where there are none, it is taken as it is.
        parts: Vec<Operand>,
        /// Where the user wrote it.
        place: Arc<str>,
    },
    /// Ends the function with an exception.
    Raise {
        /// Exception class, e.g. `builtins.ValueError`; may be empty.
        class: Arc<str>,
        /// Message: constant text or a string object.
        message: Operand,
        /// Where the user wrote it.
        place: Arc<str>,
    },
    /// Ends the function with a result: the tree of the function's `results` with this number, and its leaves.
    Return(usize, Vec<Arg>),
}

/// An argument of a routine or a leaf of a result.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Arg {
    /// A number, text or object.
    Scalar(Operand),
    /// A row-major tensor.
    Buffer(BufferId),
}

/// A scheduled nest with what it works on.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Index into [`Program::nests`].
    pub nest: usize,
    /// The nest's buffers, in order.
    pub buffers: Vec<BufferId>,
    /// The nest's scalars, in order.
    pub scalars: Vec<Operand>,
}

/// A tensor in memory.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// For people; may be empty.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Logical extents, which loads and stores index.
    pub dims: Vec<Dim>,
    /// Whose memory it is.
    pub class: BufferClass,
    /// Where elements lie.
    pub layout: Layout,
}

impl Buffer {
    /// Everything that says how large it is and where its elements are: extents, offset, strides.
    pub fn measures(&self) -> impl Iterator<Item = Dim> + '_ {
        let offset = if let BufferClass::Alias { offset, .. } = self.class { Some(offset) } else { None };
        let strides = if let Layout::Strided(strides) = &self.layout { strides.as_slice() } else { &[] };
        self.dims.iter().copied().chain(offset).chain(strides.iter().copied())
    }
}

/// Whose memory a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BufferClass {
    /// The caller's argument: leaf number.
    Input(usize),
    /// The caller's (or a fresh) result: leaf number of the function's only `Return`. Chosen by memory planning.
    Output(usize),
    /// A constant.
    Weight(WeightId),
    /// What was computed when the model was opened: constant, but for the function that prepares.
    Prepared(PreparedId),
    /// Scratch of known size; memory planning gives the byte offset in the arena.
    Temp {
        /// Byte offset, after planning.
        offset: Option<usize>,
    },
    /// Scratch or state whose size is known when `Alloc` runs: growable slot of the instance.
    Slot(usize),
    /// The same memory as another buffer, in row-major order under other dims, starting at an element offset.
    Alias {
        /// The buffer whose memory it is; not itself an alias.
        of: BufferId,
        /// Elements before the first.
        offset: Dim,
    },
    /// The tensor in an object variable (an element of a run-time list).
    Object(VarId),
}

/// Where the elements of a buffer lie. `RowMajor` is the rule; the layout pass chooses blocks for buffers only kernels see.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Layout {
    /// Last dimension fastest, no gaps.
    #[default]
    RowMajor,
    /// Dimension `dim` is cut into blocks of `block`, and the position within a block is the fastest: `nChw16c` is dim 1,
    /// block 16. The blocked extent is padded up to a multiple; padding elements are zero.
    Blocked {
        /// Which dimension.
        dim: usize,
        /// Elements in a block.
        block: usize,
    },
    /// Neighbours along each dimension are this many elements apart: a tensor in an object may be a view of another one.
    Strided(Vec<Dim>),
}

/// An axis of a kernel's index space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Axis {
    /// Number of points.
    pub extent: Dim,
    /// How points along it relate.
    pub kind: AxisKind,
}

/// How the points along an axis relate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AxisKind {
    /// Independent.
    Parallel,
    /// In order; reductions carry from point to point and stores run at each. At most one, after the parallel axes.
    Scan,
    /// Reduced over, in row-major order for the evaluator; a schedule may reassociate. Last.
    Reduce,
}

/// How values combine along reduced axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Starts at 0.
    Sum,
    /// Starts at 1.
    Prod,
    /// NaN wins; starts at the type's least value (-inf for floats).
    Max,
    /// NaN wins; starts at the type's greatest value (+inf for floats).
    Min,
    /// Starts at true.
    And,
    /// Starts at false.
    Or,
    /// `payload` at the first point with the greatest value; NaN counts as greatest.
    ArgMax,
    /// `payload` at the first point with the least value; NaN counts as least.
    ArgMin,
}

impl ReduceOp {
    /// Every way.
    pub(super) const ALL: [Self; 8] =
        [Self::Sum, Self::Prod, Self::Max, Self::Min, Self::And, Self::Or, Self::ArgMax, Self::ArgMin];
}

/// A reduction of a kernel. Its result is `Expr::Acc(number)`, of `value`'s type (`int64` for arg reductions).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reduction {
    /// How values combine.
    pub op: ReduceOp,
    /// What is combined.
    pub value: ExprId,
    /// What `ArgMax` and `ArgMin` give, an `int64`.
    pub payload: Option<ExprId>,
}

/// What a store does with the element that is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StoreMode {
    /// Overwrites it.
    Set,
    /// Combines it: `scatter_add`, `index_add`, `scatter_reduce`.
    Combine(ReduceOp),
}

/// A store of a kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// What is written.
    pub buffer: BufferId,
    /// One `int64` index for each dimension of the buffer, in bounds where the guard holds.
    pub index: Box<[ExprId]>,
    /// The value, of the buffer's type.
    pub value: ExprId,
    /// The condition under which it happens.
    pub guard: Option<ExprId>,
    /// Overwrite or combine.
    pub mode: StoreMode,
}

/// A computation over an index space.
///
/// For each point of the parallel axes, in any order: reductions start; for each point of the scan axis in order (once if
/// there is none): for each point of the reduced axes the reductions take in their values; then the stores run in order.
/// Reductions' values do not use `Acc`. Without reductions a kernel is a map. Loads see the memory as it was before the
/// kernel, except in ordered kernels and through a scan's own earlier stores: other kernels never load what they store.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// For people and symbols: `conv2d+batch_norm+relu`.
    pub name: String,
    /// Where the user wrote it.
    pub place: Arc<str>,
    /// Parallel axes, then the scan axis if any, then reduced axes.
    pub axes: Vec<Axis>,
    /// All expressions.
    pub exprs: Exprs,
    /// What is combined over the reduced (and scan) axes.
    pub reductions: Vec<Reduction>,
    /// What is written.
    pub stores: Vec<Store>,
    /// Whether stores of different points may hit one element, so that points must run one after another in row-major order.
    pub is_ordered: bool,
}

/// Where each weight lies in the weights section (each aligned to 64 bytes, in order), and the size of the section.
pub fn weight_offsets(program: &Program) -> (Vec<usize>, usize) {
    let mut total = 0usize;
    let offsets = program.weights.iter().map(|weight| {
        let offset = total.next_multiple_of(64);
        let numel = usize::try_from(weight.data.numel()).expect("sizes of known tensors are not negative");
        total = offset + numel * weight.data.dtype().size_bytes();
        offset
    });
    (offsets.collect(), total)
}

/// Where each prepared tensor lies in their memory (each aligned to 64 bytes, in order), and the size of that.
pub fn prepared_offsets(program: &Program) -> (Vec<usize>, usize) {
    let mut total = 0usize;
    let offsets = program.prepared.iter().map(|prepared| {
        let offset = total.next_multiple_of(64);
        total = offset + prepared.size_bytes();
        offset
    });
    (offsets.collect(), total)
}
