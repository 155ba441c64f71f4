//! What a host is told of an exception in the model: a status, the Python class and message, the user's file and line, and
//! the operator.

use super::{Recorded, folder, host, options, request, source};
use aot::build;

#[test]
fn exceptions_carry_class_message_and_place() {
    let folder = folder();
    let recorded = Recorded::extract("errors.zip", "raises.script", folder.path());
    let mut requests = Vec::new();
    for call in &recorded.cases.calls {
        let request = request(call);
        if !requests.iter().any(|known: &aot::lower::Request| known.method == request.method) {
            requests.push(request);
        }
    }
    let out = folder.path().join("libm_model.so");
    build::build_file(&recorded.path, &requests, &out, &options("m")).unwrap_or_else(|e| panic!("{}", e.render()));
    let source = source("errors.c");
    let told = host(folder.path(), "cc", &["-std=c11", "-O1", &source, "-L.", "-l:libm_model.so"]);
    let expected = "\
-8 aten::__getitem__ raises.py:15: RuntimeError: list index out of range
-8 aten::select raises.py:17: RuntimeError: select(): index 8 out of range for tensor of size [3] at dimension 0
-8 - raises.py:20: ValueError: no positive sum, please: 2
-8 aten::Int raises.py:22: RuntimeError: invalid literal for int() with base 10: '0x'
-8 aten::pop raises.py:25: RuntimeError: pop from empty list
-8 - raises.py:27: AssertionError: too few items
0
-8 aten::embedding raises.py:32: RuntimeError: index out of range in self
-8 aten::view raises.py:36: RuntimeError: shape '[2, -1]' is invalid for input of size 3
";
    assert_eq!(told, expected);
}
