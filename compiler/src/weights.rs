//! Tensors by name, as training frameworks keep them: `.safetensors`, NumPy's `.npz`, and dicts that `torch.save` wrote.
//!
//! A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: name to `dtype`, `shape` and
//! `data_offsets`), and the elements. Source: the format's description in the README of huggingface/safetensors.

use crate::archive::{self, Bytes};
use crate::diag::{Diagnostic, Result};
use crate::npy;
use crate::types::{DType, IValue, TensorData};
use indexmap::IndexMap;
use std::path::Path;
use std::sync::Arc;

/// Longest header of a safetensors file, as in the format's own library.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// Reads the tensors of a file, by name, in the file's order.
///
/// # Errors
/// User errors for files of another kind and broken ones, unsupported for element types that tensors do not have.
pub fn read(path: &Path) -> Result<IndexMap<String, Arc<TensorData>>> {
    if path.extension().is_some_and(|extension| extension == "npz") {
        let mut found = IndexMap::new();
        for (name, tensor) in npy::read_zip(path)? {
            let dtype =
                DType::from_code(i64::from(tensor.dtype.0)).ok_or_else(|| wrong(path, "an unknown element type"))?;
            let data = TensorData::from_bytes(dtype, &tensor.sizes, tensor.to_bytes());
            found.insert(name, Arc::new(data.map_err(|why| wrong(path, &why))?));
        }
        return Ok(found);
    }
    let bytes = std::fs::read(path).map_err(|e| Diagnostic::user(format!("cannot read {}: {e}", path.display())))?;
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return safetensors(&bytes, path);
    }
    let IValue::Dict(_, entries) = archive::load_data(Bytes::new(bytes), &path.display().to_string())? else {
        return Err(wrong(path, "this is no dict of tensors"));
    };
    let tensor = |(name, value): &(IValue, IValue)| match (name, value) {
        (IValue::Str(name), IValue::Tensor(data)) => Ok((name.to_string(), Arc::clone(data))),
        _ => Err(wrong(path, "this is no dict of tensors")),
    };
    entries.iter().map(tensor).collect()
}

fn wrong(path: &Path, what: &str) -> Box<Diagnostic> {
    Diagnostic::user(format!("{}: {what}", path.display()))
}

fn safetensors(bytes: &[u8], path: &Path) -> Result<IndexMap<String, Arc<TensorData>>> {
    let wrong = |what: &str| wrong(path, what);
    let (length, rest) =
        bytes.split_at_checked(8).ok_or_else(|| wrong("this is no safetensors file: it is too short"))?;
    let length = u64::from_le_bytes(length.try_into().map_err(|_| wrong("the header's length"))?);
    let length = usize::try_from(length).ok().filter(|n| *n <= MAX_HEADER_BYTES);
    let split = length.and_then(|length| rest.split_at_checked(length));
    let (header, elements) = split.ok_or_else(|| wrong("this is no safetensors file: its header is longer than it"))?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| wrong(&format!("the header is no JSON object: {error}")))?;
    let mut found = IndexMap::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let wrong = |what: &str| wrong(&format!("the tensor '{name}' {what}"));
        let label = entry["dtype"].as_str().ok_or_else(|| wrong("has no element type"))?;
        let dtype = dtype(label).ok_or_else(|| {
            Diagnostic::unsupported(format!("{}: the element type '{label}' of '{name}'", path.display()))
        })?;
        let numbers = |key: &str| -> Option<Vec<i64>> {
            entry[key].as_array()?.iter().map(|n| n.as_i64().filter(|n| *n >= 0)).collect()
        };
        let sizes = numbers("shape").ok_or_else(|| wrong("has no shape"))?;
        let offsets = numbers("data_offsets").ok_or_else(|| wrong("has no offsets"))?;
        let &[start, end] = offsets.as_slice() else { return Err(wrong("has no two offsets")) };
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let own = range.and_then(|(start, end)| elements.get(start..end));
        let own = own.ok_or_else(|| wrong("lies outside of the file"))?;
        let numel = sizes.iter().try_fold(1_usize, |n, size| n.checked_mul(usize::try_from(*size).ok()?));
        if numel.and_then(|n| n.checked_mul(dtype.size_bytes())) != Some(own.len()) {
            return Err(wrong(&format!("has {} bytes, which is not what {label}{sizes:?} takes", own.len())));
        }
        let data = TensorData::from_bytes(dtype, &sizes, own.to_vec());
        found.insert(name.clone(), Arc::new(data.map_err(|why| wrong(&why))?));
    }
    Ok(found)
}

/// The element type by the format's name for it.
fn dtype(label: &str) -> Option<DType> {
    Some(match label {
        "BOOL" => DType::Bool,
        "U8" => DType::U8,
        "I8" => DType::I8,
        "I16" => DType::I16,
        "I32" => DType::I32,
        "I64" => DType::I64,
        "U16" => DType::U16,
        "U32" => DType::U32,
        "U64" => DType::U64,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F32" => DType::F32,
        "F64" => DType::F64,
        "F8_E5M2" => DType::F8E5M2,
        "F8_E4M3" => DType::F8E4M3,
        "C64" => DType::C64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn safetensors_files_are_read_and_broken_ones_refused() {
        let read = |bytes: &[u8]| safetensors(bytes, Path::new("w.safetensors"));
        let header = r#"{"__metadata__":{"format":"pt"},"a.b":{"dtype":"I16","shape":[1,2],"data_offsets":[2,6]}}"#;
        let found = read(&file(header, &[9, 9, 1, 0, 2, 0])).unwrap();
        assert_eq!(found["a.b"].sizes(), [1, 2]);
        assert_eq!(*found["a.b"].contiguous_bytes(), [1, 0, 2, 0]);
        let refused = |bytes: &[u8], words: &str| {
            let error = read(bytes).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
        };
        refused(&[1, 2], "too short");
        refused(&u64::MAX.to_le_bytes(), "longer than it");
        refused(&file("[1]", &[]), "no JSON object");
        refused(&file(header, &[9, 9, 1]), "outside of the file");
        refused(&file(&header.replace("[1,2]", "[1,3]"), &[0; 8]), "has 4 bytes");
        refused(&file(&header.replace("[1,2]", "[-1,2]"), &[0; 8]), "has no shape");
        refused(&file(&header.replace("I16", "X"), &[0; 8]), "element type 'X'");
    }
}
