//! Compiled programs to libraries: metadata, weights, the exported functions, the linker, and the files for C and C++.

mod glue;
pub mod header;
pub mod library;
mod localise;
pub mod metadata;
pub mod object;

use crate::diag::{Diagnostic, Result};
use crate::loops::{self, Program};
use aot_runtime::ModelDesc;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

/// What a library is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The planned program, for its weights.
    pub program: &'a Program,
    /// Its description, see [`metadata::describe`]; the name prefixes the exported symbols.
    pub desc: &'a ModelDesc,
    /// Target triple.
    pub triple: &'a str,
    /// The machine code of the program's functions: an object file.
    pub code: &'a [u8],
    /// The symbol of each function in `code`, by number.
    pub entries: &'a [String],
}

/// Makes the library.
///
/// # Errors
/// User errors for a bad name, a missing linker, a file that cannot be written.
pub fn write_library(parts: &Parts<'_>, kind: library::Kind, path: &Path) -> Result<()> {
    let name = &parts.desc.name;
    let is_identifier = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_identifier || name.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        return Err(Diagnostic::user(format!("the model's name '{name}' is not a C identifier")).help("give --name"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = library::scratch_folder(folder)?;
    let metadata = parts.desc.encode();
    let (offsets, weights_bytes) = loops::weight_offsets(parts.program);
    let weights = offsets.into_iter().zip(parts.program.weights.iter().map(|w| w.data.contiguous_bytes())).collect();
    let machine = object::Machine::of_triple(parts.triple)?;
    let data = object::DataObject { machine, name, weights, weights_bytes, metadata: &metadata };
    let glue = glue::assemble(&glue::llvm_ir(parts.desc, parts.entries, metadata.len()), parts.triple)?;

    let objects = ["data.o", "code.o", "exports.o"].map(|file| scratch.path().join(file));
    let failed = |e: std::io::Error| Diagnostic::user(format!("cannot write {}: {e}", path.display()));
    data.write(BufWriter::new(File::create(&objects[0]).map_err(failed)?))?;
    fs::write(&objects[1], parts.code).map_err(failed)?;
    fs::write(&objects[2], glue).map_err(failed)?;
    library::link(kind, path, parts.triple, &objects, &glue::exports(parts.desc))
}

#[cfg(all(test, feature = "llvm"))]
mod tests;
