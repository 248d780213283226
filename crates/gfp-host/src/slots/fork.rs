//! What to do around `fork`.
//!
//! ```text
//! prepare: quiesce        parent: resume_parent        child: resume_child
//! ```
//! Between `quiesce` and `resume_*` no section exists in the process but those of the forking
//! thread, which may allocate (other prepare handlers do); so the child finds every lock of the
//! library free and every structure whole. `vfork`, `_Fork` and `clone` run no handlers: as ever,
//! their child may only `exec`.
//!
//! A fork in a signal handler that interrupted a section of its own thread cannot wait for others,
//! who may wait for that section. Nothing is brought to rest then; the child has what the C
//! standard promises such a child: it may `exec`.

use super::exit::HOOKS;
use super::{REGISTRY, ThisThread, tls};
use crate::sys;
use core::sync::atomic::{AtomicBool, Ordering};

/// Before the fork.
pub fn quiesce() {
    let me = tls::key();
    if HOOKS.lock.held_by(me) || super::is_inside() {
        return;
    }
    HOOKS.lock.lock(me);
    if REGISTRY.quiesce(ThisThread) {
        super::by_cpu::quiesce();
    } else {
        HOOKS.lock.unlock();
    }
}

/// After the fork, in the parent, on the thread that forked.
pub fn resume_parent() {
    if REGISTRY.has_quiesced(ThisThread) {
        super::by_cpu::resume();
        REGISTRY.resume(ThisThread);
        HOOKS.lock.unlock();
    }
}

/// After the fork, in the child.
pub fn resume_child() {
    super::by_cpu::resume_child(REGISTRY.slot_of(ThisThread));
    REGISTRY.resume_child(ThisThread);
    // A fork inside a hook is forbidden, so this thread does not hold it but for `quiesce`.
    HOOKS.lock.reset();
    #[cfg(not(loom))]
    crate::service::machines::others_are_gone_in_child();
}

extern "C" fn prepare() {
    quiesce();
}

extern "C" fn parent() {
    resume_parent();
}

extern "C" fn child() {
    resume_child();
}

/// Has the three called around each `fork` from now on. To be called early: prepare handlers run
/// last first, so ours should be the first one registered. May call `malloc`, which must work.
///
/// When it returns, the handlers are registered, whoever did it. Two threads that come at the same
/// time may both register them: the second run of each finds nothing left to do.
///
/// # Errors
/// If there is no memory for it.
pub fn install() -> Result<(), crate::HostError> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: the handlers live as long as the code.
    match unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
        0 => {
            // After the registration, so that nobody who reads it forks without handlers.
            INSTALLED.store(true, Ordering::Release);
            Ok(())
        }
        errno => Err(crate::HostError::System {
            what: "pthread_atfork",
            errno: sys::Errno(errno).0,
        }),
    }
}
