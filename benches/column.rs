//! One more column for a table of benchmarks: `column MODEL.pt INPUTS.npz THREADS REPS` builds a library (once), loads it,
//! times its `forward` through the C interface, compares the results with the reference, and prints a line of JSON.
//!
//! `INPUTS.npz` holds the arguments `in0`, `in1`, ... and the expected results `ref0`, `ref1`, ...; `MODEL.json` beside the model
//! says which arguments are ints. Libraries are kept in the folder `AOT_COLUMN_CACHE` (by default one in the temporary folder)
//! under the check sums of model, inputs and compiler. The compiler is the `aot` beside this program, or `AOT`.

use aot::library::{self, Library};
use aot::measure::{self, Until};
use aot::npy;
use aot_runtime::{Dtype, Tensor, Value};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[allow(clippy::print_stdout, reason = "the protocol is a line on the standard output")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.as_slice() {
        [model, inputs, threads, reps] => run(Path::new(model), Path::new(inputs), threads, reps),
        _ => Err("usage: column MODEL.pt INPUTS.npz THREADS REPS".into()),
    };
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}", json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn run(model: &Path, inputs: &Path, threads: &str, reps: &str) -> Result<Json> {
    let (threads, reps): (usize, usize) = (threads.parse()?, reps.parse()?);
    let meta = std::fs::read_to_string(model.with_extension("json"))?;
    let meta: Json = serde_json::from_str(&meta)?;
    let arrays = npy::read_zip(inputs)?;
    let array = |name: String| arrays.iter().find(|(n, _)| *n == name).map(|(_, tensor)| tensor.clone());
    let (mut args, mut specs) = (Vec::new(), Vec::new());
    for i in 0.. {
        let Some(tensor) = array(format!("in{i}")) else { break };
        if meta["args"][i]["kind"] == "int" {
            let bytes = tensor.to_bytes();
            let n = i64::from_ne_bytes(bytes.as_slice().try_into()?);
            specs.push((String::from("int"), n.to_string()));
            args.push(Value::Int(n));
        } else {
            let spec = tensor.describe().replace(' ', "");
            specs.push((spec.clone(), spec));
            args.push(Value::Tensor(tensor));
        }
    }
    let start = Instant::now();
    let (path, is_new) = build(model, &specs)?;
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;

    let start = Instant::now();
    let library = Library::load(&path)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    library.set_threads(threads);
    let start = Instant::now();
    let first = library.call("forward", &args)?;
    let first_ms = start.elapsed().as_secs_f64() * 1e3;
    let rss_mb = peak_mb();
    let results = library::leaves(&first).ok_or("the result is neither tensors nor numbers")?;
    let (mut max_err, mut max_rel) = (0f64, 0f64);
    for (i, result) in results.iter().enumerate() {
        let Some(expected) = array(format!("ref{i}")) else { break };
        let (err, rel) = error(&numbers(result)?, &numbers(&expected)?)?;
        (max_err, max_rel) = (max_err.max(err), max_rel.max(rel));
    }
    let inputs: Option<Vec<Vec<Tensor>>> = args.iter().map(library::leaves).collect();
    let mut bound = library.bind("forward", &inputs.ok_or("an argument is no tensor")?.concat(), &results)?;
    let times = measure::measure(Until::Calls(reps), || bound.run())?;
    let size_mb = bytes_mb(std::fs::metadata(&path)?.len());
    let mut line = json!({
        "median_us": times.median_us, "p95_us": times.p95_us, "min_us": times.min_us, "load_ms": load_ms,
        "first_ms": first_ms, "rss_mb": rss_mb, "size_mb": size_mb, "libs_mb": 0, "max_err": max_err,
        "max_rel": max_rel,
    });
    if is_new {
        line["compile_ms"] = json!(compile_ms);
    }
    Ok(line)
}

/// The library for these arguments, and whether it was made now. Each argument comes with a second signature, for models that
/// cannot be compiled for just any int.
fn build(model: &Path, specs: &[(String, String)]) -> Result<(PathBuf, bool)> {
    let compiler = match std::env::var_os("AOT") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("aot"),
    };
    let folder =
        std::env::var_os("AOT_COLUMN_CACHE").map_or_else(|| std::env::temp_dir().join("aot-column"), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let stem = model.file_stem().and_then(|stem| stem.to_str()).ok_or("the model has no name")?;
    let sums = [checksum(&std::fs::read(model)?), checksum(&std::fs::read(&compiler)?)];
    let inputs = checksum(format!("{specs:?}").as_bytes());
    let path = folder.join(format!("lib{stem}-{:016x}-{:016x}-{inputs:016x}.so", sums[0], sums[1]));
    if path.exists() {
        return Ok((path, false));
    }
    let mut message = String::new();
    for is_exact in [false, true] {
        let mut command = Command::new(&compiler);
        command.arg("build").arg(model).arg("-o").arg(&path).args(["--name", "model"]);
        for (any, exact) in specs {
            command.arg("--input").arg(if is_exact { exact } else { any });
        }
        let output = command.output().map_err(|e| format!("cannot run {}: {e}", compiler.display()))?;
        if output.status.success() {
            return Ok((path, true));
        }
        String::from_utf8_lossy(&output.stderr).trim().clone_into(&mut message);
    }
    Err(message.into())
}

/// FNV-1a over words of eight bytes: enough to tell files apart.
fn checksum(bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    bytes.chunks(8).map(word).fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, mix)
}

#[allow(clippy::cast_precision_loss, reason = "results are compared as doubles")]
fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let bytes = tensor.to_bytes();
    macro_rules! read {
        ($ty:ty) => {
            bytes
                .chunks_exact(size_of::<$ty>())
                .map(|b| <$ty>::from_ne_bytes(b.try_into().expect("a chunk")) as f64)
                .collect()
        };
    }
    Ok(match tensor.dtype {
        Dtype::F32 => read!(f32),
        Dtype::F64 => read!(f64),
        Dtype::I64 => read!(i64),
        Dtype::I32 => read!(i32),
        Dtype::BOOL | Dtype::U8 => read!(u8),
        other => return Err(format!("results of type {}", other.name()).into()),
    })
}

/// The largest absolute error, and that over the largest expected magnitude.
fn error(found: &[f64], expected: &[f64]) -> Result<(f64, f64)> {
    if found.len() != expected.len() {
        return Err(format!("the result has {} elements, not {}", found.len(), expected.len()).into());
    }
    let difference = |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
    let err = found
        .iter()
        .zip(expected)
        .map(difference)
        .fold(0.0, |m: f64, e| if e.is_nan() { f64::INFINITY } else { m.max(e) });
    let scale = expected.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    Ok((err, err / scale))
}

/// Peak resident set of this process.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb: u64 = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0);
    bytes_mb(kb << 10)
}

#[allow(clippy::cast_precision_loss, reason = "sizes stay far below 2^53")]
fn bytes_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
