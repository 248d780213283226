//! Wrong frees, each told apart.

use super::{Machine, machine, verify};
use crate::flags::GFP_KERNEL;
use crate::frame::Order;
use crate::page::PageRequest;
use crate::report::{Misuse, Owner};
use crate::slab::{CacheArgs, CacheName};

fn kfree(slabs: &Machine, ptr: *mut u8) -> Result<(), Misuse> {
    // SAFETY: the tests use nothing that they freed.
    unsafe { slabs.kfree(ptr) }
}

#[test]
fn a_second_free_is_seen_at_once_wherever_the_object_is() {
    let slabs = machine(16);
    let p = slabs.kmalloc(64, GFP_KERNEL, None).unwrap().as_ptr();
    kfree(&slabs, p).unwrap();
    assert_eq!(kfree(&slabs, p), Err(Misuse::DoubleFree)); // in the sheaf
    slabs.drain_all();
    assert_eq!(kfree(&slabs, p), Err(Misuse::DoubleFree)); // in the slab
    slabs.shrink_all();
    slabs.pages().drain_all();
    assert_eq!(kfree(&slabs, p), Err(Misuse::DoubleFree)); // the slab is free pages
    let l = slabs.kmalloc(100_000, GFP_KERNEL, None).unwrap().as_ptr();
    kfree(&slabs, l).unwrap();
    assert_eq!(kfree(&slabs, l), Err(Misuse::DoubleFree));
    verify(&slabs);
}

#[test]
fn addresses_inside_of_objects_are_refused() {
    // S24
    let slabs = machine(16);
    let p = slabs.kmalloc(96, GFP_KERNEL, None).unwrap().as_ptr();
    let l = slabs.kmalloc(100_000, GFP_KERNEL, None).unwrap().as_ptr();
    for offset in [1, 8, 32, 95] {
        assert_eq!(
            kfree(&slabs, p.wrapping_add(offset)),
            Err(Misuse::InteriorFree),
            "{offset}"
        );
    }
    for offset in [1, 4096, 65_536, 100_000] {
        assert_eq!(
            kfree(&slabs, l.wrapping_add(offset)),
            Err(Misuse::InteriorFree),
            "{offset}"
        );
    }
    kfree(&slabs, p).unwrap();
    kfree(&slabs, l).unwrap();
    verify(&slabs);
}

#[test]
fn what_kmalloc_did_not_give_is_refused() {
    // S42
    let slabs = machine(16);
    let pfn = slabs
        .pages()
        .alloc(&PageRequest::new(GFP_KERNEL, Order::new(2).unwrap()))
        .unwrap();
    let page = slabs.pages().ptr_of(pfn).as_ptr();
    assert_eq!(kfree(&slabs, page), Err(Misuse::WrongCall));
    assert_eq!(
        kfree(&slabs, page.wrapping_add(4096)),
        Err(Misuse::WrongCall)
    );
    // SAFETY: not used any more.
    unsafe { slabs.pages().free(pfn, Order::new(2).unwrap()) }.unwrap();
    assert_eq!(kfree(&slabs, page), Err(Misuse::DoubleFree));
    let mut local = 0u64;
    let stack = (&raw mut local).cast::<u8>();
    for wild in [
        stack,
        core::ptr::without_provenance_mut(usize::MAX - 7),
        stack.wrapping_add(1),
    ] {
        assert_eq!(kfree(&slabs, wild), Err(Misuse::WildFree));
        assert_eq!(slabs.ksize(wild), 0);
    }
    // Objects of the allocator's own: the sheaves and descriptors.
    let p = slabs.kmalloc(8, GFP_KERNEL, None).unwrap().as_ptr();
    let desc = slabs.object_at(p.addr()).unwrap().0.as_ptr().cast::<u8>();
    assert_eq!(kfree(&slabs, desc), Err(Misuse::WildFree));
    assert_eq!(slabs.ksize(desc), 0);
    // The tail of a slab that no object covers.
    let q = slabs.kmalloc(192, GFP_KERNEL, None).unwrap().as_ptr();
    let (slab, _) = slabs.object_at(q.addr()).unwrap();
    let end = slab
        .object(slab.objects as usize - 1)
        .as_ptr()
        .wrapping_add(192);
    assert_eq!(kfree(&slabs, end), Err(Misuse::WildFree));
    kfree(&slabs, p).unwrap();
    kfree(&slabs, q).unwrap();
    verify(&slabs);
}

#[test]
fn an_object_of_another_cache_is_refused_and_stays() {
    // S43
    let slabs = machine(16);
    let a = slabs.cache_create(&CacheArgs::new("a", 64)).unwrap();
    let b = slabs.cache_create(&CacheArgs::new("b", 64)).unwrap();
    let p = slabs.cache_alloc(a, GFP_KERNEL, None).unwrap().as_ptr();
    let k = slabs.kmalloc(64, GFP_KERNEL, None).unwrap().as_ptr();
    let l = slabs.kmalloc(9000, GFP_KERNEL, None).unwrap().as_ptr();
    // SAFETY: every wrong free is refused; nothing is used after a right one.
    unsafe {
        assert_eq!(slabs.cache_free(b, p), Err(Misuse::WrongCache));
        assert_eq!(slabs.cache_free(b, k), Err(Misuse::WrongCache));
        assert_eq!(slabs.cache_free(b, l), Err(Misuse::WrongCall));
        assert_eq!(slabs.cache_free(b, p.add(1)), Err(Misuse::InteriorFree));
        assert_eq!(slabs.cache_free(b, core::ptr::null_mut()), Ok(()));
        slabs.cache_free(a, p).unwrap();
        assert_eq!(slabs.cache_free(a, p), Err(Misuse::DoubleFree));
        assert_eq!(slabs.cache_free(b, p), Err(Misuse::DoubleFree));
        slabs.kfree_bulk(&[k, l]).unwrap();
    }
    // kfree takes objects of any cache (S24).
    let p = slabs.cache_alloc(a, GFP_KERNEL, None).unwrap().as_ptr();
    kfree(&slabs, p).unwrap();
    verify(&slabs);
}

#[test]
fn bulk_frees_name_the_wrong_one_and_free_the_rest() {
    // S28
    let slabs = machine(16);
    let p = [8, 9000, 64].map(|size| slabs.kmalloc(size, GFP_KERNEL, None).unwrap().as_ptr());
    // SAFETY: every wrong free is refused; nothing is used after a right one.
    let freed = unsafe { slabs.kfree_bulk(&[p[0], p[1], p[0], p[2]]) };
    assert_eq!(freed, Err((2, Misuse::DoubleFree)));
    assert_eq!(kfree(&slabs, p[2]), Err(Misuse::DoubleFree));
    assert_eq!(slabs.large_kmalloc_pages(), 0);
    verify(&slabs);
}

#[test]
fn owners_are_named() {
    // S44, S65
    let slabs = machine(16);
    let mut name = CacheName::EMPTY;
    let p = slabs.kmalloc(90, GFP_KERNEL, None).unwrap().as_ptr();
    let start = p.addr();
    for offset in [0, 1, 95] {
        let owner = slabs.describe(start + offset, &mut name);
        assert_eq!(
            owner,
            Some(Owner::Object {
                cache: "kmalloc-96",
                start,
                size: 96
            })
        );
    }
    let l = slabs.kmalloc(9000, GFP_KERNEL, None).unwrap().as_ptr();
    let large = Owner::LargeKmalloc {
        start: l.addr(),
        size: 16_384,
    };
    assert_eq!(slabs.describe(l.addr() + 5000, &mut name), Some(large));
    assert_eq!(slabs.describe(0x1000, &mut name), None);
    kfree(&slabs, p).unwrap();
    kfree(&slabs, l).unwrap();
    assert_eq!(slabs.describe(l.addr(), &mut name), None);
}
