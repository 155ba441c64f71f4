//! The sub-commands: arguments to driver calls to output.

mod bench;
mod build;
mod call;
mod check;
mod debug;
mod options;
mod run;
mod script;
mod show;

use crate::diag::Diagnostic;
use clap::{Parser, Subcommand};
use std::io::Write;

/// Ahead-of-time native compiler for TorchScript.
#[derive(Debug, Parser)]
#[command(name = "aot", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile a model to a library.
    Build(build::BuildArgs),
    /// Run recorded cases and compare with what PyTorch computed.
    Check(check::CheckArgs),
    /// Compile a source file and write an archive.
    Script(script::ScriptArgs),
    /// Call a model or a library and print the result.
    Run(run::RunArgs),
    /// Call a model and stop where it is told to: step through statements and print values.
    Debug(debug::DebugArgs),
    /// Measure how long calls take.
    Bench(bench::BenchArgs),
    /// Print the graph of a method.
    Graph(show::GraphArgs),
    /// Print the code of a method.
    Code(show::CodeArgs),
    /// Say what is in a model or a library.
    Inspect(show::InspectArgs),
    /// List operators: those of a model with their support, or all that can be compiled.
    Ops(show::OpsArgs),
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0
    Success,
    /// 1: the input is wrong or not supported.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 3: results do not agree.
    Mismatch,
    /// 70: we are wrong.
    Internal,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Mismatch => 3,
            Self::Internal => 70,
        }
    }
}

/// Where a command writes: results and messages.
pub struct Output<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Progress and errors.
    pub err: &'a mut dyn Write,
    /// Whether messages go to a person, who wants to see progress.
    pub is_terminal: bool,
}

/// Runs the command line.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>, output: &mut Output<'_>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            let text = error.render();
            let _ = if is_help { write!(output.out, "{text}") } else { write!(output.err, "{text}") };
            return if is_help { Exit::Success } else { Exit::Usage };
        }
    };
    let result = match cli.command {
        Command::Build(args) => build::run(&args, output),
        Command::Check(args) => check::run(&args, output),
        Command::Script(args) => script::run(&args, output),
        Command::Run(args) => run::run(&args, output),
        Command::Debug(args) => debug::run(&args, output),
        Command::Bench(args) => bench::run(&args, output),
        Command::Graph(args) => show::graph(&args, output),
        Command::Code(args) => show::code(&args, output),
        Command::Inspect(args) => show::inspect(&args, output),
        Command::Ops(args) => show::ops(&args, output),
    };
    match result {
        Ok(exit) => exit,
        Err(error) => report(&error, output),
    }
}

fn report(error: &Diagnostic, output: &mut Output<'_>) -> Exit {
    let _ = write!(output.err, "{}", error.render_all());
    match error.blame {
        crate::diag::Blame::User | crate::diag::Blame::Unsupported => Exit::Failure,
        crate::diag::Blame::Internal => Exit::Internal,
    }
}
