//! The whole machine: every misuse is named with its owner and caller, and the views show what is.

use super::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::BootConfig;
use crate::report::OnMisuse;
use crate::slab::{CacheArgs, CacheError};
use crate::stat::View;
use crate::testing::{TestPlatform, region};
use std::format;
use std::string::String;
use std::vec::Vec;

mod balloon;
mod buckets;
mod contig;
mod copies;
mod locks;
mod might;
mod mobile;
mod scopes;
mod tunables;
mod typed;
mod unplug;

fn machine_with(config: &BootConfig) -> Mm<TestPlatform> {
    let bytes = 32 << 20;
    let start = 4u64 << 30;
    let map = [region(start, start + bytes)];
    Mm::boot(TestPlatform::new(start, bytes as usize), &map, config).unwrap()
}

fn machine() -> Mm<TestPlatform> {
    machine_with(&BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    })
}

/// The one report that `f` causes.
fn report_of(mm: &Mm<TestPlatform>, f: impl FnOnce(&Mm<TestPlatform>)) -> String {
    let before = mm.platform().reports().len();
    f(mm);
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), before + 1, "{reports:?}");
    reports[before].clone()
}

#[test]
fn every_wrong_free_names_address_owner_and_caller() {
    let mm = machine();
    let here = "mm/tests.rs";
    let p = mm.kmalloc(100, GFP_KERNEL).unwrap().as_ptr();
    // SAFETY: the first free is right; the machine refuses the others.
    unsafe {
        let interior = report_of(&mm, |mm| mm.kfree(p.add(8)));
        assert!(interior.contains("interior"), "{interior}");
        assert!(
            interior.contains("kmalloc-128") && interior.contains(here),
            "{interior}"
        );
        assert!(
            interior.contains(&format!("{:#x}", p.addr() + 8)),
            "{interior}"
        );
        mm.kfree(p);
        let double = report_of(&mm, |mm| mm.kfree(p));
        assert!(
            double.contains("double free") && double.contains("kmalloc-128"),
            "{double}"
        );
        let wild = report_of(&mm, |mm| {
            mm.kfree(core::ptr::without_provenance_mut(0x1_2345_6000))
        });
        assert!(
            wild.contains("wild free") && wild.contains("no memory of this machine"),
            "{wild}"
        );
        let large = mm.kmalloc(100_000, GFP_KERNEL).unwrap().as_ptr();
        let inside = report_of(&mm, |mm| mm.kfree(large.add(PAGE_SIZE)));
        assert!(
            inside.contains("large kmalloc") && inside.contains("131072"),
            "{inside}"
        );
        mm.kfree(large);
        let again = report_of(&mm, |mm| mm.kfree(large));
        assert!(again.contains("double free"), "{again}");
        let page = mm.get_free_pages(GFP_KERNEL, 2).unwrap().as_ptr();
        let as_object = report_of(&mm, |mm| mm.kfree(page));
        assert!(
            as_object.contains("wrong call") && as_object.contains("order 2"),
            "{as_object}"
        );
        let order = report_of(&mm, |mm| mm.free_pages(page, 1));
        assert!(order.contains("order 1"), "{order}");
        let odd = report_of(&mm, |mm| mm.free_pages(page.add(1), 2));
        assert!(odd.contains("interior"), "{odd}");
        mm.free_pages(page, 2);
        let exact = report_of(&mm, |mm| mm.free_pages_exact(page, PAGE_SIZE));
        assert!(exact.contains(here), "{exact}");
        let sensitive = report_of(&mm, |mm| mm.kfree_sensitive(page));
        assert!(sensitive.contains(here), "{sensitive}");
        let twice = report_of(&mm, |mm| mm.free_pages(page, 2));
        assert!(
            twice.contains("double free") && twice.contains("free memory"),
            "{twice}"
        );
        let object = mm.kmalloc(64, GFP_KERNEL).unwrap().as_ptr();
        let as_page = report_of(&mm, |mm| {
            mm.free_frames(mm.virt_to_pfn(object.addr()).unwrap(), 0);
        });
        assert!(
            as_page.contains("wrong call") && as_page.contains("kmalloc-64"),
            "{as_page}"
        );
        mm.kfree(object);
    }
    assert_eq!(mm.pages().misuses(), mm.platform().reports().len());
    mm.verify().unwrap();
}

#[test]
fn a_destroyed_cache_lists_its_live_objects() {
    // S67, S68, S70
    let mm = machine();
    let cache = mm.kmem_cache_create(&CacheArgs::new("inode", 200)).unwrap();
    let live: Vec<_> = (0..3)
        .map(|_| mm.kmem_cache_alloc(cache, GFP_KERNEL).unwrap())
        .collect();
    let result = mm.kmem_cache_destroy(cache);
    assert!(
        matches!(result, Err(CacheError::LiveObjects { count: 3, .. })),
        "{result:?}"
    );
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), 3);
    for object in live {
        let addr = format!("{:#x}", object.addr());
        assert!(
            reports
                .iter()
                .any(|r| r.contains(&addr) && r.contains("inode")),
            "{reports:?}"
        );
    }
    let empty = mm
        .kmem_cache_create(&CacheArgs::new("dentry", 192))
        .unwrap();
    let object = mm.kmem_cache_alloc(empty, GFP_KERNEL).unwrap();
    // SAFETY: freed once.
    unsafe { mm.kmem_cache_free(empty, object.as_ptr()) };
    assert_eq!(mm.kmem_cache_destroy(empty), Ok(()));
    assert_eq!(mm.kmem_cache_destroy(empty), Err(CacheError::Destroyed));
    mm.verify().unwrap();
}

#[test]
#[should_panic(expected = "double free")]
fn the_policy_can_be_to_panic() {
    let mm = machine_with(&BootConfig {
        on_misuse: OnMisuse::Panic,
        ..BootConfig::default()
    });
    let p = mm.kmalloc(8, GFP_KERNEL).unwrap().as_ptr();
    // SAFETY: the second free is refused.
    unsafe {
        mm.kfree(p);
        mm.kfree(p);
    }
}

#[test]
fn the_policy_can_be_a_callback() {
    use core::sync::atomic::{AtomicUsize, Ordering};
    static ADDR: AtomicUsize = AtomicUsize::new(0);
    let mm = machine_with(&BootConfig {
        on_misuse: OnMisuse::Callback(|report| ADDR.store(report.addr, Ordering::Relaxed)),
        ..BootConfig::default()
    });
    // SAFETY: a wild free is refused.
    unsafe { mm.kfree(core::ptr::without_provenance_mut(0x7000)) };
    assert_eq!(ADDR.load(Ordering::Relaxed), 0x7000);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn the_views_show_the_machine_as_it_is() {
    // P610, P612, P613, P620, D13
    let mm = machine();
    let text = |view: View| {
        let mut text = String::new();
        view.write(&mm, &mut text).unwrap();
        text
    };
    let field = |text: &str, name: &str| -> usize {
        let line = text
            .lines()
            .find(|l| l.split_whitespace().next() == Some(name));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    let objects: Vec<_> = (0..1000)
        .map(|_| mm.kmalloc(256, GFP_KERNEL).unwrap())
        .collect();
    let vmstat = text(View::Vmstat);
    assert_eq!(
        field(&vmstat, "nr_free_pages"),
        mm.pages().free_page_count()
    );
    // P618: what was allocated and not freed is in use, in slabs, or in the allocator's own tables.
    let in_use = field(&vmstat, "pgalloc_normal") - field(&vmstat, "pgfree");
    let taken = mm.pages().managed_pages() - mm.pages().free_page_count();
    let cached = mm.pages().cached_page_count();
    assert!(taken - cached - in_use <= 4, "{taken} {cached} {in_use}");
    let meminfo = text(View::Meminfo);
    assert_eq!(field(&meminfo, "MemTotal:"), mm.pages().managed_pages() * 4);
    assert_eq!(
        field(&meminfo, "MemFree:"),
        mm.pages().free_page_count() * 4
    );
    assert!(field(&meminfo, "Slab:") >= 250);
    let buddyinfo = text(View::Buddyinfo);
    assert!(
        buddyinfo.starts_with("Node 0, zone   Normal "),
        "{buddyinfo}"
    );
    let blocks: Vec<usize> = buddyinfo
        .split_whitespace()
        .skip(4)
        .map(|n| n.parse().unwrap())
        .collect();
    assert_eq!(blocks, mm.pages().nr_free_by_order());
    // P623: of the largest order nothing is lacking, and nothing is too small for a single page.
    let unusable = text(View::UnusableIndex);
    let parts: Vec<&str> = unusable.split_whitespace().skip(4).collect();
    let free = mm.pages().free_page_count();
    let too_small = (free - (blocks[10] << 10)) * 1000 / free;
    assert_eq!(
        (parts[0], parts[10]),
        ("0.000", &*std::format!("0.{too_small:03}"))
    );
    assert_eq!(text(View::ExtfragIndex).matches(" -1.000").count(), 11);
    let slabinfo = text(View::Slabinfo);
    let line = slabinfo
        .lines()
        .find(|l| l.starts_with("kmalloc-256 "))
        .unwrap();
    let active: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((1000..1100).contains(&active), "{line}");
    assert!(text(View::Zoneinfo).contains("pages free"));
    assert!(text(View::Pagetypeinfo).contains("Unmovable"));
    assert_eq!(text(View::Vmallocinfo), "");
    for p in objects {
        // SAFETY: each is freed once.
        unsafe { mm.kfree(p.as_ptr()) };
    }
    mm.trim();
    mm.verify().unwrap();
}

#[test]
fn pages_by_their_linux_names() {
    // P56, P340, P346, P347, P350
    let mm = machine();
    // SAFETY: each block is freed once, as it was allocated.
    unsafe {
        let page = mm.get_zeroed_page(GFP_KERNEL).unwrap();
        assert_eq!(page.read(), 0);
        mm.free_pages(page.as_ptr(), 0);
        mm.free_pages(core::ptr::null_mut(), 0);
        assert!(mm.get_free_pages(GFP_KERNEL | Gfp::HIGHMEM, 0).is_ok());
        let exact = mm.alloc_pages_exact(3 * PAGE_SIZE, GFP_KERNEL).unwrap();
        mm.free_pages_exact(exact.as_ptr(), 3 * PAGE_SIZE);
        let block = mm.alloc_pages(GFP_KERNEL, 3).unwrap();
        assert!(!mm.split_page(block, 2) && mm.split_page(block, 3));
        (0..8).for_each(|i| mm.free_frames(block.add(i), 0));
        let compound = mm.alloc_pages(GFP_KERNEL | Gfp::COMP, 3).unwrap();
        assert!(!mm.split_page(compound, 3));
        mm.free_frames(compound, 3);
        assert!(mm.alloc_pages(GFP_KERNEL, 11).is_err());
        let mut bulk = [None::<Pfn>; 20];
        assert_eq!(mm.alloc_pages_bulk(GFP_KERNEL, &mut bulk), 20);
        bulk.iter()
            .flatten()
            .for_each(|pfn| mm.free_frames(*pfn, 0));
    }
    assert_eq!(
        mm.virt_to_pfn(mm.page_address(PhysAddr(4 << 30).pfn()).addr().get()),
        { Some(PhysAddr(4 << 30).pfn()) }
    );
    assert!(mm.platform().reports().is_empty());
    mm.verify().unwrap();
}

/// Two nodes of 32 MiB.
fn two_nodes() -> Mm<TestPlatform> {
    let (start, half) = (4u64 << 30, 32u64 << 20);
    let mut map = [
        region(start, start + half),
        region(start + half, start + 2 * half),
    ];
    map[1].node = NodeId(1);
    let platform = TestPlatform::new(start, 2 * half as usize);
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

#[test]
fn objects_come_from_the_node_that_is_asked_for() {
    // S21
    let mm = two_nodes();
    let cache = mm.kmem_cache_create(&CacheArgs::new("near", 96)).unwrap();
    for node in [NodeId(1), NodeId(0), NodeId(1)] {
        for p in [
            mm.kmalloc_node(200, GFP_KERNEL, node).unwrap(),
            mm.kzalloc_node(200, GFP_KERNEL, node).unwrap(),
            mm.kmem_cache_alloc_node(cache, GFP_KERNEL, node).unwrap(),
        ] {
            let pfn = mm.virt_to_pfn(p.addr().get()).unwrap();
            assert_eq!(mm.pages().node_of(pfn), node);
        }
    }
}

#[test]
fn numa_events_tell_where_requests_were_served() {
    // P615
    let mm = two_nodes();
    let event = |name: &str| -> usize {
        let mut text = String::new();
        View::Vmstat.write(&mm, &mut text).unwrap();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let all = || {
        (
            event("numa_hit "),
            event("numa_local "),
            event("numa_other "),
        )
    };
    let (hit, local, other) = all();
    mm.alloc_pages(GFP_KERNEL, 0).unwrap();
    assert_eq!(all(), (hit + 1, local + 1, other));
    // The CPU is near to node 0: what node 1 serves is a hit all the same.
    mm.alloc_pages_node(NodeId(1), GFP_KERNEL, 0).unwrap();
    assert_eq!(all(), (hit + 2, local + 1, other + 1));
    while mm
        .alloc_pages_node(NodeId(1), GFP_KERNEL | Gfp::THISNODE, 0)
        .is_ok()
    {}
    let (miss, foreign) = (event("numa_miss "), event("numa_foreign "));
    mm.alloc_pages_node(NodeId(1), GFP_KERNEL, 0).unwrap();
    assert_eq!(
        (event("numa_miss "), event("numa_foreign ")),
        (miss + 1, foreign + 1)
    );
}

#[test]
fn zeroing_calls_zero_what_was_dirty() {
    // S19, S20
    let mm = machine();
    let cache = mm.kmem_cache_create(&CacheArgs::new("zeroed", 64)).unwrap();
    // SAFETY: each object is ours between allocation and free.
    unsafe {
        let read = |p: core::ptr::NonNull<u8>| (0..64).map(|i| p.add(i).read()).sum::<u8>();
        let dirty = mm.kmalloc(64, GFP_KERNEL).unwrap();
        dirty.write_bytes(0xff, 64);
        mm.kfree(dirty.as_ptr());
        let clean = mm.kcalloc(8, 8, GFP_KERNEL).unwrap();
        assert_eq!((clean, read(clean)), (dirty, 0));
        assert!(mm.kcalloc(usize::MAX, 2, GFP_KERNEL).is_err());
        let dirty = mm.kmem_cache_alloc(cache, GFP_KERNEL).unwrap();
        dirty.write_bytes(0xff, 64);
        mm.kmem_cache_free(cache, dirty.as_ptr());
        let clean = mm.kmem_cache_zalloc(cache, GFP_KERNEL).unwrap();
        assert_eq!((clean, read(clean)), (dirty, 0));
        let text = mm.kmemdup_nul(b"gfp", GFP_KERNEL).unwrap();
        assert_eq!(core::slice::from_raw_parts(text.as_ptr(), 4), b"gfp\0");
    }
}

#[test]
fn pages_are_taken_back_from_slabs_before_a_request_fails() {
    let mm = machine();
    let all = |mm: &Mm<TestPlatform>| -> Vec<Pfn> {
        core::iter::from_fn(|| mm.alloc_pages(GFP_KERNEL, 0).ok()).collect()
    };
    let before = all(&mm);
    // SAFETY: each page and each object is freed once.
    unsafe {
        before.iter().for_each(|pfn| mm.free_frames(*pfn, 0));
        for size in [64, 256, 1024, 4096] {
            let objects: Vec<_> = (0..2000)
                .map_while(|_| mm.kmalloc(size, GFP_KERNEL).ok())
                .collect();
            objects.iter().for_each(|p| mm.kfree(p.as_ptr()));
        }
    }
    let held = mm.slabs().slab_pages().0;
    let after = all(&mm);
    assert!(
        held > 50,
        "{held} pages in empty slabs: nothing to take back"
    );
    assert!(
        after.len() + 24 >= before.len(),
        "{} of {}",
        after.len(),
        before.len()
    );
}

#[test]
fn a_machine_can_be_moved() {
    let mm = machine();
    let p = mm.kmalloc(32, GFP_KERNEL).unwrap();
    let moved = std::boxed::Box::new(mm);
    let q = moved.kmalloc(32, GFP_KERNEL).unwrap();
    assert_ne!(p, q);
    // SAFETY: each is freed once.
    unsafe {
        moved.kfree(p.as_ptr());
        moved.kfree(q.as_ptr());
    }
    moved.verify().unwrap();
}
