//! The `aot` command: the only file that touches the process's streams and exit code.

use aot::cli::{Output, run};
use std::io::IsTerminal as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let is_terminal = err.is_terminal();
    let exit = run(std::env::args_os(), &mut Output { out: &mut out, err: &mut err, is_terminal });
    ExitCode::from(exit.code())
}
