//! Opening and closing: the CPU is checked, the host's surroundings are read.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::{AotEnv, AotError, AotModel, bad, guard, host_slice};
use crate::abi::{Entry, Status};
use crate::arena::{ALIGN, Allocator};
use crate::desc::ModelDesc;
use crate::error::{Error, Result};
use crate::log::{LogFn, Sink};
use crate::model::{Code, Env, Model, Weights};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
            if !(weights as usize).is_multiple_of(ALIGN) {
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

/// `foo_set_log`; null: the standard streams again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_set_log(model: *mut AotModel, log: Option<LogFn>, user: *mut c_void) {
    // SAFETY: null or of this library.
    if let Some(model) = unsafe { model.as_ref() } {
        model.0.set_sink(log.map_or(Sink::Streams, |log| Sink::Host(log, user as usize)));
    }
}

/// `foo_set_threads`; 0: as many as the machine has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_set_threads(model: *mut AotModel, n_threads: i32) {
    // SAFETY: null or of this library.
    if let Some(model) = unsafe { model.as_ref() } {
        model.0.set_threads(usize::try_from(n_threads).unwrap_or(0));
    }
}
