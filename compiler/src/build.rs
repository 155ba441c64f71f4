//! A model as files: the library, its header, and what build systems read.
//!
//! Everything is made in a folder beside the output and moved into place at the end, so a failed build leaves nothing.

use crate::archive::{self, Archive};
use crate::diag::{Diagnostic, Result};
use crate::driver::{self, Timings};
use crate::emit;
use crate::emit::llvm::{self, Artifact, Level};
use crate::emit::target::Target;
use crate::ir::Module;
use crate::link::library::{self, Kind};
use crate::link::metadata::Facts;
use crate::link::{self, header};
use crate::loops::{self, Program};
use crate::lower::Request;
use crate::{schedule, signatures};
use aot_runtime::desc::OperatorDesc;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What to make; the suffix of a file's name says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Product {
    /// `.so`, `.a`, `.o`: a library with weights and runtime.
    Library(Kind),
    /// `.ll`, `.s`, `.bc`: the code of the model's functions alone.
    Code(Artifact),
}

impl Product {
    /// What a file name asks for.
    ///
    /// # Errors
    /// A user error for other suffixes.
    pub fn of_path(path: &Path) -> Result<Self> {
        if let Some(kind) = Kind::of_path(path) {
            return Ok(Self::Library(kind));
        }
        Ok(Self::Code(match path.extension().and_then(|e| e.to_str()) {
            Some("ll") => Artifact::Text,
            Some("s") => Artifact::Assembly,
            Some("bc") => Artifact::Bitcode,
            _ => {
                return Err(Diagnostic::user(format!(
                    "the suffix of {} says nothing about what to make",
                    path.display()
                ))
                .help("known suffixes: .so .a .o .ll .s .bc"));
            }
        }))
    }
}

/// Files beside a library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// `NAME.h`
    Header,
    /// `aot.hpp`, the C++ wrapper.
    Cpp,
    /// `NAMEConfig.cmake`
    Cmake,
    /// `NAME.pc`
    PkgConfig,
}

/// How hard to optimise: the options -O0 to -O3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effort {
    /// Compiles fastest: one kernel an operator, one element at a time, next to no optimisation of machine code.
    Least,
    /// Fused kernels in vector registers, convolutions term by term; machine code in a hurry.
    Low,
    /// Everything that schedules can do.
    Normal,
    /// And all that LLVM can do on top.
    High,
}

impl Effort {
    /// The level 0 to 3; higher ones are 3.
    pub fn of_level(level: u8) -> Self {
        [Self::Least, Self::Low, Self::Normal, Self::High][usize::from(level.min(3))]
    }

    fn llvm(self) -> Level {
        match self {
            Self::Least => Level::None,
            Self::Low => Level::Less,
            Self::Normal => Level::Full,
            Self::High => Level::Most,
        }
    }

    /// What schedules may do, and the machine they are for.
    fn schedule(self, target: &Target) -> (schedule::Options, schedule::ScheduleTarget) {
        let mut machine = driver::schedule_target(target);
        if self == Self::Least {
            (machine.vector_bytes, machine.has_masks) = (0, false);
        }
        let (fuse, exact_convolution) = (self > Self::Least, self < Self::Normal);
        (schedule::Options { fuse, exact_convolution, ..schedule::Options::default() }, machine)
    }
}

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prefix of the library's symbols: a C identifier.
    pub name: String,
    /// The machine.
    pub target: Target,
    /// How hard to optimise.
    pub effort: Effort,
    /// Files beside the library.
    pub extras: Vec<Extra>,
    /// Where to put what stages made: graphs, the loop program, LLVM's text, assembly.
    pub temps: Option<PathBuf>,
    /// Whether each signature of fixed extents gets a version beside it that takes any.
    pub any_extents: bool,
}

impl Options {
    /// The options that change the code, as the command line spells them.
    fn flags(&self) -> String {
        let cpu = &self.target.cpu;
        let any = if self.any_extents { "" } else { " --static" };
        format!("-O{} --cpu {cpu}{any}", self.effort as u8)
    }
}

/// Versions for any extents want some weights in forms of their own. Where those are more bytes than this, a library has none:
/// it should be as large as its weights and little more.
const MAX_SECOND_FORMS: usize = 1 << 20;

/// What a build made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// The files, the output first.
    pub files: Vec<PathBuf>,
    /// What the user should know: signatures that have no version for other extents, and why.
    pub notes: Vec<String>,
    /// Other forms of weights that are computed when the library is opened: bytes and name.
    pub prepared: Vec<(u64, String)>,
}

/// Compiles methods of an archive to files at and beside `out`.
///
/// # Errors
/// What the stages find wrong; user errors where a file cannot be written or the linker cannot run.
pub fn build(
    archive: &Archive,
    module: &Module,
    requests: &[Request],
    out: &Path,
    options: &Options,
    timings: &mut Timings,
) -> Result<Built> {
    let product = Product::of_path(out)?;
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file_name = out.file_name().ok_or_else(|| Diagnostic::user("the output has no file name"))?;
    if out.is_dir() {
        return Err(Diagnostic::user(format!("cannot write {}: it is a folder", out.display())));
    }
    let scratch = library::scratch_folder(folder)?;
    let mut notes = Vec::new();
    let mut program = driver::lower(module, requests, timings)?;
    let mut plain = None;
    if options.any_extents && matches!(product, Product::Library(_)) {
        plain = Some(program.clone());
        program = timings.time("any extents", || Ok(with_any_extents(module, requests, program, &mut notes)))?;
    }
    if let Some(temps) = &options.temps {
        save(temps, &options.name, "graph", graphs(module, requests).as_bytes())?;
        save(temps, &options.name, "lowered.txt", format!("{program:#?}\n").as_bytes())?;
    }
    timings.time("schedule", || {
        let (choices, machine) = options.effort.schedule(&options.target);
        schedule::schedule(&mut program, &machine, &choices)?;
        let Some(mut plain) = plain else { return Ok(()) };
        schedule::schedule(&mut plain, &machine, &choices)?;
        let more = stored_bytes(&program).saturating_sub(stored_bytes(&plain));
        if more > MAX_SECOND_FORMS {
            notes.push(format!("no other extents are taken: weights would be stored twice, {more} bytes more"));
            program = plain;
        }
        Ok(())
    })?;
    if let Some(temps) = &options.temps {
        save(temps, &options.name, "scheduled.txt", format!("{program:#?}\n").as_bytes())?;
        let artifacts = [Artifact::Text, Artifact::Assembly];
        let files = code(&program, options, &artifacts)?;
        for (suffix, contents) in ["ll", "s"].into_iter().zip(files) {
            save(temps, &options.name, suffix, &contents)?;
        }
    }
    let mut made = vec![file_name.to_owned()];
    match product {
        Product::Code(artifact) => {
            let files = timings.time("emit", || code(&program, options, &[artifact]))?;
            let contents = files.first().ok_or_else(|| Diagnostic::internal("no code was made"))?;
            write(&scratch.path().join(file_name), contents)?;
        }
        Product::Library(kind) => {
            let facts = Facts {
                name: options.name.clone(),
                model_hash: hash(&archive.path),
                flags: options.flags(),
                operators: operators(module),
                ..Facts::default()
            };
            let place = scratch.path().join(file_name);
            let desc = timings.time("emit and link", || {
                link::build(&program, facts, &options.target, options.effort.llvm(), kind, &place)
            })?;
            let (name, library) = (&options.name, file_name.to_string_lossy());
            for extra in &options.extras {
                let (file, contents) = match extra {
                    Extra::Header => (format!("{name}.h"), header::c_header(&desc)),
                    Extra::Cpp => ("aot.hpp".to_owned(), header::CPP.to_owned()),
                    Extra::Cmake => (format!("{name}Config.cmake"), header::cmake(name, &library)),
                    Extra::PkgConfig => {
                        (format!("{name}.pc"), header::pkg_config(name, &library, env!("CARGO_PKG_VERSION")))
                    }
                };
                write(&scratch.path().join(&file), contents.as_bytes())?;
                made.push(file.into());
            }
        }
    }
    let mut files = Vec::new();
    for file in made {
        let place = folder.join(&file);
        fs::rename(scratch.path().join(&file), &place).map_err(|e| cannot_write(&place, &e))?;
        files.push(place);
    }
    // The caller asked for `out` in these words.
    out.clone_into(&mut files[0]);
    let prepared = program.prepared.iter().map(|p| (p.size_bytes() as u64, p.name.clone())).collect();
    Ok(Built { files, notes, prepared })
}

/// The program with a version beside each signature that takes any extents, where there can be one. It comes after the
/// versions for fixed extents, so that a call takes the special one if that fits.
///
/// A signature gets none where its code needs an extent to be known, or where the module's state would take on more kinds of
/// values, since that would change the special versions.
fn with_any_extents(module: &Module, requests: &[Request], program: Program, notes: &mut Vec<String>) -> Program {
    let mut best = program;
    let mut accepted = requests.to_vec();
    let n_tags = n_state_tags(&best);
    for request in requests {
        let candidates = signatures::for_any_extents(request);
        let mut reason = None;
        let found = candidates.into_iter().find_map(|candidate| {
            let mut trial = accepted.clone();
            if accepted.iter().any(|known| known.method == candidate.method && known.args == candidate.args) {
                return Some((trial, best.clone()));
            }
            trial.push(candidate);
            match driver::lower(module, &trial, &mut Timings::default()) {
                Ok(program) if n_state_tags(&program) == n_tags => Some((trial, program)),
                Ok(_) => {
                    reason.get_or_insert_with(|| "the state that calls leave would depend on them".to_owned());
                    None
                }
                Err(error) => {
                    reason.get_or_insert(error.message);
                    None
                }
            }
        });
        if let Some((requests, program)) = found {
            (accepted, best) = (requests, program);
        } else if let Some(reason) = reason {
            let args: Vec<String> = request.args.iter().map(ToString::to_string).collect();
            notes.push(format!("{}({}) takes no other extents: {reason}", request.method, args.join(", ")));
        }
    }
    best
}

/// Bytes of weights that a library of this program stores.
fn stored_bytes(program: &Program) -> usize {
    loops::weight_offsets(program).1
}

/// How many kinds of state there are.
fn n_state_tags(program: &Program) -> usize {
    let variants = program.methods.iter().flat_map(|method| &method.variants);
    variants.filter_map(|variant| variant.state_tag).collect::<BTreeSet<_>>().len()
}

/// A C identifier for a library or model of this file name: `libfoo-bar.so` is `foo_bar`.
pub fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(&stem);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = stem.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() { format!("m_{name}") } else { name }
}

fn code(program: &Program, options: &Options, artifacts: &[Artifact]) -> Result<Vec<Vec<u8>>> {
    let emit = |b: &dyn emit::builder::Builder| emit::program(b, program, &options.name);
    llvm::compile(&emit, &options.target, options.effort.llvm(), artifacts)
}

fn graphs(module: &Module, requests: &[Request]) -> String {
    let class = &module.root.class;
    let mut methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    methods.dedup();
    let functions = methods.into_iter().filter_map(|method| module.method(class, method));
    functions.map(|function| format!("# {}\n{}\n", function.name, function.graph)).collect()
}

/// The operators of a model's functions where the user wrote them.
fn operators(module: &Module) -> Vec<OperatorDesc> {
    let mut found = BTreeSet::new();
    for graph in module.functions.values().map(|function| &function.graph) {
        // Nodes in no block were removed by the front end.
        for node in graph.blocks.iter().flat_map(|block| &block.nodes).map(|&id| &graph.nodes[id]) {
            let Some(span) = node.span.as_ref().filter(|_| !node.op.name.starts_with("prim::")) else { continue };
            let (file, line, column) = span.file_line_column();
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let (line, column) = (number(line), number(column));
            found.insert(OperatorDesc { file: file.to_owned(), line, column, name: node.op.name.to_string() });
        }
    }
    found.into_iter().collect()
}

/// Length and check sum of the archive, enough to tell versions of a model apart.
fn hash(path: &Path) -> String {
    fs::read(path).map_or_else(|_| String::new(), |bytes| format!("{:08x}-{}", crc32fast::hash(&bytes), bytes.len()))
}

fn save(folder: &Path, name: &str, suffix: &str, contents: &[u8]) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| cannot_write(folder, &e))?;
    write(&folder.join(format!("{name}.{suffix}")), contents)
}

fn write(path: &Path, contents: &[u8]) -> Result<()> {
    fs::write(path, contents).map_err(|e| cannot_write(path, &e))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Box<Diagnostic> {
    Diagnostic::user(format!("cannot write {}: {error}", path.display()))
}

/// [`build`] of a file with one call, for tests and tools.
///
/// # Errors
/// As [`build`].
pub fn build_file(model: &Path, requests: &[Request], out: &Path, options: &Options) -> Result<Built> {
    let archive = archive::open(model)?;
    let module = driver::front_end(&archive)?;
    build(&archive, &module, requests, out, options, &mut Timings::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_c_identifiers() {
        assert_eq!(name_of(Path::new("a/libsilero-vad.so")), "silero_vad");
        assert_eq!(name_of(Path::new("3d.pt")), "m_3d");
        assert_eq!(name_of(Path::new("lib.so")), "lib");
    }

    #[test]
    fn suffixes_say_what_to_make() {
        assert_eq!(Product::of_path(Path::new("x.ll")).unwrap(), Product::Code(Artifact::Text));
        assert_eq!(Product::of_path(Path::new("x.a")).unwrap(), Product::Library(Kind::Static));
        assert!(Product::of_path(Path::new("x.exe")).is_err());
    }
}
