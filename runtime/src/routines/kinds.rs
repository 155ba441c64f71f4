//! Items of which only the running program knows what kind they are.

use super::{Call, containers, instances};
use crate::abi::Status;
use crate::error::{Error, Result};
use crate::object::{Body, Item};

/// The numbers of kinds, which compiled code compares with.
pub mod kind {
    /// `None`.
    pub const NONE: i64 = 0;
    /// A truth value.
    pub const BOOL: i64 = 1;
    /// An integer.
    pub const INT: i64 = 2;
    /// A float.
    pub const FLOAT: i64 = 3;
    /// A complex number.
    pub const COMPLEX: i64 = 4;
    /// A text.
    pub const STR: i64 = 5;
    /// A list.
    pub const LIST: i64 = 6;
    /// A dict.
    pub const DICT: i64 = 7;
    /// A future.
    pub const FUTURE: i64 = 8;
    /// Instances of script classes begin here: a hash of the name of their class follows.
    pub const CLASS: i64 = 1 << 62;
    /// Tuples begin here: their length follows.
    pub const TUPLE: i64 = 1 << 16;
    /// Tensors begin here: 256 times their element type and their rank follow.
    pub const TENSOR: i64 = 1 << 32;

    /// That of tuples of this length.
    pub fn tuple(len: usize) -> i64 {
        TUPLE + len as i64
    }

    /// That of instances of the class with this name.
    pub fn class(name: &str) -> i64 {
        // FNV-1a.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        CLASS | (hash >> 2) as i64
    }

    /// That of tensors of this element type and rank.
    pub fn tensor(dtype: u8, rank: usize) -> i64 {
        TENSOR + 256 * i64::from(dtype) + rank as i64
    }
}

/// What kind of item it is.
fn kind_of(item: &Item) -> i64 {
    match item {
        Item::None => kind::NONE,
        Item::Bool(_) => kind::BOOL,
        Item::Int(_) => kind::INT,
        Item::Float(_) => kind::FLOAT,
        Item::Complex(..) => kind::COMPLEX,
        Item::Object(object) => match object.body() {
            Body::Str(_) => kind::STR,
            Body::List(_) => kind::LIST,
            Body::Dict(_) => kind::DICT,
            Body::Tuple(items) | Body::NamedTuple(_, items) => kind::tuple(items.len()),
            Body::Tensor(tensor) => kind::tensor(tensor.dtype.0, tensor.sizes.len()),
            Body::Future(_) => kind::FUTURE,
            Body::Boxed(item) => kind_of(item),
            Body::Instance(instance) => instance.kind,
        },
    }
}

/// `box(item)`: an object that holds any item.
pub(super) fn boxed(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(0)?;
    call.ret_body(Body::Boxed(item))
}

/// `box_complex(re, im)`: the same of a complex number.
pub(super) fn box_complex(call: &mut Call<'_>) -> Result<()> {
    let item = Item::Complex(call.float(0)?, call.float(1)?);
    call.ret_body(Body::Boxed(item))
}

/// `box_part(box, i)`: the real (0) or imaginary part of the complex number in a box.
pub(super) fn box_part(call: &mut Call<'_>) -> Result<()> {
    match (call.item(0)?, call.int(1)?) {
        (Item::Complex(re, _), 0) => call.ret_float(re),
        (Item::Complex(_, im), _) => call.ret_float(im),
        _ => Err(containers::wrong()),
    }
}

/// `box_kind(box)`: what kind of item it holds.
pub(super) fn box_kind(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(0)?;
    call.ret_int(kind_of(&item))
}

/// `unbox(box)`: the item it holds.
pub(super) fn unbox(call: &mut Call<'_>) -> Result<()> {
    let item = call.item(0)?;
    call.ret_item(0, item)
}

/// `boxed(name, operands...)`: what a routine gives, in a box.
pub(super) fn boxed_result(call: &mut Call<'_>) -> Result<()> {
    let routine = match call.text(0)? {
        b"list_get" => containers::list_get,
        b"list_pop" => containers::list_pop,
        b"dict_get" => containers::dict_get,
        b"dict_pop" => containers::dict_pop,
        b"dict_setdefault" => containers::dict_setdefault,
        b"object_get" => instances::object_get,
        b"tuple_get" => containers::list_get,
        b"unbox" => unbox,
        _ => return Err(Error::new(Status::Internal, "a routine whose results do not come in boxes")),
    };
    call.boxed(1, routine)
}
