//! Types and values that every layer shares: element types, TorchScript types, constant tensors and values.

mod device;
mod dtype;
mod parse;
mod tensor;
mod ty;
mod value;

pub use device::{DEVICE_TYPES, is_device};
pub use dtype::{Category, DType};
pub use tensor::{ChannelQuantizer, Storage, TensorData};
pub use ty::{EnumType, NamedTupleType, TensorType, Type};
pub use value::{IValue, Object};
