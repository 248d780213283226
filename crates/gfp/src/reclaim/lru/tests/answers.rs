//! What becomes of a page: by its use, by its owner's answer, by what the request may do.

use super::keeper::Asked;
use super::{Keeper, boot, events, last_pass, lists, pass_at};
use crate::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOIO, Gfp};
use crate::frame::Pfn;
use crate::page::{GivenUp, ReclaimMode};
use crate::policy::reclaim::lru::Kind::{self, Droppable, Storable};
use crate::reclaim::lru::ListPass;
use std::vec::Vec;

#[test]
fn the_page_that_was_not_used_for_longest_goes_first() {
    // P410
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let add = |_| keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let pages: Vec<Pfn> = (0..64).map(add).collect();
        // A sixteenth of 64.
        assert_eq!(pass_at(&mm, 4), (4, 4));
        assert_eq!(keeper.take_asked(), pages[..4]);
        mm.mark_page_accessed(pages[4]);
        assert_eq!(
            pass_at(&mm, 4),
            (3, 2),
            "a 16th of 60, one gets its second look"
        );
        assert_eq!(keeper.take_asked(), pages[5..7]);
        assert_eq!(lists(&mm).inactive[0], 58);
        assert_eq!(pass_at(&mm, 0), (58, 58));
        assert_eq!(keeper.take_asked().last(), Some(&pages[4]));
    });
}

#[test]
fn who_is_used_at_two_looks_becomes_active_and_comes_back_when_the_rest_is_short() {
    // P410
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let add = |_| keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let pages: Vec<Pfn> = (0..16).map(add).collect();
        let lengths = || (lists(&mm).inactive[0], lists(&mm).active[0]);
        for active in [0, 8] {
            pages.iter().for_each(|page| mm.mark_page_accessed(*page));
            assert_eq!(pass_at(&mm, 1), (8, 0), "one half");
            assert_eq!(lengths(), (16 - active, active));
            if active == 0 {
                assert_eq!(pass_at(&mm, 1), (8, 0), "the other half");
            }
        }
        assert_eq!(pass_at(&mm, 1), (4, 0));
        assert_eq!(lengths(), (4, 12));
        assert!(keeper.take_asked().is_empty());
        // Now the rest is short: half of the active ones become inactive. Those that were found
        // used twice come first, and then the first that is not used any more.
        assert_eq!(pass_at(&mm, 1), (5, 1));
        assert_eq!(keeper.take_asked(), pages[..1]);
        assert_eq!(lengths(), (5, 10));
        assert_eq!((events(&mm).activated, events(&mm).deactivated), (16, 6));
    });
}

#[test]
fn active_pages_are_spared_until_nothing_else_helps() {
    // P405
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for _ in 0..8 {
            keeper.add(id, Droppable, GivenUp::Referenced).unwrap();
        }
        pass_at(&mm, 0);
        for _ in 0..8 {
            keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        }
        assert_eq!((lists(&mm).inactive[0], lists(&mm).active[0]), (8, 8));
        let reclaim = mm.slabs().reclaim();
        let done = reclaim.scan_lists(super::NODE, &last_pass());
        assert!(done.spared_active && done.pages.scanned == 8);
        let forced = ListPass {
            deactivate: true,
            ..last_pass()
        };
        let done = reclaim.scan_lists(super::NODE, &forced);
        assert!(!done.spared_active && done.pages.scanned == 16);
    });
}

#[test]
fn the_weight_of_the_kinds_is_a_tunable() {
    // P714
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for kind in [Droppable, Storable] {
            (0..64).for_each(|_| _ = keeper.add(id, kind, GivenUp::Busy).unwrap());
        }
        assert_eq!(mm.swappiness(), 60);
        for (set, weight, scanned) in [(0, 0, [32, 0]), (100, 100, [16, 16]), (255, 200, [0, 32])] {
            let before = events(&mm).scanned_of;
            mm.set_swappiness(set);
            assert_eq!(mm.swappiness(), weight);
            pass_at(&mm, 1);
            let after = events(&mm).scanned_of;
            assert_eq!(
                [0, 1].map(|kind| after[kind] - before[kind]),
                scanned,
                "{set}"
            );
        }
    });
}

#[test]
fn each_answer_has_its_place() {
    // P410, P617
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let add = |answer| keeper.add(id, Storable, answer).unwrap();
        let pages = [
            add(GivenUp::Now),
            add(GivenUp::Writeback),
            add(GivenUp::Referenced),
            add(GivenUp::Busy),
            add(GivenUp::Unevictable),
        ];
        assert_eq!(pass_at(&mm, 0), (5, 1));
        assert_eq!(keeper.take_asked(), pages);
        let now = lists(&mm);
        assert_eq!((now.inactive, now.active), ([0, 2], [0, 1]));
        assert_eq!((now.unevictable, now.writing, now.isolated), (1, 1, [0, 0]));
        let seen = events(&mm);
        assert_eq!((seen.scanned, seen.freed), ([0, 5], [0, 1]));
        assert_eq!((seen.scanned_of, seen.freed_of), ([0, 5], [0, 1]));
        assert_eq!((seen.activated, seen.culled, seen.writes), (1, 1, 1));
        // The one that never goes is not asked again.
        pass_at(&mm, 0);
        let asked = keeper.take_asked();
        assert!(asked.contains(&pages[3]) && !asked.contains(&pages[4]));
        assert!(mm.lru_del(pages[4]));
        assert_eq!(mm.lru_add(pages[4], Storable), Ok(()));
        assert_eq!(lists(&mm).unevictable, 0);
    });
}

/// Which of a clean and a dirty page the owner is asked about, and with what.
fn asked(kind: Kind, gfp: Gfp, may_write: bool) -> (bool, bool, Option<ReclaimMode>) {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let clean = keeper.add(id, kind, GivenUp::Busy).unwrap();
        let dirty = keeper.add(id, kind, GivenUp::Busy).unwrap();
        assert!(mm.set_page_dirty(dirty));
        let pass = ListPass {
            gfp,
            may_write,
            may_store: may_write,
            ..last_pass()
        };
        mm.slabs().reclaim().scan_lists(super::NODE, &pass);
        let asked: Vec<Asked> = keeper.asked.lock().unwrap().drain(..).collect();
        assert!(asked.iter().all(|asked| asked.gfp == gfp));
        let about = |page| asked.iter().any(|asked| asked.page == page);
        let modes = asked.iter().map(|asked| asked.mode);
        (
            about(clean),
            about(dirty),
            modes.max_by_key(|mode| *mode == ReclaimMode::Write),
        )
    })
}

#[test]
fn without_io_or_fs_no_owner_is_asked_to_write() {
    // P402, P416: pages that have a place of their own need FS as well; those that must be stored
    // are not looked at without IO.
    let (drop, write) = (Some(ReclaimMode::Drop), Some(ReclaimMode::Write));
    for (kind, gfp, may_write, expected) in [
        (Droppable, GFP_KERNEL, true, (true, true, write)),
        (Droppable, GFP_NOFS, true, (true, false, drop)),
        (Droppable, GFP_NOIO, true, (true, false, drop)),
        (Droppable, GFP_KERNEL, false, (true, false, drop)),
        (Storable, GFP_KERNEL, true, (true, true, write)),
        (Storable, GFP_NOFS, true, (true, true, write)),
        (Storable, GFP_NOIO, true, (false, false, None)),
        (Storable, GFP_KERNEL, false, (false, false, None)),
    ] {
        assert_eq!(
            asked(kind, gfp, may_write),
            expected,
            "{kind:?} {gfp} {may_write}"
        );
    }
}

#[test]
fn a_page_that_is_being_written_is_left_alone_and_is_next_when_it_is_written() {
    // P407, P410
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Storable, GivenUp::Writeback).unwrap();
        assert!(mm.set_page_dirty(page) && !mm.set_page_dirty(page));
        assert_eq!((lists(&mm).dirty, lists(&mm).writing), (1, 0));
        assert_eq!(pass_at(&mm, 0), (1, 0));
        assert_eq!((lists(&mm).dirty, lists(&mm).writing), (0, 1));
        assert!(!mm.start_page_writeback(page), "it is under way");
        let other = keeper.add(id, Storable, GivenUp::Busy).unwrap();
        keeper.take_asked();
        pass_at(&mm, 0);
        assert_eq!(keeper.take_asked(), [other]);
        keeper.pages.lock().unwrap().insert(page, GivenUp::Now);
        assert!(mm.end_page_writeback(page) && !mm.end_page_writeback(page));
        assert_eq!((lists(&mm).writing, events(&mm).rotated), (0, 1));
        assert_eq!((events(&mm).written, events(&mm).writes), (1, 1));
        assert_eq!(pass_at(&mm, 1), (1, 1));
        assert_eq!(keeper.take_asked(), [page]);
    });
}

#[test]
fn a_write_that_ends_before_the_answer_is_over() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let mm = &mm;
        *keeper.in_call.lock().unwrap() = Some(std::boxed::Box::new(move |_, page| {
            assert!(mm.set_page_dirty(page) && mm.start_page_writeback(page));
            assert!(mm.end_page_writeback(page));
        }));
        pass_at(mm, 0);
        *keeper.in_call.lock().unwrap() = None;
        assert_eq!((lists(mm).dirty, lists(mm).writing), (0, 0));
        keeper.take_asked();
        pass_at(mm, 0);
        assert_eq!(keeper.take_asked(), [page]);
        assert!(mm.set_page_dirty(page) && mm.clear_page_dirty(page));
        assert!(!mm.clear_page_dirty(page) && !mm.set_page_dirty(Pfn(0)));
        assert_eq!(lists(mm).dirty, 0);
    });
}

#[test]
fn a_batch_is_put_back_if_an_owner_panics() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let add = |_| keeper.add(id, Droppable, GivenUp::Now).unwrap();
        let pages: Vec<Pfn> = (0..4).map(add).collect();
        let (given, bad) = (pages[0], pages[1]);
        *keeper.in_call.lock().unwrap() = Some(std::boxed::Box::new(move |_, page| {
            assert!(page != bad, "meant to be: the owner panics");
        }));
        let pass = std::panic::AssertUnwindSafe(|| pass_at(&mm, 0));
        assert!(std::panic::catch_unwind(pass).is_err());
        keeper.in_call.clear_poison();
        *keeper.in_call.lock().unwrap() = None;
        assert_eq!((lists(&mm).inactive[0], lists(&mm).isolated[0]), (3, 0));
        mm.verify().unwrap();
        assert!(!keeper.frames().contains(&given), "free");
        assert_eq!(pass_at(&mm, 0), (3, 3));
    });
}
