//! What several sub-commands share: backends, `--input`, how sizes are printed.

use crate::diag::Result;
use crate::driver::{Backend, TextOptions};
use crate::signatures::InputSpec;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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

/// What a source file needs besides its name.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TextArgs {
    /// In a source file, the function, module class or variable to compile; by default the last one.
    #[arg(long, value_name = "NAME")]
    pub(super) entry: Option<String>,
    /// For a module class in a source file, the values of its attributes: tensors by dotted names in a .safetensors, .npz or
    /// `torch.save` file, which replace those that the constructors make, or an archive of the module.
    #[arg(long, value_name = "FILE")]
    pub(super) attributes: Option<PathBuf>,
    /// The source file is text as `CompilationUnit` takes it, not Python.
    #[arg(long)]
    pub(super) unit: bool,
}

impl TextArgs {
    pub(super) fn options(&self) -> TextOptions {
        TextOptions { entry: self.entry.clone(), attributes: self.attributes.clone(), is_unit: self.unit }
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
