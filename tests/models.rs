//! The recorded models: every call gives PyTorch's result, on machine code and on the evaluator.

use aot::archive::Container;
use aot::check::{self, Outcome};
use aot::driver::Backend;
use std::path::Path;

/// Models that need something which is not compiled yet. A model leaves this list when it passes; it must not enter it again.
const UNSUPPORTED: [&str; 3] = ["faster_rcnn.script", "keypoint_rcnn.script", "seq2seq_beam.script"];

/// Detectors with random weights: the order of their boxes hangs on scores that differ in the last bit, so a right answer may
/// differ from the recorded one, in another way on each processor. They must compile and run.
const UNSTABLE: [&str; 1] = ["retinanet.script"];

/// Runs every case of a corpus; the calls that do not give PyTorch's result.
fn faults(corpus: &str, backend: Backend) -> (usize, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let zip = Container::open(&path).expect("the corpus reads");
    let mut names: Vec<&str> = zip.names().filter_map(|n| n.strip_suffix(".io.pt")).collect();
    names.sort_unstable();
    let (mut n_passed, mut faults) = (0, Vec::new());
    for name in names {
        let model = zip.get(&format!("{name}.pt")).expect("a model for its cases");
        let io = zip.get(&format!("{name}.io.pt")).expect("listed");
        let is_known = UNSUPPORTED.iter().any(|known| name.starts_with(known));
        let is_unstable = UNSTABLE.contains(&name);
        for report in check::run(model, io, name, Some(backend)).reports {
            match report.outcome {
                Outcome::Passed => n_passed += 1,
                Outcome::Unsupported(_) if is_known => {}
                Outcome::Failed(why) if is_unstable && why.contains("elements differ") => {}
                Outcome::Failed(why) | Outcome::Unsupported(why) => {
                    faults.push(format!("{name} {}: {why}", report.call));
                }
            }
        }
    }
    (n_passed, faults)
}

fn check(corpus: &str, backend: Backend, at_least: usize) {
    let (n_passed, faults) = faults(corpus, backend);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(n_passed >= at_least, "{n_passed} calls passed, {at_least} did before");
}

#[test]
fn small_models_by_llvm() {
    check("models_small.zip", Backend::Llvm, 121);
}

#[test]
fn small_models_by_cranelift() {
    check("models_small.zip", Backend::Cranelift, 121);
}

#[test]
fn trained_models_by_llvm() {
    check("real.zip", Backend::Llvm, 40);
}

#[test]
fn trained_models_by_the_evaluator() {
    check("real.zip", Backend::Reference, 40);
}
