//! Two nodes of 8 MiB: what a request gets from its own node, and when it goes to the other.

use super::Keeper;
use super::keeper::Machine;
use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{NodeId, Order, Pfn};
use crate::page::{BootConfig, GivenUp, MemoryRegion, OwnerId, PageRequest};
use crate::policy::reclaim::lru::Kind::{self, Droppable, Storable};
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::reclaim::{ShrinkControl, Shrinker};
use crate::testing::{TestPlatform, region};
use std::ptr::NonNull;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

const START: u64 = 4 << 30;
const BYTES: u64 = 8 << 20;

fn two_nodes() -> Machine {
    boot(&BootConfig::default())
}

fn boot(config: &BootConfig) -> Machine {
    let part = |node: u8| MemoryRegion {
        node: NodeId(node),
        ..region(
            START + u64::from(node) * BYTES,
            START + u64::from(node + 1) * BYTES,
        )
    };
    let platform = TestPlatform::new(START, 2 * BYTES as usize);
    Mm::boot(platform, &[part(0), part(1)], config).unwrap()
}

#[test]
fn who_will_write_gets_the_near_node_however_much_of_it_is_dirty() {
    // P13: there are no limits of dirty pages that the flag could keep a node below
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        while let Some(page) = keeper.add(id, Droppable, GivenUp::Busy) {
            assert!(mm.set_page_dirty(page));
            if mm.pages().node_of(page) != NodeId(0) {
                break;
            }
        }
        // Of its pages, all but a few are dirty.
        let own: Vec<_> = keeper.frames();
        for page in &own[..64] {
            keeper.free(*page);
        }
        mm.pages().drain_all();
        for bits in [Gfp::NONE, Gfp::WRITE] {
            let page = mm.alloc_pages(GFP_KERNEL | bits, 0).unwrap();
            assert_eq!(mm.pages().node_of(page), NodeId(0), "{bits}");
            // SAFETY: ours, freed once.
            unsafe { mm.free_frames(page, 0) };
        }
    });
}

/// Has the machine's requests reclaim near by, in this mode.
fn mode(mm: &Machine, mode: &str) {
    mm.tunables().write("zone_reclaim_mode", mode).unwrap();
}

/// Success and failure of node reclaim so far.
fn node_reclaims(mm: &Machine) -> (u64, u64) {
    let events = mm.slabs().reclaim().events();
    (events.node_success, events.node_failed)
}

/// The node that serves such a request for one page, which is given back at once.
fn served_by(mm: &Machine, gfp: Gfp, node: Option<NodeId>) -> u8 {
    let request = PageRequest::new(gfp | Gfp::NOWARN, Order::ZERO).at(node);
    let reclaim = mm.slabs().reclaim();
    let page = reclaim.alloc(&request, mm.slabs()).unwrap();
    let node = mm.pages().node_of(page).0;
    // SAFETY: ours, freed once.
    unsafe { mm.pages().free(page, Order::ZERO) }.unwrap();
    mm.pages().drain_all();
    node
}

/// Puts pages of node 0 on the lists until it has none above low. How many are on them.
fn fill_near(keeper: &Keeper<'_>, id: OwnerId, kind: Kind, answer: GivenUp) -> usize {
    let pages = keeper.mm.pages();
    loop {
        // So that nothing is left in a cache, which asks for no mark.
        pages.drain_all();
        let page = keeper.add(id, kind, answer).unwrap();
        if pages.node_of(page) != NodeId(0) {
            keeper.free(page);
            pages.drain_all();
            return keeper.frames().len();
        }
    }
}

#[test]
fn a_request_goes_to_the_other_node_unless_it_is_to_reclaim_first() {
    // P275, P408, P710
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = fill_near(&keeper, id, Droppable, GivenUp::Now);
        assert!(full > 1000);
        // Off by default.
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
        assert_eq!(keeper.frames().len(), full);
        mode(&mm, "1");
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 0);
        assert_eq!(node_reclaims(&mm), (1, 0));
        // The first pass looks at a sixteenth of the list and ends with 32 pages.
        assert_eq!(full - keeper.frames().len(), 32);
        let mut text = String::new();
        crate::stat::vmstat(&mm, &mut text).unwrap();
        assert!(text.contains("\nzone_reclaim_success 1\nzone_reclaim_failed 0\n"));
        mode(&mm, "0");
        fill_near(&keeper, id, Droppable, GivenUp::Now);
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
    });
}

#[test]
fn who_may_not_reclaim_goes_to_the_other_node_at_once() {
    // P408: as the fast path does, above low
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = fill_near(&keeper, id, Droppable, GivenUp::Now);
        mode(&mm, "1");
        assert_eq!(served_by(&mm, GFP_ATOMIC, None), 1);
        assert_eq!(served_by(&mm, GFP_NOWAIT, None), 1);
        // Inside of reclaim (P133), and where nobody may wait.
        let scope = mm.scope_noreclaim(&"test").unwrap();
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
        drop(scope);
        assert_eq!((keeper.frames().len(), node_reclaims(&mm)), (full, (0, 0)));
    });
}

#[test]
fn only_the_node_of_the_cpu_is_reclaimed_and_only_if_it_is_near_the_wanted_one() {
    // P275
    for (distance, reclaims) in [(30, true), (31, false)] {
        let config = BootConfig {
            distance: Some(match distance {
                30 => |from, to| if from == to { 10 } else { 30 },
                _ => |from, to| if from == to { 10 } else { 31 },
            }),
            ..BootConfig::default()
        };
        let mm = boot(&config);
        let keeper = Keeper::new(&mm);
        keeper.with(|id| {
            // Both nodes are full: of what can go.
            let full = keeper.fill(id, Droppable, GivenUp::Now);
            mm.pages().drain_all();
            mode(&mm, "1");
            let of_node = |node| {
                let frames = keeper.frames();
                let its = |pfn: &&Pfn| mm.pages().node_of(**pfn) == NodeId(node);
                frames.iter().filter(its).count()
            };
            let (near, far) = (of_node(0), of_node(1));
            assert!(near > 1000 && far > 1000 && near + far == full);
            // Wanted is node 1, the CPU is on node 0.
            let gfp = GFP_KERNEL & !Gfp::KSWAPD_RECLAIM;
            if reclaims {
                assert_eq!(served_by(&mm, gfp, Some(NodeId(1))), 0);
                assert_eq!((of_node(0), of_node(1)), (near - 32, far));
            } else {
                served_by(&mm, gfp, Some(NodeId(1)));
            }
            assert_eq!(node_reclaims(&mm), (u64::from(reclaims), 0));
        });
    }
}

#[test]
fn a_node_with_little_to_give_is_left_alone() {
    // P408, P711
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = fill_near(&keeper, id, Droppable, GivenUp::Now);
        mode(&mm, "1");
        mm.tunables().write("min_unmapped_ratio", "100").unwrap();
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
        assert_eq!((keeper.frames().len(), node_reclaims(&mm)), (full, (0, 0)));
        mm.tunables().write("min_unmapped_ratio", "50").unwrap();
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 0);
        assert_eq!(node_reclaims(&mm), (1, 0));
    });
}

#[test]
fn a_node_that_gives_nothing_is_counted_and_the_other_one_serves() {
    // P408: down to priority 0, that is all of the list
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = fill_near(&keeper, id, Droppable, GivenUp::Busy);
        mode(&mm, "1");
        assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
        assert_eq!(node_reclaims(&mm), (0, 1));
        let asked = keeper.take_asked().len();
        // 1/16, 1/8, 1/4, 1/2 and all of it.
        assert!((full * 31 / 16).abs_diff(asked) < 8, "{asked} of {full}");
    });
}

#[test]
fn dirty_pages_go_in_mode_2_and_storable_ones_in_mode_4() {
    // P710
    for (kind, dirty, modes) in [
        (Droppable, false, &[1, 2, 3, 4, 5, 6, 7][..]),
        (Droppable, true, &[2, 3, 6, 7]),
        (Storable, false, &[4, 5, 6, 7]),
        (Storable, true, &[6, 7]),
    ] {
        let mm = two_nodes();
        let keeper = Keeper::new(&mm);
        keeper.with(|id| {
            for bits in 0..8 {
                mode(&mm, "0");
                fill_near(&keeper, id, kind, GivenUp::Now);
                for page in keeper.frames().iter().filter(|_| dirty) {
                    mm.set_page_dirty(*page);
                }
                mode(&mm, &std::format!("{bits}"));
                let stays = served_by(&mm, GFP_KERNEL, None) == 0;
                assert_eq!(stays, modes.contains(&bits), "{kind:?} {dirty} {bits}");
            }
        });
    }
}

/// Objects of 4 KiB in slabs that count as reclaimable.
struct Objects<'m> {
    mm: &'m Machine,
    objects: Mutex<Vec<NonNull<u8>>>,
}

// SAFETY: the objects are its own.
unsafe impl Sync for Objects<'_> {}

impl Objects<'_> {
    fn give(&self, n: usize) -> usize {
        let mut objects = self.objects.lock().unwrap();
        let keep = objects.len().saturating_sub(n);
        let given = objects.split_off(keep);
        // SAFETY: its own, freed once.
        let free = |object: &NonNull<u8>| unsafe { self.mm.kfree(object.as_ptr()) };
        given.iter().for_each(free);
        given.len()
    }
}

impl Shrinker for Objects<'_> {
    fn count(&self, control: &ShrinkControl) -> Counted {
        assert_eq!(control.node, NodeId(0));
        Counted::Objects(self.objects.lock().unwrap().len())
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        Scanned::Done {
            looked_at: control.objects,
            freed: self.give(control.objects),
        }
    }
}

#[test]
fn slabs_that_can_be_shrunk_are_worth_it_too() {
    // P408, P711: more than 5 % of the node
    for (ratio, node) in [("100", 1), ("5", 0)] {
        let mm = two_nodes();
        let cache = Objects {
            mm: &mm,
            objects: Mutex::default(),
        };
        let gfp = (GFP_KERNEL | Gfp::RECLAIMABLE | Gfp::THISNODE | Gfp::NOWARN) & !Gfp::RECLAIM;
        let more = || mm.kmalloc(4096, gfp).ok();
        cache
            .objects
            .lock()
            .unwrap()
            .extend(core::iter::from_fn(more));
        let full = cache.objects.lock().unwrap().len();
        assert!(full > 1000);
        mm.pages().drain_all();
        mode(&mm, "1");
        mm.tunables().write("min_slab_ratio", ratio).unwrap();
        let shrinker = NonNull::from(&cache as &dyn Shrinker);
        // SAFETY: lifetimes only; it is unregistered below, before the objects go.
        let shrinker = unsafe {
            core::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker)
        };
        // SAFETY: as above.
        let id = unsafe { mm.register_shrinker_for(shrinker, Settings::default()) }.unwrap();
        assert_eq!(served_by(&mm, GFP_KERNEL, None), node, "{ratio}");
        mm.unregister_shrinker(id);
        assert_eq!(node_reclaims(&mm), (1 - u64::from(node), 0));
        assert_eq!(cache.give(usize::MAX) < full, node == 0);
        mm.verify().unwrap();
    }
}

#[test]
fn pages_that_the_mode_does_not_want_are_not_asked_for() {
    // P710: even if the node is worth it because of others
    for (bits, storable, dirty) in [(1, false, false), (3, false, true), (5, true, false)] {
        let mm = two_nodes();
        let keeper = Keeper::new(&mm);
        keeper.with(|id| {
            let add = |kind| keeper.add(id, kind, GivenUp::Busy).unwrap();
            let stored: Vec<_> = (0..100).map(|_| add(Storable)).collect();
            let soiled: Vec<_> = (0..100).map(|_| add(Droppable)).collect();
            soiled
                .iter()
                .for_each(|page| assert!(mm.set_page_dirty(*page)));
            fill_near(&keeper, id, Droppable, GivenUp::Busy);
            mode(&mm, &std::format!("{bits}"));
            assert_eq!(served_by(&mm, GFP_KERNEL, None), 1);
            let asked = keeper.take_asked();
            let any = |pages: &[Pfn]| pages.iter().any(|page| asked.contains(page));
            assert_eq!((any(&stored), any(&soiled)), (storable, dirty), "{bits}");
            assert!(asked.len() > 1000);
        });
    }
}
