//! The texts that PyTorch printed of a recorded model beside ours: `code`, `graph` and `inlined_graph`.
//!
//! They are recorded from the module in memory, before it was saved. So next to texts that are equal to the last sign, those
//! count that are equal once numbers, shapes, places and the order of constants are set aside, see [`ir::canonical`].

use super::CaseFile;
use super::text::plain;
use crate::diag::{Diagnostic, Result};
use crate::ir::{self, Argument, Function, Graph, Module, PrintOptions, ValueDef};
use crate::ops::facts::PrinterFacts;
use crate::passes::pipeline;
use crate::script;

/// A text that is recorded of models.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TextKind {
    /// The code of the method.
    Code,
    /// Its graph.
    Graph,
    /// Its graph with those of everything it calls.
    InlinedGraph,
    /// The message about a source that is refused: as a whole, or its first line.
    Message,
}

impl TextKind {
    /// Those of models, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Code, Self::Graph, Self::InlinedGraph];

    /// Its key in case files.
    pub fn key(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Graph => "graph",
            Self::InlinedGraph => "inlined_graph",
            Self::Message => "message",
        }
    }
}

/// What the module was compiled from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// An archive.
    Archive,
    /// A text.
    Text,
}

/// How one recorded text compares with ours.
#[derive(Clone, Debug)]
pub struct TextMatch {
    /// Which text.
    pub kind: TextKind,
    /// Whether the two are equal to the last sign.
    pub is_exact: bool,
    /// What differs in the forms that leave out numbers, shapes and places; nothing if these are equal.
    pub difference: Option<String>,
}

/// Compares every recorded text.
pub(super) fn compare(module: Result<&Module>, cases: &CaseFile, origin: Origin) -> Vec<TextMatch> {
    let method = cases.calls.first().map_or("forward", |call| &call.method);
    let each = cases.texts.iter().map(|(kind, want)| {
        let have = module.as_ref().map_err(Clone::clone).and_then(|module| {
            super::caught(|| ours(module, method, origin, *kind, want))
                .unwrap_or_else(|panic| Err(Diagnostic::internal(panic)))
        });
        match have {
            Ok(Ours { text, canonical, want: canonical_want }) => TextMatch {
                kind: *kind,
                is_exact: text.trim_end() == want.trim_end(),
                difference: first_difference(&canonical, &canonical_want),
            },
            Err(error) => TextMatch { kind: *kind, is_exact: false, difference: Some(error.render()) },
        }
    });
    each.collect()
}

/// Our text, its canonical form, and that of the recorded one.
struct Ours {
    text: String,
    canonical: String,
    want: String,
}

fn ours(module: &Module, method: &str, origin: Origin, kind: TextKind, want: &str) -> Result<Ours> {
    let function = recorded_function(module, method, origin, want)
        .ok_or_else(|| Diagnostic::user(format!("there is no method '{method}'")))?;
    let graph = match kind {
        TextKind::Code => {
            let facts = PrinterFacts { module: Some(module) };
            let text = ir::code(&function, &facts).text;
            let form = |text: &str| ir::renumbered(&plain(text, module));
            return Ok(Ours { canonical: form(&text), want: form(want), text });
        }
        TextKind::Graph => function.graph,
        TextKind::InlinedGraph => pipeline::inlined_function(module, &function)?,
        TextKind::Message => return Err(Diagnostic::internal("a message is compared where it is made")),
    };
    let form = |graph: &Graph| plain(&ir::canonical(graph).to_string(), module);
    let recorded: Graph = want.parse()?;
    let text = graph.text(PrintOptions { places: true });
    Ok(Ours { canonical: form(&graph), want: form(&recorded), text })
}

/// The function whose texts are recorded: the method, or what a module that stands for a function wraps.
fn recorded_function(module: &Module, method: &str, origin: Origin, want: &str) -> Option<Function> {
    let of_text = function_of_text(module).filter(|_| origin == Origin::Text);
    let mut function = of_text.or_else(|| module.method(&module.root.class, method))?.clone();
    // A traced function is such a module already in memory.
    let takes_self = want.starts_with("def forward(self") || want.contains(FUNCTION_SELF);
    if *module.root.class == *script::FUNCTION_MODULE && !takes_self {
        without_self(&mut function);
        if let Some(name) = want.strip_prefix("def ").and_then(|rest| rest.split('(').next()) {
            function.name = name.into();
        }
    }
    Some(function)
}

/// The type of the first parameter of a function that became a module.
const FUNCTION_SELF: &str = ": __torch__.PlaceholderModule";

/// The function that a text was compiled for, if it is not a module's method.
pub(super) fn function_of_text(module: &Module) -> Option<&Function> {
    let is_function = *module.root.class == *script::FUNCTION_MODULE;
    let is_method = |function: &&Function| {
        function.name.rsplit_once('.').is_some_and(|(class, _)| module.classes.contains_key(class))
    };
    // The last function that is no method is the entry: it was compiled after all it calls.
    let mut functions = module.functions.values().rev().filter(|function| is_function && !is_method(function));
    functions.find(|function| !function.name.starts_with(script::FUNCTION_MODULE))
}

/// Takes away the module that a saved function got as its first parameter.
fn without_self(function: &mut Function) {
    let graph = &mut function.graph;
    let top = graph.top;
    let is_used = graph.blocks[top].params.first().is_some_and(|value| ir::first_uses(graph).contains_key(value));
    if is_used || !matches!(function.params.first(), Some(Argument { name, .. }) if **name == *"self") {
        return;
    }
    function.params.remove(0);
    graph.blocks[top].params.remove(0);
    for (at, value) in graph.blocks[top].params.clone().into_iter().enumerate() {
        graph.values[value].def = ValueDef::Param(top, at);
    }
}

/// The first lines in which two texts differ.
fn first_difference(have: &str, want: &str) -> Option<String> {
    let (mut ours, mut theirs) = (have.lines(), want.lines());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => {
                let line = |line: Option<&str>| line.unwrap_or("nothing").trim().to_owned();
                return Some(format!("{}\nexpected:\n{}", line(ours), line(theirs)));
            }
        }
    }
}
