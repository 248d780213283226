//! Background reclaim: a task a node has a cache give way before requests must ask it themselves.

use super::chain::Chain;
use super::disturb;
use super::fixture::{Ledger, machine_has, patience};
use crate::arch::time;
use crate::memory::mm;
use crate::sched::{self, Completion, IrqLock};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use gfp::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp, ZoneKind};
use gfp::frame::{NodeId, PAGE_SIZE};
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker};

super::tests! { "reclaim":
    a_task_of_the_node_frees_memory_before_requests_must,
}

/// Pages that can be made again.
struct Pages(Chain);

// SAFETY: the chain's memory is its owner's.
unsafe impl Send for Pages {}

struct Cache(IrqLock<Pages>);

impl Cache {
    /// Frees a page; false if there is none.
    fn give(&self) -> bool {
        let page = self.0.lock().0.pop();
        // SAFETY: it was the cache's, and is nobody's now.
        page.map(|page| unsafe { mm().free_pages(page, 0) })
            .is_some()
    }
}

impl Shrinker for Cache {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.0.lock().0.len {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let freed = (0..control.objects).take_while(|_| self.give());
        Scanned::Done {
            looked_at: control.objects,
            freed: freed.count(),
        }
    }
}

/// Some zone of the node is above low for requests up to zone Normal. The task goes on up to high;
/// what CPUs take for their caches then wakes it only when it is below low.
fn is_well_off(node: NodeId) -> bool {
    let mut zones = mm().pages().zone_stats().filter(|zone| zone.node == node);
    zones.any(|zone| {
        zone.free.free > zone.watermarks.low + zone.protection[ZoneKind::Normal as usize]
    })
}

fn a_task_of_the_node_frees_memory_before_requests_must() {
    // P400, P401
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("less than 2 GiB of memory", bytes < 2 << 30) {
        return;
    }
    let cache = Arc::new(Cache(IrqLock::new(Pages(Chain::new()))));
    let shrinker: &dyn Shrinker = &*cache;
    // SAFETY: it is unregistered below; a test that dies leaks what it has.
    let id = unsafe { mm().register_shrinker_for(NonNull::from(shrinker), Settings::default()) };
    let id = id.expect("memory for a slot");
    let books = Ledger::open();
    let _quiet = disturb::quiet(); // nobody else takes and gives back
    let nodes: Vec<NodeId> = mm().pages().nodes().collect();
    let stop = Arc::new(AtomicBool::new(false));
    let full = Arc::new(Completion::new());
    let start = |&node: &NodeId| {
        let (stop, full) = (stop.clone(), full.clone());
        sched::spawn("kswapd", move || {
            full.wait();
            mm().kswapd(node, || stop.load(Relaxed))
        })
    };
    let tasks: Vec<_> = nodes.iter().map(start).collect();
    let (all, _) = Chain::pages((GFP_KERNEL & !Gfp::RECLAIM) | Gfp::NOWARN, 0);
    let taken = all.len;
    cache.0.lock().0 = all;
    let before = mm().slabs().reclaim().events();
    // Not earlier: interrupts would wake them while there is nothing to free, until they give up.
    full.complete();
    let deadline = patience();
    let gave = || cache.0.lock().0.len < taken;
    let all_well_off = || gave() && nodes.iter().all(|node| is_well_off(*node));
    while !all_well_off() && time::now_ns() < deadline {
        // Kept: one that is freed would be the next one, and that wakes nobody.
        if let Ok(page) = mm().get_free_pages(GFP_NOWAIT | Gfp::NOWARN, 0) {
            cache.0.lock().0.push(page.as_ptr());
        }
        sched::sleep_ns(1_000_000);
    }
    let well_off = all_well_off();
    let left = cache.0.lock().0.len;
    stop.store(true, Relaxed);
    nodes.iter().for_each(|node| mm().stop_kswapd(*node));
    for task in tasks {
        let ended = task.join().expect("it does not die");
        assert_eq!(ended, Ok(()), "each node had no other");
    }
    // What a run did is counted at its end.
    let after = mm().slabs().reclaim().events();
    mm().unregister_shrinker(id);
    while cache.give() {}
    assert!(well_off, "below low for ever");
    assert!(after.runs > before.runs && after.objects_scanned > before.objects_scanned);
    assert!(left < taken, "{left} of {taken} are left");
    drop((nodes, stop, full));
    books.close();
    drop(cache); // older than the books
}
