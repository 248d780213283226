//! Pages that their owner can move.

use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{Order, Pfn};
use crate::page::tests::tenant::{During, Renting};
use crate::page::{
    BootConfig, MigrateError, MigrateMode, Migrated, OWNERS_MAX, PageOwner, PageOwnerError,
};
use crate::testing::{TestPlatform, region};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

fn machine() -> Mm<TestPlatform> {
    let start = 4u64 << 30;
    let platform = TestPlatform::new(start, 16 << 20);
    let map = [region(start, start + (16 << 20))];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn migrate(mm: &Mm<TestPlatform>, pfn: Pfn, order: u8) -> Result<Pfn, MigrateError> {
    mm.migrate_page(pfn, order, GFP_HIGHUSER_MOVABLE, MigrateMode::Sync)
}

#[test]
fn a_page_with_an_owner_moves_with_its_content() {
    // P420: of any order, compound or not
    let mm = machine();
    let tenant = Renting::new(&mm);
    for order in [0, 3, 9] {
        for gfp in [GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER_MOVABLE | Gfp::COMP] {
            let free = mm.pages().free_page_count() + mm.pages().cached_page_count();
            let from = tenant.take_with(gfp, order).unwrap();
            let to = migrate(&mm, from, order).unwrap();
            assert!(to != from);
            assert_eq!(tenant.frames(), [to]);
            tenant.check();
            mm.verify().unwrap();
            tenant.give(to);
            let left = mm.pages().free_page_count() + mm.pages().cached_page_count();
            assert_eq!(left, free);
        }
    }
    assert_eq!(tenant.moved.load(Relaxed), 6);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn a_page_stays_where_it_is_if_its_owner_says_so() {
    let mm = machine();
    let tenant = Renting::new(&mm);
    let pfn = tenant.take(0).unwrap();
    let cases = [
        (Migrated::Busy, MigrateError::Busy),
        (Migrated::Failed, MigrateError::Refused),
    ];
    for (answer, error) in cases {
        *tenant.refuses.lock().unwrap() = Some(answer);
        assert_eq!(migrate(&mm, pfn, 0), Err(error));
    }
    assert_eq!(tenant.put_back.load(Relaxed), 2);
    *tenant.refuses.lock().unwrap() = None;
    assert_eq!(migrate(&mm, pfn, 1), Err(MigrateError::NotMovable));
    assert_eq!(migrate(&mm, pfn.add(1), 0), Err(MigrateError::NotMovable));
    assert_eq!(tenant.frames(), [pfn]);
    mm.verify().unwrap();
    assert!(migrate(&mm, pfn, 0).is_ok());
}

#[test]
fn a_free_in_the_middle_of_a_question_succeeds_and_the_memory_comes_back() {
    let mm = machine();
    let tenant = Renting::new(&mm);
    let all = || mm.pages().free_page_count() + mm.pages().cached_page_count();
    let free = all();
    for (n, call) in [During::Isolate, During::Migrate].into_iter().enumerate() {
        let pfn = tenant.take(0).unwrap();
        *tenant.frees.lock().unwrap() = Some(call);
        assert!(migrate(&mm, pfn, 0).is_err());
        assert_eq!(all(), free);
        mm.verify().unwrap();
        assert!(tenant.frames().is_empty());
        assert_eq!(mm.platform().reports().len(), n + 1, "the second frees");
    }
    assert_eq!(tenant.moved.load(Relaxed), 0);
    assert_eq!(mm.unregister_page_owner(tenant.id), Ok(()));
}

#[test]
fn only_blocks_of_pages_with_one_reference_get_an_owner() {
    let mm = machine();
    let tenant = Renting::new(&mm);
    let id = tenant.id;
    let object = mm.kmalloc(100, GFP_KERNEL).unwrap();
    let slab = mm.virt_to_pfn(object.addr().get()).unwrap();
    assert_eq!(mm.set_page_owner(slab, id), Err(PageOwnerError::NotPages));
    let compound = GFP_HIGHUSER_MOVABLE | Gfp::COMP;
    let pfn = mm.alloc_pages(compound, 1).unwrap();
    assert!(mm.get_page(pfn));
    assert_eq!(mm.set_page_owner(pfn, id), Err(PageOwnerError::Shared));
    // SAFETY: the second reference, and then the first.
    unsafe { mm.free_frames(pfn, 1) };
    assert_eq!(
        mm.set_page_owner(pfn.add(1), id),
        Err(PageOwnerError::NotPages)
    );
    assert_eq!(mm.clear_page_owner(pfn), Err(PageOwnerError::NoOwner));
    // SAFETY: as above.
    unsafe { mm.free_frames(pfn, 1) };
    assert_eq!(mm.set_page_owner(pfn, id), Err(PageOwnerError::NotPages));
    assert_eq!(
        mm.set_page_owner(Pfn(1), id),
        Err(PageOwnerError::NotPages),
        "outside of the machine"
    );
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
    // SAFETY: allocated above.
    unsafe { mm.kfree(object.as_ptr()) };
}

#[test]
fn a_page_with_an_owner_has_no_other_references_and_frees_as_before() {
    let mm = machine();
    let tenant = Renting::new(&mm);
    let compound = GFP_HIGHUSER_MOVABLE | Gfp::COMP;
    let pfn = tenant.take_with(compound, 2).unwrap();
    assert!(!mm.get_page(pfn));
    assert!(!mm.split_page(pfn, 2));
    let address = mm.page_address(pfn);
    assert_eq!(mm.order_of(address.addr().get()), Order::new(2));
    // SAFETY: each is refused: another order, the call of another allocator.
    unsafe {
        mm.free_frames(pfn, 0);
        mm.kfree(address.as_ptr());
    }
    assert_eq!(mm.platform().reports().len(), 2);
    assert_eq!(mm.clear_page_owner(pfn), Ok(()));
    assert_eq!(migrate(&mm, pfn, 2), Err(MigrateError::NotMovable));
    assert!(mm.get_page(pfn), "an ordinary one again");
    // SAFETY: the reference from above.
    unsafe { mm.free_frames(pfn, 2) };
    assert_eq!(mm.set_page_owner(pfn, tenant.id), Ok(()));
    tenant.give(pfn);
    // SAFETY: it is refused.
    unsafe { mm.free_frames(pfn, 2) };
    assert_eq!(mm.platform().reports().len(), 3, "freed twice");
    mm.verify().unwrap();
}

/// An owner that knows no page.
struct Nobody;

// SAFETY: it says no to everything.
unsafe impl PageOwner for Nobody {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }
}

#[test]
fn owners_come_and_go() {
    static NOBODY: Nobody = Nobody;
    let mm = machine();
    let ids: Vec<_> = (0..OWNERS_MAX)
        .map(|_| mm.register_page_owner(&NOBODY).unwrap())
        .collect();
    let full = mm.register_page_owner(&NOBODY);
    assert_eq!(full, Err(PageOwnerError::TooMany));
    let pfn = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, 0).unwrap();
    assert_eq!(mm.set_page_owner(pfn, ids[3]), Ok(()));
    let stays = PageOwnerError::HasPages { blocks: 1 };
    assert_eq!(mm.unregister_page_owner(ids[3]), Err(stays));
    assert_eq!(migrate(&mm, pfn, 0), Err(MigrateError::Busy));
    // SAFETY: allocated above.
    unsafe { mm.free_frames(pfn, 0) };
    for id in &ids {
        assert_eq!(mm.unregister_page_owner(*id), Ok(()));
    }
    // A later owner in the same place does not get what is meant for an earlier one.
    // SAFETY: it lives for ever.
    let later = unsafe { mm.register_page_owner_for(NonNull::from(&NOBODY)) }.unwrap();
    assert!(!ids.contains(&later));
    let pfn = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, 0).unwrap();
    for id in ids {
        let gone = Err(PageOwnerError::NoSuchOwner);
        assert_eq!(mm.set_page_owner(pfn, id), gone);
        assert_eq!(mm.unregister_page_owner(id), gone);
    }
    mm.verify().unwrap();
    assert_eq!(mm.set_page_owner(pfn, later), Ok(()));
    // SAFETY: allocated above.
    unsafe { mm.free_pages(mm.page_address(pfn).as_ptr(), 0) };
    assert_eq!(mm.unregister_page_owner(later), Ok(()));
}

#[test]
fn a_frame_that_became_part_of_a_block_gets_no_tag_of_a_page() {
    // Its page was freed while it was put on the lists, and the frame is another's by then.
    let mm = machine();
    let tenant = Renting::new(&mm);
    let (page, block) = (tenant.take(0).unwrap(), tenant.take(1).unwrap());
    let frames = mm.pages().frames();
    assert_eq!(frames.change_page_tag(page, |tag| tag | 1), Some(0));
    assert_eq!(frames.change_page_tag(block, |tag| tag | 1), None);
    assert_eq!(frames.movable_tag(block), 0);
    // Its owner may have one nevertheless.
    assert_eq!(frames.change_movable_tag(block, |tag| tag | 4), Some(0));
}

#[test]
fn a_tag_goes_with_its_page_and_ends_with_its_owner() {
    let mm = machine();
    let tenant = Renting::new(&mm);
    let pfn = tenant.take(0).unwrap();
    let frames = mm.pages().frames();
    assert_eq!(
        frames.change_movable_tag(pfn, |tag| tag | 0x8000_0001),
        Some(0)
    );
    let to = migrate(&mm, pfn, 0).unwrap();
    assert_eq!(frames.movable_tag(to), 0x8000_0001);
    assert_eq!(frames.movable_tag(pfn), 0);
    assert_eq!(frames.change_movable_tag(pfn, |tag| tag + 1), None);
    tenant.give(to);
    let again = tenant.take(0).unwrap();
    assert_eq!(again, to, "last in, first out");
    assert_eq!(frames.movable_tag(again), 0);
}
