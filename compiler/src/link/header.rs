//! The C header of a model, and the files that build systems read.

use super::glue::exported_methods;
use super::raw;
use aot_runtime::desc::{FunctionDesc, InputKind, MethodDesc, ModelDesc, Tree};
use std::fmt::Write as _;

/// The C++ wrapper `aot.hpp`, the same for all models.
pub const CPP: &str = include_str!("aot.hpp");
/// The part of the header that is the same for all models.
const ABI: &str = include_str!("abi.h");

/// The C99 header `NAME.h`.
pub fn c_header(desc: &ModelDesc) -> String {
    let name = &desc.name;
    let upper = name.to_uppercase();
    let mut out = format!("/* {name}: a compiled model. Written by {}; do not edit. */\n", comment(&desc.compiler));
    let _ = writeln!(out, "#ifndef {upper}_MODEL_H\n#define {upper}_MODEL_H\n\n{ABI}");
    let _ = write!(
        out,
        "#ifdef __cplusplus
extern \"C\" {{
#endif

/* The model: after {name}_open it never changes, and any number of threads may use it. */
typedef struct {name}_model {name}_model;
/* What calls change; used by one call at a time. Where NULL is given, a state of the model's own is used. */
typedef struct {name}_state {name}_state;

/* What the library holds; in read-only memory. */
const aot_model_info* {name}_info(void);
/* All functions that are the same for every model, with model and state as void*. */
const aot_api* {name}_api(void);
/* Checks the CPU and makes the model ready. env and err may be NULL. */
int {name}_open({name}_model** out, const aot_env* env, aot_error* err);
void {name}_close({name}_model* model);
/* The most threads a call uses; 0: as many as the machine has. */
void {name}_set_threads({name}_model* model, int32_t n_threads);

/* Takes what the model prints (AOT_LOG_PRINT) and warns (AOT_LOG_WARNING), a line at a time, from now on; calls of several
 * threads may do so at once. Without it, or with NULL, lines go to the standard output and the standard error. */
void {name}_set_log({name}_model* model, void (*log)(void* user, int level, const char* text), void* user);
/* What the last failing call of this thread ended with, in parts; NULL if none failed. */
const aot_exception* {name}_last_exception(void);

int {name}_state_new({name}_model* model, {name}_state** out, aot_error* err);
int {name}_state_clone(const {name}_state* state, {name}_state** out, aot_error* err);
int {name}_state_reset({name}_state* state, aot_error* err);
void {name}_state_free({name}_state* state);
/* Starts the state's random numbers anew. */
int {name}_manual_seed({name}_state* state, uint64_t seed);

/* Calls any method with values of any kind. Release the result with {name}_value_release. */
int {name}_call({name}_model* model, {name}_state* state, const char* method, const aot_value* in, size_t n_in,
    aot_value* out, aot_error* err);

/* Free what the library allocated, and leave everything else alone. */
void {name}_tensor_release(aot_tensor* tensor);
void {name}_value_release(aot_value* value);
"
    );
    let exported = exported_methods(desc);
    for (i, method) in desc.methods.iter().enumerate() {
        let _ = writeln!(out, "\n/*\n * {}", comment(&method.name));
        for line in signatures(desc, method) {
            let _ = writeln!(out, " *   {}", comment(&line));
        }
        if !exported.contains(&i) {
            let _ = writeln!(out, " * Reached through {name}_call.\n */");
            continue;
        }
        let function = format!("{name}_{}", method.name);
        let _ = write!(
            out,
            " *
 * in: a tensor for each argument, numbers as tensors without dimensions. out[i].data is memory for the result, or NULL:
 * then the library allocates it and sets AOT_TENSOR_OWNED. ws: {function}_workspace bytes aligned to 64, or NULL.
 */
int {function}({name}_model* model, {name}_state* state, const aot_tensor* in, size_t n_in, aot_tensor* out,
    size_t n_out, void* ws, size_t ws_bytes, aot_error* err);
/* The results' dtypes, sizes (written to dims) and bytes; ndim -1: only the computation tells. */
int {function}_shapes({name}_model* model, {name}_state* state, const aot_tensor* in, size_t n_in, aot_tensor* out,
    size_t n_out, int64_t* dims, size_t n_dims, aot_error* err);
size_t {function}_workspace(const {name}_model* model);
"
        );
        if let Some(parameters) = raw::parameters(desc, method) {
            let _ = write!(
                out,
                "/* The same for the first signature, without checks of types and extents: row-major elements, aligned to their size.
 * No argument is NULL; state and ws may be. */
int {function}_raw({name}_model* model, {name}_state* state"
            );
            for parameter in parameters.iter().filter(|p| p.pass != raw::Pass::Nothing) {
                let _ = write!(out, ",\n    {} {}", parameter.ty, parameter.name);
                if !parameter.comment.is_empty() {
                    let _ = write!(out, " /* {} */", comment(&parameter.comment));
                }
            }
            out.push_str(",\n    void* ws);\n");
        }
    }
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    out
}

/// `x: float32[1, N3], sr: 16000 -> (Tensor, int)` for each compiled version of a method.
pub fn signatures(desc: &ModelDesc, method: &MethodDesc) -> Vec<String> {
    let describe = |function: &FunctionDesc| {
        let inputs: Vec<_> = function.inputs.iter().map(|i| format!("{}: {}", i.name, input(&i.kind))).collect();
        let mut results: Vec<String> = Vec::new();
        for of in &function.results {
            let mut leaf = 0;
            let text = tree(of, function, &mut leaf);
            if !results.contains(&text) {
                results.push(text);
            }
        }
        format!("({}) -> {}", inputs.join(", "), results.join(" or "))
    };
    method.variants.iter().filter_map(|v| desc.functions.get(v.function as usize)).map(describe).collect()
}

fn input(kind: &InputKind) -> String {
    let number = |ty: &str, only: Option<String>| only.map_or(ty.to_owned(), |only| format!("{ty} = {only}"));
    match kind {
        InputKind::Tensor { tensor, is_mutated: false } => tensor.describe(),
        InputKind::Tensor { tensor, is_mutated: true } => format!("{} (written to)", tensor.describe()),
        InputKind::Int { only } => number("int", only.map(|n| n.to_string())),
        InputKind::Float { only } => number("float", only.map(|x| format!("{x:?}"))),
        InputKind::Bool { only } => number("bool", only.map(|b| b.to_string())),
        InputKind::None => "None".into(),
        InputKind::Str(text) => format!("{text:?}"),
        InputKind::Object => "object".into(),
        InputKind::Shared { tensor, .. } => format!("{} (shared, may be written to)", tensor.describe()),
    }
}

fn tree(of: &Tree, function: &FunctionDesc, leaf: &mut usize) -> String {
    let first = *leaf;
    let mut join = |items: &mut dyn Iterator<Item = &Tree>| {
        items.map(|item| tree(item, function, leaf)).collect::<Vec<_>>().join(", ")
    };
    match of {
        Tree::Tuple(items) => return format!("({})", join(&mut items.iter())),
        Tree::List(items) => return format!("[{}]", join(&mut items.iter())),
        Tree::NamedTuple(name, fields) => {
            return format!("{name}({})", join(&mut fields.iter().map(|(_, item)| item)));
        }
        Tree::Dict(items) => return format!("{{{}}}", join(&mut items.iter().flat_map(|(k, v)| [k, v]))),
        Tree::None
        | Tree::Tensor
        | Tree::Int
        | Tree::Float
        | Tree::Bool
        | Tree::Complex
        | Tree::Object
        | Tree::Str(_) => {}
    }
    *leaf += of.n_result_leaves();
    match of {
        Tree::None => "None".into(),
        Tree::Tensor => match function.outputs.get(first) {
            Some(Some(tensor)) => tensor.describe(),
            _ => "Tensor".into(),
        },
        Tree::Int => "int".into(),
        Tree::Float => "float".into(),
        Tree::Bool => "bool".into(),
        Tree::Complex => "complex".into(),
        Tree::Str(text) => format!("{text:?}"),
        Tree::Object | Tree::Tuple(_) | Tree::List(_) | Tree::NamedTuple(..) | Tree::Dict(_) => "object".into(),
    }
}

/// Text that cannot end the comment it stands in.
fn comment(text: &str) -> String {
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// `NAMEConfig.cmake`: the imported target `aot::NAME`, for the library and header beside it.
pub fn cmake(name: &str, library: &str) -> String {
    let kind = if library.ends_with(".so") { "SHARED" } else { "STATIC" };
    format!(
        "if(NOT TARGET aot::{name})
  add_library(aot::{name} {kind} IMPORTED)
  set_target_properties(aot::{name} PROPERTIES
    IMPORTED_LOCATION \"${{CMAKE_CURRENT_LIST_DIR}}/{library}\"
    INTERFACE_INCLUDE_DIRECTORIES \"${{CMAKE_CURRENT_LIST_DIR}}\")
  if(UNIX AND \"{kind}\" STREQUAL \"STATIC\")
    set_property(TARGET aot::{name} PROPERTY INTERFACE_LINK_LIBRARIES m pthread dl gcc_s)
  endif()
endif()
"
    )
}

/// `NAME.pc`, for the library and header beside it.
pub fn pkg_config(name: &str, library: &str, version: &str) -> String {
    format!(
        "prefix=${{pcfiledir}}
Name: {name}
Description: The compiled model {name}
Version: {version}
Cflags: -I${{prefix}}
Libs: -L${{prefix}} -l:{library}{}
",
        if library.ends_with(".so") { "" } else { " -lm -lpthread -ldl -lgcc_s" }
    )
}
