//! The `aot` command: the only file that touches the process's streams and exit code.

use aot::cli::{Output, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = run(std::env::args_os(), &mut Output { out: &mut out, err: &mut err });
    ExitCode::from(exit.code())
}
