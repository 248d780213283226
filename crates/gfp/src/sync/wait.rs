//! Waiting for a condition.

use super::atomic::{AtomicU32, Ordering, fence};
use crate::platform::{Platform, Wake};

/// Tasks that wait until something is so. Who makes it so calls [`WaitQueue::wake_one`] or
/// [`WaitQueue::wake_all`] after it did.
///
/// No wake-up is lost:
///
/// ```text
///   waiter                          waker
///   waiters += 1                    condition = true
///   seen = wakeups                  fence
///   fence                           waiters == 0? nobody to wake
///   condition? done                 wakeups += 1
///   sleep while wakeups == seen     wake
/// ```
///
/// Of the two fences one is first. If the waker's is, the waiter sees the condition; if the
/// waiter's is, the waker sees the waiter, and changes the word on which it sleeps or is about to.
/// Who wakes while nobody waits pays a fence and a load.
#[derive(Default)]
pub struct WaitQueue {
    wakeups: AtomicU32,
    waiters: AtomicU32,
}

/// Counts one waiter while it lives.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Relaxed: who still counts this one wakes in vain.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WaitQueue {
    /// Nobody waits.
    #[cfg(not(loom))]
    pub const fn new() -> WaitQueue {
        WaitQueue {
            wakeups: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
        }
    }

    /// Waits until `condition` is true. On a machine without [`Sleep`](crate::platform::Sleep) this
    /// spins.
    ///
    /// Context: a task that may sleep, outside of sections and locks.
    pub fn wait_until<P: Platform>(&self, platform: &P, condition: impl FnMut() -> bool) {
        let done = self.wait_by(platform, None, condition);
        debug_assert!(done);
    }

    /// [`WaitQueue::wait_until`], but no longer than until the clock shows `deadline_ns`
    /// ([`Platform::now_ns`]). What `condition` said last.
    pub fn wait_until_ns<P: Platform>(
        &self,
        platform: &P,
        deadline_ns: u64,
        condition: impl FnMut() -> bool,
    ) -> bool {
        self.wait_by(platform, Some(deadline_ns), condition)
    }

    /// [`WaitQueue::wait_until_ns`] where there may be a deadline.
    pub fn wait_by<P: Platform>(
        &self,
        platform: &P,
        deadline_ns: Option<u64>,
        mut condition: impl FnMut() -> bool,
    ) -> bool {
        // Relaxed: the fence below orders it before the condition is looked at.
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiters);
        let mut spins = 0u32;
        loop {
            // Acquire: pairs with the Release in `wake`; the condition is seen as it was then.
            let seen = self.wakeups.load(Ordering::Acquire);
            // Pairs with the fence in `wake`: see the type.
            fence(Ordering::SeqCst);
            if condition() {
                return true;
            }
            if deadline_ns.is_some_and(|deadline| platform.now_ns() >= deadline) {
                return false;
            }
            match platform.sleep() {
                Some(sleep) => sleep.wait(&self.wakeups, seen, deadline_ns),
                None => platform.relax(spins),
            }
            spins = spins.saturating_add(1);
        }
    }

    /// Lets so much time pass: nobody says when it is enough. Spins where tasks cannot sleep.
    ///
    /// Context: as [`WaitQueue::wait_until`].
    pub fn pass_ns<P: Platform>(platform: &P, ns: u64) {
        let deadline_ns = platform.now_ns().saturating_add(ns);
        let over = WaitQueue::default().wait_until_ns(platform, deadline_ns, || false);
        debug_assert!(!over);
    }

    /// Has one waiter look again. Context: any but an NMI; also inside sections and under locks.
    pub fn wake_one<P: Platform>(&self, platform: &P) {
        self.wake(platform, Wake::One);
    }

    /// Has all waiters look again. Context: as [`WaitQueue::wake_one`].
    pub fn wake_all<P: Platform>(&self, platform: &P) {
        self.wake(platform, Wake::All);
    }

    fn wake<P: Platform>(&self, platform: &P, who: Wake) {
        // Pairs with the fence in `wait`: see the type.
        fence(Ordering::SeqCst);
        if !self.has_waiters() {
            return;
        }
        // Release: pairs with the Acquire in `wait`.
        self.wakeups.fetch_add(1, Ordering::Release);
        if let Some(sleep) = platform.sleep() {
            sleep.wake(&self.wakeups, who);
        }
    }

    /// True if somebody waits. Already stale when it returns.
    pub fn has_waiters(&self) -> bool {
        // Relaxed: what it must be ordered with is said by the fence in `wake`.
        self.waiters.load(Ordering::Relaxed) != 0
    }
}
