//! Makes the library file: `.so`, `.a` or `.o`, from machine code, data and the embedded runtime.
//!
//! Nothing but the prefixed symbols can be seen from outside, in any of the three. The same input gives the same bytes: no
//! times, no build ids, no paths. A file appears complete under its name or not at all.

use super::localise::localise;
use crate::diag::{Diagnostic, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The run-time library, for the machine this compiler runs on.
static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/aot_rt.o"));
/// The triple [`RUNTIME`] is for.
const RUNTIME_TRIPLE: &str = env!("AOT_RUNTIME_TARGET");

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A shared library.
    Shared,
    /// An archive of one self-contained object.
    Static,
    /// That object alone.
    Object,
}

impl Kind {
    /// What a file name asks for by its suffix.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "so" => Some(Self::Shared),
            "a" => Some(Self::Static),
            "o" => Some(Self::Object),
            _ => None,
        }
    }
}

/// Links objects and the runtime to a library at `path` that exports just `exports`.
///
/// # Errors
/// User errors where there is no linker or a file cannot be written; unsupported for a triple whose runtime is not carried.
pub fn link(kind: Kind, path: &Path, triple: &str, objects: &[PathBuf], exports: &BTreeSet<String>) -> Result<()> {
    let arch = |triple: &str| triple.split('-').next().unwrap_or_default().to_owned();
    if arch(triple) != arch(RUNTIME_TRIPLE) {
        let message = format!("this aot carries the runtime for {RUNTIME_TRIPLE} only and cannot link for {triple}");
        return Err(Diagnostic::unsupported(message));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = scratch_folder(folder)?;
    let runtime = scratch.path().join("runtime.o");
    fs::write(&runtime, RUNTIME).map_err(|e| cannot_write(&runtime, &e))?;
    let made = scratch.path().join("made");
    let mut cc = Command::new(linker());
    cc.arg("-o").arg(&made);
    match kind {
        Kind::Shared => {
            let script = scratch.path().join("exports.map");
            let names: Vec<_> = exports.iter().map(|name| format!("{name};")).collect();
            let text = format!("{{ global: {} local: *; }};\n", names.join(" "));
            fs::write(&script, text).map_err(|e| cannot_write(&script, &e))?;
            let mut version = OsString::from("-Wl,--version-script=");
            version.push(&script);
            let mut soname = OsString::from("-Wl,-soname,");
            soname.push(path.file_name().unwrap_or_default());
            cc.args(["-shared", "-static-libgcc", "-Wl,--gc-sections,--exclude-libs,ALL,-Bsymbolic,--as-needed,-s"]);
            cc.args(["-Wl,-z,now,-z,relro,-z,noexecstack,--build-id=none,--hash-style=gnu,--no-undefined"]);
            cc.arg(version).arg(soname).args(objects).arg(&runtime).arg("-lm");
        }
        Kind::Static | Kind::Object => {
            cc.args(["-r", "-nostdlib", "-Wl,--gc-sections,--strip-debug,--build-id=none"]);
            cc.args(exports.iter().map(|name| format!("-Wl,-u,{name}"))).args(objects).arg(&runtime);
        }
    }
    run(&mut cc)?;
    match kind {
        Kind::Shared => {}
        Kind::Object | Kind::Static => {
            let mut file = fs::read(&made).map_err(|e| cannot_read(&made, &e))?;
            localise(&mut file, exports)?;
            let mut out = File::create(&made).map_err(|e| cannot_write(&made, &e))?;
            let written = match kind {
                Kind::Static => write_archive(&mut out, &file, exports),
                Kind::Shared | Kind::Object => out.write_all(&file),
            };
            written.map_err(|e| cannot_write(path, &e))?;
        }
    }
    fs::rename(&made, path).map_err(|e| cannot_write(path, &e))
}

/// A folder beside the target, so that the finished file can be renamed into place; removed when dropped.
pub fn scratch_folder(beside: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".aot-").tempdir_in(beside).map_err(|e| cannot_write(beside, &e))
}

/// Puts a text file in place at once.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = scratch_folder(folder)?;
    let made = scratch.path().join("made");
    fs::write(&made, contents).map_err(|e| cannot_write(path, &e))?;
    fs::rename(&made, path).map_err(|e| cannot_write(path, &e))
}

fn linker() -> OsString {
    std::env::var_os("CC").filter(|cc| !cc.is_empty()).unwrap_or_else(|| "cc".into())
}

fn run(cc: &mut Command) -> Result<()> {
    let name = cc.get_program().to_string_lossy().into_owned();
    // Messages of the linker in English, and no search paths of the user's that would change what is linked.
    let output = cc.env("LC_ALL", "C").env_remove("LIBRARY_PATH").output().map_err(|e| {
        Diagnostic::user(format!("cannot run the linker '{name}': {e}"))
            .help("install a C compiler driver (package gcc or clang), or name one in the environment variable CC")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut diagnostic = Diagnostic::user(format!("the linker '{name}' failed ({})", output.status));
    for line in text.lines().take(20) {
        diagnostic = diagnostic.note(line);
    }
    Err(diagnostic)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Box<Diagnostic> {
    Diagnostic::user(format!("cannot write {}: {error}", path.display()))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Box<Diagnostic> {
    Diagnostic::user(format!("cannot read {}: {error}", path.display()))
}

/// An `ar` archive of one member with an index of its symbols. Times and owners are zero.
fn write_archive(out: &mut impl std::io::Write, object: &[u8], symbols: &BTreeSet<String>) -> std::io::Result<()> {
    let too_big = || std::io::Error::other("the archive is over 4 GB");
    let header = |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    let names: Vec<u8> = symbols.iter().flat_map(|name| name.bytes().chain([0])).collect();
    let index_bytes = (4 + 4 * symbols.len() + names.len()).next_multiple_of(8);
    let member = u32::try_from(8 + 60 + index_bytes).map_err(|_| too_big())?;
    let mut index = u32::try_from(symbols.len()).map_err(|_| too_big())?.to_be_bytes().to_vec();
    for _ in symbols {
        index.extend(member.to_be_bytes());
    }
    index.extend(names);
    index.resize(index_bytes, 0);
    out.write_all(b"!<arch>\n")?;
    out.write_all(header("/", index_bytes).as_bytes())?;
    out.write_all(&index)?;
    out.write_all(header("model.o/", object.len()).as_bytes())?;
    out.write_all(object)?;
    if object.len() % 2 == 1 {
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_choose_the_kind() {
        assert_eq!(Kind::of_path(Path::new("a/libm.so")), Some(Kind::Shared));
        assert_eq!(Kind::of_path(Path::new("libm.a")), Some(Kind::Static));
        assert_eq!(Kind::of_path(Path::new("m.o")), Some(Kind::Object));
        assert_eq!(Kind::of_path(Path::new("m")), None);
    }

    #[test]
    fn archives_have_an_index_that_readers_accept() {
        let mut out = Vec::new();
        write_archive(&mut out, b"odd", &BTreeSet::from(["m_open".into(), "m_close".into()])).unwrap();
        let archive = object::read::archive::ArchiveFile::parse(&*out).unwrap();
        let members: Vec<_> = archive.members().map(|m| m.unwrap()).collect();
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].data(&*out).unwrap(), b"odd");
        let symbols: Vec<_> = archive.symbols().unwrap().unwrap().map(|s| s.unwrap().name().to_vec()).collect();
        assert_eq!(symbols, [b"m_close".to_vec(), b"m_open".to_vec()]);
    }
}
