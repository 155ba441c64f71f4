//! `aot check`: recorded cases through a backend.

use super::{Exit, Output};
use crate::archive::{Bytes, Container};
use crate::check::{self, Outcome};
use crate::diag::{Diagnostic, Result};
use crate::driver::Backend;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Arguments of `aot check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  aot check cases/\n  aot check models.zip --backend cranelift --only resnet")]
pub(super) struct CheckArgs {
    /// Models with a NAME.io.pt beside them; folders and zips of such pairs.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Who runs the models.
    #[arg(long, value_enum, default_value = "llvm")]
    backend: BackendArg,
    /// Only models whose name contains this.
    #[arg(long)]
    only: Vec<String>,
    /// Print results as JSON.
    #[arg(long)]
    json: bool,
    /// Print a line for calls that passed, too.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    Llvm,
    Cranelift,
    Reference,
}

/// A model with its cases.
struct Pair {
    name: String,
    model: Bytes,
    io: Bytes,
}

pub(super) fn run(args: &CheckArgs, output: &mut Output<'_>) -> Result<Exit> {
    let backend = match args.backend {
        BackendArg::Llvm => Backend::Llvm,
        BackendArg::Cranelift => Backend::Cranelift,
        BackendArg::Reference => Backend::Reference,
    };
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    let mut json = Vec::new();
    for path in &args.paths {
        each_pair(path, &args.only, &mut |pair| {
            for report in check::run(pair.model, pair.io, &pair.name, backend) {
                let (word, text) = match &report.outcome {
                    Outcome::Passed => ("passed", ""),
                    Outcome::Failed(text) => ("failed", text.as_str()),
                    Outcome::Unsupported(text) => ("unsupported", text.as_str()),
                };
                match report.outcome {
                    Outcome::Passed => passed += 1,
                    Outcome::Failed(_) => failed += 1,
                    Outcome::Unsupported(_) => unsupported += 1,
                }
                if args.json {
                    json.push(serde_json::json!({
                        "model": pair.name, "call": report.call, "outcome": word, "message": text.trim_end(),
                    }));
                } else if args.verbose || word != "passed" {
                    let text = text.trim_end().replace('\n', "\n    ");
                    let _ = writeln!(
                        output.out,
                        "{word}: {} {}{}{text}",
                        pair.name,
                        report.call,
                        if text.is_empty() { "" } else { "\n    " }
                    );
                }
            }
        })?;
    }
    if args.json {
        let summary = serde_json::json!({
            "calls": json, "passed": passed, "failed": failed, "unsupported": unsupported,
        });
        let _ = writeln!(output.out, "{summary:#}");
    } else {
        let _ = writeln!(output.out, "{passed} passed, {failed} failed, {unsupported} unsupported");
    }
    Ok(if failed > 0 { Exit::Mismatch } else { Exit::Success })
}

/// Hands out every pair of a file, folder or zip, in order of their names.
fn each_pair(path: &Path, only: &[String], visit: &mut dyn FnMut(Pair)) -> Result<()> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| cannot_read(path, &e))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        files.sort();
        for file in files {
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if stem(name).is_some_and(wanted) && io_of(&file).exists() {
                visit(pair_of(&file)?);
            }
        }
        return Ok(());
    }
    if path.extension().is_some_and(|e| e == "zip") {
        let zip = Container::open(path)?;
        let mut names: Vec<String> = zip.names().map(str::to_owned).collect();
        names.sort();
        for name in &names {
            let Some(stem) = stem(name).filter(|stem| wanted(stem)) else { continue };
            let io = format!("{stem}.io.pt");
            if zip.contains(&io) {
                visit(Pair { name: stem.to_owned(), model: zip.get(name)?, io: zip.get(&io)? });
            }
        }
        return Ok(());
    }
    if !io_of(path).exists() {
        return Err(Diagnostic::user(format!("{} has no recorded cases", path.display()))
            .help(format!("cases are expected in {}", io_of(path).display())));
    }
    visit(pair_of(path)?);
    Ok(())
}

/// The name of a model file without its suffix; `None` for other files.
fn stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".pt").or_else(|| name.strip_suffix(".ptl"))?;
    (!stem.ends_with(".io")).then_some(stem)
}

fn io_of(model: &Path) -> PathBuf {
    model.with_extension("io.pt")
}

fn pair_of(model: &Path) -> Result<Pair> {
    let read = |path: &Path| std::fs::read(path).map(Bytes::new).map_err(|e| cannot_read(path, &e));
    let name = model.file_stem().and_then(|n| n.to_str()).unwrap_or("model").to_owned();
    Ok(Pair { name, model: read(model)?, io: read(&io_of(model))? })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Box<Diagnostic> {
    Diagnostic::user(format!("cannot read {}: {error}", path.display()))
}
