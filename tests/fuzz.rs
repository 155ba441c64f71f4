//! Wrong texts by the thousand: what people can hand to the compiler is changed at random, and whatever comes of it must be a
//! result or an error with a place, in bounded time and memory.
//!
//! The inputs are the filetests and archives of the corpus, with tokens and lines removed, doubled, swapped, taken from one
//! another, and replaced by odd ones. A test runs for two seconds, or as many as `AOT_FUZZ_SECONDS` says; `AOT_FUZZ_SEED` is where
//! it starts. The input that is being worked on stands in a file of the temporary folder, so that it is known even if the
//! process dies of it:
//!
//! ```text
//! AOT_FUZZ_SECONDS=600 cargo test --release -p aot-tests -- fuzz::source
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a run of minutes says how it goes")]

use aot::archive::{self, Archive, Bytes, Container};
use aot::diag::{Blame, Diagnostic};
use aot::driver::{self, Timings};
use aot::ir;
use aot::lower::{ArgSpec, Request};
use aot::script::{Attributes, Text};
use aot::source::Source;
use aot::syntax::Dialect;
use aot::types::Type;
use fastrand::Rng;
use indexmap::IndexMap;
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long one input may take.
const MOST_TIME: Duration = Duration::from_secs(30);
/// By how much the process may grow, in kilobytes.
const MOST_GROWTH: u64 = 1 << 20;
/// Longest input.
const MOST_BYTES: usize = 6000;

/// Words that programs seldom have.
const ODD: &[&str] = &[
    "9223372036854775807",
    "9223372036854775808",
    "-1",
    "0",
    "1e999",
    "1j",
    "0x",
    "\"",
    "'''",
    "\\",
    "\t",
    "\u{0}",
    "\u{e9}\u{1f600}",
    "#",
    "# type: (int) -> int",
    "->",
    ":",
    "...",
    "=",
    "==",
    "**",
    "*",
    "@",
    "None",
    "self",
    "lambda x: x",
    "return",
    "raise ValueError('x')",
    "while True:",
    "for i in range(3):",
    "if x is None:",
    "with x as y:",
    "try:",
    "del x",
    "break",
    "continue",
    "pass",
    "assert False, 'no'",
    "not",
    "in",
    "is not",
    "List[Dict[str, Tensor]]",
    "Optional[int]",
    "Union[int, str]",
    "Tuple[()]",
    "Any",
    "torch.jit.fork",
    "torch.zeros",
    "annotate(List[int], [])",
    "{1: 2}",
    "[[[]]]",
    "x[0:1, None, ..., -1]",
    "f\"{x}{{\"",
    "prim::If",
    "block0():",
    "%0 : int",
    "Float(2, 3, strides=[3, 1])",
    "return (%0)",
];

/// Runs a target on texts that come of these.
fn fuzz(name: &str, seeds: &[Vec<u8>], run: impl Fn(&[u8])) {
    assert!(seeds.len() > 10, "only {} inputs to start from", seeds.len());
    fuzz_with(name, |rng| changed(seeds, rng), run);
}

/// Runs a target on inputs until the time is over.
fn fuzz_with(name: &str, mut make: impl FnMut(&mut Rng) -> Vec<u8>, run: impl Fn(&[u8])) {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (seconds, seed) = (number("AOT_FUZZ_SECONDS", 2), number("AOT_FUZZ_SEED", 1));
    let kept = std::env::temp_dir().join(format!("aot-fuzz-{name}-{}", std::process::id()));
    let (start, mut rng, mut n) = (Instant::now(), Rng::with_seed(seed), 0u64);
    // Milliseconds after the start at which the current input was begun.
    let begun = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(Mutex::new(false));
    let watch = watchdog(&kept, start, Arc::clone(&begun), Arc::clone(&is_over));
    let mut faults = Vec::new();
    let (mut memory, mut slowest) = (None, Duration::from_millis(500));
    while start.elapsed() < Duration::from_secs(seconds) && faults.len() < 10 {
        let input = make(&mut rng);
        fs::write(&kept, &input).expect("the temporary folder can be written to");
        begun.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            faults.push(format!("input {n}: {words}\n{}\n", String::from_utf8_lossy(&input)));
        }
        let took = start.elapsed().saturating_sub(Duration::from_millis(begun.load(Ordering::Relaxed)));
        if took > slowest {
            slowest = took;
            println!("{name}: input {n} took {took:?}:\n{}", String::from_utf8_lossy(&input));
        }
        n += 1;
        if n.is_multiple_of(500) {
            let now = resident();
            let first = *memory.get_or_insert(now);
            assert!(now < first + MOST_GROWTH, "the process grew from {first} kB to {now} kB in {n} inputs");
        }
    }
    *is_over.lock().expect("the watchdog does not panic") = true;
    watch.join().expect("the watchdog ends");
    fs::remove_file(&kept).expect("it was written");
    println!("{name}: {n} inputs");
    assert!(n > 5, "only {n} inputs were tried");
    assert!(faults.is_empty(), "{name}, seed {seed}, {n} inputs:\n{}", faults.join("\n"));
}

/// Ends the process if an input takes too long.
fn watchdog(
    kept: &Path,
    start: Instant,
    begun: Arc<AtomicU64>,
    is_over: Arc<Mutex<bool>>,
) -> std::thread::JoinHandle<()> {
    let kept = kept.to_owned();
    std::thread::spawn(move || {
        while !*is_over.lock().expect("the other thread does not panic with it") {
            let since = start.elapsed().saturating_sub(Duration::from_millis(begun.load(Ordering::Relaxed)));
            if since > MOST_TIME {
                eprintln!("an input took longer than {MOST_TIME:?}; it is in {}", kept.display());
                std::process::abort();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Kilobytes of memory that the process holds; 0 where the system does not say.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

// ---- changes

fn changed(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = rng.choice(seeds).expect("there are seeds").clone();
    for _ in 0..rng.usize(1..5) {
        let other = rng.choice(seeds).expect("there are seeds");
        input = match std::str::from_utf8(&input) {
            Ok(text) if rng.u8(..) > 8 => {
                let other = String::from_utf8_lossy(other);
                if rng.bool() { with_other_tokens(text, &other, rng) } else { with_other_lines(text, &other, rng) }
            }
            _ => with_other_bytes(input, rng),
        };
    }
    input.truncate(MOST_BYTES);
    input
}

fn with_other_bytes(mut input: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    if input.is_empty() {
        return vec![rng.u8(..)];
    }
    let at = rng.usize(..input.len());
    match rng.u8(..5) {
        0 => input[at] ^= 1 << rng.u8(..8),
        1 => input[at] = rng.u8(..),
        2 => drop(input.drain(at..(at + rng.usize(..20)).min(input.len()))),
        3 => input.insert(at, rng.u8(..)),
        _ => {
            let to = rng.usize(..input.len());
            input.swap(at, to);
        }
    }
    input
}

/// Names, numbers, spaces and single marks.
fn tokens(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '%' => 0,
        ' ' => 1,
        _ => 2,
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match kind(first) {
            2 => first.len_utf8(),
            of => rest.find(|c| kind(c) != of).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        out.push(token);
        rest = after;
    }
    out
}

fn with_other_tokens(text: &str, other: &str, rng: &mut Rng) -> Vec<u8> {
    let (mut words, others) = (tokens(text), tokens(other));
    let deep = ["(", "[", "{", "-", "not ", "x if y else ", "    "].map(|open| open.repeat(rng.usize(2..2000)));
    if words.is_empty() || others.is_empty() {
        return ODD[rng.usize(..ODD.len())].into();
    }
    let at = rng.usize(..words.len());
    let odd = ODD[rng.usize(..ODD.len())];
    match rng.u8(..9) {
        0 => drop(words.remove(at)),
        1 => words.insert(at, words[at]),
        2 => {
            let to = rng.usize(..words.len());
            words.swap(at, to);
        }
        3 | 4 => words[at] = odd,
        5 => words.insert(at, odd),
        6 => words[at] = others[rng.usize(..others.len())],
        7 => words[at] = words[rng.usize(..words.len())],
        _ => words.insert(at, &deep[rng.usize(..deep.len())]),
    }
    words.concat().into()
}

fn with_other_lines(text: &str, other: &str, rng: &mut Rng) -> Vec<u8> {
    let (mut lines, others): (Vec<&str>, Vec<&str>) = (text.split('\n').collect(), other.split('\n').collect());
    let at = rng.usize(..lines.len());
    let indented = format!("  {}", lines[at]);
    match rng.u8(..6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at]),
        2 => {
            let to = rng.usize(..lines.len());
            lines.swap(at, to);
        }
        3 => lines.insert(at, others[rng.usize(..others.len())]),
        4 => lines[at] = &indented,
        _ => lines[at] = lines[at].trim_start(),
    }
    lines.join("\n").into()
}

// ---- what there is to start from

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inputs of filetests whose header is accepted, without the header.
fn filetests(accepts: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    super::filetests::files(&folder("filetests"), &mut paths);
    let texts = paths.iter().map(|path| fs::read_to_string(path).expect("the test reads"));
    let inputs = texts.filter_map(|text| {
        let (header, input) = text.split_once('\n')?;
        let input = input.split("\n----\n").next()?;
        accepts(header.trim_start_matches("# test: ")).then(|| format!("{input}\n").into_bytes())
    });
    inputs.collect()
}

fn archives(zip: &str) -> Vec<(String, Vec<u8>)> {
    let cases = Container::open(&folder("corpus").join(zip)).expect("the corpus is a zip");
    let files = cases.names().filter(|name| name.ends_with(".pt") && !name.ends_with(".io.pt"));
    let read = |name: &str| (name.to_owned(), cases.get(name).expect("the member reads").as_ref().to_vec());
    files.map(read).collect()
}

// ---- targets

/// An error blames the input or names what is missing; it is no fault of the compiler's own.
fn refused(error: &Diagnostic) {
    assert!(error.blame != Blame::Internal, "{}", error.render());
}

/// Lowers the methods that take plain arguments.
fn lowered(module: &ir::Module) {
    for function in module.functions.values() {
        drop(ir::verify(&function.graph));
        let _ = function.graph.to_string();
        let _ = ir::code(function, &aot::ops::facts::PrinterFacts { module: Some(module) });
    }
    let Some(forward) = module.method(&module.root.class, "forward") else { return };
    let spec = |ty: &Type| {
        Some(match ty {
            Type::Tensor(_) => ArgSpec::parse("f32[2,3]").ok()?,
            Type::Int => ArgSpec::Int(None),
            Type::Float => ArgSpec::Float(None),
            Type::Bool => ArgSpec::Bool(None),
            _ => return None,
        })
    };
    let params = &forward.graph.blocks[forward.graph.top].params;
    let specs: Option<Vec<_>> = params.iter().skip(1).map(|p| spec(&forward.graph.values[*p].ty)).collect();
    if let Some(specs) = specs
        && let Err(error) = driver::lower(module, &[Request::new("forward", specs)], &mut Timings::default())
    {
        refused(&error);
    }
}

fn text_of(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// Names and contents of an archive's members.
type Members = Vec<(String, Vec<u8>)>;

/// The members of a small archive.
fn members(bytes: &[u8]) -> Option<Members> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut members = Vec::new();
    for at in 0..zip.len() {
        let mut member = zip.by_index(at).ok()?;
        let mut contents = Vec::new();
        member.read_to_end(&mut contents).ok()?;
        members.push((member.name().to_owned(), contents));
    }
    (members.iter().map(|(_, contents)| contents.len()).sum::<usize>() < 20 * MOST_BYTES).then_some(members)
}

/// An archive in which one member differs, with checksums that fit; or at times one whose own bytes differ.
fn zip_of(members: &Members, rng: &mut Rng) -> Vec<u8> {
    let mut members = members.clone();
    let n_members = members.len();
    let (_, contents) = &mut members[rng.usize(..n_members)];
    for _ in 0..rng.usize(1..6) {
        *contents = match std::str::from_utf8(contents) {
            Ok(text) if rng.bool() => with_other_tokens(text, text, rng),
            _ => with_other_bytes(std::mem::take(contents), rng),
        };
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in &members {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name, stored).expect("names are those of an archive");
        zip.write_all(contents).expect("memory can be written to");
    }
    let bytes = zip.finish().expect("memory can be written to").into_inner();
    if rng.u8(..8) == 0 { with_other_bytes(bytes, rng) } else { bytes }
}

#[test]
fn source() {
    let is_python = |header: &str| header.ends_with(" python") || header.ends_with(" unit");
    fuzz("source", &filetests(is_python), |input| {
        for dialect in [Dialect::Python, Dialect::Own] {
            let source = Source { name: "fuzzed.py".into(), text: text_of(input), origins: Vec::new() };
            let text =
                Text { source: Arc::new(source), dialect, module: "__torch__".into(), imports: None, seed: None };
            match driver::script(&text, None, Attributes::Own) {
                Ok(module) => lowered(&module),
                Err(error) => refused(&error),
            }
        }
    });
}

#[test]
fn code() {
    let is_method = |header: &str| matches!(header, "script" | "run") || header.starts_with("lower");
    fuzz("code", &filetests(is_method), |input| {
        let body: String = text_of(input).lines().map(|line| format!("  {line}\n")).collect();
        match driver::front_end(&super::filetests::archive_of(format!("class M(Module):\n{body}"), IndexMap::new())) {
            Ok(module) => lowered(&module),
            Err(error) => refused(&error),
        }
    });
}

#[test]
fn graph() {
    let mut seeds = filetests(|header| header == "verify graph" || header.starts_with("passes"));
    for (name, bytes) in archives("archives.zip") {
        let Ok(module) =
            archive::from_bytes(Bytes::new(bytes), &name).and_then(|archive| aot::script::compile(&archive))
        else {
            continue;
        };
        let graphs = module.functions.values().map(|function| function.graph.to_string().into_bytes());
        seeds.extend(graphs.filter(|text| text.len() < MOST_BYTES));
    }
    fuzz("graph", &seeds, |input| match text_of(input).parse::<ir::Graph>() {
        Ok(graph) => {
            let text = graph.to_string();
            drop(ir::verify(&graph));
            match text.parse::<ir::Graph>() {
                Ok(again) => assert_eq!(again.to_string(), text, "a graph prints the same after it was read back"),
                Err(error) => panic!("a printed graph does not read: {}\n{text}", error.render()),
            }
        }
        Err(error) => refused(&error),
    });
}

#[test]
fn archive() {
    let seeds: Vec<Members> = archives("archives.zip").iter().filter_map(|(_, bytes)| members(bytes)).collect();
    assert!(seeds.len() > 10, "only {} archives to start from", seeds.len());
    fuzz_with(
        "archive",
        |rng| zip_of(&seeds[rng.usize(..seeds.len())], rng),
        |input| {
            let opened: Result<Archive, _> = archive::from_bytes(Bytes::new(input.to_vec()), "fuzzed.pt");
            match opened.and_then(|archive| driver::front_end(&archive)) {
                Ok(module) => lowered(&module),
                Err(error) => refused(&error),
            }
        },
    );
}
