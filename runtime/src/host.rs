//! What compiled code calls besides routines: errors, memory slots, parallel loops, reference counts.
#![allow(unsafe_code, reason = "the contract with compiled code is made of pointers")]

use crate::abi::{Body, Frame, Status};
use crate::error::Error;
use crate::model::Runtime;
use crate::object::{Body as ObjectBody, Object, ObjectRef};

/// The runtime's data of a call.
///
/// # Safety
/// The frame is one that an instance made for a running call; no other reference to its runtime data is in use.
pub(crate) unsafe fn runtime<'a>(frame: *mut Frame) -> &'a mut Runtime {
    // SAFETY: by the caller's promise.
    unsafe { &mut *(*frame).runtime.cast::<Runtime>() }
}

/// Records an error and gives its status.
///
/// # Safety
/// As for [`runtime`].
pub unsafe fn fail(frame: *mut Frame, error: Error) -> i64 {
    let status = error.status as i64;
    // SAFETY: by the caller's promise.
    unsafe { runtime(frame) }.error = Some(error);
    status
}

unsafe fn text(data: *const u8, len: usize) -> String {
    if data.is_null() {
        return String::new();
    }
    // SAFETY: compiled code passes address and length of constant text.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(data, len) }).into_owned()
}

/// Records an exception with a constant message and gives its status.
///
/// # Safety
/// The frame is that of the running call; the texts are valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_raise(
    frame: *mut Frame,
    class: *const u8,
    class_len: usize,
    message: *const u8,
    message_len: usize,
    place: *const u8,
    place_len: usize,
) -> i64 {
    // SAFETY: texts and frame are valid by the contract.
    unsafe {
        let error = Error::raised(&text(class, class_len), text(message, message_len), &text(place, place_len));
        fail(frame, error)
    }
}

/// Records an exception whose message is a string object and gives its status.
///
/// # Safety
/// The frame is that of the running call; the texts are valid; the object is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_raise_object(
    frame: *mut Frame,
    class: *const u8,
    class_len: usize,
    message: *mut Object,
    place: *const u8,
    place_len: usize,
) -> i64 {
    // SAFETY: texts, object and frame are valid by the contract.
    unsafe {
        let message = ObjectRef::from_borrowed(message).map_or_else(String::new, |object| match object.body() {
            ObjectBody::Str(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        });
        fail(frame, Error::raised(&text(class, class_len), message, &text(place, place_len)))
    }
}

/// Says where the user wrote the operator whose routine just failed, unless the error says so already.
///
/// # Safety
/// The frame is that of the running call; the text is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_failed_at(frame: *mut Frame, place: *const u8, place_len: usize) {
    // SAFETY: by the contract.
    let (runtime, place) = unsafe { (runtime(frame), text(place, place_len)) };
    if let Some(error) = runtime.error.as_mut().filter(|error| error.place.is_empty()) {
        error.place = place;
    }
}

/// Makes a slot hold at least this many bytes; the contents are undefined after growth. Gives 0 or a negative status.
///
/// # Safety
/// The frame is that of the running call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_slot(frame: *mut Frame, slot: i64, bytes: i64) -> i64 {
    // SAFETY: by the contract.
    let runtime = unsafe { runtime(frame) };
    let reserved = match (usize::try_from(slot), usize::try_from(bytes)) {
        (Ok(slot), Ok(bytes)) => runtime.slots.reserve(slot, bytes),
        _ => Err(Error::new(Status::Shape, format!("a tensor of {bytes} bytes"))),
    };
    match reserved {
        Ok(()) => 0,
        // SAFETY: by the contract.
        Err(error) => unsafe { fail(frame, error) },
    }
}

/// Runs a body over disjoint ranges that cover `0..n`, see [`crate::pool`].
///
/// # Safety
/// The frame is that of the running call; the body may run for disjoint ranges on several threads at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_parallel_for(frame: *mut Frame, n: i64, cost: i64, body: Body, context: *mut u8) {
    // SAFETY: only a shared reference, as the loop may come here again on this thread.
    let runtime = unsafe { &*(*frame).runtime.cast::<Runtime>() };
    // SAFETY: by the contract.
    unsafe { runtime.pool.parallel_for(n, cost, body, context) };
}

/// Adds a reference; null is fine.
///
/// # Safety
/// The object is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_retain(object: *mut Object) {
    // SAFETY: by the contract.
    std::mem::forget(unsafe { ObjectRef::from_borrowed(object) });
}

/// Gives a reference up; null is fine.
///
/// # Safety
/// The object is null or an owned reference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_release(object: *mut Object) {
    // SAFETY: by the contract.
    drop(unsafe { ObjectRef::from_raw(object) });
}

/// Keeps an object alive until the instance's next call: a result of this one is its tensor. Null is fine.
///
/// # Safety
/// The frame is that of the running call; the object is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_keep(frame: *mut Frame, object: *mut Object) {
    // SAFETY: by the contract.
    if let Some(object) = unsafe { ObjectRef::from_borrowed(object) } {
        // SAFETY: by the contract; no other reference to the runtime data is in use.
        unsafe { runtime(frame) }.results.push(object);
    }
}

/// A new string object.
///
/// # Safety
/// The text is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_text(_frame: *mut Frame, data: *const u8, len: usize) -> *mut Object {
    // SAFETY: by the contract.
    let bytes = if data.is_null() { &[][..] } else { unsafe { std::slice::from_raw_parts(data, len) } };
    ObjectRef::text(bytes).into_raw()
}

/// The first element of a tensor object; null for others.
///
/// # Safety
/// The object is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_tensor_data(object: *mut Object) -> *mut u8 {
    // SAFETY: by the contract; the reference is not dropped.
    let Some(object) = (unsafe { ObjectRef::from_raw(object) }) else { return std::ptr::null_mut() };
    let object = std::mem::ManuallyDrop::new(object);
    match object.body() {
        ObjectBody::Tensor(tensor) => tensor.data(),
        _ => std::ptr::null_mut(),
    }
}

/// Names and addresses of everything in this file, for linking in process.
pub fn symbols() -> Vec<(&'static str, usize)> {
    vec![
        ("aot_rt_raise", aot_rt_raise as *const () as usize),
        ("aot_rt_raise_object", aot_rt_raise_object as *const () as usize),
        ("aot_rt_failed_at", aot_rt_failed_at as *const () as usize),
        ("aot_rt_slot", aot_rt_slot as *const () as usize),
        ("aot_rt_parallel_for", aot_rt_parallel_for as *const () as usize),
        ("aot_rt_retain", aot_rt_retain as *const () as usize),
        ("aot_rt_release", aot_rt_release as *const () as usize),
        ("aot_rt_keep", aot_rt_keep as *const () as usize),
        ("aot_rt_text", aot_rt_text as *const () as usize),
        ("aot_rt_tensor_data", aot_rt_tensor_data as *const () as usize),
    ]
}
