//! Starting tasks and waiting for them, see [`crate::task`].
//!
//! ```text
//! task_start(function, args...) -> future     runs beside the call, on copies of the arguments
//! task_run(function, args...) -> future       runs now, on the arguments themselves; what it raises is kept all the same
//! task_wait(future) -> number of the result tree; raises what the task raised
//! task_get(future) -> leaves of that tree
//! ```

use super::Call;
use crate::abi::{Leaf, Status, Tag};
use crate::copies::Copies;
use crate::error::{Error, Result};
use crate::object::{Body, Item, ObjectRef};
use crate::task::{Family, Job, Outcome, Task};
use std::sync::Arc;

fn family(call: &Call<'_>) -> Result<Arc<Family>> {
    let family = call.runtime.family.clone();
    family.ok_or_else(|| Error::new(Status::Internal, "a task is started where no instance runs"))
}

fn function(call: &Call<'_>) -> Result<usize> {
    usize::try_from(call.int(0)?).map_err(|_| Error::new(Status::Internal, "a task of no function"))
}

/// The task of a future operand.
fn task(call: &Call<'_>) -> Result<Arc<Task>> {
    match call.object(0)?.body() {
        Body::Future(task) => Ok(task.clone()),
        _ => Err(Error::new(Status::Internal, "a routine expected a future")),
    }
}

pub(super) fn task_start(call: &mut Call<'_>) -> Result<()> {
    let (family, function) = (family(call)?, function(call)?);
    let mut inputs = Vec::with_capacity(call.n_args() - 1);
    let (mut holds, mut copies) = (Vec::new(), Copies::default());
    for i in 1..call.n_args() {
        let leaf = *call.leaf(i)?;
        inputs.push(match leaf.kind() {
            Tag::Tensor => {
                // An operand that is a tensor becomes an object with a copy.
                let object = call.object(i)?;
                let copy = match object.body() {
                    Body::Tensor(tensor) => Leaf::tensor(tensor.dtype, &tensor.sizes, tensor.data()),
                    _ => leaf,
                };
                holds.push(object);
                copy
            }
            Tag::Object => match copies.item(&call.item(i)?)? {
                Item::Object(object) => {
                    let copy = Leaf::object(&object);
                    holds.push(object);
                    copy
                }
                _ => leaf,
            },
            Tag::None | Tag::Bool | Tag::Int | Tag::Float | Tag::Text => leaf,
        });
    }
    let task = Arc::new(Task::new(Job { family, function, inputs, holds }));
    let future = ObjectRef::new(Body::Future(task.clone()));
    call.runtime.tasks.push(future.clone());
    let pool = call.runtime.pool.clone();
    pool.submit(task);
    call.ret_item(0, Item::Object(future))
}

pub(super) fn task_run(call: &mut Call<'_>) -> Result<()> {
    let (family, function) = (family(call)?, function(call)?);
    let inputs: Vec<Leaf> = (1..call.n_args()).map(|i| call.leaf(i).copied()).collect::<Result<_>>()?;
    let runtime = &mut *call.runtime;
    let outcome: Outcome = family.with_instance(|instance| {
        // Random numbers go on where the caller's are.
        instance.swap_generator(&mut runtime.generator);
        let outcome = instance.call_task(function, &inputs);
        instance.swap_generator(&mut runtime.generator);
        outcome
    });
    call.ret_body(Body::Future(Arc::new(Task::done(outcome))))
}

pub(super) fn task_wait(call: &mut Call<'_>) -> Result<()> {
    let task = task(call)?;
    task.settle_among(&call.runtime.tasks);
    let (tree, _) = task.outcome()?;
    call.ret_int(tree as i64)
}

pub(super) fn task_get(call: &mut Call<'_>) -> Result<()> {
    let (_, leaves) = task(call)?.outcome()?;
    let mut copies = Copies::default();
    for (k, item) in leaves.into_iter().enumerate() {
        // Tensors are shared by all that wait; lists and dicts, which change in place, belong to one thread.
        let item = match &item {
            Item::Object(object) if !matches!(object.body(), Body::Tensor(_)) => copies.item(&item)?,
            _ => item,
        };
        call.ret_item(k, item)?;
    }
    Ok(())
}
