//! What a model prints, warns and raises reaches the host: in C, in C++, and in Rust on every backend.

use super::{folder, host, options, source};
use aot::build::{self, Extra, Options};
use aot::driver::{self, Backend, TextOptions, Timings};
use aot::lower::{ArgSpec, Request};
use aot::{Exception, Level, Module};
use aot_runtime::{Tensor, Value};
use std::path::Path;
use std::sync::{Arc, Mutex};

const PRINTED: [&str; 2] = ["x:  1.0000\n 2.5000\n[ CPUFloatType{2} ] [1., 0.5] ", "{a: [1, 2]} ("];

fn model() -> (aot::archive::Archive, aot::ir::Module) {
    driver::open(Path::new(&source("output.py")), &TextOptions::default()).expect("it compiles")
}

/// The lines of a call with `n`.
fn lines(n: i64) -> Vec<String> {
    let [x, counts] = PRINTED;
    vec![
        format!("print: {x}{n}"),
        format!("print: {counts}{n}, None, True)"),
        "warning: output.py:11: UserWarning: take care".to_owned(),
    ]
}

#[test]
fn hosts_in_c_and_cpp_take_output_and_exceptions() {
    let folder = folder();
    let (archive, module) = model();
    let args = ["f32[2]", "int"].map(|spec| ArgSpec::parse(spec).expect("it reads"));
    let request = Request::new("forward", args.to_vec());
    let options = Options { extras: vec![Extra::Header, Extra::Cpp], ..options("m") };
    let out = folder.path().join("libm_model.so");
    let built = build::build(&archive, &module, &[request], &out, &options, &mut Timings::default());
    built.unwrap_or_else(|e| panic!("{}", e.render()));
    let raised = vec!["ValueError: too large: nnnn... at output.py:19:8".to_owned()];
    // The last call prints to the standard output itself.
    let plain = lines(2)[..2].iter().map(|line| line.replacen("print: ", "", 1)).collect();
    let expected = [lines(1), lines(3), raised, plain].concat().join("\n") + "\n";
    for (compiler, standard, name) in [("cc", "-std=c11", "output.c"), ("c++", "-std=c++17", "output.cc")] {
        let source = source(name);
        let told = host(folder.path(), compiler, &[standard, "-O1", &source, "-L.", "-l:libm_model.so"]);
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn rust_takes_output_and_exceptions_on_every_backend() {
    let x = Value::Tensor(Tensor::from_f32(&[2], &[1.0, 2.5]).expect("sizes fit"));
    for backend in [Backend::Reference, Backend::Cranelift, Backend::Llvm, Backend::Library] {
        let module = Module::of_ir(model().1, backend);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = taken.clone();
        module.set_log(move |level, text| {
            let level = if level == Level::Warning { "warning" } else { "print" };
            into.lock().expect("no panic").push(format!("{level}: {text}"));
        });
        assert!(matches!(module.forward(&[&x, &1_i64]), Ok(Value::Int(1))), "{backend:?}");
        let error = module.forward(&[&x, &3_i64]).expect_err("it raises");
        assert_eq!(*taken.lock().expect("no panic"), [lines(1), lines(3)].concat(), "{backend:?}");
        let expected = Exception {
            class: "ValueError".into(),
            message: format!("too large: {}", "n".repeat(300)),
            file: "output.py".into(),
            line: 19,
            column: 8,
        };
        assert_eq!(error.exception.as_deref(), Some(&expected), "{backend:?}");
    }
}
