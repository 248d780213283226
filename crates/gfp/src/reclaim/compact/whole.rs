//! Everything, because an administrator says so (P708).

use super::super::Reclaim;
use super::zone::{Captures, Goal, Job};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::policy::compaction::{CompactPriority, Use};

impl<P: Platform> Reclaim<P> {
    /// What [`Mm::compact_node`](crate::Mm::compact_node) describes.
    pub fn compact_node(&self, node: NodeId) {
        let Some(_reclaiming) = self.begin(&"compaction of a node") else {
            return;
        };
        let job = Job {
            goal: Goal::Everything,
            captures: Captures::No,
            mobility: MigrateType::Movable,
            highest: ZoneKind::Movable,
            by: Use::Background,
            priority: CompactPriority::SyncFull,
        };
        self.pages.drain_all();
        for ground in self.pages.grounds_of(node, ZoneKind::Movable) {
            // What it comes to is seen in the zone.
            let _ = self.compact_zone(ground, &job);
        }
    }
}
