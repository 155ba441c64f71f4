//! The trait a backend implements: declarations, blocks, and typed machine-like instructions.
//!
//! The emitter is written once against [`Builder`]; a backend only translates. Values are small typed handles that are valid
//! within one function. Methods take `&self` (backends keep their state in cells), so that calls nest like expressions.
//! Nothing here fails: a backend records its first error and reports it when the module is finished.

/// The type of one lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// A condition; in vectors, a mask. Has no memory form.
    I1,
    /// 8-bit integer.
    I8,
    /// 16-bit integer; also the bits of a half or bfloat16.
    I16,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// An address; one lane only.
    Ptr,
}

impl Lane {
    /// Bytes of one lane in memory; 1 for conditions.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I1 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 | Self::Ptr => 8,
        }
    }

    /// Whether lanes are floats.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// The type of a value: one lane (a scalar) or a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ty {
    /// Type of each lane.
    pub lane: Lane,
    /// Number of lanes.
    pub lanes: u16,
}

impl Ty {
    /// An address.
    pub const PTR: Self = Self::scalar(Lane::Ptr);
    /// A 64-bit integer.
    pub const I64: Self = Self::scalar(Lane::I64);
    /// A condition.
    pub const I1: Self = Self::scalar(Lane::I1);

    /// One lane of this type.
    pub const fn scalar(lane: Lane) -> Self {
        Self { lane, lanes: 1 }
    }

    /// As many lanes of another type.
    #[must_use]
    pub const fn with(self, lane: Lane) -> Self {
        Self { lane, lanes: self.lanes }
    }

    /// Bytes of a value in memory.
    pub const fn size_bytes(self) -> usize {
        self.lane.size_bytes() * self.lanes as usize
    }
}

/// A value of the function being built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    /// The backend's number for it.
    pub id: u32,
    /// Its type.
    pub ty: Ty,
}

/// A basic block of the function being built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(pub u32);

/// A mutable variable of the function being built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variable {
    /// The backend's number for it.
    pub id: u32,
    /// Its type.
    pub ty: Ty,
}

/// A function of the module, defined or imported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func(pub u32);

/// Who sees a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Linkage {
    /// Defined elsewhere.
    Import,
    /// Only this module.
    Internal,
    /// The library it is linked into, but not the library's users.
    Hidden,
}

/// A parameter with what may be assumed of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param {
    /// Its type.
    pub ty: Ty,
    /// For addresses: memory reached through it and written by the function is reached in no other way.
    pub no_alias: bool,
    /// For addresses: known alignment in bytes.
    pub align: usize,
    /// For addresses: the function does not write through it.
    pub is_read_only: bool,
}

impl From<Ty> for Param {
    fn from(ty: Ty) -> Self {
        Self { ty, no_alias: false, align: 1, is_read_only: false }
    }
}

/// What memory of an object an access is to: accesses to different parts never meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The fields of an object: where its items are and how many.
    Fields,
    /// The items.
    Items,
}

/// The type of a function; parameters and results in the C calling convention.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Signature {
    /// Parameters; vectors are not passed.
    pub params: Vec<Param>,
    /// Result, if any.
    pub result: Option<Ty>,
    /// Whether it writes no memory and always returns: what it gives depends on its arguments and on memory only.
    pub only_reads: bool,
}

impl Signature {
    /// A signature with nothing known of its parameters.
    pub fn new(params: &[Ty], result: Option<Ty>) -> Self {
        Self { params: params.iter().map(|&ty| ty.into()).collect(), result, only_reads: false }
    }
}

/// Instructions on two values of one type, lane by lane. Integers wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the usual names of machine instructions")]
pub enum Inst2 {
    Add,
    Sub,
    Mul,
    /// The divisor must be neither 0 nor -1 with the least dividend; so for all four divisions.
    SDiv,
    UDiv,
    SRem,
    URem,
    /// Also on conditions.
    And,
    /// Also on conditions.
    Or,
    /// Also on conditions.
    Xor,
    /// The amount is less than the width; so for all shifts.
    Shl,
    LShr,
    AShr,
    FAdd,
    FSub,
    FMul,
    FDiv,
}

/// Instructions on one float value, lane by lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the usual names of machine instructions")]
pub enum Inst1 {
    FNeg,
    FAbs,
    Sqrt,
    Floor,
    Ceil,
    Trunc,
    /// Half to even.
    Round,
}

/// Comparisons; those of floats are false for NaN except `FNe` and `FUnordered`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the usual names of machine instructions")]
pub enum Cmp {
    Eq,
    Ne,
    SLt,
    SLe,
    SGt,
    SGe,
    ULt,
    ULe,
    UGt,
    UGe,
    FEq,
    FNe,
    FLt,
    FLe,
    FGt,
    FGe,
    /// Either is NaN.
    FUnordered,
}

/// Conversions, lane by lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the usual names of machine instructions")]
pub enum Conv {
    SExt,
    /// Also from conditions: 0 or 1.
    ZExt,
    Trunc,
    FExt,
    FTrunc,
    SToF,
    UToF,
    /// Towards zero; any value where it does not fit.
    FToS,
    /// Towards zero; any value where it does not fit.
    FToU,
    /// The same bits in a type of the same width.
    Bits,
}

/// What a backend implements. One function is under construction at a time, between `begin` and `end`.
pub trait Builder {
    // Module.

    /// Declares a function. Declaring a name twice gives the first one.
    fn declare(&self, name: &str, signature: &Signature, linkage: Linkage) -> Func;
    /// Starts a function's body; gives its parameters. The current block is the entry block.
    fn begin(&self, func: Func) -> Vec<Value>;
    /// Ends the body; the current block has ended too.
    fn end(&self);
    /// The address of constant bytes.
    fn bytes(&self, bytes: &[u8]) -> Value;
    /// Whether `fma` is one instruction, rounded once.
    fn has_fma(&self) -> bool;

    // Control.

    /// A new block.
    fn label(&self) -> Label;
    /// Goes on in this block, which is still empty; the current one has ended.
    fn place(&self, label: Label);
    /// Ends the current block.
    fn jump(&self, label: Label);
    /// Ends the current block by a scalar condition.
    fn branch(&self, cond: Value, then_label: Label, else_label: Label);
    /// As `branch` where the condition nearly always holds.
    fn branch_usually(&self, cond: Value, usual: Label, rare: Label) {
        self.branch(cond, usual, rare);
    }
    /// Ends the current block and the function.
    fn ret(&self, value: Option<Value>);
    /// Calls a function.
    fn call(&self, func: Func, args: &[Value]) -> Option<Value>;
    /// A function's address.
    fn address(&self, func: Func) -> Value;

    // Variables.

    /// A new variable, without a value.
    fn variable(&self, ty: Ty) -> Variable;
    /// Its value; any, if it has none.
    fn get(&self, variable: Variable) -> Value;
    /// Sets it.
    fn set(&self, variable: Variable, value: Value);

    // Memory.

    /// Memory on the function's stack, for as long as the function runs.
    fn stack(&self, bytes: usize, align: usize) -> Value;
    /// `pointer + index * size` bytes.
    fn element(&self, pointer: Value, index: Value, size_bytes: usize) -> Value;
    /// A value from consecutive elements; not conditions. Elements are aligned to their size.
    fn load(&self, ty: Ty, pointer: Value) -> Value;
    /// A value to consecutive elements; not conditions. Elements are aligned to their size.
    fn store(&self, value: Value, pointer: Value);
    /// As `load` of a part of an object; whoever accesses that memory says which part it is, or calls a function.
    fn load_part(&self, ty: Ty, pointer: Value, _part: Part) -> Value {
        self.load(ty, pointer)
    }
    /// As `store` to a part of an object.
    fn store_part(&self, value: Value, pointer: Value, _part: Part) {
        self.store(value, pointer);
    }
    /// As `load` for the lanes of the mask, zero in others, whose memory is not touched.
    fn load_masked(&self, ty: Ty, pointer: Value, mask: Value) -> Value {
        let lanes = (0..ty.lanes).map(|lane| {
            let one = Ty::scalar(ty.lane);
            let at = self.element(pointer, self.int(Ty::I64, i64::from(lane)), ty.lane.size_bytes());
            self.load_if(one, at, self.extract(mask, lane))
        });
        self.pack(&lanes.collect::<Vec<_>>())
    }
    /// As `store` for the lanes of the mask; memory of others is not touched.
    fn store_masked(&self, value: Value, pointer: Value, mask: Value) {
        for lane in 0..value.ty.lanes {
            let at = self.element(pointer, self.int(Ty::I64, i64::from(lane)), value.ty.lane.size_bytes());
            self.store_if(self.extract(value, lane), at, self.extract(mask, lane));
        }
    }
    /// One element a lane from `pointer + offset * size of the lane`; as `load_masked` where there is a mask.
    fn gather(&self, ty: Ty, pointer: Value, offsets: Value, mask: Option<Value>) -> Value {
        let lanes = (0..ty.lanes).map(|lane| {
            let one = Ty::scalar(ty.lane);
            let at = self.element(pointer, self.extract(offsets, lane), ty.lane.size_bytes());
            match mask {
                Some(mask) => self.load_if(one, at, self.extract(mask, lane)),
                None => self.load(one, at),
            }
        });
        self.pack(&lanes.collect::<Vec<_>>())
    }
    /// A scalar load where the condition holds, else zero.
    fn load_if(&self, ty: Ty, pointer: Value, cond: Value) -> Value {
        let result = self.variable(ty);
        self.set(result, self.zero(ty));
        let (then_label, join) = (self.label(), self.label());
        self.branch(cond, then_label, join);
        self.place(then_label);
        self.set(result, self.load(ty, pointer));
        self.jump(join);
        self.place(join);
        self.get(result)
    }
    /// A scalar store where the condition holds.
    fn store_if(&self, value: Value, pointer: Value, cond: Value) {
        let (then_label, join) = (self.label(), self.label());
        self.branch(cond, then_label, join);
        self.place(then_label);
        self.store(value, pointer);
        self.jump(join);
        self.place(join);
    }
    /// Asks for a cache line; may do nothing.
    fn prefetch(&self, pointer: Value);

    // Values.

    /// An integer in every lane, truncated to the lane's width; also of conditions, and a null address.
    fn int(&self, ty: Ty, value: i64) -> Value;
    /// A float in every lane, rounded to the lane's type.
    fn float(&self, ty: Ty, value: f64) -> Value;
    /// All bits zero.
    fn zero(&self, ty: Ty) -> Value {
        if ty.lane.is_float() { self.float(ty, 0.0) } else { self.int(ty, 0) }
    }
    /// An instruction on two values.
    fn inst2(&self, inst: Inst2, a: Value, b: Value) -> Value;
    /// An instruction on one float.
    fn inst1(&self, inst: Inst1, a: Value) -> Value;
    /// `a * b + c`, rounded once if `has_fma`, else twice.
    fn fma(&self, a: Value, b: Value, c: Value) -> Value;
    /// A comparison; conditions.
    fn compare(&self, cmp: Cmp, a: Value, b: Value) -> Value;
    /// `cond ? a : b`; the condition is scalar or has the values' lanes.
    fn select(&self, cond: Value, a: Value, b: Value) -> Value;
    /// A conversion to as many lanes of another type.
    fn convert(&self, conv: Conv, a: Value, lane: Lane) -> Value;
    /// Whether any lane of a mask is set.
    fn any(&self, mask: Value) -> Value;
    /// A scalar in all lanes.
    fn splat(&self, a: Value, lanes: u16) -> Value;
    /// One lane.
    fn extract(&self, a: Value, lane: u16) -> Value;
    /// The lower or upper half of the lanes.
    fn half(&self, a: Value, is_upper: bool) -> Value;
    /// A vector of these scalars; one scalar is itself.
    fn pack(&self, lanes: &[Value]) -> Value;
}
