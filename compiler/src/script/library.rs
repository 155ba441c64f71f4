//! PyTorch's own Python functions, as this compiler's TorchScript texts: those of `torch.nn.functional` and their kin.
//!
//! PyTorch compiles such functions when a program calls them, and archives hold what it made of them. So do the texts:
//! they are compiled like a user's functions, on demand, under the names they have in archives. Signatures and graphs are
//! PyTorch's (its `torch/nn/functional.py` and kin, BSD-3-Clause); what only Python runs is left out.

use super::names::{Item, ParsedFile, Program};
use crate::diag::Result;
use crate::source::Source;
use crate::syntax::{Dialect, parse_dialect};
use std::sync::Arc;

/// What the qualified names of everything from Python begin with.
const ROOT: &str = "__torch__.";

/// The function that tells whether a trace is under way.
pub(crate) const IS_TRACING: &str = "__torch__.torch.jit._trace.is_tracing";

/// The texts by the module of Python that they are.
const TEXTS: [(&str, &str); 6] = [
    (
        "torch.nn.functional",
        concat!(
            include_str!("library/nn_functional/activation.py"),
            include_str!("library/nn_functional/normalization.py"),
            include_str!("library/nn_functional/pooling.py"),
            include_str!("library/nn_functional/loss.py"),
            include_str!("library/nn_functional/resampling.py"),
            include_str!("library/nn_functional/attention.py"),
        ),
    ),
    ("torch.functional", include_str!("library/functional.py")),
    ("torch.nn._reduction", include_str!("library/reduction.py")),
    ("torch.nn.init", include_str!("library/init.py")),
    ("torch.autograd.grad_mode", include_str!("library/grad_mode.py")),
    ("torch.jit._trace", include_str!("library/trace.py")),
];

/// Names of `torch` that are Python's, with the module they are written in. All its other functions are operators.
const OF_TORCH: [(&str, &str); 9] = [
    ("no_grad", "torch.autograd.grad_mode"),
    ("enable_grad", "torch.autograd.grad_mode"),
    ("stft", "torch.functional"),
    ("lu", "torch.functional"),
    ("cdist", "torch.functional"),
    ("norm", "torch.functional"),
    ("unique", "torch.functional"),
    ("unique_consecutive", "torch.functional"),
    ("tensordot", "torch.functional"),
];

/// The text of a module, and the module that a name of it is written in.
fn text(module: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let home = OF_TORCH.iter().find(|(own, _)| module == "torch" && *own == name).map_or(module, |(_, home)| home);
    TEXTS.iter().find(|(own, _)| *own == home).copied()
}

/// A text of the library with its lines where its comments `# line 418` say that PyTorch's own stand: those comments become as
/// many empty lines as that takes, so messages name places that people can look up.
fn placed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut number = 1;
    for line in text.lines() {
        if let Some(wanted) = line.trim().strip_prefix("# line ").and_then(|n| n.parse::<usize>().ok()) {
            let n_missing = wanted.saturating_sub(number);
            out.extend(std::iter::repeat_n('\n', n_missing));
            number += n_missing;
        } else {
            out.push_str(line);
            out.push('\n');
            number += 1;
        }
    }
    out
}

/// Whether a path is one of the modules, or a package around one.
pub(crate) fn is_module(path: &str) -> bool {
    TEXTS.iter().any(|(own, _)| own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

impl Program<'_> {
    /// The library's text in which a name of a module of Python is written, if the program has the library.
    pub(crate) fn library_text(&mut self, module: &str, name: &str) -> Result<Option<Arc<ParsedFile>>> {
        let Some((home, text)) = text(module, name).filter(|_| self.has_library) else { return Ok(None) };
        if let Some(known) = self.library.get(home) {
            return Ok(Some(Arc::clone(known)));
        }
        let file = format!("{}.py", home.rsplit('.').next().unwrap_or(home));
        let source = Source { name: file, text: placed(text), origins: Vec::new() };
        let parsed = parse_dialect(&Arc::new(source), Dialect::Python)?;
        let parsed = self.add_parsed_text(ParsedFile::new(Arc::new(parsed), &format!("{ROOT}{home}")));
        self.library.insert(home, Arc::clone(&parsed));
        Ok(Some(parsed))
    }

    /// The library's text that defines a qualified name.
    pub(crate) fn library_text_of(&mut self, module: &str, base: &str) -> Result<Option<Arc<ParsedFile>>> {
        let Some(module) = module.strip_prefix(ROOT) else { return Ok(None) };
        Ok(self.library_text(module, base)?.filter(|parsed| parsed.items.contains_key(base)))
    }

    /// The function or class that a path of Python means, if the library has it.
    pub(crate) fn library_function(&mut self, path: &str) -> Result<Option<Item>> {
        let Some((module, name)) = path.rsplit_once('.') else { return Ok(None) };
        match self.library_text(module, name)? {
            Some(parsed) if parsed.items.contains_key(name) => self.item(&format!("{}.{name}", parsed.module)),
            _ => Ok(None),
        }
    }
}
