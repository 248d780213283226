//! Thread-bound slots: the CPUs of a process.
//!
//! 1. **Slots.** A process has [`NR_SLOTS`] slots. A thread is given one at its first entry and
//!    keeps it to its end; the next thread inherits it, and with it the private caches of that CPU
//!    id. Low numbers are given first. `registry.rs`.
//! 2. **Entering** is two plain stores and two loads on a line that only this thread writes; there
//!    is no locked instruction. `protocol.rs` has the proof.
//! 3. **From outside.** A slot can be taken by another thread (to drain its caches): a flag, one
//!    `membarrier`, a wait until the owner is outside. One stopper at a time, by the *drain* lock,
//!    which attaching a thread takes too: while it is held no slot gets an owner.
//! 4. **The guest slot**, number [`NR_SLOTS`], is for threads without a slot of their own: the
//!    1025th, and those whose destructors have run (the C library frees two more blocks then). It
//!    is shared, under a lock.
//! 5. **Signal handlers.** Whoever is inside anything says so where its handlers see it: in the
//!    state of its slot, or as owner of the guest or drain lock. They are refused as nested and
//!    never wait for what they interrupted. A handler that leaves a section by `longjmp` leaves its
//!    thread refused for ever.
//! 6. **Thread exit.** The destructor of a pthread key runs the hooks ([`on_thread_exit`]), marks
//!    the thread as torn down, gives the slot back. A thread that ends in the middle of a section
//!    (cancelled in `malloc`) leaves a slot that is *lost*: not used again, not waited for.
//! 7. **Fork.** [`fork::quiesce`] takes all locks of this module and all slots. All locks of the
//!    library are taken inside sections, so none is held then.
//! 8. **Locks** are taken in the order: hooks, guest, drain.
//! 9. **Places**, where a machine was built with [`PerCpu::Rseq`](crate::PerCpu): its CPU ids are
//!    those of processors, which threads claim by a restartable sequence. Slots still say whether a
//!    thread is inside, and the guest slot is where it goes when a place is taken. `by_cpu.rs`.
//! 10. **What it does not do.** No slot per processor: many threads, many caches. Places have that.

#[cfg_attr(not(target_arch = "x86_64"), path = "no_places.rs")]
mod by_cpu;
mod exit;
pub mod fork;
mod owner_lock;
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "no sequences")
)]
#[allow(unreachable_pub, reason = "public to the tests under a model checker")]
mod place;
#[allow(unreachable_pub, reason = "public to the tests under a model checker")]
mod protocol;
mod registry;
mod section;
#[cfg(test)]
mod tests;
mod tls;

pub use exit::{ExitHook, HookError, MAX_HOOKS, on_thread_exit};
pub use section::Section;

#[cfg(target_arch = "x86_64")]
use crate::rseq::Rseq;
#[cfg(target_arch = "x86_64")]
pub(crate) use by_cpu::{NR_PLACES, Tabled};
use gfp::frame::CpuId;
use gfp::platform::{Nested, ThisTask};
use owner_lock::ThreadKey;
use registry::Registry;
use tls::Thread;

/// Slots that threads of their own can have.
pub const NR_SLOTS: usize = 1024;

/// The CPU id shared by threads without a slot.
pub const GUEST: CpuId = CpuId(NR_SLOTS as u32);

static REGISTRY: Registry<NR_SLOTS> = Registry::new();

/// The calling thread of the process's own registry.
#[derive(Copy, Clone)]
struct ThisThread;

impl Thread for ThisThread {
    #[inline(always)]
    fn word(self) -> usize {
        tls::get()
    }

    fn set_word(self, word: usize) {
        tls::set(word);
    }

    fn key(self) -> ThreadKey {
        tls::key()
    }

    fn watch_exit(self) {
        exit::watch();
    }
}

/// Enters on the slot of the calling thread. May be called from a signal handler.
///
/// # Errors
/// [`Nested`] if this thread is inside a section: of any machine, of its own or another slot.
#[inline(always)]
pub fn enter() -> Result<(CpuId, Section<'static>), Nested> {
    REGISTRY.enter(ThisThread)
}

/// [`enter`] without any call, where the thread has a slot that nobody stops. `None`: ask
/// [`enter`].
#[inline(always)]
pub fn enter_quick() -> Option<(CpuId, Section<'static>)> {
    REGISTRY.enter_quick(ThisThread)
}

/// Takes the slot `cpu` from outside, waiting until its owner is outside. `None` if the calling
/// thread is inside a section, if that slot was never used or is lost, or if the operating system
/// has no way to do it.
pub fn enter_remote(cpu: CpuId) -> Option<Section<'static>> {
    REGISTRY.enter_remote(ThisThread, cpu)
}

/// Readies the places for a machine. False: the calling thread is inside a section.
#[cfg(target_arch = "x86_64")]
pub(crate) fn open_places<I: Tabled>(rseq: &Rseq) -> bool {
    REGISTRY.open(ThisThread, I::table(), rseq.nr_cpus())
}

/// [`enter`], of the place of the id that the calling thread has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn enter_place<I: Tabled>(rseq: &Rseq) -> Result<(CpuId, Section<'static>), Nested> {
    match enter_place_quick::<I>(rseq) {
        Some(entered) => Ok(entered),
        None => REGISTRY.enter_place(ThisThread, I::table(), rseq),
    }
}

/// [`enter_quick`], as [`enter_place`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn enter_place_quick<I: Tabled>(rseq: &Rseq) -> Option<(CpuId, Section<'static>)> {
    REGISTRY.enter_place_quick(ThisThread, I::table(), rseq)
}

/// [`enter_remote`], of the place of `cpu`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn enter_place_remote<I: Tabled>(rseq: &Rseq, cpu: CpuId) -> Option<Section<'static>> {
    REGISTRY.enter_place_remote(ThisThread, I::table(), rseq, cpu)
}

/// True if the calling thread is inside a section: whoever asks is a signal handler that came in
/// the middle, or the section itself.
pub fn is_inside() -> bool {
    REGISTRY.is_inside(ThisThread)
}

/// Threads that have a slot: those that have used a machine of this process.
pub fn owners() -> u32 {
    REGISTRY.owners()
}

/// What is true of the calling thread: its scopes and rights, for all machines of the process. May
/// be called from a signal handler.
pub fn this_task<'a>() -> ThisTask<'a> {
    // SAFETY: [INV-TASK-1] each thread has its own word, in its thread-local memory; `ThisTask` is
    // not `Send`, so it is used on this thread only, while that memory is there.
    unsafe { ThisTask::new(&*tls::task()) }
}

/// The slot of the calling thread, if it has one.
pub fn current() -> Option<CpuId> {
    REGISTRY.slot_of(ThisThread).map(|slot| CpuId(slot.index()))
}
