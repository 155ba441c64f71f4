//! `aot bench`: how long calls of a model or library take.

use super::call::{CallArgs, Prepared};
use super::{Exit, Output};
use crate::diag::{Diagnostic, Result};
use crate::exec::Executable;
use crate::library;
use crate::measure::{self, Until};
use aot_runtime::Tensor;
use clap::Args;
use std::time::{Duration, Instant};

/// Arguments of `aot bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  aot bench model.pt --threads 1
  aot bench libmodel.so --input x=f32[1,3,224,224] --time 5")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    call: CallArgs,
    /// Seconds to measure.
    #[arg(long, default_value = "2")]
    time: f64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BenchArgs, output: &mut Output<'_>) -> Result<Exit> {
    let start = Instant::now();
    let Prepared { executable, args: values, .. } = args.call.prepare()?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let method = &args.call.method;
    let failed = |error: aot_runtime::Error| Diagnostic::user(error.to_string());
    let time = Duration::try_from_secs_f64(args.time)
        .map_err(|_| Diagnostic::user(format!("--time {} is no number of seconds", args.time)))?;
    let start = Instant::now();
    let first = executable.call(method, &values).map_err(failed)?;
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    let inputs: Option<Vec<Vec<Tensor>>> = values.iter().map(library::leaves).collect();
    let bound = match (&executable, inputs, library::leaves(&first)) {
        (Executable::Library(library), Some(inputs), Some(results)) => {
            library.bind(method, &inputs.concat(), &results).ok()
        }
        _ => None,
    };
    // A function of its own that does not take these arguments is no reason to fail.
    let bound = bound.and_then(|mut bound| bound.run().ok().map(|()| bound));
    let until = Until::Time(time);
    let times = if let Some(mut bound) = bound {
        measure::measure(until, || bound.run())
    } else {
        let mut instance = executable.instance().map_err(failed)?;
        measure::measure(until, || instance.call(method, &values).map(drop))
    };
    let times = times.map_err(failed)?;
    if args.json {
        let json = serde_json::json!({
            "median_us": times.median_us, "p95_us": times.p95_us, "min_us": times.min_us, "calls": times.n_calls,
            "first_ms": first_ms, "load_ms": load_ms, "threads": args.call.threads,
        });
        let _ = writeln!(output.out, "{json:#}");
        return Ok(Exit::Success);
    }
    let lines = [("median", times.median_us), ("p95", times.p95_us), ("min", times.min_us)];
    for (name, us) in lines {
        let _ = writeln!(output.out, "{name:12} {us:12.2} us");
    }
    let _ = writeln!(output.out, "{:12} {:12.2} us", "first call", first_ms * 1e3);
    let _ = writeln!(output.out, "{:12} {:12.2} ms", "ready after", load_ms);
    let _ = writeln!(output.out, "{:12} {:12}", "calls", times.n_calls);
    Ok(Exit::Success)
}
