//! Pages come and go.

use super::{Keeper, boot, events, lists, pass_at};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL};
use crate::frame::Pfn;
use crate::page::{GivenUp, MigrateMode};
use crate::policy::reclaim::lru::Kind::{Droppable, Storable};
use crate::reclaim::LruError;
use std::boxed::Box;
use std::vec::Vec;

#[test]
fn only_a_single_page_with_an_owner_goes_on_the_lists_and_only_once() {
    // P410
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let plain = mm.alloc_pages(GFP_KERNEL, 0).unwrap();
        assert_eq!(mm.lru_add(plain, Droppable), Err(LruError::NotOwned));
        assert_eq!(mm.lru_add(Pfn(1), Droppable), Err(LruError::NotOwned));
        let pair = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, 1).unwrap();
        mm.set_page_owner(pair, id).unwrap();
        assert_eq!(mm.lru_add(pair, Droppable), Err(LruError::NotOwned));
        let page = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        assert_eq!(mm.lru_add(page, Storable), Err(LruError::OnList));
        assert_eq!(lists(&mm).inactive, [1, 0]);
        assert!(mm.lru_del(page) && !mm.lru_del(page) && !mm.lru_del(plain));
        assert_eq!(lists(&mm).inactive, [0, 0]);
        assert_eq!(mm.lru_add(page, Storable), Ok(()));
        assert_eq!(lists(&mm).inactive, [0, 1]);
        // SAFETY: ours.
        unsafe {
            mm.free_frames(plain, 0);
            mm.free_frames(pair, 1);
        }
    });
    assert_eq!(lists(&mm), super::LruPages::default());
}

#[test]
fn a_page_freed_as_it_is_leaves_when_reclaim_comes_by_and_may_come_again() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let pages: Vec<Pfn> = (0..3)
            .map(|_| keeper.add(id, Droppable, GivenUp::Busy).unwrap())
            .collect();
        assert!(mm.set_page_dirty(pages[0]) && mm.set_page_dirty(pages[1]));
        // The last freed is the first to be given out.
        keeper.free_as_it_is(pages[1]);
        keeper.free_as_it_is(pages[0]);
        assert_eq!((lists(&mm).inactive[0], lists(&mm).dirty), (3, 2));
        let again = keeper.add(id, Storable, GivenUp::Busy).unwrap();
        assert_eq!(again, pages[0], "the same frame");
        assert_eq!(lists(&mm).inactive, [2, 1]);
        assert_eq!(pass_at(&mm, 0), (2, 0));
        let mut asked = keeper.take_asked();
        asked.sort();
        let mut expected = [again, pages[2]];
        expected.sort();
        assert_eq!(
            asked, expected,
            "nobody is asked about a page that has gone"
        );
        assert_eq!((lists(&mm).inactive, lists(&mm).dirty), ([1, 1], 0));
    });
}

#[test]
fn an_interrupt_in_the_middle_of_the_allocator_adds_nothing_and_removes() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let other = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        assert!(mm.lru_del(other));
        mm.platform()
            .nested
            .store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(mm.lru_add(other, Droppable), Err(LruError::Nested));
        assert!(mm.lru_del(page) && !mm.lru_del(page));
        mm.mark_page_accessed(page);
        mm.platform()
            .nested
            .store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(lists(&mm).inactive[0], 1, "unlinked by who finds it");
        assert_eq!(pass_at(&mm, 0), (0, 0));
        assert_eq!(lists(&mm).inactive[0], 0);
        assert!(keeper.take_asked().is_empty());
    });
}

#[test]
fn a_page_that_its_owner_frees_while_it_is_taken_off_comes_back() {
    let mm = boot();
    let free = mm.pages().free_page_count() + mm.pages().cached_page_count();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let first = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let with_del = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let without = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let itself = keeper.add(id, Droppable, GivenUp::Now).unwrap();
        *keeper.in_call.lock().unwrap() = Some(Box::new(move |keeper, page| {
            if page == first {
                keeper.free(with_del);
                keeper.free_as_it_is(without);
            } else if page == itself {
                keeper.free(itself);
            }
        }));
        assert_eq!(pass_at(&mm, 0), (4, 0));
        *keeper.in_call.lock().unwrap() = None;
        assert_eq!(keeper.take_asked(), [first, itself]);
        assert_eq!(keeper.frames(), [first]);
        assert_eq!(lists(&mm).inactive[0], 1);
    });
    // Pages of slots are kept, and that of the lists.
    let left = mm.pages().free_page_count() + mm.pages().cached_page_count();
    assert_eq!(left, free - 4);
    assert_eq!(mm.slabs().reclaim().lru_table_pages(), 4);
}

#[test]
fn a_page_leaves_and_enters_while_it_is_taken_off() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let leaves = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let returns = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let stays = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let mm = &mm;
        *keeper.in_call.lock().unwrap() = Some(Box::new(move |_, page| {
            if page == leaves {
                assert!(mm.lru_del(leaves) && mm.lru_del(stays));
                assert!(mm.lru_del(returns));
                assert_eq!(mm.lru_add(returns, Droppable), Ok(()));
                assert_eq!(mm.lru_add(returns, Droppable), Err(LruError::OnList));
            }
        }));
        assert_eq!(pass_at(mm, 0), (3, 0));
        *keeper.in_call.lock().unwrap() = None;
        assert_eq!(lists(mm).inactive[0], 1);
        let asked = keeper.take_asked();
        assert_eq!(asked, [leaves, returns], "one that was taken off is left");
        assert_eq!(pass_at(mm, 0), (1, 0));
        assert_eq!(keeper.take_asked(), [returns]);
        assert_eq!(mm.lru_add(leaves, Droppable), Ok(()));
    });
}

#[test]
fn a_page_that_is_moved_keeps_its_marks() {
    // P420
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Storable, GivenUp::Referenced).unwrap();
        pass_at(&mm, 0);
        assert!(mm.set_page_dirty(page));
        assert_eq!(lists(&mm).active, [0, 1]);
        let to = mm.migrate_page(page, 0, GFP_HIGHUSER_MOVABLE, MigrateMode::Sync);
        let to = to.unwrap();
        assert!(to != page);
        assert_eq!((lists(&mm).active, lists(&mm).dirty), ([0, 1], 1));
        assert_eq!(mm.lru_add(to, Storable), Err(LruError::OnList));
        mm.verify().unwrap();
        assert!(mm.lru_del(to));
        assert_eq!((lists(&mm).active, lists(&mm).dirty), ([0, 0], 0));
        // One that is on no list moves as any other.
        let back = mm.migrate_page(to, 0, GFP_HIGHUSER_MOVABLE, MigrateMode::Sync);
        assert_eq!(mm.lru_add(back.unwrap(), Storable), Ok(()));
    });
    assert_eq!(events(&mm).dirtied, 1);
}

#[test]
fn pages_that_compaction_moves_stay_on_the_lists() {
    // P410, P420
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        keeper.fill(id, Droppable, GivenUp::Now);
        for pair in keeper.frames().chunks(2) {
            keeper.free(pair[0]);
        }
        let before = keeper.frames();
        mm.compact_node(super::NODE);
        let after = keeper.frames();
        assert!(before != after && before.len() == after.len());
        assert_eq!(lists(&mm).inactive[0], after.len());
        mm.verify().unwrap();
        assert_eq!(pass_at(&mm, 0), (after.len(), after.len()));
        assert!(keeper.frames().is_empty());
    });
}

#[test]
fn the_check_of_the_lists_finds_a_page_that_is_missing_on_them() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        assert!(mm.lru_del(page));
        mm.verify().unwrap();
        let frames = mm.pages().frames();
        frames.change_movable_tag(page, |tag| tag | 1);
        assert!(mm.verify().is_err());
        assert!(mm.lru_del(page));
    });
}
