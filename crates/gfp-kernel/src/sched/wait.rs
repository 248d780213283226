//! Waiting for a condition.

use super::lock::IrqLock;
use super::run;
use super::task::Task;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::Relaxed;

/// Tasks that wait until something is so. Who makes it so calls [`WaitQueue::wake_one`] or
/// [`WaitQueue::wake_all`] after it did.
///
/// No wake-up is lost: a waiter notes the number of wake-ups, looks at its condition, and joins the
/// queue only if the number is still the same.
pub struct WaitQueue {
    waiters: IrqLock<Waiters>,
}

struct Waiters {
    first: *mut Waiter,
    wakeups: u64,
}

/// [INV-SCHED-4] Lies on the stack of its task, which stays in `WaitQueue::sleep` while it is
/// linked. Touched under the queue's lock.
struct Waiter {
    task: NonNull<Task>,
    next: *mut Waiter,
    linked: bool,
}

// SAFETY: [INV-SCHED-4] the waiters are touched under the queue's lock.
unsafe impl Send for Waiters {}

impl Waiters {
    fn push(&mut self, waiter: *mut Waiter) {
        let mut at: *mut *mut Waiter = &raw mut self.first;
        // SAFETY: [INV-SCHED-4] all linked waiters live.
        unsafe {
            while !(*at).is_null() {
                at = &raw mut (**at).next;
            }
            *at = waiter;
        }
    }

    fn remove(&mut self, waiter: *mut Waiter) {
        let mut at: *mut *mut Waiter = &raw mut self.first;
        // SAFETY: [INV-SCHED-4] all linked waiters live, and this one is among them.
        unsafe {
            while *at != waiter {
                at = &raw mut (**at).next;
            }
            *at = (*waiter).next;
            (*waiter).linked = false;
        }
    }

    /// False if there was none.
    fn wake_first(&mut self) -> bool {
        let first = self.first;
        if first.is_null() {
            return false;
        }
        self.remove(first);
        // SAFETY: [INV-SCHED-4] it cannot leave before it had our lock.
        run::wake(unsafe { (*first).task.as_ref() });
        true
    }
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> WaitQueue {
        WaitQueue {
            waiters: IrqLock::new(Waiters {
                first: ptr::null_mut(),
                wakeups: 0,
            }),
        }
    }

    /// Waits until `condition` is true. Context: a task that may sleep; `condition` may sleep too.
    pub fn wait_until(&self, condition: impl FnMut() -> bool) {
        let done = self.wait(None, condition);
        debug_assert!(done);
    }

    /// [`WaitQueue::wait_until`], but no longer than until the clock ([`time::now_ns`]) shows
    /// `deadline_ns`. What `condition` said last.
    ///
    /// [`time::now_ns`]: crate::arch::time::now_ns
    pub fn wait_until_ns(&self, deadline_ns: u64, condition: impl FnMut() -> bool) -> bool {
        self.wait(Some(deadline_ns), condition)
    }

    fn wait(&self, deadline_ns: Option<u64>, mut condition: impl FnMut() -> bool) -> bool {
        loop {
            let seen = self.waiters.lock().wakeups;
            if condition() {
                return true;
            }
            if deadline_ns.is_some_and(|d| crate::arch::time::now_ns() >= d) {
                return false;
            }
            self.sleep(seen, deadline_ns);
        }
    }

    /// Until somebody wakes this task, unless that happened since `seen`; or for no reason.
    fn sleep(&self, seen: u64, deadline_ns: Option<u64>) {
        let Some(task) = run::current() else {
            return core::hint::spin_loop(); // before the scheduler runs
        };
        run::assert_may_sleep();
        let mut waiter = Waiter {
            task,
            next: ptr::null_mut(),
            linked: true,
        };
        let at = &raw mut waiter;
        // SAFETY: it is the one that runs.
        let waiting = unsafe { &task.as_ref().waiting };
        {
            let mut waiters = self.waiters.lock();
            if waiters.wakeups != seen {
                return;
            }
            waiters.push(at);
            waiting.store(true, Relaxed); // for this task's own panics
        }
        run::block(deadline_ns);
        let mut waiters = self.waiters.lock();
        // SAFETY: [INV-SCHED-4] under the lock.
        if unsafe { (*at).linked } {
            waiters.remove(at);
        }
        waiting.store(false, Relaxed);
    }

    /// Has the first waiter look again. Context: any but an NMI.
    pub fn wake_one(&self) {
        let mut waiters = self.waiters.lock();
        waiters.wakeups += 1;
        waiters.wake_first();
    }

    /// Has all waiters look again. Context: any but an NMI.
    pub fn wake_all(&self) {
        let mut waiters = self.waiters.lock();
        waiters.wakeups += 1;
        while waiters.wake_first() {}
    }
}

impl Default for WaitQueue {
    fn default() -> WaitQueue {
        WaitQueue::new()
    }
}
