//! Compaction: what the policy decides is done, with pages that have an owner (P420-P429).
//!
//! 1. **Concept.** `policy::compaction` says where a zone is looked at, which pages may be moved
//!    and when it is over. Here the two scanners walk; `page::Ground` shows them the zone, and
//!    owners ([`PageOwner`](crate::page::PageOwner)) move their pages.
//! 2. **A batch.** Up to [`BATCH`] pages of one order are held and isolated in the pageblock of the
//!    migrate scanner; as many targets are taken from the pageblock below the free scanner; each
//!    page is moved by its owner; what is left over goes back to the zone at once, past the caches
//!    of CPUs, so that it merges.
//! 3. **Capture** (P320). A request that compacts for itself takes its block under the same lock
//!    under which the last page of it came back.
//! 4. **Locking.** None of its own; a zone's lock for one pageblock at a time, never while an owner
//!    is called. Several compactions of one zone may run: a page is held by one of them.
//! 5. **Failure.** Pages that were isolated and not moved are put back; targets go back where they
//!    came from.
//! 6. **Who compacts**: a request in need (`direct`), a task of the node for others and ahead of
//!    them (`daemon`), an administrator (`whole`). `moving` is for who wants certain frames.
//! 7. **Where Linux is left.** A machine without page owners does not compact, so its requests take
//!    the plan of P126. `compact_success` counts compactions that made a block, whoever got it.

mod daemon;
mod direct;
mod moving;
mod tuning;
mod whole;
mod zone;

pub(super) use daemon::Compactor;
pub(super) use tuning::Tuning;
