//! The functions that a library exports: each passes its arguments, and what belongs to this model, on to the runtime.
//!
//! Written as LLVM IR text, since LLVM knows every machine's calling convention and no C compiler is needed.

use super::{info, raw};
use crate::diag::{Diagnostic, Result};
use aot_runtime::desc::ModelDesc;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Functions that every library has: name, result, parameters, and the runtime's function that takes the same.
const FIXED: [(&str, &str, &str); 13] = [
    ("close", "void", "ptr"),
    ("call", "i32", "ptr ptr ptr ptr i64 ptr ptr"),
    ("state_new", "i32", "ptr ptr ptr"),
    ("state_clone", "i32", "ptr ptr ptr"),
    ("state_reset", "i32", "ptr ptr"),
    ("state_free", "void", "ptr"),
    ("manual_seed", "i32", "ptr i64"),
    ("set_threads", "void", "ptr i32"),
    ("set_log", "void", "ptr ptr ptr"),
    ("last_exception", "ptr", ""),
    ("tensor_release", "void", "ptr"),
    ("value_release", "void", "ptr"),
    ("open", "i32", "ptr ptr ptr"),
];

/// Order of the pointers in `aot_api`.
const API: [&str; 14] = [
    "info",
    "open",
    "close",
    "call",
    "state_new",
    "state_clone",
    "state_reset",
    "state_free",
    "manual_seed",
    "set_threads",
    "tensor_release",
    "value_release",
    "set_log",
    "last_exception",
];

/// What follows the method's name in the names of its own functions.
const SUFFIXES: [&str; 4] = ["", "_shapes", "_workspace", "_raw"];

/// Methods that get functions of their own (`foo_forward`, `foo_forward_shapes`, ...), by number. Others are reached through
/// `foo_call`: those whose functions would collide.
pub(super) fn exported_methods(desc: &ModelDesc) -> Vec<usize> {
    let mut taken: BTreeSet<String> = API.iter().map(|&name| name.to_owned()).chain(["api".to_owned()]).collect();
    let mut exported = Vec::new();
    for (i, method) in desc.methods.iter().enumerate() {
        let is_identifier = method.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let names = SUFFIXES.map(|suffix| format!("{}{suffix}", method.name));
        if is_identifier && names.iter().all(|name| !taken.contains(name)) {
            taken.extend(names);
            exported.push(i);
        }
    }
    exported
}

/// Every symbol the library exports.
pub(super) fn exports(desc: &ModelDesc) -> BTreeSet<String> {
    let prefix = |name: &str| format!("{}_{name}", desc.name);
    let fixed = API.iter().copied().chain(["api"]).map(prefix);
    let methods = exported_methods(desc).into_iter().flat_map(|i| {
        let method = &desc.methods[i];
        let suffixes = SUFFIXES.iter().filter(|&&suffix| suffix != "_raw" || raw::parameters(desc, method).is_some());
        suffixes.map(|suffix| prefix(&format!("{}{suffix}", method.name)))
    });
    fixed.chain(methods).collect()
}

/// The functions as LLVM IR. `entries` are the symbols of the compiled functions, in the description's order.
pub(super) fn llvm_ir(desc: &ModelDesc, entries: &[String], metadata_bytes: usize) -> String {
    let name = &desc.name;
    let mut ir = String::new();
    let list = |kind: &str, items: &[String]| {
        let items: Vec<_> = items.iter().map(|item| format!("{kind} @\"{item}\"")).collect();
        items.join(", ")
    };
    for symbol in ["weights", "metadata"] {
        let _ = writeln!(ir, "@\"{name}_{symbol}\" = external hidden constant i8");
    }
    for entry in entries {
        let _ = writeln!(ir, "declare hidden i64 @\"{entry}\"(ptr)");
    }
    let n = entries.len();
    let _ = writeln!(ir, "@aot_entries = internal constant [{n} x ptr] [{}]", list("ptr", entries));

    let own =
        format!("ptr @\"{name}_metadata\", i64 {metadata_bytes}, ptr @\"{name}_weights\", ptr @aot_entries, i64 {n}");
    for (function, result, params) in FIXED {
        let params: Vec<_> = params.split_whitespace().collect();
        if function == "open" {
            let pass = format!("ptr %0, {own}, ptr %1, ptr %2");
            forward(&mut ir, &format!("{name}_open"), result, &params, "aot_rt_open", &pass);
        } else {
            let target = format!("aot_rt_{function}");
            forward(&mut ir, &format!("{name}_{function}"), result, &params, &target, &numbered(&params, 0));
        }
    }
    for i in exported_methods(desc) {
        let method = format!("{name}_{}", desc.methods[i].name);
        let run = ["ptr", "ptr", "ptr", "i64", "ptr", "i64", "ptr", "i64", "ptr"];
        let pass = format!("ptr %0, i32 {i}, {}", numbered(&run[1..], 1));
        forward(&mut ir, &method, "i32", &run, "aot_rt_method", &pass);
        forward(&mut ir, &format!("{method}_shapes"), "i32", &run, "aot_rt_shapes", &pass);
        let pass = format!("ptr %0, i32 {i}");
        forward(&mut ir, &format!("{method}_workspace"), "i64", &["ptr"], "aot_rt_workspace", &pass);
        if let Some(parameters) = raw::parameters(desc, &desc.methods[i]) {
            raw::write(&mut ir, &method, i, &parameters);
        }
    }
    declare_runtime(&mut ir);
    info::write(&mut ir, desc);
    let table: Vec<_> = API.iter().map(|function| format!("{name}_{function}")).collect();
    let size = 8 * (1 + API.len());
    let types = vec!["ptr"; API.len()].join(", ");
    let _ = writeln!(ir, "@aot_api = internal constant {{ i64, {types} }} {{ i64 {size}, {} }}", list("ptr", &table));
    let _ = writeln!(ir, "define ptr @\"{name}_api\"() nounwind {{\n  ret ptr @aot_api\n}}");
    ir
}

/// `ptr %2, i64 %3`
fn numbered(params: &[&str], first: usize) -> String {
    let params: Vec<_> = params.iter().enumerate().map(|(i, ty)| format!("{ty} %{}", i + first)).collect();
    params.join(", ")
}

fn forward(ir: &mut String, name: &str, result: &str, params: &[&str], target: &str, pass: &str) {
    let _ = writeln!(ir, "define {result} @\"{name}\"({}) nounwind {{", numbered(params, 0));
    let _ = if result == "void" {
        writeln!(ir, "  tail call void @{target}({pass})\n  ret void\n}}")
    } else {
        writeln!(ir, "  %result = tail call {result} @{target}({pass})\n  ret {result} %result\n}}")
    };
}

fn declare_runtime(ir: &mut String) {
    for (function, result, params) in FIXED {
        let params = if function == "open" { "ptr ptr i64 ptr ptr i64 ptr ptr" } else { params };
        let _ = writeln!(ir, "declare hidden {result} @aot_rt_{function}({})", params.replace(' ', ", "));
    }
    for function in ["method", "shapes"] {
        let _ = writeln!(ir, "declare hidden i32 @aot_rt_{function}(ptr, i32, ptr, ptr, i64, ptr, i64, ptr, i64, ptr)");
    }
    ir.push_str("declare hidden i64 @aot_rt_workspace(ptr, i32)\n");
    ir.push_str("declare hidden i32 @aot_rt_raw(ptr, i32, ptr, ptr, i64, ptr, i64, ptr)\n");
}

/// Compiles IR text to an object file.
#[cfg(feature = "llvm")]
pub(super) fn assemble(ir: &str, triple: &str) -> Result<Vec<u8>> {
    use inkwell::OptimizationLevel;
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;
    use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetTriple};

    let bad = |what: &str, e: &dyn std::fmt::Display| Diagnostic::internal(format!("exported functions: {what}: {e}"));
    Target::initialize_all(&InitializationConfig::default());
    let triple = TargetTriple::create(triple);
    let target = Target::from_triple(&triple).map_err(|e| bad("no such target", &e))?;
    let machine = target
        .create_target_machine(&triple, "", "", OptimizationLevel::Default, RelocMode::PIC, CodeModel::Default)
        .ok_or_else(|| bad("no such machine", &triple))?;
    let context = Context::create();
    let text = MemoryBuffer::create_from_memory_range_copy(ir.as_bytes(), "exports");
    let module = context.create_module_from_ir(text).map_err(|e| bad("IR", &e))?;
    module.set_triple(&triple);
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    module.verify().map_err(|e| bad("IR", &e))?;
    let object = machine.write_to_memory_buffer(&module, FileType::Object).map_err(|e| bad("code", &e))?;
    Ok(object.as_slice().to_vec())
}

/// Compiles IR text to an object file.
#[cfg(not(feature = "llvm"))]
pub(super) fn assemble(_ir: &str, _triple: &str) -> Result<Vec<u8>> {
    Err(Diagnostic::unsupported("this aot was built without LLVM and cannot make libraries"))
}
