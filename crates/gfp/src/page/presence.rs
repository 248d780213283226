//! What the shards of a zone have, in one word: so that a request which none of them can serve need
//! not look at each.
//!
//! A bit stands for a type and an order. It is set when a shard gets its first such run, and stays
//! when the last one goes: the word may promise too much, and never too little. Who finds that it
//! promises too much has it looked at again.
//!
//! * Who lets go of a shard's lock sets the bits of what it has, if they are not set; and if
//!   somebody looks for some of it, says that what he saw is void.
//! * Who looks again says for which orders, takes the lock of each shard, one after the other, and
//!   notes what it has. Then what no shard had goes, unless that is void.
//!
//! What was hidden for a moment is noted before it counts as hidden no more: who sees nothing
//! hidden sees its bit.
//!
//! Who had the lock of a shard after it was looked at sees that somebody looks. One at a time
//! looks, and nobody else ends it.
//!
//! All interleavings: `interleavings/presence.rs`.

use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Somebody looks again.
const LOOKS: u64 = 1 << 63;
/// What he saw so far is void.
const VOID: u64 = 1 << 62;
/// He looks for this order and larger ones.
const ORDER_SHIFT: u32 = 58;
const ORDER: u64 = 0xf << ORDER_SHIFT;
const FLAGS: u64 = LOOKS | VOID | ORDER;

/// What some shard has.
pub(crate) struct Presence(AtomicU64);

impl Presence {
    /// No shard has anything.
    pub(crate) fn new() -> Presence {
        Presence(AtomicU64::new(0))
    }

    /// A bit for what some shard may have; what stands above these bits means nothing to readers.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        // Acquire: pairs with `end`. Who sees nothing sees what those did who took the last of it.
        self.0.load(Acquire)
    }

    /// A shard has this. Its lock is held, and let go next. `from` says which bits are those of an
    /// order and larger ones.
    #[inline(always)]
    pub(crate) fn note(&self, runs: u64, from: impl Fn(u8) -> u64) {
        // Relaxed: who takes this shard's lock later sees the runs. Who did so before began before
        // that, and the lock shows it.
        let now = self.0.load(Relaxed);
        if runs & !now != 0 || now >= LOOKS {
            self.note_slow(runs, from);
        }
    }

    /// [`Presence::note`] of what is not noted yet, or while somebody looks.
    #[cold]
    #[inline(never)]
    fn note_slow(&self, runs: u64, from: impl Fn(u8) -> u64) {
        debug_assert!(runs & FLAGS == 0);
        let now = self.0.load(Relaxed);
        let order = (now & ORDER) >> ORDER_SHIFT;
        let looked_for = now & LOOKS != 0 && runs & from(order as u8) != 0;
        let new = runs | if looked_for { VOID } else { 0 };
        if now & new != new {
            // Relaxed: as in `note`. It is seen by whoever knows that the runs are there.
            self.0.fetch_or(new, Relaxed);
        }
    }

    /// Begins to look for an order and larger ones; false if somebody looks already. Who begins
    /// ends it.
    pub(crate) fn begin(&self, order: u8) -> bool {
        let now = self.0.load(Relaxed);
        if now & LOOKS != 0 {
            return false;
        }
        let new = now & !FLAGS | LOOKS | u64::from(order) << ORDER_SHIFT;
        // Relaxed: the locks that are taken next show it.
        let begun = self.0.compare_exchange(now, new, Relaxed, Relaxed);
        begun.is_ok()
    }

    /// Ends it: `missing` is what no shard had when its lock was held. True if that is gone.
    pub(crate) fn end(&self, missing: u64) -> bool {
        debug_assert!(missing & FLAGS == 0);
        let mut now = self.0.load(Relaxed);
        loop {
            debug_assert!(now & LOOKS != 0);
            let gone = if now & VOID == 0 { missing } else { 0 };
            // Release: pairs with the Acquire in `seen`.
            match self
                .0
                .compare_exchange_weak(now, now & !(FLAGS | gone), AcqRel, Relaxed)
            {
                Ok(_) => return gone == missing,
                Err(new) => now = new,
            }
        }
    }
}
