//! An error of ours beside the one that PyTorch gives for the same source: its words and the place that it blames.

use super::{Outcome, TextKind, TextMatch, outcome_of};
use crate::diag::{Blame, Diagnostic};
use regex_lite::Regex;

/// What is recorded of a source that PyTorch refuses.
pub(super) struct Recorded<'a> {
    /// What PyTorch's own test looks for; empty where it looks for nothing.
    pub regex: &'a str,
    /// The whole message.
    pub message: &'a str,
    /// How many lines of the file stand before the text that the message counts lines of.
    pub n_lines_before: usize,
}

/// Whether the error is the one that PyTorch gives: its test's words, and the line that it blames. How much of the message is
/// ours to the letter is information, not part of the outcome.
pub(super) fn diagnosed(error: Option<&Diagnostic>, recorded: &Recorded<'_>) -> (Outcome, TextMatch) {
    let Some(error) = error else {
        let why = format!("it compiles, though PyTorch says: {}", recorded.message.trim());
        return (Outcome::Failed(why), compared("", recorded));
    };
    let ours = error.as_pytorch();
    let text = compared(&ours, recorded);
    let outcome = if error.blame == Blame::User { judged(error, &ours, recorded) } else { outcome_of(error) };
    (outcome, text)
}

fn judged(error: &Diagnostic, ours: &str, recorded: &Recorded<'_>) -> Outcome {
    let rendered = error.render();
    let is_match = match Regex::new(recorded.regex) {
        Ok(regex) => regex.is_match(&rendered) || regex.is_match(ours),
        Err(_) => rendered.contains(recorded.regex) || ours.contains(recorded.regex),
    };
    if !is_match {
        return Outcome::Failed(format!("the message does not match {:?}:\n{rendered}", recorded.regex));
    }
    match Place::of_message(recorded.message).and_then(|place| place.differs(error, recorded)) {
        Some(why) => Outcome::Failed(format!("{why}:\n{rendered}")),
        None => Outcome::Passed,
    }
}

/// The place that a message of PyTorch's marks first.
struct Place<'a> {
    /// The number of the line in the file, where the message says it and the file is the source itself.
    number: Option<usize>,
    /// The line, trimmed.
    line: &'a str,
    /// The first marked column and the one past the last, from the first sign of the line.
    columns: (usize, usize),
}

impl<'a> Place<'a> {
    /// Below each line of the marked range stands a line of marks, and `<--- HERE` at the last one. Blank lines have no marks,
    /// so the first line of marks is looked for, from above.
    fn of_message(message: &'a str) -> Option<Self> {
        let lines: Vec<&str> = message.lines().collect();
        let is_mark = |line: &&str| {
            let marks = line.trim_end().strip_suffix("<--- HERE").unwrap_or(line);
            marks.contains('~') && marks.bytes().all(|byte| byte == b' ' || byte == b'~')
        };
        let mark = lines.iter().position(is_mark)?;
        let line = *lines.get(mark.checked_sub(1)?)?;
        let mut heads = lines[..mark].iter().filter_map(|line| line.trim_start().strip_prefix("File \""));
        let number = heads.next_back().and_then(|head| {
            let (file, rest) = head.split_once("\", line ")?;
            let is_source = !file.contains('/');
            rest.trim().parse().ok().filter(|_| is_source)
        });
        let indent = line.len() - line.trim_start().len();
        let start = lines[mark].find('~')?;
        let n_marks = lines[mark].matches('~').count();
        let columns = (start.saturating_sub(indent), (start + n_marks).saturating_sub(indent));
        Some(Self { number, line: line.trim(), columns })
    }

    /// In what our error's place is another one.
    fn differs(&self, error: &Diagnostic, recorded: &Recorded<'_>) -> Option<String> {
        let Some(span) = &error.span else { return Some(format!("no line is blamed, not {:?}", self.line)) };
        let (number, column) = span.line_column();
        let line = span.source.text.lines().nth(number - 1).unwrap_or("");
        if line.trim() != self.line {
            return Some(format!("another line is blamed, not {:?}", self.line));
        }
        let expected = self.number.map(|number| number + recorded.n_lines_before);
        if let Some(expected) = expected.filter(|expected| *expected != number) {
            return Some(format!("line {number} is blamed, not line {expected}"));
        }
        let indent = line.len() - line.trim_start().len();
        let start = column.saturating_sub(indent);
        let end = start + span.end.saturating_sub(span.start).max(1);
        if start >= self.columns.1 || end <= self.columns.0 {
            return Some(format!("another part of the line is blamed, not columns {:?}", self.columns));
        }
        None
    }
}

/// Our message beside the recorded one: equal as a whole, or in its first line.
fn compared(ours: &str, recorded: &Recorded<'_>) -> TextMatch {
    let (ours, want) = (words(ours), words(recorded.message));
    let first = |text: &str| text.lines().next().unwrap_or("").to_owned();
    let (have_first, want_first) = (first(&ours), first(&want));
    let differs = have_first != want_first;
    TextMatch {
        kind: TextKind::Message,
        is_exact: ours == want,
        difference: differs.then(|| format!("{have_first}\nexpected:\n{want_first}")),
    }
}

/// What a message says before it names the place, without what differs from run to run.
fn words(message: &str) -> String {
    let said = message.split(":\n  File \"").next().unwrap_or(message);
    let said = said.split("\nThe original call is").next().unwrap_or(said);
    let mut out = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty() && *line != ":") {
        let mut line = line.to_owned();
        while let Some(at) = line.find(" (of Python compilation unit at: ") {
            let end = line[at..].find(')').map_or(line.len(), |end| at + end + 1);
            line.replace_range(at..end, "");
        }
        out.push(without_modules(&line));
    }
    out.join("\n")
}

/// Qualified names without the module that a file was run as.
fn without_modules(line: &str) -> String {
    let mut parts = line.split("__torch__.");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let end = part.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(part.len());
        let (path, rest) = part.split_at(end);
        let stem = path.trim_end_matches('.');
        out.push_str(stem.rsplit('.').next().unwrap_or(stem));
        out.push_str(&path[stem.len()..]);
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, Span};
    use std::sync::Arc;

    fn error(text: &str, start: usize, end: usize) -> Box<Diagnostic> {
        let source = Arc::new(Source { name: "case.py".into(), text: text.into(), origins: Vec::new() });
        Diagnostic::user("undefined value x").at(Some(&Span { source, start, end }))
    }

    #[test]
    fn the_number_and_the_columns_of_a_line_count_besides_its_text() {
        let text = "f(x)\nf(x)\n";
        let message = "\nundefined value x:\n  File \"case.py\", line 2\nf(x)\nf(x)\n  ~ <--- HERE\n";
        let recorded = Recorded { regex: "undefined", message, n_lines_before: 0 };
        let outcome = |error: &Diagnostic| format!("{:?}", diagnosed(Some(error), &recorded).0);
        assert_eq!(outcome(&error(text, 7, 8)), "Passed");
        assert!(outcome(&error(text, 2, 3)).contains("line 1 is blamed, not line 2"));
        assert!(outcome(&error(text, 5, 6)).contains("another part of the line"));
    }

    #[test]
    fn blank_lines_in_a_marked_range_do_not_hide_where_it_begins() {
        let message =
            "\nm:\n  File \"case.py\", line 4\ndef f(a,\n~~~~~~~~\n\n      b):\n      ~ <--- HERE\n    pass\n";
        let place = Place::of_message(message).unwrap();
        assert_eq!((place.line, place.number, place.columns), ("def f(a,", Some(4), (0, 8)));
    }

    #[test]
    fn messages_are_compared_without_modules_and_addresses() {
        let message =
            "\n'__torch__.standalone_1.A (of Python compilation unit at: 0x55)' object:\n  File \"case.py\", line 1\n";
        assert_eq!(words(message), words("'__torch__.A' object:\n  File \"x\", line 2\n"));
    }
}
