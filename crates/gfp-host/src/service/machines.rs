//! The machines of this process, for the child of a fork.

use crate::HostPlatform;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use gfp::Mm;

/// Machines of [`Host`](super::Host)s that a process can have at a time.
pub const MACHINES_MAX: usize = 256;

/// [INV-HOST-8] An entry that is not null is a machine that lives: it is written by the owner of an
/// [`Entry`], which goes before the machine does.
static MACHINES: [AtomicPtr<Mm<HostPlatform>>; MACHINES_MAX] =
    [const { AtomicPtr::new(null_mut()) }; MACHINES_MAX];

/// In the child of a fork: no machine has the threads any more that worked for it in the parent.
pub(crate) fn others_are_gone_in_child() {
    for machine in &MACHINES {
        // Relaxed: the child is alone, and sees what its thread had seen before the fork.
        let mm = machine.load(Ordering::Relaxed);
        // SAFETY: [INV-HOST-8] it lived when the process was copied, and so does the copy.
        if let Some(mm) = unsafe { mm.as_ref() } {
            for node in mm.pages().nodes() {
                mm.kswapd_is_gone(node);
                mm.kcompactd_is_gone(node);
            }
            mm.oom_holder_is_gone();
            mm.cma_holder_is_gone();
            mm.reporting_is_gone();
        }
    }
}

/// A machine's entry in [`MACHINES`]; cleared when dropped.
pub(super) struct Entry(&'static AtomicPtr<Mm<HostPlatform>>);

impl Entry {
    /// `None`: there are [`MACHINES_MAX`]. It must be dropped before `mm` is.
    pub(super) fn take(mm: &Mm<HostPlatform>) -> Option<Entry> {
        let mm = core::ptr::from_ref(mm).cast_mut();
        // Release: pairs with nothing but the copy that a fork makes; the machine is complete.
        let free = |entry: &&AtomicPtr<_>| {
            let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
            let taken = entry.compare_exchange(null_mut(), mm, release, relaxed);
            taken.is_ok()
        };
        MACHINES.iter().find(free).map(Entry)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Release: the machine is let go after this.
        self.0.store(null_mut(), Ordering::Release);
    }
}
