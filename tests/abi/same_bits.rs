//! The same bits: of results for any number of threads, and of files for any folder and copy of the archive.

use super::{Recorded, folder, options, request, values};
use aot::Library;
use aot::build::{self, Extra};
use aot_runtime::Value;
use std::fs;
use std::path::Path;

/// Everything in a result, as bytes.
fn bits(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Tensor(tensor) => out.extend(tensor.to_bytes()),
        Value::Tuple(items) | Value::List(items) => items.iter().for_each(|item| bits(item, out)),
        Value::NamedTuple { fields, .. } => fields.iter().for_each(|(_, item)| bits(item, out)),
        Value::Dict(entries) => entries.iter().for_each(|(_, item)| bits(item, out)),
        Value::Float(x) => out.extend(x.to_bits().to_le_bytes()),
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Complex(..) | Value::Str(_) => {
            out.extend(format!("{value:?}").bytes());
        }
    }
}

fn threads(corpus: &str, model: &str) {
    let folder = folder();
    let recorded = Recorded::extract(corpus, model, folder.path());
    let path = folder.path().join("libm.so");
    recorded.build(&path, &options("m"));
    let library = Library::load(&path).unwrap_or_else(|e| panic!("{}", e.render()));
    let call = recorded.first();
    let mut results = Vec::new();
    for n_threads in [1, 2, 3, 2] {
        library.set_threads(n_threads);
        let mut instance = library.instance().expect("the model opens");
        let mut found = Vec::new();
        for _ in 0..2 {
            let value = instance.call(&call.method, &values(call)).unwrap_or_else(|e| panic!("{model}: {e}"));
            bits(&value, &mut found);
        }
        assert!(found.len() >= 8, "{model} gives a result");
        results.push(found);
    }
    assert!(results.iter().all(|result| *result == results[0]), "{model}: results depend on the number of threads");
}

#[test]
fn convolutions_do_not_depend_on_threads() {
    for model in ["resnet_basic.script", "unet_bilinear.trace", "mobilenet_v2.trace"] {
        threads("models_small.zip", model);
    }
}

#[test]
fn attention_does_not_depend_on_threads() {
    for model in ["vit.script", "transformer_encoder.script", "swin.script"] {
        threads("models_small.zip", model);
    }
}

#[test]
fn recurrent_networks_and_reductions_do_not_depend_on_threads() {
    for model in ["bilstm_tagger.script", "gru_tagger.trace", "style_transfer.trace"] {
        threads("models_small.zip", model);
    }
    threads("real.zip", "silero_vad");
}

/// The files of a build in this folder, by name.
fn files(recorded: &Recorded, folder: &Path, name: &str) -> Vec<(String, Vec<u8>)> {
    fs::create_dir_all(folder).expect("the folder is writable");
    let options =
        build::Options { extras: vec![Extra::Header, Extra::Cpp, Extra::Cmake, Extra::PkgConfig], ..options("m") };
    let out = folder.join(name);
    let built = build::build_file(&recorded.path, &[request(recorded.first())], &out, &options);
    let built = built.unwrap_or_else(|e| panic!("{}", e.render()));
    let contents = |path: &std::path::PathBuf| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, fs::read(path).expect("the file was made"))
    };
    built.files.iter().map(contents).collect()
}

#[test]
fn files_do_not_depend_on_folders_or_time() {
    let folder = folder();
    for model in ["lenet.trace", "transformer_encoder.script", "state_accumulator.script"] {
        let original = Recorded::extract("models_small.zip", model, folder.path());
        let elsewhere = folder.path().join("another folder");
        fs::create_dir_all(&elsewhere).expect("the folder is writable");
        let copy = Recorded { path: elsewhere.join("copy.pt"), cases: original.cases.clone() };
        fs::copy(&original.path, &copy.path).expect("the archive can be copied");
        for file in ["libm.so", "libm.a", "m.o"] {
            let first = files(&original, &folder.path().join("one"), file);
            for (archive, place) in [(&original, "one"), (&copy, "two/deeper")] {
                for (a, b) in first.iter().zip(files(archive, &folder.path().join(place), file)) {
                    assert!(*a == b, "{model}: {} differs from one build to the next", a.0);
                }
            }
        }
    }
}
