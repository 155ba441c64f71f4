//! Text in, tree or error out.

use super::parse::{Dialect, parse_dialect};
use crate::source::Source;
use std::sync::Arc;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "t.py".into(), text: text.into(), origins: Vec::new() })
}

/// The tree of a text, or its first error with line and column.
fn outcome(text: &str, dialect: Dialect) -> String {
    match parse_dialect(&source(text), dialect) {
        Ok(file) => file.to_string(),
        Err(error) => {
            let place = error.span.as_ref().map_or("?".into(), crate::source::Span::place);
            format!("error at {place}: {}\n", error.message)
        }
    }
}

fn check_own(text: &str, expected: &str) {
    assert_eq!(outcome(text, Dialect::Own).trim_end(), expected, "for {text}");
}

fn check_python(text: &str, expected: &str) {
    assert_eq!(outcome(text, Dialect::Python).trim_end(), expected, "for {text}");
}

#[test]
fn precedence_of_the_two_dialects() {
    for (text, own, python) in [
        ("a or b and c", "((a or b) and c)", "(a or (b and c))"),
        ("x < y < z", "((x < y) < z)", "(x < y < z)"),
        ("~x + 1", "(~(x + 1))", "((~x) + 1)"),
        ("-2 ** 2", "(-(2 ** 2))", "(-(2 ** 2))"),
        ("2 ** -1 ** x", "(2 ** (-(1 ** x)))", "(2 ** (-(1 ** x)))"),
        ("a ** b ** c", "(a ** (b ** c))", "(a ** (b ** c))"),
        ("not a == b", "(not (a == b))", "(not (a == b))"),
        ("a - b - c * d", "((a - b) - (c * d))", "((a - b) - (c * d))"),
        ("a | b ^ c & d << 1", "(a | (b ^ (c & (d << 1))))", "(a | (b ^ (c & (d << 1))))"),
        ("a is not None", "(a is not None)", "(a is not None)"),
        ("a not in b", "(a not in b)", "(a not in b)"),
        ("a if b else c if d else e", "(a if b else (c if d else e))", "(a if b else (c if d else e))"),
        ("-a.b(1)[0]", "(-a.b(1)[0])", "(-a.b(1)[0])"),
        ("1 - -1", "(1 - -1)", "(1 - -1)"),
    ] {
        check_own(text, own);
        check_python(text, python);
    }
}

#[test]
fn literals() {
    for (text, expected) in [
        ("0x10", "16"),
        ("1e3", "1000.0"),
        (".5", "0.5"),
        ("5.", "5.0"),
        ("1e400", "inf"),
        ("1.0000000000000001e-05", "1e-5"),
        ("1.+3.j", "(1.0 + 3.0j)"),
        ("-9223372036854775808", "-9223372036854775808"),
        (r#""a\n\t\\\'\"\a\b\f\r\v\101\377""#, r#""a\n\t\\\'\"\x07\x08\x0c\r\x0bA\xff""#),
        (r#""é""#, r#""\xc3\xa9""#),
        (r#""a" 'b' """c"d""""#, r#""abc\"d""#),
        (
            "9223372036854775808",
            "error at t.py:1:0: Integral constant out of range (must fit in a signed 64 bit integer)",
        ),
        (r#""\x41""#, "error at t.py:1:1: unsupported hex specifier"),
        (r#""\q""#, "error at t.py:1:1: ill formed octal specifier"),
        ("r'a'", "error at t.py:1:0: string prefix 'r' is not supported"),
        (
            "9223372036854775808 + -9223372036854775808",
            "error at t.py:1:0: Integral constant out of range (must fit in a signed 64 bit integer)",
        ),
        ("1_000", "error at t.py:1:0: invalid syntax: found '1_000' here"),
    ] {
        check_own(text, expected);
    }
    for (text, expected) in [
        (r#""\x41\u00e9\0\q""#, r#""A\xc3\xa9\x00\\q""#),
        (r"r'\n'", r#""\\n""#),
        ("f'a{x + 1}{{b}}{d[\"k\"]}'", r#"format("a", (x + 1), "{b}", d["k"])"#),
        ("f'{x!r}{y:.2f}'", "format(<Don't support conversion in JoinedStr>, <Don't support formatting in JoinedStr>)"),
    ] {
        check_python(text, expected);
    }
}

#[test]
fn expressions() {
    for (text, expected) in [
        ("(self.layer).forward(x, )", "self.layer.forward(x)"),
        ("f(a, *b, k=1, )", "f(a, *b, k=1)"),
        ("f(x for x in y)", "f([x for x in y])"),
        ("x[1:2, ::3, None, ..., -1]", "x[1:2, ::3, None, ..., -1]"),
        ("()", "()"),
        ("(a,)", "(a,)"),
        ("a, b", "(a, b)"),
        ("[a, b, ]", "[a, b]"),
        ("{}", "{}"),
        ("{'a': 1, 'b': [2]}", "{\"a\": 1, \"b\": [2]}"),
        ("{1, 2}", "set{1, 2}"),
        ("[a + 1 for a, b in c if a if b]", "[(a + 1) for (a, b) in c if a if b]"),
        ("{k: v for k in x}", "{k: v for k in x}"),
        ("lambda x, y=1: x if y else 0", "<Lambda aren't supported>"),
        ("(y := 3)", "<NamedExpr aren't supported>"),
        ("f(**k)", "f(<keyword-arg expansion is not supported>)"),
        ("a.if_x.is_none", "a.if_x.is_none"),
        ("annotate(List[Optional[Tensor]], [None, i])", "annotate(List[Optional[Tensor]], [None, i])"),
        ("torch.add(x, # one\n  y)", "torch.add(x, y)"),
        ("a + \\\n b", "(a + b)"),
    ] {
        check_own(text, expected);
    }
}

#[test]
fn simple_statements() {
    for (text, expected) in [
        ("a = b = c, d", "a = b = (c, d)"),
        ("a, = t", "(a,) = t"),
        ("a, (b, *c), = t", "(a, (b, *c)) = t"),
        ("x : Final[int] = 7", "x: Final[int] = 7"),
        ("__annotations__[\"0\"] = __torch__.M", "__annotations__[\"0\"] = __torch__.M"),
        ("self.x : List[int] = []", "self.x: List[int] = []"),
        ("x //= 2", "x //= 2"),
        ("x **= 2; y @= z", "x **= 2\ny @= z"),
        ("return", "return"),
        ("return a, b", "return (a, b)"),
        ("raise E('m') from e", "raise E(\"m\") from e"),
        ("assert a, 'b'", "assert a, \"b\""),
        ("del a, b[0]", "del a, b[0]"),
        ("import torch.nn as nn, math", "import torch.nn as nn, math"),
        ("from a.b import (c, d as e)", "import c from a.b, d as e from a.b"),
        ("from . import *", "import * from ."),
        ("global x", "unsupported: global"),
        ("f() = 1", "error at t.py:1:0: unexpected expression on left-hand side of assignment"),
        ("a b", "error at t.py:1:2: expected newline but found 'ident' here"),
        ("f(a", "error at t.py:1:1: '(' was never closed"),
        ("f(a]", "error at t.py:1:3: expected ) but found ']' here"),
        ("'abc", "error at t.py:1:0: expected a valid token but found ''' here"),
    ] {
        check_own(text, expected);
    }
}

#[test]
fn blocks() {
    check_own(
        "class M(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n  def f(self: __torch__.M,\n    x: Tensor,\n    o: Optional[Tensor]=None) -> Tensor:\n    if a:\n      pass\n    elif b: return x\n    else:\n\n      for i, j in x:\n        break\n    # note\n    while True: continue\n    with a as b, c:\n      y = x\n    def __forked_function():\n      return y\n    return x\ndef g(*, k, **r): return k\n",
        "class M(Module)\n  __parameters__ = [\"w\"]\n  w: Tensor\n  def f(self: __torch__.M, x: Tensor, o: Optional[Tensor] = None) -> Tensor\n    if a\n      pass\n    else\n      if b\n        return x\n      else\n        for (i, j) in x\n          break\n    while True\n      continue\n    with a as b, c\n      y = x\n    def __forked_function()\n      return y\n    return x\ndef g(keyword k, **r)\n  return k",
    );
    check_python(
        "@torch.jit.script\ndef f(x):\n    '''Doc.'''\n    try:\n        x\n    except E as e:\n        y\n    finally:\n        z\n    for a in x:\n        pass\n    else:\n        pass\n",
        "@torch.jit.script\ndef f(x)\n  \"Doc.\"\n  unsupported: try\n    x\n    y\n    z\n  for a in x\n    pass\n  else\n    pass",
    );
}

#[test]
fn wrong_layout() {
    for (text, expected) in [
        ("def f():\n\tx\n    y\n", "error at t.py:3:4: unexpected indent"),
        ("class M:\n  def f():\n\tx\n    y\n", "error at t.py:3:1: invalid indent level 1"),
        ("if a:\n    x\n  y\n", "error at t.py:3:2: invalid indent level 2"),
        ("if a:\nx\n", "error at t.py:1:0: expected an indented block after this"),
        ("if a:\n", "error at t.py:1:0: expected an indented block after this"),
        ("class M(Module)\n  pass\n", "error at t.py:1:15: expected ':' but found the end of the line here"),
        ("else:\n  x\n", "error at t.py:1:0: this continues no statement before it"),
        ("x\nelif a:\n  x\n", "error at t.py:2:0: 'elif' without an 'if' before it"),
        ("@a\nx\n", "error at t.py:2:0: expected a function or class after a decorator"),
        ("x)", "error at t.py:1:1: unmatched ')'"),
    ] {
        check_own(text, expected);
    }
}

#[test]
fn type_comments_are_kept() {
    let file = parse_dialect(
        &source("def f(x, # type: int\n      y):\n    # type: (...) -> int\n    return x\n"),
        Dialect::Python,
    )
    .unwrap();
    let comments: Vec<_> = file.type_comments.iter().map(|c| (&*c.text, file.text(c.range))).collect();
    assert_eq!(comments, [("int", "int"), ("(...) -> int", "(...) -> int")]);
}

#[test]
fn hostile_nesting_is_refused_and_flat_bulk_is_not() {
    let begins = |text: &str, start: &str| {
        let got = outcome(text, Dialect::Own);
        assert!(got.contains(start), "{}", got.get(..200).unwrap_or(&got));
    };
    begins(&format!("x = {}x{}", "f(".repeat(10_000), ")".repeat(10_000)), "nested too deeply");
    begins(&format!("x = {}x{}", "f(".repeat(99), ")".repeat(99)), "x = f(f(");
    begins(&format!("x = x{}", " + x".repeat(20_000)), "nested too deeply");
    begins(&format!("x = {}x", "not ".repeat(20_000)), "nested too deeply");
    begins(&format!("x = {}x", "lambda: ".repeat(20_000)), "nested too deeply");
    begins(&format!("x = x{}", " ** x".repeat(20_000)), "nested too deeply");
    begins(&format!("x = x{}", ".x".repeat(20_000)), "nested too deeply");
    begins(&format!("x = x{}", " if x else x".repeat(20_000)), "nested too deeply");
    let ifs: String = (0..5000).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
    begins(&ifs, "blocks are nested too deeply");
    begins(&format!("if a: x\n{}", "elif a: x\n".repeat(5000)), "blocks are nested too deeply");
    let ifs: String = (0..2000).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect();
    assert!(parse_dialect(&source(&format!("{ifs}{}y\n", " ".repeat(2000))), Dialect::Own).is_ok());
    begins(&format!("{} = 1", "n".repeat(100_000)), "nnn");
    begins(&format!("x = \"{}\"", "\\101".repeat(50_000)), "AAAA");
    assert_eq!(parse_dialect(&source(&"x = torch.add(x, 1)\n".repeat(5000)), Dialect::Own).unwrap().stmts.len(), 5000);
}
