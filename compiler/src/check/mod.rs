//! Recorded cases: calls of a model with the results that PyTorch computed, run and compared.

mod cases;
mod compare;
mod diagnosis;
mod text;
mod texts;

pub use cases::{Call, CaseFile, Expected, value, values};
pub use compare::{Tolerance, difference};
pub use text::text;
pub use texts::{Origin, TextKind, TextMatch};

use crate::archive::{self, Bytes};
use crate::diag::{Blame, Diagnostic, Result};
use crate::driver::{self, Backend, Timings};
use crate::exec::Executable;
use crate::ir::Module;
use crate::lower::Request;
use crate::types::IValue;
use aot_runtime::Value;
use aot_runtime::log::{Level, Sink};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

/// How one call went.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The result is PyTorch's.
    Passed,
    /// It is not, or the call failed; why.
    Failed(String),
    /// The model needs something that cannot be compiled yet; what.
    Unsupported(String),
}

/// The result of one recorded call.
#[derive(Clone, Debug)]
pub struct Report {
    /// `case 0 forward`, `sequence 1 call 2 forward`.
    pub call: String,
    /// How it went.
    pub outcome: Outcome,
}

/// What came of one recorded model or source.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Every call, and whatever else must hold.
    pub reports: Vec<Report>,
    /// The recorded texts beside ours.
    pub texts: Vec<TextMatch>,
}

impl Checked {
    fn of(reports: Vec<Report>) -> Self {
        Self { reports, texts: Vec::new() }
    }
}

/// An archive that must load, or that must be refused by the reader or the front end.
pub fn archive(bytes: Bytes, name: &str, must_load: bool) -> Report {
    let result = caught(|| archive::from_bytes(bytes, name).and_then(|archive| driver::front_end(&archive)));
    let outcome = match (result, must_load) {
        (Ok(Ok(_)), true) => Outcome::Passed,
        (Ok(Ok(_)), false) => Outcome::Failed("it loads, though it must be refused".to_owned()),
        (Ok(Err(error)), true) => outcome_of(&error),
        (Ok(Err(error)), false) if error.blame == Blame::Internal => outcome_of(&error),
        (Ok(Err(_)), false) => Outcome::Passed,
        (Err(panic), _) => Outcome::Failed(panic),
    };
    Report { call: if must_load { "must load" } else { "must be refused" }.to_owned(), outcome }
}

/// Runs something that must not take other cases down with it.
fn caught<T>(run: impl FnOnce() -> T) -> std::result::Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        format!("internal error: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown"))
    })
}

/// Runs every call of a model's case file, and compares the texts recorded of it; the texts only if there is no backend.
pub fn run(model: Bytes, io: Bytes, name: &str, backend: Option<Backend>) -> Checked {
    let cases = match archive::load_data(io, name).and_then(|data| CaseFile::read(&data)) {
        Ok(cases) => cases,
        Err(error) => {
            let outcome = Outcome::Failed(format!("the case file cannot be read: {}", error.render()));
            return Checked::of(vec![Report { call: "load".to_owned(), outcome }]);
        }
    };
    let module = caught(|| archive::from_bytes(model, name).and_then(|archive| driver::front_end(&archive)));
    let module = match module.unwrap_or_else(|panic| Err(Diagnostic::internal(panic))) {
        Ok(module) => module,
        Err(error) => {
            let reports = cases.labels().map(|call| Report { call, outcome: outcome_of(&error) }).collect();
            return Checked { reports, texts: texts::compare(Err(error), &cases, Origin::Archive) };
        }
    };
    let texts = texts::compare(Ok(&module), &cases, Origin::Archive);
    let reports = backend.map_or_else(Vec::new, |backend| calls(&module, &cases, backend));
    Checked { reports, texts }
}

/// Runs the recorded calls on a compiled module.
fn calls(module: &Module, cases: &CaseFile, backend: Backend) -> Vec<Report> {
    let mut runner = Runner { module, backend, models: HashMap::new() };
    let mut reports = Vec::new();
    for (i, call) in cases.calls.iter().enumerate() {
        let label = format!("case {i} {}", call.method);
        let outcome = runner.sequence(std::slice::from_ref(call), cases).pop();
        reports.push(Report { call: label, outcome: outcome.expect("one call gives one outcome") });
    }
    for (i, calls) in cases.sequences.iter().enumerate() {
        for (j, outcome) in runner.sequence(calls, cases).into_iter().enumerate() {
            reports.push(Report { call: format!("sequence {i} call {j} {}", calls[j].method), outcome });
        }
    }
    reports
}

fn outcome_of(error: &Diagnostic) -> Outcome {
    match error.blame {
        Blame::Unsupported => Outcome::Unsupported(error.render()),
        Blame::User | Blame::Internal => Outcome::Failed(error.render()),
    }
}

struct Runner<'m> {
    module: &'m Module,
    backend: Backend,
    /// Models by what they were compiled for.
    models: HashMap<String, std::result::Result<Executable, Box<Diagnostic>>>,
}

impl Runner<'_> {
    /// Runs calls in a row on one fresh instance.
    fn sequence(&mut self, calls: &[Call], file: &CaseFile) -> Vec<Outcome> {
        let outcomes = caught(|| self.run_sequence(calls, file));
        outcomes.unwrap_or_else(|panic| calls.iter().map(|_| Outcome::Failed(panic.clone())).collect())
    }

    fn run_sequence(&mut self, calls: &[Call], file: &CaseFile) -> Vec<Outcome> {
        let prepared: Result<Vec<Vec<Value>>> = calls.iter().map(|call| self.arguments(call)).collect();
        // What PyTorch raises on may be refused before it runs already.
        let refused = |error: &Diagnostic| {
            let outcome = |call: &Call| match (&call.expected, error.blame) {
                (Expected::Raises(_), Blame::User) => Outcome::Passed,
                _ => outcome_of(error),
            };
            calls.iter().map(outcome).collect()
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return refused(&error),
        };
        let model = match self.model(calls, &prepared) {
            Ok(model) => model,
            Err(error) => return refused(&error),
        };
        let mut instance = match model.instance() {
            Ok(instance) => instance,
            Err(error) => return calls.iter().map(|_| Outcome::Failed(error.to_string())).collect(),
        };
        let mut outcomes = Vec::new();
        for (call, args) in calls.iter().zip(&prepared) {
            if let Some(seed) = call.seed {
                instance.manual_seed(seed);
            }
            let result = instance.call(&call.method, args);
            outcomes.push(call.judge(result, args, file));
        }
        outcomes
    }

    fn model(&mut self, calls: &[Call], prepared: &[Vec<Value>]) -> Result<&Executable> {
        let mut requests: Vec<Request> = Vec::new();
        for (call, args) in calls.iter().zip(prepared) {
            let ints = prepared.iter().zip(calls).filter(|(_, c)| c.method == call.method).map(|(values, _)| values);
            let likely = ints.flat_map(|values| {
                let value = |(i, v): (usize, &Value)| if let Value::Int(n) = v { Some((i, *n)) } else { None };
                values.iter().enumerate().filter_map(value)
            });
            let request = Request { likely: likely.collect(), ..Request::of_values(&call.method, args)? };
            if !requests.iter().any(|known| known.is_like(&request)) {
                requests.push(request);
            }
        }
        let (module, backend) = (self.module, self.backend);
        let build = || {
            let mut timings = Timings::default();
            let program = driver::lower(module, &requests, &mut timings)?;
            let executable = driver::load(program, backend, &mut timings)?;
            // The standard output is for what the check finds.
            let print = |_: Level, text: &str| drop(writeln!(std::io::stderr(), "{text}"));
            executable.set_sink(Sink::Printer(Arc::new(print)));
            Ok(executable)
        };
        let key = format!("{requests:?}");
        self.models.entry(key).or_insert_with(build).as_ref().map_err(Clone::clone)
    }

    /// The arguments of a call by position: keywords and defaults in their places.
    fn arguments(&self, call: &Call) -> Result<Vec<Value>> {
        let class = &self.module.root.class;
        let method = self.module.method(class, &call.method);
        let method = method.ok_or_else(|| Diagnostic::user(format!("the module has no method '{}'", call.method)))?;
        let mut args: Vec<&IValue> = call.inputs.iter().collect();
        let last = method.params.iter().skip(1).rposition(|p| call.kwargs.iter().any(|(name, _)| *name == *p.name));
        for (i, param) in method.params.iter().skip(1).enumerate().skip(args.len()) {
            if last.is_none_or(|last| i > last) {
                break;
            }
            let given = call.kwargs.iter().find(|(name, _)| *name == *param.name).map(|(_, v)| v);
            let value = given.or(param.default.as_ref());
            let value = value.ok_or_else(|| {
                Diagnostic::user(format!("{}() is missing value for argument '{}'", call.method, param.name))
            })?;
            args.push(value);
        }
        cases::values(args)
    }
}
