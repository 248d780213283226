//! The descriptor of a pageblock, whose parts are changed by several at once: who holds the zone's
//! lock changes its type, who plugs memory in its zone, a scanner without any lock its hint.
//!
//! Seen to fail: `set_place` as a load and a store.

use crate::descriptor::Block;
use crate::flags::MigrateType;
use crate::policy::compaction::Hints;
use loom::sync::Arc;
use loom::thread;

#[test]
fn no_writer_of_a_descriptor_loses_the_part_of_another() {
    // P425
    loom::model(|| {
        let block = Arc::new(Block::new());
        let (scanner, plugger) = (block.clone(), block.clone());
        let scanner = thread::spawn(move || scanner.set_hints(Hints::Skip));
        let plugger = thread::spawn(move || plugger.set_zone(3));
        block.set_kind(MigrateType::Reclaimable);
        block.set_isolated(1);
        scanner.join().unwrap();
        plugger.join().unwrap();
        assert_eq!(block.kind_beneath(), MigrateType::Reclaimable);
        assert!(block.is_isolated());
        assert_eq!(block.zone(), 3);
        assert_eq!(block.hints(), Hints::Skip);
    });
}
