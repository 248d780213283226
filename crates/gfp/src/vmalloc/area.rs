//! What is known about one area, and how it is shown.

use crate::frame::{MAX_NODES, PAGE_SIZE};
use crate::report::Caller;

/// What an area is for and how it was made (V28).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct AreaFlags(u8);

impl AreaFlags {
    /// Nothing special.
    pub const NONE: AreaFlags = AreaFlags(0);
    /// Its pages may be mapped to user space (`vmalloc_user`); shrinking keeps them (V11).
    pub const USER: AreaFlags = AreaFlags(1);
    /// The array of its frames is itself a vmalloc area (V9).
    pub const VPAGES: AreaFlags = AreaFlags(2);

    /// Both.
    #[must_use]
    pub const fn with(self, other: AreaFlags) -> AreaFlags {
        AreaFlags(self.0 | other.0)
    }

    /// True if all of `other` are set.
    pub const fn contains(self, other: AreaFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One area, as the list of areas shows it.
#[derive(Copy, Clone, Debug)]
pub struct AreaView {
    /// First address.
    pub start: usize,
    /// Bytes of address space, guard page included (V2).
    pub size: usize,
    /// Bytes asked for.
    pub requested_size: usize,
    /// Pages mapped.
    pub pages: usize,
    /// Who asked for it.
    pub caller: Caller,
    /// What it is.
    pub flags: AreaFlags,
    /// False: freed, but its addresses are not flushed yet; only `start` and `size` mean something.
    pub live: bool,
    /// Pages on each node.
    pub node_pages: [usize; MAX_NODES],
}

/// How much is in use.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct VmallocCounters {
    /// Areas in use.
    pub areas: usize,
    /// Pages mapped in them.
    pub pages: usize,
    /// The most pages that ever were mapped at once.
    pub peak_pages: usize,
    /// Pages of addresses, guards included, that are freed but not flushed.
    pub lazy_pages: usize,
    /// Pages of addresses in the whole range; 0 before the first allocation.
    pub range_pages: usize,
    /// Pages taken for descriptors; they are kept.
    pub pool_pages: usize,
    /// Pages given to the platform for page tables; they are kept.
    pub table_pages: usize,
}

/// What a busy range knows.
#[derive(Copy, Clone, Debug)]
pub(super) struct Area {
    /// Index in the frame table of each page's frame; `pages` of them, in memory of the area's own.
    pub(super) frames: *mut u32,
    /// Pages mapped.
    pub(super) pages: usize,
    /// Bytes asked for.
    pub(super) size: usize,
    pub(super) caller: Caller,
    pub(super) flags: AreaFlags,
}

impl Area {
    pub(super) const NONE: Area = Area {
        frames: core::ptr::null_mut(),
        pages: 0,
        size: 0,
        caller: Caller::Address(0),
        flags: AreaFlags::NONE,
    };

    /// Bytes that are mapped.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.pages * PAGE_SIZE
    }
}
