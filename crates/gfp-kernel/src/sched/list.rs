//! Lists of tasks that need no memory of their own: each task carries its links.

use super::task::Task;
use core::ptr::{self, NonNull};

/// Neighbours of a task in one list.
pub(super) struct Link {
    prev: *mut Task,
    next: *mut Task,
}

impl Link {
    pub(super) const fn new() -> Link {
        Link {
            prev: ptr::null_mut(),
            next: ptr::null_mut(),
        }
    }
}

/// Which pair of links of a task a list uses.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Chain {
    /// The one list that the task's state names: ready, sleepers, finished.
    State = 0,
    /// The list of all tasks.
    All = 1,
}

/// Tasks in an order, the first in front. Part of the scheduler's core, so under its lock.
///
/// [INV-SCHED-2] A task is in at most one list of a chain, and lives while it is in one.
pub(super) struct List {
    chain: Chain,
    first: *mut Task,
    last: *mut Task,
}

// SAFETY: [INV-SCHED-2] the tasks are shared values; their links are touched under the lock that
// the list is under.
unsafe impl Send for List {}

impl List {
    pub(super) const fn new(chain: Chain) -> List {
        List {
            chain,
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "the links lie in the tasks, guarded by our lock"
    )]
    fn link(&self, task: *mut Task) -> &mut Link {
        // SAFETY: [INV-SCHED-2] it lives, and nobody else touches the links of this chain: we are
        // under the scheduler's lock. The borrow ends within each statement below.
        unsafe { &mut *(*task).links[self.chain as usize].get() }
    }

    /// From the first to the last.
    pub(super) fn iter(&self) -> impl Iterator<Item = NonNull<Task>> + '_ {
        let mut at = self.first;
        core::iter::from_fn(move || {
            let task = NonNull::new(at)?;
            at = self.link(at).next;
            Some(task)
        })
    }

    /// Puts `task` in front of `before`; at the end without one.
    ///
    /// # Safety
    /// [INV-SCHED-2] `task` is in no list of this chain, and stays alive until it is removed;
    /// `before` is in this list.
    pub(super) unsafe fn insert(&mut self, task: NonNull<Task>, before: Option<NonNull<Task>>) {
        let task = task.as_ptr();
        let next = before.map_or(ptr::null_mut(), NonNull::as_ptr);
        let prev = match next.is_null() {
            true => self.last,
            false => self.link(next).prev,
        };
        *self.link(task) = Link { prev, next };
        self.join(prev, task);
        self.join(task, next);
    }

    /// Makes `next` follow `prev`; null is the end of the list on that side.
    fn join(&mut self, prev: *mut Task, next: *mut Task) {
        match prev.is_null() {
            true => self.first = next,
            false => self.link(prev).next = next,
        }
        match next.is_null() {
            true => self.last = prev,
            false => self.link(next).prev = prev,
        }
    }

    /// Takes `task` out.
    ///
    /// # Safety
    /// It is in this list.
    pub(super) unsafe fn remove(&mut self, task: NonNull<Task>) {
        let Link { prev, next } = core::mem::replace(self.link(task.as_ptr()), Link::new());
        self.join(prev, next);
    }

    /// Takes the first out.
    pub(super) fn pop(&mut self) -> Option<NonNull<Task>> {
        let task = NonNull::new(self.first)?;
        // SAFETY: it is the first.
        unsafe { self.remove(task) }
        Some(task)
    }
}
