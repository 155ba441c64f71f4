//! `aot graph`, `aot code`, `aot inspect` and `aot ops`: what is in a model. None of them runs code of it.

use super::options::size_text;
use super::{Exit, Output, options};
use crate::archive::{self, Archive};
use crate::diag::{Diagnostic, Result};
use crate::driver::{self, Timings};
use crate::ir::{self, Function, Module, PrintOptions};
use crate::library::Library;
use crate::ops;
use crate::passes::pipeline;
use crate::signatures;
use crate::types::{IValue, Object};
use clap::Args;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Arguments of `aot graph`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct GraphArgs {
    /// The model: an archive or a source file (.py).
    model: PathBuf,
    #[command(flatten)]
    text: options::TextArgs,
    /// The method.
    #[arg(long, default_value = "forward")]
    method: String,
    /// Every function of the model, not one method.
    #[arg(long, conflicts_with = "loops")]
    all: bool,
    /// The loop program that the method becomes for these inputs.
    #[arg(long)]
    loops: bool,
    /// The method with everything it calls in its own graph.
    #[arg(long, conflicts_with_all = ["all", "loops"])]
    inlined: bool,
    /// The method with unchanging attributes as constants, and what follows from them.
    #[arg(long, conflicts_with_all = ["all", "loops", "inlined"])]
    frozen: bool,
    /// Leave out the places in the source.
    #[arg(long)]
    no_places: bool,
    /// With --loops, an argument: NAME=f32[N,3,224,224].
    #[arg(short, long = "input", value_name = "NAME=SPEC")]
    inputs: Vec<String>,
}

/// Arguments of `aot code`.
#[derive(Debug, Args)]
pub(super) struct CodeArgs {
    /// The model: an archive or a source file (.py).
    model: PathBuf,
    #[command(flatten)]
    text: options::TextArgs,
    /// The method.
    #[arg(long, default_value = "forward")]
    method: String,
    /// Every function of the model, not one method.
    #[arg(long)]
    all: bool,
}

/// Arguments of `aot inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A model, or a library that `aot build` made.
    model: PathBuf,
    /// List every parameter and buffer; of a library, every tensor that is prepared when it is opened.
    #[arg(long)]
    weights: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `aot ops`.
#[derive(Debug, Args)]
pub(super) struct OpsArgs {
    /// A model; without one, all operators that can be compiled are listed.
    model: Option<PathBuf>,
    /// Only those that cannot be compiled.
    #[arg(long, requires = "model")]
    unsupported: bool,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn functions<'m>(module: &'m Module, method: &str, all: bool) -> Result<Vec<&'m Function>> {
    if all {
        return Ok(module.functions.values().collect());
    }
    let function = module.method(&module.root.class, method).ok_or_else(|| {
        Diagnostic::user(format!("the module has no method '{method}'"))
            .note(format!("its methods: {}", signatures::method_names(module).join(", ")))
    })?;
    Ok(vec![function])
}

pub(super) fn graph(args: &GraphArgs, output: &mut Output<'_>) -> Result<Exit> {
    let (archive, module) = driver::open(&args.model, &args.text.options())?;
    if args.loops {
        let inputs = options::inputs(&args.inputs)?;
        let requests = signatures::requests(&archive, &module, std::slice::from_ref(&args.method), &inputs)?;
        let program = driver::lower(&module, &requests, &mut Timings::default())?;
        let _ = write!(output.out, "{program}");
        return Ok(Exit::Success);
    }
    let options = PrintOptions { places: !args.no_places };
    if args.inlined || args.frozen {
        let pass = if args.frozen { pipeline::frozen } else { pipeline::inlined };
        let _ = write!(output.out, "{}", pass(&module, &args.method)?.text(options));
        return Ok(Exit::Success);
    }
    for function in functions(&module, &args.method, args.all)? {
        if args.all {
            let _ = writeln!(output.out, "# {}", function.name);
        }
        let _ = write!(output.out, "{}", function.graph.text(options));
    }
    Ok(Exit::Success)
}

pub(super) fn code(args: &CodeArgs, output: &mut Output<'_>) -> Result<Exit> {
    let (_, module) = driver::open(&args.model, &args.text.options())?;
    let facts = ops::facts::PrinterFacts { module: Some(&module) };
    for function in functions(&module, &args.method, args.all)? {
        let _ = writeln!(output.out, "{}", ir::code(function, &facts).text.trim_end());
    }
    Ok(Exit::Success)
}

pub(super) fn inspect(args: &InspectArgs, output: &mut Output<'_>) -> Result<Exit> {
    if args.model.extension().is_some_and(|e| e == "so") {
        return inspect_library(args, output);
    }
    let archive = archive::open(&args.model)?;
    let module = driver::front_end(&archive)?;
    let class = module.classes.get(&module.root.class);
    let mut weights = Vec::new();
    tensors(&module.root, "", &mut weights);
    let (n_bytes, n_elements) = total(&weights);
    let methods: Vec<String> = signatures::method_names(&module)
        .iter()
        .filter_map(|name| Some(signatures::describe(name, module.method(&module.root.class, name)?)))
        .collect();
    let traced: Vec<String> = archive
        .traced_inputs
        .iter()
        .map(|(method, values)| {
            let specs = values.iter().map(|v| signatures::of_value(v).map_or_else(|_| "?".into(), |s| s.to_string()));
            format!("{method}({})", specs.collect::<Vec<_>>().join(", "))
        })
        .collect();
    if args.json {
        let weights: Vec<_> = weights
            .iter()
            .map(|w| serde_json::json!({"name": w.name, "dtype": w.dtype, "sizes": w.sizes, "bytes": w.bytes}))
            .collect();
        let json = serde_json::json!({
            "file": args.model.display().to_string(), "version": archive.version, "class": &*module.root.class,
            "methods": methods, "recorded_inputs": traced, "weights": weights, "weights_bytes": n_bytes,
            "weights_elements": n_elements, "extra_files": archive.extra_files.keys().collect::<Vec<_>>(),
        });
        let _ = writeln!(output.out, "{json:#}");
        return Ok(Exit::Success);
    }
    let out = &mut *output.out;
    let _ = writeln!(out, "class      {}", module.root.class);
    let _ = writeln!(out, "version    {}", archive.version);
    let _ = writeln!(out, "weights    {} tensors, {n_elements} elements, {}", weights.len(), size_text(n_bytes));
    let _ = writeln!(out, "code       {} functions, {} classes", module.functions.len(), module.classes.len());
    if class.is_some() {
        for method in &methods {
            let _ = writeln!(out, "method     {method}");
        }
    }
    for call in &traced {
        let _ = writeln!(out, "recorded   {call}");
    }
    describe_extras(&archive, out);
    if args.weights {
        for weight in &weights {
            let _ = writeln!(
                out,
                "weight     {} {}{:?} {}",
                weight.name,
                weight.dtype,
                weight.sizes,
                size_text(weight.bytes)
            );
        }
    }
    Ok(Exit::Success)
}

fn describe_extras(archive: &Archive, out: &mut dyn std::io::Write) {
    for (name, bytes) in &archive.extra_files {
        let _ = writeln!(out, "extra      {name} {}", size_text(bytes.as_ref().len() as u64));
    }
}

fn inspect_library(args: &InspectArgs, output: &mut Output<'_>) -> Result<Exit> {
    let info = Library::load(&args.model)?.info();
    if args.json {
        let methods: Vec<_> = info
            .methods
            .iter()
            .map(|(n, s)| serde_json::json!({"name": n, "signatures": s.lines().collect::<Vec<_>>()}))
            .collect();
        let prepared: Vec<_> =
            info.prepared.iter().map(|(bytes, name)| serde_json::json!({"name": name, "bytes": bytes})).collect();
        let json = serde_json::json!({
            "name": info.name, "compiler": info.compiler, "model_hash": info.model_hash,
            "cpu_features": info.cpu_features, "flags": info.flags, "methods": methods, "operators": info.operators,
            "weights_bytes": info.weights_bytes, "prepared_bytes": info.prepared_bytes, "prepared": prepared,
        });
        let _ = writeln!(output.out, "{json:#}");
        return Ok(Exit::Success);
    }
    let lines = [
        ("name", &info.name),
        ("compiler", &info.compiler),
        ("model", &info.model_hash),
        ("needs", &info.cpu_features),
        ("flags", &info.flags),
    ];
    for (what, text) in lines {
        let _ = writeln!(output.out, "{what:10} {text}");
    }
    let _ = writeln!(output.out, "weights    {}", size_text(info.weights_bytes));
    if info.prepared_bytes > 0 {
        let (n, size) = (info.prepared.len(), size_text(info.prepared_bytes));
        let _ = writeln!(output.out, "prepared   {n} tensors when opened, {size}");
    }
    if args.weights {
        for (bytes, name) in &info.prepared {
            let _ = writeln!(output.out, "prepared   {name} {}", size_text(*bytes));
        }
    }
    for (name, signature) in &info.methods {
        for line in signature.lines() {
            let _ = writeln!(output.out, "method     {name}{line}");
        }
    }
    Ok(Exit::Success)
}

/// A tensor among a module's attributes.
struct Weight {
    name: String,
    dtype: &'static str,
    sizes: Vec<i64>,
    bytes: u64,
    storage: usize,
}

/// Modules nest no deeper than this.
const MAX_DEPTH: usize = 200;

fn tensors(object: &Object, path: &str, found: &mut Vec<Weight>) {
    if path.matches('.').count() > MAX_DEPTH {
        return;
    }
    for (name, value) in &object.attrs {
        let name = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match value {
            IValue::Tensor(data) => found.push(Weight {
                name,
                dtype: data.dtype().python_name(),
                sizes: data.sizes().to_vec(),
                bytes: data.numel().unsigned_abs() * data.dtype().size_bytes() as u64,
                storage: data.storage().key(),
            }),
            IValue::Object(object) => tensors(object, &name, found),
            _ => {}
        }
    }
}

/// Bytes and elements, shared storages counted once.
fn total(weights: &[Weight]) -> (u64, i64) {
    let mut seen = HashSet::new();
    let fresh = weights.iter().filter(|w| seen.insert((w.storage, w.sizes.clone())));
    fresh.fold((0, 0), |(bytes, n), w| (bytes + w.bytes, n + w.sizes.iter().product::<i64>()))
}

/// Uses of an operator in a model.
#[derive(Default)]
struct Uses {
    count: usize,
    is_supported: bool,
    place: String,
}

pub(super) fn ops(args: &OpsArgs, output: &mut Output<'_>) -> Result<Exit> {
    let Some(path) = &args.model else {
        if args.json {
            let _ = writeln!(output.out, "{:#}", serde_json::json!(ops::defined()));
        } else {
            for name in ops::defined() {
                let _ = writeln!(output.out, "{name}");
            }
        }
        return Ok(Exit::Success);
    };
    let (_, module) = driver::open(path, &driver::TextOptions::default())?;
    let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
    for function in module.functions.values() {
        // Nodes in no block were removed by the front end.
        let live = function.graph.blocks.iter().flat_map(|block| &block.nodes);
        for node in live.map(|&id| &function.graph.nodes[id]) {
            let is_operator = ops::schema::schema(&node.op).is_some() || !node.op.name.starts_with("prim::");
            if !is_operator {
                continue;
            }
            let used = uses.entry(node.op.to_string()).or_insert_with(|| Uses {
                is_supported: node.op.name.starts_with("prim::") || ops::is_defined(&node.op),
                place: node.span.as_ref().map(crate::source::Span::place).unwrap_or_default(),
                ..Uses::default()
            });
            used.count += 1;
        }
    }
    let n_missing = uses.values().filter(|u| !u.is_supported).count();
    let shown = uses.iter().filter(|(_, u)| !args.unsupported || !u.is_supported);
    if args.json {
        let list: Vec<_> = shown
            .map(|(name, u)| {
                serde_json::json!({
                    "operator": name, "supported": u.is_supported, "uses": u.count, "first_place": u.place,
                })
            })
            .collect();
        let _ = writeln!(output.out, "{:#}", serde_json::json!(list));
        return Ok(Exit::Success);
    }
    for (name, used) in shown {
        let word = if used.is_supported { "ok" } else { "unsupported" };
        let _ = writeln!(output.out, "{word:12} {:5} {name:40} {}", used.count, used.place);
    }
    let _ = writeln!(output.out, "{} operators, {n_missing} unsupported", uses.len());
    Ok(Exit::Success)
}
