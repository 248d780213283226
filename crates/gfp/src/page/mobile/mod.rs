//! Pages that can be moved: their owners, and the hold by which others ask about them.
//!
//! 1. **Concept.** An allocated block stays where it is, because only its user knows who has its
//!    address. A [`PageOwner`] is a user that can tell: blocks that were given to it
//!    ([`PageAllocator::set_page_owner`]) are moved (compaction) and taken back (reclaim) by asking
//!    it. Linux's `movable_operations`, and what an LRU does for the page cache.
//! 2. **The hold.** Whoever asks about a block holds it first (`frame::movable`): one at a time.
//!    Its owner goes on using it, and may free it: the free succeeds, and the memory comes back
//!    when the hold ends. So a question never concerns another block than the one that was held.
//! 3. **Owners** are registered in [`OWNERS_MAX`] places (`owners`), which count their blocks. An
//!    owner that has blocks cannot go; one that goes waits for the holds of blocks that it freed.
//! 4. **Cost.** Blocks without an owner pay nothing: what free looks at first is the kind of block
//!    in the frame's word, and `Movable` is none of the kinds of the fast path.
//! 5. **Locking.** None; no lock is held while an owner is called.
//! 6. **What it does not do.** A movable block has one reference, its owner's: `get_page` refuses
//!    it. The counts of an owner are shared by all CPUs.

mod error;
mod held;
mod owner;

use super::PageAllocator;
use super::ground::Memory;
use super::lists::MAX_ZONES;
use super::owners::{Leave, Place};
use crate::frame::{Freed, Order, Pfn};
use crate::platform::Platform;
use crate::report::Misuse;
use crate::sync::{Carved, WaitQueue};
use core::ptr::NonNull;

pub(crate) use held::{Held, Moved};

pub use error::{MigrateError, PageOwnerError};
pub use owner::{GivenUp, MigrateMode, Migrated, PageOwner, ReclaimMode};

/// Owners that a machine can have at once.
pub const OWNERS_MAX: usize = 32;

const _: () = assert!(OWNERS_MAX <= crate::frame::OWNERS);

/// A registered owner of pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OwnerId {
    place: u8,
    generation: u32,
}

/// How an owner is called.
#[derive(Copy, Clone)]
struct Call(NonNull<dyn PageOwner>);

// SAFETY: [INV-MOVE-1] an owner is `Sync`, and lives while it may be called.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

/// The owners of a machine. They stand in memory of their own, apart from what every request reads.
pub(super) struct Owners(Carved<OwnerTable>);

/// The places, and who waits for holds to end.
pub(super) struct OwnerTable {
    places: [Place<Call>; OWNERS_MAX],
    leaving: WaitQueue,
    /// What compaction remembers of each zone.
    pub(super) grounds: [Memory; MAX_ZONES],
}

impl OwnerTable {
    pub(super) const fn new() -> OwnerTable {
        OwnerTable {
            places: [const { Place::new() }; OWNERS_MAX],
            leaving: WaitQueue::new(),
            grounds: [const { Memory::new() }; MAX_ZONES],
        }
    }
}

impl Owners {
    /// The owners that `table`, one table, has room for.
    pub(super) fn new(table: Carved<OwnerTable>) -> Owners {
        debug_assert_eq!(table.len(), 1);
        Owners(table)
    }

    pub(super) fn table(&self) -> &OwnerTable {
        &self.0[0]
    }

    fn place(&self, owner: u8) -> &Place<Call> {
        // A word names only places that are there.
        &self.table().places[usize::from(owner) % OWNERS_MAX]
    }

    fn hold_over<P: Platform>(&self, platform: &P, owner: u8) {
        self.place(owner).hold_over();
        self.table().leaving.wake_all(platform);
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Registers an owner of pages.
    ///
    /// Context: any but an NMI.
    ///
    /// # Errors
    /// [`PageOwnerError::TooMany`].
    pub fn register_page_owner(
        &self,
        owner: &'static dyn PageOwner,
    ) -> Result<OwnerId, PageOwnerError> {
        // SAFETY: it lives for ever.
        unsafe { self.register_page_owner_for(NonNull::from(owner)) }
    }

    /// [`PageAllocator::register_page_owner`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The owner lives until [`PageAllocator::unregister_page_owner`] has returned `Ok`.
    pub unsafe fn register_page_owner_for(
        &self,
        owner: NonNull<dyn PageOwner>,
    ) -> Result<OwnerId, PageOwnerError> {
        let mut places = self.owners.table().places.iter().enumerate();
        let claim = places.find_map(|(i, place)| Some((i, place.claim()?)));
        let (place, claimed) = claim.ok_or(PageOwnerError::TooMany)?;
        Ok(OwnerId {
            place: place as u8,
            generation: claimed.publish(Call(owner)),
        })
    }

    /// Unregisters an owner. When this returns `Ok` nobody calls it, nor will.
    ///
    /// Context: a task that may sleep, not from a call of the owner: it waits until whoever asked
    /// about a block that the owner freed is done.
    ///
    /// # Errors
    /// [`PageOwnerError::HasPages`], and it stays registered; [`PageOwnerError::NoSuchOwner`]. A
    /// page that was just given up or moved away counts until whoever asked for it is done: try
    /// again.
    pub fn unregister_page_owner(&self, id: OwnerId) -> Result<(), PageOwnerError> {
        let place = self.owners.place(id.place);
        match place.leave(id.generation) {
            Leave::Leaving => {}
            Leave::HasPages(blocks) => return Err(PageOwnerError::HasPages { blocks }),
            Leave::Gone => return Err(PageOwnerError::NoSuchOwner),
        }
        let leaving = &self.owners.table().leaving;
        leaving.wait_until(&self.platform, || place.is_idle());
        place.vacate();
        Ok(())
    }

    /// True if somebody could be asked to move pages.
    pub(crate) fn has_page_owners(&self) -> bool {
        self.owners.table().places.iter().any(Place::is_live)
    }

    /// Gives an allocated block to an owner, who can move it from now on: best one that was
    /// allocated with `MOVABLE`, so that it lies among others of its kind. The block is freed as
    /// before, and loses its owner then.
    ///
    /// The caller has the only reference. An owner that does not know the block as its own is asked
    /// about it all the same, and says no.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// What is wrong with the block or the owner; nothing was changed.
    pub fn set_page_owner(&self, pfn: Pfn, id: OwnerId) -> Result<(), PageOwnerError> {
        let place = self.owners.place(id.place);
        // Counted first: from the moment that the word names the owner it may be called.
        if !place.add_page(id.generation) {
            return Err(PageOwnerError::NoSuchOwner);
        }
        let given = self.frames.give_owner(pfn, id.place);
        if given.is_err() {
            place.page_gone();
        }
        Ok(given?)
    }

    /// Makes a block an ordinary one again, with one reference. It is not moved from now on.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// [`PageOwnerError::Busy`] while somebody asks about it; [`PageOwnerError::NoOwner`] and
    /// [`PageOwnerError::NotPages`].
    pub fn clear_page_owner(&self, pfn: Pfn) -> Result<(), PageOwnerError> {
        let owner = self.frames.take_owner(pfn)?;
        self.owners.place(owner).page_gone();
        Ok(())
    }

    /// How many blocks the owner of a place has.
    pub(super) fn owned_blocks(&self, place: usize) -> usize {
        self.owners.table().places[place].blocks()
    }

    /// The cold side of a free: of a block that is not an ordinary one of this order. `free` is
    /// the call that this is part of.
    #[cold]
    #[inline(never)]
    pub(super) fn free_other(
        &self,
        pfn: Pfn,
        order: Order,
        free: &dyn Fn(Pfn, Order) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        match self.frames.free_movable(pfn, order) {
            Freed::Now { owner } => {
                self.owners.place(owner).page_gone();
                free(pfn, order)
            }
            Freed::ByHolder { owner } => {
                self.owners.place(owner).page_freed_held();
                Ok(())
            }
            Freed::Misuse => Err(self.diagnose(pfn, order)),
        }
    }
}
