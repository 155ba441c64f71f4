//! Tensors of a pickle: strided over a storage, with their bits and quantizers, and sparse ones.

use super::Fault;
use super::pickle::{Global, Id, Node};
use super::values::{Counted, Reader, check_device};
use crate::types::{ChannelQuantizer, DType, IValue, Object, Storage, TensorData};
use indexmap::IndexMap;
use std::sync::Arc;

/// Largest tensor whose conjugate or negative bit is resolved, which copies it.
const MAX_RESOLVED_BYTES: usize = 256 << 20;

/// Class name of the object that stands for a sparse COO tensor, with attributes `size`, `indices` and `values`.
const SPARSE_COO_CLASS: &str = "torch.sparse_coo_tensor";

impl Reader<'_> {
    /// A tensor of a storage; `dtype` is given where the storage is untyped.
    pub(super) fn tensor(
        &mut self,
        storage: Id,
        offset: Id,
        sizes: Id,
        strides: Id,
        dtype: Option<DType>,
    ) -> Result<TensorData, Fault> {
        let (dtype, storage) = self.storage(storage, dtype)?;
        let (offset, sizes, strides) = (self.int(offset)?, self.ints(sizes)?, self.ints(strides)?);
        TensorData::new(dtype, sizes, strides, offset, storage).map_err(|e| Fault::bad(format!("Tensor: {e}")))
    }

    /// The storage of a persistent id `("storage", torch.XStorage, key, device, number of elements)`.
    fn storage(&mut self, id: Id, dtype: Option<DType>) -> Result<(DType, Storage), Fault> {
        let pickle = self.pickle;
        let malformed =
            || Fault::bad("a tensor's storage is not described by (\"storage\", type, key, device, length)");
        let Node::Persistent(description) = pickle.node(id) else { return Err(malformed()) };
        let Node::Tuple(parts) = pickle.node(*description) else { return Err(malformed()) };
        let [tag, class, key, device, numel] = **parts else { return Err(malformed()) };
        let (Node::Str(tag), Node::Global(Global::Storage(class))) = (pickle.node(tag), pickle.node(class)) else {
            return Err(malformed());
        };
        let (Node::Str(key), Node::Str(device)) = (pickle.node(key), pickle.node(device)) else {
            return Err(malformed());
        };
        if &**tag != "storage" {
            return Err(malformed());
        }
        check_device(device)?;
        if device.split(':').next() == Some("meta") {
            return Err(Fault::Unsupported("tensors on the device 'meta' have no data".into()));
        }
        let numel = self.int(numel)?;
        let numel = u64::try_from(numel)
            .map_err(|_| Fault::bad(format!("Numel can not be negative: storage length {numel}")))?;
        let dtype = dtype.or(*class).ok_or_else(malformed)?;
        let element_bytes = class.map_or(1, DType::size_bytes);
        let size_bytes = u64::try_from(element_bytes).ok().and_then(|n| n.checked_mul(numel));
        let size_bytes = size_bytes.ok_or_else(|| Fault::bad(format!("the storage length {numel} overflows")))?;
        let unit_bytes = if dtype.is_complex() { dtype.size_bytes() / 2 } else { dtype.size_bytes() };
        let storages = self.storages.as_mut().ok_or_else(|| Fault::bad("a tensor is not expected here"))?;
        Ok((dtype, storages.load(key, size_bytes, unit_bytes)?))
    }

    /// Applies the conjugate and negative bits of a tensor's metadata dict.
    pub(super) fn resolve_bits(&mut self, tensor: TensorData, metadata: Option<Id>) -> Result<TensorData, Fault> {
        let Some(metadata) = metadata else { return Ok(tensor) };
        let IValue::Dict(_, entries) = self.value(metadata)?.value else {
            return Err(Fault::bad("a tensor's metadata is not a dict"));
        };
        let (mut is_conj, mut is_neg) = (false, false);
        for (key, value) in entries.iter() {
            match (key, value) {
                (IValue::Str(key), IValue::Bool(on)) if &**key == "conj" => is_conj = *on,
                (IValue::Str(key), IValue::Bool(on)) if &**key == "neg" => is_neg = *on,
                _ => return Err(Fault::Unsupported("tensor metadata other than conj and neg is not supported".into())),
            }
        }
        if !is_conj && !is_neg {
            return Ok(tensor);
        }
        let dtype = tensor.dtype();
        if !(dtype.is_complex() || (is_neg && !is_conj && dtype.is_floating_point())) {
            return Err(Fault::bad(format!("a tensor of type {dtype} has a conjugate or negative bit")));
        }
        let n_bytes = usize::try_from(tensor.numel()).ok().and_then(|n| n.checked_mul(dtype.size_bytes()));
        if n_bytes.is_none_or(|n| n > MAX_RESOLVED_BYTES) {
            return Err(Fault::bad("a tensor with a conjugate or negative bit is too large"));
        }
        let mut bytes = tensor.contiguous_bytes().into_owned();
        let part_bytes = if dtype.is_complex() { dtype.size_bytes() / 2 } else { dtype.size_bytes() };
        for (i, part) in bytes.chunks_exact_mut(part_bytes).enumerate() {
            let is_imaginary = dtype.is_complex() && i % 2 == 1;
            if let Some(sign) = part.last_mut().filter(|_| is_neg != (is_conj && is_imaginary)) {
                *sign ^= 0x80;
            }
        }
        TensorData::from_bytes(dtype, tensor.sizes(), bytes).map_err(Fault::Bad)
    }

    /// Gives a tensor the scales and zero points a quantizer tuple describes.
    pub(super) fn set_quantizer(&mut self, tensor: &mut TensorData, quantizer: Id) -> Result<(), Fault> {
        let pickle = self.pickle;
        let wrong = || Fault::bad("a quantised tensor's quantizer is malformed");
        let Node::Tuple(parts) = pickle.node(quantizer) else { return Err(wrong()) };
        match (parts.first().map(|&scheme| pickle.node(scheme)), &**parts) {
            (Some(Node::Global(Global::PerTensorAffine)), [_, scale, zero_point]) => {
                let Node::Float(scale) = pickle.node(*scale) else { return Err(wrong()) };
                tensor.quantizer = Some((*scale, self.int(*zero_point)?));
            }
            (Some(Node::Global(Global::PerChannelAffine)), [_, scales, zero_points, axis]) => {
                let (scales, zero_points) = (self.value(*scales)?.value, self.value(*zero_points)?.value);
                let (IValue::Tensor(scales), IValue::Tensor(zero_points)) = (scales, zero_points) else {
                    return Err(wrong());
                };
                let axis = usize::try_from(self.int(*axis)?).map_err(|_| wrong())?;
                let extent = tensor.sizes().get(axis).copied().ok_or_else(wrong)?;
                if [&scales, &zero_points].iter().any(|t| t.sizes() != [extent]) {
                    return Err(Fault::bad("a quantised tensor does not have one scale and zero point a channel"));
                }
                tensor.channel_quantizer = Some(Arc::new(ChannelQuantizer { scales, zero_points, axis }));
            }
            (Some(Node::Global(Global::PerTensorAffine | Global::PerChannelAffine)), _) => return Err(wrong()),
            _ => return Err(Fault::Unsupported("quantization schemes other than affine are not supported".into())),
        }
        Ok(())
    }

    /// A sparse COO tensor as an object of class [`SPARSE_COO_CLASS`]. TorchScript writes (layout, sizes, `requires_grad`,
    /// indices, values, hooks), Python's pickler (layout, (indices, values, sizes, `is_coalesced`)).
    pub(super) fn sparse(&mut self, args: &[Id]) -> Result<Counted, Fault> {
        let pickle = self.pickle;
        let wrong = || Fault::bad("a sparse tensor's description is malformed");
        let (layout, size, indices, values) = match *args {
            [layout, size, _grad, indices, values, _hooks] => (layout, size, indices, values),
            [layout, data] => match pickle.node(data) {
                Node::Tuple(parts) => match **parts {
                    [indices, values, size] | [indices, values, size, _] => (layout, size, indices, values),
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        if !matches!(self.value(layout)?.value, IValue::Int(1)) {
            return Err(Fault::Unsupported("sparse tensors of layouts other than COO are not supported".into()));
        }
        let mut attrs = IndexMap::new();
        for (name, id) in [("size", size), ("indices", indices), ("values", values)] {
            attrs.insert(Arc::from(name), self.value(id)?.value);
        }
        if !matches!((attrs.get("indices"), attrs.get("values")), (Some(IValue::Tensor(_)), Some(IValue::Tensor(_)))) {
            return Err(wrong());
        }
        Ok(Counted { value: IValue::Object(Arc::new(Object { class: SPARSE_COO_CLASS.into(), attrs })), n_values: 4 })
    }
}
