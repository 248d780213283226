//! Keeping pageblocks of one type: what the first pass of a request leaves alone (P312).
//!
//! A request whose own type has nothing in `Normal` goes to `DMA32` of the same node before it
//! takes parts of a pageblock of another type: such a block would be mixed for long. It still
//! claims pageblocks that are wholly free (P317), leaves no node for that (P275), and if `DMA32`
//! does not help it looks once more and mixes (P276).
//!
//! Every first pass has the right [`AllocFlags::NOFRAGMENT`]. Where it means something is a byte a
//! zone ([`Whole`]), read only by who is about to mix, or to leave its node, and by who found
//! nothing.

use super::claim::{Found, Want};
use super::lists::MAX_ZONES;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{Order, Pfn};
use crate::platform::Platform;
use crate::policy::boost::MayWake;
use crate::policy::fallback::{self, FragmentContext, Fragmenting};
use crate::policy::watermark::{AllocFlags, WatermarkLevel};
use crate::sync::Local;
use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::Relaxed;

/// By zone id: the types of those requests, one bit each, that are to look below this zone before
/// they mix types here. Movable ones are not, if their node has a zone `Movable`: they want that
/// most.
pub(super) struct Whole([AtomicU8; MAX_ZONES]);

impl Whole {
    pub(super) const fn new() -> Whole {
        Whole([const { AtomicU8::new(0) }; MAX_ZONES])
    }

    /// Writes it from the zones that have memory now.
    pub(super) fn update(&self, zones: &[Zone]) {
        const ALL: u8 = (1 << MigrateType::COUNT) - 1;
        for zone in zones {
            let above =
                |z: &Zone| z.is_populated() && z.node == zone.node && z.kind == ZoneKind::Movable;
            let bits = match fragmenting_in(zone, zones) {
                Fragmenting::Allowed => 0,
                Fragmenting::Avoided if zones.iter().any(above) => {
                    ALL & !(1 << MigrateType::Movable as u8)
                }
                Fragmenting::Avoided => ALL,
            };
            // Relaxed: who sees the old byte goes by what there was just before.
            self.0[usize::from(zone.id)].store(bits, Relaxed);
        }
    }

    fn of(&self, zone: &Zone) -> u8 {
        // Relaxed: as where it is written.
        self.0[usize::from(zone.id)].load(Relaxed)
    }
}

/// P312: for requests that want this zone most.
fn fragmenting_in(preferred: &Zone, zones: &[Zone]) -> Fragmenting {
    let below = |z: &&Zone| z.node == preferred.node && z.kind == ZoneKind::Dma32;
    fallback::fragmenting(&FragmentContext {
        preferred: preferred.kind,
        dma32_pages: zones.iter().find(below).map(Zone::managed_pages),
        is_numa: zones.iter().any(|z| z.node != preferred.node),
        defrag_mode: false,
    })
}

/// The rights of the first pass (P261).
#[inline(always)]
pub(super) const fn first_rights(gfp: Gfp) -> AllocFlags {
    AllocFlags::fast(gfp).with(AllocFlags::NOFRAGMENT)
}

impl<P: Platform> PageAllocator<P> {
    /// Takes from the memory of another type as far as a pass with these rights may (P312).
    #[cold]
    #[inline(never)]
    pub(super) fn take_other<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        flags: AllocFlags,
    ) -> Option<(Found<'z>, MayWake)> {
        let means_nothing = want.order >= Order::PAGEBLOCK // takes no part of a block
            || self.whole.of(zone) >> want.kind as u8 & 1 == 0;
        let fragmenting = match flags.level() {
            WatermarkLevel::Low if means_nothing => Fragmenting::Allowed,
            _ => flags.fragmenting(),
        };
        self.take_fallback(local, zone, want, fragmenting)
    }

    /// P275: whether a pass with these rights would rather mix here than leave its node.
    pub(super) fn rather_mixes(&self, preferred: &Zone, flags: AllocFlags) -> bool {
        flags.contains(AllocFlags::NOFRAGMENT) && self.whole.of(preferred) != 0
    }

    /// P276: the first pass once more, if it left something alone.
    ///
    /// # Errors
    /// [`AllocError::Nested`].
    pub(super) fn look_again(&self, req: &PageRequest) -> Result<Option<Pfn>, AllocError> {
        let preferred = self.candidates(req).next();
        let left = preferred.is_some_and(|zone| self.whole.of(zone) != 0);
        if !left || req.order >= Order::PAGEBLOCK {
            return Ok(None);
        }
        let local = Local::enter(&self.platform)?;
        Ok(self.alloc_local(&local, req, AllocFlags::fast(req.gfp)))
    }
}
