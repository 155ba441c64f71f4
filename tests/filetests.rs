//! Text in, text out, for every stage: `filetests/README.md` describes the files.

mod corpus;
mod run;
mod stages;

pub(crate) use stages::archive_of;

use aot::diag::Diagnostic;
use std::fs;
use std::path::{Path, PathBuf};

/// A file's parts.
struct FileTest {
    path: PathBuf,
    /// The words after `# test:`.
    header: Vec<String>,
    /// Everything before the line `----`, header included, so that lines count from the file's first.
    input: String,
    /// Everything after it.
    expected: Option<String>,
}

/// What a stage made of an input.
type Outcome = Result<String, Box<Diagnostic>>;

impl FileTest {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("the test reads");
        let (input, expected) = match text.split_once("\n----\n") {
            Some((input, expected)) => (format!("{input}\n"), Some(expected.to_owned())),
            None => (text, None),
        };
        let header = input.lines().next().and_then(|line| line.strip_prefix("# test: "));
        let header = header.unwrap_or_else(|| panic!("{}: the first line is no header", path.display()));
        Self {
            path: path.to_owned(),
            header: header.split_whitespace().map(|w| w.trim_end_matches(',').to_owned()).collect(),
            input,
            expected,
        }
    }

    /// The text after this mark, with the numbers of its lines.
    fn marked<'a>(&'a self, mark: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let found = self.input.lines().enumerate();
        found.filter_map(move |(at, line)| Some((at + 1, line.split_once(mark)?.1.trim())))
    }

    /// What is wrong with a result, if anything.
    fn fault(&self, outcome: Outcome) -> Option<String> {
        if let Some((line, words)) = self.marked("# error: ").next() {
            return match outcome {
                Ok(text) => Some(format!("no error, but:\n{text}")),
                Err(error) => {
                    let at = error.span.as_ref().map(|span| span.line_column().0);
                    let fits = error.message.contains(words) && at == Some(line);
                    (!fits).then(|| format!("expected '{words}' on line {line}, not:\n{}", error.render()))
                }
            };
        }
        let text = match outcome {
            Ok(text) => text,
            Err(error) if self.header[0] == "diag" => error.render_all(),
            Err(error) => return Some(error.render()),
        };
        let Some(expected) = &self.expected else {
            let is_checked = self.marked("# run: ").next().is_some();
            return (!is_checked).then(|| "the test expects nothing".into());
        };
        if *expected == text {
            return None;
        }
        if std::env::var_os("AOT_BLESS").is_some() {
            fs::write(&self.path, format!("{}----\n{text}", self.input)).expect("the expectation is written");
            return None;
        }
        Some(difference(expected, &text))
    }
}

/// Lines of both texts: those only in the first after `-`, those only in the second after `+`.
fn difference(expected: &str, text: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text.lines().collect());
    // Lengths of the longest common subsequences of what follows each pair of places.
    let mut common = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out += &format!("  {}\n", a[i]);
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || i < a.len() && common[i + 1][j] >= common[i][j + 1] {
            out += &format!("- {}\n", a[i]);
            i += 1;
        } else {
            out += &format!("+ {}\n", b[j]);
            j += 1;
        }
    }
    out
}

/// The first lines in which two long texts differ.
pub(crate) fn difference_excerpt(expected: &str, text: &str) -> String {
    let same = expected.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
    let at = |text: &str| text.lines().skip(same).take(3).map(|line| format!("{line}\n")).collect::<String>();
    format!("line {}\n- {}+ {}", same + 1, at(expected), at(text))
}

pub(crate) fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder of tests").map(|entry| entry.expect("it lists").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "txt") {
            found.push(path);
        }
    }
}

/// Runs every test of a folder.
fn check(kind: &str) {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests").join(kind), &mut paths);
    assert!(!paths.is_empty(), "there are no tests of {kind}");
    let mut faults = String::new();
    for path in paths {
        let test = FileTest::read(&path);
        assert_eq!(test.header[0], kind, "{}: the header names another kind", path.display());
        let fault = test.fault(stages::stage(&test)).or_else(|| run::fault(&test));
        if let Some(fault) = fault {
            faults += &format!("{}\n{fault}\n", path.display());
        }
    }
    assert!(faults.is_empty(), "{faults}AOT_BLESS=1 accepts new text");
}

macro_rules! kinds {
    ($($kind:ident)*) => {$(
        #[test]
        fn $kind() {
            check(stringify!($kind));
        }
    )*};
}
kinds! { syntax script code graph archive verify passes lower loops schedule emit diag run }
