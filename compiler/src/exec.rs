//! Compiled models that can be called, wherever their code lies: in this process or in a loaded library.

use crate::library::{self, Library};
use aot_runtime::log::Sink;
use aot_runtime::trace::Tracer;
use aot_runtime::{Error, Model, Value};

/// A compiled model.
#[derive(Clone, Debug)]
pub enum Executable {
    /// Code in this process.
    Model(Model),
    /// A shared library.
    Library(Library),
}

/// The state of one caller.
#[derive(Debug)]
pub enum Instance {
    /// Of code in this process.
    Model(aot_runtime::Instance),
    /// Of a shared library.
    Library(library::Instance),
}

impl Executable {
    /// A new state.
    ///
    /// # Errors
    /// What the model's first function reports.
    pub fn instance(&self) -> Result<Instance, Error> {
        match self {
            Self::Model(model) => model.instance().map(Instance::Model),
            Self::Library(library) => library.instance().map(Instance::Library),
        }
    }

    /// Calls a method on a state of the model's own.
    ///
    /// # Errors
    /// Wrong arguments; exceptions that the model raises.
    pub fn call(&self, method: &str, args: &[Value]) -> Result<Value, Error> {
        match self {
            Self::Model(model) => model.call(method, args),
            Self::Library(library) => library.call(method, args),
        }
    }

    /// Later lines that the model prints and warns go there.
    pub fn set_sink(&self, sink: Sink) {
        match self {
            Self::Model(model) => model.set_sink(sink),
            Self::Library(library) => library.set_sink(sink),
        }
    }

    /// What a program that was compiled to be traced does goes there; a library tells nothing.
    pub fn set_tracer(&self, tracer: Option<Tracer>) {
        if let Self::Model(model) = self {
            model.set_tracer(tracer);
        }
    }

    /// Most threads of later calls; 0: as many as the machine has.
    pub fn set_threads(&self, n_threads: usize) {
        match self {
            Self::Model(model) => model.set_threads(n_threads),
            Self::Library(library) => library.set_threads(n_threads),
        }
    }
}

impl Instance {
    /// Calls a method on this state.
    ///
    /// # Errors
    /// Wrong arguments; exceptions that the model raises.
    pub fn call(&mut self, method: &str, args: &[Value]) -> Result<Value, Error> {
        match self {
            Self::Model(instance) => instance.call(method, args),
            Self::Library(instance) => instance.call(method, args),
        }
    }

    /// Seeds the state's random numbers, as `torch.manual_seed` does.
    pub fn manual_seed(&mut self, seed: u64) {
        match self {
            Self::Model(instance) => instance.manual_seed(seed),
            Self::Library(instance) => instance.manual_seed(seed),
        }
    }
}
