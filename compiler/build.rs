//! Compiles the run-time library for the machine that `aot` itself is built for, so that the `aot` binary carries what it
//! links into the libraries it makes. The runtime has no dependencies, so one call of `rustc` is enough.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let source = manifest.join("../runtime/src");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets it");
    println!("cargo::rustc-env=AOT_RUNTIME_TARGET={target}");

    let archive = out.join("libaot_rt.a");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=staticlib", "--crate-name=aot_runtime", "--cap-lints=allow"]);
    rustc.args(["-Copt-level=2", "-Cpanic=unwind", "-Clto=fat", "-Ccodegen-units=1", "-Crelocation-model=pic"]);
    rustc.arg("--target").arg(&target).arg(source.join("lib.rs")).arg("-o").arg(&archive);
    // Panic messages would otherwise contain the folder of the build.
    rustc.arg(format!("--remap-path-prefix={}=runtime", manifest.join("../runtime").display()));
    match rustc.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("compiling the runtime: {status}"),
        Err(error) => panic!("running rustc for the runtime: {error}"),
    }
    let object = out.join("aot_rt.o");
    if !join(&archive, &object) {
        std::fs::copy(&archive, &object).expect("the output folder is writable");
    }
}

/// Makes one object of the archive, without debug information, which is nine tenths of it. The archive itself serves
/// too, only bigger, where no linker takes these options.
fn join(archive: &Path, object: &Path) -> bool {
    let mut cc = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-r", "-nostdlib", "-Wl,--strip-debug", "-Wl,--whole-archive"]).arg(archive).arg("-o").arg(object);
    cc.output().is_ok_and(|output| output.status.success())
}
