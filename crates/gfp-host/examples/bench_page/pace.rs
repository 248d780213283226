//! What threads of a measurement have in common: a line to wait at, and a clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What time is taken.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Of the thread.
    Cpu,
    /// Of everybody.
    Wall,
}

/// Where threads wait for each other. A sleeping wait would wake them one after the other, and what
/// takes them microseconds would not be done at the same time.
pub(crate) struct Line {
    threads: usize,
    arrived: AtomicUsize,
}

impl Line {
    const SPINS: u32 = 10_000;

    pub(crate) fn new(threads: usize) -> Line {
        Line {
            threads,
            arrived: AtomicUsize::new(0),
        }
    }

    pub(crate) fn wait(&self) {
        // Release and Acquire: what each thread did before is seen by all after.
        let before = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (before / self.threads + 1) * self.threads;
        let mut spins = 0;
        while self.arrived.load(Ordering::Acquire) < all {
            spins += 1;
            match spins < Line::SPINS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
    }
}

impl Clock {
    pub(crate) fn now_ns(self) -> u64 {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        match self {
            Clock::Wall => START.get_or_init(Instant::now).elapsed().as_nanos() as u64,
            Clock::Cpu => {
                let mut now = libc::timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                // SAFETY: a place for the answer.
                unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
                now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
            }
        }
    }
}
