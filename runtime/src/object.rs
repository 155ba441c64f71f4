//! Counted objects of a running model: strings, lists, dicts, tuples, tensors, futures and instances.
//!
//! Compiled code holds them as raw counted pointers. A list or dict is shared by reference, as in `TorchScript`; a call runs
//! on one thread, so contents need no lock, while counts are atomic because an instance may move between threads.
#![allow(unsafe_code, reason = "counted raw pointers shared with compiled code")]

use crate::abi::Status;
use crate::dict::Dict;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::list::List;
use crate::task::Task;
use crate::tensor::Tensor;
use crate::text::Text;
use crate::value::Value;
use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// A counted object.
#[derive(Debug)]
#[repr(C)]
pub struct Object {
    count: AtomicUsize,
    body: UnsafeCell<Body>,
}

/// Where compiled code finds the parts of lists, texts and items, in bytes from the object or item.
pub mod layout {
    use super::{Body, Item, Object};
    use crate::list::List;
    use crate::text::Text;
    use std::mem::offset_of;

    /// Which variant of [`Body`] it is, 64 bits.
    pub const VARIANT: usize = offset_of!(Object, body);
    /// That of texts.
    pub const IS_TEXT: i64 = 1;
    /// The number of references, 64 bits.
    pub const COUNT: usize = offset_of!(Object, count);
    /// Where a variant's fields begin.
    const FIELDS: usize = VARIANT + 8;
    const _: () = assert!(size_of::<Body>() >= 8 + size_of::<List>() && align_of::<Body>() == 8);
    /// The address of the first item.
    pub const DATA: usize = FIELDS + List::DATA;
    /// Number of items.
    pub const LEN: usize = FIELDS + List::LEN;
    /// Number of items that there is room for.
    pub const CAPACITY: usize = FIELDS + List::CAPACITY;
    /// Bytes of a text.
    pub const TEXT_LEN: usize = FIELDS + Text::LEN;
    /// Bytes that there is room for at its address; 0 if it has none.
    pub const TEXT_CAPACITY: usize = FIELDS + Text::CAPACITY;
    /// The address of its first byte, if there is a capacity.
    pub const TEXT_DATA: usize = FIELDS + Text::DATA;
    /// Which variant of [`Item`] it is, 64 bits.
    pub const ITEM_TAG: usize = 0;
    /// That of objects.
    pub const IS_OBJECT: i64 = 5;
    /// The number, bool (a byte) or object that it holds.
    pub const ITEM_BITS: usize = 8;
    /// From one item to the next.
    pub const ITEM_BYTES: usize = size_of::<Item>();
    const _: () = assert!(align_of::<Item>() == 8);
}

/// What an object is. The variant is a 64-bit number, counted from 0, and its fields follow it.
#[derive(Debug)]
#[repr(C, u64)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Body {
    List(List),
    /// Bytes, UTF-8 by convention; indexed by byte.
    Str(Text),
    /// In insertion order.
    Dict(Dict),
    Tuple(Vec<Item>),
    /// Class name and field names; the fields.
    NamedTuple(Box<(String, Vec<String>)>, Vec<Item>),
    /// Perhaps a view of memory that other tensors show, too.
    Tensor(Tensor),
    /// What a task gives when it ends.
    Future(Arc<Task>),
    /// An item of any kind, where compiled code has one variable for all. As an operand it is the item.
    Boxed(Item),
    /// An instance of a script class.
    Instance(Instance),
}

/// An element of a list, dict or tuple. The variant is a 64-bit number, counted from 0, and its fields follow it.
#[derive(Clone, Debug)]
#[repr(C, u64)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Complex(f64, f64),
    Object(ObjectRef),
}

/// An owned reference to an object.
#[derive(Debug)]
#[repr(transparent)]
pub struct ObjectRef(NonNull<Object>);

// SAFETY: counts are atomic, and an object is used by one call, on one thread at a time.
unsafe impl Send for ObjectRef {}
// SAFETY: as above.
unsafe impl Sync for ObjectRef {}

impl Object {
    /// What it is, to change it; `None` for null.
    ///
    /// # Safety
    /// The pointer is null or to a living object, and no other reference to what it is is in use.
    pub(crate) unsafe fn body_of<'a>(object: *mut Self) -> Option<&'a mut Body> {
        // SAFETY: by the caller's promise.
        unsafe { object.as_ref().map(|object| &mut *object.body.get()) }
    }
}

impl ObjectRef {
    /// A new object.
    pub fn new(body: Body) -> Self {
        let object = Box::new(Object { count: AtomicUsize::new(1), body: UnsafeCell::new(body) });
        Self(NonNull::from(Box::leak(object)))
    }

    /// A new string.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::new(Body::Str(text.into().into()))
    }

    /// Takes over an owned reference.
    ///
    /// # Safety
    /// The pointer is null or an owned reference to a living object.
    pub unsafe fn from_raw(object: *mut Object) -> Option<Self> {
        NonNull::new(object).map(Self)
    }

    /// Adds a reference to a borrowed one.
    ///
    /// # Safety
    /// The pointer is null or points to a living object.
    pub unsafe fn from_borrowed(object: *mut Object) -> Option<Self> {
        // SAFETY: living by the caller's promise; the clone adds the reference that is then owned.
        let borrowed = std::mem::ManuallyDrop::new(unsafe { Self::from_raw(object) });
        (*borrowed).clone()
    }

    /// Gives the reference away.
    pub fn into_raw(self) -> *mut Object {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }

    /// The pointer, borrowed.
    pub fn as_raw(&self) -> *mut Object {
        self.0.as_ptr()
    }

    /// What it is.
    pub fn body(&self) -> &Body {
        // SAFETY: living; nobody holds `body_mut` across a call, by the rule on that function.
        unsafe { &*self.0.as_ref().body.get() }
    }

    /// Whether this is the only reference.
    pub(crate) fn is_unique(&self) -> bool {
        // SAFETY: living while a reference exists.
        unsafe { self.0.as_ref() }.count.load(Ordering::Acquire) == 1
    }

    /// What it is, to change it.
    ///
    /// # Safety
    /// No other reference from [`Self::body`] or this function is in use.
    #[allow(clippy::mut_from_ref, reason = "objects are shared by reference; the caller promises exclusivity")]
    pub unsafe fn body_mut(&self) -> &mut Body {
        // SAFETY: living, and exclusive by the caller's promise.
        unsafe { &mut *self.0.as_ref().body.get() }
    }
}

impl Clone for ObjectRef {
    fn clone(&self) -> Self {
        // SAFETY: living while a reference exists.
        unsafe { self.0.as_ref() }.count.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        // SAFETY: living while a reference exists.
        let count = unsafe { &self.0.as_ref().count };
        // The last reference needs no counting down, which is the dear part.
        if count.load(Ordering::Acquire) == 1 || count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: this was the last reference, and the object came from a `Box`.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl Item {
    /// The object for a value that is not a scalar, the scalar otherwise. Tensors are copied to row-major.
    pub fn from_value(value: &Value) -> Result<Self> {
        let list = |values: &[Value]| values.iter().map(Self::from_value).collect::<Result<Vec<_>>>();
        Ok(match value {
            Value::None => Self::None,
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Float(x) => Self::Float(*x),
            Value::Complex(re, im) => Self::Complex(*re, *im),
            Value::Str(text) => Self::from(Body::Str(text.as_bytes().into())),
            Value::Tensor(tensor) => Self::from(Body::Tensor(tensor.contiguous()?)),
            Value::List(items) => Self::from(Body::List(list(items)?.into())),
            Value::Tuple(items) => Self::from(Body::Tuple(list(items)?)),
            Value::NamedTuple { name, fields } => {
                let names = fields.iter().map(|(name, _)| name.clone()).collect();
                let items = fields.iter().map(|(_, value)| Self::from_value(value)).collect::<Result<Vec<_>>>()?;
                Self::from(Body::NamedTuple(Box::new((name.clone(), names)), items))
            }
            Value::Dict(entries) => {
                let pair = |(k, v): &(Value, Value)| Ok((Self::from_value(k)?, Self::from_value(v)?));
                Self::from(Body::Dict(entries.iter().map(pair).collect::<Result<_>>()?))
            }
        })
    }

    /// The value; tensors are copied, because the model may go on writing to them.
    pub fn to_value(&self) -> Result<Value> {
        Ok(match self {
            Self::None => Value::None,
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Float(x) => Value::Float(*x),
            Self::Complex(re, im) => Value::Complex(*re, *im),
            Self::Object(object) => object.to_value()?,
        })
    }
}

impl ObjectRef {
    /// The value; tensors are copied.
    pub fn to_value(&self) -> Result<Value> {
        let list = |items: &[Item]| items.iter().map(Item::to_value).collect::<Result<Vec<_>>>();
        Ok(match self.body() {
            Body::Str(bytes) => Value::Str(String::from_utf8_lossy(bytes).into_owned()),
            Body::List(items) => Value::List(items.iter().map(|item| item.to_value()).collect::<Result<_>>()?),
            Body::Tuple(items) => Value::Tuple(list(items)?),
            Body::NamedTuple(names, items) => {
                Value::NamedTuple { name: names.0.clone(), fields: names.1.iter().cloned().zip(list(items)?).collect() }
            }
            Body::Dict(entries) => Value::Dict(
                entries.iter().map(|(k, v)| Ok((k.to_value()?, v.to_value()?))).collect::<Result<Vec<_>>>()?,
            ),
            Body::Tensor(tensor) => Value::Tensor(tensor.to_owned_tensor()?),
            Body::Future(_) => return Err(Error::new(Status::Unsupported, "a Future as a value of the host's")),
            Body::Boxed(item) => item.to_value()?,
            Body::Instance(_) => {
                return Err(Error::new(Status::Unsupported, "an instance of a script class as a value of the host's"));
            }
        })
    }
}

impl From<Body> for Item {
    fn from(body: Body) -> Self {
        Self::Object(ObjectRef::new(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_through_objects_and_back() {
        let tensor = Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap();
        let value = Value::Dict(vec![(
            Value::Str("k".into()),
            Value::Tuple(vec![Value::Int(1), Value::List(vec![Value::Tensor(tensor), Value::None])]),
        )]);
        let item = Item::from_value(&value).unwrap();
        assert_eq!(format!("{:?}", strip(item.to_value().unwrap())), format!("{:?}", strip(value)));
    }

    /// Replaces tensors, whose addresses differ, by their bytes.
    fn strip(value: Value) -> Value {
        match value {
            Value::Tensor(t) => Value::Str(format!("{}{:?}", t.describe(), t.to_bytes())),
            Value::List(items) => Value::List(items.into_iter().map(strip).collect()),
            Value::Tuple(items) => Value::Tuple(items.into_iter().map(strip).collect()),
            Value::Dict(items) => Value::Dict(items.into_iter().map(|(k, v)| (strip(k), strip(v))).collect()),
            other => other,
        }
    }

    #[test]
    fn references_are_counted() {
        let a = ObjectRef::text("x");
        let raw = a.clone().into_raw();
        // SAFETY: `raw` is the owned reference given away above.
        let b = unsafe { ObjectRef::from_raw(raw) }.unwrap();
        // SAFETY: `a` lives.
        let c = unsafe { ObjectRef::from_borrowed(a.as_raw()) }.unwrap();
        drop((a, c));
        assert!(matches!(b.body(), Body::Str(text) if **text == *b"x"));
    }
}
