//! Pages of the lists that are moved.

use super::{Keeper, boot, lists, pass_at};
use crate::flags::GFP_HIGHUSER_MOVABLE;
use crate::frame::Pfn;
use crate::page::{GivenUp, MigrateMode};
use crate::policy::reclaim::lru::Kind::{self, Droppable, Storable};
use crate::reclaim::LruError;
use std::boxed::Box;

fn move_it(keeper: &Keeper<'_>, page: Pfn) -> Pfn {
    let gfp = GFP_HIGHUSER_MOVABLE;
    keeper
        .mm
        .migrate_page(page, 0, gfp, MigrateMode::Sync)
        .unwrap()
}

/// Where the only page is: inactive by kind.
fn inactive(keeper: &Keeper<'_>) -> [usize; 2] {
    keeper.mm.verify().unwrap();
    lists(keeper.mm).inactive
}

#[test]
fn a_pass_amid_a_move_does_not_lose_the_page() {
    // Seen to fail: the lists hear of the move when the old frame is free already.
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let (pages, reclaim) = (mm.pages(), mm.slabs().reclaim());
        let to = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, 0).unwrap();
        let held = pages.hold(page).unwrap();
        assert!(held.isolate());
        // Its owner has moved it, the lists do not know it yet, and the background comes by.
        let moved = held.migrate(to, MigrateMode::Sync, |to| {
            assert_eq!(pass_at(&mm, 0), (0, 0));
            reclaim.lru_moved(page, to);
        });
        // SAFETY: ours.
        unsafe { mm.free_frames(moved.left, 0) };
        assert_eq!(inactive(&keeper), [1, 0]);
        assert_eq!(pass_at(&mm, 0), (1, 0));
        assert_eq!(keeper.take_asked(), [to]);
    });
}

#[test]
fn a_page_moved_to_a_frame_that_is_still_on_a_list_keeps_its_own_marks() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Storable, GivenUp::Busy).unwrap();
        let gone = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        assert!(mm.set_page_dirty(page));
        keeper.free_as_it_is(gone);
        assert_eq!(inactive(&keeper), [1, 1]);
        assert_eq!(move_it(&keeper, page), gone, "last in, first out");
        assert_eq!(inactive(&keeper), [0, 1]);
        assert_eq!(lists(&mm).dirty, 1);
    });
}

/// Moves a page, on the lists before or not, while its owner says something about it. Where it is
/// then, by kind.
fn says(before: Option<Kind>, say: impl Fn(&super::Machine, Pfn, Pfn) + Send) -> [usize; 2] {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        mm.lru_del(page);
        before
            .iter()
            .for_each(|kind| mm.lru_add(page, *kind).unwrap());
        let mm = &mm;
        *keeper.in_move.lock().unwrap() = Some(Box::new(move |from, to| say(mm, from, to)));
        let to = move_it(&keeper, page);
        *keeper.in_move.lock().unwrap() = None;
        let found = inactive(&keeper);
        let on = found != [0, 0];
        assert_eq!(mm.lru_del(to), on);
        assert_eq!(mm.lru_add(to, Droppable), Ok(()));
        assert_eq!(mm.lru_add(to, Droppable), Err(LruError::OnList));
        assert_eq!(inactive(&keeper), [1, 0]);
        found
    })
}

#[test]
fn what_an_owner_says_while_its_page_is_moved_holds() {
    // Of the old page, before it has moved.
    assert_eq!(says(Some(Storable), |_, _, _| ()), [0, 1]);
    assert_eq!(says(None, |_, _, _| ()), [0, 0]);
    let leaves = says(Some(Storable), |mm, from, _| assert!(mm.lru_del(from)));
    assert_eq!(leaves, [0, 0]);
    let comes = says(None, |mm, from, _| mm.lru_add(from, Storable).unwrap());
    assert_eq!(comes, [0, 1]);
    // Of the new one, after that.
    let leaves = says(Some(Storable), |mm, _, to| assert!(mm.lru_del(to)));
    assert_eq!(leaves, [0, 0]);
    let comes = says(None, |mm, _, to| mm.lru_add(to, Storable).unwrap());
    assert_eq!(comes, [0, 1]);
    let again = says(Some(Storable), |mm, _, to| {
        assert!(mm.lru_del(to));
        mm.lru_add(to, Droppable).unwrap();
    });
    assert_eq!(again, [1, 0]);
}

#[test]
fn a_page_freed_by_its_owner_before_the_lists_heard_of_the_move_is_on_none() {
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let to = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, 0).unwrap();
        let held = mm.pages().hold(page).unwrap();
        assert!(held.isolate());
        let moved = held.migrate(to, MigrateMode::Sync, |to| {
            keeper.free_as_it_is(to);
            mm.slabs().reclaim().lru_moved(page, to);
        });
        // SAFETY: ours.
        unsafe { mm.free_frames(moved.left, 0) };
        assert_eq!(inactive(&keeper), [0, 0]);
    });
}
