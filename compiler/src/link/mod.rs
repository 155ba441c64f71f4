//! Compiled programs to libraries: metadata, weights, the exported functions, the linker, and the files for C and C++.

mod glue;
pub mod header;
mod info;
pub mod library;
mod localise;
pub mod metadata;
pub mod object;
mod raw;

use crate::diag::{Diagnostic, Result};
use crate::emit::target::Target;
#[cfg(feature = "llvm")]
use crate::emit::{self, builder::Builder, llvm};
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

/// Compiles a scheduled and planned program and makes the library; gives its description, for the header.
///
/// # Errors
/// As [`write_library`].
#[cfg(feature = "llvm")]
pub fn build(
    program: &Program,
    facts: metadata::Facts,
    target: &Target,
    level: llvm::Level,
    kind: library::Kind,
    path: &Path,
) -> Result<ModelDesc> {
    let facts = metadata::Facts { cpu_features: cpu_features(target), ..facts };
    let desc = metadata::describe(program, &facts)?;
    let emit = |b: &dyn Builder| emit::program(b, program, &desc.name);
    let code = llvm::compile(&emit, target, level, &[llvm::Artifact::Object])?;
    let code = code.first().ok_or_else(|| Diagnostic::internal("no object file was made"))?;
    let entries: Vec<_> = program.functions.ids().map(|function| emit::symbol(&desc.name, function)).collect();
    let parts = Parts { program, desc: &desc, triple: &target.triple, code, entries: &entries };
    write_library(&parts, kind, path)?;
    Ok(desc)
}

/// What the runtime checks before it runs code for this target: `avx2,fma`.
pub fn cpu_features(target: &Target) -> String {
    const V2: [&str; 5] = ["popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"];
    const V3: [&str; 8] = ["avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"];
    const V4: [&str; 5] = ["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];
    let level = match target.cpu.as_str() {
        "x86-64-v2" => 1,
        "x86-64-v3" => 2,
        "x86-64-v4" => 3,
        _ => 0,
    };
    let mut features: Vec<&str> = [&V2[..], &V3, &V4][..level].concat();
    features.extend(target.features.split(',').filter_map(|feature| feature.strip_prefix('+')));
    features.sort_unstable();
    features.dedup();
    features.join(",")
}

#[cfg(all(test, feature = "llvm"))]
mod tests;
