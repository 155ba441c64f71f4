//! What the last failing call of a thread ended with, in parts and without a limit of length.
#![allow(unsafe_code, reason = "the C interface is made of pointers")]

use crate::error::Error;
use std::cell::RefCell;
use std::ffi::{CString, c_char};

/// `aot_exception`: why the last failing call of a thread failed. The texts live until its next failing call.
#[repr(C)]
#[derive(Debug)]
pub struct AotException {
    /// The status that was returned.
    pub code: i32,
    /// The number of the operator in the model's table; -1: unknown.
    pub op: i32,
    /// The line in the file, from 1; 0: unknown.
    pub line: i32,
    /// The column in the line, from 0.
    pub column: i32,
    /// The Python class; empty where the model raised nothing.
    pub class: *const c_char,
    /// What happened.
    pub message: *const c_char,
    /// The user's file; empty: unknown.
    pub file: *const c_char,
}

/// The structure with the texts it points at.
struct Kept {
    exception: AotException,
    _texts: [CString; 3],
}

thread_local! {
    static LAST: RefCell<Option<Box<Kept>>> = const { RefCell::new(None) };
}

/// Keeps an error for the thread.
pub(super) fn keep(error: &Error) {
    let (file, line, column) = error.location().unwrap_or(("", 0, 0));
    let text = |text: &str| CString::new(text.replace('\0', "")).unwrap_or_default();
    let texts = [text(&error.class), text(&error.message), text(file)];
    let exception = AotException {
        code: error.status as i32,
        op: error.operator.and_then(|op| i32::try_from(op).ok()).unwrap_or(-1),
        line: i32::try_from(line).unwrap_or(0),
        column: i32::try_from(column).unwrap_or(0),
        class: texts[0].as_ptr(),
        message: texts[1].as_ptr(),
        file: texts[2].as_ptr(),
    };
    // A thread that ends keeps nothing.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Some(Box::new(Kept { exception, _texts: texts })));
}

/// `foo_last_exception`; null if no call of this thread failed.
#[unsafe(no_mangle)]
pub extern "C" fn aot_rt_last_exception() -> *const AotException {
    let last = LAST.try_with(|last| last.borrow().as_ref().map(|kept| &raw const kept.exception));
    last.ok().flatten().unwrap_or(std::ptr::null())
}
