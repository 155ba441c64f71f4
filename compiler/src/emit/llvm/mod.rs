//! The LLVM backend: translation of [`Builder`] calls, the pass pipeline, object files and in-process code.
//!
//! No decisions about loops or vectors are taken here. Floating point has no fast-math flags: nests ask for fused operations
//! where they want them, so results do not depend on what the optimiser sees.
#![allow(unsafe_code, reason = "hands out addresses of code and frees its memory")]

mod module;
mod translate;

use crate::diag::{Diagnostic, Result};
use crate::emit::builder::Builder;
use crate::emit::target::Target;
use inkwell::OptimizationLevel;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::context::Context;
use inkwell::execution_engine::ExecutionEngine;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, TargetMachine, TargetTriple};
use inkwell::values::FunctionValue;
use module::Llvm;
use std::mem::ManuallyDrop;
use std::sync::Once;

/// How hard the optimiser works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Variables to registers and nothing more.
    None,
    /// The same passes as [`Self::Full`] over IR, and machine code in a hurry.
    Less,
    /// What already scheduled nests need: scalar cleanup, loop invariants.
    Full,
    /// LLVM's own whole pipeline after that.
    Most,
}

/// What to produce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Artifact {
    /// A relocatable object file.
    Object,
    /// Assembly text.
    Assembly,
    /// LLVM's text form, optimised.
    Text,
    /// LLVM bitcode, optimised.
    Bitcode,
}

/// Fills a module through the builder.
pub type Emit<'a> = dyn Fn(&dyn Builder) -> Result<()> + 'a;

/// The host's processor name and features in LLVM's words.
pub fn host_cpu() -> (String, String) {
    (TargetMachine::get_host_cpu_name().to_string(), TargetMachine::get_host_cpu_features().to_string())
}

/// Compiles a module to files' contents, one for each artifact asked for. Equal input gives equal bytes.
///
/// # Errors
/// Unknown targets; internal errors of the emitter, with LLVM's message.
pub fn compile(emit: &Emit<'_>, target: &Target, level: Level, artifacts: &[Artifact]) -> Result<Vec<Vec<u8>>> {
    let context = Context::create();
    let (llvm, machine) = build(&context, emit, target, level)?;
    let file = |kind| {
        let buffer = machine.write_to_memory_buffer(&llvm.module, kind);
        let buffer = buffer.map_err(|e| Diagnostic::internal(format!("LLVM cannot write code: {e}")))?;
        Ok(buffer.as_slice().to_vec())
    };
    let one = |artifact: &Artifact| match artifact {
        Artifact::Object => file(FileType::Object),
        Artifact::Assembly => file(FileType::Assembly),
        Artifact::Text => Ok(llvm.module.print_to_string().to_string().into_bytes()),
        Artifact::Bitcode => Ok(llvm.module.write_bitcode_to_memory().as_slice().to_vec()),
    };
    artifacts.iter().map(one).collect()
}

/// Code in this process; freed when dropped.
pub struct LlvmCode {
    engine: ManuallyDrop<ExecutionEngine<'static>>,
    context: *mut Context,
}

// SAFETY: the engine is only used to find addresses in `LlvmCode::load` and freed by one owner; code itself is immutable.
unsafe impl Send for LlvmCode {}

// SAFETY: as above; shared references give access to nothing.
unsafe impl Sync for LlvmCode {}

impl std::fmt::Debug for LlvmCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LlvmCode")
    }
}

impl LlvmCode {
    /// Compiles a module into this process. `resolve` gives addresses of imported functions; the result has the addresses
    /// of the functions named in `exports`.
    ///
    /// # Errors
    /// As [`compile`], and imports that `resolve` does not know.
    pub fn load(
        emit: &Emit<'_>,
        target: &Target,
        level: Level,
        resolve: &dyn Fn(&str) -> Option<*const u8>,
        exports: &[String],
    ) -> Result<(Self, Vec<*const u8>)> {
        let context = Box::into_raw(Box::new(Context::create()));
        // SAFETY: the context lives until `drop`, after the engine; the reference does not leave this type.
        let reference: &'static Context = unsafe { &*context };
        let made = Self::fill(reference, emit, target, level, resolve, exports);
        match made {
            Ok((engine, addresses)) => Ok((Self { engine: ManuallyDrop::new(engine), context }, addresses)),
            Err(error) => {
                // SAFETY: `fill` has dropped everything that referred to the context.
                drop(unsafe { Box::from_raw(context) });
                Err(error)
            }
        }
    }

    fn fill(
        context: &'static Context,
        emit: &Emit<'_>,
        target: &Target,
        level: Level,
        resolve: &dyn Fn(&str) -> Option<*const u8>,
        exports: &[String],
    ) -> Result<(ExecutionEngine<'static>, Vec<*const u8>)> {
        let (llvm, _machine) = build(context, emit, target, level)?;
        let optimisation = match level {
            Level::None => OptimizationLevel::None,
            Level::Less => OptimizationLevel::Less,
            Level::Full | Level::Most => OptimizationLevel::Default,
        };
        let engine = llvm.module.create_jit_execution_engine(optimisation);
        let engine = engine.map_err(|e| Diagnostic::internal(format!("LLVM cannot run code here: {e}")))?;
        for (name, function) in &*llvm.imports.borrow() {
            let Some(address) = resolve(name) else {
                return Err(Diagnostic::internal(format!("compiled code calls '{name}', which the runtime lacks")));
            };
            engine.add_global_mapping(function, address.addr());
        }
        let address = |name: &String| {
            let address = engine.get_function_address(name);
            let address = address.map_err(|e| Diagnostic::internal(format!("no code for '{name}': {e}")))?;
            Ok(std::ptr::with_exposed_provenance(address))
        };
        let addresses = exports.iter().map(address).collect::<Result<_>>()?;
        Ok((engine, addresses))
    }
}

impl Drop for LlvmCode {
    fn drop(&mut self) {
        // SAFETY: nothing uses the engine afterwards.
        unsafe { ManuallyDrop::drop(&mut self.engine) };
        // SAFETY: made by `Box::into_raw` in `load`; the engine, its last user, is gone.
        drop(unsafe { Box::from_raw(self.context) });
    }
}

/// Nests come unrolled and vectorised; what is left is to promote variables, fold addresses and hoist invariants.
const CLEANUP: &str = "function(sroa<modify-cfg>,early-cse<memssa>,simplifycfg,instcombine<no-verify-fixpoint>,\
    loop-mssa(loop-simplifycfg,licm),gvn,instcombine<no-verify-fixpoint>,loop-mssa(licm),simplifycfg)";

/// Functions with loops of the user's program are not scheduled: what does not change is read before a loop, its counter is
/// known to count up, and branches on what does not change are taken once.
const LOOPS: &str = "function(loop-mssa(loop-rotate,licm<allowspeculation>,simple-loop-unswitch<nontrivial>),\
    simplifycfg,instcombine<no-verify-fixpoint>,gvn,loop(loop-idiom,indvars,loop-deletion),correlated-propagation,\
    instcombine<no-verify-fixpoint>,loop-mssa(licm<allowspeculation>),loop-vectorize,loop-unroll<O2>,\
    instcombine<no-verify-fixpoint>,simplifycfg)";

/// Runs passes on some functions only: the others are marked as not to be optimised meanwhile.
fn run_on<'ctx>(
    llvm: &Llvm<'ctx>,
    functions: &[FunctionValue<'ctx>],
    passes: &str,
    machine: &TargetMachine,
) -> Result<()> {
    let names = ["optnone", "noinline"];
    let flags = names.map(Attribute::get_named_enum_kind_id);
    let others: Vec<_> = llvm.module.get_functions().filter(|function| !functions.contains(function)).collect();
    for function in &others {
        for flag in flags {
            function.add_attribute(AttributeLoc::Function, llvm.context.create_enum_attribute(flag, 0));
        }
    }
    let done = llvm.module.run_passes(passes, machine, PassBuilderOptions::create());
    for function in &others {
        for flag in flags {
            function.remove_enum_attribute(AttributeLoc::Function, flag);
        }
    }
    done.map_err(|e| Diagnostic::internal(format!("LLVM passes: {e}")))
}

/// Emits, verifies and optimises a module.
fn build<'ctx>(
    context: &'ctx Context,
    emit: &Emit<'_>,
    target: &Target,
    level: Level,
) -> Result<(Llvm<'ctx>, TargetMachine)> {
    let machine = target_machine(target, level)?;
    let llvm = Llvm::new(context, target, &machine);
    emit(&llvm)?;
    if let Err(error) = llvm.module.verify() {
        return Err(Diagnostic::internal(format!("LLVM refuses the code: {error}")));
    }
    let passes = match level {
        Level::None => "function(sroa)",
        Level::Less | Level::Full => CLEANUP,
        Level::Most => &format!("{CLEANUP},default<O3>"),
    };
    llvm.module
        .run_passes(passes, &machine, PassBuilderOptions::create())
        .map_err(|e| Diagnostic::internal(format!("LLVM passes: {e}")))?;
    let looping = llvm.looping.take();
    if level == Level::Full && !looping.is_empty() {
        run_on(&llvm, &looping, LOOPS, &machine)?;
    }
    Ok((llvm, machine))
}

fn target_machine(target: &Target, level: Level) -> Result<TargetMachine> {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        let config = InitializationConfig::default();
        inkwell::targets::Target::initialize_x86(&config);
        inkwell::targets::Target::initialize_aarch64(&config);
    });
    let triple = TargetTriple::create(&target.triple);
    let unknown = || Diagnostic::user(format!("unknown target '{}'", target.triple));
    let llvm = inkwell::targets::Target::from_triple(&triple).map_err(|e| unknown().note(e.to_string()))?;
    let level = match level {
        Level::None => OptimizationLevel::None,
        Level::Less => OptimizationLevel::Less,
        Level::Full | Level::Most => OptimizationLevel::Aggressive,
    };
    llvm.create_target_machine(&triple, &target.cpu, &target.features, level, RelocMode::PIC, CodeModel::Default)
        .ok_or_else(unknown)
}
