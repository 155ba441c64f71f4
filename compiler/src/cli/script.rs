//! `aot script`: a source file becomes an archive that PyTorch and every other command here loads.

use super::options::TextArgs;
use super::{Exit, Output};
use crate::diag::Result;
use crate::link::library::write_file;
use crate::{archive, driver, export};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `aot script`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  aot script net.py --entry f -o f.pt
  aot script net.py --entry Net -o net.pt
  aot script net.py --entry Net --attributes weights.safetensors -o net.pt

A module class is constructed as Python would, without arguments; a variable that holds a module can be the entry, too.")]
pub(super) struct ScriptArgs {
    /// The source file; an archive is compiled and written anew.
    model: PathBuf,
    #[command(flatten)]
    text: TextArgs,
    /// The archive to write; the source file's name with .pt by default.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ScriptArgs, output: &mut Output<'_>) -> Result<Exit> {
    let (archive, module) = if driver::is_text(&args.model) {
        driver::open(&args.model, &args.text.options())?
    } else {
        let archive = archive::open(&args.model)?;
        let module = driver::front_end_whole(&archive)?;
        (archive, module)
    };
    let path = args.output.clone().unwrap_or_else(|| args.model.with_extension("pt"));
    write_file(&path, &export::bytes(&module, &path, &archive)?)?;
    let _ = writeln!(output.out, "{}", path.display());
    Ok(Exit::Success)
}
