//! A movable block that somebody holds.

use super::owner::{MigrateMode, Migrated, NoOwner, PageOwner};
use super::{Call, MigrateError, PageAllocator};
use crate::error::AllocError;
use crate::frame::{FrameKind, FrameWord, LetGo, MovableBlock, Order, Pfn};
use crate::platform::Platform;

impl<P: Platform> PageAllocator<P> {
    /// Holds a movable block, if it is one and nobody else holds it.
    pub(crate) fn hold(&self, pfn: Pfn) -> Option<Held<'_, P>> {
        let MovableBlock { order, owner } = self.frames.hold(pfn)?;
        Some(Held {
            pages: self,
            pfn,
            order,
            owner,
        })
    }

    /// Moves one block of this order elsewhere now (Linux's `migrate_pages` of one page): `take`
    /// allocates a block, and the owner moves it there; `moved_to` as in [`Held::migrate`]. Returns
    /// where it is now.
    ///
    /// Context: a task; outside of sections and locks. Waits for what `mode` allows.
    ///
    /// # Errors
    /// Why it stays where it is.
    pub(crate) fn migrate_page(
        &self,
        from: Pfn,
        order: Order,
        mode: MigrateMode,
        take: impl FnOnce() -> Result<Pfn, AllocError>,
        moved_to: impl FnOnce(Pfn),
    ) -> Result<Pfn, MigrateError> {
        let held = self.hold(from).ok_or(MigrateError::NotMovable)?;
        if held.order() != order {
            return Err(MigrateError::NotMovable);
        }
        let to = take().map_err(MigrateError::Alloc)?;
        let moved = if held.isolate() {
            held.migrate(to, mode, moved_to)
        } else {
            drop(held);
            Moved {
                left: to,
                outcome: Migrated::Busy,
            }
        };
        // SAFETY: it is ours, and nobody uses it.
        let freed = unsafe { self.free(moved.left, order) };
        debug_assert!(freed.is_ok());
        match moved.outcome {
            Migrated::Done => Ok(to),
            Migrated::Busy => Err(MigrateError::Busy),
            Migrated::Failed => Err(MigrateError::Refused),
        }
    }
}

/// A movable block that is held: its owner may be asked about it. Dropped, it is let go.
///
/// Not to be dropped inside a section or under a lock: it may be freed then.
pub(crate) struct Held<'p, P: Platform> {
    pages: &'p PageAllocator<P>,
    pfn: Pfn,
    order: Order,
    owner: u8,
}

impl<'p, P: Platform> Held<'p, P> {
    pub(crate) fn pfn(&self) -> Pfn {
        self.pfn
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Its owner.
    pub(crate) fn owner(&self) -> &dyn PageOwner {
        // SAFETY: [INV-MOVE-1] we hold a block of it.
        let call = unsafe { self.pages.owners.place(self.owner).get() };
        debug_assert!(call.is_some(), "written before the place was live");
        match call {
            // SAFETY: [INV-MOVE-1] it lives while somebody holds a block of it.
            Some(Call(owner)) => unsafe { owner.as_ref() },
            None => &NoOwner,
        }
    }

    /// True if its owner has freed it: there is nothing to ask any more.
    pub(crate) fn is_freed(&self) -> bool {
        self.pages.frames.is_held_freed(self.pfn)
    }

    /// True if its owner lets it be moved now, by who may do what `mode` says. Then comes
    /// [`Held::migrate`] or [`Held::put_back`].
    pub(crate) fn isolate(&self) -> bool {
        !self.is_freed() && self.owner().isolate(self.pfn)
    }

    /// It stays where it is, after [`Held::isolate`] said yes.
    pub(crate) fn put_back(self) {
        self.owner().put_back(self.pfn);
    }

    /// Moves an isolated block to `to`, a block of the same order that the caller owns, of any
    /// content. If the owner did it, `moved_to` learns that while both are held: nobody else has
    /// seen the one or the other in between. Afterwards the caller owns the block that is left:
    /// with one reference, and no owner.
    ///
    /// If the owner panics both blocks are its own: it may use either.
    pub(crate) fn migrate(self, to: Pfn, mode: MigrateMode, moved_to: impl FnOnce(Pfn)) -> Moved {
        debug_assert!(to != self.pfn && to.is_aligned(self.order));
        let left = |left, outcome| Moved { left, outcome };
        let Some(twin) = self.twin(to) else {
            let word = FrameWord::new(FrameKind::Page, self.order, 1);
            self.pages.frames.set(to, word);
            self.put_back();
            return left(to, Migrated::Failed);
        };
        match self.owner().migrate(self.pfn, to, mode) {
            Migrated::Done => {
                moved_to(to);
                self.pages.frames.arrived(to);
                left(self.retire(), Migrated::Done)
            }
            other => {
                let to = twin.retire();
                self.put_back();
                left(to, other)
            }
        }
    }

    /// Makes `to` a held block of the same owner. `None` if that is leaving, having freed this
    /// block.
    fn twin(&self, to: Pfn) -> Option<Held<'p, P>> {
        let place = self.pages.owners.place(self.owner);
        if !place.add_page_beside() {
            return None;
        }
        self.pages.frames.hold_as(to, self.pfn);
        Some(Held { pfn: to, ..*self })
    }

    /// Ends the hold of a block that its owner does not use any more: it said so, or it never used
    /// it. The block is the caller's then, an ordinary one with one reference.
    pub(crate) fn retire(self) -> Pfn {
        let pfn = self.pfn;
        let freed = self.pages.frames.retire(pfn);
        self.forget(freed);
        core::mem::forget(self);
        pfn
    }

    /// The block has no owner any more.
    fn forget(&self, freed: LetGo) {
        let owners = &self.pages.owners;
        match freed {
            LetGo::Freed => owners.hold_over(&self.pages.platform, self.owner),
            LetGo::Kept => owners.place(self.owner).page_gone(),
        }
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    fn drop(&mut self) {
        if self.pages.frames.let_go(self.pfn) == LetGo::Freed {
            self.forget(LetGo::Freed);
            // SAFETY: its owner freed it, and we were the last to look at it.
            let freed = unsafe { self.pages.free(self.pfn, self.order) };
            debug_assert!(freed.is_ok());
        }
    }
}

/// What [`Held::migrate`] did.
pub(crate) struct Moved {
    /// The block that nobody uses: the old one after [`Migrated::Done`], else the new one.
    pub(crate) left: Pfn,
    pub(crate) outcome: Migrated,
}
