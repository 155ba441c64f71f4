//! `.debug_pkl`: where each piece of archived code came from in the user's Python.
//!
//! It only improves messages, so whatever is odd in it is left out without an error.
//! Source: the layout is described in the reference of the archive format; record offsets count bytes of the `.py` member.

use super::pickle::{Id, Node, Pickle};
use crate::source::Origin;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Most memory one origin's quotation takes; a character has up to four bytes.
const MAX_EXCERPT_BYTES: usize = 2000;

/// What the origins of one archive may cost. When something is used up, further origins are left out.
pub(super) struct Allowance {
    /// Ranges with an origin.
    n_origins: usize,
    /// Original text that is joined and quoted.
    text_bytes: usize,
    /// Text that is searched for line ends.
    scanned_bytes: usize,
}

impl Allowance {
    /// The allowance of a whole archive, far above what writers make.
    pub(super) fn new() -> Self {
        Self { n_origins: 1 << 20, text_bytes: 128 << 20, scanned_bytes: 1 << 30 }
    }
}

/// Takes `n` from what is left.
fn take(left: &mut usize, n: usize) -> Option<()> {
    *left = left.checked_sub(n)?;
    Some(())
}

/// The origins of ranges of a `.py` member of `n_code_bytes`, by start offset; empty if the member cannot be used.
pub(super) fn origins(bytes: &[u8], n_code_bytes: usize, allowance: &mut Allowance) -> Vec<(Range<usize>, Origin)> {
    let Ok(pickle) = Pickle::parse(bytes) else { return Vec::new() };
    Reader { pickle: &pickle, table: &[], sources: HashMap::new(), allowance }.read(n_code_bytes)
}

/// One original text: file name, number of its first line, the text.
type Original = Option<(Arc<str>, usize, Arc<str>)>;

struct Reader<'a> {
    pickle: &'a Pickle,
    /// The string table; empty for the older layout without one.
    table: &'a [Id],
    sources: HashMap<Id, Original>,
    allowance: &'a mut Allowance,
}

impl<'a> Reader<'a> {
    fn read(mut self, n_code_bytes: usize) -> Vec<(Range<usize>, Origin)> {
        let records = match *self.tuple(self.pickle.root) {
            [tag, table, records] if self.text(tag).as_deref() == Some("FORMAT_WITH_STRING_TABLE") => {
                self.table = self.tuple(table);
                self.tuple(records)
            }
            _ => self.tuple(self.pickle.root),
        };
        // A record holds from its offset up to the next record's.
        let offset = |id: Id| match self.tuple(id).first().map(|&at| self.pickle.node(at)) {
            Some(Node::Int(at)) => usize::try_from(*at).ok(),
            _ => None,
        };
        let mut starts: Vec<(usize, Id)> = records.iter().filter_map(|&id| Some((offset(id)?, id))).collect();
        starts.sort_by_key(|(at, _)| *at);
        let ends: Vec<usize> = starts.iter().skip(1).map(|(at, _)| *at).chain([n_code_bytes]).collect();
        let mut out: Vec<(Range<usize>, Origin)> = Vec::new();
        let mut known: HashMap<Id, Option<Origin>> = HashMap::new();
        for ((start, record), end) in starts.into_iter().zip(ends) {
            let Some(&range) = self.tuple(record).get(1) else { continue };
            let origin = known.entry(range).or_insert_with(|| self.origin(range)).clone();
            if let Some(origin) = origin.filter(|_| start < end && end <= n_code_bytes) {
                if take(&mut self.allowance.n_origins, 1).is_none() {
                    break;
                }
                out.push((start..end, origin));
            }
        }
        out
    }

    /// The origin of `(source, start, end)`.
    fn origin(&mut self, range: Id) -> Option<Origin> {
        let [source, start, end] = *self.tuple(range) else { return None };
        let (file, first_line, text) = self.original(source)?;
        let (start, end) = (self.index(start)?, self.index(end)?);
        if file.is_empty() && text.is_empty() {
            return Some(Origin { file, line: 0, column: 0, excerpt: "".into() });
        }
        let before = text.get(..start)?;
        take(&mut self.allowance.scanned_bytes, end.max(start))?;
        take(&mut self.allowance.text_bytes, MAX_EXCERPT_BYTES.min(end.saturating_sub(start).saturating_add(200)))?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text.get(end.max(start)..)?.find('\n').map_or(text.len(), |at| at + end.max(start));
        let excerpt = text.get(line_start..line_end)?;
        let excerpt =
            if excerpt.len() > MAX_EXCERPT_BYTES / 4 { excerpt.lines().next().unwrap_or("") } else { excerpt };
        let excerpt: String = excerpt.chars().take(MAX_EXCERPT_BYTES / 4).collect();
        let line = before.matches('\n').count().checked_add(first_line)?;
        Some(Origin { file, line, column: start - line_start, excerpt: excerpt.into() })
    }

    /// The text of `(lines, file, first line)`: strings of the table, or a string itself.
    fn original(&mut self, source: Id) -> Original {
        if let Some(known) = self.sources.get(&source) {
            return known.clone();
        }
        let made = self.join(source);
        self.sources.insert(source, made.clone());
        made
    }

    fn join(&mut self, source: Id) -> Original {
        let [lines, file, first_line] = *self.tuple(source) else { return None };
        let text: Arc<str> = if let Some(text) = self.text(lines) {
            text
        } else {
            let Node::Reduce(_, args) = self.pickle.node(lines) else { return None };
            let &[list] = self.tuple(*args) else { return None };
            let Node::List(ids) = self.pickle.node(list) else { return None };
            let mut text = String::new();
            for &id in ids {
                let line = self.entry(id)?;
                take(&mut self.allowance.text_bytes, line.len())?;
                text.push_str(&line);
            }
            text.into()
        };
        let file = self.text(file).or_else(|| self.entry(file)).unwrap_or_default();
        if !file.is_empty() {
            return Some((file, self.index(first_line)?, text));
        }
        // Traced code has a Python stack trace as its text: `file(line): function`, innermost first.
        let frame = text.lines().next().unwrap_or("");
        let known = frame.rsplit_once('(').and_then(|(file, rest)| Some((file, rest.split_once(')')?.0.parse().ok()?)));
        Some(match known {
            Some((file, line)) => (file.into(), line, frame.into()),
            None => (file, self.index(first_line).unwrap_or(0), text),
        })
    }

    /// The string that an index of the string table stands for.
    fn entry(&self, id: Id) -> Option<Arc<str>> {
        self.table.get(self.index(id)?).and_then(|&id| self.text(id))
    }

    fn tuple(&self, id: Id) -> &'a [Id] {
        match self.pickle.node(id) {
            Node::Tuple(items) => items,
            _ => &[],
        }
    }

    fn text(&self, id: Id) -> Option<Arc<str>> {
        match self.pickle.node(id) {
            Node::Str(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn index(&self, id: Id) -> Option<usize> {
        match self.pickle.node(id) {
            Node::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}
