//! The whole compiler as one straight function: archive, front end, lowering, scheduling, machine code.

use crate::archive::{self, Archive};
use crate::diag::{Diagnostic, Result};
use crate::emit::target::Target;
use crate::exec::Executable;
use crate::ir::Module;
use crate::library::Library;
use crate::link::metadata::Facts;
use crate::loops::Program;
use crate::lower::{self, Request};
use crate::schedule::{self, ScheduleTarget};
use crate::{link, loops, script};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who runs a program in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// Machine code by LLVM.
    Llvm,
    /// Machine code by Cranelift: compiles fast.
    Cranelift,
    /// The plain evaluator.
    Reference,
    /// A shared library, built in a temporary folder and loaded.
    Library,
}

/// How long each stage took, in order.
#[derive(Clone, Debug, Default)]
pub struct Timings(pub Vec<(&'static str, Duration)>);

impl Timings {
    /// Runs a stage and notes how long it took.
    pub fn time<T>(&mut self, stage: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = run();
        self.0.push((stage, start.elapsed()));
        result
    }
}

/// Reads an archive and compiles its code to graphs.
pub fn front_end(archive: &Archive) -> Result<Module> {
    script::compile(archive)
}

/// [`front_end`] of a file.
pub fn open(path: &Path) -> Result<Module> {
    front_end(&archive::open(path)?)
}

/// Lowers methods of a module for signatures of their arguments.
pub fn lower(module: &Module, requests: &[Request], timings: &mut Timings) -> Result<Program> {
    let program = timings.time("lower", || lower::lower(module, requests))?;
    timings.time("verify", || {
        loops::verify(&program).map_err(|rule| Diagnostic::internal(format!("the lowered program is wrong: {rule}")))
    })?;
    Ok(program)
}

/// What schedules need to know of a machine.
pub fn schedule_target(target: &Target) -> ScheduleTarget {
    ScheduleTarget {
        vector_bytes: target.vector_bytes,
        n_registers: target.n_vector_registers,
        l1_bytes: 32 << 10,
        l2_bytes: 512 << 10,
        has_masks: target.has_masks,
    }
}

/// A lowered program as a model that can be called.
pub fn load(mut program: Program, backend: Backend, timings: &mut Timings) -> Result<Executable> {
    match backend {
        Backend::Reference => timings.time("load", || crate::eval::load(Arc::new(program))).map(Executable::Model),
        Backend::Llvm => compiled(&mut program, crate::jit::Backend::Llvm, timings).map(Executable::Model),
        Backend::Cranelift => compiled(&mut program, crate::jit::Backend::Cranelift, timings).map(Executable::Model),
        Backend::Library => built(&mut program, timings).map(Executable::Library),
    }
}

fn compiled(program: &mut Program, backend: crate::jit::Backend, timings: &mut Timings) -> Result<aot_runtime::Model> {
    let target = backend.target(Target::host());
    let options = schedule::Options::default();
    timings.time("schedule", || schedule::schedule(program, &schedule_target(&target), &options))?;
    let facts = Facts { name: "model".into(), ..Facts::default() };
    timings.time("emit", || crate::jit::load_with(program, backend, &target, &facts))
}

fn built(program: &mut Program, timings: &mut Timings) -> Result<Library> {
    let target = Target::host();
    let options = schedule::Options::default();
    timings.time("schedule", || schedule::schedule(program, &schedule_target(&target), &options))?;
    let facts = Facts { name: "model".into(), ..Facts::default() };
    let folder = tempfile::tempdir().map_err(|e| Diagnostic::user(format!("cannot make a temporary folder: {e}")))?;
    let path = folder.path().join("libmodel.so");
    timings.time("emit and link", || {
        link::build(program, facts, &target, crate::emit::llvm::Level::Full, link::library::Kind::Shared, &path)
    })?;
    // Once loaded, the file may go.
    timings.time("load", || Library::load(&path))
}
