//! Small Python texts in, printed code and diagnostics out.

use super::{Attributes, Machine, Text, compile_text};
use crate::diag::{Diagnostic, Result};
use crate::ir::{self, Module};
use crate::ops::facts::PrinterFacts;
use crate::source::Source;
use crate::syntax::Dialect;
use crate::types::{IValue, Type};
use aot_runtime::random::Generator;
use std::sync::Arc;

fn compile(text: &str, entry: &str, dialect: Dialect) -> Result<Module> {
    let source = Arc::new(Source { name: "test.py".into(), text: text.into(), origins: Vec::new() });
    compile_text(
        &Text { source, dialect, module: "__torch__".into(), imports: None, seed: None },
        Some(entry),
        Attributes::Own,
        NOTHING,
    )
}

const NOTHING: Machine = Machine { evaluate: no_tensors, infer: |_, _| Ok(Type::Any), freeze: |module, _| Ok(module) };

fn no_tensors(_: &Module, _: &[IValue], _: &mut Generator) -> Result<IValue> {
    Err(Diagnostic::unsupported("tensors in these tests"))
}

fn code(text: &str, entry: &str) -> String {
    let module = compile(text, entry, Dialect::Python).unwrap_or_else(|error| panic!("{}", error.render()));
    let function = &module.functions[format!("__torch__.{entry}").as_str()];
    ir::code(function, &PrinterFacts { module: Some(&module) }).text
}

/// The message and the 1-based line of the error.
fn error(text: &str, entry: &str) -> (String, usize) {
    let error = compile(text, entry, Dialect::Python).map(|_| ()).unwrap_err();
    let line = error.span.as_ref().map_or(0, |span| span.line_column().0);
    (error.message.clone(), line)
}

#[test]
fn imported_names_and_type_comments() {
    let text = "import torch.nn.functional as F\nfrom typing import List as L\ndef f(x, n):\n    # type: (Tensor, L[int]) -> Tensor\n    return F.relu(x) + len(n)\n";
    let printed = code(text, "f");
    assert!(printed.starts_with("def f(x: Tensor,\n    n: List[int]) -> Tensor:\n"), "{printed}");
    assert!(printed.contains("__torch__.torch.nn.functional.relu(x, False, )"), "{printed}");
}

#[test]
fn comparisons_chain_in_python_only() {
    let text = "def f(a: int, b: int, c: int) -> bool:\n    return a < b < c\n";
    let printed = code(text, "f");
    assert!(printed.contains("if torch.lt(a, b):"), "{printed}");
    let own = compile("def f(a: int, b: int) -> bool:\n    return a < b\n", "f", Dialect::Own).unwrap();
    assert!(own.functions.contains_key("__torch__.f"));
}

#[test]
fn constructors_declare_attributes() {
    let text = "class P:\n    def __init__(self, x: int):\n        self.x = x\n    def twice(self) -> int:\n        return self.x * 2\ndef f(n: int):\n    return P(n).twice()\n";
    let module = compile(text, "f", Dialect::Python).unwrap();
    assert_eq!(module.classes["__torch__.P"].attrs["x"], crate::types::Type::Int);
    assert_eq!(module.functions["__torch__.f"].result, crate::types::Type::Int);
}

#[test]
fn functions_become_modules() {
    let module = compile("def f(x):\n    return x\n", "f", Dialect::Python).unwrap();
    let forward = module.method(&module.root.class, "forward").unwrap();
    let names: Vec<&str> = forward.params.iter().map(|param| &*param.name).collect();
    assert_eq!(names, ["self", "x"]);
}

#[test]
fn errors_blame_the_line() {
    let (message, line) = error("def f(x):\n    y = x\n    return z\n", "f");
    assert_eq!((message.as_str(), line), ("undefined value z", 3));
    let (message, line) = error("n = 3\ndef f(x):\n    return x + n\n", "f");
    assert!(message.starts_with("python value of type 'int' cannot be used as a value."), "{message}");
    assert_eq!(line, 3);
    let (message, _) = error("def f(x):\n    try:\n        return x\n    except E:\n        return x\n", "f");
    assert_eq!(message, "try blocks aren't supported");
}
