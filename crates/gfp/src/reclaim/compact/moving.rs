//! Pages that are moved away because somebody wants just their frames (P500).

use super::super::Reclaim;
use crate::error::AllocError;
use crate::frame::{Order, Pfn};
use crate::page::{Held, MigrateMode, Moved, Mover};
use crate::platform::{Platform, now_of};

/// Moves pages to what `take` allocates.
struct Moving<'r, P: Platform, F> {
    reclaim: &'r Reclaim<P>,
    take: F,
}

impl<P: Platform> Reclaim<P> {
    /// Who moves pages to blocks that `take` allocates, and notes on the lists where they are.
    pub(crate) fn mover<'r>(
        &'r self,
        take: impl Fn(Order) -> Result<Pfn, AllocError> + 'r,
    ) -> impl Mover<P> + 'r {
        Moving {
            reclaim: self,
            take,
        }
    }
}

impl<P, F> Mover<P> for Moving<'_, P, F>
where
    P: Platform,
    F: Fn(Order) -> Result<Pfn, AllocError>,
{
    fn take(&self, order: Order) -> Result<Pfn, AllocError> {
        (self.take)(order)
    }

    fn migrate(&self, held: Held<'_, P>, to: Pfn) -> Moved {
        // What the owner allocates does not reclaim; if somebody else reclaims, where tasks cannot
        // note it, he keeps it from that.
        let _reclaiming = self.reclaim.begin(&"migration out of a range");
        let events = &self.reclaim.events.compact;
        let (from, pages) = (held.pfn(), held.order().pages());
        let moved_to = |to| self.reclaim.lru_moved(from, to);
        let moved = held.migrate(to, MigrateMode::Sync, moved_to);
        match moved.outcome {
            crate::page::Migrated::Done => events.migrated.add(pages),
            _ => events.not_migrated.add(pages),
        }
        moved
    }

    fn is_interrupted(&self) -> bool {
        now_of(self.reclaim.pages.platform()).fatal_signal
    }
}
