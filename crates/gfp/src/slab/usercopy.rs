//! What of an object may be copied to and from user space (S48, D60).

use super::Slabs;
use super::desc::{ALLOCATED, ON_SLAB};
use crate::platform::Platform;
use crate::sync::atomic::Ordering::Relaxed;

/// What a cache allows of a copy.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SlabCopy {
    /// The address is in no slab.
    Elsewhere,
    /// All of it lies in the window of one object in use.
    Allowed,
    /// The object there is free, or the address is in none.
    NoObject,
    /// Some of it lies outside of the cache's window, or of the object.
    OutsideWindow,
}

impl<P: Platform> Slabs<P> {
    /// D60: whether `n` bytes at `addr`, at least one, may be copied to or from user space. For
    /// objects of kmalloc that is all of the class, for those of a cache its window, which most
    /// have none of.
    ///
    /// Context: any.
    pub fn check_copy(&self, addr: usize, n: usize) -> SlabCopy {
        let Some(slab) = self.slab_of(addr) else {
            return SlabCopy::Elsewhere;
        };
        let Some(index) = slab.covering(addr) else {
            return SlabCopy::NoObject;
        };
        if slab.has(ON_SLAB) || slab.state(index).load(Relaxed) != ALLOCATED {
            return SlabCopy::NoObject;
        }
        // SAFETY: [INV-SLAB-2] a cache outlives its slabs, and the object, which is in use, the
        // slab.
        let (offset, size) = unsafe { slab.cache.as_ref() }.usercopy;
        let at = addr - slab.object(index).addr().get();
        let inside = at >= offset && n <= size && at - offset <= size - n;
        match inside {
            true => SlabCopy::Allowed,
            false => SlabCopy::OutsideWindow,
        }
    }
}
