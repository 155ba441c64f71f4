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
//! int    foo_state_new(foo_model*, foo_state** out, aot_error*)  aot_rt_state_new(same)
//! int    foo_state_clone(const foo_state*, foo_state** out, aot_error*)   aot_rt_state_clone(same)
//! int    foo_state_reset(foo_state*, aot_error*)                 aot_rt_state_reset(same)
//! void   foo_state_free(foo_state*)                              aot_rt_state_free(same)
//! int    foo_manual_seed(foo_state*, uint64_t)                   aot_rt_manual_seed(same)
//! void   foo_set_threads(foo_model*, int32_t)                    aot_rt_set_threads(same)
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

use crate::abi::{Entry, Leaf, MAX_RANK, Status, Tag};
use crate::arena::{ALIGN, AllocFn, Allocator, FreeFn, Memory};
use crate::desc::{InputKind, ModelDesc, Tree};
use crate::entry::natural_align;
use crate::error::{Error, Result};
use crate::model::{Code, Env, Instance, LogFn, Model, Weights};
use crate::pool::HostParallelFor;
use crate::tensor::{Dtype, Tensor, describe, size_bytes};
use crate::value::Value;
use std::ffi::{CStr, c_char, c_void};
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
    /// Reserved, 0.
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
    let status = error.status as i32;
    if !err.is_null() {
        let text = error.to_string();
        let n = text.floor_char_boundary_at(247);
        let mut bytes = [0; 248];
        bytes[..n].copy_from_slice(&text.as_bytes()[..n]);
        // SAFETY: the host passed null or a place for an error.
        unsafe { err.write(AotError { code: status, op: 0, text: bytes }) };
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

/// `foo_open`: makes a model of what lies in the library. Checks the CPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_open(
    out: *mut *mut AotModel,
    metadata: *const u8,
    metadata_bytes: usize,
    weights: *const u8,
    entries: *const Entry,
    n_entries: usize,
    env: *const AotEnv,
    err: *mut AotError,
) -> i32 {
    let open = || {
        if out.is_null() {
            return Err(bad("out is null"));
        }
        // SAFETY: the library passes its own data and entries; the host its environment.
        unsafe {
            out.write(std::ptr::null_mut());
            let desc = ModelDesc::decode(host_slice(metadata, metadata_bytes, "metadata")?)?;
            check_cpu(&desc.cpu_features)?;
            if weights as usize % ALIGN != 0 {
                return Err(Error::new(Status::Alignment, "the weights are not aligned to 64 bytes"));
            }
            let code = host_slice(entries, n_entries, "entries")?.iter().map(|&entry| Code::Native(entry)).collect();
            let model = Model::open(desc, Weights::borrowed(weights), code, read_env(env)?, None)?;
            out.write(Box::into_raw(Box::new(AotModel(model))));
        }
        Ok(())
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, open) }
}

unsafe fn read_env(env: *const AotEnv) -> Result<Env> {
    // SAFETY: the host passes null or an environment.
    let Some(env) = (unsafe { env.as_ref() }) else { return Ok(Env::default()) };
    if (env.size as usize) < size_of::<AotEnv>() {
        return Err(Error::new(Status::Abi, format!("aot_env.size is {}, expected {}", env.size, size_of::<AotEnv>())));
    }
    let user = env.user as usize;
    let host = match (env.alloc, env.free) {
        (Some(alloc), Some(free)) => Some((alloc, free, user)),
        (None, None) => None,
        _ => return Err(bad("aot_env has one of alloc and free without the other")),
    };
    Ok(Env {
        allocator: Allocator { host },
        max_threads: usize::try_from(env.max_threads).unwrap_or(0),
        parallel_for: env.parallel_for.map(|f| (f, user)),
        log: env.log.map(|f| (f, user)),
    })
}

/// Fails with [`Status::Isa`] if the machine lacks one of these features, named as LLVM does.
fn check_cpu(features: &str) -> Result<()> {
    for feature in features.split(',').map(|f| f.trim_start_matches('+')).filter(|f| !f.is_empty()) {
        if !has_feature(feature) {
            let message = format!("this model was compiled for a processor with {feature}, which this one lacks");
            return Err(Error::new(Status::Isa, message));
        }
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn has_feature(feature: &str) -> bool {
    match feature {
        "sse3" => is_x86_feature_detected!("sse3"),
        "ssse3" => is_x86_feature_detected!("ssse3"),
        "sse4.1" => is_x86_feature_detected!("sse4.1"),
        "sse4.2" => is_x86_feature_detected!("sse4.2"),
        "popcnt" => is_x86_feature_detected!("popcnt"),
        "avx" => is_x86_feature_detected!("avx"),
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "f16c" => is_x86_feature_detected!("f16c"),
        "bmi" => is_x86_feature_detected!("bmi1"),
        "bmi2" => is_x86_feature_detected!("bmi2"),
        "lzcnt" => is_x86_feature_detected!("lzcnt"),
        "movbe" => is_x86_feature_detected!("movbe"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512cd" => is_x86_feature_detected!("avx512cd"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
        // Everything else is no instruction set that generated code uses without one of those above.
        _ => true,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has_feature(_feature: &str) -> bool {
    true
}

/// `foo_close`; null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_close(model: *mut AotModel) {
    if !model.is_null() {
        // SAFETY: made by `aot_rt_open`, and closed once.
        let model = unsafe { Box::from_raw(model) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(model)));
    }
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

/// `foo_call`: any method with values of any kind. `out` is overwritten; release it with `foo_value_release`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_call(
    model: *mut AotModel,
    state: *mut AotState,
    method: *const c_char,
    inputs: *const AotValue,
    n_inputs: usize,
    out: *mut AotValue,
    err: *mut AotError,
) -> i32 {
    let call = || {
        if method.is_null() || out.is_null() {
            return Err(bad("method or out is null"));
        }
        // SAFETY: the host passes a zero-terminated name and `n_inputs` values.
        unsafe {
            let method = CStr::from_ptr(method).to_str().map_err(|_| bad("method is not UTF-8"))?;
            let inputs = host_slice(inputs, n_inputs, "in")?;
            let args = inputs.iter().map(|value| read_value(value, 0)).collect::<Result<Vec<_>>>()?;
            let result = on_instance(model, state, |instance| instance.call(method, &args))?;
            out.write(write_value(&result, (*model).0.env().allocator)?);
        }
        Ok(())
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// `foo_forward`: a method whose arguments are tensors and whose results are tensors and numbers (given as tensors without
/// dimensions). A result with null `data` is allocated and flagged [`TENSOR_OWNED`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_method(
    model: *mut AotModel,
    method: u32,
    state: *mut AotState,
    inputs: *const AotTensor,
    n_inputs: usize,
    outputs: *mut AotTensor,
    n_outputs: usize,
    workspace: *mut c_void,
    workspace_bytes: usize,
    err: *mut AotError,
) -> i32 {
    let call = || {
        // SAFETY: the host passes arrays of these lengths.
        let inputs = unsafe { host_slice(inputs, n_inputs, "in") }?;
        // SAFETY: as above.
        unsafe { host_slice(outputs, n_outputs, "out") }?;
        let outputs = if n_outputs == 0 {
            &mut [][..]
        } else {
            // SAFETY: as above; checked not to be null.
            unsafe { std::slice::from_raw_parts_mut(outputs, n_outputs) }
        };
        // SAFETY: the model and the state are of this library.
        unsafe {
            on_instance(model, state, |instance| {
                if !workspace.is_null()
                    && (workspace_bytes < instance.workspace_bytes() || workspace as usize % ALIGN != 0)
                {
                    let bytes = instance.workspace_bytes();
                    return Err(bad(format!("workspace: expected {bytes} bytes aligned to 64, got {workspace_bytes}")));
                }
                let (mut ins, mut outs) = std::mem::take(&mut instance.scratch);
                let result = run_method(instance, method, inputs, outputs, workspace.cast(), &mut ins, &mut outs);
                instance.scratch = (ins, outs);
                result
            })
        }
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// Reads tensor arguments to leaves; where the method takes a number, the one element of a tensor without dimensions. Strided
/// ones are copied; the copies are returned with their argument's number. Without data only numbers are looked at, and those
/// may be missing, too.
fn read_inputs(
    instance: &Instance,
    method: u32,
    inputs: &[AotTensor],
    has_data: bool,
    leaves: &mut Vec<Leaf>,
) -> Result<Vec<(usize, Tensor, Tensor)>> {
    let method = instance.desc().methods.get(method as usize).ok_or_else(|| bad("no such method"))?;
    leaves.clear();
    // Which arguments are numbers is the same for every version of a method.
    let function = method.variants.first().and_then(|v| instance.desc().functions.get(v.function as usize));
    let kinds = function.map(|function| &function.inputs);
    let mut copies = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = || method.params.get(i).map_or_else(|| format!("{i}"), |(name, _)| name.clone());
        let wrong = |status, text: String| Error::new(status, format!("argument '{}': {text}", name()));
        let rank = usize::try_from(input.ndim).unwrap_or(usize::MAX);
        if rank > MAX_RANK {
            return Err(wrong(Status::Shape, format!("{} dimensions", input.ndim)));
        }
        // SAFETY: the host passes `ndim` extents.
        let sizes = unsafe { host_slice(input.sizes, rank, "sizes") }.map_err(|e| wrong(e.status, e.message))?;
        let dtype = Dtype(input.dtype);
        let bytes = size_bytes(dtype, sizes).map_err(|e| wrong(e.status, e.message))?;
        let kind = kinds.and_then(|inputs| Some(&inputs.get(i)?.kind));
        if rank == 0
            && let Some(leaf) = kind.and_then(|kind| number(kind, dtype, input.data, has_data))
        {
            leaves.push(leaf);
            continue;
        }
        let input = if has_data {
            *input
        } else {
            AotTensor { data: ALIGN as *mut c_void, strides: std::ptr::null(), ..*input }
        };
        if input.data.is_null() && bytes > 0 {
            return Err(wrong(Status::Argument, "null data pointer".into()));
        }
        if input.data as usize % natural_align(dtype) != 0 {
            return Err(wrong(Status::Alignment, format!("data is not aligned to {} bytes", natural_align(dtype))));
        }
        let mut data = input.data.cast();
        if !input.strides.is_null() {
            // SAFETY: the host passes `ndim` strides.
            let strides =
                unsafe { host_slice(input.strides, rank, "strides") }.map_err(|e| wrong(e.status, e.message))?;
            if !crate::tensor::is_row_major(sizes, strides) {
                // SAFETY: the host's tensor lives during the call.
                let original = unsafe { Tensor::borrowed(dtype, sizes, Some(strides), data) };
                let copy = original.to_owned_tensor()?;
                data = copy.data();
                copies.push((i, original, copy));
            }
        } else if input.size_bytes != 0 && input.size_bytes < bytes {
            return Err(wrong(Status::Shape, format!("expected {bytes} bytes, got {}", input.size_bytes)));
        }
        leaves.push(Leaf::tensor(dtype, sizes, data));
    }
    Ok(copies)
}

/// The number in a tensor without dimensions, for an argument that is one; `None` if the argument or the tensor is of another
/// kind. A number that is not there is the one that the method was compiled for, or zero.
fn number(kind: &InputKind, dtype: Dtype, data: *const c_void, has_data: bool) -> Option<Leaf> {
    let scalar = |tag: Tag, bits: u64| Leaf { tag: tag as i64, bits, ..Leaf::NONE };
    let is_there = has_data || !data.is_null();
    let is_readable = !data.is_null() && data as usize % natural_align(dtype) == 0;
    if is_there && !is_readable {
        return None;
    }
    match (kind, dtype) {
        (InputKind::Int { only }, Dtype::I64) => {
            // SAFETY: the host's tensor has one element of this type; the pointer is not null and aligned.
            let value = if is_there { unsafe { *data.cast::<i64>() } } else { only.unwrap_or(0) };
            Some(scalar(Tag::Int, value as u64))
        }
        (InputKind::Float { only }, Dtype::F64) => {
            // SAFETY: as above.
            let value = if is_there { unsafe { *data.cast::<f64>() } } else { only.unwrap_or(0.0) };
            Some(scalar(Tag::Float, value.to_bits()))
        }
        (InputKind::Bool { only }, Dtype::BOOL) => {
            // SAFETY: as above.
            let value = if is_there { unsafe { *data.cast::<u8>() != 0 } } else { only.unwrap_or(false) };
            Some(scalar(Tag::Bool, u64::from(value)))
        }
        _ => None,
    }
}

fn run_method(
    instance: &mut Instance,
    method: u32,
    inputs: &[AotTensor],
    outputs: &mut [AotTensor],
    workspace: *mut u8,
    ins: &mut Vec<Leaf>,
    outs: &mut Vec<Leaf>,
) -> Result<()> {
    let copies = read_inputs(instance, method, inputs, true, ins)?;
    let (function, n_outputs) = instance.choose(method as usize, ins)?;
    if outputs.len() != n_outputs {
        return Err(bad(format!("expected room for {n_outputs} result(s), got {}", outputs.len())));
    }
    let allocator = instance.env().allocator;
    outs.clear();
    for (k, output) in outputs.iter_mut().enumerate() {
        let mut leaf = Leaf::NONE;
        let mut sizes = [0; MAX_RANK];
        if let Some(Some(expected)) = instance.desc().functions[function].outputs.get(k)
            && instance.bindings().sizes(expected, &mut sizes)
        {
            let sizes = &sizes[..expected.dims.len()];
            let data = place_output(output, k, expected.dtype, sizes, allocator)?;
            leaf = Leaf::tensor(expected.dtype, sizes, data);
        }
        outs.push(leaf);
    }
    let ran = instance.run(function, ins.as_ptr(), outs.as_mut_ptr(), workspace);
    let description = &instance.desc().functions[function];
    let done = ran.and_then(|tree| {
        let tree = description.results.get(tree).ok_or_else(|| bad("unknown result"))?;
        if tree.n_result_leaves() != outputs.len() {
            let message = format!("this call has {} result(s), not {}", tree.n_result_leaves(), outputs.len());
            return Err(bad(message));
        }
        if has_objects(tree) {
            return Err(bad("this call has results other than tensors and numbers; use the call function with values"));
        }
        outputs.iter_mut().zip(outs.iter()).enumerate().try_for_each(|(k, (output, leaf))| {
            let (dtype, bits) = match leaf.kind() {
                Tag::Tensor => (leaf.element_type(), leaf.bits as *const u8),
                Tag::Int => (Dtype::I64, (&raw const leaf.bits).cast()),
                Tag::Float => (Dtype::F64, (&raw const leaf.bits).cast()),
                Tag::Bool => (Dtype::BOOL, (&raw const leaf.bits).cast()),
                Tag::None | Tag::Object | Tag::Text => return Err(bad("a result is neither tensor nor number")),
            };
            if bits == output.data.cast_const().cast() && !bits.is_null() {
                return Ok(());
            }
            let data = place_output(output, k, dtype, leaf.dims(), allocator)?;
            // SAFETY: the leaf describes a row-major tensor of this size; `place_output` checked the room.
            unsafe { data.copy_from(bits, size_bytes(dtype, leaf.dims())?) };
            Ok(())
        })
    });
    if done.is_err() {
        for output in outputs.iter_mut().filter(|output| output.flags & TENSOR_OWNED != 0) {
            // SAFETY: flagged tensors were made by `place_output`.
            unsafe { aot_rt_tensor_release(output) };
        }
    }
    done?;
    for (i, original, copy) in &copies {
        if matches!(description.inputs[*i].kind, InputKind::Tensor { is_mutated: true, .. }) {
            original.write_from(copy.data());
        }
    }
    Ok(())
}

fn has_objects(tree: &Tree) -> bool {
    match tree {
        Tree::Object => true,
        Tree::None | Tree::Tensor | Tree::Int | Tree::Float | Tree::Bool | Tree::Complex | Tree::Str(_) => false,
        Tree::Tuple(items) | Tree::List(items) => items.iter().any(has_objects),
        Tree::NamedTuple(_, fields) => fields.iter().any(|(_, tree)| has_objects(tree)),
        Tree::Dict(entries) => entries.iter().any(|(k, v)| has_objects(k) || has_objects(v)),
    }
}

/// Makes the memory of a result ready: checks the host's, or allocates. Fills in what the host asked to know.
fn place_output(
    output: &mut AotTensor,
    k: usize,
    dtype: Dtype,
    sizes: &[i64],
    allocator: Allocator,
) -> Result<*mut u8> {
    let bytes = size_bytes(dtype, sizes)?;
    if output.data.is_null() || output.flags & TENSOR_OWNED != 0 {
        if !output.data.is_null() {
            // SAFETY: flagged tensors were made below.
            unsafe { aot_rt_tensor_release(output) };
        }
        *output = owned_tensor(dtype, sizes, allocator)?;
        return Ok(output.data.cast());
    }
    if output.size_bytes < bytes {
        let message = format!("result {k}: {} needs {bytes} bytes, got {}", describe(dtype, sizes), output.size_bytes);
        return Err(Error::new(Status::Shape, message));
    }
    if output.data as usize % natural_align(dtype) != 0 {
        let message = format!("result {k}: data is not aligned to {} bytes", natural_align(dtype));
        return Err(Error::new(Status::Alignment, message));
    }
    if !output.sizes.is_null() {
        let rank = usize::try_from(output.ndim).unwrap_or(0);
        // SAFETY: the host passes `ndim` extents.
        let expected = unsafe { host_slice(output.sizes, rank, "sizes") }?;
        if expected != sizes || Dtype(output.dtype) != dtype {
            let got = describe(Dtype(output.dtype), expected);
            return Err(Error::new(Status::Shape, format!("result {k} is {}, not {got}", describe(dtype, sizes))));
        }
    }
    output.ndim = sizes.len() as i32;
    output.dtype = dtype.0;
    Ok(output.data.cast())
}

/// What lies in front of an owned tensor's elements.
#[repr(C, align(64))]
struct OwnedHeader(Memory);

/// A tensor with memory of its own: header, elements, extents in one block.
fn owned_tensor(dtype: Dtype, sizes: &[i64], allocator: Allocator) -> Result<AotTensor> {
    let bytes = size_bytes(dtype, sizes)?;
    let sizes_at = size_of::<OwnedHeader>() + bytes.next_multiple_of(8);
    let memory = Memory::allocate(sizes_at + size_of_val(sizes), allocator)?;
    let block = memory.as_ptr();
    // SAFETY: the block has room for header, elements and extents, and is aligned to 64 bytes.
    unsafe {
        let extents = block.add(sizes_at).cast::<i64>();
        extents.copy_from_nonoverlapping(sizes.as_ptr(), sizes.len());
        block.cast::<OwnedHeader>().write(OwnedHeader(memory));
        Ok(AotTensor {
            data: block.add(size_of::<OwnedHeader>()).cast(),
            sizes: extents,
            strides: std::ptr::null(),
            ndim: sizes.len() as i32,
            dtype: dtype.0,
            flags: TENSOR_OWNED,
            reserved: 0,
            size_bytes: bytes,
        })
    }
}

/// `foo_tensor_release`: frees a tensor of the library; others are left alone. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_tensor_release(tensor: *mut AotTensor) {
    // SAFETY: null or a tensor of the host's.
    let Some(tensor) = (unsafe { tensor.as_mut() }) else { return };
    if tensor.flags & TENSOR_OWNED == 0 || tensor.data.is_null() {
        return;
    }
    // SAFETY: owned tensors have a header in front of their elements; it is read out once and dropped.
    drop(unsafe { tensor.data.cast::<OwnedHeader>().sub(1).read() });
    tensor.data = std::ptr::null_mut();
    tensor.sizes = std::ptr::null();
    tensor.flags = 0;
    tensor.size_bytes = 0;
}

/// `foo_forward_shapes`: dtype, rank, sizes and bytes of each result for these arguments (their data may be null). The
/// extents are written to `dims` one result after another and pointed at by `out[i].sizes`. A result whose size only the
/// computation tells has `ndim` -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_shapes(
    model: *mut AotModel,
    method: u32,
    state: *mut AotState,
    inputs: *const AotTensor,
    n_inputs: usize,
    outputs: *mut AotTensor,
    n_outputs: usize,
    dims: *mut i64,
    n_dims: usize,
    err: *mut AotError,
) -> i32 {
    let call = || {
        // SAFETY: the host passes arrays of these lengths.
        let inputs = unsafe { host_slice(inputs, n_inputs, "in") }?;
        // SAFETY: as above.
        unsafe {
            host_slice(outputs, n_outputs, "out")?;
            host_slice(dims, n_dims, "dims")?;
        }
        let mut n_used = 0;
        let shapes = |instance: &mut Instance| {
            let mut leaves = Vec::new();
            read_inputs(instance, method, inputs, false, &mut leaves)?;
            let (function, n_results) = instance.choose(method as usize, &leaves)?;
            if n_results != n_outputs {
                return Err(bad(format!("expected room for {n_results} result(s), got {n_outputs}")));
            }
            for k in 0..n_outputs {
                let mut sizes = [0; MAX_RANK];
                let mut shape = AotTensor {
                    data: std::ptr::null_mut(),
                    sizes: std::ptr::null(),
                    strides: std::ptr::null(),
                    ndim: -1,
                    dtype: 0,
                    flags: 0,
                    reserved: 0,
                    size_bytes: 0,
                };
                if let Some(Some(tensor)) = instance.desc().functions[function].outputs.get(k)
                    && instance.bindings().sizes(tensor, &mut sizes)
                {
                    let sizes = &sizes[..tensor.dims.len()];
                    if n_used + sizes.len() > n_dims {
                        return Err(bad(format!("dims: {n_dims} are too few")));
                    }
                    shape.ndim = sizes.len() as i32;
                    shape.dtype = tensor.dtype.0;
                    shape.size_bytes = size_bytes(tensor.dtype, sizes)?;
                    if !sizes.is_empty() {
                        // SAFETY: there is room, as just checked.
                        unsafe {
                            shape.sizes = dims.add(n_used);
                            dims.add(n_used).copy_from_nonoverlapping(sizes.as_ptr(), sizes.len());
                        }
                    }
                    n_used += sizes.len();
                }
                // SAFETY: `outputs` has `n_outputs` elements.
                unsafe { outputs.add(k).write(shape) };
            }
            Ok(())
        };
        // SAFETY: the model and the state are of this library.
        unsafe { on_instance(model, state, shapes) }
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, call) }
}

/// `foo_forward_workspace`: bytes, aligned to 64, that a call of the method may be given; 0 for a null model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_workspace(model: *const AotModel, _method: u32) -> usize {
    // SAFETY: null or of this library.
    unsafe { model.as_ref() }
        .map_or(0, |model| model.0.desc().functions.iter().map(|f| f.arena_bytes as usize).max().unwrap_or(0))
}

/// `foo_state_new`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_state_new(model: *mut AotModel, out: *mut *mut AotState, err: *mut AotError) -> i32 {
    let make = || {
        if out.is_null() {
            return Err(bad("out is null"));
        }
        // SAFETY: the model is of this library; `out` is a place for a pointer.
        unsafe {
            let instance = host_ref(model, "model")?.0.instance()?;
            out.write(Box::into_raw(Box::new(AotState(Mutex::new(instance)))));
        }
        Ok(())
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, make) }
}

/// `foo_state_clone`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_state_clone(
    state: *const AotState,
    out: *mut *mut AotState,
    err: *mut AotError,
) -> i32 {
    let make = || {
        if out.is_null() {
            return Err(bad("out is null"));
        }
        // SAFETY: the state is of this library; `out` is a place for a pointer.
        unsafe {
            let state = host_ref(state, "state")?;
            let copy = state.0.try_lock().map_err(|_| bad("the state is in use by another call"))?.try_clone()?;
            out.write(Box::into_raw(Box::new(AotState(Mutex::new(copy)))));
        }
        Ok(())
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, make) }
}

/// `foo_state_reset`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_state_reset(state: *mut AotState, err: *mut AotError) -> i32 {
    let reset = || {
        // SAFETY: the state is of this library.
        let state = unsafe { host_ref(state, "state") }?;
        state.0.try_lock().map_err(|_| bad("the state is in use by another call"))?.reset()
    };
    // SAFETY: `err` is the host's.
    unsafe { guard(err, reset) }
}

/// `foo_state_free`; null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_state_free(state: *mut AotState) {
    if !state.is_null() {
        // SAFETY: made by this library, and freed once.
        let state = unsafe { Box::from_raw(state) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state)));
    }
}

/// `foo_manual_seed`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_manual_seed(state: *mut AotState, seed: u64) -> i32 {
    let set = || {
        // SAFETY: the state is of this library.
        let state = unsafe { host_ref(state, "state") }?;
        state.0.try_lock().map_err(|_| bad("the state is in use by another call"))?.manual_seed(seed);
        Ok(())
    };
    // SAFETY: no error place.
    unsafe { guard(std::ptr::null_mut(), set) }
}

/// `foo_set_threads`; 0: as many as the machine has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_set_threads(model: *mut AotModel, n_threads: i32) {
    // SAFETY: null or of this library.
    if let Some(model) = unsafe { model.as_ref() } {
        model.0.set_threads(usize::try_from(n_threads).unwrap_or(0));
    }
}

/// Values of the host nest no deeper than this.
const MAX_DEPTH: usize = 64;

unsafe fn read_value(value: &AotValue, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(bad("a value nests too deeply"));
    }
    // SAFETY: the host's value points at `n` items.
    let items = |n: usize| unsafe {
        let items = host_slice(value.bits[0] as *const AotValue, n, "items")?;
        items.iter().map(|item| read_value(item, depth + 1)).collect::<Result<Vec<_>>>()
    };
    Ok(match value.tag {
        0 => Value::None,
        1 => Value::Bool(value.bits[0] != 0),
        2 => Value::Int(value.bits[0] as i64),
        3 => Value::Float(f64::from_bits(value.bits[0])),
        4 => Value::Complex(f64::from_bits(value.bits[0]), f64::from_bits(value.bits[1])),
        5 => {
            // SAFETY: the host's string has `n` bytes.
            let bytes = unsafe { host_slice(value.bits[0] as *const u8, value.n, "string") }?;
            Value::Str(String::from_utf8(bytes.to_vec()).map_err(|_| bad("a string is not UTF-8"))?)
        }
        6 => {
            // SAFETY: the host's value points at a tensor.
            let tensor = unsafe { host_ref(value.bits[0] as *const AotTensor, "tensor") }?;
            let rank = usize::try_from(tensor.ndim).ok().filter(|&rank| rank <= MAX_RANK);
            let rank =
                rank.ok_or_else(|| Error::new(Status::Shape, format!("a tensor of {} dimensions", tensor.ndim)))?;
            // SAFETY: the host's tensor has `ndim` sizes, and strides where not null.
            unsafe {
                let sizes = host_slice(tensor.sizes, rank, "sizes")?;
                size_bytes(Dtype(tensor.dtype), sizes)?;
                let strides = match tensor.strides.is_null() {
                    true => None,
                    false => Some(host_slice(tensor.strides, rank, "strides")?),
                };
                Value::Tensor(Tensor::borrowed(Dtype(tensor.dtype), sizes, strides, tensor.data.cast()))
            }
        }
        7 => Value::List(items(value.n)?),
        // A named tuple is accepted by position.
        8 | 9 => Value::Tuple(items(value.n)?),
        10 => {
            let n = value.n.checked_mul(2).ok_or_else(|| bad("a dict has too many entries"))?;
            let mut flat = items(n)?.into_iter();
            Value::Dict(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
        }
        tag => return Err(bad(format!("unknown value tag {tag}"))),
    })
}

fn write_value(value: &Value, allocator: Allocator) -> Result<AotValue> {
    let none = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
    let owned = |tag, n, address: u64| AotValue { tag, flags: VALUE_OWNED, n, bits: [address, 0], ..none };
    let list = |tag, n, values: &mut dyn Iterator<Item = &Value>| {
        let mut items = Vec::new();
        for value in values {
            match write_value(value, allocator) {
                Ok(item) => items.push(item),
                Err(error) => {
                    // SAFETY: made just now.
                    items.iter_mut().for_each(|item| unsafe { aot_rt_value_release(item) });
                    return Err(error);
                }
            }
        }
        Ok(owned(tag, n, Box::into_raw(items.into_boxed_slice()).cast::<AotValue>() as u64))
    };
    Ok(match value {
        Value::None => none,
        Value::Bool(b) => AotValue { tag: 1, bits: [u64::from(*b), 0], ..none },
        Value::Int(i) => AotValue { tag: 2, bits: [*i as u64, 0], ..none },
        Value::Float(x) => AotValue { tag: 3, bits: [x.to_bits(), 0], ..none },
        Value::Complex(re, im) => AotValue { tag: 4, bits: [re.to_bits(), im.to_bits()], ..none },
        Value::Str(text) => owned(5, text.len(), c_text(text) as u64),
        Value::Tensor(tensor) => {
            let copy = owned_tensor(tensor.dtype, &tensor.sizes, allocator)?;
            // SAFETY: the copy has as many elements, row-major.
            unsafe { tensor.read_to(copy.data.cast()) };
            owned(6, 0, Box::into_raw(Box::new(copy)) as u64)
        }
        Value::List(items) => list(7, items.len(), &mut items.iter())?,
        Value::Tuple(items) => list(8, items.len(), &mut items.iter())?,
        Value::NamedTuple { name, fields } => {
            let mut result = list(9, fields.len(), &mut fields.iter().map(|(_, value)| value))?;
            let names = fields.iter().map(|(field, _)| field).chain([name]);
            let names: Box<[*const c_char]> = names.map(|name| c_text(name).cast_const()).collect();
            result.names = Box::into_raw(names).cast();
            result
        }
        Value::Dict(entries) => list(10, entries.len(), &mut entries.iter().flat_map(|(k, v)| [k, v]))?,
    })
}

/// A zero-terminated copy.
fn c_text(text: &str) -> *mut c_char {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Box::into_raw(bytes.into_boxed_slice()).cast()
}

/// Frees a text of [`c_text`] of this many bytes, the last zero not counted.
unsafe fn free_text(text: *mut c_char, len: usize) {
    // SAFETY: by the caller's promise a box of `len + 1` bytes.
    drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(text.cast::<u8>(), len + 1)) });
}

/// `foo_value_release`: frees a value of the library, with everything in it; others are left alone. Null is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_value_release(value: *mut AotValue) {
    // SAFETY: null or a value of the host's.
    let Some(value) = (unsafe { value.as_mut() }) else { return };
    if value.flags & VALUE_OWNED == 0 {
        return;
    }
    // SAFETY: owned values point at boxes that `write_value` made.
    unsafe {
        match value.tag {
            5 => free_text(value.bits[0] as *mut c_char, value.n),
            6 => {
                let mut tensor = Box::from_raw(value.bits[0] as *mut AotTensor);
                aot_rt_tensor_release(&raw mut *tensor);
            }
            7..=10 => {
                let n = if value.tag == 10 { 2 * value.n } else { value.n };
                let items = std::ptr::slice_from_raw_parts_mut(value.bits[0] as *mut AotValue, n);
                for item in &mut Box::from_raw(items) {
                    aot_rt_value_release(item);
                }
                if !value.names.is_null() {
                    let names = std::ptr::slice_from_raw_parts_mut(value.names.cast_mut(), value.n + 1);
                    for &name in &Box::from_raw(names) {
                        free_text(name.cast_mut(), CStr::from_ptr(name).to_bytes().len());
                    }
                }
            }
            _ => {}
        }
    }
    *value = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
}
