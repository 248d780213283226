//! Who has pages that can be moved or taken back.

use crate::flags::Gfp;
use crate::frame::Pfn;
use crate::policy::compaction::PageFacts;

/// What an owner may do to move a page (Linux's `migrate_mode`; P424).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MigrateMode {
    /// Wait for nothing.
    Async,
    /// Wait for locks that are held shortly, not for writeback.
    SyncLight,
    /// Wait for whatever it takes.
    Sync,
}

/// What came of an attempt to move a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The new page has taken the old one's place: nobody uses the old one any more.
    Done,
    /// Not now; another attempt may succeed. The old page is used as before, the new one is not.
    Busy,
    /// Not this page. Otherwise as `Busy`.
    Failed,
}

/// What an owner may do to give a page up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ReclaimMode {
    /// Give it up if its content is stored elsewhere or can be made again.
    Drop,
    /// Begin to write it, if that is needed first.
    Write,
}

/// What came of asking an owner for a page back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It is given up: its owner does not use it any more, and does not free it.
    Now,
    /// It is being written, and can be given up later.
    Writeback,
    /// It was used lately: ask for others first.
    Referenced,
    /// Not now.
    Busy,
    /// Never, as far as the owner can say.
    Unevictable,
}

/// Who uses pages and can move them, or give them up (Linux's `movable_operations`).
///
/// All calls come from tasks in need of memory, from a node's compaction or reclaim task, with no
/// lock of the library held. They must not wait for an allocation of another task, nor unregister
/// their own owner; what they allocate does not reclaim. A page is held while it is asked about: it
/// is asked about by one at a time, and its frame is not given to anybody else meanwhile. But its
/// owner may have freed it just before: then the answer is no.
///
/// An owner that panics loses nothing: the page that it was asked about stays its own, and so does
/// the one that it was to move it to. Pages that it let be isolated hear nothing more.
///
/// # Safety
/// `true` from [`PageOwner::isolate`] is said only of a page that the owner knows as its own.
/// [`Migrated::Done`] and [`GivenUp::Now`] are said only if nobody uses the old page any more,
/// by any address or pointer, nor ever frees it; after any other answer to `migrate` nobody uses
/// the new one.
pub unsafe trait PageOwner: Sync {
    /// How the page is off now. It is left alone if that does not fit what the mover may do
    /// (P424, P429).
    fn facts(&self, page: Pfn) -> PageFacts {
        let _ = page;
        PageFacts {
            movable: true,
            ..PageFacts::default()
        }
    }

    /// May the page be moved now? After `true` comes one [`PageOwner::migrate`], or a
    /// [`PageOwner::put_back`]. The page may be used meanwhile.
    fn isolate(&self, page: Pfn) -> bool;

    /// Moves the page: copies `from` to `to`, has all users use `to`. Both are blocks of the order
    /// that the page was allocated with; what `to` contains before is arbitrary. After
    /// [`Migrated::Done`] `to` is the owner's page (it is freed like `from` would have been, also
    /// before this returns), and `from` is not.
    fn migrate(&self, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated;

    /// The page was isolated and stays where it is, without an attempt or after one that did not
    /// succeed.
    fn put_back(&self, page: Pfn) {
        let _ = page;
    }

    /// Gives the page up, if it can be spared: asked of pages on the lists
    /// ([`Mm::lru_add`](crate::Mm::lru_add)). `gfp` says what the request that needs memory allows,
    /// IO and FS (P416). Without this method nothing is given up.
    fn reclaim(&self, page: Pfn, gfp: Gfp, mode: ReclaimMode) -> GivenUp {
        let _ = (page, gfp, mode);
        GivenUp::Unevictable
    }
}

/// Stands where no owner is.
pub(super) struct NoOwner;

// SAFETY: it says no to everything.
unsafe impl PageOwner for NoOwner {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }
}
