//! The Cranelift backend: code in this process, compiled in milliseconds. Translation of [`Builder`] calls only.
//!
//! Cranelift's vectors have 16 bytes. A value is held in pieces: whole vectors of 16 bytes where its lanes fill them, else one
//! scalar a lane. Masks of four lanes and more are vectors of `i32`, all bits set where true; of two lanes, vectors of `i64`.
//! Conditions of one lane are `i8`. Where no instruction does a whole vector, lanes are taken apart.
#![allow(unsafe_code, reason = "frees the memory of code")]

mod module;
mod translate;

use crate::diag::{Diagnostic, Result};
use crate::emit::builder::Builder;
use crate::emit::target::Target;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::Module;
use module::Cranelift;
use std::mem::ManuallyDrop;

/// Code in this process; freed when dropped.
pub struct CraneliftCode {
    module: ManuallyDrop<JITModule>,
}

// SAFETY: after loading, the module is only kept for its memory, which is not changed.
unsafe impl Send for CraneliftCode {}

// SAFETY: shared references give access to nothing.
unsafe impl Sync for CraneliftCode {}

impl std::fmt::Debug for CraneliftCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CraneliftCode")
    }
}

impl Drop for CraneliftCode {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let module = unsafe { ManuallyDrop::take(&mut self.module) };
        // SAFETY: who owns this runs no code of it any more.
        unsafe { module.free_memory() };
    }
}

/// Addresses of imported functions by name.
pub type Resolve = fn(&str) -> Option<*const u8>;

impl CraneliftCode {
    /// Compiles a module into this process, for the host's processor. The result has the addresses of the functions named
    /// in `exports`.
    ///
    /// # Errors
    /// Internal ones of the emitter or Cranelift; imports that `resolve` does not know.
    pub fn load(
        emit: &dyn Fn(&dyn Builder) -> Result<()>,
        target: &Target,
        resolve: Resolve,
        exports: &[String],
    ) -> Result<(Self, Vec<*const u8>)> {
        let failed = |error: &dyn std::fmt::Display| Diagnostic::internal(format!("Cranelift: {error}"));
        let mut flags = settings::builder();
        for (name, value) in [("opt_level", "speed"), ("enable_verifier", "false"), ("is_pic", "false")] {
            flags.set(name, value).map_err(|e| failed(&e))?;
        }
        let isa = cranelift_native::builder().map_err(|e| failed(&e))?;
        let isa = isa.finish(settings::Flags::new(flags)).map_err(|e| failed(&e))?;
        let mut builder = JITBuilder::with_isa(isa, cranelift_module::default_libcall_names());
        builder.symbol_lookup_fn(Box::new(resolve));
        let cranelift = Cranelift::new(JITModule::new(builder), target, resolve);
        let emitted = emit(&cranelift);
        let Cranelift { module, error, .. } = cranelift;
        let mut code = Self { module: ManuallyDrop::new(module.into_inner()) };
        emitted?;
        if let Some(error) = error.into_inner() {
            return Err(error);
        }
        code.module.finalize_definitions().map_err(|e| failed(&e))?;
        let address = |name: &String| match code.module.get_name(name) {
            Some(cranelift_module::FuncOrDataId::Func(id)) => Ok(code.module.get_finalized_function(id)),
            _ => Err(failed(&format!("no function '{name}'"))),
        };
        let addresses = exports.iter().map(address).collect::<Result<_>>()?;
        Ok((code, addresses))
    }
}
