//! Calls for fixed extents allocate nothing once they are warm: neither through the C library nor the host's own functions.

use super::{Recorded, folder, host, options, source};

fn check(corpus: &str, model: &str) {
    let folder = folder();
    let recorded = Recorded::extract(corpus, model, folder.path());
    recorded.build(&folder.path().join("libm_model.so"), &options("m"));
    let source = source("allocations.c");
    host(folder.path(), "cc", &["-std=c11", "-O1", "-fno-builtin", &source, "-L.", "-l:libm_model.so"]);
}

#[test]
fn a_small_network_allocates_nothing() {
    check("models_small.zip", "mlp.script");
}

#[test]
fn a_convolutional_network_allocates_nothing() {
    check("models_small.zip", "resnet_basic.script");
}

#[test]
fn a_recurrent_network_allocates_nothing() {
    check("models_small.zip", "bilstm_tagger.trace");
}

#[test]
fn a_model_with_state_allocates_nothing() {
    check("real.zip", "silero_vad");
}
