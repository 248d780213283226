//! Signals are for the program's own threads.

use core::ptr::null_mut;

/// The calling thread takes none from now on.
pub(super) fn block_all() {
    // SAFETY: `all` is a place for a set, filled before it is used; this thread's mask only.
    unsafe {
        let mut all = core::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, null_mut());
    }
}
