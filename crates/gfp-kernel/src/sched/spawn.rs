//! From a closure to a task, and from its end to who waits for it.

use super::lock::IrqLock;
use super::run::{self, CORE};
use super::stack::Stack;
use super::task::{Affinity, Death, State, Task};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use gfp::error::AllocError;

/// What a task is started with.
#[derive(Copy, Clone, Debug)]
pub struct Builder {
    name: &'static str,
    affinity: Affinity,
    stack_bytes: usize,
    vital: bool,
}

impl Builder {
    /// A task that may run anywhere, with a stack of 32 KiB.
    pub const fn new(name: &'static str) -> Builder {
        Builder {
            name,
            affinity: Affinity::Any,
            stack_bytes: 32 << 10,
            vital: false,
        }
    }

    /// The machine ends with it, if it dies.
    pub(super) const fn vital(mut self) -> Builder {
        self.vital = true;
        self
    }

    /// Where it may run.
    pub const fn affinity(mut self, affinity: Affinity) -> Builder {
        self.affinity = affinity;
        self
    }

    /// The size of its stack, rounded up to whole pages; 6 KiB of it are for interrupts.
    pub const fn stack_bytes(mut self, bytes: usize) -> Builder {
        self.stack_bytes = bytes;
        self
    }

    /// Starts it. Context: a task.
    ///
    /// # Errors
    /// No memory for its stack.
    ///
    /// # Panics
    /// No memory for the task itself.
    pub fn spawn<T, F>(self, f: F) -> Result<JoinHandle<T>, AllocError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let mut stack = Stack::new(self.stack_bytes)?;
        let value = Arc::new(IrqLock::new(None));
        let result = value.clone();
        let mut task = Task::new(self.name, self.affinity);
        task.vital = self.vital;
        task.stack = stack.start()..stack.end();
        task.inner.get_mut().stack_pointer = stack.prepare(entry);
        let own = task.own.get_mut();
        own.stack = Some(stack);
        own.body = Some(Box::new(move || {
            let value = f();
            *result.lock() = Some(value);
        }));
        let task = Arc::new(task);
        // The scheduler's own share of it, until it is reaped.
        let shared = Arc::into_raw(task.clone()).cast_mut();
        let mut core = CORE.lock();
        // SAFETY: [INV-SCHED-2] new, and alive until the share is given back.
        unsafe { core.all.insert(NonNull::new_unchecked(shared), None) }
        core.make_ready(&task);
        drop(core);
        Ok(JoinHandle { task, value })
    }
}

/// Starts a task that may run anywhere; [`Builder`] has more to choose. Context: a task.
///
/// # Panics
/// Without memory for it.
pub fn spawn<T, F>(name: &'static str, f: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match Builder::new(name).spawn(f) {
        Ok(handle) => handle,
        Err(error) => panic!("no stack for task {name}: {error}"),
    }
}

/// Where a task begins, on its own stack, with interrupts off.
extern "C" fn entry() -> ! {
    // SAFETY: the first steps of a new task.
    unsafe { run::first_steps() }
    let me = run::current().expect("a task runs");
    // SAFETY: [INV-SCHED-2] it runs; [INV-SCHED-3] it is the task's own.
    let body = unsafe { (*me.as_ref().own.get()).body.take() };
    if let Some(body) = body {
        body();
    }
    run::finish()
}

/// The right to wait for a task's end and to have its result. Dropping it lets the task go on.
pub struct JoinHandle<T> {
    task: Arc<Task>,
    value: Arc<IrqLock<Option<T>>>,
}

impl<T> JoinHandle<T> {
    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    fn is_reaped(&self) -> bool {
        // Acquire: pairs with the Release in `reap`.
        self.task.reaped.load(Ordering::Acquire)
    }

    /// Waits until the task has come to its end and its stack is given back, but no longer than
    /// until the clock shows `deadline_ns`; true if it has.
    pub fn wait_until_ns(&self, deadline_ns: u64) -> bool {
        self.task
            .on_reaped
            .wait_until_ns(deadline_ns, || self.is_reaped())
    }

    /// Waits until the task has come to its end and its stack is given back.
    ///
    /// # Errors
    /// Why it died.
    pub fn join(self) -> Result<T, Box<Death>> {
        self.task.on_reaped.wait_until(|| self.is_reaped());
        // SAFETY: [INV-SCHED-3] it is reaped, and there is one handle.
        if let Some(death) = unsafe { (*self.task.own.get()).death } {
            return Err(Box::new(death));
        }
        let value = self.value.lock().take();
        Ok(value.expect("a task that did not die left its value"))
    }
}

/// Gives back what finished tasks ran on; the reaper's body.
pub(super) fn reap_for_ever() {
    loop {
        let task = CORE.lock().finished.pop();
        match task {
            Some(task) => reap(task),
            None => run::block(None),
        }
    }
}

/// Waits until the reaper rests: all that tasks had which came to their end before this call is
/// given back, but for what their handles keep. Context: a task that may sleep.
pub fn wait_for_reaper() {
    // Not a sleep: there may be no ticks.
    while !CORE.lock().reaper_rests() {
        run::give_way();
        core::hint::spin_loop();
    }
}

fn reap(task: NonNull<Task>) {
    {
        let mut core = CORE.lock();
        // SAFETY: [INV-SCHED-2] every task is there until it is reaped.
        unsafe { core.all.remove(task) }
    }
    // SAFETY: the share that `spawn` gave the scheduler; it is in no list any more.
    let task = unsafe { Arc::from_raw(task.as_ptr().cast_const()) };
    debug_assert_eq!(CORE.lock().inner(&task).state, State::Finished);
    // SAFETY: [INV-SCHED-3] it does not run any more: it was switched away from before the core's
    // lock was free again, and we had that lock since.
    drop(unsafe { (*task.own.get()).stack.take() });
    // Release: pairs with the Acquire in `is_reaped`.
    task.reaped.store(true, Ordering::Release);
    task.on_reaped.wake_all();
}
