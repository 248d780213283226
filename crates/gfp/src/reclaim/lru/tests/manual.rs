//! What an administrator asks for, of owners of pages.

use super::{Keeper, boot, events, lists, pass_at};
use crate::frame::{NodeId, PAGE_SIZE, Pfn};
use crate::page::{GivenUp, ReclaimMode};
use crate::platform::Fact;
use crate::policy::pressure::Gauge;
use crate::policy::reclaim::lru::Kind::{Droppable, Storable};
use crate::policy::reclaim::manual::DropCaches;
use crate::policy::reclaim::manual::NodeReclaimError;
use crate::reclaim::lru::LruEvents;
use crate::reclaim::{Dropped, NodeError};
use crate::stat::View;
use std::string::String;
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

const NODE: NodeId = NodeId(0);
const PAGE: u64 = PAGE_SIZE as u64;

#[test]
fn dropped_is_what_can_go_without_a_write_however_it_is_used() {
    // P417, P716
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let add = |kind, answer, n: usize| -> Vec<Pfn> {
            let page = |_| keeper.add(id, kind, answer).unwrap();
            (0..n).map(page).collect()
        };
        let active = add(Droppable, GivenUp::Now, 4);
        for _ in 0..2 {
            active.iter().for_each(|page| mm.mark_page_accessed(*page));
            pass_at(&mm, 1);
            pass_at(&mm, 1);
        }
        assert!(lists(&mm).active[0] > 0, "{:?}", lists(&mm));
        let used = add(Droppable, GivenUp::Now, 8);
        used.iter().for_each(|page| mm.mark_page_accessed(*page));
        let dirty = add(Droppable, GivenUp::Writeback, 3);
        dirty.iter().for_each(|page| _ = mm.set_page_dirty(*page));
        let writing = add(Droppable, GivenUp::Writeback, 1);
        mm.start_page_writeback(writing[0]);
        add(Droppable, GivenUp::Busy, 2);
        add(Storable, GivenUp::Now, 5);
        let (before, free) = (events(&mm), keeper.free_pages());
        let dropped = mm.drop_caches(DropCaches::Pages);
        assert_eq!(
            dropped,
            Ok(Dropped {
                pages: 12,
                objects: 0
            })
        );
        assert_eq!(keeper.free_pages(), free + 12);
        assert_eq!(keeper.frames().len(), 3 + 1 + 2 + 5);
        let asked = core::mem::take(&mut *keeper.asked.lock().unwrap());
        assert_eq!(asked.len(), 12 + 2);
        assert!(asked.iter().all(|asked| asked.mode == ReclaimMode::Drop));
        // It is no reclaim.
        let scans = |seen: LruEvents| (seen.scanned, seen.freed, seen.scanned_of, seen.writes);
        assert_eq!(scans(events(&mm)), scans(before));
        let mut text = String::new();
        View::Vmstat.write(&mm, &mut text).unwrap();
        assert!(text.contains("\ndrop_pagecache 1\ndrop_slab 0\n"), "{text}");
        // A second time there is nothing left.
        assert_eq!(
            mm.drop_caches(DropCaches::Both)
                .map(|dropped| dropped.pages),
            Ok(0)
        );
        mm.end_page_writeback(writing[0]);
    });
}

#[test]
fn so_much_is_reclaimed_from_a_node_as_is_asked_for() {
    // P721
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for _ in 0..64 {
            keeper.add(id, Droppable, GivenUp::Now).unwrap();
        }
        let gauge = || Gauge::from_bits(mm.slabs().reclaim().pressure.gauge.load(Relaxed));
        let free = keeper.free_pages();
        mm.write_node(NODE, "reclaim", "80K\n").unwrap();
        let seen = events(&mm);
        let freed = seen.freed_proactively;
        // The fourth part of the rest is looked at when 11 are free.
        assert_eq!((freed, seen.scanned_proactively), (24, 24));
        assert_eq!((seen.freed, seen.freed_of), ([0, 0], [24, 0]));
        assert_eq!(keeper.free_pages(), free + 24);
        assert_eq!(gauge(), Gauge::NONE, "nobody was in need");
        let mut text = String::new();
        View::Vmstat.write(&mm, &mut text).unwrap();
        for line in ["pgscan_proactive 24", "pgsteal_proactive 24"] {
            assert!(text.contains(&std::format!("\n{line}\n")), "{line}: {text}");
        }
        // Less than a page is nothing.
        mm.write_node(NODE, "reclaim", "4095").unwrap();
        assert_eq!(events(&mm).scanned_proactively, 24);
    });
}

#[test]
fn a_swappiness_counts_for_this_once() {
    // P714, P721
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for kind in [Droppable, Storable] {
            (0..256).for_each(|_| _ = keeper.add(id, kind, GivenUp::Now).unwrap());
        }
        let freed_by = |text| {
            let before = events(&mm).freed_of;
            mm.write_node(NODE, "reclaim", text).unwrap();
            let after = events(&mm).freed_of;
            [0, 1].map(|kind| after[kind] - before[kind] > 0)
        };
        assert_eq!(freed_by("64K swappiness=0"), [true, false]);
        assert_eq!(freed_by("64K swappiness=200"), [false, true]);
        assert_eq!(freed_by("64K swappiness=100"), [true, true]);
        assert_eq!(mm.swappiness(), 60);
    });
}

#[test]
fn who_does_not_get_what_he_asked_for_is_told_how_much_came() {
    // P721
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let active = |_| keeper.add(id, Droppable, GivenUp::Referenced).unwrap();
        let active: Vec<Pfn> = (0..8).map(active).collect();
        pass_at(&mm, 0);
        assert_eq!(lists(&mm).active[0], 8);
        // Those that are active get no less than a second look.
        for page in &active[..6] {
            keeper.pages.lock().unwrap().insert(*page, GivenUp::Now);
        }
        (0..16).for_each(|_| _ = keeper.add(id, Droppable, GivenUp::Busy).unwrap());
        let asked = mm.write_node(NODE, "reclaim", "28K");
        assert_eq!(asked, Err(NodeError::TooLittle { freed: 6 * PAGE }));
        keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let task = &mm.platform().tasks[0];
        task.note(Fact::FatalSignal);
        let asked = mm.write_node(NODE, "reclaim", "4K");
        assert_eq!(asked, Err(NodeError::Killed { freed: 0 }));
        task.forget(Fact::FatalSignal);
        assert_eq!(mm.write_node(NODE, "reclaim", "4K"), Ok(()));
    });
}

#[test]
fn what_is_refused_was_not_begun() {
    // P721, P723
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        (0..8).for_each(|_| _ = keeper.add(id, Droppable, GivenUp::Now).unwrap());
        let text = NodeError::Text;
        for (node, file, text, error) in [
            (0, "reclaim", "all", text(NodeReclaimError::Bytes)),
            (
                0,
                "reclaim",
                "1M swappiness=201",
                text(NodeReclaimError::Option),
            ),
            (1, "reclaim", "1M", NodeError::NoSuchNode),
            (0, "drop", "1", NodeError::NoSuchFile),
            (0, "compact", "2", NodeError::NotOne),
            (0, "compact", "", NodeError::NotOne),
            (255, "compact", "1", NodeError::NoSuchNode),
        ] {
            assert_eq!(mm.write_node(NodeId(node), file, text), Err(error));
            assert!(std::format!("{error}").contains(' '));
        }
        let request = "1M".parse().unwrap();
        let other = mm.reclaim_node(NodeId(1), &request);
        assert_eq!(other, Err(NodeError::NoSuchNode));
        assert!(keeper.take_asked().is_empty());
        assert_eq!(mm.slabs().reclaim().events().compact, Default::default());
        assert_eq!(mm.write_node(NODE, "compact", "1\n"), Ok(()));
        assert!(mm.slabs().reclaim().events().compact.migrate_scanned > 0);
    });
}
