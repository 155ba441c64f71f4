//! The text of the recorded models' loop programs, as they are lowered and as they are scheduled, reads back and prints the
//! same again.

use aot::archive::{self, Container};
use aot::driver::{self, Timings};
use aot::emit::target::Target;
use aot::loops::Program;
use aot::{schedule, signatures};
use std::path::Path;

fn check(name: &str, stage: &str, program: &Program, faults: &mut Vec<String>) {
    let text = program.to_string();
    match text.parse::<Program>() {
        Ok(read) if read.to_string() == text => {}
        Ok(read) => faults.push(format!("{name} {stage}:\n{}", super::difference_excerpt(&text, &read.to_string()))),
        Err(error) => faults.push(format!("{name} {stage}: {}", error.render())),
    }
}

#[test]
fn loops_of_recorded_models_read_back() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/models_small.zip");
    let zip = Container::open(&path).expect("the corpus reads");
    let (mut n_programs, mut faults) = (0, Vec::new());
    for name in zip.names().filter(|name| name.ends_with(".pt") && !name.ends_with(".io.pt")) {
        let archive = archive::from_bytes(zip.get(name).expect("listed"), name).expect("recorded archives read");
        let module = driver::front_end(&archive).expect("recorded archives compile");
        // Scripted models without recorded arguments tell no signature.
        let Ok(requests) = signatures::requests(&archive, &module, &[], &[]) else { continue };
        let Ok(mut program) = driver::lower(&module, &requests, &mut Timings::default()) else { continue };
        n_programs += 1;
        check(name, "lowered", &program, &mut faults);
        let target = driver::schedule_target(&Target::host());
        schedule::schedule(&mut program, &target, &schedule::Options::default()).expect("programs are scheduled");
        check(name, "scheduled", &program, &mut faults);
    }
    assert!(n_programs > 20, "only {n_programs} programs");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The text with one of its characters dropped, doubled or replaced, or cut short.
fn mangled(text: &str, state: &mut u64) -> String {
    let mut next = |n: usize| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).expect("31 bits") % n
    };
    let mut chars: Vec<char> = text.chars().collect();
    let marks: Vec<char> = "0123456789()[]{}-+*/%&|^!?:=<>.,\"@# \nbverisx".chars().collect();
    for _ in 0..=next(3) {
        let at = next(chars.len().max(1));
        if at >= chars.len() {
            break;
        }
        match next(4) {
            0 => _ = chars.remove(at),
            1 => chars.insert(at, chars[at]),
            2 => chars[at] = marks[next(marks.len())],
            _ => chars.truncate(at + 1),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn mangled_loops_are_errors_and_no_panics() {
    let mut paths = Vec::new();
    for kind in ["loops", "schedule", "verify"] {
        super::files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests").join(kind), &mut paths);
    }
    let (mut state, mut n_errors) = (1, 0);
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("the test reads");
        for part in text.split("\n----\n") {
            for _ in 0..300 {
                match mangled(part, &mut state).parse::<Program>() {
                    Ok(program) => _ = program.to_string().parse::<Program>().expect("what is printed reads back"),
                    Err(error) => n_errors += usize::from(error.span.is_some()),
                }
            }
        }
    }
    assert!(n_errors > 1000, "only {n_errors} errors");
    let deep = format!("function f0 f()\n  b0: Float[] temp\n  kernel k\n    b0[] = {}1.0\n", "-(".repeat(100_000));
    assert!(deep.parse::<Program>().is_err());
    let blocks: String = (1..5000).map(|level| format!("{}if true\n", "  ".repeat(level))).collect();
    assert!(format!("function f0 f()\n{blocks}").parse::<Program>().is_err());
}
