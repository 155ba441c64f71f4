//! Where things come from: source texts, spans in them, and the way back to the user's Python.

use std::sync::Arc;

/// One source text with its name.
#[derive(Debug)]
pub struct Source {
    /// Name to show: `net.py`, or `code/__torch__/net.py` inside an archive.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// For archived code: ranges of the text with the place in the original Python they came from, by start offset.
    pub origins: Vec<(std::ops::Range<usize>, Origin)>,
}

/// A place in the user's own Python, recovered from a `.debug_pkl`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Base name or path of the Python file; empty if it was not known when the archive was written.
    pub file: Arc<str>,
    /// 1-based line.
    pub line: usize,
    /// 0-based column.
    pub column: usize,
    /// The lines the range covers, if recorded.
    pub excerpt: Arc<str>,
}

/// A range of bytes of a [`Source`].
#[derive(Clone, Debug)]
pub struct Span {
    /// The text.
    pub source: Arc<Source>,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// 1-based line and 0-based column of the start, in the text itself.
    pub fn line_column(&self) -> (usize, usize) {
        let before = self.source.text.get(..self.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        (line, self.start - before.rfind('\n').map_or(0, |at| at + 1))
    }

    /// The narrowest recorded origin that covers the start of the span.
    pub fn origin(&self) -> Option<&Origin> {
        self.recorded().filter(|origin| !origin.file.is_empty())
    }

    fn recorded(&self) -> Option<&Origin> {
        let covers = self.source.origins.iter().filter(|(range, _)| range.contains(&self.start));
        covers.min_by_key(|(range, _)| range.len()).map(|(_, origin)| origin)
    }

    /// File, 1-based line and 0-based column, in the original Python where they are known.
    pub fn file_line_column(&self) -> (&str, usize, usize) {
        if let Some(origin) = self.origin() {
            return (&origin.file, origin.line, origin.column);
        }
        let (line, column) = self.line_column();
        (&self.source.name, line, column)
    }

    /// The place as printed graphs have it, where the file's name may be empty: the archive knows that there was an original, and
    /// not which.
    pub fn printed_place(&self) -> String {
        match self.recorded() {
            Some(origin) => format!("{}:{}:{}", origin.file, origin.line, origin.column),
            None => self.place(),
        }
    }

    /// `file:line:column`, in the original Python where it is known.
    pub fn place(&self) -> String {
        let (file, line, column) = self.file_line_column();
        format!("{file}:{line}:{column}")
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && (self.start, self.end) == (other.start, other.end)
    }
}
