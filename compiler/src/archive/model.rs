//! The archive as the compiler uses it: root object, constants, sources, recorded inputs and extra files.

use super::pickle::Pickle;
use super::storages::{ByteOrder, EmptyMember, Storages};
use super::values::{self, Vocabulary};
use super::{Bytes, Container, Fault, classes, debug};
use crate::diag::{Blame, Diagnostic, Result};
use crate::source::Source;
use crate::types::{IValue, Object};
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest `data.pkl` and its like. Tensors lie outside, so pickles of real models stay far below.
const MAX_PICKLE_BYTES: u64 = 128 << 20;
/// Largest `.py` member.
const MAX_SOURCE_BYTES: u64 = 64 << 20;
/// Largest `.debug_pkl` that is looked at.
const MAX_DEBUG_BYTES: u64 = 32 << 20;
/// Largest `version` and `byteorder` member.
const MAX_LABEL_BYTES: u64 = 64;
/// File-format versions that are read.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=10;

/// Folder of the recorded inputs' storages. PyTorch writes them without data.
const TRACED: &str = "traced_inputs";

/// A TorchScript archive: what `torch.jit.save` wrote.
#[derive(Debug)]
pub struct Archive {
    /// The file, or the name given to [`from_bytes`].
    pub path: PathBuf,
    /// File-format version, 1 to 10.
    pub version: u64,
    /// The module object of `data.pkl`. A saved function is a module of class `__torch__.PlaceholderModule`.
    pub root: Arc<Object>,
    /// `constants.pkl`, which the code refers to as `CONSTANTS.c0`, `CONSTANTS.c1`, ...
    pub constants: Vec<IValue>,
    /// Source by member name below the root folder: `code/__torch__/net.py`.
    pub sources: IndexMap<String, Arc<Source>>,
    /// Example inputs that tracing recorded, by method. PyTorch saves their types and shapes only; elements are zero.
    pub traced_inputs: IndexMap<String, Vec<IValue>>,
    /// Extra files by name, without `extra/`.
    pub extra_files: IndexMap<String, Bytes>,
}

/// Reads the archive in a file. The file is memory-mapped: it must not be truncated while the archive or one of its
/// tensors lives.
pub fn open(path: &Path) -> Result<Archive> {
    Folder::new(Container::open(path)?)?.archive(path)
}

/// Reads the archive in these bytes; `name` is for messages.
pub fn from_bytes(bytes: Bytes, name: &str) -> Result<Archive> {
    Folder::new(Container::from_bytes(bytes, name)?)?.archive(Path::new(name))
}

/// Reads a zip of `torch.save` that holds plain data: tensors, numbers, strings, lists, tuples and dicts.
pub fn load_data(bytes: Bytes, name: &str) -> Result<IValue> {
    let folder = Folder::new(Container::from_bytes(bytes, name)?)?;
    let order = folder.byte_order()?;
    folder.unpickle("data.pkl", "data", order, Vocabulary::Plain)
}

/// A container seen from its root folder, which is that of its first member.
struct Folder {
    container: Container,
    root: String,
}

impl Folder {
    fn new(container: Container) -> Result<Self> {
        let first = container.names().next().unwrap_or("");
        let Some((root, _)) = first.split_once('/') else {
            return Err(Diagnostic::user(format!(
                "{}: this zip is not TorchScript: its members are not in one root folder",
                container.name()
            ))
            .help("save the compiled model with `torch.jit.save`"));
        };
        Ok(Self { root: root.to_owned(), container })
    }

    fn full(&self, member: &str) -> String {
        format!("{}/{member}", self.root)
    }

    fn contains(&self, member: &str) -> bool {
        self.container.contains(&self.full(member))
    }

    fn read(&self, member: &str, limit_bytes: u64) -> Result<Bytes> {
        self.container.read(&self.full(member), limit_bytes)
    }

    fn fault(&self, fault: Fault, member: &str) -> Box<Diagnostic> {
        fault.in_member(self.container.name(), &self.full(member))
    }

    fn archive(&self, path: &Path) -> Result<Archive> {
        self.recognise()?;
        let version = self.version()?;
        // As torch.jit.load, which never looks at the byteorder member; torch.load does.
        let order = ByteOrder::Little;
        let sources = self.sources()?;
        let constants = match self.unpickle("constants.pkl", "constants", order, Vocabulary::TorchScript)? {
            IValue::Tuple(items) => items.to_vec(),
            other => {
                return Err(
                    self.fault(Fault::bad(format!("a tuple is expected, found a {}", other.kind())), "constants.pkl")
                );
            }
        };
        let root = self.unpickle("data.pkl", "data", order, Vocabulary::TorchScript)?;
        classes::check(&IValue::Tuple(constants.clone().into()), &sources)
            .map_err(|fault| self.fault(fault, "constants.pkl"))?;
        classes::check(&root, &sources).map_err(|fault| self.fault(fault, "data.pkl"))?;
        let IValue::Object(root) = root else {
            return Err(
                self.fault(Fault::bad(format!("a module object is expected, found a {}", root.kind())), "data.pkl")
            );
        };
        let traced_inputs = self.traced_inputs(order)?;
        let extra_files = self.extra_files()?;
        Ok(Archive { path: path.to_owned(), version, root, constants, sources, traced_inputs, extra_files })
    }

    /// Refuses other zips by what they are.
    fn recognise(&self) -> Result<()> {
        let name = self.container.name();
        let script = "save the compiled model with `torch.jit.save(torch.jit.script(model), path)`";
        if self.contains("model.json") {
            return Err(Diagnostic::user(format!(
                "{name}: this archive is of PyTorch 1.0 to 1.3 (it has a model.json)"
            ))
            .help("load it with a PyTorch from 1.4 on and save it again with `torch.jit.save`"));
        }
        if self.contains(".data/extern_modules") || self.contains(".data/python_version") {
            return Err(
                Diagnostic::user(format!("{name}: this is a `torch.package` archive, not TorchScript")).help(script)
            );
        }
        if !self.contains("data.pkl") && !self.contains("version") && !self.contains(".data/version") {
            return Err(Diagnostic::user(format!(
                "{name}: this zip is not TorchScript: it has no version and no data.pkl"
            ))
            .help(script));
        }
        if self.contains("data.pkl") && !self.contains("constants.pkl") {
            let error = format!("PytorchStreamReader failed locating file constants.pkl: file not found ({name})");
            return Err(Diagnostic::user(error)
                .note("the file was written by `torch.save`: it holds weights or Python objects, not a compiled model")
                .help(script));
        }
        Ok(())
    }

    fn version(&self) -> Result<u64> {
        let member = if self.contains(".data/version") { ".data/version" } else { "version" };
        let bytes = self.read(member, MAX_LABEL_BYTES)?;
        let text = std::str::from_utf8(bytes.as_ref()).unwrap_or("?").trim();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number {
            return Err(self.fault(Fault::bad(format!("Couldn't parse the version {text:?}")), member));
        }
        let version = text.parse().unwrap_or(u64::MAX);
        let (lowest, highest) = (VERSIONS.start(), VERSIONS.end());
        let what = if version < *lowest {
            format!("the minimum supported version for reading is {lowest}")
        } else if version > *highest {
            format!("the maximum supported version for reading is {highest}")
        } else {
            return Ok(version);
        };
        Err(self.fault(Fault::bad(format!("Attempted to read a PyTorch file with version {text}, but {what}")), member))
    }

    fn byte_order(&self) -> Result<ByteOrder> {
        const MEMBER: &str = "byteorder";
        if !self.contains(MEMBER) {
            return Ok(ByteOrder::Little);
        }
        match self.read(MEMBER, MAX_LABEL_BYTES)?.as_ref().trim_ascii() {
            b"little" => Ok(ByteOrder::Little),
            b"big" => Ok(ByteOrder::Big),
            other => {
                let text = String::from_utf8_lossy(other).into_owned();
                Err(self.fault(Fault::bad(format!("the byte order {text:?} is neither little nor big")), MEMBER))
            }
        }
    }

    fn unpickle(&self, member: &str, folder: &str, order: ByteOrder, vocabulary: Vocabulary) -> Result<IValue> {
        let bytes = self.read(member, MAX_PICKLE_BYTES)?;
        let empty = if folder == TRACED { EmptyMember::Zeros } else { EmptyMember::Refused };
        let storages = Storages::new(&self.container, self.full(folder), order, empty);
        let value = Pickle::parse(bytes.as_ref()).and_then(|pickle| values::read(&pickle, Some(storages), vocabulary));
        value.map_err(|fault| self.fault(fault, member))
    }

    fn sources(&self) -> Result<IndexMap<String, Arc<Source>>> {
        let mut sources = IndexMap::new();
        let mut allowance = debug::Allowance::new();
        let prefix = self.full("");
        for full in self.container.names() {
            let Some(member) = full.strip_prefix(&prefix) else { continue };
            if !member.starts_with("code/") || member.ends_with('/') {
                continue;
            }
            match Path::new(member).extension().and_then(|e| e.to_str()) {
                Some("py") => {}
                Some("debug_pkl") => continue,
                Some(_) => continue,
                // Every file that belongs here has an extension: this name was cut, and what it hides may be a source.
                None => return Err(self.fault(Fault::bad("a name without its end".to_owned()), member)),
            }
            let bytes = self.read(member, MAX_SOURCE_BYTES)?;
            let text = std::str::from_utf8(bytes.as_ref())
                .map_err(|e| {
                    self.fault(Fault::bad(format!("the source is not UTF-8 at byte {}", e.valid_up_to())), member)
                })?
                .to_owned();
            let debug = self.read(&format!("{member}.debug_pkl"), MAX_DEBUG_BYTES);
            let origins =
                debug.map_or_else(|_| Vec::new(), |bytes| debug::origins(bytes.as_ref(), text.len(), &mut allowance));
            sources.insert(member.to_owned(), Arc::new(Source { name: member.to_owned(), text, origins }));
        }
        Ok(sources)
    }

    fn traced_inputs(&self, order: ByteOrder) -> Result<IndexMap<String, Vec<IValue>>> {
        const MEMBER: &str = "traced_inputs.pkl";
        let mut inputs = IndexMap::new();
        if !self.contains(MEMBER) {
            return Ok(inputs);
        }
        let wrong = |what: &str| self.fault(Fault::bad(format!("a dict of lists is expected, {what}")), MEMBER);
        let entries = match self.unpickle(MEMBER, TRACED, order, Vocabulary::TorchScript) {
            Ok(IValue::Dict(_, entries)) => entries,
            Ok(_) => return Err(wrong("the value is not a dict")),
            // The inputs only inform; a kind of tensor that we cannot represent does not make the model unreadable.
            Err(e) if e.blame == Blame::Unsupported => return Ok(inputs),
            Err(e) => return Err(e),
        };
        for (method, values) in entries.iter() {
            match (method, values) {
                (IValue::Str(method), IValue::Tuple(values) | IValue::List(_, values)) => {
                    _ = inputs.insert(method.to_string(), values.to_vec());
                }
                _ => return Err(wrong(&format!("found {} to {}", method.kind(), values.kind()))),
            }
        }
        Ok(inputs)
    }

    fn extra_files(&self) -> Result<IndexMap<String, Bytes>> {
        let prefix = self.full("extra/");
        let extra = self.container.names().filter_map(|full| Some((full.strip_prefix(&prefix)?, full)));
        extra.map(|(name, full)| Ok((name.to_owned(), self.container.get(full)?))).collect()
    }
}
