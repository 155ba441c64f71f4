//! What compiled code calls with plain arguments because it is called often: look-ups in dicts, texts that are put together.
//!
//! Each does a part of what a routine does, and none fails; where there is something to refuse, compiled code calls the routine.
#![allow(unsafe_code, reason = "the contract with compiled code is made of pointers")]

use crate::dict::Key;
use crate::object::{Body, Item, Object, ObjectRef};
use crate::routines::text::print_item;
use crate::text::Text;
use std::ptr::null_mut;

/// The value of a key in a dict; null if it is not there, or this is no dict.
///
/// # Safety
/// The object is null or living.
unsafe fn value_of(dict: *mut Object, key: Key<'_>) -> *mut Item {
    // SAFETY: by the caller's promise; nothing else of the dict is borrowed during a call.
    match unsafe { Object::body_of(dict) } {
        Some(Body::Dict(entries)) => entries.get_mut(key).map_or(null_mut(), |item| item),
        _ => null_mut(),
    }
}

/// The value of an int in a dict; null if it is not there.
///
/// # Safety
/// The object is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_dict_find_int(dict: *mut Object, key: i64) -> *mut Item {
    // SAFETY: by the contract.
    unsafe { value_of(dict, Key::Int(key)) }
}

/// The value of a text in a dict; null if it is not there.
///
/// # Safety
/// The object is null or living; the text is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_dict_find_text(dict: *mut Object, data: *const u8, len: usize) -> *mut Item {
    // SAFETY: by the contract.
    unsafe { value_of(dict, Key::Text(bytes(data, len))) }
}

/// The value of an object in a dict; null if it is not there.
///
/// # Safety
/// The objects are null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_dict_find_object(dict: *mut Object, key: *mut Object) -> *mut Item {
    // SAFETY: by the contract.
    match unsafe { Object::body_of(key) } {
        // SAFETY: by the contract; a dict is no text.
        Some(Body::Str(text)) => unsafe { value_of(dict, Key::Text(text)) },
        // SAFETY: by the contract.
        _ => unsafe { value_of(dict, Key::Item(&item(key))) },
    }
}

unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: address and length of valid text, by the caller's promise.
    if data.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } }
}

unsafe fn item(object: *mut Object) -> Item {
    // SAFETY: null or living, by the caller's promise.
    unsafe { ObjectRef::from_borrowed(object) }.map_or(Item::None, Item::Object)
}

/// A new text without letters.
#[unsafe(no_mangle)]
pub extern "C" fn aot_rt_text_new() -> *mut Object {
    ObjectRef::new(Body::Str(Text::new())).into_raw()
}

/// The text of an object, which this call takes over, to be made longer: itself, if it is a text that nothing else refers to.
///
/// # Safety
/// The object is null or an owned reference.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_text_begin(object: *mut Object) -> *mut Object {
    // SAFETY: by the contract.
    match unsafe { ObjectRef::from_raw(object) } {
        Some(text) if text.is_unique() && matches!(text.body(), Body::Str(_)) => text.into_raw(),
        given => {
            let text = aot_rt_text_new();
            let item = given.map_or(Item::None, Item::Object);
            // SAFETY: the text is new.
            unsafe { append(text, &item) };
            text
        }
    }
}

/// Appends the text of an item.
unsafe fn append(text: *mut Object, item: &Item) {
    // SAFETY: null or living, by the caller's promise, and no other object's.
    let Some(Body::Str(text)) = (unsafe { Object::body_of(text) }) else { return };
    match item {
        Item::Object(object) => match object.body() {
            Body::Str(more) => text.extend_from_slice(more),
            _ => text.extend_from_slice(print_item(item).as_bytes()),
        },
        item => text.extend_from_slice(print_item(item).as_bytes()),
    }
}

/// Makes a text longer.
///
/// # Safety
/// The object is a text that nothing else refers to; the text to append is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_text_add(text: *mut Object, data: *const u8, len: usize) {
    // SAFETY: by the contract.
    if let Some(Body::Str(text)) = unsafe { Object::body_of(text) } {
        // SAFETY: by the contract.
        text.extend_from_slice(unsafe { bytes(data, len) });
    }
}

/// Makes a text longer by that of an object.
///
/// # Safety
/// The first object is a text that nothing else refers to; the other is null or living.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_text_add_object(text: *mut Object, more: *mut Object) {
    // SAFETY: by the contract.
    unsafe {
        match Object::body_of(more) {
            Some(Body::Str(more)) => aot_rt_text_add(text, more.as_ptr(), more.len()),
            _ => append(text, &item(more)),
        }
    }
}

/// Makes a text longer by the digits of an integer.
///
/// # Safety
/// The object is a text that nothing else refers to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aot_rt_text_add_int(text: *mut Object, value: i64) {
    // SAFETY: by the contract.
    if let Some(Body::Str(text)) = unsafe { Object::body_of(text) } {
        text.push_int(value);
    }
}

/// Names and addresses of everything in this file, for linking in process.
pub fn symbols() -> Vec<(&'static str, usize)> {
    vec![
        ("aot_rt_dict_find_int", aot_rt_dict_find_int as *const () as usize),
        ("aot_rt_dict_find_text", aot_rt_dict_find_text as *const () as usize),
        ("aot_rt_dict_find_object", aot_rt_dict_find_object as *const () as usize),
        ("aot_rt_text_new", aot_rt_text_new as *const () as usize),
        ("aot_rt_text_begin", aot_rt_text_begin as *const () as usize),
        ("aot_rt_text_add", aot_rt_text_add as *const () as usize),
        ("aot_rt_text_add_object", aot_rt_text_add_object as *const () as usize),
        ("aot_rt_text_add_int", aot_rt_text_add_int as *const () as usize),
    ]
}
