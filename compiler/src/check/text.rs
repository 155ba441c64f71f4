//! Sources with what PyTorch made of them: the code it prints, the results of calls, or the error it gives.

use super::diagnosis::{Recorded, diagnosed};
use super::{CaseFile, Checked, Origin, Outcome, Report, calls, caught, outcome_of, texts};
use crate::archive::{self, Bytes};
use crate::diag::{Blame, Diagnostic, Result};
use crate::driver::{self, Backend};
use crate::export;
use crate::ir::{self, Module};
use crate::ops::facts::PrinterFacts;
use crate::script::{self, Text};
use crate::source::Source;
use crate::syntax::Dialect;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The seed that was set before files that run as a whole were recorded.
const RECORDED_SEED: u64 = 3;

/// What the description beside a source says.
struct Facts {
    /// What is compiled; nothing where the text as a whole is.
    entry: Option<String>,
    is_unit: bool,
    is_module: bool,
    /// What the generator was seeded with before the file ran, if it was recorded by running the whole of it.
    seed: Option<u64>,
    raises: bool,
    regex: String,
    message: String,
    code: Option<String>,
    method: String,
}

impl Facts {
    fn read(bytes: &[u8]) -> Result<Self> {
        let json: serde_json::Value = serde_json::from_slice(bytes)
            .map_err(|error| Diagnostic::user(format!("the description of a source cannot be read: {error}")))?;
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        Ok(Self {
            entry: text("entry"),
            is_unit: json["kind"] == "functions",
            is_module: json["kind"] == "module",
            seed: json["file"].is_string().then_some(RECORDED_SEED),
            raises: json["raises"].is_string(),
            regex: text("regex").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            code: text("code"),
            method: text("method").unwrap_or_else(|| "forward".to_owned()),
        })
    }
}

impl Facts {
    /// How many lines stand before the text whose lines PyTorch counts: of a unit, the imports and a blank line.
    fn n_lines_before(&self, text: &str) -> usize {
        if !self.is_unit {
            return 0;
        }
        let (imports, _) = around(text);
        imports.trim_end().lines().count() + 1
    }
}

/// Compiles a source and compares with what is recorded of it.
pub fn text(
    source: Bytes,
    facts: &Bytes,
    recorded: Option<(Bytes, Bytes)>,
    name: &str,
    backend: Option<Backend>,
) -> Checked {
    let one = |call: &str, outcome: Outcome| Checked::of(vec![Report { call: call.to_owned(), outcome }]);
    let facts = match Facts::read(facts.as_ref()) {
        Ok(facts) => facts,
        Err(error) => return one("description", outcome_of(&error)),
    };
    let lines = String::from_utf8_lossy(source.as_ref()).into_owned();
    let (model, io) = recorded.map_or((None, None), |(model, io)| (Some(model), Some(io)));
    let compiled = caught(|| compile(source, &facts, model, name));
    let compiled = compiled.unwrap_or_else(|panic| Err(Diagnostic::internal(panic)));
    if facts.raises {
        let error = compiled.map_or_else(Some, |module| not_saved(&module, name));
        let recorded =
            Recorded { regex: &facts.regex, message: &facts.message, n_lines_before: facts.n_lines_before(&lines) };
        let (outcome, text) = diagnosed(error.as_deref(), &recorded);
        return Checked { texts: vec![text], ..one("diagnostic", outcome) };
    }
    let cases = io.map(|io| archive::load_data(io, name).and_then(|data| CaseFile::read(&data)));
    let module = match compiled {
        Ok(module) => module,
        Err(error) => {
            let texts = match &cases {
                Some(Ok(cases)) => texts::compare(Err(error.clone()), cases, Origin::Text),
                _ => Vec::new(),
            };
            return Checked { texts, ..one("source", outcome_of(&error)) };
        }
    };
    let mut checked = Checked::default();
    if let Some(code) = &facts.code {
        let outcome = printed(&module, &facts.method, code);
        checked.reports.push(Report { call: "code".to_owned(), outcome });
    }
    match cases {
        Some(Ok(cases)) => {
            checked.reports.extend(backend.map_or_else(Vec::new, |backend| calls(&module, &cases, backend)));
            checked.texts = texts::compare(Ok(&module), &cases, Origin::Text);
        }
        Some(Err(error)) => checked.reports.push(Report { call: "calls".to_owned(), outcome: outcome_of(&error) }),
        None => {}
    }
    checked
}

/// What is wrong with a program that compiles but cannot be saved.
fn not_saved(module: &Module, name: &str) -> Option<Box<Diagnostic>> {
    let path = Path::new(name);
    let saved = export::archive(module, path, &script::empty_archive(path));
    saved.err().filter(|error| error.blame == Blame::User)
}

fn compile(source: Bytes, facts: &Facts, model: Option<Bytes>, name: &str) -> Result<Module> {
    let text = std::str::from_utf8(source.as_ref())
        .map_err(|error| Diagnostic::user(format!("{name}: the source is not UTF-8: {error}")))?;
    let source = |text: String| Arc::new(Source { name: name.to_owned(), text, origins: Vec::new() });
    let (imports, text) = if facts.is_unit { around(text) } else { (String::new(), text.to_owned()) };
    let attributes = model.map(|model| archive::from_bytes(model, name)).transpose()?;
    let root = attributes.as_ref().map(|archive| archive.root.class.as_ref());
    let text = Text {
        source: source(text),
        imports: facts.is_unit.then(|| source(imports)),
        dialect: if facts.is_unit { Dialect::Own } else { Dialect::Python },
        module: recorded_module(facts).unwrap_or_else(|| script::module_of(root)),
        seed: facts.seed,
    };
    driver::script(&text, facts.entry.as_deref(), attributes.as_ref().into())
}

/// The module whose function the recorded code calls: how long names are decides where lines break.
fn recorded_module(facts: &Facts) -> Option<Arc<str>> {
    let code = facts.code.as_deref().filter(|_| facts.method == "forward" && !facts.is_module)?;
    let (_, rest) = code.split_once("__torch__.")?;
    let path = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).next()?;
    let (module, _) = path.strip_suffix(".__new__").unwrap_or(path).rsplit_once('.')?;
    (!module.starts_with("torch.")).then(|| format!("__torch__.{module}").into())
}

/// The imports that a text begins with, and the text where these lines are blank, so that lines keep their numbers.
fn around(text: &str) -> (String, String) {
    let is_import = |line: &&str| line.is_empty() || line.starts_with("import ") || line.starts_with("from ");
    let n_imports = text.lines().take_while(is_import).count();
    let rest = text.lines().skip(n_imports).flat_map(|line| [line, "\n"]);
    let imports = text.lines().take(n_imports).flat_map(|line| [line, "\n"]).collect();
    (imports, std::iter::repeat_n("\n", n_imports).chain(rest).collect())
}

fn printed(module: &Module, method: &str, expected: &str) -> Outcome {
    let function = texts::function_of_text(module).or_else(|| module.method(&module.root.class, method));
    let Some(function) = function else { return Outcome::Failed(format!("there is no method '{method}'")) };
    let printed = ir::code(function, &PrinterFacts { module: Some(module) }).text;
    let (have, want) = (plain(&printed, module), plain(expected, module));
    if have == want {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("the code differs:\n{have}\nexpected:\n{want}"))
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Code or a graph with qualified names cut to what does not depend on the file's name and on the order of compilation.
pub(super) fn plain(code: &str, module: &Module) -> String {
    let names: HashSet<&str> = module.functions.keys().chain(module.classes.keys()).map(|name| last(name)).collect();
    let mut out = String::new();
    let mut rest = code.trim_end();
    while let Some(at) = rest.find("__torch__.") {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(after.len());
        let (path, tail) = after.split_at(end);
        let parts: Vec<&str> = path.split('.').filter(|part| !part.starts_with("___torch_mangle_")).collect();
        let is_library = parts.get(1) == Some(&"torch");
        let start = if is_library { None } else { parts.iter().skip(1).position(|part| names.contains(part)) };
        out.push_str("__torch__.");
        out.push_str(&parts.get(start.unwrap_or(0) + 1..).unwrap_or(&[]).join("."));
        rest = tail;
    }
    out.push_str(rest);
    out
}
