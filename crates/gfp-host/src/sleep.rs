//! Threads that sleep: futexes, which have the very semantics that the library asks for.

use crate::HostPlatform;
use crate::{slots, sys};
use gfp::platform::{Sleep, Wake};
use gfp::sync::atomic::AtomicU32;

impl Sleep for HostPlatform {
    /// A signal ends it early.
    fn wait(&self, word: &AtomicU32, seen: u32, deadline_ns: Option<u64>) {
        debug_assert!(!slots::is_inside(), "a thread sleeps inside the allocator");
        sys::futex_wait_until(word, seen, deadline_ns);
    }

    /// Also from a signal handler.
    fn wake(&self, word: &AtomicU32, who: Wake) {
        let count = match who {
            Wake::One => 1,
            Wake::All => i32::MAX,
        };
        sys::futex_wake(word, count);
    }
}
