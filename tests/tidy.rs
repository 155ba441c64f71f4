//! What holds for the tree itself: dependencies go down only, unsafe code stays where it is listed, each file says what it
//! is for, and the README names every operator.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The compiler's parts by layer: a part uses lower layers only; those of the first may use each other.
const LAYERS: [&[&str]; 10] = [
    &["types", "source", "diag", "index", "measure"],
    &["archive", "syntax", "ir", "loops"],
    &["ops", "schedule", "emit", "npy", "library"],
    &["script", "lower", "link", "exec", "export", "weights"],
    &["eval", "jit", "signatures"],
    &["passes"],
    &["driver"],
    &["build", "check"],
    &["module"],
    &["cli"],
];

/// The files that may hold unsafe code: where memory, foreign code and compiled code are handled.
const UNSAFE: [&str; 45] = [
    "compiler/src/archive/storage.rs",
    "compiler/src/emit/cranelift/mod.rs",
    "compiler/src/emit/cranelift/module.rs",
    "compiler/src/emit/llvm/mod.rs",
    "compiler/src/emit/llvm/module.rs",
    "compiler/src/emit/llvm/translate.rs",
    "compiler/src/emit/tests.rs",
    "compiler/src/eval/frame.rs",
    "compiler/src/jit.rs",
    "compiler/src/library.rs",
    "compiler/src/link/tests.rs",
    "runtime/src/arena.rs",
    "runtime/src/capi/exception.rs",
    "runtime/src/capi/method.rs",
    "runtime/src/capi/mod.rs",
    "runtime/src/capi/open.rs",
    "runtime/src/capi/raw.rs",
    "runtime/src/capi/state.rs",
    "runtime/src/capi/tensor.rs",
    "runtime/src/capi/values.rs",
    "runtime/src/direct.rs",
    "runtime/src/entry.rs",
    "runtime/src/host.rs",
    "runtime/src/list.rs",
    "runtime/src/log.rs",
    "runtime/src/math.rs",
    "runtime/src/model.rs",
    "runtime/src/model_tests.rs",
    "runtime/src/object.rs",
    "runtime/src/pool.rs",
    "runtime/src/routines/containers.rs",
    "runtime/src/routines/ctc.rs",
    "runtime/src/routines/fft.rs",
    "runtime/src/routines/instances.rs",
    "runtime/src/routines/joining.rs",
    "runtime/src/routines/linalg.rs",
    "runtime/src/routines/mod.rs",
    "runtime/src/routines/numeric.rs",
    "runtime/src/routines/order.rs",
    "runtime/src/routines/special.rs",
    "runtime/src/routines/text.rs",
    "runtime/src/routines/vision.rs",
    "runtime/src/task_tests.rs",
    "runtime/src/tensor.rs",
    "runtime/src/text.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below a folder, by its path from the root.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("it is below the root").to_str().expect("names are text");
                found.insert(name.to_owned(), fs::read_to_string(&path).expect("the file can be read"));
            }
        }
    }
    found
}

fn all_sources() -> BTreeMap<String, String> {
    ["compiler", "runtime", "tests", "benches", "examples"].into_iter().flat_map(sources).collect()
}

/// The parts that a text names after `crate::`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            // The first word after the brace or a comma; what stands in inner braces is no part.
            Some(list) => {
                let (mut depth, mut names) = (1, vec![String::new()]);
                for c in list.chars() {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    match c {
                        _ if depth == 0 => break,
                        ',' if depth == 1 => names.push(String::new()),
                        _ => names.last_mut().expect("there is one").push(c),
                    }
                }
                names
            }
            None => vec![rest.to_owned()],
        };
        let word = |name: &String| name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.extend(names.iter().map(word));
    }
    found
}

#[test]
fn dependencies_go_down() {
    let layer = |part: &str| LAYERS.iter().position(|parts| parts.contains(&part));
    let mut faults = Vec::new();
    for (file, text) in sources("compiler/src") {
        let inside = file.strip_prefix("compiler/src/").expect("it is below the folder");
        if inside == "lib.rs" || inside == "main.rs" || inside.ends_with("tests.rs") {
            continue;
        }
        let part = inside.split('/').next().expect("a path has a first part").trim_end_matches(".rs").to_owned();
        let Some(own) = layer(&part) else {
            faults.push(format!("{file}: the part '{part}' is in no layer"));
            continue;
        };
        let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a split has a first part");
        for used in uses(code).iter().filter(|used| **used != part) {
            match layer(used) {
                Some(other) if other < own || (own == 0 && other == 0) => {}
                Some(_) => faults.push(format!("{file}: '{part}' uses '{used}', which is not below it")),
                None => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_is_where_it_is_listed() {
    let allows = ["#![allow(unsafe_code", "#[allow(unsafe_code"];
    let found: Vec<String> = all_sources()
        .into_iter()
        .filter(|(file, text)| !file.ends_with("tidy.rs") && allows.iter().any(|allow| text.contains(allow)))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(found, UNSAFE);
}

#[test]
fn files_say_what_they_are_for() {
    let silent: Vec<String> =
        all_sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file).collect();
    assert!(silent.is_empty(), "files without a header: {silent:?}");
}

/// The first sentence of a file's header.
fn first_sentence(text: &str) -> String {
    let header = text.lines().map_while(|line| line.strip_prefix("//!")).take_while(|line| !line.is_empty());
    let header = header.map(str::trim).collect::<Vec<_>>().join(" ");
    header.split_inclusive(". ").next().unwrap_or_default().trim_end_matches(['.', ' ']).to_owned()
}

/// The part of the README that is made from the registry: a row for each family, with the first sentence of its file.
fn operator_table() -> String {
    let files = sources("compiler/src/ops");
    let mut families: Vec<(String, BTreeSet<String>)> = Vec::new();
    for (family, defs) in aot::ops::families() {
        let about = first_sentence(&files[&format!("compiler/src/ops/{family}.rs")]);
        if families.last().is_none_or(|(last, _)| *last != about) {
            families.push((about, BTreeSet::new()));
        }
        let names = &mut families.last_mut().expect("one was pushed").1;
        // Overloads are not told apart: a table of names is long enough.
        names.extend(defs.iter().map(|def| def.name.split('.').next().expect("a split has a first part").to_owned()));
    }
    let mut table = String::from("| family | operators |\n| --- | --- |\n");
    for (about, names) in families {
        let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.trim_start_matches("aten::"))).collect();
        table += &format!("| {about} | {} |\n", names.join(" "));
    }
    table
}

/// With `AOT_BLESS=1` in the environment the table is written anew.
#[test]
fn readme_lists_the_operators() {
    const BEGIN: &str = "<!-- operators: made by tests/tidy.rs -->\n";
    const END: &str = "<!-- end of operators -->";
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).expect("there is a README");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has a table of operators");
    let (found, after) = rest.split_once(END).expect("the table has an end");
    let expected = operator_table();
    if std::env::var_os("AOT_BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("the README is writable");
    } else {
        assert!(found == expected, "the README's table of operators is old: run the tests with AOT_BLESS=1");
    }
}
