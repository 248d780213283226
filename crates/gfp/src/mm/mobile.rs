//! Pages that their owner can move.

use super::Mm;
use crate::flags::Gfp;
use crate::frame::{Order, Pfn};
use crate::page::{MigrateError, MigrateMode, OwnerId, PageOwner, PageOwnerError, PageRequest};
use crate::platform::Platform;
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// Registers an owner of pages: who can be asked to move them, or to give them up.
    ///
    /// Context: any but an NMI.
    ///
    /// # Errors
    /// [`PageOwnerError::TooMany`]: there are [`OWNERS_MAX`](crate::page::OWNERS_MAX).
    pub fn register_page_owner(
        &self,
        owner: &'static dyn PageOwner,
    ) -> Result<OwnerId, PageOwnerError> {
        self.pages().register_page_owner(owner)
    }

    /// [`Mm::register_page_owner`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The owner lives until [`Mm::unregister_page_owner`] has returned `Ok`.
    pub unsafe fn register_page_owner_for(
        &self,
        owner: NonNull<dyn PageOwner>,
    ) -> Result<OwnerId, PageOwnerError> {
        // SAFETY: promised by the caller.
        unsafe { self.pages().register_page_owner_for(owner) }
    }

    /// Unregisters an owner. When this returns `Ok` nobody calls it, nor will.
    ///
    /// Context: a task that may sleep; not from a call of the owner.
    ///
    /// # Errors
    /// [`PageOwnerError::NoSuchOwner`]; [`PageOwnerError::HasPages`] as long as it has pages. One
    /// that it just gave up ([`GivenUp::Now`](crate::page::GivenUp::Now)) or moved away counts
    /// until whoever asked for it is done: try again.
    pub fn unregister_page_owner(&self, id: OwnerId) -> Result<(), PageOwnerError> {
        self.pages().unregister_page_owner(id)
    }

    /// Makes an allocated block movable (`__SetPageMovable`): from now on `id`'s owner may be asked
    /// to move it. Allocate it with `__GFP_MOVABLE`, so that it lies among its like. It is freed as
    /// any other, and loses its owner then.
    ///
    /// The caller has the only reference; [`Mm::get_page`] takes no other from now on.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// What is wrong with the block or the owner; nothing was changed.
    pub fn set_page_owner(&self, pfn: Pfn, id: OwnerId) -> Result<(), PageOwnerError> {
        self.pages().set_page_owner(pfn, id)
    }

    /// Makes a movable block an ordinary one again (`__ClearPageMovable`), with one reference.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// [`PageOwnerError::Busy`] while its owner is being asked about it;
    /// [`PageOwnerError::NoOwner`], [`PageOwnerError::NotPages`].
    pub fn clear_page_owner(&self, pfn: Pfn) -> Result<(), PageOwnerError> {
        self.pages().clear_page_owner(pfn)
    }

    /// Moves one movable block elsewhere now (`migrate_pages` of one page), to memory that is
    /// allocated with `gfp`. Returns where it is now.
    ///
    /// Context: a task, outside of the allocator.
    ///
    /// # Errors
    /// Why it stays where it is.
    #[track_caller]
    pub fn migrate_page(
        &self,
        from: Pfn,
        order: u8,
        gfp: Gfp,
        mode: MigrateMode,
    ) -> Result<Pfn, MigrateError> {
        self.enters(gfp);
        let order = Order::new(order).ok_or(MigrateError::NotMovable)?;
        let req = PageRequest::new(gfp, order);
        let take = || self.slabs().alloc_pages(&req);
        let moved_to = |to| self.slabs().reclaim().lru_moved(from, to);
        self.pages().migrate_page(from, order, mode, take, moved_to)
    }
}
