//! Libraries as files: weights and little else, and whole however often they are opened.

use aot::Library;
use aot::archive::Container;
use aot::cli::{Exit, Output, run};
use aot_runtime::{Tensor, Value};
use std::fs;
use std::path::Path;

/// What code and runtime may add to the weights.
const MOST_BESIDE_WEIGHTS: u64 = 2 << 20;

/// Runs `aot`; gives what it prints.
fn aot(words: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = std::iter::once("aot").chain(words.iter().copied()).map(Into::into);
    let exit = run(words, &mut Output { out: &mut out, err: &mut err, is_terminal: false });
    assert_eq!(exit, Exit::Success, "{}", String::from_utf8_lossy(&err));
    String::from_utf8(out).expect("it prints text")
}

fn number(json: &serde_json::Value, key: &str) -> u64 {
    json[key].as_u64().unwrap_or_else(|| panic!("no {key} in {json}"))
}

/// Builds a model of a corpus; `look` gets the library's path, the bytes of the model's tensors and what `inspect` says.
fn built(corpus: &str, model: &str, look: impl FnOnce(&Path, u64, &serde_json::Value)) {
    let zip = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let zip = Container::open(&zip).expect("the corpus reads");
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let at = |name: &str| folder.path().join(name).to_str().expect("the path is text").to_owned();
    let (archive, library) = (at("model.pt"), at("libmodel.so"));
    fs::write(&archive, zip.get(model).expect("the model is there").as_ref()).expect("the folder is writable");
    let inspect = |path: &str| serde_json::from_str(&aot(&["inspect", path, "--json"])).expect("it is JSON");
    let original: serde_json::Value = inspect(&archive);
    aot(&["build", &archive, "-o", &library, "--cpu", "x86-64-v3"]);
    let info: serde_json::Value = inspect(&library);
    look(Path::new(&library), number(&original, "weights_bytes"), &info);
}

#[test]
fn libraries_are_their_weights_and_little_else() {
    for model in ["wide_resnet.trace.pt", "resnet_bottleneck.trace.pt", "vgg_like_bn.trace.pt", "convnext.trace.pt"] {
        built("models_small.zip", model, |library, original, info| {
            let stored = number(info, "weights_bytes");
            // The ends of panels, and weights of which versions for any extents want another form.
            assert!(stored <= original + (1 << 20), "{model}: {stored} bytes stored of {original}");
            let size = fs::metadata(library).expect("it was made").len();
            assert!(size <= original + MOST_BESIDE_WEIGHTS, "{model}: {size} bytes with {original} of weights");
        });
    }
}

#[test]
fn libraries_prepare_whenever_they_are_opened() {
    built("models_small.zip", "vgg_like_bn.trace.pt", |library, original, info| {
        let prepared = number(info, "prepared_bytes");
        assert!(
            prepared > original,
            "Winograd's weights are four times the original, not {prepared} bytes of {original}"
        );
        let parts = info["prepared"].as_array().expect("a list").iter();
        let sum: u64 = parts.map(|part| number(part, "bytes")).sum();
        assert!(sum <= prepared && prepared - sum < 4096, "{sum} of {prepared} bytes are named");
        let x: Vec<u8> = (0..3 * 32 * 32u32).flat_map(|i| ((i % 97) as f32 / 97.0).to_ne_bytes()).collect();
        let x = Tensor::from_bytes(aot_runtime::Dtype::F32, &[1, 3, 32, 32], &x).expect("it fits");
        let open = || Library::load(library).expect("it loads");
        let call = |library: &Library| {
            let Value::Tensor(y) = library.call("forward", &[Value::Tensor(x.clone())]).expect("it runs") else {
                panic!("not a tensor");
            };
            y.to_bytes()
        };
        let (first, second) = (open(), open());
        let expected = call(&first);
        assert!(expected.iter().any(|&byte| byte != 0));
        assert_eq!(call(&second), expected);
        drop(first);
        assert_eq!(call(&second), expected, "each opened model has memory of its own");
        assert_eq!(call(&open()), expected);
    });
}
