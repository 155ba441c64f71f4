//! `aot run`: one call of a model or library, its result printed or saved.

use super::call::{CallArgs, Prepared};
use super::{Exit, Output};
use crate::diag::{Diagnostic, Result};
use crate::exec::Executable;
use crate::link::library::write_file;
use crate::npy;
use crate::types::DType;
use aot_runtime::log::{Level, Sink};
use aot_runtime::{Tensor, Value};
use clap::Args;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// Arguments of `aot run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  aot run model.pt --input x=rand
  aot run vad.pt --input x=chunk.npy --input sr=16000
  aot run libmodel.so --input inputs.npz --output results.npz")]
pub(super) struct RunArgs {
    #[command(flatten)]
    call: CallArgs,
    /// Save the result's tensors: FILE.npy for one, FILE.npz for several.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Print each statement that runs, with its line, and a summary of each value; on the plain evaluator.
    #[arg(long)]
    trace: bool,
}

pub(super) fn run(args: &RunArgs, output: &mut Output<'_>) -> Result<Exit> {
    let Prepared { executable, args: values, .. } =
        if args.trace { args.call.prepare_traced()? } else { args.call.prepare()? };
    let failed = |error: aot_runtime::Error| Diagnostic::user(error.to_string());
    let mut instance = executable.instance().map_err(failed)?;
    instance.manual_seed(args.call.seed());
    let result = if args.trace {
        told(&executable, || instance.call(&args.call.method, &values), output)?
    } else {
        instance.call(&args.call.method, &values)
    };
    let result = result.map_err(failed)?;
    if let Some(path) = &args.output {
        save(&result, path)?;
        return Ok(Exit::Success);
    }
    let mut text = String::new();
    print(&result, 0, &mut text);
    let _ = writeln!(output.out, "{text}");
    Ok(Exit::Success)
}

/// Makes a call whose lines of output are written as they come.
fn told<R: Send>(executable: &Executable, call: impl FnOnce() -> R + Send, output: &mut Output<'_>) -> Result<R> {
    let (lines, received) = mpsc::channel::<String>();
    let send = move |_: Level, text: &str| drop(lines.send(text.to_owned()));
    executable.set_sink(Sink::Printer(Arc::new(send)));
    std::thread::scope(|scope| {
        let run = || {
            let result = call();
            // With the sink goes the sender, which ends the lines.
            executable.set_sink(Sink::Streams);
            result
        };
        let running = std::thread::Builder::new().stack_size(CALL_STACK_BYTES).spawn_scoped(scope, run);
        let running = running.map_err(|error| Diagnostic::user(format!("cannot start a thread: {error}")))?;
        for line in received {
            let _ = writeln!(output.out, "{line}").and_then(|()| output.out.flush());
        }
        running.join().map_err(|_| Diagnostic::internal("a call ended in a panic"))
    })
}

/// Stack of the thread that a traced call runs on.
pub(super) const CALL_STACK_BYTES: usize = 64 << 20;

/// Elements of a tensor that are printed.
const N_SHOWN: usize = 16;

pub(super) fn print(value: &Value, depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth + 1);
    let mut lines = |open: &str, close: &str, items: &mut dyn Iterator<Item = (Option<String>, &Value)>| {
        out.push_str(open);
        out.push('\n');
        for (name, item) in items {
            out.push_str(&pad);
            if let Some(name) = name {
                let _ = write!(out, "{name}: ");
            }
            print(item, depth + 1, out);
            out.push_str(",\n");
        }
        out.push_str(&pad[2..]);
        out.push_str(close);
    };
    match value {
        Value::List(items) => lines("[", "]", &mut items.iter().map(|item| (None, item))),
        Value::Tuple(items) => lines("(", ")", &mut items.iter().map(|item| (None, item))),
        Value::NamedTuple { name, fields } => {
            let class = name.rsplit('.').next().unwrap_or(name);
            lines(&format!("{class}("), ")", &mut fields.iter().map(|(name, item)| (Some(name.clone()), item)));
        }
        Value::Dict(entries) => {
            let mut named = entries.iter().map(|(key, value)| {
                let mut name = String::new();
                print(key, 0, &mut name);
                (Some(name), value)
            });
            lines("{", "}", &mut named);
        }
        Value::None => out.push_str("None"),
        Value::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
        Value::Int(n) => _ = write!(out, "{n}"),
        Value::Float(x) => _ = write!(out, "{x:?}"),
        Value::Complex(re, im) => _ = write!(out, "({re:?}{im:+?}j)"),
        Value::Str(text) => _ = write!(out, "{text:?}"),
        Value::Tensor(tensor) => {
            let _ = write!(out, "{} ", tensor.describe());
            let shown: Vec<String> = elements(tensor, N_SHOWN);
            let rest = if tensor.n_elements() > N_SHOWN { ", ..." } else { "" };
            let _ = write!(out, "[{}{rest}]", shown.join(", "));
        }
    }
}

/// The first elements as texts.
fn elements(tensor: &Tensor, n: usize) -> Vec<String> {
    let dtype = DType::from_code(i64::from(tensor.dtype.0));
    let size = tensor.item_bytes();
    let bytes = tensor.to_bytes();
    let text = |item: &[u8]| match (dtype, item) {
        (Some(DType::F32), &[a, b, c, d]) => format!("{:?}", f32::from_ne_bytes([a, b, c, d])),
        (Some(DType::F64), item) => {
            item.try_into().map_or_else(|_| "?".into(), |b| format!("{:?}", f64::from_ne_bytes(b)))
        }
        (Some(DType::Bool), &[b]) => (if b != 0 { "True" } else { "False" }).to_owned(),
        (Some(DType::U8), &[b]) => b.to_string(),
        (Some(DType::I8), &[b]) => b.cast_signed().to_string(),
        (Some(DType::I16), &[a, b]) => i16::from_ne_bytes([a, b]).to_string(),
        (Some(DType::I32), &[a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]).to_string(),
        (Some(DType::I64), item) => item.try_into().map_or_else(|_| "?".into(), |b| i64::from_ne_bytes(b).to_string()),
        (Some(DType::BF16), &[a, b]) => format!("{:?}", f32::from_bits(u32::from(u16::from_ne_bytes([a, b])) << 16)),
        (_, item) => item.iter().rev().map(|b| format!("{b:02x}")).collect(),
    };
    bytes.chunks_exact(size).take(n).map(text).collect()
}

/// The tensors of a result with names: `out`, or `out0`, `out1`, ... in order.
fn tensors<'a>(value: &'a Value, found: &mut Vec<&'a Tensor>) {
    match value {
        Value::Tensor(tensor) => found.push(tensor),
        Value::List(items) | Value::Tuple(items) => items.iter().for_each(|item| tensors(item, found)),
        Value::NamedTuple { fields, .. } => fields.iter().for_each(|(_, item)| tensors(item, found)),
        Value::Dict(entries) => entries.iter().for_each(|(_, item)| tensors(item, found)),
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Complex(..) | Value::Str(_) => {}
    }
}

fn save(value: &Value, path: &Path) -> Result<()> {
    let mut found = Vec::new();
    tensors(value, &mut found);
    match (path.extension().and_then(|e| e.to_str()), found.as_slice()) {
        (Some("npy"), [tensor]) => write_file(path, &npy::write(tensor)?),
        (Some("npy"), _) => Err(Diagnostic::user(format!("the result has {} tensors, not one", found.len()))
            .help("save them to a FILE.npz")),
        (Some("npz"), _) => {
            let failed = |e: zip::result::ZipError| Diagnostic::internal(format!("writing a zip: {e}"));
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .last_modified_time(zip::DateTime::default());
            for (i, tensor) in found.iter().enumerate() {
                zip.start_file(format!("out{i}.npy"), options).map_err(failed)?;
                zip.write_all(&npy::write(tensor)?).map_err(|e| Diagnostic::internal(format!("writing a zip: {e}")))?;
            }
            write_file(path, zip.finish().map_err(failed)?.get_ref())
        }
        _ => Err(Diagnostic::user(format!("cannot save results to {}", path.display()))
            .help("known suffixes: .npy and .npz")),
    }
}
