//! What a debugger knows of source lines: their texts, where a call can stop, and which functions they belong to.

use crate::ir::Module;
use crate::lower::places;
use std::collections::{BTreeMap, BTreeSet};

/// File and 1-based line.
pub(super) type Place = (String, usize);

/// The lines of all sources that a model's graphs know.
#[derive(Default)]
pub(super) struct Lines {
    texts: BTreeMap<Place, String>,
    /// Lines that compute something.
    stops: BTreeSet<Place>,
    functions: Vec<FunctionLines>,
}

struct FunctionLines {
    name: String,
    file: String,
    first: usize,
    last: usize,
}

impl Lines {
    pub(super) fn of(module: &Module) -> Self {
        let mut lines = Self::default();
        for function in module.functions.values() {
            let mut own: BTreeSet<Place> = BTreeSet::new();
            for (span, computes) in places(&function.graph).chain(function.span.iter().map(|span| (span, false))) {
                let (file, line, _) = span.file_line_column();
                own.insert((file.to_owned(), line));
                if computes {
                    lines.stops.insert((file.to_owned(), line));
                }
                let (text, first) = match span.origin() {
                    Some(origin) => (&*origin.excerpt, line),
                    None => (&*span.source.text, 1),
                };
                if first == 1 && lines.texts.contains_key(&(file.to_owned(), 1)) {
                    continue;
                }
                for (at, text) in text.lines().enumerate() {
                    lines.texts.entry((file.to_owned(), first + at)).or_insert_with(|| text.trim_end().to_owned());
                }
            }
            // Of archived functions some nodes have places of the original, others of the archive.
            while let Some((file, first)) = own.pop_first() {
                let name = function.name.to_string();
                match lines.functions.last_mut().filter(|known| known.name == name && known.file == file) {
                    Some(known) => known.last = first,
                    None => lines.functions.push(FunctionLines { name, file, first, last: first }),
                }
            }
        }
        lines
    }

    /// The lines of a file within a range, with their texts.
    pub(super) fn texts(
        &self,
        file: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> impl Iterator<Item = (usize, &str)> {
        let range = (file.to_owned(), *range.start())..=(file.to_owned(), *range.end());
        self.texts.range(range).map(|((_, line), text)| (*line, text.as_str()))
    }

    /// The lines of the function around a line, or of the whole file.
    pub(super) fn around(&self, file: &str, line: usize) -> std::ops::RangeInclusive<usize> {
        self.function_at(file, line).map_or(1..=usize::MAX, |function| function.first..=function.last)
    }

    fn function_at(&self, file: &str, line: usize) -> Option<&FunctionLines> {
        let around = self.functions.iter().filter(|f| f.file == file && (f.first..=f.last).contains(&line));
        around.min_by_key(|function| function.last - function.first)
    }

    /// Where a call stops for a line of a file whose name ends so: there, or else at the next line of the function that computes
    /// something.
    pub(super) fn stop_at(&self, file: Option<&str>, line: usize) -> Option<Place> {
        let is_meant = |known: &str| file.is_none_or(|file| is_file(known, file));
        if let Some(exact) = self.stops.iter().find(|(known, at)| *at == line && is_meant(known)) {
            return Some(exact.clone());
        }
        let files: BTreeSet<&str> = self.functions.iter().map(|function| function.file.as_str()).collect();
        files.into_iter().filter(|known| is_meant(known)).find_map(|known| {
            let last = self.function_at(known, line)?.last;
            self.stops.range((known.to_owned(), line)..=(known.to_owned(), last)).next().cloned()
        })
    }

    /// Where a call first stops in the function of this name; methods may be given with or without their class.
    pub(super) fn start_of(&self, name: &str) -> Option<Place> {
        let is_it = |known: &str| known == name || known.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let function = self.functions.iter().find(|function| is_it(&function.name))?;
        let range = (function.file.clone(), function.first)..=(function.file.clone(), function.last);
        self.stops.range(range).next().cloned()
    }
}

/// Whether a file is meant by a name, which may leave out folders.
pub(super) fn is_file(known: &str, name: &str) -> bool {
    known == name || known.strip_suffix(name).is_some_and(|rest| rest.ends_with('/'))
}
