//! Many threads, two models in one program, opening and closing: as it is, and under the sanitizers that the compiler has.
//! The libraries are not instrumented, the hosts are; the address sanitizer still sees every allocation and its leaks. The
//! thread sanitizer does not know the libraries' locks, so what they do inside is left out: it looks at what hosts see.

use super::{Recorded, folder, host, options, source};
use aot::build;
use aot::driver::{self, Backend, TextOptions, Timings};
use aot::lower::{ArgSpec, Request};
use aot_runtime::{Tensor, Value};
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

/// What compiles the model of `tasks.py`.
fn forking() -> (aot::archive::Archive, aot::ir::Module, Request) {
    let (archive, module) = driver::open(Path::new(&source("tasks.py")), &TextOptions::default()).expect("it compiles");
    (archive, module, Request::new("forward", vec![ArgSpec::parse("f32[16,8]").expect("it reads")]))
}

/// Runs the host of a model that forks with these words for the compiler.
fn check_tasks(words: &[&str]) {
    let folder = folder();
    let (archive, module, request) = forking();
    let out = folder.path().join("libt.so");
    let built = build::build(&archive, &module, &[request], &out, &options("t"), &mut Timings::default());
    built.unwrap_or_else(|e| panic!("{}", e.render()));
    let source = source("tasks.c");
    let mut all = vec!["-std=c11", "-O1", &source, "./libt.so", "-lpthread"];
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
fn many_threads_call_a_model_that_forks() {
    check_tasks(&[]);
}

/// Calls until a thread of the pool was there before the wait: soon, as each call has twelve tasks.
#[test]
fn tasks_of_compiled_code_run_on_other_threads() {
    let (_, module, request) = forking();
    let program = driver::lower(&module, &[request], &mut Timings::default()).expect("it lowers");
    let x = Value::Tensor(Tensor::from_f32(&[16, 8], &[0.5; 128]).expect("sizes fit"));
    for backend in [Backend::Reference, Backend::Cranelift, Backend::Llvm] {
        let loaded = driver::load(program.clone(), backend, &mut Timings::default()).expect("it loads");
        let aot::exec::Executable::Model(model) = loaded else { panic!("code in this process") };
        model.set_threads(2);
        let call = || model.call("forward", std::slice::from_ref(&x)).expect("it runs");
        assert!((0..100_000).any(|_| matches!(call(), Value::Tensor(_)) && model.n_pool_tasks() > 0), "{backend:?}");
    }
}

#[test]
fn hosts_are_clean_under_the_address_sanitizer() {
    if has_sanitizer("-fsanitize=address,undefined") {
        check(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], "so");
        check(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], "a");
        check_tasks(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
    }
}

#[test]
fn hosts_are_clean_under_the_thread_sanitizer() {
    if has_sanitizer("-fsanitize=thread") {
        check(&["-fsanitize=thread", "-DHAS_THREAD_SANITIZER"], "so");
        check_tasks(&["-fsanitize=thread", "-DHAS_THREAD_SANITIZER"]);
    }
}
