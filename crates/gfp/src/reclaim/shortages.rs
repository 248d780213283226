//! Why no zone served a request (P606).

use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NodeId, NodeMask};
use crate::page::{Need, PageAllocator, ZoneStats};
use crate::platform::Platform;
use crate::policy::oom::{Shortage, ZoneShortage, shortage};
use crate::policy::watermark::AllocFlags;
use crate::report::{Reasons, Shortages};

/// The zones of a machine, as a request sees them.
pub(super) struct Looked<'a, P: Platform> {
    pages: &'a PageAllocator<P>,
    order: u32,
    highest: ZoneKind,
    nodes: NodeMask,
    rights: AllocFlags,
}

impl<'a, P: Platform> Looked<'a, P> {
    pub(super) fn at(pages: &'a PageAllocator<P>, need: &Need<'_>) -> Looked<'a, P> {
        let effort = need.effort;
        Looked {
            pages,
            order: effort.order,
            highest: effort.highest,
            nodes: need.request.nodes(),
            rights: effort.slow.unwrap_or(effort.fast),
        }
    }

    pub(super) fn shortages(&self) -> Shortages<'_> {
        Shortages::new(self, self.highest)
    }

    fn why(&self, zone: &ZoneStats) -> Shortage {
        let short = ZoneShortage {
            managed: zone.managed,
            state: zone.free,
            mark: zone.watermarks.min + zone.boost,
            boost: zone.boost,
            reserve: zone.protection[self.highest.index()],
        };
        let has_block =
            |order: u32, kind: MigrateType| zone.nr_free[order as usize][kind.index()] != 0;
        shortage(self.order, self.rights, &short, has_block)
    }
}

impl<P: Platform> Reasons for Looked<'_, P> {
    fn for_each(&self, visit: &mut dyn FnMut(NodeId, ZoneKind, Shortage)) {
        let usable = |z: &ZoneStats| z.kind <= self.highest && self.nodes.has(z.node);
        for zone in self.pages.zone_stats().filter(usable) {
            visit(zone.node, zone.kind, self.why(&zone));
        }
    }
}
