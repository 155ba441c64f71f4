//! Every archive of the corpus through the reader: what must load loads, what must be refused is refused with a reason.

use aot::archive::{self, Container};
use aot::diag::Blame;
use aot::types::IValue;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time that one file may take.
const LIMIT: Duration = Duration::from_secs(10);

fn corpus(name: &str) -> Container {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    Container::open(&path).expect("the corpus is a zip")
}

fn is_archive(name: &str) -> bool {
    !name.ends_with(".io.pt") && (name.ends_with(".pt") || name.ends_with(".ptl"))
}

#[test]
fn odd_and_hostile_archives() {
    let cases = corpus("archives.zip");
    let lines = cases.get("archives.jsonl").expect("the list of cases");
    let lines = std::str::from_utf8(lines.as_ref()).expect("the list is text");
    let mut faults = Vec::new();
    let mut n_cases = 0;
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON value a line");
        let file = line["file"].as_str().expect("a file name");
        if !cases.contains(file) {
            continue;
        }
        n_cases += 1;
        let must_load = line["must"] == "load";
        // What is wrong with the code of an archive is found here or when the code is compiled.
        let may_load = must_load || file.starts_with("h_code_");
        let start = Instant::now();
        let result = archive::from_bytes(cases.get(file).expect("the member reads"), file);
        if start.elapsed() > LIMIT {
            faults.push(format!("{file}: took {:?}", start.elapsed()));
        }
        match result {
            Ok(_) if may_load => {}
            Ok(_) => faults.push(format!("{file}: loads, though: {}", line["why"])),
            Err(e) if must_load => faults.push(format!("{file}: {}", e.render())),
            Err(e) if e.blame != Blame::User || e.message.is_empty() => faults.push(format!("{file}: {e:?}")),
            Err(_) => {}
        }
    }
    assert!(n_cases > 50, "only {n_cases} cases found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn models_and_their_recorded_calls_load() {
    for name in ["archives.zip", "models_small.zip", "real.zip"] {
        let cases = corpus(name);
        let mut n_models = 0;
        for file in cases.names() {
            let bytes = || cases.get(file).expect("the member reads");
            if file.ends_with(".io.pt") {
                let value = archive::load_data(bytes(), file).unwrap_or_else(|e| panic!("{}", e.render()));
                let IValue::Dict(_, entries) = value else { panic!("{file}: a dict is expected") };
                let has = |key: &str| entries.iter().any(|(k, _)| matches!(k, IValue::Str(k) if &**k == key));
                assert!(has("cases") || has("sequences"), "{file}: no calls");
            } else if is_archive(file) && !file.starts_with("h_") {
                let model = archive::from_bytes(bytes(), file).unwrap_or_else(|e| panic!("{}", e.render()));
                assert!(!model.sources.is_empty(), "{file}: no source");
                assert!(model.root.class.starts_with("__torch__."), "{file}: {}", model.root.class);
                n_models += 1;
            }
        }
        assert!(n_models > 0, "{name}: no models");
    }
}

#[test]
fn shared_storages_stay_shared() {
    let cases = corpus("archives.zip");
    let model = archive::from_bytes(cases.get("strided.pt").expect("the member reads"), "strided.pt");
    let model = model.unwrap_or_else(|e| panic!("{}", e.render()));
    let IValue::Tensor(t) = &model.root.attrs["t"] else { panic!("t is a tensor") };
    assert_eq!((t.sizes(), t.strides()), (&[4, 3][..], &[1, 4][..]));
    let IValue::Tensor(exp) = &model.root.attrs["exp"] else { panic!("exp is a tensor") };
    assert_eq!(exp.strides(), [0, 1]);
}
