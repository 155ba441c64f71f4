//! `aot build`: a model to a library, with its header.

use super::{Exit, Output, options};
use crate::archive;
use crate::build::{self, Effort, Extra, Options};
use crate::diag::Result;
use crate::driver::{self, Timings};
use crate::emit::target::Target;
use crate::signatures;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `aot build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  aot build model.pt -o libmodel.so
  aot build model.pt -o libmodel.a --input x=f32[1,3,224,224] --emit header,cpp
  aot build vad.pt -o libvad.so --input x=f32[1,512] --input sr=16000
  aot build net.pt -o net.ll --input x=f32[N,8]

Inputs: f32[N,3,8] is a tensor (a name stands for any extent), int, float and bool any number, 16000, True, 'text' and None
exactly this value, (A,B) a tuple, [A,B] a list. METHOD.NAME=... is an input of another method than forward. Without --input
the example inputs that tracing recorded in the model are used.")]
pub(super) struct BuildArgs {
    /// The model: what torch.jit.save wrote.
    model: PathBuf,
    /// The file to write; the suffix says what: .so .a .o (library), .ll .s .bc (code only).
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// An argument: NAME=f32[N,3,224,224]; several signatures where a name is given several times.
    #[arg(short, long = "input", value_name = "NAME=SPEC")]
    inputs: Vec<String>,
    /// Prefix of the library's symbols; by default from the output's name.
    #[arg(long)]
    name: Option<String>,
    /// Methods to compile; by default forward and those that inputs are given or recorded for.
    #[arg(long = "method", value_delimiter = ',')]
    methods: Vec<String>,
    /// The processor: native, x86-64, x86-64-v2, x86-64-v3, x86-64-v4, aarch64.
    #[arg(long, default_value = "native")]
    cpu: String,
    /// Files to write beside the library.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "header")]
    emit: Vec<ExtraArg>,
    /// How hard to optimise. 0: compiles fastest, scalar code, an operator at a time. 1: fused vector code, machine code in
    /// a hurry, convolutions term by term. 2: all schedules. 3: and LLVM's whole pipeline after them.
    #[arg(short = 'O', value_name = "LEVEL", default_value = "2", value_parser = clap::value_parser!(u8).range(0..=3))]
    level: u8,
    /// Compile for the given extents only; else each signature of fixed extents has a version beside it that takes any.
    #[arg(long = "static")]
    is_static: bool,
    /// Print how long each stage took.
    #[arg(long)]
    timings: bool,
    /// Keep what stages made in this folder: graphs, loop programs, LLVM's text, assembly.
    #[arg(long, value_name = "DIR")]
    save_temps: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ExtraArg {
    Header,
    Cpp,
    Cmake,
    Pkgconfig,
}

pub(super) fn run(args: &BuildArgs, output: &mut Output<'_>) -> Result<Exit> {
    let mut timings = Timings::default();
    let out = args.output.clone().unwrap_or_else(|| format!("lib{}.so", build::name_of(&args.model)).into());
    // What is wrong with the command is said before any work is done.
    build::Product::of_path(&out)?;
    let target = Target::named(&args.cpu)?;
    let inputs = options::inputs(&args.inputs)?;
    let archive = timings.time("read", || archive::open(&args.model))?;
    let module = timings.time("front end", || driver::front_end(&archive))?;
    let requests = signatures::requests(&archive, &module, &args.methods, &inputs)?;
    let mut extras: Vec<Extra> = Vec::new();
    for extra in &args.emit {
        let extra = match extra {
            ExtraArg::Header => Extra::Header,
            ExtraArg::Cpp => Extra::Cpp,
            ExtraArg::Cmake => Extra::Cmake,
            ExtraArg::Pkgconfig => Extra::PkgConfig,
        };
        if !extras.contains(&extra) {
            extras.push(extra);
        }
    }
    let options = Options {
        name: args.name.clone().unwrap_or_else(|| build::name_of(&out)),
        target,
        effort: Effort::of_level(args.level),
        extras,
        temps: args.save_temps.clone(),
        any_extents: !args.is_static,
    };
    let built = build::build(&archive, &module, &requests, &out, &options, &mut timings)?;
    for note in &built.notes {
        let _ = writeln!(output.err, "note: {note}");
    }
    for file in &built.files {
        let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
        let _ = writeln!(output.out, "{} ({})", file.display(), options::size_text(bytes));
    }
    if args.timings {
        for (stage, time) in &timings.0 {
            let _ = writeln!(output.err, "{stage:16} {:9.1} ms", time.as_secs_f64() * 1e3);
        }
        let size = options::size_text(built.prepared.iter().map(|(bytes, _)| bytes).sum());
        let _ = writeln!(output.err, "prepared when opened: {} tensors, {size}", built.prepared.len());
    }
    Ok(Exit::Success)
}
