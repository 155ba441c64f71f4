//! What a host program sees of a library: its files, its functions, its promises. Hosts in C and C++ are compiled against
//! generated headers; the models are recorded ones.

mod allocations;
mod errors;
mod examples;
mod extents;
mod output;
mod packages;
mod same_bits;
mod stress;

use aot::archive::{self, Container};
use aot::build::{self, Built, Effort, Extra, Options};
use aot::check::{self, Call, CaseFile};
use aot::emit::target::Target;
use aot::lower::Request;
use aot_runtime::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A recorded model as a file, with its calls.
struct Recorded {
    path: PathBuf,
    cases: CaseFile,
}

impl Recorded {
    /// Takes a model out of its corpus into a folder.
    fn extract(corpus: &str, name: &str, folder: &Path) -> Self {
        let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
        let zip = Container::open(&zip).expect("the corpus reads");
        let bytes = |suffix: &str| zip.get(&format!("{name}{suffix}")).expect("the corpus has the model");
        let path = folder.join(format!("{name}.pt"));
        fs::write(&path, bytes(".pt").as_ref()).expect("the folder is writable");
        let data = archive::load_data(bytes(".io.pt"), name).expect("the cases read");
        Self { path, cases: CaseFile::read(&data).expect("the cases read") }
    }

    /// The first recorded call: of the calls on fresh instances, else of the rows.
    fn first(&self) -> &Call {
        let rows = self.cases.sequences.iter().flatten();
        self.cases.calls.iter().chain(rows).next().expect("there are cases")
    }

    /// Builds a library `m` for the first call.
    fn build(&self, out: &Path, options: &Options) -> Built {
        let built = build::build_file(&self.path, &[request(self.first())], out, options);
        built.unwrap_or_else(|e| panic!("{}: {}", self.path.display(), e.render()))
    }
}

fn values(call: &Call) -> Vec<Value> {
    check::values(&call.inputs).expect("recorded arguments are plain")
}

/// What compiles a method for these arguments.
fn request(call: &Call) -> Request {
    Request::of_values(&call.method, &values(call)).expect("plain")
}

fn options(name: &str) -> Options {
    Options {
        name: name.to_owned(),
        target: Target::host(),
        effort: Effort::Normal,
        extras: vec![Extra::Header],
        temps: None,
        any_extents: true,
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the temporary folder is writable")
}

/// The folder of the hosts' sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("abi")
}

/// Runs a program to its success; gives what it printed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles and links a host in a folder with these words, then runs it there.
fn host(folder: &Path, compiler: &str, words: &[&str]) -> String {
    let mut command = Command::new(compiler);
    command.current_dir(folder).arg("-I.").arg("-I").arg(sources()).args(["-Wall", "-Wextra", "-Werror", "-g"]);
    output(command.args(words).args(["-Wl,-rpath,$ORIGIN", "-o", "host"]));
    output(Command::new(folder.join("host")).current_dir(folder))
}

/// The path of a host's source.
fn source(name: &str) -> String {
    sources().join(name).to_str().expect("the path is text").to_owned()
}
