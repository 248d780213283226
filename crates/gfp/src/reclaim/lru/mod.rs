//! Lists of pages whose owner can drop, write or move them (P410).
//!
//! 1. **Concept.** Who owns pages that it could do without ([`PageOwner`]) puts them on the lists
//!    ([`Reclaim::lru_add`]) and says when they are used. Reclaim looks at the pages that were not
//!    used for longest and asks their owners to give them up, so much at each priority as
//!    `policy::reclaim::lru` says.
//! 2. **Structures.** Each node has four lists, an active and an inactive one for each
//!    [`Kind`](crate::policy::reclaim::lru::Kind), linked through a slot for each frame (`slots`).
//!    The slot has the marks of the page as well (`marks`): used, dirty, being written.
//!
//!    ```text
//!      lru_add -> head [ inactive ] tail -> taken off, 32 at once -> its owner is asked -> free
//!                   ^                             |
//!                   +--- second chance, written --+--- used twice --> head [ active ] tail
//!                   +---------------------- inactive too short ----------------------+
//!    ```
//! 3. **Whose a page is.** A bit of the frame's tag ([`FrameTable::movable_tag`]) says that its
//!    owner wants it on the lists. The tag ends with a free, so a page that is freed as it is has
//!    left, in every context; its slot is unlinked by [`Reclaim::lru_del`], or else by who finds
//!    it. Who takes a page off *holds* it, so a free by its owner is the holder's to finish, and
//!    nobody else moves or takes it. A page that is moved changes lists while its mover holds the
//!    old and the new one; the tag of the new one says `ARRIVING` until then, or until its owner
//!    has said himself whether it is to be on the lists.
//! 4. **Locking.** One lock a node ([`Rank::Lru`](crate::sync::Rank::Lru)), held while 32 pages are
//!    taken or put back, and 128 passed over, at most; owners are called without it. Marks of use,
//!    dirt and writing are changed without it.
//! 5. **Failure.** A page that finds no memory for its slot is not on the lists, and its owner is
//!    told. If an owner panics, the pages that were taken off with its own go back.
//! 6. **What it does not do.** Blocks of several pages; generations; pages that come back soon are
//!    not recognised (no `workingset_*`). The wait for a congested disk (P407): who cannot write
//!    now says [`Busy`](GivenUp::Busy).
//!
//! | module | what |
//! |---|---|
//! | `link` | pages that are linked and kept |
//! | `slots` | a slot for each frame that was ever on a list |
//! | `marks` | what is known of one page |
//! | `lists` | links and sums of one node |
//! | `member` | pages come, are used and written, and go |
//! | `take` | pages are taken off and put back |
//! | `scan` | one pass of reclaim over a node |
//! | `view` | the numbers |
//!
//! [`FrameTable::movable_tag`]: crate::frame::FrameTable::movable_tag

mod link;
mod lists;
mod marks;
mod member;
mod scan;
mod slots;
mod take;
#[cfg(test)]
mod tests;
mod verify;
mod view;

use super::events::Counter;
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, NodeId};
use crate::policy::reclaim::lru::DEFAULT_WEIGHT;
use crate::sync::atomic::{AtomicPtr, AtomicU8};
use core::fmt;
use core::ptr::null_mut;
use link::{Nowhere, Source, follow};
use lists::NodeLists;
use slots::Slots;

pub(super) use scan::{ListPass, Who};
pub use view::{LruEvents, LruPages};

/// Why a page is not on the lists.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LruError {
    /// It is no single page with an owner: give it one first.
    NotOwned,
    /// It is on the lists already.
    OnList,
    /// No memory for its slot: give the page up, or try later.
    NoMemory,
    /// The caller interrupted the allocator on its own CPU; try again outside.
    Nested,
}

impl fmt::Display for LruError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LruError::NotOwned => "not a single page with an owner: give it one first",
            LruError::OnList => "the page is on the lists already",
            LruError::NoMemory => "no memory to put the page on the lists",
            LruError::Nested => {
                "called from an interrupt or signal handler in the middle of an allocation"
            }
        })
    }
}

impl core::error::Error for LruError {}

/// The lists of a machine: in a page of their own, which the first page that is put on them takes.
/// A machine without them pays a pointer.
pub(super) struct Lru {
    slots: Slots,
    nodes: [NodeLists; MAX_NODES],
    sums: Sums,
}

/// Where they are.
pub(super) struct Home {
    lists: AtomicPtr<Lru>,
    /// P714.
    swappiness: AtomicU8,
}

/// What happened on the lists.
pub(super) struct Sums {
    /// By who scanned: the background, a request, an administrator.
    scanned: [Counter; 3],
    freed: [Counter; 3],
    /// By kind.
    scanned_of: [Counter; 2],
    freed_of: [Counter; 2],
    skipped: [Counter; ZoneKind::COUNT],
    activated: Counter,
    deactivated: Counter,
    /// Found to be unevictable.
    culled: Counter,
    rotated: Counter,
    dirtied: Counter,
    written: Counter,
    /// Writes that reclaim began.
    writes: Counter,
}

impl Sums {
    const fn new() -> Sums {
        Sums {
            scanned: [const { Counter::new() }; 3],
            freed: [const { Counter::new() }; 3],
            scanned_of: [const { Counter::new() }; 2],
            freed_of: [const { Counter::new() }; 2],
            skipped: [const { Counter::new() }; ZoneKind::COUNT],
            activated: Counter::new(),
            deactivated: Counter::new(),
            culled: Counter::new(),
            rotated: Counter::new(),
            dirtied: Counter::new(),
            written: Counter::new(),
            writes: Counter::new(),
        }
    }
}

impl Home {
    pub(super) const fn new() -> Home {
        Home {
            lists: AtomicPtr::new(null_mut()),
            swappiness: AtomicU8::new(DEFAULT_WEIGHT),
        }
    }

    /// The lists, if there are any.
    fn get(&self) -> Option<&Lru> {
        self.make(&Nowhere)
    }

    /// The lists of a node, if there are any.
    fn node(&self, id: NodeId) -> Option<&NodeLists> {
        self.get()?.node(id)
    }

    /// The lists; made if there are none. `None`: there was no memory.
    fn make(&self, source: &impl Source) -> Option<&Lru> {
        // SAFETY: [INV-LRU-1] the entry is linked here only, and the page is written before that.
        unsafe { follow(&self.lists, source, |page| page.write(Lru::new())) }
    }
}

impl Lru {
    const fn new() -> Lru {
        Lru {
            slots: Slots::new(),
            nodes: [const { NodeLists::new() }; MAX_NODES],
            sums: Sums::new(),
        }
    }

    fn node(&self, id: NodeId) -> Option<&NodeLists> {
        self.nodes.get(usize::from(id.0))
    }
}
