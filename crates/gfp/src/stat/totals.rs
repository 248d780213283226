//! Sums over all zones and nodes.

use super::view::floor0;
use super::{NodeCounter, NodeCounters, NumaEvents, Source, ZoneCounter, ZoneCounters};
use crate::flags::ZoneKind;

/// Sums over all zones and nodes, in pages.
#[derive(Copy, Clone, Debug, Default)]
pub struct Totals {
    /// RAM.
    pub present: usize,
    /// RAM that was ever given to the allocator.
    pub managed: usize,
    /// RAM in zones `HighMem` and `Movable`.
    pub present_high_movable: usize,
    /// Managed pages of zone `HighMem`.
    pub managed_high: usize,
    /// Free pages of zone `HighMem`.
    pub free_high: usize,
    /// RAM in CMA areas.
    pub cma: usize,
    /// Low watermarks, boosts included (P215, P621).
    pub low: usize,
    /// Pages that will never be given to ordinary requests (P209). Boosts are not included: the sum
    /// is defined where watermarks are computed, and boosts come and go after that.
    pub reserve: usize,
    /// Counters of all zones.
    pub zone: ZoneCounters,
    /// NUMA events of all zones.
    pub numa: NumaEvents,
    /// Counters of all nodes.
    pub node: NodeCounters,
}

impl Totals {
    /// Sums what the source shows.
    pub fn of(src: &dyn Source) -> Totals {
        let mut t = Totals::default();
        src.for_each_node(&mut |node| {
            t.node.add_all(&node.counters);
            src.for_each_zone(node.node, &mut |zone| {
                add(&mut t.present, zone.present);
                add(&mut t.managed, zone.managed);
                add(&mut t.cma, zone.cma);
                if matches!(zone.kind, ZoneKind::HighMem | ZoneKind::Movable) {
                    add(&mut t.present_high_movable, zone.present);
                }
                if zone.kind == ZoneKind::HighMem {
                    add(&mut t.managed_high, zone.managed);
                    add(&mut t.free_high, zone.free());
                }
                t.zone.add_all(&zone.counters);
                t.numa.add_all(&zone.numa);
                if zone.populated() {
                    add(&mut t.low, zone.low.saturating_add(zone.boost));
                    let kept = zone.protection.iter().fold(0, |max, r| max.max(*r));
                    add(
                        &mut t.reserve,
                        kept.saturating_add(zone.high).min(zone.managed),
                    );
                }
            });
        });
        t
    }

    /// A zone counter as it is printed: never negative (P613).
    pub const fn zone(&self, which: ZoneCounter) -> usize {
        floor0(self.zone.get(which))
    }

    /// A node counter as it is printed: never negative (P613).
    pub const fn node(&self, which: NodeCounter) -> usize {
        floor0(self.node.get(which))
    }
}

fn add(sum: &mut usize, more: usize) {
    *sum = sum.saturating_add(more);
}
