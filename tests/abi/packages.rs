//! What build systems see: packages of build systems, plain objects and archives, and what is in the files.

use super::{Recorded, folder, host, options, output};
use aot::build::{self, Extra};
use object::{Object as _, ObjectSymbol as _};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const HOST: &str = "
#include \"m.h\"
#include \"aot.hpp\"
#include <cstdio>
#include <stdexcept>
#include <string>

int main() {
    auto model = aot::load(m_api());
    std::vector<float> x(20, 0.5f);
    if (model.forward({aot::Tensor::view(x, {1, 20})}).toTensor().numel() == 0) return 1;
    float direct[64];
    m_model* plain = nullptr;
    if (m_open(&plain, nullptr, nullptr) != AOT_OK) return 2;
    if (m_forward_raw(plain, nullptr, x.data(), direct, nullptr) != AOT_OK) return 3;
    m_close(plain);
    try {
        model.forward({1});
        return 4;
    } catch (const std::exception& e) {
        std::printf(\"%s\\n\", std::string(e.what()).c_str());
    }
    return 0;
}
";

/// A folder with the library `file` of a small network, what build systems read, and a host in C++.
fn made(file: &str) -> tempfile::TempDir {
    let folder = folder();
    let recorded = Recorded::extract("models_small.zip", "mlp.script", folder.path());
    let extras = vec![Extra::Header, Extra::Cpp, Extra::Cmake, Extra::PkgConfig];
    recorded.build(&folder.path().join(file), &build::Options { extras, ..options("m") });
    fs::write(folder.path().join("main.cc"), HOST).expect("the folder is writable");
    folder
}

#[test]
fn pkg_config_says_how_to_compile_and_link() {
    for file in ["libm_net.so", "libm_net.a"] {
        let folder = made(file);
        let mut command = Command::new("pkg-config");
        let words = output(command.env("PKG_CONFIG_PATH", folder.path()).args(["--cflags", "--libs", "m"]));
        let mut all = vec!["-std=c++17", "main.cc"];
        all.extend(words.split_whitespace());
        let told = host(folder.path(), "c++", &all);
        assert!(told.contains("argument 'x'"), "{told}");
    }
}

#[test]
fn cmake_finds_the_library() {
    for file in ["libm_net.so", "libm_net.a"] {
        let folder = made(file);
        let project = "cmake_minimum_required(VERSION 3.13)\nproject(host CXX)\nfind_package(m CONFIG REQUIRED)\n\
            add_executable(host main.cc)\ntarget_compile_features(host PRIVATE cxx_std_17)\n\
            target_link_libraries(host PRIVATE aot::m)\n";
        fs::write(folder.path().join("CMakeLists.txt"), project).expect("the folder is writable");
        let build = folder.path().join("build");
        let place = format!("-Dm_DIR={}", folder.path().display());
        output(Command::new("cmake").arg("-S").arg(folder.path()).arg("-B").arg(&build).arg(place));
        output(Command::new("cmake").arg("--build").arg(&build));
        assert!(output(&mut Command::new(build.join("host"))).contains("argument 'x'"));
    }
}

#[test]
fn objects_and_archives_link_into_programs_of_both_languages() {
    for file in ["libm_net.a", "m_net.o"] {
        let folder = made(file);
        let file = format!("./{file}");
        let libraries = ["-lpthread", "-lm", "-ldl", "-lgcc_s"];
        let words: Vec<&str> = ["-std=c++17", "main.cc", &file].into_iter().chain(libraries).collect();
        host(folder.path(), "c++", &words);
        let c = "#include \"m.h\"\nint main(void) {\n    m_model* model = NULL;\n    \
            if (m_open(&model, NULL, NULL) != AOT_OK) return 1;\n    m_close(model);\n    return 0;\n}\n";
        fs::write(folder.path().join("main.c"), c).expect("the folder is writable");
        let words: Vec<&str> = ["-std=c99", "main.c", &file].into_iter().chain(libraries).collect();
        host(folder.path(), "cc", &words);
        let needs = output(Command::new("ldd").arg(folder.path().join("host")));
        assert!(!needs.contains("libstdc++"), "{needs}");
    }
}

/// Names of global symbols: those that the file defines, or those that it needs.
fn symbols(path: &Path, is_dynamic: bool, are_defined: bool) -> BTreeSet<String> {
    let bytes = fs::read(path).expect("the file was made");
    let file = object::File::parse(&*bytes).expect("the file is an object");
    let symbols = if is_dynamic { file.dynamic_symbols() } else { file.symbols() };
    let chosen = symbols.filter(|s| s.is_definition() == are_defined && !s.is_local());
    chosen.filter_map(|s| s.name().ok().map(str::to_owned)).filter(|name| !name.is_empty()).collect()
}

#[test]
fn only_prefixed_symbols_are_seen_and_only_the_c_library_is_needed() {
    let folder = made("libm_net.so");
    let shared = folder.path().join("libm_net.so");
    let needs = output(Command::new("ldd").arg(&shared));
    for name in needs.lines().filter_map(|line| line.split_whitespace().next()) {
        let is_base = ["linux-vdso", "libc.", "libm.", "/lib"].iter().any(|base| name.starts_with(base));
        assert!(is_base, "needs {name}");
    }
    let exported = symbols(&shared, true, true);
    assert!(exported.contains("m_forward_raw") && exported.iter().all(|name| name.starts_with("m_")), "{exported:?}");
    let object = made("m_net.o");
    let object = object.path().join("m_net.o");
    assert_eq!(symbols(&object, false, true), exported);
    // Nothing that only a C++ runtime has, and nothing that reads the environment behind the host's back but for the
    // backtraces of a panic, which no input causes.
    let needed = symbols(&object, false, false);
    assert!(needed.iter().all(|name| !name.starts_with("_Z") && !name.starts_with("__cxa_throw")), "{needed:?}");
}
