//! Tasks that sleep.

use crate::config::Violation;
use crate::platform::SimPlatform;
use crate::world::At;
use gfp::platform::{Sleep, Wake};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

// The word is compared and the task laid to sleep in one step of the
// run, with no point in between, so no wake-up comes between them.
impl Sleep for SimPlatform {
    fn wait(&self, word: &AtomicU32, seen: u32, deadline_ns: Option<u64>) {
        let core = self.core();
        if !core.world.borrow().is_running() {
            // Whoever set the run up: there is nobody else who could wake it.
            assert!(word.load(Ordering::Acquire) != seen || deadline_ns.is_some());
            return;
        }
        core.point(At::Sleep);
        let changed = word.load(Ordering::Acquire) != seen;
        if self.violates(Violation::SleepsWithoutLooking) {
            core.point(At::Sleep);
        } else if changed {
            return;
        }
        {
            let mut world = core.world.borrow_mut();
            assert!(world.may_sleep(), "sleeps in atomic context");
            world.sleep(ptr::from_ref(word).addr(), deadline_ns);
        }
        core.leave();
    }

    fn wake(&self, word: &AtomicU32, who: Wake) {
        let core = self.core();
        core.point(At::Wake);
        let most = match who {
            Wake::One => 1,
            Wake::All => usize::MAX,
        };
        core.world
            .borrow_mut()
            .wake(ptr::from_ref(word).addr(), most);
        core.point(At::Wake);
    }
}
