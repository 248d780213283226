//! Locks that are held over requests, and taken in reclaim (P155).
//!
//! 1. **What goes wrong.** A request that may reclaim can end in anybody's shrinker. If one task
//!    holds a lock over such a request, and a shrinker takes that lock, the two can wait for each
//!    other for ever. It needs memory to be short at the wrong moment, so tests seldom see it.
//! 2. **How it is seen all the same.** The author of a lock names its class ([`LockClass`]) and
//!    says while it is held ([`Mm::holds`](crate::Mm::holds)). Each class remembers two places: one
//!    that asked for memory over the lock, one that took it in reclaim. Who fills in the second is
//!    told, whether or not memory was ever short.
//! 3. **A machine with a lock checker of its own** is told by [`Platform::fs_reclaim`] of the
//!    virtual lock that Linux calls `fs_reclaim`, and finds longer chains too.
//! 4. **Order.** Between the store of one place and the load of the other stands a `SeqCst` fence:
//!    of two tasks that fill them in at once, one sees both. Whoever swaps `told` first tells.

use super::{Platform, ThisTask};
use crate::flags::Gfp;
use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering, Ordering::Relaxed, fence};
use core::fmt;
use core::panic::Location;
use core::ptr::null_mut;

/// What happens to the virtual lock "fs reclaim" (P155).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FsReclaim {
    /// The running task takes it: it begins a pass of reclaim that may call into file systems, or
    /// makes a request that could.
    Acquire,
    /// It gives it back.
    Release,
}

type Place = AtomicPtr<Location<'static>>;

/// All locks that are used in the same way, as the inodes' locks of one file system.
///
/// ```
/// use gfp::platform::LockClass;
/// static JOURNAL: LockClass = LockClass::new("journal");
/// ```
pub struct LockClass {
    name: &'static str,
    /// Null, or where a request that may reclaim into file systems was made over such a lock.
    over_request: Place,
    /// Null, or where such a lock was taken in reclaim.
    in_reclaim: Place,
    told: AtomicBool,
}

/// A lock that tasks may wait for in reclaim, while its holder waits for reclaim.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ReclaimCycle {
    /// The class of the lock.
    pub lock: &'static str,
    /// Where a request was made over it.
    pub over_request: &'static Location<'static>,
    /// Where it was taken in reclaim.
    pub in_reclaim: &'static Location<'static>,
}

impl fmt::Display for ReclaimCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lock `{}` is held over a request that may reclaim, at {}, and taken in reclaim, at \
             {}: they can wait for each other for ever (while it is held use GFP_NOFS or open \
             scope_nofs, or do not wait for it in reclaim)",
            self.lock, self.over_request, self.in_reclaim
        )
    }
}

impl LockClass {
    /// A class with a name for reports.
    #[cfg(not(loom))]
    pub const fn new(name: &'static str) -> LockClass {
        LockClass {
            name,
            over_request: AtomicPtr::new(null_mut()),
            in_reclaim: AtomicPtr::new(null_mut()),
            told: AtomicBool::new(false),
        }
    }

    /// A class: under a model checker, atomics are not made by constants.
    #[cfg(loom)]
    pub fn new(name: &'static str) -> LockClass {
        LockClass {
            name,
            over_request: AtomicPtr::new(null_mut()),
            in_reclaim: AtomicPtr::new(null_mut()),
            told: AtomicBool::new(false),
        }
    }

    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Somebody holds such a lock and makes a request that may reclaim.
    pub(crate) fn held_over(&self, place: &'static Location<'static>) -> Option<ReclaimCycle> {
        self.note(&self.over_request, place)
    }

    /// Somebody takes such a lock in reclaim.
    pub(crate) fn taken_within(&self, place: &'static Location<'static>) -> Option<ReclaimCycle> {
        self.note(&self.in_reclaim, place)
    }

    /// Keeps the first place. Returns both when the class has them for the first time.
    fn note(&self, kept: &Place, place: &'static Location<'static>) -> Option<ReclaimCycle> {
        let place = core::ptr::from_ref(place).cast_mut();
        // A failure: another place is kept. Relaxed, here and below: a place is never changed.
        let _ = kept.compare_exchange(null_mut(), place, Relaxed, Relaxed);
        fence(Ordering::SeqCst); // pairs with itself in another task
        let cycle = ReclaimCycle {
            lock: self.name,
            over_request: read(&self.over_request)?,
            in_reclaim: read(&self.in_reclaim)?,
        };
        (!self.told.swap(true, Relaxed)).then_some(cycle)
    }
}

fn read(place: &Place) -> Option<&'static Location<'static>> {
    // SAFETY: [INV-TASK-3] null, or what `note` stored.
    unsafe { place.load(Relaxed).as_ref() }
}

impl fmt::Debug for LockClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockClass({})", self.name)
    }
}

/// The running task holds a lock of a class, until this is dropped; in any order.
///
/// ```compile_fail
/// fn is_send<T: Send>() {}
/// is_send::<gfp::platform::HeldClass<'static>>();
/// ```
#[must_use = "the lock counts as held until this is dropped"]
#[derive(Debug)]
pub struct HeldClass<'a> {
    /// `None`: nobody keeps it.
    task: Option<ThisTask<'a>>,
    class: &'static LockClass,
}

impl<'a> HeldClass<'a> {
    /// The running task has taken the lock, at `place`. A cycle is returned once for each class.
    pub(crate) fn new<P: Platform>(
        platform: &'a P,
        class: &'static LockClass,
        place: &'static Location<'static>,
    ) -> (HeldClass<'a>, Option<ReclaimCycle>) {
        let task = super::task_of(platform).ok();
        let within = task.is_some_and(ThisTask::is_in_fs_reclaim);
        let cycle = within.then(|| class.taken_within(place)).flatten();
        let task = task.filter(|task| task.hold(class));
        (HeldClass { task, class }, cycle)
    }

    /// Whether the task keeps it: false in an interrupt, on a platform without words for its tasks,
    /// and if the task holds [`HELD_CLASSES`](super::HELD_CLASSES) already.
    pub fn is_kept(&self) -> bool {
        self.task.is_some()
    }
}

impl Drop for HeldClass<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            task.let_go(self.class);
        }
    }
}

/// A pass of reclaim that may call into file systems: the running task has the virtual lock until
/// this is dropped.
pub(crate) struct FsReclaimPass<'a, P: Platform> {
    platform: &'a P,
    task: Option<ThisTask<'a>>,
}

impl<'a, P: Platform> FsReclaimPass<'a, P> {
    /// `None`: a pass for such a request stays out of file systems, or is not to be checked.
    pub(crate) fn begin(platform: &'a P, gfp: Gfp) -> Option<FsReclaimPass<'a, P>> {
        if !gfp.contains(Gfp::FS) || gfp.contains(Gfp::NOLOCKDEP) {
            return None;
        }
        platform.fs_reclaim(FsReclaim::Acquire);
        let task = super::task_of(platform).ok();
        if let Some(task) = task {
            task.enter_fs_reclaim();
        }
        Some(FsReclaimPass { platform, task })
    }
}

impl<P: Platform> Drop for FsReclaimPass<'_, P> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            task.leave_fs_reclaim();
        }
        self.platform.fs_reclaim(FsReclaim::Release);
    }
}
