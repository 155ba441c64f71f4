//! The C interface that a library's prefixed symbols forward to.
//!
//! For a library `foo` the compiler makes, in terms of the functions here (`M` is the number of a method, `META`, `LEN`,
//! `WEIGHTS`, `ENTRIES`, `N` belong to the library):
//!
//! ```text
//! int    foo_open(foo_model** out, const aot_env*, aot_error*)   aot_rt_open(out, META, LEN, WEIGHTS, ENTRIES, N, env, err)
//! void   foo_close(foo_model*)                                   aot_rt_close(model)
//! int    foo_call(foo_model*, foo_state*, const char* method, const aot_value* in, size_t n_in, aot_value* out, aot_error*)
//!                                                                aot_rt_call(same)
//! int    foo_forward(foo_model*, foo_state*, const aot_tensor* in, size_t n_in, aot_tensor* out, size_t n_out,
//!                    void* ws, size_t ws_bytes, aot_error*)      aot_rt_method(model, M, the rest)
//! int    foo_forward_shapes(foo_model*, foo_state*, const aot_tensor* in, size_t n_in, aot_tensor* out, size_t n_out,
//!                    int64_t* dims, size_t n_dims, aot_error*)   aot_rt_shapes(model, M, the rest)
//! size_t foo_forward_workspace(const foo_model*)                 aot_rt_workspace(model, M)
//! int    foo_forward_raw(foo_model*, foo_state*, const float* x, ..., float* y, ..., void* ws)
//!                                                                aot_rt_raw(model, M, state, addresses, n, addresses, n, ws)
//! int    foo_state_new(foo_model*, foo_state** out, aot_error*)  aot_rt_state_new(same)
//! int    foo_state_clone(const foo_state*, foo_state** out, aot_error*)   aot_rt_state_clone(same)
//! int    foo_state_reset(foo_state*, aot_error*)                 aot_rt_state_reset(same)
//! void   foo_state_free(foo_state*)                              aot_rt_state_free(same)
//! int    foo_manual_seed(foo_state*, uint64_t)                   aot_rt_manual_seed(same)
//! void   foo_set_threads(foo_model*, int32_t)                    aot_rt_set_threads(same)
//! void   foo_set_log(foo_model*, void (*log)(void* user, int level, const char* text), void* user)
//!                                                                aot_rt_set_log(same)
//! const aot_exception* foo_last_exception(void)                  aot_rt_last_exception()
//! void   foo_tensor_release(aot_tensor*)                         aot_rt_tensor_release(same)
//! void   foo_value_release(aot_value*)                           aot_rt_value_release(same)
//! ```
//!
//! `state` may be null: then a call uses an instance of the model's own. Every entry checks its pointers, catches panics and
//! returns 0 or a negative status; `err` may be null.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of the C interface is in the module's header and the structures"
)]
mod exception;
mod method;
mod open;
mod raw;
mod state;
mod tensor;
mod values;

pub use exception::{AotException, aot_rt_last_exception};
pub use method::{aot_rt_method, aot_rt_shapes, aot_rt_workspace};
pub use open::{aot_rt_close, aot_rt_open, aot_rt_set_log, aot_rt_set_threads};
pub use raw::aot_rt_raw;
pub use state::{aot_rt_manual_seed, aot_rt_state_clone, aot_rt_state_free, aot_rt_state_new, aot_rt_state_reset};
pub use tensor::aot_rt_tensor_release;
pub use values::{aot_rt_call, aot_rt_value_release};

use crate::abi::Status;
use crate::arena::{AllocFn, FreeFn};
use crate::error::{Error, Result};
use crate::log::LogFn;
use crate::model::{Instance, Model};
use crate::pool::HostParallelFor;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// `AOT_TENSOR_OWNED`: the library allocated the tensor; release it with `foo_tensor_release`.
pub const TENSOR_OWNED: u8 = 1;
/// `AOT_VALUE_OWNED`: the library allocated what the value points at; release it with `foo_value_release`.
pub const VALUE_OWNED: i32 = 1;

/// `aot_tensor`: a tensor of the host or the library.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AotTensor {
    /// First element; aligned to its size, at most 8.
    pub data: *mut c_void,
    /// `ndim` extents. On results with memory of the host's: null, or the extents it expects, which are checked.
    pub sizes: *const i64,
    /// In elements; null: row-major.
    pub strides: *const i64,
    /// Number of dimensions.
    pub ndim: i32,
    /// `PyTorch`'s code of the element type.
    pub dtype: u8,
    /// [`TENSOR_OWNED`] or 0.
    pub flags: u8,
    /// 0.
    pub reserved: u16,
    /// Bytes at `data`; on arguments 0 for "as many as needed".
    pub size_bytes: usize,
}

/// `aot_value`: a value of any kind. The header spells `bits` as a union:
/// `int64_t i; double f[2] (float, complex); const char* text; aot_tensor* tensor; aot_value* items;`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AotValue {
    /// 0 none, 1 bool, 2 int, 3 float, 4 complex, 5 string, 6 tensor, 7 list, 8 tuple, 9 named tuple, 10 dict.
    pub tag: i32,
    /// [`VALUE_OWNED`] or 0.
    pub flags: i32,
    /// Bytes of a string, elements of a list or tuple, entries of a dict (whose `items` are key, value, key, value, ...).
    pub n: usize,
    /// The number, or the pointer in the first word.
    pub bits: [u64; 2],
    /// Named tuple: `n` field names, then the class name, zero-terminated; else null.
    pub names: *const *const c_char,
}

/// `aot_env`: what the host gives the library; all optional.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "see the header's text in the C ABI")]
pub struct AotEnv {
    /// Size of the structure the host knows, so that it can grow.
    pub size: u32,
    pub max_threads: i32,
    pub user: *mut c_void,
    pub parallel_for: Option<HostParallelFor>,
    pub alloc: Option<AllocFn>,
    pub free: Option<FreeFn>,
    pub log: Option<LogFn>,
}

/// `aot_error`: why a call failed.
#[repr(C)]
#[derive(Debug)]
pub struct AotError {
    /// The status that was returned.
    pub code: i32,
    /// The number of the operator that failed in the model's table; -1: unknown.
    pub op: i32,
    /// Zero-terminated UTF-8, cut where too long.
    pub text: [u8; 248],
}

/// `foo_model`
#[derive(Debug)]
pub struct AotModel(Model);

/// `foo_state`: used by one call at a time.
#[derive(Debug)]
pub struct AotState(Mutex<Instance>);

const _: () = assert!(size_of::<AotTensor>() == 40 && size_of::<AotValue>() == 40 && size_of::<AotError>() == 256);

/// Runs an entry's body, turning errors and panics into a status and a filled `err`.
unsafe fn guard(err: *mut AotError, body: impl FnOnce() -> Result<()>) -> i32 {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(_) => Error::new(Status::Internal, "internal error in the runtime"),
    };
    exception::keep(&error);
    let status = error.status as i32;
    let op = error.operator.and_then(|op| i32::try_from(op).ok()).unwrap_or(-1);
    if !err.is_null() {
        let text = error.to_string();
        let n = text.floor_char_boundary_at(247);
        let mut bytes = [0; 248];
        bytes[..n].copy_from_slice(&text.as_bytes()[..n]);
        // SAFETY: the host passed null or a place for an error.
        unsafe { err.write(AotError { code: status, op, text: bytes }) };
    }
    status
}

trait CutText {
    fn floor_char_boundary_at(&self, most: usize) -> usize;
}

impl CutText for str {
    /// The greatest character boundary not above `most`.
    fn floor_char_boundary_at(&self, most: usize) -> usize {
        (0..=most.min(self.len())).rev().find(|&n| self.is_char_boundary(n)).unwrap_or(0)
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Status::Argument, message)
}

unsafe fn host_slice<'a, T>(data: *const T, n: usize, what: &str) -> Result<&'a [T]> {
    if n == 0 {
        return Ok(&[]);
    }
    if data.is_null() || !data.is_aligned() {
        return Err(bad(format!("{what}: null or misaligned pointer")));
    }
    // SAFETY: the host passed an array of `n`.
    Ok(unsafe { std::slice::from_raw_parts(data, n) })
}

unsafe fn host_ref<'a, T>(data: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: the host passed null or a pointer that this library made.
    unsafe { data.as_ref() }.ok_or_else(|| bad(format!("{what} is null")))
}

/// Runs something on the given state, or on an instance of the model's own.
unsafe fn on_instance<T>(
    model: *const AotModel,
    state: *const AotState,
    run: impl FnOnce(&mut Instance) -> Result<T>,
) -> Result<T> {
    // SAFETY: the host passes what this library made.
    let model = unsafe { host_ref(model, "model") }?;
    // SAFETY: as above, or null.
    match unsafe { state.as_ref() } {
        None => model.0.with_instance(run),
        Some(state) => {
            let mut instance = state.0.try_lock().map_err(|_| bad("the state is in use by another call"))?;
            run(&mut instance)
        }
    }
}
