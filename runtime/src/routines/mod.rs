//! What is not a loop nest: `extern "C"` routines on objects and tensors that compiled code and the evaluator call by name.
//!
//! The symbol of the routine `list_push` is `aot_rt_list_push`. A routine gets its operands as leaves and writes each result
//! as 64 bits: an int, the bits of a float, a bool as 0 or 1, or an owned object pointer (null for `None`). It returns 0, or a
//! negative status with the error recorded in the frame.
#![allow(unsafe_code, reason = "the contract with compiled code is made of pointers")]

use crate::abi::{Frame, Leaf, Status, Tag};
use crate::entry::leaf_tensor;
use crate::error::{Error, Result};
use crate::host::{fail, runtime};
use crate::model::Runtime;
use crate::object::{Body, Item, ObjectRef};
use crate::tensor::Tensor;

/// A routine as compiled code sees it.
pub type Routine = unsafe extern "C" fn(*mut Frame, *const Leaf, i64, *mut u64) -> i64;

/// The routine of this name, without the prefix `aot_rt_`.
pub fn find(name: &str) -> Option<Routine> {
    ROUTINES.iter().find(|(n, _)| *n == name).map(|(_, routine)| *routine)
}

/// Operands and results of a running routine.
pub(crate) struct Call<'a> {
    pub(crate) runtime: &'a mut Runtime,
    args: &'a [Leaf],
    results: *mut u64,
}

/// Runs a routine's body between the contract with compiled code and checked access.
///
/// # Safety
/// As the contract says: a frame of a running call, `n_args` leaves, room for the routine's results.
unsafe fn enter(
    frame: *mut Frame,
    args: *const Leaf,
    n_args: i64,
    results: *mut u64,
    body: fn(&mut Call<'_>) -> Result<()>,
) -> i64 {
    let n_args = if args.is_null() { 0 } else { usize::try_from(n_args).unwrap_or(0) };
    // SAFETY: by the caller's promise; an empty slice needs no memory.
    let args = if n_args == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(args, n_args) } };
    // SAFETY: by the caller's promise; one routine runs at a time on a frame.
    let mut call = Call { runtime: unsafe { runtime(frame) }, args, results };
    match body(&mut call) {
        Ok(()) => 0,
        // SAFETY: by the caller's promise; `call` is not used again.
        Err(error) => unsafe { fail(frame, error) },
    }
}

/// An exception of the model.
pub(crate) fn raise<T>(class: &str, message: impl Into<String>) -> Result<T> {
    Err(Error::raised(class, message, ""))
}

impl Call<'_> {
    pub(crate) fn n_args(&self) -> usize {
        self.args.len()
    }

    pub(crate) fn leaf(&self, i: usize) -> Result<&Leaf> {
        self.args.get(i).ok_or_else(|| Error::new(Status::Internal, "a routine got too few operands"))
    }

    /// An int, or a bool as 0 or 1.
    pub(crate) fn int(&self, i: usize) -> Result<i64> {
        let leaf = self.leaf(i)?;
        match leaf.kind() {
            Tag::Float => Ok(f64::from_bits(leaf.bits) as i64),
            _ => Ok(leaf.bits as i64),
        }
    }

    pub(crate) fn int_or(&self, i: usize, default: i64) -> Result<i64> {
        if i < self.args.len() && self.args[i].kind() != Tag::None { self.int(i) } else { Ok(default) }
    }

    /// A float, or an int as one.
    pub(crate) fn float(&self, i: usize) -> Result<f64> {
        let leaf = self.leaf(i)?;
        Ok(if leaf.kind() == Tag::Float { f64::from_bits(leaf.bits) } else { leaf.bits as i64 as f64 })
    }

    /// The object operand, with a reference of its own.
    pub(crate) fn object(&self, i: usize) -> Result<ObjectRef> {
        match self.item(i)? {
            Item::Object(object) => Ok(object),
            _ => Err(Error::new(Status::Internal, "a routine expected an object")),
        }
    }

    /// The operand as an element: text and tensors become new objects, a null object `None`.
    pub(crate) fn item(&self, i: usize) -> Result<Item> {
        let leaf = self.leaf(i)?;
        Ok(match leaf.kind() {
            Tag::None => Item::None,
            Tag::Bool => Item::Bool(leaf.bits != 0),
            Tag::Int => Item::Int(leaf.bits as i64),
            Tag::Float => Item::Float(f64::from_bits(leaf.bits)),
            // SAFETY: object operands are null or borrowed from a variable, alive during the call.
            Tag::Object => unsafe { ObjectRef::from_borrowed(leaf.bits as *mut _) }.map_or(Item::None, Item::Object),
            // SAFETY: text operands are constant text of the model.
            Tag::Text => Item::from(Body::Str(unsafe { leaf.text_bytes() }.to_vec())),
            Tag::Tensor => Item::from(Body::Tensor(leaf_tensor(leaf, self.runtime.env.allocator)?)),
        })
    }

    /// The tensor that a buffer operand or a tensor object stands for, sharing its memory.
    pub(crate) fn tensor(&self, i: usize) -> Result<Tensor> {
        let leaf = self.leaf(i)?;
        if leaf.kind() == Tag::Tensor {
            // SAFETY: the buffer lives during the call, in which the view is used.
            return Ok(unsafe { Tensor::borrowed(leaf.element_type(), leaf.dims(), None, leaf.bits as *mut u8) });
        }
        match self.object(i)?.body() {
            Body::Tensor(tensor) => Ok(tensor.clone()),
            _ => Err(Error::new(Status::Internal, "a routine expected a tensor")),
        }
    }

    /// The bytes of a text operand or a string object.
    pub(crate) fn bytes(&self, i: usize) -> Result<Vec<u8>> {
        match self.object(i)?.body() {
            Body::Str(bytes) => Ok(bytes.clone()),
            _ => Err(Error::new(Status::Internal, "a routine expected a string")),
        }
    }

    fn bits(&mut self, k: usize, bits: u64) {
        // SAFETY: the caller gave room for the routine's results.
        unsafe { self.results.add(k).write(bits) };
    }

    pub(crate) fn ret_int(&mut self, value: i64) -> Result<()> {
        self.bits(0, value as u64);
        Ok(())
    }

    pub(crate) fn ret_bool(&mut self, value: bool) -> Result<()> {
        self.bits(0, u64::from(value));
        Ok(())
    }

    pub(crate) fn ret_float(&mut self, value: f64) -> Result<()> {
        self.bits(0, value.to_bits());
        Ok(())
    }

    pub(crate) fn ret_body(&mut self, body: Body) -> Result<()> {
        self.ret_item(0, Item::from(body))
    }

    pub(crate) fn ret_text(&mut self, text: impl Into<Vec<u8>>) -> Result<()> {
        self.ret_body(Body::Str(text.into()))
    }

    /// Result number `k`; a complex number has no 64-bit form and becomes its real part.
    pub(crate) fn ret_item(&mut self, k: usize, item: Item) -> Result<()> {
        let bits = match item {
            Item::None => 0,
            Item::Bool(b) => u64::from(b),
            Item::Int(i) => i as u64,
            Item::Float(x) | Item::Complex(x, _) => x.to_bits(),
            Item::Object(object) => object.into_raw() as u64,
        };
        self.bits(k, bits);
        Ok(())
    }
}

/// Defines the exported symbol of each routine and the table by name.
macro_rules! routines {
    ($($symbol:ident $name:literal = $body:path;)*) => {
        $(
            #[doc = concat!("The routine `", $name, "`.")]
            ///
            /// # Safety
            /// The frame is that of the running call; `args` are `n_args` leaves; there is room for the results.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $symbol(frame: *mut Frame, args: *const Leaf, n_args: i64, results: *mut u64) -> i64 {
                // SAFETY: by the contract.
                unsafe { enter(frame, args, n_args, results, $body) }
            }
        )*
        /// Every routine by name.
        pub const ROUTINES: &[(&str, Routine)] = &[$(($name, $symbol)),*];
    };
}

routines! {}
