//! Many threads, two models in one program, opening and closing: as it is, and under the sanitizers that the compiler has.
//! The libraries are not instrumented, the hosts are; the address sanitizer still sees every allocation and its leaks. The
//! thread sanitizer does not know the libraries' locks, so what they do inside is left out: it looks at what hosts see.

use super::{Recorded, folder, host, options, source};
use std::path::Path;
use std::process::Command;

/// Builds two models and runs the host with these words for the compiler.
fn check(words: &[&str], suffix: &str) {
    let folder = folder();
    for (name, model) in [("a", "resnet_basic.script"), ("b", "gru_tagger.trace")] {
        let recorded = Recorded::extract("models_small.zip", model, folder.path());
        recorded.build(&folder.path().join(format!("lib{name}.{suffix}")), &options(name));
    }
    let (source, a, b) = (source("threads.c"), format!("./liba.{suffix}"), format!("./libb.{suffix}"));
    let mut all = vec!["-std=c11", "-O1", &source, &a, &b, "-lpthread", "-lm", "-ldl", "-lgcc_s"];
    all.extend(words);
    host(folder.path(), "cc", &all);
}

/// Whether programs can be compiled and run with a sanitizer here.
fn has_sanitizer(word: &str) -> bool {
    let folder = folder();
    let program = folder.path().join("main.c");
    std::fs::write(&program, "int main(void) { return 0; }\n").expect("the folder is writable");
    let compiled = Command::new("cc").current_dir(folder.path()).args([word, "main.c", "-o", "main"]).output();
    let run = |path: &Path| Command::new(path).output().is_ok_and(|output| output.status.success());
    compiled.is_ok_and(|output| output.status.success()) && run(&folder.path().join("main"))
}

#[test]
fn many_threads_call_two_shared_libraries() {
    check(&[], "so");
}

#[test]
fn many_threads_call_two_static_libraries() {
    check(&[], "a");
}

#[test]
fn many_threads_call_two_objects() {
    check(&[], "o");
}

#[test]
fn hosts_are_clean_under_the_address_sanitizer() {
    if has_sanitizer("-fsanitize=address,undefined") {
        check(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], "so");
        check(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], "a");
    }
}

#[test]
fn hosts_are_clean_under_the_thread_sanitizer() {
    if has_sanitizer("-fsanitize=thread") {
        check(&["-fsanitize=thread", "-DHAS_THREAD_SANITIZER"], "so");
    }
}
