//! What is true of the running task: the scopes that it has opened, and its rights.
//!
//! 1. A platform keeps one [`TaskWord`] a task, made with the task and found without allocating
//!    ([`Platform::this_task`]). The library reads it on slow paths and writes it when scopes open
//!    and close.
//! 2. Scopes and their reason are the task's own: nobody else changes them. Facts may be noted by
//!    anybody who reaches the word, such as an OOM killer on another CPU.
//! 3. A hard interrupt and an NMI do not inherit the task below them (P152): [`caller_of`] does not
//!    look. A signal handler that no section tells from its thread counts as the thread.

use super::{LockClass, Platform};
use crate::policy::context::Context;
use crate::policy::effort::{Caller, Now, Scopes};
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use core::fmt;
use core::marker::PhantomData;

/// Something that is true of a task, other than its scopes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Fact {
    /// The OOM killer has chosen it (P265).
    OomVictim = 8,
    /// It has a real-time or deadline policy (P262).
    Realtime,
    /// It is writing its core (P129).
    DumpingCore,
    /// It is a worker of the deferred-work pool (P124).
    PoolWorker,
    /// It has a fatal signal pending (P125).
    FatalSignal,
}

/// Bits below [`Fact::OomVictim`] are scopes.
const SCOPES: u32 = 0xff;
/// The task reclaims now, and may call into file systems (P155).
const FS_RECLAIM: u32 = 1 << 31;
/// Locks of a task that are kept track of at once (P155).
pub const HELD_CLASSES: usize = 8;

/// Why a scope was opened: written as `&"journal commit"`. One thin pointer, so that it changes in
/// one store.
pub type Reason = &'static &'static str;

/// One task's scopes and facts. All zeroes is a task without any.
#[repr(C)]
pub struct TaskWord {
    word: AtomicU32,
    /// Guards that are alive: what makes a close out of order visible.
    depth: AtomicU32,
    /// [INV-TASK-2] Null, or a [`Reason`].
    reason: AtomicPtr<&'static str>,
    /// [INV-TASK-3] Null, or the class of a lock that the task holds.
    held: [AtomicPtr<LockClass>; HELD_CLASSES],
}

impl TaskWord {
    /// A task without scopes and facts.
    #[cfg(not(loom))]
    pub const fn new() -> TaskWord {
        TaskWord {
            word: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            reason: AtomicPtr::new(core::ptr::null_mut()),
            held: [const { AtomicPtr::new(core::ptr::null_mut()) }; HELD_CLASSES],
        }
    }

    /// A task without scopes and facts: under a model checker, atomics are not made by constants.
    #[cfg(loom)]
    pub fn new() -> TaskWord {
        TaskWord {
            word: AtomicU32::new(0),
            depth: AtomicU32::new(0),
            reason: AtomicPtr::new(core::ptr::null_mut()),
            held: core::array::from_fn(|_| AtomicPtr::new(core::ptr::null_mut())),
        }
    }

    /// Notes that something is true of the task. Context: any, on any CPU.
    pub fn note(&self, fact: Fact) {
        // Relaxed, here and below: the bit is all there is to see.
        self.word.fetch_or(1 << fact as u32, Relaxed);
    }

    /// Notes that something is not true any more.
    pub fn forget(&self, fact: Fact) {
        self.word.fetch_and(!(1 << fact as u32), Relaxed);
    }

    /// Whether something is true of the task.
    pub fn has(&self, fact: Fact) -> bool {
        self.word.load(Relaxed) & 1 << fact as u32 != 0
    }

    /// The scopes that the task has opened.
    pub fn scopes(&self) -> Scopes {
        Scopes::from_bits((self.word.load(Relaxed) & SCOPES) as u8)
    }
}

impl Default for TaskWord {
    fn default() -> TaskWord {
        TaskWord::new()
    }
}

impl fmt::Debug for TaskWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskWord({:?}", self.scopes())?;
        use Fact::{DumpingCore, FatalSignal, OomVictim, PoolWorker, Realtime};
        for fact in [OomVictim, Realtime, DumpingCore, PoolWorker, FatalSignal] {
            if self.has(fact) {
                write!(f, ", {fact:?}")?;
            }
        }
        f.write_str(")")
    }
}

/// The word of the task that runs this.
///
/// Not `Send`: it stays with its task.
#[derive(Copy, Clone, Debug)]
pub struct ThisTask<'a> {
    word: &'a TaskWord,
    _not_send: PhantomData<*mut ()>,
}

impl<'a> ThisTask<'a> {
    /// # Safety
    /// [INV-TASK-1] `word` is that of the task (or thread) that runs this, of what it interrupted,
    /// or of a CPU that runs no task yet; no other task has it, and it lives as long as the task.
    #[inline]
    pub unsafe fn new(word: &'a TaskWord) -> ThisTask<'a> {
        ThisTask {
            word,
            _not_send: PhantomData,
        }
    }

    /// The word itself, for others to note facts there.
    ///
    /// ```compile_fail,E0133
    /// use gfp::platform::{TaskWord, ThisTask};
    /// fn outlives_the_thread(task: ThisTask<'static>) -> &'static TaskWord {
    ///     task.word()
    /// }
    /// ```
    ///
    /// # Safety
    /// [INV-TASK-1] Nobody uses it after the task has ended. Unlike this, it may go to other tasks,
    /// and no lifetime says when this one ends.
    pub unsafe fn word(self) -> &'a TaskWord {
        self.word
    }

    /// As [`TaskWord::note`].
    pub fn note(self, fact: Fact) {
        self.word.note(fact);
    }

    /// As [`TaskWord::forget`].
    pub fn forget(self, fact: Fact) {
        self.word.forget(fact);
    }

    /// As [`TaskWord::has`].
    pub fn has(self, fact: Fact) -> bool {
        self.word.has(fact)
    }

    /// The scopes that are open.
    pub fn scopes(self) -> Scopes {
        self.word.scopes()
    }

    /// Why the innermost scope was opened; `None` if none is open, or nobody said.
    pub fn reason(self) -> Option<Reason> {
        match self.scopes() {
            Scopes::NONE => None,
            _ => self.reason_kept(),
        }
    }

    pub(crate) fn reason_kept(self) -> Option<Reason> {
        let reason = self.word.reason.load(Relaxed);
        // SAFETY: [INV-TASK-2] null, or what `set_reason` stored.
        unsafe { reason.as_ref() }
    }

    pub(crate) fn set_reason(self, reason: Option<Reason>) {
        let reason = reason.map_or(core::ptr::null(), core::ptr::from_ref);
        self.word.reason.store(reason.cast_mut(), Relaxed);
    }

    /// P151: opens scopes. Returns exactly those that were not open.
    #[must_use = "the scopes stay open until these are restored"]
    pub fn save(self, open: Scopes) -> Scopes {
        let before = self.word.word.fetch_or(open.bits().into(), Relaxed) as u8;
        Scopes::from_bits(open.bits() & !before)
    }

    /// P151: closes what [`ThisTask::save`] opened, and nothing else.
    pub fn restore(self, saved: Scopes) {
        self.word.word.fetch_and(!u32::from(saved.bits()), Relaxed);
    }

    /// P155: it holds a lock of this class. False: it holds too many to keep track of.
    pub(super) fn hold(self, class: &'static LockClass) -> bool {
        let class = core::ptr::from_ref(class).cast_mut();
        let mut places = self.word.held.iter();
        // Relaxed, here and below: only the task itself looks.
        let free = places.find(|place| place.load(Relaxed).is_null());
        free.inspect(|place| place.store(class, Relaxed)).is_some()
    }

    /// It holds one lock of this class less.
    pub(super) fn let_go(self, class: &'static LockClass) {
        let mut places = self.word.held.iter();
        if let Some(place) = places.find(|p| core::ptr::eq(p.load(Relaxed), class)) {
            place.store(core::ptr::null_mut(), Relaxed);
        }
    }

    /// The classes of the locks that it holds.
    pub(crate) fn held(self) -> impl Iterator<Item = &'static LockClass> {
        let places = self.word.held.iter();
        // SAFETY: [INV-TASK-3] null, or what `hold` stored.
        places.filter_map(|place| unsafe { place.load(Relaxed).as_ref() })
    }

    /// P155: it begins to reclaim for who may enter file systems.
    pub(super) fn enter_fs_reclaim(self) {
        self.word.word.fetch_or(FS_RECLAIM, Relaxed);
    }

    /// It ends that.
    pub(super) fn leave_fs_reclaim(self) {
        self.word.word.fetch_and(!FS_RECLAIM, Relaxed);
    }

    /// It reclaims now, and may call into file systems.
    pub(super) fn is_in_fs_reclaim(self) -> bool {
        self.word.word.load(Relaxed) & FS_RECLAIM != 0
    }

    /// One more guard is alive: it is number so many.
    pub(crate) fn deeper(self) -> u32 {
        self.word.depth.fetch_add(1, Relaxed) + 1
    }

    /// One guard is dropped. Returns the number of the one that should be.
    pub(crate) fn shallower(self) -> u32 {
        self.word.depth.fetch_sub(1, Relaxed)
    }
}

/// Who asks, for [`Effort::of`](crate::policy::effort::Effort::of): the context, and what is true
/// of the running task.
pub fn caller_of<P: Platform>(platform: &P) -> Caller {
    let context = platform.context();
    let caller = Caller::in_context(context);
    let Some(task) = task_in(platform, context) else {
        return caller;
    };
    Caller {
        scopes: task.scopes(),
        oom_victim: task.word.has(Fact::OomVictim),
        realtime: task.word.has(Fact::Realtime),
        dumping_core: task.word.has(Fact::DumpingCore),
        pool_worker: task.word.has(Fact::PoolWorker),
        ..caller
    }
}

/// What may have changed while a request loops.
pub fn now_of<P: Platform>(platform: &P) -> Now {
    let task = task_in(platform, platform.context());
    task.map_or(Now::default(), |task| Now {
        oom_victim: task.word.has(Fact::OomVictim),
        fatal_signal: task.word.has(Fact::FatalSignal),
    })
}

/// The task whose facts count here (P152).
pub(crate) fn task_in<P: Platform>(platform: &P, context: Context) -> Option<ThisTask<'_>> {
    match context {
        Context::HardIrq | Context::Nmi => None,
        Context::Task | Context::Atomic | Context::SoftIrq => platform.this_task(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::platform::SingleCore;

    #[test]
    fn zeroes_are_a_task_without_scopes_and_facts() {
        // What thread-local memory of a process begins as.
        // SAFETY: integers and a pointer.
        let zero: TaskWord = unsafe { core::mem::zeroed() };
        assert_eq!(std::format!("{zero:?}"), "TaskWord(none)");
        assert_eq!(zero.depth.load(Relaxed), 0);
    }

    #[test]
    fn facts_reach_the_caller_and_leave_scopes_alone() {
        // P124, P125, P129, P262, P265
        let platform = SingleCore::for_test();
        let task = platform.this_task().unwrap();
        let saved = task.save(Scopes::NOFS);
        for fact in [
            Fact::OomVictim,
            Fact::Realtime,
            Fact::DumpingCore,
            Fact::PoolWorker,
            Fact::FatalSignal,
        ] {
            task.note(fact);
        }
        let caller = caller_of(&platform);
        assert_eq!(caller.scopes, Scopes::NOFS);
        assert!(caller.oom_victim && caller.realtime && caller.dumping_core && caller.pool_worker);
        let now = now_of(&platform);
        assert!(now.oom_victim && now.fatal_signal);
        task.forget(Fact::OomVictim);
        task.forget(Fact::FatalSignal);
        assert_eq!(now_of(&platform), Now::default());
        assert!(caller_of(&platform).realtime);
        task.restore(saved);
        assert_eq!(caller_of(&platform).scopes, Scopes::NONE);
    }

    #[test]
    fn a_reason_counts_while_a_scope_is_open() {
        let platform = SingleCore::for_test();
        let task = platform.this_task().unwrap();
        task.set_reason(Some(&"writing back"));
        assert_eq!(task.reason(), None, "no scope is open");
        let saved = task.save(Scopes::NOIO);
        assert_eq!(task.reason(), Some(&"writing back"));
        task.set_reason(None);
        assert_eq!(task.reason(), None);
        task.restore(saved);
    }
}
