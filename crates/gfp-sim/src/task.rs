//! Tasks as coroutines, each with a stack of its own.

use crate::capture;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::Cell;
use std::rc::Rc;

/// Far more than the deepest path: a slow allocation, an interrupt and an NMI on top of it, each in
/// a debug build.
const STACK_BYTES: usize = 256 << 10;

type Body = Coroutine<(), (), Result<(), String>>;

/// A task's stack, while it is not running.
pub(crate) struct Stack {
    body: Body,
    /// Set when the task has begun.
    yielder: Rc<Cell<*const Yielder<(), ()>>>,
}

impl Stack {
    pub(crate) fn new(work: impl FnOnce() + 'static) -> Stack {
        let yielder = Rc::new(Cell::new(std::ptr::null()));
        let place = Rc::clone(&yielder);
        let stack = DefaultStack::new(STACK_BYTES).expect("memory for a stack");
        let body = Coroutine::with_stack(stack, move |yielder, ()| {
            place.set(std::ptr::from_ref(yielder));
            capture::catch(work)
        });
        Stack { body, yielder }
    }

    /// Where the task's yielder will stand.
    pub(crate) fn yielder(&self) -> Rc<Cell<*const Yielder<(), ()>>> {
        Rc::clone(&self.yielder)
    }

    /// Runs it until it leaves; what it ended with, if it did.
    pub(crate) fn resume(&mut self) -> Option<Result<(), String>> {
        match self.body.resume(()) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(result) => Some(result),
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.body.done() {
            // A run that failed. What stands on the stack is leaked: to unwind it would run code
            // of tasks that were stopped anywhere, inside of sections too.
            // SAFETY: [INV-SIM-2] nobody runs any more, and what lies on the stack is used by
            // nobody else: sleepers are known by number.
            unsafe { self.body.force_reset() };
        }
    }
}
