//! After pressure.

use super::super::Lab;
use super::nodes;
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};

/// Waits until all zones are above low. Returns the points that passed until then.
///
/// # Panics
/// After `most` points.
pub(in crate::scenario) fn until_above_low(lab: &Lab, task: &TaskHandle, most: u64) -> u64 {
    let since = lab.sim().outcome().steps;
    let is_low = || {
        // Who is served from its CPU's cache does not look at the node.
        lab.mm().pages().drain_all();
        let mut zones = lab.mm().pages().zone_stats();
        zones.any(|zone| zone.free.free <= zone.watermarks.low)
    };
    let mut held = Vec::new();
    let mut pause_ns = 50_000;
    while is_low() {
        let steps = lab.sim().outcome().steps - since;
        assert!(steps <= most, "a zone is below low after {steps} steps");
        for node in nodes() {
            // Who finds a node at its low watermark wakes its background. One that the background
            // has given up is left to who reclaims directly (P404).
            let gfp = match lab.mm().slabs().reclaim().is_hopeless(node) {
                true => GFP_KERNEL | Gfp::NORETRY,
                false => GFP_NOWAIT,
            };
            let page = lab.mm().alloc_pages_node(node, gfp | Gfp::THISNODE, 0);
            // Kept meanwhile: between min and low nobody reclaims directly.
            held.extend(page);
        }
        task.sleep_ns(pause_ns);
        // The background may be waiting for a write, by the clock (P407).
        pause_ns = (2 * pause_ns).min(10_000_000);
    }
    // SAFETY: ours.
    let free = |pfn| unsafe { lab.mm().free_frames(pfn, 0) };
    held.into_iter().for_each(free);
    lab.sim().outcome().steps - since
}
