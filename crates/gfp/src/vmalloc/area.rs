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
    /// False: freed, but its addresses are not flushed yet; it has no pages any more.
    pub live: bool,
    /// Pages on each node.
    pub node_pages: [usize; MAX_NODES],
}

/// Whose an area is.
#[derive(Copy, Clone, Debug)]
pub struct AreaOwner {
    /// First address.
    pub start: usize,
    /// Bytes asked for.
    pub size: usize,
    /// Who asked for it.
    pub caller: Caller,
}

/// An area that was freed.
#[derive(Copy, Clone, Debug)]
pub struct FreedArea {
    /// Whose it was.
    pub owner: AreaOwner,
    /// Who freed it.
    pub freed_by: Caller,
}

/// What an address of the vmalloc window is used for: what a handler of page faults asks.
#[derive(Copy, Clone, Debug)]
pub enum AddressUse {
    /// A page of an area in use.
    Mapped(AreaOwner),
    /// Behind the last page of an area in use: its guard page (V2), or a tail that was given back.
    Guard(AreaOwner),
    /// An area that was freed. It may be purged already, and is remembered as one of the last.
    Freed(FreedArea),
    /// An area that is being made or resized at this moment.
    Changing,
    /// Nothing, or nothing that is remembered.
    Nothing,
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
    /// Who freed it; until then nobody.
    pub(super) freed_by: Option<Caller>,
    pub(super) flags: AreaFlags,
}

impl Area {
    pub(super) const NONE: Area = Area {
        frames: core::ptr::null_mut(),
        pages: 0,
        size: 0,
        caller: Caller::Address(0),
        freed_by: None,
        flags: AreaFlags::NONE,
    };

    /// What is left of it when its pages and their array are gone.
    pub(super) fn emptied(self) -> Area {
        Area {
            frames: core::ptr::null_mut(),
            pages: 0,
            ..self
        }
    }

    /// Bytes that are mapped.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.pages * PAGE_SIZE
    }
}
