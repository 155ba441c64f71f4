//! The public way to run models from Rust: load an archive, call its methods; code is compiled when a method is first
//! called with arguments of new types or shapes.
//!
//! ```no_run
//! use ndarray::array;
//! let module = aot::Module::load("model.pt")?;
//! let y = module.forward(&[&array![[1.0f32, 2.0, 3.0]]])?;
//! let y = aot::to_array::<f32>(&y)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;

pub use builder::ModuleBuilder;

use crate::archive::{self, Archive};
use crate::diag::{Diagnostic, Exception, Result};
use crate::driver::{self, Backend, TextOptions, Timings};
use crate::exec::Executable;
use crate::ir;
use crate::lower::{ArgSpec, Request};
use crate::{check, signatures};
use aot_runtime::log::{Level, Sink};
use aot_runtime::{Dtype, Tensor, Value};
use ndarray::{ArrayBase, ArrayD, Data, Dimension};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A TorchScript module, ready to be called. Clones share everything, and any thread may call.
///
/// What a module's methods change (its attributes) belongs to the compiled version of a method: calls with the same types and
/// shapes see what earlier ones left.
#[derive(Clone, Debug)]
pub struct Module {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    module: ir::Module,
    backend: Backend,
    compiled: Mutex<Vec<(Request, Executable)>>,
    sink: Mutex<Sink>,
    is_traced: bool,
}

/// A method of a [`Module`].
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    module: &'a Module,
    name: &'a str,
}

impl Module {
    /// Loads a file that `torch.jit.save` wrote; LLVM will compile it. Nothing in the file is executed.
    ///
    /// # Errors
    /// What is wrong with the archive or its code.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, Backend::Llvm)
    }

    /// [`Self::load`] for a backend of choice.
    ///
    /// # Errors
    /// What is wrong with the archive or its code.
    pub fn load_with(path: impl AsRef<Path>, backend: Backend) -> Result<Self> {
        Self::of_archive(&archive::open(path.as_ref())?, backend)
    }

    /// A module of an archive that is already read.
    ///
    /// # Errors
    /// What is wrong with the archive's code.
    pub fn of_archive(archive: &Archive, backend: Backend) -> Result<Self> {
        Ok(Self::of_ir(driver::front_end(archive)?, backend))
    }

    /// What a Python file makes: a function or module that it scripts, traces or freezes. Without an entry it is the last one.
    ///
    /// # Errors
    /// What is wrong with the file, and what of it cannot be compiled.
    pub fn of_source(path: impl AsRef<Path>, options: &TextOptions, backend: Backend) -> Result<Self> {
        let (_, module) = driver::open(path.as_ref(), options)?;
        Ok(Self::of_ir(module, backend))
    }

    /// A module whose graphs are compiled already.
    pub fn of_ir(module: ir::Module, backend: Backend) -> Self {
        Self::of_ir_with(module, backend, false)
    }

    /// A module on the plain evaluator whose methods print each statement that runs, and a summary of each value.
    pub fn traced(module: ir::Module) -> Self {
        Self::of_ir_with(module, Backend::Reference, true)
    }

    fn of_ir_with(module: ir::Module, backend: Backend, is_traced: bool) -> Self {
        let (compiled, sink) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { module, backend, compiled, sink, is_traced }) }
    }

    /// The compiled graphs, classes and attributes.
    pub fn ir(&self) -> &ir::Module {
        &self.shared.module
    }

    /// Names of the methods.
    pub fn methods(&self) -> Vec<String> {
        signatures::method_names(&self.shared.module)
    }

    /// A method by name.
    ///
    /// # Errors
    /// A user error where there is none of this name.
    pub fn method<'a>(&'a self, name: &'a str) -> Result<Method<'a>> {
        let module = &self.shared.module;
        match module.method(&module.root.class, name) {
            Some(_) => Ok(Method { module: self, name }),
            None => Err(Diagnostic::user(format!("the module has no method '{name}'"))
                .note(format!("its methods: {}", self.methods().join(", ")))),
        }
    }

    /// Lets a closure take what the methods print and warn, a line at a time; without one, prints go to the standard output
    /// and warnings to the standard error. Threads that call at once print at once.
    pub fn set_log(&self, log: impl Fn(Level, &str) + Send + Sync + 'static) {
        let sink = Sink::Printer(Arc::new(log));
        let compiled = self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.iter().for_each(|(_, executable)| executable.set_sink(sink.clone()));
        *self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Calls `forward`.
    ///
    /// # Errors
    /// As [`Method::call`].
    pub fn forward(&self, args: &[&dyn ToValue]) -> Result<Value> {
        self.method("forward")?.call(args)
    }
}

/// A failed call as a diagnostic, which has the parts of what the model raised.
fn failed(error: &aot_runtime::Error) -> Box<Diagnostic> {
    let mut diagnostic = Diagnostic::user(error.to_string());
    if !error.class.is_empty() {
        let (file, line, column) = error.location().unwrap_or_default();
        let (class, message, file) = (error.class.clone(), error.message.clone(), file.to_owned());
        diagnostic.exception = Some(Box::new(Exception { class, message, file, line, column }));
    }
    diagnostic
}

impl Method<'_> {
    /// Calls the method; trailing arguments with defaults may be left out.
    ///
    /// # Errors
    /// User errors for wrong arguments and exceptions that the model raises, which have [`Diagnostic::exception`]; unsupported
    /// for what cannot be compiled yet.
    pub fn call(&self, args: &[&dyn ToValue]) -> Result<Value> {
        let values: Vec<Value> = args.iter().map(|arg| arg.to_value()).collect::<Result<_>>()?;
        let specs = args.iter().zip(&values).map(|(arg, value)| arg.signature(value)).collect::<Result<_>>()?;
        let request = Request::new(self.name, specs).overlapping(&values);
        let result = self.compile_request(request)?.call(self.name, &values);
        result.map_err(|error| failed(&error))
    }

    /// [`Self::call`] on values.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_values(&self, args: &[Value]) -> Result<Value> {
        let result = self.compile(args)?.call(self.name, args);
        result.map_err(|error| failed(&error))
    }

    /// The method compiled for arguments like these.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn compile(&self, args: &[Value]) -> Result<Executable> {
        self.compile_request(Request::of_values(self.name, args)?)
    }

    /// The method compiled for a signature.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn compile_for(&self, args: Vec<ArgSpec>) -> Result<Executable> {
        self.compile_request(Request::new(self.name, args))
    }

    fn compile_request(&self, request: Request) -> Result<Executable> {
        let shared = &self.module.shared;
        let request = Request { is_traced: shared.is_traced, ..request };
        // Compiling under the lock: two threads that want the same code should not both make it.
        let mut compiled = shared.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, executable)) = compiled.iter().find(|(known, _)| known.is_like(&request)) {
            return Ok(executable.clone());
        }
        let mut timings = Timings::default();
        let program = driver::lower(&shared.module, std::slice::from_ref(&request), &mut timings)?;
        let executable = driver::load(program, shared.backend, &mut timings)?;
        executable.set_sink(shared.sink.lock().unwrap_or_else(PoisonError::into_inner).clone());
        compiled.push((request, executable.clone()));
        Ok(executable)
    }

    /// The arguments that tracing or a user recorded stand for, with zeros as elements.
    ///
    /// # Errors
    /// Unsupported for values that no method takes.
    pub fn recorded(&self, archive: &Archive) -> Result<Option<Vec<Value>>> {
        let recorded = archive.traced_inputs.get(self.name);
        recorded.map(check::values).transpose()
    }
}

/// What can be an argument.
pub trait ToValue {
    /// The argument.
    ///
    /// # Errors
    /// User errors for arrays of more dimensions than tensors have.
    fn to_value(&self) -> Result<Value>;

    /// What code may rely on for this argument: shapes of tensors and types of numbers, unless the argument says more.
    ///
    /// # Errors
    /// Unsupported for values that no method takes.
    fn signature(&self, value: &Value) -> Result<ArgSpec> {
        ArgSpec::of(value).map_err(Diagnostic::unsupported)
    }
}

/// A number that code is made for: another number makes other code.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exact<T>(pub T);

impl<T: ToValue> ToValue for Exact<T> {
    fn to_value(&self) -> Result<Value> {
        self.0.to_value()
    }

    fn signature(&self, value: &Value) -> Result<ArgSpec> {
        match value {
            Value::Int(n) => Ok(ArgSpec::Int(Some(*n))),
            Value::Float(x) => Ok(ArgSpec::Float(Some(*x))),
            Value::Bool(b) => Ok(ArgSpec::Bool(Some(*b))),
            other => ArgSpec::of(other).map_err(Diagnostic::unsupported),
        }
    }
}

/// An element of arrays that are given to and come from models.
pub trait Element: Copy + 'static {
    /// PyTorch's code.
    const DTYPE: Dtype;
    /// Appends the element's bytes.
    fn write(self, bytes: &mut Vec<u8>);
    /// The element of these bytes, of which there are as many as the type has.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($ty:ty, $dtype:ident;)*) => {$(
        impl Element for $ty {
            const DTYPE: Dtype = Dtype::$dtype;
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_ne_bytes());
            }
            fn read(bytes: &[u8]) -> Self {
                Self::from_ne_bytes(bytes.try_into().expect("an element's bytes"))
            }
        }
    )*};
}

elements! { u8, U8; i8, I8; i16, I16; i32, I32; i64, I64; f32, F32; f64, F64; }

impl Element for bool {
    const DTYPE: Dtype = Dtype::BOOL;
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
    fn read(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> ToValue for ArrayBase<S, D> {
    fn to_value(&self) -> Result<Value> {
        let mut bytes = Vec::with_capacity(self.len() * size_of::<T>());
        self.iter().for_each(|x| x.write(&mut bytes));
        let sizes: Vec<i64> = self.shape().iter().map(|&n| n.try_into().expect("arrays fit memory")).collect();
        let tensor = Tensor::from_bytes(T::DTYPE, &sizes, &bytes);
        tensor.map(Value::Tensor).map_err(|e| Diagnostic::user(e.to_string()))
    }
}

macro_rules! plain_values {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl ToValue for $ty {
            fn to_value(&self) -> Result<Value> {
                Ok(Value::$variant(self.clone().into()))
            }
        }
    )*};
}

plain_values! { i64, Int; i32, Int; f64, Float; bool, Bool; &str, Str; String, Str; Tensor, Tensor; Vec<Value>, List; }

impl ToValue for Value {
    fn to_value(&self) -> Result<Value> {
        Ok(self.clone())
    }
}

/// The elements of a tensor as an array.
///
/// # Errors
/// A user error where the value is no tensor of this element type.
pub fn to_array<T: Element>(value: &Value) -> Result<ArrayD<T>> {
    let expected = || format!("a tensor of {} is expected", T::DTYPE.name());
    let Value::Tensor(tensor) = value else {
        return Err(Diagnostic::user(format!("{}, found a {}", expected(), value.type_name())));
    };
    if tensor.dtype != T::DTYPE {
        return Err(Diagnostic::user(format!("{}, found {}", expected(), tensor.describe())));
    }
    let elements = tensor.to_bytes().chunks_exact(size_of::<T>()).map(T::read).collect();
    let sizes: Vec<usize> = tensor.sizes.iter().map(|&n| n.try_into().expect("extents are not negative")).collect();
    ArrayD::from_shape_vec(sizes, elements).map_err(|e| Diagnostic::internal(e.to_string()))
}
