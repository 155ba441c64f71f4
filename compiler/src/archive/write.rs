//! An archive as bytes, in the form that PyTorch writes: stored members, storages aligned to 64 bytes, pickles of protocol 2.
//!
//! Equal archives give equal bytes. What is shared stays shared: objects and strings through the pickle's memo, tensors
//! through their storages.

use super::Archive;
use crate::diag::{Diagnostic, Result};
use crate::types::{IValue, Object, Storage, TensorData, Type};
use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::sync::Arc;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// PyTorch's reader maps storages, which it wants at such offsets.
const ALIGNMENT: u16 = 64;

/// How deep values may nest.
const MAX_DEPTH: usize = 200;

/// The root folder's name; readers take any.
const ROOT: &str = "archive";

/// Which tensors are marked as requiring gradients.
pub type Trainable<'a> = &'a dyn Fn(&Arc<TensorData>) -> bool;

/// Writes the archive.
///
/// # Errors
/// Unsupported for tensors and objects that only the reader knows: quantised and sparse ones.
pub fn write(archive: &Archive, trainable: Trainable<'_>) -> Result<Vec<u8>> {
    let mut zip = Members { zip: ZipWriter::new(Cursor::new(Vec::new())) };
    let mut data = Pickler::new("data", trainable);
    data.value(&IValue::Object(Arc::clone(&archive.root)), None, 0)?;
    zip.add("data.pkl", &data.finish())?;
    let mut constants = Pickler::new("constants", trainable);
    constants.tuple(archive.constants.iter().map(|value| (value, None)), 0)?;
    zip.add("constants.pkl", &constants.finish())?;
    for (name, source) in &archive.sources {
        zip.add(name, source.text.as_bytes())?;
    }
    for (name, bytes) in &archive.extra_files {
        zip.add(&format!("extra/{name}"), bytes.as_ref())?;
    }
    zip.add("byteorder", if cfg!(target_endian = "little") { b"little" } else { b"big" })?;
    for pickler in [&data, &constants] {
        for (i, storage) in pickler.storages.iter().enumerate() {
            zip.add(&format!("{}/{i}", pickler.folder), storage.bytes())?;
        }
    }
    zip.add("version", format!("{}\n", archive.version).as_bytes())?;
    zip.finish()
}

struct Members {
    zip: ZipWriter<Cursor<Vec<u8>>>,
}

impl Members {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Diagnostic::internal(format!("writing an archive: {error}"));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment(ALIGNMENT);
        self.zip.start_file(format!("{ROOT}/{name}"), options).map_err(|e| failed(&e))?;
        self.zip.write_all(bytes).map_err(|e| failed(&e))
    }

    fn finish(self) -> Result<Vec<u8>> {
        let done = self.zip.finish().map_err(|e| Diagnostic::internal(format!("writing an archive: {e}")))?;
        Ok(done.into_inner())
    }
}

/// What is written once and referred to afterwards.
#[derive(PartialEq, Eq, Hash)]
enum Known {
    Text(String),
    Global(String),
    Object(usize),
    Tensor(usize),
}

struct Pickler<'a> {
    /// The folder of the storages.
    folder: &'static str,
    trainable: Trainable<'a>,
    out: Vec<u8>,
    memo: HashMap<Known, u32>,
    storages: Vec<Storage>,
}

impl<'a> Pickler<'a> {
    fn new(folder: &'static str, trainable: Trainable<'a>) -> Self {
        Self { folder, trainable, out: b"\x80\x02".to_vec(), memo: HashMap::new(), storages: Vec::new() }
    }

    fn finish(&mut self) -> Vec<u8> {
        self.out.push(b'.');
        std::mem::take(&mut self.out)
    }

    /// Refers to what was written before; `false` if this is the first time.
    fn recall(&mut self, known: &Known) -> bool {
        let Some(&id) = self.memo.get(known) else { return false };
        match u8::try_from(id) {
            Ok(id) => self.out.extend([b'h', id]),
            Err(_) => {
                self.out.push(b'j');
                self.out.extend(id.to_le_bytes());
            }
        }
        true
    }

    /// Remembers what was just written.
    fn remember(&mut self, known: Known) {
        let id = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
        match u8::try_from(id) {
            Ok(id) => self.out.extend([b'q', id]),
            Err(_) => {
                self.out.push(b'r');
                self.out.extend(id.to_le_bytes());
            }
        }
        self.memo.insert(known, id);
    }

    fn text(&mut self, text: &str) -> Result<()> {
        let known = Known::Text(text.to_owned());
        if self.recall(&known) {
            return Ok(());
        }
        let length = u32::try_from(text.len()).map_err(|_| Diagnostic::unsupported("a string of more than 4 GB"))?;
        self.out.push(b'X');
        self.out.extend(length.to_le_bytes());
        self.out.extend(text.as_bytes());
        self.remember(known);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) {
        let text = format!("{module}\n{name}\n");
        let known = Known::Global(text.clone());
        if !self.recall(&known) {
            self.out.push(b'c');
            self.out.extend(text.as_bytes());
            self.remember(known);
        }
    }

    fn int(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.out.extend([b'K', small]);
        } else if let Ok(small) = u16::try_from(value) {
            self.out.push(b'M');
            self.out.extend(small.to_le_bytes());
        } else if let Ok(small) = i32::try_from(value) {
            self.out.push(b'J');
            self.out.extend(small.to_le_bytes());
        } else {
            self.out.extend([0x8a, 8]);
            self.out.extend(value.to_le_bytes());
        }
    }

    fn float(&mut self, value: f64) {
        self.out.push(b'G');
        self.out.extend(value.to_be_bytes());
    }

    fn bool(&mut self, value: bool) {
        self.out.push(if value { 0x88 } else { 0x89 });
    }

    fn ints(&mut self, values: &[i64]) {
        self.out.push(b'(');
        for &value in values {
            self.int(value);
        }
        self.out.push(b't');
    }

    fn tuple<'v>(
        &mut self,
        items: impl ExactSizeIterator<Item = (&'v IValue, Option<&'v Type>)>,
        depth: usize,
    ) -> Result<()> {
        let n = items.len();
        if n == 0 {
            self.out.push(b')');
            return Ok(());
        }
        if n > 3 {
            self.out.push(b'(');
        }
        for (item, ty) in items {
            self.value(item, ty, depth + 1)?;
        }
        self.out.push(match n {
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => b't',
        });
        Ok(())
    }

    /// A value; `ty` is its static type, where that says more than the value does.
    fn value(&mut self, value: &IValue, ty: Option<&Type>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::unsupported(format!("values that nest more than {MAX_DEPTH} deep")));
        }
        let ty = match ty {
            Some(Type::Optional(inner)) => Some(&**inner),
            other => other,
        };
        match value {
            IValue::None => self.out.push(b'N'),
            IValue::Bool(value) => self.bool(*value),
            IValue::Int(value) => self.int(*value),
            IValue::Float(value) => self.float(*value),
            IValue::Complex(re, im) => {
                self.global("builtins", "complex");
                self.float(*re);
                self.float(*im);
                self.out.extend([0x86, b'R']);
            }
            IValue::Str(text) => self.text(text)?,
            IValue::Device(name) => {
                self.global("torch", "device");
                self.text(name)?;
                self.out.extend([0x85, b'R']);
            }
            IValue::Tensor(data) => self.tensor(data)?,
            IValue::Tuple(items) => {
                let types = match ty {
                    Some(Type::Tuple(types)) if types.len() == items.len() => types.iter().map(Some).collect(),
                    Some(Type::NamedTuple(named)) if named.fields.len() == items.len() => {
                        named.fields.iter().map(|(_, ty)| Some(ty)).collect()
                    }
                    _ => vec![None; items.len()],
                };
                let pairs: Vec<_> = items.iter().zip(types).collect();
                self.tuple(pairs.into_iter(), depth)?;
            }
            IValue::List(elem, items) => {
                let elem = match (ty, elem) {
                    (Some(Type::List(elem)), _) => (**elem).clone(),
                    (_, Some(elem)) => elem.clone(),
                    _ => items.first().map_or_else(Type::tensor, IValue::ty),
                };
                self.list(&elem, items, depth)?;
            }
            IValue::Dict(types, entries) => {
                let (key, of) = match (ty, types) {
                    (Some(Type::Dict(key, of)), _) => ((**key).clone(), (**of).clone()),
                    (_, Some(types)) => types.clone(),
                    _ => entries.first().map_or((Type::Str, Type::tensor()), |(k, v)| (k.ty(), v.ty())),
                };
                self.global("torch.jit._pickle", "restore_type_tag");
                self.out.extend(*b"}(");
                for (k, v) in entries.iter() {
                    self.value(k, Some(&key), depth + 1)?;
                    self.value(v, Some(&of), depth + 1)?;
                }
                self.out.push(b'u');
                self.text(&Type::Dict(Arc::new(key), Arc::new(of)).annotation())?;
                self.out.extend([0x86, b'R']);
            }
            IValue::Object(object) => self.object(object, depth)?,
            IValue::Enum { class, value } => {
                let (module, name) = class.rsplit_once('.').unwrap_or(("__torch__", class));
                self.global(module, name);
                self.value(value, None, depth + 1)?;
                self.out.push(b'R');
            }
        }
        Ok(())
    }

    fn list(&mut self, elem: &Type, items: &[IValue], depth: usize) -> Result<()> {
        let builder = match elem {
            Type::Int => Some("build_intlist"),
            Type::Float => Some("build_doublelist"),
            Type::Bool => Some("build_boollist"),
            Type::Tensor(_) => Some("build_tensorlist"),
            _ => None,
        };
        self.global("torch.jit._pickle", builder.unwrap_or("restore_type_tag"));
        self.out.extend(*b"](");
        for item in items {
            self.value(item, Some(elem), depth + 1)?;
        }
        self.out.push(b'e');
        if builder.is_some() {
            self.out.push(0x85);
        } else {
            self.text(&Type::list(elem.clone()).annotation())?;
            self.out.push(0x86);
        }
        self.out.push(b'R');
        Ok(())
    }

    fn object(&mut self, object: &Arc<Object>, depth: usize) -> Result<()> {
        let known = Known::Object(Arc::as_ptr(object).addr());
        if self.recall(&known) {
            return Ok(());
        }
        if object.class.starts_with("torch.") {
            return Err(Diagnostic::unsupported(format!("writing a value of class {}", object.class)));
        }
        let (module, name) = object.class.rsplit_once('.').unwrap_or(("__torch__", &object.class));
        self.global(module, name);
        self.out.extend([b')', 0x81]);
        match object.attrs.get("__state__") {
            Some(state) if object.attrs.len() == 1 => self.value(state, None, depth + 1)?,
            _ => {
                self.out.extend(*b"}(");
                for (name, value) in &object.attrs {
                    self.text(name)?;
                    self.value(value, None, depth + 1)?;
                }
                self.out.push(b'u');
            }
        }
        self.out.push(b'b');
        self.remember(known);
        Ok(())
    }

    fn tensor(&mut self, data: &Arc<TensorData>) -> Result<()> {
        let known = Known::Tensor(Arc::as_ptr(data).addr());
        if self.recall(&known) {
            return Ok(());
        }
        if data.quantizer.is_some() || data.channel_quantizer.is_some() {
            return Err(Diagnostic::unsupported("writing quantised tensors"));
        }
        let storage = data.storage();
        let key = self.storages.iter().position(|known| known.is_same(storage)).unwrap_or_else(|| {
            self.storages.push(storage.clone());
            self.storages.len() - 1
        });
        let n_elements = storage.bytes().len() / data.dtype().size_bytes().max(1);
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(*b"((");
        self.text("storage")?;
        self.global("torch", &format!("{}Storage", data.dtype().graph_name()));
        self.text(&key.to_string())?;
        self.text("cpu")?;
        self.int(i64::try_from(n_elements).unwrap_or(i64::MAX));
        self.out.extend(*b"tQ");
        self.int(data.offset());
        self.ints(data.sizes());
        self.ints(data.strides());
        self.bool((self.trainable)(data));
        self.global("collections", "OrderedDict");
        self.out.extend(*b")RtR");
        self.remember(known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Bytes, from_bytes};
    use crate::source::Source;
    use crate::types::DType;
    use indexmap::IndexMap;

    #[test]
    fn what_is_written_reads_back() {
        let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_ne_bytes()).collect();
        let whole = TensorData::from_bytes(DType::F32, &[2, 2], bytes).unwrap();
        let turned = TensorData::new(DType::F32, vec![2, 2], vec![1, 2], 0, whole.storage().clone()).unwrap();
        let long: Arc<str> = "x".repeat(300).into();
        let attrs = IndexMap::from([
            ("w".into(), IValue::Tensor(Arc::new(whole))),
            ("t".into(), IValue::Tensor(Arc::new(turned))),
            ("n".into(), IValue::Int(-70_000)),
            ("m".into(), IValue::Int(i64::MIN)),
            ("s".into(), IValue::Str(long)),
            ("l".into(), IValue::List(Some(Type::Str), [IValue::Str("a".into())].into())),
            (
                "d".into(),
                IValue::Dict(Some((Type::Str, Type::Int)), [(IValue::Str("k".into()), IValue::Int(3))].into()),
            ),
            (
                "p".into(),
                IValue::Tuple([IValue::None, IValue::Bool(true), IValue::Float(0.5), IValue::Int(300)].into()),
            ),
        ]);
        let text = "class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  w : Tensor\n  t : Tensor\n  n : int\n  \
                    m : int\n  s : str\n  l : List[str]\n  d : Dict[str, int]\n  \
                    p : Tuple[NoneType, bool, float, int]\n";
        let name = "code/__torch__.py".to_owned();
        let source = Arc::new(Source { name: name.clone(), text: text.into(), origins: Vec::new() });
        let archive = Archive {
            path: "test.pt".into(),
            version: 10,
            root: Arc::new(Object { class: "__torch__.M".into(), attrs }),
            constants: Vec::new(),
            sources: IndexMap::from([(name, source)]),
            traced_inputs: IndexMap::new(),
            extra_files: IndexMap::from([("notes.txt".to_owned(), Bytes::new(b"kept".to_vec()))]),
        };
        let written = write(&archive, &|_| false).unwrap();
        assert_eq!(written, write(&archive, &|_| false).unwrap());
        let read = from_bytes(Bytes::new(written), "test.pt").unwrap();
        assert_eq!(format!("{:?}", read.root.attrs.keys()), format!("{:?}", archive.root.attrs.keys()));
        for (name, value) in &archive.root.attrs {
            match (value, &read.root.attrs[name]) {
                (IValue::Tensor(a), IValue::Tensor(b)) => {
                    assert_eq!(
                        (a.sizes(), a.strides(), a.contiguous_bytes()),
                        (b.sizes(), b.strides(), b.contiguous_bytes())
                    );
                }
                (a, b) => assert_eq!(format!("{a:?}"), format!("{b:?}")),
            }
        }
        let tensor = |name: &str| match &read.root.attrs[name] {
            IValue::Tensor(data) => data.storage().clone(),
            other => panic!("{other:?} is no tensor"),
        };
        assert!(tensor("w").is_same(&tensor("t")), "one storage stays one");
        assert_eq!(read.extra_files["notes.txt"].as_ref(), b"kept");
    }
}
