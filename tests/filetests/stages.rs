//! What each kind of test does with its input.

use super::{FileTest, Outcome};
use aot::archive::Archive;
use aot::diag::{Diagnostic, Result};
use aot::driver::{self, Timings};
use aot::emit::listing::listing;
use aot::emit::target::Target;
use aot::export;
use aot::ir::{self, Graph, Module, PrintOptions};
use aot::loops::{self, Program};
use aot::lower::{ArgSpec, Request};
use aot::ops::facts::PrinterFacts;
use aot::passes::{
    canonicalize_outputs, constant_pooling, constant_propagation, eliminate_common_subexpressions, eliminate_dead_code,
    fold_convolutions, freeze_attributes, inline, lower_simple_tuples, peephole, remove_dropout,
};
use aot::schedule::{self, ScheduleTarget};
use aot::script::{self, Text};
use aot::source::Source;
use aot::syntax::{self, Dialect};
use aot::types::{IValue, Object};
use indexmap::IndexMap;
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

fn source(test: &FileTest) -> Arc<Source> {
    let name = test.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Arc::new(Source { name, text: test.input.clone(), origins: Vec::new() })
}

/// The output of the stage that the header names.
pub(super) fn stage(test: &FileTest) -> Outcome {
    let words = &test.header[1..];
    match test.header[0].as_str() {
        "syntax" if words == ["python"] => Ok(syntax::parse_python(&source(test))?.to_string()),
        "syntax" => Ok(syntax::parse(&source(test))?.to_string()),
        "script" => graphs(test),
        "verify" if words == ["graph"] => verdict(ir::verify(&graph(test)?)),
        "verify" => verdict(loops::verify(&program(test)?)),
        "passes" => passes(test),
        "code" if words == ["python"] => text(test, Dialect::Python, None).map(|module| code(&module)),
        "code" if words == ["unit"] => text(test, Dialect::Own, None).map(|module| code(&module)),
        "code" => module(test).map(|module| code(&module)),
        "graph" => text(test, Dialect::Python, None).map(|module| graph_texts(&module)),
        "archive" => text(test, Dialect::Python, None).and_then(|module| archived(&module)),
        "diag" if words == ["python"] => text(test, Dialect::Python, None).map(|_| String::new()),
        "diag" if words == ["unit"] => text(test, Dialect::Own, None).map(|_| String::new()),
        "lower" | "diag" => lowered(test).map(|program| program.to_string()),
        "loops" => {
            let text = program(test)?.to_string();
            assert_eq!(text.parse::<Program>()?.to_string(), text, "what is printed reads back");
            Ok(text)
        }
        "schedule" => scheduled(test).map(|program| program.to_string()),
        "emit" => listing(&scheduled(test)?, "t"),
        "run" => Ok(String::new()),
        kind => panic!("there is no kind of tests '{kind}'"),
    }
}

/// The sentence of a verifier.
fn verdict(verdict: std::result::Result<(), String>) -> Outcome {
    Ok(format!("{}\n", verdict.err().unwrap_or_else(|| "right".into())))
}

fn graph(test: &FileTest) -> Result<Graph> {
    // Graphs are read from their own text; the header is a comment to it.
    test.input.parse()
}

/// A loop program in text.
pub(super) fn program(test: &FileTest) -> Result<Program> {
    loops::parse(&source(test))
}

/// The methods of a class `M` of an archive, as the whole front end leaves them.
pub(super) fn module(test: &FileTest) -> Result<Module> {
    driver::front_end(&archive(test))
}

/// The archive of a class `M` with the methods of the test.
fn archive(test: &FileTest) -> Archive {
    // The class takes the place of the header, so that lines keep their numbers.
    let body: String = test.input.lines().skip(1).map(|line| format!("  {line}\n")).collect();
    let text = format!("class M(Module):\n{body}");
    archive_of(text, attributes(test))
}

/// The archive of an instance of a class `M` that this code defines.
pub(crate) fn archive_of(text: String, attributes: IndexMap<Arc<str>, IValue>) -> Archive {
    let name = "code/__torch__.py".to_owned();
    let source = Arc::new(Source { name: name.clone(), text, origins: Vec::new() });
    Archive {
        path: "test.pt".into(),
        version: 10,
        root: Arc::new(Object { class: "__torch__.M".into(), attrs: attributes }),
        constants: Vec::new(),
        sources: IndexMap::from([(name, source)]),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    }
}

/// What the lines `# attribute: NAME = JSON` say.
fn attributes(test: &FileTest) -> IndexMap<Arc<str>, IValue> {
    let value = |text: &str| match serde_json::from_str(text).expect("an attribute is JSON") {
        Json::Null => IValue::None,
        Json::Bool(value) => IValue::Bool(value),
        Json::String(text) => IValue::Str(text.into()),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| IValue::Float(number.as_f64().expect("a number")), IValue::Int)
        }
        other => panic!("an attribute is no {other}"),
    };
    let lines = test.marked("# attribute: ").map(|(_, line)| line.split_once(" = ").expect("a name and a value"));
    lines.map(|(name, text)| (name.into(), value(text))).collect()
}

/// A Python file or what `CompilationUnit` takes, whose last function is compiled.
/// The module of a Python file or of what `CompilationUnit` takes: all of it, or what one name needs.
pub(super) fn text(test: &FileTest, dialect: Dialect, entry: Option<&str>) -> Result<Module> {
    let text = Text { source: source(test), dialect, module: "__torch__".into(), imports: None, seed: None };
    driver::script(&text, entry, script::Attributes::Own)
}

/// What the header says the text is; `None` for code of an archive.
pub(super) fn dialect(test: &FileTest) -> Option<Dialect> {
    match test.header.get(1).map(String::as_str) {
        Some("python") => Some(Dialect::Python),
        Some("unit") => Some(Dialect::Own),
        _ => None,
    }
}

/// The code of every function that the text has or needs.
fn code(module: &Module) -> String {
    let facts = PrinterFacts { module: Some(module) };
    functions(module).map(|function| ir::code(function, &facts).text).collect()
}

/// The functions of a text, without those that hold what is compiled outside of any.
fn functions(module: &Module) -> impl Iterator<Item = &ir::Function> {
    module.functions.values().filter(|f| !f.name.starts_with(script::FUNCTION_MODULE))
}

/// Their graphs, with places.
fn graph_texts(module: &Module) -> String {
    functions(module).map(|function| function.graph.text(PrintOptions { places: true })).collect()
}

/// The sources of the archive that the module becomes, and the values of its attributes.
fn archived(module: &Module) -> Outcome {
    let empty = script::empty_archive(Path::new("test.pt"));
    let archive = export::archive(module, Path::new("test.pt"), &empty)?;
    let mut out: String = archive.sources.values().map(|source| source.text.as_str()).collect();
    values(&archive.root, "", &mut out);
    Ok(out)
}

/// One line for each attribute; of tensors, the type, the sizes and the first elements.
fn values(object: &Object, path: &str, out: &mut String) {
    for (name, value) in &object.attrs {
        let _ = match value {
            IValue::Object(inner) => {
                values(inner, &format!("{path}{name}."), out);
                continue;
            }
            IValue::Tensor(data) => {
                let bytes = data.contiguous_bytes();
                let first: Vec<f32> =
                    bytes.chunks_exact(4).take(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect();
                let elements =
                    if data.dtype().python_name() == "float32" { format!("{first:?}") } else { format!("{bytes:?}") };
                writeln!(out, "{path}{name} = {}{:?} {elements}", data.dtype().python_name(), data.sizes())
            }
            other => writeln!(out, "{path}{name} = {}", ir::repr(other, &mut |_| None)),
        };
    }
}

fn graphs(test: &FileTest) -> Outcome {
    let module = script::compile(&archive(test))?;
    let options = ir::PrintOptions { places: false };
    Ok(module.functions.values().map(|function| function.graph.text(options)).collect())
}

fn passes(test: &FileTest) -> Outcome {
    let is_graph = test.input.lines().nth(1).is_some_and(|line| line.starts_with("graph("));
    let module = if is_graph { None } else { Some(script::compile(&archive(test))?) };
    let whole = || module.as_ref().expect("this pass wants methods");
    let mut graph = match &module {
        Some(module) => module.method("__torch__.M", "forward").expect("the methods have a forward").graph.clone(),
        None => graph(test)?,
    };
    for pass in &test.header[1..] {
        let before = graph.to_string();
        let changed = match pass.as_str() {
            "canonicalize_outputs" => canonicalize_outputs::run(&mut graph),
            "constant_pooling" => constant_pooling::run(&mut graph),
            "constant_propagation" => constant_propagation::run(&mut graph, constant_propagation::Options::default()),
            "eliminate_common_subexpressions" => eliminate_common_subexpressions::run(&mut graph),
            "eliminate_dead_code" => eliminate_dead_code::run(&mut graph),
            "fold_convolutions" => fold_convolutions::run(&mut graph),
            "freeze_attributes" => {
                let (root, mut written) = (&whole().root, freeze_attributes::Written::default());
                written.add(&graph, root);
                freeze_attributes::run(&mut graph, root, &written)
            }
            "inline" => inline::run(&mut graph, whole()),
            "lower_simple_tuples" => lower_simple_tuples::run(&mut graph),
            "peephole" => peephole::run(&mut graph),
            "remove_dropout" => remove_dropout::run(&mut graph),
            pass => panic!("there is no pass '{pass}'"),
        };
        ir::verify(&graph).map_err(Diagnostic::internal)?;
        assert_eq!(changed, graph.to_string() != before, "a pass says whether it changed something");
    }
    Ok(graph.to_string())
}

/// The method `forward` for the arguments of the header: `# test: lower f32[2,3] int`.
fn lowered(test: &FileTest) -> Result<Program> {
    let args = test.header[1..].iter().map(|text| ArgSpec::parse(text)).collect::<Result<Vec<_>>>()?;
    driver::lower(&module(test)?, &[Request::new("forward", args)], &mut Timings::default())
}

/// A machine with vectors of 8 floats, the same wherever tests run.
fn target() -> ScheduleTarget {
    let base = driver::schedule_target(&Target::host());
    ScheduleTarget { vector_bytes: 32, n_registers: 16, has_masks: true, ..base }
}

/// The program after the transforms of the header, or after all.
fn scheduled(test: &FileTest) -> Result<Program> {
    let mut program = program(test)?;
    loops::verify(&program).map_err(Diagnostic::user)?;
    for name in &test.header[1..] {
        if name == "all" {
            schedule::schedule(&mut program, &target(), &schedule::Options::default())?;
            continue;
        }
        let transform = schedule::TRANSFORMS.iter().find(|(own, _)| own == name);
        let (_, transform) = transform.unwrap_or_else(|| panic!("there is no transform '{name}'"));
        transform(&mut program, &target())?;
    }
    for nest in &program.nests {
        loops::verify_nest(nest).map_err(Diagnostic::internal)?;
    }
    Ok(program)
}
