//! A small persistent pool of threads for parallel loops and tasks.
//!
//! Threads start at the first loop that wants them and then wait: they spin for a few microseconds and then park. One loop
//! runs at a time; a loop started while another runs (a nested one, or one of another caller) runs on its own thread alone.
//! Chunks depend only on the number of rounds and threads, not on timing. A thread without a loop to help with takes the task
//! that has waited longest.
#![allow(unsafe_code, reason = "shares a loop body on the caller's stack with the pool's threads")]

use crate::abi::Body;
use crate::task::Task;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Loops of less work than this, in scalar operations, run serially: waking a thread costs as much.
const MIN_PARALLEL_COST: i64 = 60_000;
/// How long an idle thread spins before it parks.
const SPIN: Duration = Duration::from_micros(20);

/// The host's own parallel loop: runs `body(arg, i)` for each `i` in `0..n` and returns 0.
pub type HostParallelFor = unsafe extern "C" fn(
    user: *mut c_void,
    n: i32,
    body: unsafe extern "C" fn(arg: *mut c_void, i: i32) -> i32,
    arg: *mut c_void,
) -> i32;

/// Threads for parallel loops.
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
    n_threads: AtomicUsize,
    /// The host's loop and its `user` argument, used in place of threads of our own.
    host: Option<(HostParallelFor, usize)>,
    /// Held while a loop runs.
    workers: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    /// `generation << 32 | is_open << 31 | number of helpers inside`.
    state: AtomicU64,
    job: UnsafeCell<Job>,
    next: AtomicI64,
    is_closing: AtomicBool,
    n_sleeping: AtomicUsize,
    n_started: AtomicUsize,
    tasks: Mutex<VecDeque<Arc<Task>>>,
    /// Tasks in the queue.
    n_tasks: AtomicUsize,
    n_tasks_run: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

const OPEN: u64 = 1 << 31;
const HELPERS: u64 = OPEN - 1;

#[derive(Clone, Copy, Debug)]
struct Job {
    body: Option<Body>,
    context: *mut u8,
    n: i64,
    chunk: i64,
}

// SAFETY: `job` is written only while closed with no helper inside, and read only by those inside.
unsafe impl Sync for Inner {}
// SAFETY: as above; the context pointer is used only while its owner waits.
unsafe impl Send for Inner {}

impl Pool {
    /// A pool of this many threads, the caller's included; 0: as many as the machine has. Starts none yet.
    pub fn new(n_threads: usize, host: Option<(HostParallelFor, usize)>) -> Self {
        let inner = Inner {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { body: None, context: std::ptr::null_mut(), n: 0, chunk: 1 }),
            next: AtomicI64::new(0),
            is_closing: AtomicBool::new(false),
            n_sleeping: AtomicUsize::new(0),
            n_started: AtomicUsize::new(0),
            tasks: Mutex::default(),
            n_tasks: AtomicUsize::new(0),
            n_tasks_run: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        };
        let pool =
            Self { inner: Arc::new(inner), n_threads: AtomicUsize::new(1), host, workers: Mutex::new(Vec::new()) };
        pool.set_threads(n_threads);
        pool
    }

    /// Changes the number of threads for later loops; 0: as many as the machine has.
    pub fn set_threads(&self, n_threads: usize) {
        let machine = || std::thread::available_parallelism().map_or(1, usize::from);
        self.n_threads.store(if n_threads == 0 { machine() } else { n_threads.min(1024) }, Ordering::Relaxed);
    }

    /// The number of threads a loop may use.
    pub fn n_threads(&self) -> usize {
        self.n_threads.load(Ordering::Relaxed)
    }

    /// Runs the body over disjoint ranges that cover `0..n`. `cost` is the work of all rounds in scalar operations; 0 if
    /// unknown.
    ///
    /// # Safety
    /// The body may be called with this context for disjoint ranges by several threads at once.
    pub unsafe fn parallel_for(&self, n: i64, cost: i64, body: Body, context: *mut u8) {
        let n_threads = self.n_threads().min(usize::try_from(n).unwrap_or(0));
        if n_threads <= 1 || (cost > 0 && cost < MIN_PARALLEL_COST) {
            if n > 0 {
                // SAFETY: by the caller's promise.
                unsafe { body(context, 0, n) };
            }
            return;
        }
        let n_chunks = if n >= 8 * n_threads as i64 { 4 * n_threads as i64 } else { n_threads as i64 };
        let job = Job { body: Some(body), context, n, chunk: (n + n_chunks - 1) / n_chunks };
        let guard = match self.workers.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(mut workers) = guard else {
            // SAFETY: by the caller's promise.
            unsafe { body(context, 0, n) };
            return;
        };
        if let Some((run, user)) = self.host {
            let n_rounds = (n + job.chunk - 1) / job.chunk;
            let arg = (&raw const job).cast_mut().cast();
            // SAFETY: the host promised a function of this type at open; it returns after all rounds.
            if unsafe { run(user as *mut c_void, n_rounds as i32, host_round, arg) } == 0 {
                return;
            }
            // The host refused; it must not have run any round then.
            // SAFETY: by the caller's promise.
            unsafe { body(context, 0, n) };
            return;
        }
        self.start_threads(&mut workers, n_threads);
        // What starting a thread allocates has been allocated when the first call returns.
        while self.inner.n_started.load(Ordering::Acquire) < workers.len() {
            std::thread::yield_now();
        }
        self.inner.run(job);
        drop(workers);
    }

    /// Lets a thread of the pool run a task, if there is one; else whoever waits for it does.
    pub(crate) fn submit(&self, task: Arc<Task>) {
        if self.n_threads() <= 1 || self.host.is_some() {
            return;
        }
        // Whoever holds the threads for a loop has started them.
        if let Ok(mut workers) = self.workers.try_lock() {
            self.start_threads(&mut workers, self.n_threads());
            if workers.is_empty() {
                return;
            }
        }
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push_back(task);
        self.inner.n_tasks.store(tasks.len(), Ordering::SeqCst);
        drop(tasks);
        self.inner.wake_all();
    }

    /// How many tasks the pool's threads have run.
    pub(crate) fn n_tasks_run(&self) -> usize {
        self.inner.n_tasks_run.load(Ordering::Relaxed)
    }

    /// Starts threads until there are this many, the caller's included.
    fn start_threads(&self, workers: &mut Vec<JoinHandle<()>>, n_threads: usize) {
        while workers.len() + 1 < n_threads {
            let inner = self.inner.clone();
            match std::thread::Builder::new().name("aot".into()).spawn(move || worker(&inner)) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.inner.is_closing.store(true, Ordering::SeqCst);
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.inner.wake.notify_all();
        for handle in self.workers.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A worker does not panic; if it did, there is nothing to save.
            let _ = handle.join();
        }
    }
}

/// A round of the host's loop: one chunk.
unsafe extern "C" fn host_round(arg: *mut c_void, i: i32) -> i32 {
    // SAFETY: `arg` is the job that `parallel_for` passed, alive until the host's loop returns.
    let job = unsafe { *arg.cast::<Job>() };
    run_chunk(job, i64::from(i) * job.chunk);
    0
}

fn run_chunk(job: Job, begin: i64) {
    if let Some(body) = job.body {
        // SAFETY: chunks are disjoint; the starter of the loop promised that this is allowed.
        unsafe { body(job.context, begin, job.n.min(begin + job.chunk)) };
    }
}

impl Inner {
    /// Runs a loop with the help of whoever comes. Only one caller at a time.
    fn run(&self, job: Job) {
        // SAFETY: closed, and no helper is inside, as the last loop left it.
        unsafe { *self.job.get() = job };
        self.next.store(0, Ordering::Relaxed);
        let generation = (self.state.load(Ordering::Relaxed) >> 32) + 1;
        self.state.store(generation << 32 | OPEN, Ordering::SeqCst);
        self.wake_all();
        self.work(job);
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut n_spins = 0_u32;
        while self.state.load(Ordering::Acquire) & HELPERS != 0 {
            n_spins += 1;
            if n_spins < 2000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn wake_all(&self) {
        if self.n_sleeping.load(Ordering::SeqCst) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }

    /// The task that has waited longest.
    fn next_task(&self) -> Option<Arc<Task>> {
        if self.n_tasks.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let task = tasks.pop_front();
        self.n_tasks.store(tasks.len(), Ordering::SeqCst);
        task
    }

    fn work(&self, job: Job) {
        loop {
            let begin = self.next.fetch_add(job.chunk, Ordering::Relaxed);
            if begin >= job.n {
                return;
            }
            run_chunk(job, begin);
        }
    }

    /// Enters an open loop of another generation than the last.
    fn enter(&self, last: u64) -> Option<u64> {
        let mut state = self.state.load(Ordering::SeqCst);
        while state & OPEN != 0 && state >> 32 != last {
            match self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(state >> 32),
                Err(now) => state = now,
            }
        }
        None
    }
}

fn worker(inner: &Inner) {
    let mut last = 0;
    inner.n_started.fetch_add(1, Ordering::Release);
    while !inner.is_closing.load(Ordering::SeqCst) {
        if let Some(generation) = inner.enter(last) {
            last = generation;
            // SAFETY: inside, so the caller waits and does not change the job.
            let job = unsafe { *inner.job.get() };
            inner.work(job);
            inner.state.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        if let Some(task) = inner.next_task() {
            task.try_run(|| _ = inner.n_tasks_run.fetch_add(1, Ordering::Relaxed));
            continue;
        }
        let start = Instant::now();
        let is_news = || {
            let state = inner.state.load(Ordering::SeqCst);
            let is_open = state & OPEN != 0 && state >> 32 != last;
            is_open || inner.n_tasks.load(Ordering::SeqCst) > 0 || inner.is_closing.load(Ordering::SeqCst)
        };
        while !is_news() && start.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        let mut guard = inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        inner.n_sleeping.fetch_add(1, Ordering::SeqCst);
        while !is_news() {
            guard = inner.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        inner.n_sleeping.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Context<'a> {
        pool: &'a Pool,
        hits: Vec<AtomicUsize>,
        is_outer: bool,
    }

    unsafe extern "C" fn count(context: *mut u8, begin: i64, end: i64) {
        // SAFETY: the tests pass a `Context` that lives during the loop.
        let context = unsafe { &*context.cast::<Context<'_>>() };
        if context.is_outer {
            let mut inner = Context { pool: context.pool, hits: zeros(5), is_outer: false };
            // SAFETY: `count` may run in parallel.
            unsafe { context.pool.parallel_for(5, 0, count, (&raw mut inner).cast()) };
            assert!(inner.hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
        }
        for hit in &context.hits[begin as usize..end as usize] {
            hit.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn zeros(n: usize) -> Vec<AtomicUsize> {
        (0..n).map(|_| AtomicUsize::new(0)).collect()
    }

    fn check(pool: &Pool, n: usize, is_outer: bool) {
        let mut context = Context { pool, hits: zeros(n), is_outer };
        // SAFETY: `count` may run in parallel.
        unsafe { pool.parallel_for(n as i64, 0, count, (&raw mut context).cast()) };
        assert!(context.hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_round_runs_once_also_nested_and_from_many_callers() {
        for n_threads in [1, 2, 3, 8] {
            let pool = Pool::new(n_threads, None);
            for n in [0, 1, 2, 7, 100, 1000] {
                check(&pool, n, false);
                check(&pool, n, true);
            }
            pool.set_threads(2);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..100).for_each(|_| check(&pool, 64, false)));
                }
            });
        }
    }

    #[test]
    fn the_host_can_run_the_rounds() {
        unsafe extern "C" fn serial(
            user: *mut c_void,
            n: i32,
            body: unsafe extern "C" fn(*mut c_void, i32) -> i32,
            arg: *mut c_void,
        ) -> i32 {
            // SAFETY: the test passes an `AtomicUsize`.
            unsafe { &*user.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
            // SAFETY: as the contract of the function says.
            (0..n).map(|i| unsafe { body(arg, i) }).sum()
        }
        let calls = AtomicUsize::new(0);
        let pool = Pool::new(4, Some((serial, &raw const calls as usize)));
        check(&pool, 100, false);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
