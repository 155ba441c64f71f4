//! Instances of script classes, shared by reference.
#![allow(unsafe_code, reason = "changes objects that variables share")]

use super::{Call, containers};
use crate::error::Result;
use crate::instance::Instance;
use crate::object::{Body, Item};

/// `object_new(kind, n)`: an instance of this kind, whose `n` attributes are not set.
pub(super) fn object_new(call: &mut Call<'_>) -> Result<()> {
    let n = u32::try_from(call.int(1)?).map_err(|_| containers::wrong())?;
    call.ret_body(Body::Instance(Instance { kind: call.int(0)?, attributes: vec![Item::None; n as usize] }))
}

/// `object_get(object, i)`: an attribute.
pub(super) fn object_get(call: &mut Call<'_>) -> Result<()> {
    let at = usize::try_from(call.int(1)?).unwrap_or(usize::MAX);
    let item = match call.borrowed(0)?.body() {
        Body::Instance(instance) => instance.attributes.get(at).cloned(),
        _ => None,
    };
    call.ret_item(0, item.ok_or_else(containers::wrong)?)
}

/// `object_set(object, i, item)`
pub(super) fn object_set(call: &mut Call<'_>) -> Result<()> {
    let at = usize::try_from(call.int(1)?).unwrap_or(usize::MAX);
    let item = call.item(2)?;
    // SAFETY: a call runs on one thread, and the reference ends before the old item is given up.
    let place = match unsafe { call.borrowed(0)?.body_mut() } {
        Body::Instance(instance) => instance.attributes.get_mut(at),
        _ => None,
    };
    let old = std::mem::replace(place.ok_or_else(containers::wrong)?, item);
    drop(old);
    Ok(())
}

/// `object_is(a, b)`: whether two variables refer to one object.
pub(super) fn object_is(call: &mut Call<'_>) -> Result<()> {
    let is_same = call.borrowed(0)?.as_raw() == call.borrowed(1)?.as_raw();
    call.ret_bool(is_same)
}
