//! Compiled libraries, loaded and called through their C interface.
//!
//! ```no_run
//! use aot_runtime::{Tensor, Value};
//! let library = aot::Library::load("libmodel.so".as_ref())?;
//! let x = Tensor::from_f32(&[1, 4], &[1.0, 2.0, 3.0, 4.0]).unwrap();
//! let y = library.call("forward", &[Value::Tensor(x)])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "calls foreign code through the C interface that the library's header states")]

use crate::diag::{Diagnostic, Result as DiagResult};
use aot_runtime::abi::{ABI_VERSION, Status};
use aot_runtime::capi::{AotEnv, AotError, AotException, AotTensor, AotValue};
use aot_runtime::log::{Level, LogFn, Printer, Sink};
use aot_runtime::{Dtype, Error, Tensor, Value};
use object::{Object as _, ObjectSymbol as _};
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

type Result<T> = std::result::Result<T, Error>;
/// A method's own function (`foo_forward`).
type TensorFn = unsafe extern "C" fn(
    *mut c_void,
    *mut c_void,
    *const AotTensor,
    usize,
    *mut AotTensor,
    usize,
    *mut c_void,
    usize,
    *mut AotError,
) -> i32;

/// `aot_api` of the header.
#[repr(C)]
struct Api {
    size: usize,
    info: unsafe extern "C" fn() -> *const ModelInfo,
    open: unsafe extern "C" fn(*mut *mut c_void, *const AotEnv, *mut AotError) -> i32,
    close: unsafe extern "C" fn(*mut c_void),
    call: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *const c_char,
        *const AotValue,
        usize,
        *mut AotValue,
        *mut AotError,
    ) -> i32,
    state_new: unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut AotError) -> i32,
    state_clone: unsafe extern "C" fn(*const c_void, *mut *mut c_void, *mut AotError) -> i32,
    state_reset: unsafe extern "C" fn(*mut c_void, *mut AotError) -> i32,
    state_free: unsafe extern "C" fn(*mut c_void),
    manual_seed: unsafe extern "C" fn(*mut c_void, u64) -> i32,
    set_threads: unsafe extern "C" fn(*mut c_void, i32),
    tensor_release: unsafe extern "C" fn(*mut AotTensor),
    value_release: unsafe extern "C" fn(*mut AotValue),
    set_log: unsafe extern "C" fn(*mut c_void, Option<LogFn>, *mut c_void),
    last_exception: unsafe extern "C" fn() -> *const AotException,
}

/// `aot_model_info` of the header.
#[repr(C)]
struct ModelInfo {
    abi_version: u32,
    n_methods: u32,
    name: *const c_char,
    compiler: *const c_char,
    model_hash: *const c_char,
    cpu_features: *const c_char,
    flags: *const c_char,
    methods: *const MethodInfo,
    n_operators: u32,
    operators: *const OperatorInfo,
    weights_bytes: u64,
    prepared_bytes: u64,
    prepared: *const c_char,
}

/// `aot_method_info` of the header.
#[repr(C)]
struct MethodInfo {
    name: *const c_char,
    signature: *const c_char,
    n_signatures: u32,
    signatures: *const c_void,
}

/// `aot_operator_info` of the header.
#[repr(C)]
struct OperatorInfo {
    name: *const c_char,
    file: *const c_char,
    line: u32,
    column: u32,
}

/// What a library says of itself.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Prefix of its symbols.
    pub name: String,
    /// Who made it.
    pub compiler: String,
    /// Hash of the archive.
    pub model_hash: String,
    /// CPU features it needs.
    pub cpu_features: String,
    /// What the compiler was told.
    pub flags: String,
    /// Operators with their places: `aten::relu net.py:42:8`.
    pub operators: Vec<String>,
    /// Methods with their signatures, a line each.
    pub methods: Vec<(String, String)>,
    /// Bytes of its weights.
    pub weights_bytes: u64,
    /// Bytes of other forms of weights that are computed when it is opened.
    pub prepared_bytes: u64,
    /// Those forms: bytes and name.
    pub prepared: Vec<(u64, String)>,
}

/// `147456 name`
fn of_line(line: &str) -> Option<(u64, String)> {
    let (bytes, name) = line.split_once(' ')?;
    Some((bytes.parse().ok()?, name.into()))
}

struct Loaded {
    model: *mut c_void,
    api: *const Api,
    name: String,
    /// Every closure that was given to take output: a call may still use an earlier one.
    printers: Mutex<Vec<Arc<Printer>>>,
    /// Unloaded last.
    library: libloading::Library,
}

// SAFETY: the interface says that any number of threads may use a model.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    fn api(&self) -> &Api {
        // SAFETY: the table is constant data of the library, which is loaded as long as `self` lives.
        unsafe { &*self.api }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the model was opened by this library, and instances keep `Loaded` alive.
        unsafe { (self.api().close)(self.model) };
    }
}

/// A loaded library. Clones share it.
#[derive(Clone)]
pub struct Library {
    loaded: Arc<Loaded>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("name", &self.loaded.name).finish_non_exhaustive()
    }
}

impl Library {
    /// Loads a `.so` that `aot build` made. **This runs code from the file.**
    ///
    /// # Errors
    /// User errors where the file cannot be loaded, is no compiled model, or needs another processor.
    pub fn load(path: &Path) -> DiagResult<Self> {
        let cannot = |what: &dyn std::fmt::Display| Diagnostic::user(format!("cannot load {}: {what}", path.display()));
        let file = std::fs::File::open(path).map_err(|e| cannot(&e))?;
        // SAFETY: the file is about to be mapped by the loader on the same terms: nobody changes a library in use.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| cannot(&e))?;
        let name = model_name(&bytes).ok_or_else(|| {
            cannot(&"it is not a compiled model").help("give a shared library that `aot build` wrote")
        })?;
        drop(bytes);
        // A name without a slash would be looked for in the system's folders.
        let full = path.canonicalize().map_err(|e| cannot(&e))?;
        // SAFETY: the user asked to run this library; compiled models have no constructors.
        let library = unsafe { libloading::Library::new(&full) }.map_err(|e| cannot(&e))?;
        let symbol = format!("{name}_api");
        // SAFETY: this is the type of the function in the header.
        let api = unsafe {
            let get = library.get::<unsafe extern "C" fn() -> *const Api>(symbol.as_bytes()).map_err(|e| cannot(&e))?;
            get()
        };
        // SAFETY: null or the library's table.
        let table = unsafe { api.as_ref() }.filter(|api| api.size >= size_of::<Api>());
        let table = table.ok_or_else(|| cannot(&"its interface is of another version"))?;
        // SAFETY: the version is the first field, whatever the others are.
        let version = unsafe { (table.info)().cast::<u32>().as_ref() };
        if version != Some(&ABI_VERSION) {
            return Err(cannot(&"it was built by another version of aot"));
        }
        let mut model = std::ptr::null_mut();
        let mut error = no_error();
        // SAFETY: `model` and `error` are places of the right types.
        let status = unsafe { (table.open)(&raw mut model, std::ptr::null(), &raw mut error) };
        if status != 0 {
            return Err(cannot(&read_error(table, status, &error)));
        }
        Ok(Self { loaded: Arc::new(Loaded { model, api, name, printers: Mutex::default(), library }) })
    }

    /// What the library says of itself.
    pub fn info(&self) -> Info {
        // SAFETY: the function has no conditions; texts are zero-terminated constants of the library, or null.
        unsafe {
            let Some(info) = (self.loaded.api().info)().as_ref() else { return Info::default() };
            let methods = match info.n_methods as usize {
                0 => &[][..],
                n => std::slice::from_raw_parts(info.methods, n),
            };
            let operators = match info.n_operators as usize {
                0 => &[][..],
                n => std::slice::from_raw_parts(info.operators, n),
            };
            Info {
                name: text(info.name),
                compiler: text(info.compiler),
                model_hash: text(info.model_hash),
                cpu_features: text(info.cpu_features),
                flags: text(info.flags),
                operators: operators
                    .iter()
                    .map(|op| format!("{} {}:{}:{}", text(op.name), text(op.file), op.line, op.column))
                    .collect(),
                methods: methods.iter().map(|m| (text(m.name), text(m.signature))).collect(),
                weights_bytes: info.weights_bytes,
                prepared_bytes: info.prepared_bytes,
                prepared: text(info.prepared).lines().filter_map(of_line).collect(),
            }
        }
    }

    /// Most threads of later calls; 0: as many as the machine has.
    pub fn set_threads(&self, n_threads: usize) {
        let n_threads = i32::try_from(n_threads).unwrap_or(0);
        // SAFETY: the model is open.
        unsafe { (self.loaded.api().set_threads)(self.loaded.model, n_threads) };
    }

    /// Later lines that the model prints and warns go there.
    pub fn set_sink(&self, sink: Sink) {
        let (log, user) = match sink {
            Sink::Streams => (None, std::ptr::null_mut()),
            Sink::Host(log, user) => (Some(log), user as *mut c_void),
            Sink::Printer(printer) => {
                let printer = Arc::new(printer);
                let user = Arc::as_ptr(&printer).cast_mut().cast();
                self.loaded.printers.lock().unwrap_or_else(PoisonError::into_inner).push(printer);
                (Some(print as LogFn), user)
            }
        };
        // SAFETY: the model is open; the closure lives as long as it.
        unsafe { (self.loaded.api().set_log)(self.loaded.model, log, user) };
    }

    /// Calls a method on the state of the model's own.
    ///
    /// # Errors
    /// What the library reports.
    pub fn call(&self, method: &str, args: &[Value]) -> Result<Value> {
        self.call_on(std::ptr::null_mut(), method, args)
    }

    /// A state of its own, as it is after loading.
    ///
    /// # Errors
    /// What the library reports.
    pub fn instance(&self) -> Result<Instance> {
        let mut state = std::ptr::null_mut();
        let mut error = no_error();
        // SAFETY: the model is open, `state` and `error` are places of the right types.
        let status = unsafe { (self.loaded.api().state_new)(self.loaded.model, &raw mut state, &raw mut error) };
        if status != 0 {
            return Err(read_error(self.loaded.api(), status, &error));
        }
        Ok(Instance { library: self.clone(), state })
    }

    /// A method's own function on tensors that stay bound: `args` are read at each call, results are written to `results`,
    /// whose memory must have the right size.
    ///
    /// # Errors
    /// Where the library has no such function.
    pub fn bind(&self, method: &str, args: &[Tensor], results: &[Tensor]) -> Result<BoundCall> {
        let symbol = format!("{}_{method}", self.loaded.name);
        // SAFETY: methods' functions have this type; other names of the interface are not methods.
        let function = unsafe { self.loaded.library.get::<TensorFn>(symbol.as_bytes()) };
        let function = *function.map_err(|e| Error::new(Status::Argument, e.to_string()))?;
        let args = args.iter().map(Tensor::contiguous).collect::<Result<Vec<_>>>()?;
        let results = results.to_vec();
        let inputs = args.iter().map(|t| c_tensor(t, &[])).collect();
        let outputs = results.iter().map(|t| c_tensor(t, &[])).collect();
        Ok(BoundCall { library: self.clone(), function, inputs, outputs, _args: args, _results: results })
    }

    fn call_on(&self, state: *mut c_void, method: &str, args: &[Value]) -> Result<Value> {
        let method = CString::new(method).map_err(|_| Error::new(Status::Argument, "the method's name has a NUL"))?;
        let mut memory = Memory::default();
        let inputs: Vec<AotValue> = args.iter().map(|arg| memory.value(arg)).collect();
        let mut out = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
        let mut error = no_error();
        let api = self.loaded.api();
        // SAFETY: the model is open, the state is null or of this model; everything that `inputs` points at lives in
        // `memory` and `args`.
        let status = unsafe {
            (api.call)(
                self.loaded.model,
                state,
                method.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                &raw mut out,
                &raw mut error,
            )
        };
        if status != 0 {
            return Err(read_error(self.loaded.api(), status, &error));
        }
        // SAFETY: the library filled `out`, which is released once afterwards.
        unsafe {
            let value = read_value(&out);
            (api.value_release)(&raw mut out);
            value
        }
    }
}

/// A state of a loaded library.
#[derive(Debug)]
pub struct Instance {
    library: Library,
    state: *mut c_void,
}

// SAFETY: a state may be used by any thread, one at a time, and calls need `&mut`.
unsafe impl Send for Instance {}

impl Instance {
    /// Calls a method on this state.
    ///
    /// # Errors
    /// What the library reports.
    pub fn call(&mut self, method: &str, args: &[Value]) -> Result<Value> {
        self.library.call_on(self.state, method, args)
    }

    /// Seeds the state's random numbers.
    pub fn manual_seed(&mut self, seed: u64) {
        // SAFETY: the state is live and not in use.
        unsafe { (self.library.loaded.api().manual_seed)(self.state, seed) };
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the state is of this library and freed once.
        unsafe { (self.library.loaded.api().state_free)(self.state) };
    }
}

/// A call with its tensors in place, see [`Library::bind`].
pub struct BoundCall {
    library: Library,
    function: TensorFn,
    inputs: Vec<AotTensor>,
    outputs: Vec<AotTensor>,
    _args: Vec<Tensor>,
    _results: Vec<Tensor>,
}

impl std::fmt::Debug for BoundCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundCall").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

impl BoundCall {
    /// Runs the method.
    ///
    /// # Errors
    /// What the library reports.
    pub fn run(&mut self) -> Result<()> {
        let mut error = no_error();
        // SAFETY: the arrays describe tensors that this call keeps alive.
        let status = unsafe {
            (self.function)(
                self.library.loaded.model,
                std::ptr::null_mut(),
                self.inputs.as_ptr(),
                self.inputs.len(),
                self.outputs.as_mut_ptr(),
                self.outputs.len(),
                std::ptr::null_mut(),
                0,
                &raw mut error,
            )
        };
        if status == 0 { Ok(()) } else { Err(read_error(self.library.loaded.api(), status, &error)) }
    }
}

/// The leaves of a value as tensors, numbers as tensors without dimensions, as methods' own functions take and give them;
/// `None` if something in it is neither.
pub fn leaves(value: &Value) -> Option<Vec<Tensor>> {
    let number = |dtype, bytes: &[u8]| Some(vec![Tensor::from_bytes(dtype, &[], bytes).ok()?]);
    let all = |items: &mut dyn Iterator<Item = &Value>| {
        let lists: Option<Vec<Vec<Tensor>>> = items.map(leaves).collect();
        Some(lists?.concat())
    };
    match value {
        Value::Tensor(tensor) => Some(vec![tensor.clone()]),
        Value::Int(n) => number(Dtype::I64, &n.to_ne_bytes()),
        Value::Float(x) => number(Dtype::F64, &x.to_ne_bytes()),
        Value::Bool(b) => number(Dtype::BOOL, &[u8::from(*b)]),
        Value::Tuple(items) | Value::List(items) => all(&mut items.iter()),
        Value::NamedTuple { fields, .. } => all(&mut fields.iter().map(|(_, item)| item)),
        Value::None | Value::Complex(..) | Value::Str(_) | Value::Dict(_) => None,
    }
}

/// The model's name: there are `NAME_api` and `NAME_open` among the exported symbols.
fn model_name(bytes: &[u8]) -> Option<String> {
    let file = object::File::parse(bytes).ok()?;
    let names: Vec<&str> = file.dynamic_symbols().filter_map(|symbol| symbol.name().ok()).collect();
    let name = names.iter().filter_map(|name| name.strip_suffix("_api"));
    let mut name = name.filter(|name| names.contains(&format!("{name}_open").as_str()));
    name.next().map(str::to_owned)
}

fn no_error() -> AotError {
    AotError { code: 0, op: 0, text: [0; 248] }
}

/// Hands a line of a library's output to a closure.
unsafe extern "C" fn print(user: *mut c_void, level: i32, line: *const c_char) {
    // SAFETY: `user` is a closure that the loaded library keeps; the text is the runtime's.
    let (printer, line) = unsafe { (&*user.cast::<Printer>(), text(line)) };
    printer(if level == 0 { Level::Print } else { Level::Warning }, &line);
}

fn read_error(api: &Api, status: i32, error: &AotError) -> Error {
    // SAFETY: the function has no conditions; what it gives is kept until this thread's next failing call.
    let exception = unsafe { (api.last_exception)().as_ref() }.filter(|exception| exception.code == status);
    let status = Status::from_code(i64::from(status));
    let Some(exception) = exception else {
        let text = CStr::from_bytes_until_nul(&error.text).map(CStr::to_string_lossy).unwrap_or_default();
        return Error::new(status, text);
    };
    // SAFETY: the texts are zero-terminated.
    let (class, message, file) = unsafe { (text(exception.class), text(exception.message), text(exception.file)) };
    let place = if file.is_empty() { file } else { format!("{file}:{}:{}", exception.line, exception.column) };
    Error { status, class, message, place, operator: usize::try_from(exception.op).ok() }
}

/// # Safety
/// Null or a zero-terminated text.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn c_tensor(tensor: &Tensor, strides: &[i64]) -> AotTensor {
    AotTensor {
        data: tensor.data().cast(),
        sizes: tensor.sizes.as_ptr(),
        strides: if strides.is_empty() { std::ptr::null() } else { strides.as_ptr() },
        ndim: i32::try_from(tensor.sizes.len()).unwrap_or(i32::MAX),
        dtype: tensor.dtype.0,
        flags: 0,
        reserved: 0,
        size_bytes: if strides.is_empty() { tensor.size_bytes() } else { 0 },
    }
}

/// What values given to a library point at. Boxes, so that addresses stay.
#[derive(Default)]
struct Memory {
    #[allow(clippy::vec_box, reason = "values point at the boxes, which stay when the list grows")]
    tensors: Vec<Box<AotTensor>>,
    items: Vec<Box<[AotValue]>>,
}

impl Memory {
    fn value(&mut self, value: &Value) -> AotValue {
        let none = AotValue { tag: 0, flags: 0, n: 0, bits: [0; 2], names: std::ptr::null() };
        let number = |tag, bits: u64| AotValue { tag, bits: [bits, 0], ..none };
        match value {
            Value::None => none,
            Value::Bool(b) => number(1, u64::from(*b)),
            Value::Int(n) => number(2, n.cast_unsigned()),
            Value::Float(x) => number(3, x.to_bits()),
            Value::Complex(re, im) => AotValue { tag: 4, bits: [re.to_bits(), im.to_bits()], ..none },
            Value::Str(text) => AotValue { n: text.len(), ..number(5, text.as_ptr() as u64) },
            Value::Tensor(tensor) => {
                let strides = if tensor.is_contiguous() { &[][..] } else { &tensor.strides };
                self.tensors.push(Box::new(c_tensor(tensor, strides)));
                let place = self.tensors.last().expect("pushed just now");
                number(6, std::ptr::from_ref::<AotTensor>(place) as u64)
            }
            Value::List(items) => self.items(7, items.len(), &mut items.iter()),
            Value::Tuple(items) => self.items(8, items.len(), &mut items.iter()),
            Value::NamedTuple { fields, .. } => self.items(8, fields.len(), &mut fields.iter().map(|(_, v)| v)),
            Value::Dict(entries) => self.items(10, entries.len(), &mut entries.iter().flat_map(|(k, v)| [k, v])),
        }
    }

    fn items(&mut self, tag: i32, n: usize, values: &mut dyn Iterator<Item = &Value>) -> AotValue {
        let items: Box<[AotValue]> = values.map(|value| self.value(value)).collect();
        let address = items.as_ptr() as u64;
        self.items.push(items);
        AotValue { tag, flags: 0, n, bits: [address, 0], names: std::ptr::null() }
    }
}

/// A copy of a value of the library's.
///
/// # Safety
/// The library made the value, and it is not released yet.
unsafe fn read_value(value: &AotValue) -> Result<Value> {
    // SAFETY (of the closures): the value points at what its tag says.
    let items = |n: usize| -> Result<Vec<Value>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: as said above.
        let items = unsafe { std::slice::from_raw_parts(value.bits[0] as *const AotValue, n) };
        // SAFETY: items are of the library, too.
        items.iter().map(|item| unsafe { read_value(item) }).collect()
    };
    Ok(match value.tag {
        0 => Value::None,
        1 => Value::Bool(value.bits[0] != 0),
        2 => Value::Int(value.bits[0].cast_signed()),
        3 => Value::Float(f64::from_bits(value.bits[0])),
        4 => Value::Complex(f64::from_bits(value.bits[0]), f64::from_bits(value.bits[1])),
        5 => {
            // SAFETY: a text of `n` bytes.
            let bytes = unsafe { std::slice::from_raw_parts(value.bits[0] as *const u8, value.n) };
            Value::Str(String::from_utf8_lossy(bytes).into_owned())
        }
        6 => {
            // SAFETY: a tensor of the library, row-major, with `ndim` extents.
            let copy = unsafe {
                let tensor = &*(value.bits[0] as *const AotTensor);
                let rank = usize::try_from(tensor.ndim).unwrap_or(0);
                let sizes = if rank == 0 { &[][..] } else { std::slice::from_raw_parts(tensor.sizes, rank) };
                Tensor::borrowed(Dtype(tensor.dtype), sizes, None, tensor.data.cast()).to_owned_tensor()?
            };
            Value::Tensor(copy)
        }
        7 => Value::List(items(value.n)?),
        8 => Value::Tuple(items(value.n)?),
        9 => {
            let values = items(value.n)?;
            // SAFETY: `n` names of fields, then the class's.
            let names = unsafe {
                let names = std::slice::from_raw_parts(value.names, value.n + 1);
                names.iter().map(|&name| text(name)).collect::<Vec<_>>()
            };
            let class = names[value.n].clone();
            Value::NamedTuple { name: class, fields: names.into_iter().zip(values).collect() }
        }
        10 => {
            let mut flat = items(2 * value.n)?.into_iter();
            Value::Dict(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
        }
        tag => return Err(Error::new(Status::Internal, format!("the library gave a value of unknown kind {tag}"))),
    })
}
