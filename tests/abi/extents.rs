//! A library takes any extents its signature's ranks allow: those it was built for by the special version, others by one for
//! any extents, unless it was built without that.

use super::{Recorded, folder, options, values};
use aot::Library;
use aot::build::Options;
use aot::check::{Expected, Tolerance, difference};
use aot_runtime::{Status, Tensor, Value};
use std::fs;

/// Builds for the first recorded call, and makes every other recorded call of the same method.
fn check(corpus: &str, models: &[&str]) {
    for model in models {
        let folder = folder();
        let recorded = Recorded::extract(corpus, model, folder.path());
        let out = folder.path().join("libm.so");
        let built = recorded.build(&out, &options("m"));
        assert_eq!(built.notes, [] as [&str; 0], "{model}");
        let library = Library::load(&out).unwrap_or_else(|e| panic!("{}", e.render()));
        let first = recorded.first();
        let mut n_called = 0;
        for call in recorded.cases.calls.iter().filter(|call| call.method == first.method) {
            let found = library.call(&call.method, &values(call)).unwrap_or_else(|e| panic!("{model}: {e}"));
            let Expected::Value(expected) = &call.expected else { continue };
            let tolerance = Tolerance { rtol: recorded.cases.rtol, atol: recorded.cases.atol, is_meta: false };
            if let Some(wrong) = difference(&found, expected, tolerance, "result") {
                panic!("{model}: {wrong}");
            }
            n_called += 1;
        }
        assert!(n_called > 1, "{model} has calls with other extents");
    }
}

#[test]
fn networks_of_matrix_products_take_other_extents() {
    check("models_small.zip", &["mlp.script", "dlrm.script", "pointnet.script", "vae.trace"]);
}

#[test]
fn convolutional_networks_take_other_extents() {
    let models =
        ["resnet_basic.script", "mobilenet_v2.trace", "unet_bilinear.script", "wavenet.script", "squeezenet.script"];
    check("models_small.zip", &models);
}

#[test]
fn transformers_take_other_extents() {
    check("models_small.zip", &["transformer_encoder.script", "llama_like.script", "vit.script", "t5_like.script"]);
}

#[test]
fn recurrent_networks_take_other_extents() {
    check("models_small.zip", &["bilstm_tagger.script", "gru_tagger.trace", "crnn_ctc.script"]);
}

fn mlp(is_static: bool) -> (Library, String) {
    let folder = folder();
    let recorded = Recorded::extract("models_small.zip", "mlp.script", folder.path());
    let out = folder.path().join("libm.so");
    recorded.build(&out, &Options { any_extents: !is_static, ..options("m") });
    let header = fs::read_to_string(folder.path().join("m.h")).expect("the header was made");
    (Library::load(&out).unwrap_or_else(|e| panic!("{}", e.render())), header)
}

fn zeros(sizes: &[i64]) -> Value {
    let n = usize::try_from(sizes.iter().product::<i64>()).expect("small");
    Value::Tensor(Tensor::from_f32(sizes, &vec![0.0; n]).expect("small"))
}

#[test]
fn header_and_library_list_both_versions() {
    let (library, header) = mlp(false);
    let info = library.info();
    let signatures: Vec<&str> = info.methods[0].1.lines().collect();
    assert_eq!(signatures.len(), 2, "{signatures:?}");
    assert!(signatures[0].starts_with("(x: float32[1, 20]) -> "), "{signatures:?}");
    assert!(signatures[1].starts_with("(x: float32[N0, N1]) -> "), "{signatures:?}");
    assert!(signatures.iter().all(|signature| header.contains(signature)), "{header}");
    assert_eq!(info.flags, format!("-O2 --cpu {}", aot::emit::target::Target::host().cpu));
}

#[test]
fn a_static_library_refuses_other_extents() {
    let (library, _) = mlp(true);
    let error = library.call("forward", &[zeros(&[2, 20])]).unwrap_err();
    assert_eq!(error.status, Status::Shape);
    assert_eq!(error.message, "argument 'x': expected float32[1, 20], got float32[2, 20]");
    assert_eq!(library.info().methods[0].1.lines().count(), 1);
}

#[test]
fn extents_that_the_model_cannot_take_raise() {
    let (library, _) = mlp(false);
    let error = library.call("forward", &[zeros(&[1, 21])]).unwrap_err();
    assert_eq!(error.status, Status::Raised, "{error}");
    let error = library.call("forward", &[zeros(&[20])]).unwrap_err();
    assert_eq!(error.status, Status::Shape, "{error}");
}
