//! Programs of plain TorchScript beside the same written in Rust: `programs [--peers FIGURES.json] [NAME...]`.
//!
//! The programs stand in `programs.py`, their twins here. Each is compiled in this process, must give what its twin gives, and
//! is timed with it. Figures of an interpreter come from a file that `interpreter.py` writes.
#![allow(clippy::print_stdout, reason = "a report is what this program is for")]

use aot::driver::{self, Backend};
use aot::measure::{self, Until};
use aot::script::{Attributes, Text};
use aot::source::Source;
use aot::syntax::Dialect;
use aot::{Module, ToValue};
use aot_runtime::Value;
use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// How often a program and its twin are measured in turn,
const ROUNDS: usize = 7;
/// and how long each time.
const SLOT: Duration = Duration::from_millis(60);

/// A result, for comparison.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Answer {
    Int(i64),
    Float(f64),
}

type Twin = fn(i64) -> Answer;

const PROGRAMS: [(&str, i64, Twin); 11] = [
    ("scalar_loop", 1_000_000, scalar_loop),
    ("tensor_loop", 1000, tensor_loop),
    ("list_append", 1_000_000, list_append),
    ("list_index", 1_000_000, list_index),
    ("list_sum", 1_000_000, list_sum),
    ("list_floats", 1_000_000, list_floats),
    ("string_build", 50_000, string_build),
    ("string_numbers", 50_000, string_numbers),
    ("string_join", 100_000, string_join),
    ("dict_ints", 1_000_000, dict_ints),
    ("dict_strs", 1_000_000, dict_strs),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut peers = serde_json::Value::Null;
    let mut names = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--peers" {
            let file = words.next().ok_or("--peers needs a file")?;
            peers = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        } else {
            names.push(word);
        }
    }
    println!("{:15} {:>9} {:>11} {:>11} {:>6} {:>14}", "program", "n", "aot us", "rust us", "ratio", "interpreter us");
    for (name, n, twin) in PROGRAMS {
        if !names.is_empty() && !names.iter().any(|other| other == name) {
            continue;
        }
        let peer = peers[name].as_f64().map_or_else(String::new, |us| format!("{us:.1}"));
        match times(name, n, twin) {
            Ok((us, rust)) => println!("{name:15} {n:9} {us:11.1} {rust:11.1} {:6.2} {peer:>14}", us / rust),
            Err(error) => println!("{name:15} {n:9} {:>11} {:>11} {:>6} {peer:>14}  {error}", "-", "-", "-"),
        }
    }
    Ok(())
}

/// Microseconds of a call, and of its twin, measured in turn.
fn times(name: &str, n: i64, twin: Twin) -> Result<(f64, f64), Box<dyn Error>> {
    let text = include_str!("programs.py").to_owned();
    let source = Arc::new(Source { name: "programs.py".into(), text, origins: Vec::new() });
    let text = Text { source, dialect: Dialect::Python, module: "__torch__".into(), imports: None, seed: None };
    let module = Module::of_ir(driver::script(&text, Some(name), Attributes::Own)?, Backend::Llvm);
    let args: [&dyn ToValue; 1] = [&n];
    let answer = match module.forward(&args)? {
        Value::Int(i) => Answer::Int(i),
        Value::Float(x) => Answer::Float(x),
        Value::Tensor(tensor) => {
            let first = tensor.to_bytes();
            Answer::Float(f64::from(f32::from_ne_bytes(first[..4].try_into()?)))
        }
        other => return Err(format!("a result of type {}", other.type_name()).into()),
    };
    if answer != twin(n) {
        return Err(format!("gives {answer:?}, not {:?}", twin(n)).into());
    }
    let (mut ours, mut rust) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(measure::measure(Until::Time(SLOT), || module.forward(&args).map(drop))?.median_us);
        let run_twin = || {
            black_box(twin(black_box(n)));
            Ok::<(), Box<dyn Error>>(())
        };
        rust.push(measure::measure(Until::Time(SLOT), run_twin)?.median_us);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    };
    Ok((median(&mut ours), median(&mut rust)))
}

fn scalar_loop(n: i64) -> Answer {
    let mut total = 0;
    for i in 0..n {
        if i % 3 == 0 {
            total += i;
        } else {
            total = (total ^ i) & 1_048_575;
        }
    }
    Answer::Int(total)
}

/// As the interpreter does it: a new tensor for each round.
fn tensor_loop(n: i64) -> Answer {
    let mut rv = vec![0f32; 12];
    for i in 0..n {
        let step = if i < 10 { -1.0 } else { 1.0 };
        rv = black_box(rv.iter().map(|x| x + step).collect());
    }
    Answer::Float(f64::from(rv[0]))
}

fn list_append(n: i64) -> Answer {
    let mut items = Vec::new();
    for i in 0..n {
        items.push(i * 7 % 1001);
    }
    Answer::Int(black_box(&items).len() as i64)
}

fn list_index(n: i64) -> Answer {
    let mut items = Vec::new();
    for i in 0..1024 {
        items.push(i * 7 % 1001);
    }
    let mut total = 0;
    for i in 0..n {
        total += items[((i * 5) & 1023) as usize];
        items[(i & 1023) as usize] = total & 255;
    }
    Answer::Int(total)
}

fn list_sum(n: i64) -> Answer {
    let mut items = Vec::new();
    for i in 0..n {
        items.push(i);
    }
    let mut total = 0;
    for item in black_box(&items) {
        total += item;
    }
    Answer::Int(total)
}

fn list_floats(n: i64) -> Answer {
    let mut items = Vec::new();
    for i in 0..n {
        items.push(i as f64 * 0.5);
    }
    for i in 0..items.len() {
        items[i] += 1.0;
    }
    let mut total = 0.0;
    for item in black_box(&items) {
        total += item;
    }
    Answer::Float(total)
}

fn string_build(n: i64) -> Answer {
    let mut text = String::new();
    for _ in 0..n {
        text = black_box(text) + "ab";
    }
    Answer::Int(text.len() as i64)
}

fn string_numbers(n: i64) -> Answer {
    let mut text = String::new();
    for i in 0..n {
        text += &i.to_string();
    }
    Answer::Int(text.len() as i64)
}

fn string_join(n: i64) -> Answer {
    let mut parts = Vec::new();
    for i in 0..n {
        parts.push(i.to_string());
    }
    Answer::Int(parts.join(",").len() as i64)
}

fn dict_ints(n: i64) -> Answer {
    let mut counts: HashMap<i64, i64> = HashMap::new();
    for i in 0..n {
        let key = i * 7919 % 1009;
        #[allow(clippy::map_entry, reason = "the program's own text looks the key up twice")]
        if counts.contains_key(&key) {
            *counts.get_mut(&key).expect("is there") += 1;
        } else {
            counts.insert(key, 1);
        }
    }
    let mut total = 0;
    for key in 0..1009 {
        if let Some(count) = counts.get(&key) {
            total += count * key;
        }
    }
    Answer::Int(total + counts.len() as i64)
}

fn dict_strs(n: i64) -> Answer {
    let mut counts: HashMap<String, i64> = HashMap::new();
    for i in 0..n {
        let key = (i * 7919 % 1009).to_string();
        #[allow(clippy::map_entry, reason = "the program's own text looks the key up twice")]
        if counts.contains_key(&key) {
            *counts.get_mut(&key).expect("is there") += 1;
        } else {
            counts.insert(key, 1);
        }
    }
    let total: i64 = counts.iter().map(|(key, count)| count * key.len() as i64).sum();
    Answer::Int(total + counts.len() as i64)
}
