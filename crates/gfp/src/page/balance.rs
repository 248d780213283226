//! How a node is off: what background reclaim decides by (P401, P402, P404, P406).

use super::PageAllocator;
use super::zone::Zone;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NR_ORDERS, NodeId, PAGEBLOCK_ORDER};
use crate::platform::Platform;
use crate::policy::pressure::Stand;
use crate::policy::reclaim::kswapd::{
    Balance, Measure, ZoneBalance, cycle_target, node_is_balanced, zone_is_balanced,
};
use crate::policy::reclaim::throttle::Reserve;
use crate::policy::watermark::{AllocFlags, WatermarkLevel, order0_watermark_ok};

impl Zone {
    /// P401: above high at this order.
    fn is_balanced(&self, order: u32, highest: ZoneKind) -> bool {
        let whole = PAGEBLOCK_ORDER as usize..NR_ORDERS;
        let free_in_blocks = whole
            .flat_map(|order| MigrateType::ALL.map(|kind| self.nr_free(order, kind) << order))
            .sum();
        let facts = ZoneBalance {
            managed: self.managed_pages(),
            // What the background works off is not a matter of balance (P217); the rest is.
            high: self.watermarks().high + self.boost.single(),
            reserve: self.reserve(highest),
            state: self.free_state(),
            free_in_blocks,
        };
        zone_is_balanced(order, &facts, Measure::Pages, |order, kind| {
            self.nr_free(order as usize, kind) != 0
        })
    }
}

impl<P: Platform> PageAllocator<P> {
    pub(super) fn zones_up_to(
        &self,
        node: NodeId,
        highest: ZoneKind,
    ) -> impl Iterator<Item = &Zone> {
        let eligible = move |zone: &&Zone| {
            zone.node == node && zone.kind <= highest && zone.managed_pages() != 0
        };
        self.zones.iter().filter(eligible)
    }

    /// P401: whether a node has enough free for requests up to this zone, at this order.
    pub(crate) fn balance(&self, node: NodeId, order: u32, highest: ZoneKind) -> Balance {
        let zones = self.zones_up_to(node, highest);
        node_is_balanced(zones.map(|z| (z.managed_pages(), z.is_balanced(order, highest))))
    }

    /// Where free memory stands for one page up to this zone: in the zone that is best off.
    pub(crate) fn stand(&self, highest: ZoneKind) -> Stand {
        let passes = |level| {
            let rights = AllocFlags::CPUSET.at(level);
            let eligible = |zone: &&Zone| zone.kind <= highest && zone.managed_pages() != 0;
            let mut zones = self.zones.iter().filter(eligible);
            zones.any(|zone| {
                // A boost is nobody's lack.
                let (mark, boost) = (zone.watermarks().level(level, 0), 0);
                let (reserve, free) = (zone.reserve(highest), zone.free_state());
                order0_watermark_ok(mark, boost, reserve, rights, &free)
            })
        };
        if passes(WatermarkLevel::High) {
            Stand::AboveHigh
        } else if passes(WatermarkLevel::Low) {
            Stand::AboveLow
        } else if passes(WatermarkLevel::Min) {
            Stand::BelowLow
        } else {
            Stand::BelowMin
        }
    }

    /// P402: what one pass over a node is to free, in pages.
    pub(crate) fn cycle_target(&self, node: NodeId, highest: ZoneKind) -> usize {
        cycle_target(
            self.zones_up_to(node, highest)
                .map(|z| z.watermarks().high + z.boost()),
        )
    }

    /// Pages of a node that a request up to this zone could use.
    pub(crate) fn managed_up_to(&self, node: NodeId, highest: ZoneKind) -> usize {
        self.zones_up_to(node, highest)
            .map(Zone::managed_pages)
            .sum()
    }

    /// P406: what reclaim itself lives on.
    pub(crate) fn reserve_of(&self, node: NodeId, hopeless: bool) -> Reserve {
        let zones = || self.zones_up_to(node, ZoneKind::Normal);
        Reserve {
            free: zones().map(Zone::free_pages).sum(),
            min: zones().map(|z| z.watermarks().min).sum(),
            hopeless,
        }
    }

    /// P404: the node has turned hopeless.
    pub(crate) fn lose_hope(&self, node: NodeId) {
        let zones = self.zones_up_to(node, ZoneKind::Movable);
        zones.for_each(Zone::lose_hope);
    }

    /// P404: whether one of the node's zones had enough free at some time since
    /// [`PageAllocator::lose_hope`].
    pub(crate) fn has_hope(&self, node: NodeId) -> bool {
        self.zones_up_to(node, ZoneKind::Movable)
            .any(Zone::has_hope)
    }
}
