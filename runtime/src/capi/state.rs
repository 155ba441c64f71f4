//! States: what calls change, held by the host.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use super::{AotError, AotModel, AotState, bad, guard, host_ref};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

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
