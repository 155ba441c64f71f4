//! NumPy's files: `.npy`, an array, and `.npz`, a zip of them.

use crate::archive::{Bytes, Container};
use crate::diag::{Diagnostic, Result};
use crate::types::DType;
use aot_runtime::{Dtype, Tensor};
use std::fmt::Write as _;
use std::path::Path;

/// Reads the array in a `.npy` file's bytes; `name` is for messages.
///
/// # Errors
/// User errors for files of another kind, unsupported for element types that tensors do not have.
pub fn read(bytes: &[u8], name: &str) -> Result<Tensor> {
    let wrong = |what: &str| Diagnostic::user(format!("{name}: {what}"));
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| wrong("this is no .npy file"))?;
    let (n_header, rest) = match *rest {
        [1, _, a, b, ref rest @ ..] => (usize::from(u16::from_le_bytes([a, b])), rest),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]) as usize, rest),
        _ => return Err(wrong("the version of this .npy file is not known")),
    };
    let (header, data) = rest.split_at_checked(n_header).ok_or_else(|| wrong("the file is cut off"))?;
    let header = std::str::from_utf8(header).map_err(|_| wrong("the header is not text"))?;
    let field = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let descr = field("descr").and_then(|text| text.strip_prefix('\'')?.split_once('\''));
    let descr = descr.ok_or_else(|| wrong("the header has no element type"))?.0;
    let dtype =
        dtype_of(descr).ok_or_else(|| Diagnostic::unsupported(format!("{name}: the NumPy element type '{descr}'")))?;
    let shape = field("shape").and_then(|text| text.strip_prefix('(')?.split_once(')'));
    let shape = shape.ok_or_else(|| wrong("the header has no shape"))?.0;
    let sizes: Option<Vec<i64>> =
        shape.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok().filter(|&n| n >= 0)).collect();
    let sizes = sizes.ok_or_else(|| wrong("the shape is not a list of numbers"))?;
    let is_column_major = field("fortran_order").is_some_and(|text| text.starts_with("True"));
    let stored: Vec<i64> = if is_column_major { sizes.iter().rev().copied().collect() } else { sizes.clone() };
    let code = u8::try_from(dtype.code()).expect("codes of element types are small");
    let n_bytes = aot_runtime::tensor::size_bytes(Dtype(code), &stored).map_err(|e| wrong(&e.to_string()))?;
    let data = data.get(..n_bytes).ok_or_else(|| wrong("the file is cut off"))?;
    let mut tensor = Tensor::from_bytes(Dtype(code), &stored, data).map_err(|e| wrong(&e.to_string()))?;
    if is_column_major {
        tensor.sizes.reverse();
        tensor.strides.reverse();
        tensor = tensor.contiguous().map_err(|e| wrong(&e.to_string()))?;
    }
    Ok(tensor)
}

/// Reads every array of a `.npz` file, by name, in the file's order.
///
/// # Errors
/// As [`read`]; those of reading a zip.
pub fn read_zip(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let bytes = std::fs::read(path).map_err(|e| Diagnostic::user(format!("cannot read {}: {e}", path.display())))?;
    let name = path.display().to_string();
    let zip = Container::from_bytes(Bytes::new(bytes), &name)?;
    let arrays = zip.names().filter_map(|member| Some((member.strip_suffix(".npy")?, member)));
    arrays
        .map(|(array, member)| Ok((array.to_owned(), read(zip.get(member)?.as_ref(), &format!("{name}: {member}"))?)))
        .collect()
}

/// The bytes of a `.npy` file with this tensor.
///
/// # Errors
/// Unsupported for element types that NumPy does not have.
pub fn write(tensor: &Tensor) -> Result<Vec<u8>> {
    let dtype = DType::from_code(i64::from(tensor.dtype.0)).and_then(descr);
    let dtype = dtype.ok_or_else(|| Diagnostic::unsupported(format!("NumPy has no {}", tensor.dtype.name())))?;
    let mut sizes = String::new();
    for n in &tensor.sizes {
        let _ = write!(sizes, "{n}, ");
    }
    let sizes = if tensor.sizes.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Elements begin at a multiple of 64 bytes.
    let fill = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', fill));
    header.push('\n');
    let n_header = u16::try_from(header.len()).map_err(|_| Diagnostic::internal("a header of over 64 kB"))?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(n_header.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(tensor.to_bytes());
    Ok(bytes)
}

/// NumPy's name of an element type, little-endian.
fn descr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::C64 => "<c8",
        DType::C128 => "<c16",
        _ => return None,
    })
}

fn dtype_of(text: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| descr(dtype).is_some_and(|known| known == text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back() {
        for sizes in [&[2, 3][..], &[6], &[1, 2, 3, 1]] {
            let tensor = Tensor::from_f32(sizes, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
            let bytes = write(&tensor).unwrap();
            assert_eq!((bytes.len() - 24) % 64, 0);
            let back = read(&bytes, "x").unwrap();
            assert_eq!((back.sizes.as_slice(), back.to_bytes()), (sizes, tensor.to_bytes()));
        }
        let scalar = Tensor::from_i64(&[], &[7]).unwrap();
        assert_eq!(read(&write(&scalar).unwrap(), "x").unwrap().sizes, Vec::<i64>::new());
    }

    #[test]
    fn column_major_arrays_are_turned() {
        let tensor = Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let mut bytes = write(&tensor).unwrap();
        let at = bytes.windows(6).position(|w| w == b"False,").unwrap();
        bytes[at..at + 6].copy_from_slice(b"True ,");
        let back = read(&bytes, "x").unwrap();
        assert_eq!(back.sizes, [2, 3]);
        let expected = Tensor::from_f32(&[6], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]).unwrap();
        assert_eq!(back.to_bytes(), expected.to_bytes());
    }

    #[test]
    fn cut_files_are_refused() {
        let bytes = write(&Tensor::from_i64(&[3], &[1, 2, 3]).unwrap()).unwrap();
        for n in [0, 5, 9, 40, bytes.len() - 1] {
            assert!(read(&bytes[..n], "x").is_err(), "{n}");
        }
    }
}
