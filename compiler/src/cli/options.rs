//! What several sub-commands share: backends, `--input`, how sizes are printed.

use crate::diag::Result;
use crate::driver::Backend;
use crate::signatures::InputSpec;
use clap::ValueEnum;

/// Who runs a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum BackendArg {
    /// LLVM, in this process.
    Llvm,
    /// Cranelift, in this process: compiles fast.
    Cranelift,
    /// The plain evaluator.
    Reference,
    /// A shared library, built and loaded.
    Library,
}

impl From<BackendArg> for Backend {
    fn from(arg: BackendArg) -> Self {
        match arg {
            BackendArg::Llvm => Self::Llvm,
            BackendArg::Cranelift => Self::Cranelift,
            BackendArg::Reference => Self::Reference,
            BackendArg::Library => Self::Library,
        }
    }
}

/// The `--input` options.
pub(super) fn inputs(texts: &[String]) -> Result<Vec<InputSpec>> {
    texts.iter().map(|text| InputSpec::parse(text)).collect()
}

/// `2.3 MB`
#[allow(clippy::cast_precision_loss, reason = "a text of two digits")]
pub(super) fn size_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
