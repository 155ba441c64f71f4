//! Tasks: calls of a model's functions that may run beside the call that started them (`torch.jit.fork`).
//!
//! A task owns copies of its arguments and runs on an instance of its own, so it shares no memory with its starter but
//! what is constant. Whoever comes first runs it: a thread of the pool, or the one that waits for it; so a wait always ends,
//! also on one thread. A call that waits for a task which runs elsewhere runs its other tasks meanwhile. It never runs those of
//! others: they might wait for the very call, whereas a call's own tasks cannot know it, as they are older than its future. What it raises is kept and raised again by each wait. A call ends only when its tasks have ended:
//! those that nobody can wait for any more and that nobody began never run.
//!
//! ```text
//! Ready(job) ──claimed by a pool thread, a wait, or the end of the call──► Running ──► Done(results or error)
//! ```

use crate::abi::{Leaf, Status};
use crate::error::{Error, Result};
use crate::model::{Instance, Shared};
use crate::object::{Body, Item, ObjectRef};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How a task ended: the number of its result tree and the leaves of that, or what it raised.
pub(crate) type Outcome = Result<(usize, Vec<Item>)>;

/// A call that was started and may not have run yet.
pub struct Task {
    state: Mutex<State>,
    done: Condvar,
}

enum State {
    Ready(Job),
    Running,
    Done(Outcome),
}

/// What a task that nobody began holds.
pub(crate) struct Job {
    /// Where instances for tasks come from.
    pub(crate) family: Arc<Family>,
    /// The function.
    pub(crate) function: usize,
    /// Its flattened arguments.
    pub(crate) inputs: Vec<Leaf>,
    /// What the arguments point at.
    pub(crate) holds: Vec<ObjectRef>,
}

/// Instances that tasks of one caller run on, kept for later calls.
pub(crate) struct Family {
    shared: Arc<Shared>,
    idle: Mutex<Vec<Instance>>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self.lock() {
            State::Ready(_) => "Task(ready)",
            State::Running => "Task(running)",
            State::Done(_) => "Task(done)",
        })
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").finish_non_exhaustive()
    }
}

impl Task {
    /// A task that somebody is to run.
    pub(crate) fn new(job: Job) -> Self {
        Self { state: Mutex::new(State::Ready(job)), done: Condvar::new() }
    }

    /// A task that has run.
    pub(crate) fn done(outcome: Outcome) -> Self {
        Self { state: Mutex::new(State::Done(outcome)), done: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job of a task that nobody began, which is the caller's to do from now on.
    fn claim(&self) -> Option<Job> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Running) {
            State::Ready(job) => Some(job),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Runs the task unless somebody began it; whether it ran. Tells before it begins.
    pub(crate) fn try_run(&self, begin: impl FnOnce()) -> bool {
        let Some(job) = self.claim() else { return false };
        begin();
        // The job is gone before the task counts as done: its starter may then end, and the model with it.
        let outcome = job.run();
        *self.lock() = State::Done(outcome);
        self.done.notify_all();
        true
    }

    /// Comes back when the task has ended, which it does here if nobody began it.
    pub(crate) fn settle(&self) {
        if self.try_run(|| {}) {
            return;
        }
        let mut state = self.lock();
        while matches!(*state, State::Running) {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// [`Self::settle`] for a call that has started these tasks.
    pub(crate) fn settle_among(&self, own: &[ObjectRef]) {
        if self.try_run(|| {}) {
            return;
        }
        for future in own {
            if !matches!(*self.lock(), State::Running) {
                return;
            }
            if let Body::Future(other) = future.body() {
                other.try_run(|| {});
            }
        }
        self.settle();
    }

    /// Waits for a task that runs; one that nobody began never will.
    pub(crate) fn abandon(&self) {
        match self.claim() {
            Some(job) => {
                drop(job);
                *self.lock() = State::Done(Err(Error::new(Status::Cancelled, "the task was not waited for")));
                self.done.notify_all();
            }
            None => self.settle(),
        }
    }

    /// How the task ended; waits until it has.
    pub(crate) fn outcome(&self) -> Outcome {
        self.settle();
        match &*self.lock() {
            State::Done(outcome) => outcome.clone(),
            State::Ready(_) | State::Running => Err(Error::new(Status::Internal, "a task is not done after the wait")),
        }
    }
}

impl Job {
    fn run(self) -> Outcome {
        let Self { family, function, inputs, holds } = self;
        let call = || family.with_instance(|instance| instance.call_task(function, &inputs));
        let outcome = catch_unwind(AssertUnwindSafe(call));
        drop(holds);
        outcome.unwrap_or_else(|_| Err(Error::new(Status::Internal, "a task panicked")))
    }
}

impl Family {
    /// The tasks' instances of a model, none yet.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, idle: Mutex::default() }
    }

    /// Runs something on an instance that no other task uses.
    pub(crate) fn with_instance<T>(self: &Arc<Self>, run: impl FnOnce(&mut Instance) -> Result<T>) -> Result<T> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let free = idle().pop();
        let mut instance = match free {
            Some(instance) => instance,
            None => Instance::for_tasks(self.shared.clone()),
        };
        // An idle instance does not refer to its family, which owns it.
        instance.set_family(Some(self.clone()));
        let result = run(&mut instance);
        instance.set_family(None);
        idle().push(instance);
        result
    }
}
