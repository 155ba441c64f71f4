//! The front end over the corpus: every archive that must load compiles to graphs that the verifier accepts.

use aot::archive::{self, Container};
use aot::diag::Blame;
use aot::driver::{self, Backend};
use aot::script::{Attributes, Text};
use aot::source::Source;
use aot::syntax::Dialect;
use aot::{Module, ir, script};
use aot_runtime::{Tensor, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time that one archive may take.
const LIMIT: Duration = Duration::from_secs(20);

fn corpus(name: &str) -> Container {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    Container::open(&path).expect("the corpus is a zip")
}

/// Reads and compiles an archive of the corpus; the error is rendered.
fn compile(container: &Container, file: &str) -> Result<ir::Module, (Blame, String)> {
    let bytes = container.get(file).expect("the member reads");
    let compiled = archive::from_bytes(bytes, file).and_then(|archive| script::compile(&archive));
    compiled.map_err(|e| (e.blame, e.render()))
}

/// What is wrong with the text of a graph: it must read back to a graph of the same text.
fn read_back(graph: &ir::Graph) -> Option<String> {
    for places in [false, true] {
        let text = graph.text(ir::PrintOptions { places });
        match text.parse::<ir::Graph>() {
            Ok(read) if read.to_string() == graph.to_string() => {}
            Ok(read) => return Some(super::filetests::difference_excerpt(&graph.to_string(), &read.to_string())),
            Err(error) => return Some(error.render()),
        }
    }
    None
}

fn all_compile(zip: &str) {
    let cases = corpus(zip);
    let (mut faults, mut n_cases) = (Vec::new(), 0);
    for file in cases.names().filter(|name| name.ends_with(".pt") && !name.ends_with(".io.pt")) {
        n_cases += 1;
        match compile(&cases, file) {
            Ok(module) => {
                for function in module.functions.values() {
                    if let Err(e) = ir::verify(&function.graph) {
                        faults.push(format!("{file}: {}: {e}", function.name));
                    }
                    faults.extend(read_back(&function.graph).map(|e| format!("{file}: {}: {e}", function.name)));
                }
            }
            Err((_, text)) => faults.push(format!("{file}: {text}")),
        }
    }
    assert!(n_cases > 5, "only {n_cases} archives found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn small_models_compile() {
    all_compile("models_small.zip");
}

#[test]
fn real_models_compile() {
    all_compile("real.zip");
}

#[test]
fn odd_code_is_accepted_or_refused() {
    let cases = corpus("archives.zip");
    let lines = cases.get("archives.jsonl").expect("the list of cases");
    let lines = std::str::from_utf8(lines.as_ref()).expect("the list is text");
    let (mut faults, mut n_cases) = (Vec::new(), 0);
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_str(line).expect("one JSON value a line");
        let file = line["file"].as_str().expect("a file name");
        let must_load = line["must"] == "load";
        if !cases.contains(file) || !(must_load || file.starts_with("h_code_")) {
            continue;
        }
        n_cases += 1;
        let start = Instant::now();
        match (compile(&cases, file), must_load) {
            (Ok(_), true) => {}
            (Ok(_), false) => faults.push(format!("{file}: compiles, though: {}", line["why"])),
            (Err((Blame::Internal, text)), _) | (Err((_, text)), true) => faults.push(format!("{file}: {text}")),
            (Err(_), false) => {}
        }
        if start.elapsed() > LIMIT {
            faults.push(format!("{file}: took {:?}", start.elapsed()));
        }
    }
    assert!(n_cases > 20, "only {n_cases} cases found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_traced_module_of_a_python_file_is_called_from_rust() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let path = folder.path().join("net.py");
    let text = "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        \
                self.scale = torch.nn.Parameter(torch.full((2,), 3.0))\n\n    def forward(self, x):\n        for i in \
                range(2):\n            x = x * self.scale + i\n        return x.view(x.size(0) * 2)\n\n\ntraced = \
                torch.jit.trace(Net(), torch.rand(3, 2))\n";
    std::fs::write(&path, text).expect("the folder can be written to");
    let module = aot::Module::of_source(&path, &aot::driver::TextOptions::default(), aot::Backend::Cranelift);
    let module = module.unwrap_or_else(|error| panic!("{}", error.render()));
    let result = module.forward(&[&ndarray::arr2(&[[1.0_f32, 2.0]])]).expect("the call succeeds");
    let result = aot::to_array::<f32>(&result).expect("the result is a tensor");
    assert_eq!(result.into_raw_vec_and_offset().0, [10.0, 19.0]);
}

/// Sizes, strides and offset of a view.
type View = (&'static [i64], &'static [i64], i64);
/// Two views of six numbers as Python writes them, the first result, and the numbers afterwards.
type Shared = (&'static str, [View; 2], &'static [f32], [f32; 6]);

/// Writes through one name show in the others as in PyTorch, which gave these results; `v` is 1, 2, ... 6.
#[test]
fn arguments_may_share_the_memory_that_a_method_writes_to() {
    let text = "def forward(a: Tensor, b: Tensor) -> Tuple[Tensor, Tensor]:\n  first = a + 1\n  b.mul_(2)\n  seen = \
                a.contiguous()\n  b.add_(first)\n  for i in range(a.size(0)):\n    a[i] += b[0].clone()\n  return first + seen, \
                a.clone()\n";
    let cases: [Shared; 5] = [
        (
            "v, v",
            [(&[6], &[1], 0), (&[6], &[1], 0)],
            &[10.0, 18.0, 22.0, 26.0, 30.0, 34.0],
            [8.0, 15.0, 18.0, 21.0, 24.0, 27.0],
        ),
        (
            "v[:4], v[2:]",
            [(&[4], &[1], 0), (&[4], &[1], 2)],
            &[11.0, 13.0, 20.0, 32.0],
            [9.0, 10.0, 16.0, 27.0, 14.0, 17.0],
        ),
        ("v[::2], v[1:4]", [(&[3], &[2], 0), (&[3], &[1], 1)], &[3.0, 10.0, 11.0], [7.0, 6.0, 16.0, 14.0, 11.0, 6.0]),
        (
            "m, m.t() of v.view(2, 3)[:, :2]",
            [(&[2, 2], &[3, 1], 0), (&[2, 2], &[1, 3], 0)],
            &[4.0, 7.0, 13.0, 16.0],
            [8.0, 20.0, 3.0, 19.0, 27.0, 6.0],
        ),
        ("v[:3], v[3:]", [(&[3], &[1], 0), (&[3], &[1], 3)], &[13.0, 15.0, 17.0], [11.0, 12.0, 13.0, 10.0, 13.0, 16.0]),
    ];
    for backend in [Backend::Reference, Backend::Cranelift, Backend::Llvm] {
        let source = Arc::new(Source { name: "shared.py".into(), text: text.to_owned(), origins: Vec::new() });
        let text = Text { source, dialect: Dialect::Own, module: "__torch__".into(), imports: None, seed: None };
        let module = Module::of_ir(driver::script(&text, None, Attributes::Own).expect("it compiles"), backend);
        let method = module.method("forward").expect("it has one");
        for (name, views, first, after) in &cases {
            let v = Tensor::from_f32(&[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("the sizes fit");
            let view = |(sizes, strides, offset): &View| {
                Value::Tensor(v.reinterpret(v.dtype, sizes, strides, *offset).expect("the view lies in v"))
            };
            let result = method.call_values(&[view(&views[0]), view(&views[1])]);
            let Ok(Value::Tuple(results)) = result else { panic!("{name}: {result:?}") };
            let found = aot::to_array::<f32>(&results[0]).expect("the result is a tensor");
            assert_eq!(found.into_raw_vec_and_offset().0, *first, "{name} with {backend:?}");
            let found = aot::to_array::<f32>(&Value::Tensor(v)).expect("it is a tensor");
            assert_eq!(found.into_raw_vec_and_offset().0, *after, "what v is after {name} with {backend:?}");
        }
    }
}

#[test]
fn arguments_that_share_memory_unannounced_are_refused_where_one_is_written() {
    let text = "def forward(a: Tensor, b: Tensor) -> Tensor:\n  b.add_(3)\n  return a + b\n".to_owned();
    let source = Arc::new(Source { name: "shared.py".into(), text, origins: Vec::new() });
    let text = Text { source, dialect: Dialect::Own, module: "__torch__".into(), imports: None, seed: None };
    let module = Module::of_ir(driver::script(&text, None, Attributes::Own).expect("it compiles"), Backend::Cranelift);
    let both = Tensor::from_f32(&[2], &[1.0, 2.0]).expect("the sizes fit");
    let method = module.method("forward").expect("it has one");
    let signature = aot::lower::ArgSpec::parse("f32[2]").expect("a signature");
    let executable = method.compile_for(vec![signature.clone(), signature]).expect("it compiles");
    let result = executable.call("forward", &[Value::Tensor(both.clone()), Value::Tensor(both)]);
    let error = result.expect_err("their memory is shared").to_string();
    assert!(error.contains("arguments 'b' and 'a' share memory, and the method writes to 'b'"), "{error}");
}
