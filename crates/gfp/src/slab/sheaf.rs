//! Sheaves: what one CPU has at hand of each cache (S75).
//!
//! ```text
//!  cpus[cpu] -> CpuTable (one page)           entries of one sheaf
//!              +---------------------------+  +-----+-----+-----+----
//!              | node, ...                 |  | obj | obj | obj |
//!              | slot[id]: entries ---------->|state|state|state| ...
//!              |           len, capacity   |  +-----+-----+-----+----
//!              +---------------------------+
//! ```
//!
//! [INV-PCPU-1] A table and the sheaves in it belong to who holds the CPU's section: plain loads
//! and stores do. `len` is the one word that publishes: an interrupt between two stores sees a
//! sheaf that is right (it may not use it, but a statistics reader may look). The table stays where
//! it is until the machine ends, so `len` may be read from everywhere.

use crate::frame::{MAX_NODES, PAGE_SIZE};
use crate::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};
use core::cell::Cell;
use core::ptr::NonNull;

/// One object in a sheaf, with the place of its state, so that taking it out looks nothing up.
#[derive(Copy, Clone)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) object: NonNull<u8>,
    pub(super) state: NonNull<AtomicU8>,
}

/// The sheaf of one cache on one CPU.
#[repr(C)]
pub(super) struct Slot {
    entries: AtomicPtr<Entry>,
    len: AtomicU32,
    capacity: AtomicU32,
}

/// Slots in a table: what is left of a page after the head.
pub(super) const SLOTS: usize = PAGE_SIZE / size_of::<Slot>() - 1;

/// The sheaves of one CPU.
#[repr(C)]
pub(super) struct CpuTable {
    /// The node that this CPU is nearest to.
    pub(super) node: AtomicU16,
    /// The nodes that had memory when `node` was chosen, one bit each.
    pub(super) nodes: AtomicU16,
    _pad: [u16; 6],
    slots: [Slot; SLOTS],
}

const _: () = assert!(MAX_NODES <= u16::BITS as usize);
const _: () = assert!(size_of::<CpuTable>() <= PAGE_SIZE);

impl CpuTable {
    /// The table of a CPU near to `node`, when the nodes of the mask `nodes` have memory.
    pub(super) fn new(node: u16, nodes: usize) -> CpuTable {
        CpuTable {
            node: AtomicU16::new(node),
            nodes: AtomicU16::new(nodes as u16),
            _pad: [0; 6],
            slots: [const { Slot::new() }; SLOTS],
        }
    }

    /// The slot of a cache; `None` if its number is beyond the table.
    #[inline]
    pub(super) fn slot(&self, id: u16) -> Option<&Slot> {
        self.slots.get(id as usize)
    }
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            entries: AtomicPtr::new(core::ptr::null_mut()),
            len: AtomicU32::new(0),
            capacity: AtomicU32::new(0),
        }
    }

    /// Objects in the sheaf; may be read from everywhere.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed) as usize
    }

    /// Objects that fit; 0 if there is no sheaf.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Relaxed) as usize
    }

    /// Takes the object that was put last.
    ///
    /// # Safety
    /// The caller holds the section of the CPU that the slot belongs to, as for all methods below.
    #[inline]
    pub(super) unsafe fn pop(&self) -> Option<Entry> {
        let len = self.len.load(Relaxed);
        let top = len.checked_sub(1)?;
        // SAFETY: [INV-PCPU-1] the first `len` entries are written, and the section is ours.
        let entry = unsafe { self.entries.load(Relaxed).add(top as usize).read() };
        self.len.store(top, Relaxed);
        Some(entry)
    }

    /// The object that [`Slot::pop`] would take.
    ///
    /// # Safety
    /// As [`Slot::pop`].
    #[inline(always)]
    pub(super) unsafe fn top(&self) -> Option<Entry> {
        let top = self.len.load(Relaxed).checked_sub(1)?;
        // SAFETY: [INV-PCPU-1] the first `len` entries are written, and the section is ours.
        Some(unsafe { self.entries.load(Relaxed).add(top as usize).read() })
    }

    /// Takes that object out; there must be one.
    ///
    /// # Safety
    /// As [`Slot::pop`].
    #[inline(always)]
    pub(super) unsafe fn drop_top(&self) {
        let len = self.len.load(Relaxed);
        debug_assert_ne!(len, 0);
        self.len.store(len - 1, Relaxed);
    }

    /// Puts an object; false if the sheaf is full or there is none.
    ///
    /// # Safety
    /// As [`Slot::pop`].
    #[inline]
    pub(super) unsafe fn push(&self, entry: Entry) -> bool {
        let len = self.len.load(Relaxed);
        if len >= self.capacity.load(Relaxed) {
            return false;
        }
        // SAFETY: [INV-PCPU-1] there is room for `capacity` entries, and the section is ours.
        unsafe { self.entries.load(Relaxed).add(len as usize).write(entry) };
        self.len.store(len + 1, Relaxed);
        true
    }

    /// The objects in the sheaf, oldest first; they may change places.
    ///
    /// # Safety
    /// As [`Slot::pop`]; the sheaf must not change otherwise while the slice is used.
    pub(super) unsafe fn entries(&self) -> &[Cell<Entry>] {
        let (at, len) = (self.entries.load(Relaxed), self.len());
        if len == 0 {
            return &[];
        }
        // SAFETY: [INV-PCPU-1] the first `len` entries are written, and the section is ours.
        unsafe { core::slice::from_raw_parts(at.cast(), len) }
    }

    /// Fills an empty sheaf with up to `want` entries, so that the one placed first is taken first.
    /// `source` places them and says how many. Returns that.
    ///
    /// # Safety
    /// As [`Slot::pop`]; the sheaf is empty, has room for `want`, and `source` does not
    /// touch it and places as many as it says, at most `want`.
    #[inline]
    pub(super) unsafe fn fill(
        &self,
        want: usize,
        source: impl FnOnce(&mut dyn FnMut(Entry)) -> usize,
    ) -> usize {
        debug_assert!(self.len() == 0 && want <= self.capacity());
        let at = self.entries.load(Relaxed);
        let mut next = want;
        let taken = source(&mut |entry| {
            next -= 1;
            // SAFETY: [INV-PCPU-1] there is room for `want` entries, and the section is ours.
            unsafe { at.add(next).write(entry) };
        });
        debug_assert!(next == want - taken);
        if next > 0 {
            // SAFETY: as above; the newest `taken` of the `want` places are written.
            unsafe { core::ptr::copy(at.add(next), at, taken) };
        }
        self.len.store(taken as u32, Relaxed);
        taken
    }

    /// Drops the oldest `n` entries, which the caller has dealt with.
    ///
    /// # Safety
    /// As [`Slot::pop`].
    pub(super) unsafe fn forget_oldest(&self, n: usize) {
        let (at, len) = (self.entries.load(Relaxed), self.len());
        debug_assert!(n <= len);
        if n == 0 {
            return;
        }
        // SAFETY: [INV-PCPU-1] as in `entries`.
        unsafe { core::ptr::copy(at.add(n), at, len - n) };
        self.len.store((len - n) as u32, Relaxed);
    }

    /// Gives the slot a sheaf of `capacity` entries.
    ///
    /// # Safety
    /// As [`Slot::pop`]; the slot has none, and `entries` is valid for that many, until it is taken
    /// back with [`Slot::uninstall`].
    pub(super) unsafe fn install(&self, entries: NonNull<Entry>, capacity: usize) {
        debug_assert!(self.capacity() == 0 && self.len() == 0);
        self.entries.store(entries.as_ptr(), Relaxed);
        self.capacity.store(capacity as u32, Relaxed);
    }

    /// Takes the memory of an empty sheaf away.
    ///
    /// # Safety
    /// As [`Slot::pop`].
    pub(super) unsafe fn uninstall(&self) -> Option<(NonNull<Entry>, usize)> {
        debug_assert!(self.len() == 0);
        let capacity = self.capacity();
        self.capacity.store(0, Relaxed);
        let entries = NonNull::new(self.entries.load(Relaxed))?;
        self.entries.store(core::ptr::null_mut(), Relaxed);
        Some((entries, capacity))
    }
}
