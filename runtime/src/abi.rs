//! What compiled code and the runtime agree on: `#[repr(C)]` structures, status codes and limits.
//!
//! A compiled function is `extern "C" fn(*mut Frame) -> i64`. A result of 0 or more is the number of the result tree whose
//! leaves it wrote to `outputs`; a negative one is a status code, with the message recorded through `aot_rt_raise`.

/// Version of everything in this file; a library and the runtime it carries always agree.
pub const ABI_VERSION: u32 = 3;

/// The most dimensions a tensor may have.
pub const MAX_RANK: usize = 16;

/// A function that the compiler made.
pub type Entry = unsafe extern "C" fn(*mut Frame) -> i64;

/// A task of a parallel loop: runs rounds `begin..end`; the context is the compiled code's own.
pub type Body = unsafe extern "C" fn(context: *mut u8, begin: i64, end: i64);

/// What a call of a compiled function works on. Everything lives at least as long as the call.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// The weights section, aligned to 64 bytes.
    pub weights: *const u8,
    /// Scratch memory of the function's arena size, aligned to 64 bytes.
    pub arena: *mut u8,
    /// Flattened arguments.
    pub inputs: *const Leaf,
    /// Flattened results. On entry, a leaf with a non-null pointer offers memory for that tensor result (class `Output`).
    pub outputs: *mut Leaf,
    /// Scalars of the instance's state.
    pub state: *mut u64,
    /// Growable memory of the instance; compiled code reads `data`, the runtime changes it.
    pub slots: *mut Slot,
    /// The runtime's own data for this call.
    pub runtime: *mut u8,
    /// What the model's prepare function wrote when the model was opened, aligned to 64 bytes; read only for all others.
    pub prepared: *mut u8,
}

/// What a leaf or an argument of a routine is.
#[repr(i64)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Tag {
    None = 0,
    Bool = 1,
    Int = 2,
    Float = 3,
    /// `bits` is a pointer to the first element of a row-major tensor; `dtype`, `rank` and `sizes` describe it.
    Tensor = 4,
    /// `bits` is a pointer to a counted object, or null.
    Object = 5,
    /// `bits` is a pointer to UTF-8 text, `sizes[0]` its length in bytes.
    Text = 6,
}

/// A scalar (as 64 bits: `i64`, `f64`, or a boolean as 0 and 1), an object, text or a row-major tensor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// A [`Tag`] as a number.
    pub tag: i64,
    /// The scalar's bits, or the address.
    pub bits: u64,
    /// PyTorch's code of a tensor's element type.
    pub dtype: i64,
    /// Number of dimensions of a tensor.
    pub rank: i64,
    /// Extents of a tensor.
    pub sizes: [i64; MAX_RANK],
}

/// Memory that grows when asked for more and is kept from call to call.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    /// Aligned to 64 bytes; null if nothing was asked for yet.
    pub data: *mut u8,
    /// Bytes that can be used.
    pub capacity_bytes: usize,
}

/// Status codes; the C header prints them.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Status {
    Ok = 0,
    Argument = -1,
    Shape = -2,
    Dtype = -3,
    Alignment = -4,
    Memory = -5,
    Isa = -6,
    Abi = -7,
    /// The model raised an exception.
    Raised = -8,
    /// The same for an `IndexError`.
    Index = -9,
    Cancelled = -10,
    Internal = -11,
    Unsupported = -12,
}
