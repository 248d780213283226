//! What happens when a thread ends.

use super::owner_lock::OwnerLock;
use super::{REGISTRY, ThisThread, tls};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use gfp::frame::CpuId;

/// Hooks that can be there at once.
pub const MAX_HOOKS: usize = 8;

/// 0: not made. Else the key plus one.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Has `thread_exit` called when the calling thread ends. May call `malloc`, which must work.
pub(super) fn watch() {
    let Some(key) = key() else { return };
    // SAFETY: `key` is a key; the value is not null, so that the destructor runs.
    let _ = unsafe { libc::pthread_setspecific(key, ptr::from_ref(&KEY).cast()) };
}

/// The one key, made by whoever comes first. `None` if the process has no more keys: slots are not
/// given back then, and late threads share the guest slot.
fn key() -> Option<libc::pthread_key_t> {
    // Acquire: pairs with the Release below.
    let known = KEY.load(Ordering::Acquire);
    if known != 0 {
        return Some(known - 1);
    }
    let mut key = 0;
    // SAFETY: `key` is a place for a key.
    if unsafe { libc::pthread_key_create(&mut key, Some(thread_exit)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(key),
        Err(theirs) => {
            // SAFETY: we made the key, and no thread has a value for it.
            let _ = unsafe { libc::pthread_key_delete(key) };
            Some(theirs - 1)
        }
    }
}

unsafe extern "C" fn thread_exit(_: *mut c_void) {
    if let Some(slot) = REGISTRY.slot_of(ThisThread) {
        HOOKS.run(CpuId(slot.index()));
        if let Some(lost) = REGISTRY.detach(ThisThread) {
            super::by_cpu::lose_places(lost);
        }
    }
}

#[derive(Copy, Clone)]
struct Hook {
    call: unsafe fn(*const (), CpuId),
    data: *const (),
}

pub(super) struct Hooks {
    pub(super) lock: OwnerLock,
    table: UnsafeCell<[Option<Hook>; MAX_HOOKS]>,
}

// SAFETY: [INV-HOST-3] `table` is used under `lock` only; whoever registers a hook promises that it
// may be called on any thread.
unsafe impl Sync for Hooks {}

pub(super) static HOOKS: Hooks = Hooks {
    lock: OwnerLock::new(),
    table: UnsafeCell::new([None; MAX_HOOKS]),
};

impl Hooks {
    fn run(&self, cpu: CpuId) {
        let me = tls::key();
        if self.lock.held_by(me) {
            return; // a signal handler ended the thread in the middle of `register`
        }
        self.lock.lock(me);
        for place in 0..MAX_HOOKS {
            // SAFETY: [INV-HOST-3] the lock is held; the hook is copied out, no reference stays.
            if let Some(hook) = unsafe { (*self.table.get())[place] } {
                // SAFETY: promised by the caller of `on_thread_exit`.
                unsafe { (hook.call)(hook.data, cpu) };
            }
        }
        self.lock.unlock();
    }

    fn change<R>(&self, change: impl FnOnce(&mut [Option<Hook>; MAX_HOOKS]) -> R) -> R {
        self.lock.lock(tls::key());
        // SAFETY: [INV-HOST-3] the lock is held, and `change` cannot come back here.
        let answer = change(unsafe { &mut *self.table.get() });
        self.lock.unlock();
        answer
    }
}

/// All [`MAX_HOOKS`] hooks are taken: drop one, or serve several machines with one hook.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HookError;

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {MAX_HOOKS} thread exit hooks: drop one, or share it"
        )
    }
}

impl core::error::Error for HookError {}

/// A registered hook. Dropping it takes it away, and waits for a run that is under way.
#[derive(Debug)]
pub struct ExitHook {
    place: usize,
}

impl Drop for ExitHook {
    fn drop(&mut self) {
        let hook = HOOKS.change(|table| table[self.place].take());
        debug_assert!(hook.is_some());
    }
}

/// Has `call(data, cpu)` called on each thread that ends, while `cpu` is still its slot: the moment
/// to give the slot's caches back. Without a hook the caches stay for the slot's next owner. (Of a
/// machine with [`PerCpu::Rseq`](crate::PerCpu) caches are no thread's, and `cpu` means nothing.)
///
/// The hook is called outside any section and may enter. Hooks run one at a time in the process; a
/// hook must not register, drop a hook, or fork.
///
/// # Errors
/// [`HookError`] if there are [`MAX_HOOKS`] already.
///
/// # Safety
/// `call(data, _)` must be safe to call on any thread until the result is dropped. Neither this nor
/// the drop may be called in a signal handler or inside a section.
pub unsafe fn on_thread_exit(
    call: unsafe fn(*const (), CpuId),
    data: *const (),
) -> Result<ExitHook, HookError> {
    HOOKS.change(|table| {
        let place = table.iter().position(Option::is_none).ok_or(HookError)?;
        table[place] = Some(Hook { call, data });
        Ok(ExitHook { place })
    })
}
