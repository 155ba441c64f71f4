//! Libraries from a hand-made program (`y = x + 1` over three floats), whose code is IR text, built and called.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::items_after_statements, reason = "a function's type stands where it is called")]
#![allow(unsafe_code, reason = "loads the built library and calls it through the C interface")]

use super::*;
use crate::index::IndexVec;
use crate::loops::{
    Arg, Buffer, BufferClass, Const, Dim, Function, Input, InputKind, Layout, Method, Operand, OutputTree, Stmt,
    Variant, Weight,
};
use crate::types::{DType, TensorData, Type};
use aot_runtime::capi::{AotEnv, AotError, AotTensor, AotValue};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

const TRIPLE: &str = env!("AOT_RUNTIME_TARGET");

/// Adds the weight to each of the three elements; the frame's fields are weights, arena, inputs, outputs.
const CODE: &str = "
define hidden i64 @add_f0(ptr %frame) {
entry:
  %weights = load ptr, ptr %frame
  %inputs_at = getelementptr i8, ptr %frame, i64 16
  %inputs = load ptr, ptr %inputs_at
  %outputs_at = getelementptr i8, ptr %frame, i64 24
  %outputs = load ptr, ptr %outputs_at
  %x_at = getelementptr i8, ptr %inputs, i64 8
  %x = load ptr, ptr %x_at
  %y_at = getelementptr i8, ptr %outputs, i64 8
  %y = load ptr, ptr %y_at
  %one = load float, ptr %weights
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %from = getelementptr float, ptr %x, i64 %i
  %to = getelementptr float, ptr %y, i64 %i
  %a = load float, ptr %from
  %b = fadd float %a, %one
  store float %b, ptr %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, 3
  br i1 %more, label %loop, label %done
done:
  store i64 4, ptr %outputs
  %dtype = getelementptr i8, ptr %outputs, i64 16
  store i64 6, ptr %dtype
  %rank = getelementptr i8, ptr %outputs, i64 24
  store i64 1, ptr %rank
  %size = getelementptr i8, ptr %outputs, i64 32
  store i64 3, ptr %size
  ret i64 0
}
";

fn program() -> Program {
    let mut program = Program::default();
    let one = TensorData::from_bytes(DType::F32, &[1], 1f32.to_ne_bytes().to_vec()).unwrap();
    program.weights.push(Weight { name: "one".into(), data: Arc::new(one) });
    let buffer = |class| Buffer {
        name: String::new(),
        dtype: DType::F32,
        dims: vec![Dim::Const(3)],
        class,
        layout: Layout::RowMajor,
    };
    let mut buffers = IndexVec::new();
    let x = buffers.push(buffer(BufferClass::Input(0)));
    buffers.push(buffer(BufferClass::Output(0)));
    let function = program.functions.push(Function {
        name: "forward".into(),
        params: vec![OutputTree::Tensor],
        inputs: vec![Input { name: "x".into(), kind: InputKind::Tensor { buffer: x, is_mutated: false } }],
        buffers,
        results: vec![OutputTree::Tensor],
        ..Function::default()
    });
    program.methods.push(Method {
        name: "forward".into(),
        params: vec![("x".into(), Type::tensor())],
        variants: vec![Variant { state_tag: None, function }],
    });
    program
}

fn desc(program: &Program) -> ModelDesc {
    metadata::describe(program, &metadata::Facts { name: "add".into(), ..metadata::Facts::default() }).unwrap()
}

fn build(kind: library::Kind, path: &Path) {
    let program = program();
    let code = glue::assemble(CODE, TRIPLE).unwrap();
    let (desc, entries) = (desc(&program), ["add_f0".to_owned()]);
    let parts = Parts { program: &program, desc: &desc, triple: TRIPLE, code: &code, entries: &entries };
    write_library(&parts, kind, path).unwrap_or_else(|e| panic!("{}", e.render()));
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Names of global symbols that are defined.
fn defined(path: &Path, is_dynamic: bool) -> Vec<String> {
    use ::object::{Object as _, ObjectSymbol as _};
    let bytes = fs::read(path).unwrap();
    let file = ::object::File::parse(&*bytes).unwrap();
    let symbols = if is_dynamic { file.dynamic_symbols() } else { file.symbols() };
    let defined = symbols.filter(|s| s.is_definition() && !s.is_local());
    let mut names: Vec<_> = defined.map(|s| s.name().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_shared_library_is_small_deterministic_and_callable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libadd.so");
    build(library::Kind::Shared, &path);
    let first = fs::read(&path).unwrap();
    build(library::Kind::Shared, &path);
    assert!(first == fs::read(&path).unwrap(), "two builds differ");
    assert!(first.len() < 1 << 20, "{} bytes", first.len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "scratch files are left");
    let names = glue::exports(&desc(&program())).into_iter().collect::<Vec<_>>();
    assert_eq!(defined(&path, true), names);
    let needs = output(Command::new("ldd").arg(&path));
    for line in needs.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let is_base = ["linux-vdso", "libc.", "libm.", "/lib"].iter().any(|base| name.starts_with(base));
        assert!(is_base, "needs {name}");
    }

    type Open = unsafe extern "C" fn(*mut usize, *const AotEnv, *mut AotError) -> i32;
    type Close = unsafe extern "C" fn(usize);
    type Forward = unsafe extern "C" fn(
        usize,
        usize,
        *const AotTensor,
        usize,
        *mut AotTensor,
        usize,
        usize,
        usize,
        *mut AotError,
    ) -> i32;
    let (mut x, mut y, sizes) = ([1f32, 2.0, 3.0], [0f32; 3], [3i64]);
    let tensor = |data: *mut f32| AotTensor {
        data: data.cast(),
        sizes: sizes.as_ptr(),
        strides: std::ptr::null(),
        ndim: 1,
        dtype: 6,
        flags: 0,
        reserved: 0,
        size_bytes: 12,
    };
    let (input, mut result) = (tensor(x.as_mut_ptr()), tensor(y.as_mut_ptr()));
    let mut error = AotError { code: 0, op: 0, text: [0; 248] };
    let mut model = 0usize;
    // SAFETY: the library is the one just built, whose functions have these types; all pointers live.
    unsafe {
        let library = libloading::Library::new(&path).unwrap();
        let open: libloading::Symbol<'_, Open> = library.get(b"add_open").unwrap();
        let forward: libloading::Symbol<'_, Forward> = library.get(b"add_forward").unwrap();
        let close: libloading::Symbol<'_, Close> = library.get(b"add_close").unwrap();
        assert_eq!(open(&raw mut model, std::ptr::null(), &raw mut error), 0, "{error:?}");
        let status = forward(model, 0, &raw const input, 1, &raw mut result, 1, 0, 0, &raw mut error);
        assert_eq!(status, 0, "{}", String::from_utf8_lossy(&error.text));
        let wrong = AotTensor { dtype: 7, size_bytes: 0, ..input };
        assert_eq!(forward(model, 0, &raw const wrong, 1, &raw mut result, 1, 0, 0, &raw mut error), -3);
        close(model);
    }
    assert_eq!(y, [2.0, 3.0, 4.0]);
    let text = String::from_utf8_lossy(&error.text).into_owned();
    assert!(text.contains("argument 'x': expected float32[3], got float64[3]"), "{text}");
}

/// The header and the sources of small hosts in a folder.
fn hosts(folder: &Path) {
    fs::write(folder.join("add.h"), header::c_header(&desc(&program()))).unwrap();
    fs::write(folder.join("aot.hpp"), header::CPP).unwrap();
    let sizes = [
        ("aot_tensor", size_of::<AotTensor>()),
        ("aot_value", size_of::<AotValue>()),
        ("aot_env", size_of::<AotEnv>()),
        ("aot_error", size_of::<AotError>()),
    ];
    let asserts: String =
        sizes.iter().map(|(ty, n)| format!("typedef char {ty}_is[sizeof({ty}) == {n} ? 1 : -1];\n")).collect();
    let c = format!(
        "#include \"add.h\"\n{asserts}
int main(void) {{
    float x[3] = {{1, 2, 3}};
    int64_t sizes[1] = {{3}};
    aot_tensor in = {{0}}, out = {{0}};
    add_model* model;
    aot_error err;
    if (add_open(&model, NULL, &err) != AOT_OK) return 1;
    in.data = x; in.sizes = sizes; in.ndim = 1; in.dtype = AOT_F32; in.size_bytes = sizeof x;
    if (add_forward(model, NULL, &in, 1, &out, 1, NULL, 0, &err) != AOT_OK) return 2;
    if (((float*)out.data)[2] != 4 || !(out.flags & AOT_TENSOR_OWNED)) return 3;
    add_tensor_release(&out);
    if (add_info()->n_methods != 1 || add_api()->size != sizeof(aot_api)) return 4;
    add_close(model);
    return 0;
}}\n"
    );
    fs::write(folder.join("host.c"), c).unwrap();
    let cpp = "#include \"add.h\"\n#include \"aot.hpp\"
int main() {
    std::vector<float> x{1, 2, 3};
    auto model = aot::load(add_api());
    aot::Tensor y = model.forward({aot::Tensor::view(x, {3})}).toTensor();
    if (y.data_ptr<float>()[2] != 4 || y.size(0) != 3) return 1;
    if (model.get_method(\"forward\")({aot::Tensor::from(x, {3})}).toTensor().numel() != 3) return 2;
    aot::State state = model.new_state();
    aot::State copy = state;
    model.forward({aot::Tensor::view(x, {3})}, copy);
#ifndef AOT_NO_EXCEPTIONS
    try { model.forward({1}); return 3; } catch (const aot::Error& e) { return e.code == AOT_E_ARGUMENT ? 0 : 4; }
#else
    model.forward({1});
    return aot::last_error().code == AOT_E_ARGUMENT ? 0 : 5;
#endif
}\n";
    fs::write(folder.join("host.cc"), cpp).unwrap();
}

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];

#[test]
fn headers_compile_strictly_in_every_language_version() {
    let folder = tempfile::tempdir().unwrap();
    hosts(folder.path());
    let compile = |cc: &str, std: &str, source: &str, more: &[&str]| {
        let mut command = Command::new(cc);
        command.current_dir(folder.path()).args(STRICT).args(more).args([std, "-fsyntax-only", source]);
        output(&mut command);
    };
    compile("cc", "-std=c99", "host.c", &[]);
    compile("cc", "-std=c11", "host.c", &[]);
    compile("c++", "-std=c++11", "add.h", &["-x", "c++"]);
    compile("c++", "-std=c++17", "host.cc", &[]);
    compile("c++", "-std=c++17", "host.cc", &["-DAOT_NO_EXCEPTIONS", "-fno-exceptions"]);
}

#[test]
fn hosts_in_c_and_cpp_link_and_run() {
    let folder = tempfile::tempdir().unwrap();
    hosts(folder.path());
    let at = |name: &str| folder.path().join(name);
    for (kind, file) in
        [(library::Kind::Shared, "libadd.so"), (library::Kind::Static, "libadd.a"), (library::Kind::Object, "add.o")]
    {
        build(kind, &at(file));
        for (cc, source) in [("cc", "host.c"), ("c++", "host.cc")] {
            let mut command = Command::new(cc);
            command.current_dir(folder.path()).arg(source).arg("-o").arg("host").arg(PathBuf::from("./").join(file));
            output(command.args(["-lm", "-lpthread", "-ldl", "-lgcc_s", "-Wl,-rpath,$ORIGIN"]));
            output(&mut Command::new(at("host")));
        }
    }
    let names = glue::exports(&desc(&program())).into_iter().collect::<Vec<_>>();
    assert_eq!(defined(&at("add.o"), false), names);
}

#[test]
fn a_program_goes_through_the_emitter_into_a_library() {
    use crate::emit::target::Target;
    let mut program = program();
    let function = &mut program.functions[crate::loops::FunctionId(0)];
    function.results = vec![OutputTree::Int];
    function.buffers.truncate(1);
    function.body.0.push(Stmt::Return(0, vec![Arg::Scalar(Operand::Const(Const::int(7)))]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libadd.so");
    let facts = metadata::Facts { name: "add".into(), ..metadata::Facts::default() };
    let target = Target::named("x86-64-v2").unwrap();
    let desc = super::build(&program, facts, &target, llvm::Level::Full, library::Kind::Shared, &path)
        .unwrap_or_else(|e| panic!("{}", e.render()));
    assert_eq!(desc.cpu_features, "popcnt,sse3,sse4.1,sse4.2,ssse3");
    assert_eq!(header::signatures(&desc, &desc.methods[0]), ["(x: float32[3]) -> int"]);
    assert_eq!(defined(&path, true), glue::exports(&desc).into_iter().collect::<Vec<_>>());
}
