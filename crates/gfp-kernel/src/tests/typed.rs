//! Typed contexts on a real machine: what a token says is what the machine says.

use crate::memory::mm;
use crate::sched::IrqLock;
use gfp::context::{Atomic, Kernel, Usual};
use gfp::platform::{Context, Platform};

super::tests! { "typed":
    the_right_to_sleep_goes_with_a_lock_and_comes_back,
}

// P154
fn the_right_to_sleep_goes_with_a_lock_and_comes_back() {
    static LOCK: IrqLock<u32> = IrqLock::new(0);
    let mut task = mm().in_task().expect("a test is a task");
    let first = mm().with(&task).kmalloc_obj(3u32, Kernel).expect("memory");
    let mut held = task.holding(LOCK.lock());
    assert_eq!(mm().platform().context(), Context::Atomic);
    assert!(mm().in_task().is_none());
    let second = mm().with(held.atomic()).kmalloc_obj(4u32, Atomic);
    **held += *first + *second.expect("memory");
    drop(held);
    assert_eq!(*LOCK.lock(), 7);
    assert!(mm().in_task().is_some());
    let third = mm().with(&task).kmalloc_nofail::<64, _>(Usual);
    // SAFETY: freed once.
    unsafe { mm().kfree(third.as_ptr()) };
}
