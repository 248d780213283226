//! What an administrator says of compaction.

use super::compact::{compact, events, fragment, free, machine, outcome};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{FrameKind, FrameWord, NodeId, Order};
use crate::page::Compacted;
use crate::page::tests::tenant::Renting;
use crate::policy::compaction::PageFacts;
use crate::policy::effort::{CompactOutcome, CompactPriority};
use std::string::ToString;

#[test]
fn how_fragmented_a_zone_must_be_for_large_blocks_is_a_tunable() {
    // P422, P706, P723
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let vm = mm.tunables();
    let light = |order| outcome(compact(&mm, order, CompactPriority::SyncLight));
    vm.write("extfrag_threshold", "1000").unwrap();
    assert_eq!(light(9), CompactOutcome::Skipped);
    assert_eq!(events(&mm).migrate_scanned, 0);
    let error = vm.write("extfrag_threshold", "1001").unwrap_err();
    assert_eq!(error.to_string(), "extfrag_threshold takes 0 to 1000");
    assert_eq!(light(9), CompactOutcome::Skipped, "nothing was changed");
    assert_eq!(light(2), CompactOutcome::Success, "small orders do not ask");
    // What it is must be above what it must be.
    let ground = mm.pages().grounds_of(NodeId(0), ZoneKind::Normal).next();
    let index = ground.unwrap().fragmentation(9, MigrateType::Unmovable);
    let index = index.value();
    assert!((501..1000).contains(&index), "{index}");
    vm.write("extfrag_threshold", &index.to_string()).unwrap();
    assert_eq!(light(9), CompactOutcome::Skipped);
    let less = (index - 1).to_string();
    vm.write("extfrag_threshold", &less).unwrap();
    let made = compact(&mm, 9, CompactPriority::SyncLight);
    let Compacted::Captured(pfn) = made else {
        panic!("{made:?}");
    };
    let word = FrameWord::new(FrameKind::Page, Order::PAGEBLOCK, 1);
    mm.pages().set_word(pfn, word);
    free(&mm, pfn, 9);
}

#[test]
fn whether_pages_are_moved_that_are_locked_into_memory_is_a_tunable() {
    // P429, P709, P723
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let locked = PageFacts {
        movable: true,
        unevictable: true,
        ..PageFacts::default()
    };
    let facts = tenant.frames().into_iter().map(|pfn| (pfn, locked));
    tenant.facts.lock().unwrap().extend(facts);
    let vm = mm.tunables();
    assert_eq!(vm.read("compact_unevictable_allowed").unwrap().first(), 1);
    vm.write("compact_unevictable_allowed", "0").unwrap();
    let error = vm.write("compact_unevictable_allowed", "2").unwrap_err();
    assert_eq!(
        error.to_string(),
        "compact_unevictable_allowed takes 0 to 1"
    );
    assert_eq!(vm.read("compact_unevictable_allowed").unwrap().first(), 0);
    mm.compact_memory();
    assert_eq!((events(&mm).migrated, events(&mm).isolated), (0, 0));
    vm.write("compact_unevictable_allowed", "1").unwrap();
    mm.compact_memory();
    assert!(events(&mm).migrated > 0);
}
