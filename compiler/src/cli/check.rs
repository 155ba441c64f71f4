//! `aot check`: recorded cases through a backend.

use super::options::BackendArg;
use super::{Exit, Output};
use crate::archive::{Bytes, Container};
use crate::check::{self, Checked, Origin, Outcome, Report, TextKind, TextMatch};
use crate::diag::{Diagnostic, Result};
use clap::Args;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Arguments of `aot check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  aot check cases/\n  aot check models.zip --backend cranelift --only resnet\n\nA NAME.src.py with a NAME.json beside it is compiled from text: the code printed, the results of the calls recorded for NAME.pt, and the diagnostics of what must be refused are compared.\nThe texts recorded of a model (code, graph, inlined_graph), and of a source that is refused the message, are compared with ours; how many agree, to the last sign and but for numbers of values, shapes and places (of messages: in the first line), stands above the last line and, in --json, under texts.\nA folder or zip with an archives.jsonl says of each file in it whether it must load or be refused; these are cases, too."
)]
pub(super) struct CheckArgs {
    /// Models with a NAME.io.pt beside them; folders and zips of such pairs.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Who runs the models.
    #[arg(long, value_enum, default_value = "llvm")]
    backend: BackendArg,
    /// Only models whose name contains this.
    #[arg(long)]
    only: Vec<String>,
    /// Run nothing: compare only the texts that are recorded.
    #[arg(long)]
    texts: bool,
    /// Print results as JSON.
    #[arg(long)]
    json: bool,
    /// Print a line for calls that passed, too.
    #[arg(long, short)]
    verbose: bool,
}

/// One thing to check.
enum Item {
    /// A model with its recorded calls.
    Pair(Bytes, Bytes),
    /// A file that must load, or must be refused.
    Archive(Bytes, bool),
    /// A source, what is expected of it, and the archive that PyTorch made from it with its recorded calls.
    Text(Bytes, Bytes, Option<(Bytes, Bytes)>),
}

/// The outcomes so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    unsupported: usize,
    json: Vec<serde_json::Value>,
    texts: BTreeMap<(Origin, TextKind), Matches>,
    differences: Vec<serde_json::Value>,
}

/// How many texts of a kind are recorded and agree.
#[derive(Clone, Copy, Default)]
struct Matches {
    recorded: usize,
    exact: usize,
    renumbered: usize,
}

pub(super) fn run(args: &CheckArgs, output: &mut Output<'_>) -> Result<Exit> {
    let mut tally = Tally::default();
    let backend = (!args.texts).then(|| args.backend.into());
    for path in &args.paths {
        let source = Source::open(path)?;
        let items = source.items(&args.only)?;
        let n_items = items.len();
        for (i, (name, item)) in items.into_iter().enumerate() {
            if output.is_terminal {
                let _ = write!(output.err, "\r\x1b[K[{}/{n_items}] {name}", i + 1);
            }
            let (origin, checked) = match item()? {
                Item::Pair(model, io) => (Origin::Archive, check::run(model, io, &name, backend)),
                Item::Text(source, facts, recorded) => {
                    (Origin::Text, check::text(source, &facts, recorded, &name, backend))
                }
                Item::Archive(bytes, must_load) => {
                    let reports = vec![check::archive(bytes, &name, must_load)];
                    (Origin::Archive, Checked { reports, texts: Vec::new() })
                }
            };
            if output.is_terminal {
                let _ = write!(output.err, "\r\x1b[K");
            }
            for report in &checked.reports {
                tell(&name, report, args, &mut tally, output);
            }
            for text in &checked.texts {
                count_text(&name, origin, text, args, &mut tally, output);
            }
        }
    }
    let Tally { passed, failed, unsupported, json, texts, differences } = tally;
    if args.json {
        let counts = |origin: Origin| -> serde_json::Map<String, serde_json::Value> {
            let of = texts.iter().filter(|((from, _), _)| *from == origin);
            of.map(|((_, kind), &Matches { recorded, exact, renumbered })| {
                let counts = serde_json::json!({"recorded": recorded, "exact": exact, "renumbered": renumbered});
                (kind.key().to_owned(), counts)
            })
            .collect()
        };
        let summary = serde_json::json!({
            "calls": json, "passed": passed, "failed": failed, "unsupported": unsupported,
            "texts": {"archives": counts(Origin::Archive), "sources": counts(Origin::Text)},
            "text_differences": differences,
        });
        let _ = writeln!(output.out, "{summary:#}");
    } else {
        for ((origin, kind), matches) in &texts {
            let _ = writeln!(output.out, "{}", matches.line(*origin, *kind));
        }
        let _ = writeln!(output.out, "{passed} passed, {failed} failed, {unsupported} unsupported");
    }
    Ok(if failed > 0 { Exit::Mismatch } else { Exit::Success })
}

impl Matches {
    /// `code of archives: 9 of 10 recorded texts equal (90.0 %), 10 renumbered (100.0 %)`.
    fn line(&self, origin: Origin, kind: TextKind) -> String {
        let of = match origin {
            Origin::Archive => "archives",
            Origin::Text => "sources",
        };
        #[allow(clippy::cast_precision_loss, reason = "a share in percent")]
        let share = |n: usize| n as f64 / self.recorded.max(1) as f64 * 100.0;
        format!(
            "{} of {of}: {} of {} recorded texts equal ({:.1} %), {} renumbered ({:.1} %)",
            kind.key(),
            self.exact,
            self.recorded,
            share(self.exact),
            self.renumbered,
            share(self.renumbered),
        )
    }
}

fn count_text(
    name: &str,
    origin: Origin,
    text: &TextMatch,
    args: &CheckArgs,
    tally: &mut Tally,
    output: &mut Output<'_>,
) {
    let matches = tally.texts.entry((origin, text.kind)).or_default();
    matches.recorded += 1;
    matches.exact += usize::from(text.is_exact);
    matches.renumbered += usize::from(text.difference.is_none());
    let Some(difference) = &text.difference else { return };
    if args.json {
        let difference = difference.trim_end();
        tally.differences.push(serde_json::json!({"model": name, "text": text.kind.key(), "difference": difference}));
    } else if args.verbose {
        let difference = difference.trim_end().replace('\n', "\n    ");
        let _ = writeln!(output.out, "differs: {name} {}\n    {difference}", text.kind.key());
    }
}

fn tell(name: &str, report: &Report, args: &CheckArgs, tally: &mut Tally, output: &mut Output<'_>) {
    let (word, text, count) = match &report.outcome {
        Outcome::Passed => ("passed", "", &mut tally.passed),
        Outcome::Failed(text) => ("failed", text.as_str(), &mut tally.failed),
        Outcome::Unsupported(text) => ("unsupported", text.as_str(), &mut tally.unsupported),
    };
    *count += 1;
    if args.json {
        tally.json.push(serde_json::json!({
            "model": name, "call": report.call, "outcome": word, "message": text.trim_end(),
        }));
    } else if args.verbose || word != "passed" {
        let text = text.trim_end().replace('\n', "\n    ");
        let gap = if text.is_empty() { "" } else { "\n    " };
        let _ = writeln!(output.out, "{word}: {name} {}{gap}{text}", report.call);
    }
}

/// Where cases come from.
enum Source {
    /// The files of a folder.
    Folder(PathBuf, Vec<String>),
    /// The members of a zip.
    Zip(Container),
    /// One model.
    Model(PathBuf),
}

/// Reads an item when its turn comes.
type Read<'a> = Box<dyn FnOnce() -> Result<Item> + 'a>;

impl Source {
    fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| cannot_read(path, &e))?;
            let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
            return Ok(Self::Folder(path.to_owned(), names.collect()));
        }
        if path.extension().is_some_and(|e| e == "zip") {
            return Ok(Self::Zip(Container::open(path)?));
        }
        Ok(Self::Model(path.to_owned()))
    }

    fn names(&self) -> Vec<String> {
        let mut names = match self {
            Self::Folder(_, names) => names.clone(),
            Self::Zip(zip) => zip.names().map(str::to_owned).collect(),
            Self::Model(path) => [Some(path.clone()), Some(path.with_extension("io.pt")).filter(|io| io.exists())]
                .into_iter()
                .filter_map(|path| Some(path?.file_name()?.to_str()?.to_owned()))
                .collect(),
        };
        names.sort();
        names
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        let path = match self {
            Self::Zip(zip) => return zip.get(name),
            Self::Folder(folder, _) => folder.join(name),
            Self::Model(path) => path.with_file_name(name),
        };
        std::fs::read(&path).map(Bytes::new).map_err(|e| cannot_read(&path, &e))
    }

    /// Every item, in order of the names.
    fn items<'a>(&'a self, only: &[String]) -> Result<Vec<(String, Read<'a>)>> {
        let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
        let names = self.names();
        let verdicts = match self {
            Self::Folder(..) | Self::Zip(_) if names.iter().any(|name| name == LIST) => verdicts(self.get(LIST)?)?,
            _ => HashMap::new(),
        };
        let mut items: Vec<(String, Read<'a>)> = Vec::new();
        for name in &names {
            if let Some(&must_load) = verdicts.get(name).filter(|_| wanted(name)) {
                let file = name.clone();
                items.push((name.clone(), Box::new(move || Ok(Item::Archive(self.get(&file)?, must_load)))));
            }
            if let Some(stem) = name.strip_suffix(".src.py").filter(|_| wanted(name)) {
                let (source, facts) = (name.clone(), format!("{stem}.json"));
                if names.binary_search(&facts).is_ok() {
                    let (model, io) = (format!("{stem}.pt"), format!("{stem}.io.pt"));
                    let has_calls = names.binary_search(&model).is_ok() && names.binary_search(&io).is_ok();
                    let read = move || {
                        let calls = if has_calls { Some((self.get(&model)?, self.get(&io)?)) } else { None };
                        Ok(Item::Text(self.get(&source)?, self.get(&facts)?, calls))
                    };
                    items.push((name.clone(), Box::new(read)));
                }
            }
            let Some(stem) = stem(name).filter(|stem| wanted(stem)) else { continue };
            let io = format!("{stem}.io.pt");
            if names.binary_search(&io).is_ok() {
                let file = name.clone();
                let read = move || Ok(Item::Pair(self.get(&file)?, self.get(&io)?));
                items.push((stem.to_owned(), Box::new(read)));
            }
        }
        if let (Self::Model(path), true) = (self, items.is_empty()) {
            if !path.exists() {
                return Err(Diagnostic::user(format!("cannot read {}: there is no such file", path.display())));
            }
            return Err(Diagnostic::user(format!("{} has no recorded cases", path.display()))
                .help(format!("cases are expected in {}", path.with_extension("io.pt").display())));
        }
        Ok(items)
    }
}

/// What says which archives must load: a line of JSON each, `{"file": "x.pt", "must": "load"}`.
const LIST: &str = "archives.jsonl";

fn verdicts(list: Bytes) -> Result<HashMap<String, bool>> {
    let wrong = |what: String| Diagnostic::user(format!("{LIST}: {what}"));
    let text = std::str::from_utf8(list.as_ref()).map_err(|e| wrong(e.to_string()))?;
    let mut verdicts = HashMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(format!("line {}: {e}", i + 1)))?;
        let must_load = match line["must"].as_str() {
            Some("load") => true,
            Some("reject") => false,
            _ => return Err(wrong(format!("line {}: 'must' is neither load nor reject", i + 1))),
        };
        let file = line["file"].as_str().ok_or_else(|| wrong(format!("line {}: no file", i + 1)))?;
        verdicts.insert(file.to_owned(), must_load);
    }
    Ok(verdicts)
}

/// The name of a model file without its suffix; `None` for other files.
fn stem(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".pt").or_else(|| name.strip_suffix(".ptl"))?;
    (!stem.ends_with(".io")).then_some(stem)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Box<Diagnostic> {
    Diagnostic::user(format!("cannot read {}: {error}", path.display()))
}
