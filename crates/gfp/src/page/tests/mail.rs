//! What comes back to a shard whose lock is taken (P173, P306, P805, P820).

use super::shards::{EASY, exhaust, get, hold, machine, put, shard_of};
use crate::flags::{GFP_HIGHUSER_MOVABLE, MigrateType};
use crate::frame::{FrameKind, FrameWord, Order};
use crate::page::PageAllocator;
use crate::page::cache::List;
use crate::page::free::HOLD_MOST;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use crate::testing::TestPlatform;
use std::vec::Vec;

/// All lists of this CPU go back.
pub(super) fn flush(machine: &PageAllocator<TestPlatform>) {
    let local = Local::enter(machine.platform()).unwrap();
    let caches = machine.caches_of(local.cpu()).unwrap();
    for (zone, cache) in machine.zones.iter().zip(caches) {
        List::all().for_each(|list| machine.flush(&local, zone, cache, list, usize::MAX));
    }
}

#[test]
fn who_gives_back_does_not_wait_for_a_lock() {
    // With the lock held a wait would not end.
    for o in [0, 3, 9] {
        let machine = machine(64, 16);
        let blocks: Vec<_> = (0..4)
            .map(|_| get(&machine, GFP_HIGHUSER_MOVABLE, o))
            .collect();
        let at = shard_of(&machine, blocks[0]);
        let zone = &machine.zones[0];
        let before = machine.free_page_count() + machine.cached_page_count();
        hold(&machine, &[at], || {
            blocks.iter().for_each(|pfn| put(&machine, *pfn, o));
            flush(&machine);
            let sent = zone.shards()[at].mail.pages();
            assert!(sent >= 4 << o, "order {o}: {sent}");
            assert_eq!(machine.cached_page_count(), machine.pages_in_mail());
        });
        let now = machine.free_page_count() + machine.cached_page_count();
        assert_eq!(now, before + (4 << o), "order {o}");
        machine.verify().unwrap();
        machine.drain_all();
        assert_eq!(machine.pages_in_mail(), 0);
        assert_eq!(machine.free_page_count(), before + (4 << o), "order {o}");
        machine.verify().unwrap();
        let most = zone.shards()[at].most_work.load(Relaxed) as usize;
        assert!(most <= HOLD_MOST, "{most}");
    }
}

#[test]
fn a_request_that_finds_nothing_else_finds_what_was_sent() {
    // P106
    let machine = machine(64, 16);
    let mut all = exhaust(&machine, EASY, 9);
    let pfn = all.pop().unwrap();
    let at = shard_of(&machine, pfn);
    hold(&machine, &[at], || {
        put(&machine, pfn, 9);
        flush(&machine);
    });
    assert_eq!(machine.pages_in_mail(), 512);
    assert_eq!(get(&machine, EASY, 9), pfn);
    assert_eq!(machine.pages_in_mail(), 0);
    machine.verify().unwrap();
}

#[test]
fn what_was_sent_twice_is_put_once_and_reported() {
    // P302: its word says that it is cached until it is sent.
    let machine = machine(64, 16);
    let pfn = get(&machine, GFP_HIGHUSER_MOVABLE, 0);
    let at = shard_of(&machine, pfn);
    hold(&machine, &[at], || {
        put(&machine, pfn, 0);
        let local = Local::enter(machine.platform()).unwrap();
        let list = List::of(Order::ZERO, MigrateType::Movable).unwrap();
        let cache = &machine.caches_of(local.cpu()).unwrap()[0];
        assert!(cache.push(list, machine.frame_index(pfn)));
        drop(local);
        flush(&machine);
    });
    assert_eq!(machine.misuses(), 1);
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn a_word_in_the_mail_that_is_somebody_elses_leads_nowhere() {
    // P302: freed twice at once and sent by two CPUs, a block may have an owner again.
    let machine = machine(64, 16);
    let pages: Vec<_> = (0..3)
        .map(|_| get(&machine, GFP_HIGHUSER_MOVABLE, 0))
        .collect();
    machine.drain_all();
    let at = shard_of(&machine, pages[0]);
    hold(&machine, &[at], || {
        pages.iter().for_each(|pfn| put(&machine, *pfn, 0));
        flush(&machine);
    });
    assert_eq!(machine.pages_in_mail(), 3);
    let owned = FrameWord::new(FrameKind::Page, Order::ZERO, 1);
    machine.frames.set(pages[1], owned);
    let first = machine.frames.base();
    let before = machine.frames.get(first);
    machine.drain_all();
    assert!(machine.frames.get(pages[1]) == owned, "as its owner has it");
    assert!(machine.frames.get(first) == before);
    assert!(machine.is_free(pages[2]), "what was above it");
}
