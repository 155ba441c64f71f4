//! Tests of tasks by models of closures: that they run beside one another, that one thread is enough, what they raise.
#![allow(unsafe_code, reason = "plays the part of compiled code")]

use crate::abi::{Frame, Leaf, Status, Tag};
use crate::desc::{FunctionDesc, InputDesc, InputKind, MethodDesc, ModelDesc, Tree, VariantDesc};
use crate::error::{Error, Result};
use crate::model::{Code, Env, Model, Weights};
use crate::routines;
use crate::value::Value;
use std::sync::Barrier;
use std::thread::ThreadId;

fn routine(frame: &mut Frame, name: &str, args: &[Leaf]) -> std::result::Result<u64, i64> {
    let mut result = [0; 2];
    let routine = routines::find(name).unwrap();
    // SAFETY: the frame is that of the running call.
    let status = unsafe { routine(frame, args.as_ptr(), args.len() as i64, result.as_mut_ptr()) };
    if status < 0 { Err(status) } else { Ok(result[0]) }
}

fn start(frame: &mut Frame, routine_name: &str, function: i64, n: i64) -> std::result::Result<Leaf, i64> {
    let bits = routine(frame, routine_name, &[Leaf::int(function), Leaf::int(n)])?;
    Ok(Leaf { tag: Tag::Object as i64, bits, ..Leaf::NONE })
}

/// Waits for a future and gives it up; its result is one int.
fn wait(frame: &mut Frame, future: Leaf) -> std::result::Result<i64, i64> {
    let result = routine(frame, "task_wait", &[future]).and_then(|_| routine(frame, "task_get", &[future]));
    release(future);
    result.map(|bits| bits as i64)
}

fn release(future: Leaf) {
    // SAFETY: the reference that `start` gave.
    unsafe { crate::host::aot_rt_release(future.bits as *mut _) };
}

fn argument(frame: &Frame) -> i64 {
    // SAFETY: the functions take one int.
    unsafe { (*frame.inputs).bits as i64 }
}

/// A function of an int that gives an int.
fn code(body: impl Fn(&mut Frame, i64) -> std::result::Result<i64, i64> + Send + Sync + 'static) -> Code {
    Code::Interpreted(Box::new(move |frame| {
        let n = argument(frame);
        match body(frame, n) {
            Ok(result) => {
                // SAFETY: there is room for one leaf.
                unsafe { *frame.outputs = Leaf::int(result) };
                0
            }
            Err(status) => status,
        }
    }))
}

/// A model whose method `f` is the first function.
fn model(n_threads: usize, code: Vec<Code>) -> Model {
    let function = FunctionDesc {
        params: vec![Tree::Int],
        inputs: vec![InputDesc { name: "n".into(), kind: InputKind::Int { only: None } }],
        results: vec![Tree::Tuple(vec![Tree::Int])],
        ..FunctionDesc::default()
    };
    let desc = ModelDesc {
        functions: vec![function; code.len()],
        methods: vec![MethodDesc {
            name: "f".into(),
            params: vec![("n".into(), "int".into())],
            variants: vec![VariantDesc { state_tag: None, function: 0 }],
        }],
        ..ModelDesc::default()
    };
    let env = Env { max_threads: n_threads, ..Env::default() };
    Model::open(desc, Weights::from_bytes(&[]).unwrap(), code, env, None).unwrap()
}

fn call(model: &Model, n: i64) -> Result<i64> {
    match model.call("f", &[Value::Int(n)])? {
        Value::Tuple(items) => match items[..] {
            [Value::Int(n)] => Ok(n),
            _ => Err(Error::new(Status::Internal, "another result")),
        },
        _ => Err(Error::new(Status::Internal, "another result")),
    }
}

/// Both tasks wait for the other to have begun, so the call ends only if they run at once.
#[test]
fn tasks_run_beside_one_another() {
    let barrier = Barrier::new(2);
    let main = code(|frame, n| {
        let (a, b) = (start(frame, "task_start", 1, n)?, start(frame, "task_start", 1, n + 1)?);
        Ok(wait(frame, a)? + wait(frame, b)?)
    });
    let meet = code(move |_, n| {
        barrier.wait();
        Ok(10 * n)
    });
    let model = model(2, vec![main, meet]);
    for n in 0..100 {
        assert_eq!(call(&model, n).unwrap(), 20 * n + 10);
    }
    assert!(model.n_pool_tasks() >= 100);
}

/// Tasks start tasks and wait for them; on one thread each runs where it is waited for.
#[test]
fn nested_tasks_need_no_second_thread() {
    for n_threads in [1, 2, 4] {
        let fibonacci = code(|frame, n| {
            if n < 2 {
                return Ok(n);
            }
            let (a, b) = (start(frame, "task_start", 0, n - 1)?, start(frame, "task_start", 0, n - 2)?);
            Ok(wait(frame, a)? + wait(frame, b)?)
        });
        let model = model(n_threads, vec![fibonacci]);
        assert_eq!(call(&model, 12).unwrap(), 144);
        assert!(n_threads > 1 || model.n_pool_tasks() == 0);
    }
}

#[test]
fn what_a_task_raises_is_raised_by_each_wait() {
    for name in ["task_start", "task_run"] {
        let main = code(move |frame, n| {
            let future = start(frame, name, 1, n)?;
            assert_eq!(routine(frame, "task_wait", &[future]), Err(Status::Index as i64));
            wait(frame, future)
        });
        let raising = code(|frame, n| {
            let error = Error::raised("builtins.IndexError", format!("no item {n}"), "net.py:3:8");
            // SAFETY: the frame is that of the running call.
            Err(unsafe { crate::host::fail(frame, error) })
        });
        let error = call(&model(2, vec![main, raising]), 7).unwrap_err();
        assert_eq!(
            (error.class.as_str(), error.message.as_str(), error.place.as_str()),
            ("IndexError", "no item 7", "net.py:3:8")
        );
    }
}

/// A call ends after its tasks, and one that nobody can wait for need not run.
#[test]
fn a_task_that_is_not_waited_for_is_given_up() {
    for n_threads in [1, 3] {
        let main = code(|frame, n| {
            for i in 0..n {
                release(start(frame, "task_start", 1, i)?);
            }
            Ok(n)
        });
        let raising = code(|frame, _| {
            // SAFETY: the frame is that of the running call.
            Err(unsafe { crate::host::fail(frame, Error::raised("RuntimeError", "nobody hears it", "")) })
        });
        let model = model(n_threads, vec![main, raising]);
        for _ in 0..50 {
            assert_eq!(call(&model, 5).unwrap(), 5);
        }
    }
}

/// Many callers share the pool; `task_run` stays on its caller's thread.
#[test]
fn callers_share_the_pool() {
    let main = code(|frame, n| {
        let here = start(frame, "task_run", 2, 0)?;
        let futures =
            (0..4).map(|i| start(frame, "task_start", 1, n + i)).collect::<std::result::Result<Vec<_>, _>>()?;
        let sum = futures.into_iter().map(|future| wait(frame, future)).sum::<std::result::Result<i64, _>>()?;
        assert_eq!(wait(frame, here)?, thread_number(std::thread::current().id()));
        Ok(sum)
    });
    let square = code(|_, n| Ok(n * n));
    let thread = code(|_, _| Ok(thread_number(std::thread::current().id())));
    let model = model(3, vec![main, square, thread]);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(call(model, n).unwrap(), (n..n + 4).map(|n| n * n).sum());
                }
            });
        }
    });
}

fn thread_number(id: ThreadId) -> i64 {
    format!("{id:?}").chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
