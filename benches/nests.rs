//! Times a model and each of its launches on their own, so that the slow ones show. Usage: `nests MODEL INPUT.npz [MIN_US [THREADS]]`.
//!
//! A launch is timed by a function that consists of it, several times over; what it works on is whatever lies there, so
//! launches that read whole numbers are left out: those may be indices. The list has each launch of the function's body (those
//! in branches and loops too) that takes at least `MIN_US`.
#![allow(clippy::print_stdout, reason = "a report is what this program is for")]

use aot::driver::{self, Timings};
use aot::emit::target::Target;
use aot::link::metadata::Facts;
use aot::loops::{Launch, Program, Stmt, walk};
use aot::lower::{ArgSpec, Request};
use aot::types::DType;
use aot::{jit, npy, schedule};
use aot_runtime::Value;
use std::path::Path;
use std::time::Instant;

/// Times a launch stands in its function.
const N_COPIES: usize = 4;

/// Microseconds of the fastest call.
fn time(program: &Program, args: &[Value], target: &Target, n_threads: usize) -> f64 {
    let facts = Facts { name: "model".into(), ..Facts::default() };
    let model = jit::load_with(program, jit::Backend::Llvm, target, &facts).expect("compiles");
    model.set_threads(n_threads);
    let mut instance = model.instance().expect("memory");
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    let mut n = 0;
    while n < 5 || begin.elapsed().as_millis() < 100 && n < 2000 {
        let start = Instant::now();
        let _ = instance.call("forward", args);
        best = best.min(start.elapsed().as_secs_f64() * 1e6);
        n += 1;
    }
    best
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, model, input, rest @ ..] = &words[..] else { panic!("usage: nests MODEL INPUT.npz [MIN_US [THREADS]]") };
    let least: f64 = rest.first().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let n_threads = rest.get(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let (_, module) = driver::open(Path::new(model), &driver::TextOptions::default()).expect("opens");
    let arrays = npy::read_zip(Path::new(input)).expect("reads");
    let inputs = arrays.into_iter().filter(|(name, _)| name.starts_with("in"));
    let args: Vec<Value> = inputs.map(|(_, array)| Value::Tensor(array)).collect();
    let specs = args.iter().map(|arg| ArgSpec::of(arg).expect("has a signature")).collect();
    let mut timings = Timings::default();
    let request = Request::new("forward", specs);
    let mut program = driver::lower(&module, &[request], &mut timings).expect("lowers");
    let target = jit::Backend::Llvm.target(Target::host());
    let options = schedule::Options::default();
    let scheduled =
        timings.time("schedule", || schedule::schedule(&mut program, &driver::schedule_target(&target), &options));
    scheduled.expect("schedules");
    let start = Instant::now();
    let whole = time(&program, &args, &target, n_threads);
    timings.0.push(("emit and run", start.elapsed()));
    for (stage, time) in &timings.0 {
        println!("{stage:12} {:9.1} ms", time.as_secs_f64() * 1e3);
    }
    println!("whole        {whole:9.1} us");
    let mut total = 0.0;
    for function in program.methods[0].variants.iter().map(|variant| variant.function) {
        let mut found: Vec<Launch> = Vec::new();
        walk(&program.functions[function].body, &mut |stmt| {
            if let Stmt::Launch(launch) = stmt {
                found.push(launch.clone());
            }
        });
        println!("{} launches", found.len());
        let mut known: Vec<(usize, f64)> = Vec::new();
        for (number, launch) in found.iter().enumerate() {
            let nest = &program.nests[launch.nest];
            if nest.buffers.iter().any(|buffer| buffer.dtype == DType::I64) {
                continue;
            }
            let before = known.iter().find(|(n, _)| *n == launch.nest).map(|&(_, us)| us);
            let us = before.unwrap_or_else(|| {
                let mut single = program.clone();
                single.nests = vec![nest.clone()];
                let body = &mut single.functions[function].body;
                let last = body.0.last().cloned();
                let copy = Launch { nest: 0, ..launch.clone() };
                body.0 = vec![Stmt::Launch(copy); N_COPIES];
                body.0.extend(last.filter(|stmt| matches!(stmt, Stmt::Return(..))));
                single.methods.truncate(1);
                for other in single.functions.ids().collect::<Vec<_>>() {
                    if other != function {
                        single.functions[other].body.0.retain(|stmt| !matches!(stmt, Stmt::Launch(_)));
                    }
                }
                let us = time(&single, &args, &target, n_threads) / N_COPIES as f64;
                known.push((launch.nest, us));
                us
            });
            total += us;
            if us >= least {
                println!("{number:4} {us:9.1} us  cost {:11}  {}", nest.cost, nest.name);
            }
        }
    }
    println!("sum          {total:9.1} us");
}
