//! The functions of `torch.nn.functional` that user code calls, as this compiler's own TorchScript text.
//!
//! They are compiled like a user's functions, on demand, under the names they have in archives.

use super::names::Program;
use crate::source::Source;
use crate::syntax::Dialect;
use std::sync::Arc;

/// The module these functions are part of.
pub(crate) const MODULE: &str = "__torch__.torch.nn.functional";

/// Where this text is kept, behind an archive's file of the same module.
pub(crate) const FALLBACK: &str = "__torch__.torch.nn.functional.";

/// The text, in the Python subset.
const TEXT: &str = include_str!("library.py");

/// Where functions about tracing are.
const TRACE: &str = "__torch__.torch.jit._trace";

/// The function that tells whether a trace is under way.
pub(crate) const IS_TRACING: &str = "__torch__.torch.jit._trace.is_tracing";

/// Its text.
const TRACE_TEXT: &str = "def is_tracing():\n    return False\n";

/// Where the contexts are in which gradients are or are not recorded; here they never are.
const GRAD_MODE: &str = "__torch__.torch.autograd.grad_mode";

/// Their text.
const GRAD_MODE_TEXT: &str = include_str!("grad_mode.py");

/// Where functions of `torch` are that are Python's.
const FUNCTIONAL: &str = "__torch__.torch.functional";

/// Their text.
const FUNCTIONAL_TEXT: &str = include_str!("functional.py");

/// The qualified name of a class or function of `torch` that the texts have.
pub(crate) fn of_torch(name: &str) -> String {
    let module = if name.ends_with("_grad") { GRAD_MODE } else { FUNCTIONAL };
    format!("{module}.{name}")
}

/// Makes the functions known to texts.
pub(crate) fn add_to(program: &mut Program<'_>) {
    let source = Source { name: "functional.py".into(), text: TEXT.into(), origins: Vec::new() };
    program.add_text(FALLBACK, Arc::new(source), Dialect::Python, None);
    for (module, name, text) in [
        (TRACE, "_trace.py", TRACE_TEXT),
        (GRAD_MODE, "grad_mode.py", GRAD_MODE_TEXT),
        (FUNCTIONAL, "functional.py", FUNCTIONAL_TEXT),
    ] {
        let source = Source { name: name.into(), text: text.into(), origins: Vec::new() };
        program.add_text(module, Arc::new(source), Dialect::Python, None);
    }
}
