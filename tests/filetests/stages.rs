//! What each kind of test does with its input.

use super::{FileTest, Outcome};
use aot::archive::Archive;
use aot::diag::{Diagnostic, Result};
use aot::driver::{self, Timings};
use aot::emit::target::Target;
use aot::ir::{self, Graph, Module};
use aot::loops::{self, Program};
use aot::lower::{ArgSpec, Request};
use aot::passes::{
    constant_pooling, constant_propagation, eliminate_common_subexpressions, eliminate_dead_code, fold_convolutions,
    peephole, remove_dropout,
};
use aot::schedule::{self, ScheduleTarget};
use aot::script::Text;
use aot::source::Source;
use aot::syntax::Dialect;
use aot::types::Object;
use indexmap::IndexMap;
use std::sync::Arc;

fn source(test: &FileTest) -> Arc<Source> {
    let name = test.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Arc::new(Source { name, text: test.input.clone(), origins: Vec::new() })
}

/// The output of the stage that the header names.
pub(super) fn stage(test: &FileTest) -> Outcome {
    let words = &test.header[1..];
    match test.header[0].as_str() {
        "script" => script(test),
        "verify" if words == ["graph"] => verdict(ir::verify(&graph(test)?)),
        "verify" => verdict(loops::verify(&program(test)?)),
        "passes" => passes(test),
        "diag" if words == ["python"] => text(test, Dialect::Python),
        "diag" if words == ["unit"] => text(test, Dialect::Own),
        "lower" | "diag" => lowered(test).map(|program| program.to_string()),
        "loops" => {
            let text = program(test)?.to_string();
            assert_eq!(text.parse::<Program>()?.to_string(), text, "what is printed reads back");
            Ok(text)
        }
        "schedule" => scheduled(test).map(|program| program.to_string()),
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

/// The methods of a class `M` of an archive, compiled to graphs.
pub(super) fn module(test: &FileTest) -> Result<Module> {
    let name = "code/__torch__.py".to_owned();
    // The class takes the place of the header, so that lines keep their numbers.
    let body: String = test.input.lines().skip(1).map(|line| format!("  {line}\n")).collect();
    let text = format!("class M(Module):\n{body}");
    let source = Arc::new(Source { name: name.clone(), text, origins: Vec::new() });
    driver::front_end(&Archive {
        path: "test.pt".into(),
        version: 10,
        root: Arc::new(Object { class: "__torch__.M".into(), attrs: IndexMap::new() }),
        constants: Vec::new(),
        sources: IndexMap::from([(name, source)]),
        traced_inputs: IndexMap::new(),
        extra_files: IndexMap::new(),
    })
}

/// A Python file or what `CompilationUnit` takes, whose last function is compiled.
fn text(test: &FileTest, dialect: Dialect) -> Outcome {
    let text = Text { source: source(test), dialect, module: "__torch__".into() };
    driver::script(&text, None, None).map(|_| String::new())
}

fn script(test: &FileTest) -> Outcome {
    let module = module(test)?;
    let options = ir::PrintOptions { places: false };
    Ok(module.functions.values().map(|function| function.graph.text(options)).collect())
}

fn passes(test: &FileTest) -> Outcome {
    let mut graph = graph(test)?;
    for pass in &test.header[1..] {
        let before = graph.to_string();
        let changed = match pass.as_str() {
            "constant_pooling" => constant_pooling::run(&mut graph),
            "constant_propagation" => constant_propagation::run(&mut graph, constant_propagation::Options::default()),
            "eliminate_common_subexpressions" => eliminate_common_subexpressions::run(&mut graph),
            "eliminate_dead_code" => eliminate_dead_code::run(&mut graph),
            "fold_convolutions" => fold_convolutions::run(&mut graph),
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
