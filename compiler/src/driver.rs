//! The whole compiler as one straight line: archive, front end, lowering, scheduling, machine code.
//!
//! ```text
//! open ─► Module ─► lower ─► Program ─► load ─► Executable
//! ```

use crate::archive::{self, Archive};
use crate::diag::{Diagnostic, Result};
use crate::emit::target::Target;
use crate::exec::Executable;
use crate::ir::Module;
use crate::library::Library;
use crate::link::metadata::Facts;
use crate::loops::Program;
use crate::lower::{self, Request};
use crate::passes::{evaluate, freeze_module, infer, pipeline};
use crate::schedule::{self, ScheduleTarget};
use crate::script::{Attributes, Machine, Parts, Text};
use crate::source::Source;
use crate::syntax::Dialect;
use crate::{link, loops, script, weights};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
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
    let mut module = script::compile(archive)?;
    pipeline::scripted(&mut module)?;
    Ok(module)
}

/// The same for an archive that is to be written anew: what only Python calls is compiled, too.
pub fn front_end_whole(archive: &Archive) -> Result<Module> {
    let mut module = script::compile_whole(archive)?;
    pipeline::scripted(&mut module)?;
    Ok(module)
}

/// What compiling a text needs to know besides it.
#[derive(Clone, Debug, Default)]
pub struct TextOptions {
    /// The function, module class or variable to compile; the last one of the text if it is not said.
    pub entry: Option<String>,
    /// A file with the values of a module's attributes: an archive of a module of the same class, or tensors by name in a
    /// `.safetensors`, `.npz` or `torch.save` file.
    pub attributes: Option<PathBuf>,
    /// Whether the text is what `CompilationUnit` takes, not a Python file.
    pub is_unit: bool,
}

/// What runs module-level code of texts.
const MACHINE: Machine = Machine { evaluate: evaluate::call, infer: infer::run, freeze };

/// Freezes a module that was just compiled.
fn freeze(mut module: Module, preserved: &[Arc<str>]) -> Result<Module> {
    pipeline::scripted(&mut module)?;
    freeze_module::run(&module, preserved)
}

/// Compiles a text to graphs.
pub fn script(text: &Text, entry: Option<&str>, attributes: Attributes<'_>) -> Result<Module> {
    let mut module = script::compile_text(text, entry, attributes, MACHINE)?;
    pipeline::scripted(&mut module)?;
    Ok(module)
}

/// Compiles a module that is given in parts to graphs.
pub fn script_parts(parts: &Parts) -> Result<Module> {
    let mut module = script::compile_parts(parts)?;
    pipeline::scripted(&mut module)?;
    Ok(module)
}

/// Whether a model is a source file and not an archive.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

/// Opens a model: an archive, or a source file (`.py`).
pub fn open(path: &Path, options: &TextOptions) -> Result<(Archive, Module)> {
    if !is_text(path) {
        let archive = archive::open(path)?;
        let module = front_end(&archive)?;
        return Ok((archive, module));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Diagnostic::user(format!("cannot read {}: {error}", path.display())))?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let source = Arc::new(Source { name, text, origins: Vec::new() });
    let attributes_file = options.attributes.as_deref().map(Given::open).transpose()?;
    let dialect = if options.is_unit { Dialect::Own } else { Dialect::Python };
    let (archive, attributes) = match &attributes_file {
        None => (None, Attributes::Own),
        Some(Given::Archive(archive)) => (Some(&**archive), Attributes::Archive(archive)),
        Some(Given::Values(values)) => (None, Attributes::Values(values)),
    };
    let root = archive.map(|archive| archive.root.class.as_ref());
    let text = Text { source, dialect, module: script::module_of(root), imports: None, seed: None };
    let module = script(&text, options.entry.as_deref(), attributes)?;
    let archive = match attributes_file {
        Some(Given::Archive(archive)) => *archive,
        _ => script::empty_archive(path),
    };
    Ok((archive, module))
}

/// What a file with values of attributes holds.
enum Given {
    Archive(Box<Archive>),
    Values(script::Values),
}

impl Given {
    fn open(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors" | "npz") => weights::read(path).map(Self::Values),
            // A file of `torch.save` may be a dict of tensors.
            _ => match archive::open(path) {
                Ok(archive) => Ok(Self::Archive(Box::new(archive))),
                Err(error) => weights::read(path).map(Self::Values).map_err(|_| error),
            },
        }
    }
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

/// Variables of the environment that turn compiled code off: with the value `0`, everything that would be compiled in this
/// process runs on the plain evaluator, as PyTorch runs plain Python where the first of them says so.
const OFF_SWITCHES: [&str; 2] = ["PYTORCH_JIT", "AOT_JIT"];

/// Whether the environment turns compiled code off.
fn is_jit_off(value: impl Fn(&str) -> Option<OsString>) -> bool {
    OFF_SWITCHES.iter().any(|name| value(name).is_some_and(|value| value == "0"))
}

/// A lowered program as a model that can be called; by the evaluator, whatever the backend, where the environment asks for it.
pub fn load(mut program: Program, backend: Backend, timings: &mut Timings) -> Result<Executable> {
    match if is_jit_off(|name| std::env::var_os(name)) { Backend::Reference } else { backend } {
        Backend::Reference => timings.time("load", || crate::eval::load(Arc::new(program))).map(Executable::Model),
        Backend::Llvm => compiled(&mut program, crate::jit::Backend::Llvm, timings).map(Executable::Model),
        Backend::Cranelift => compiled(&mut program, crate::jit::Backend::Cranelift, timings).map(Executable::Model),
        Backend::Library => built(&mut program, timings).map(Executable::Library),
    }
}

/// Schedules for a machine; gives what code of a model that is run at once says about itself.
fn scheduled(program: &mut Program, target: &Target, timings: &mut Timings) -> Result<Facts> {
    let options = schedule::Options::default();
    timings.time("schedule", || schedule::schedule(program, &schedule_target(target), &options))?;
    Ok(Facts { name: "model".into(), ..Facts::default() })
}

fn compiled(program: &mut Program, backend: crate::jit::Backend, timings: &mut Timings) -> Result<aot_runtime::Model> {
    let target = backend.target(Target::host());
    let facts = scheduled(program, &target, timings)?;
    timings.time("emit", || crate::jit::load_with(program, backend, &target, &facts))
}

fn built(program: &mut Program, timings: &mut Timings) -> Result<Library> {
    let target = Target::host();
    let facts = scheduled(program, &target, timings)?;
    let folder = tempfile::tempdir().map_err(|e| Diagnostic::user(format!("cannot make a temporary folder: {e}")))?;
    let path = folder.path().join("libmodel.so");
    timings.time("emit and link", || {
        link::build(program, facts, &target, crate::emit::llvm::Level::Full, link::library::Kind::Shared, &path)
    })?;
    // Once loaded, the file may go.
    timings.time("load", || Library::load(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_in_the_environment_turns_compiled_code_off() {
        let check = |set: &[(&str, &str)], expected| {
            let value = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            assert_eq!(is_jit_off(value), expected, "{set:?}");
        };
        check(&[], false);
        check(&[("PYTORCH_JIT", "0")], true);
        check(&[("AOT_JIT", "0"), ("PYTORCH_JIT", "1")], true);
        check(&[("AOT_JIT", "1")], false);
    }
}
