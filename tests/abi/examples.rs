//! The examples, built and run: hosts in C and C++ against generated headers, and the host in Rust.

use aot::cli::{Exit, Output, run};
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "../../examples/rust-jit/src/main.rs"]
#[allow(dead_code, reason = "a program of its own, called below its main function")]
mod rust_jit;

/// Where speech begins in the recording.
const BEGINS: [&str; 3] = ["speech   0.86 s", "speech   4.99 s", "speech   9.02 s"];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn aot(words: &[&Path]) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = std::iter::once("aot".into()).chain(words.iter().map(|word| word.as_os_str().to_owned()));
    let exit = run(words, &mut Output { out: &mut out, err: &mut err, is_terminal: false });
    assert_eq!(exit, Exit::Success, "{}", String::from_utf8_lossy(&err));
}

/// Builds the model, compiles a host with these words (`@` stands for the folder), runs it on the recording.
fn host(library: &str, compiler: &str, words: &[&str]) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let at = |name: &str| folder.path().join(name);
    let model = examples().join("silero_vad/silero_vad.pt");
    let plain = ["--name", "silero", "--input", "x=f32[1,512]", "--input", "sr=16000", "--emit", "header,cpp", "-o"];
    let library = at(library);
    let mut build: Vec<&Path> = vec![Path::new("build"), &model];
    build.extend(plain.map(Path::new));
    build.push(&library);
    aot(&build);
    let mut command = Command::new(compiler);
    command.current_dir(folder.path()).arg("-I.").args(["-Wall", "-Wextra", "-Werror"]).args(words);
    let output = command.args(["-o", "vad"]).output().expect("there is a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(at("vad")).arg(examples().join("speech.wav")).output().expect("the host starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    says_when_speech_begins(&out);
}

fn says_when_speech_begins(out: &str) {
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("speech")).collect();
    assert_eq!(lines.len(), BEGINS.len(), "{out}");
    assert!(lines.iter().zip(BEGINS).all(|(line, begin)| line.starts_with(begin)), "{out}");
}

#[test]
fn c_host_with_a_static_library() {
    let source = examples().join("c-host/main.c");
    let source = source.to_str().expect("the path is text");
    host("libsilero.a", "cc", &["-O1", "-std=c99", source, "libsilero.a", "-lm", "-lpthread", "-ldl", "-lgcc_s"]);
}

#[test]
fn cpp_host_with_a_shared_library() {
    let source = examples().join("cpp-host/main.cc");
    let source = source.to_str().expect("the path is text");
    host("libsilero.so", "c++", &["-O1", "-std=c++17", source, "-L.", "-lsilero", "-Wl,-rpath,$ORIGIN"]);
}

#[test]
fn rust_host_compiles_in_process() {
    let path = |name: &str| examples().join(name).to_str().expect("the path is text").to_owned();
    for backend in [aot::Backend::Llvm, aot::Backend::Cranelift] {
        let mut out = Vec::new();
        rust_jit::find_speech(&path("silero_vad/silero_vad.pt"), &path("speech.wav"), backend, &mut out)
            .unwrap_or_else(|e| panic!("{backend:?}: {e}"));
        says_when_speech_begins(&String::from_utf8_lossy(&out));
    }
}
