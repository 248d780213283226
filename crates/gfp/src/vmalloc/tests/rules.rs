//! One test for each rule of the interface.

use super::machine::*;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::PageRequest;
use crate::platform::{Mapped, Paging};
use crate::report::{Caller, Misuse, Owner};
use crate::vmalloc::{AreaFlags, AreaRequest};
use std::ptr::NonNull;
use std::vec::Vec;

#[test]
fn an_area_is_whole_pages_aligned_writable_and_in_the_window() {
    // V1, V2
    let vm = machine(16, 256);
    for size in [1, PAGE_SIZE, PAGE_SIZE + 1, 40_000, 200_000] {
        let ptr = vm.vmalloc(size, HERE).unwrap();
        assert!(ptr.addr().get().is_multiple_of(PAGE_SIZE));
        fill(ptr, size, size as u8);
        assert_filled(ptr, size, size as u8);
        vm.check();
        let area = vm.find_vm_area(ptr.addr().get()).unwrap();
        assert_eq!(area.size, (size.div_ceil(PAGE_SIZE) + 1) * PAGE_SIZE);
        assert_eq!(area.requested_size, size);
        vm.free(ptr).unwrap();
        vm.check();
    }
}

#[test]
fn a_guard_page_follows_each_area_and_is_never_mapped() {
    // V2: `check` looks at every guard; neighbours are one page apart.
    let vm = machine(16, 64);
    let a = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap();
    let b = vm.vmalloc(PAGE_SIZE, HERE).unwrap();
    assert_eq!(b.addr().get() - a.addr().get(), 4 * PAGE_SIZE);
    vm.check();
    let guard = a.addr().get() + 3 * PAGE_SIZE;
    assert_eq!(vm.platform().translate(guard), None);
    // An overrun is told with the owner it overran.
    let owner = Owner::Area {
        start: a.addr().get(),
        size: 3 * PAGE_SIZE,
    };
    assert_eq!(vm.describe(guard), Some(owner));
}

#[test]
fn zero_bytes_and_more_than_all_memory_are_refused() {
    // V3
    let vm = machine(16, 64);
    assert_eq!(vm.vmalloc(0, HERE), Err(AllocError::ZeroSize));
    let max = vm.pages().managed_pages() * PAGE_SIZE;
    for size in [max + 1, usize::MAX, usize::MAX - PAGE_SIZE] {
        assert_eq!(vm.vmalloc(size, HERE), Err(AllocError::TooLarge { max }));
    }
    assert_eq!(vm.vmalloc(max, HERE), Err(AllocError::NoAddressSpace));
    vm.check();
}

#[test]
fn zeroed_areas_are_zero_and_the_platform_may_spare_the_work() {
    // V1: vzalloc; the machine fills fresh mappings with garbage unless it answers `Zeroed`.
    let vm = machine(16, 64);
    let plain = vm.vmalloc(5000, HERE).unwrap();
    assert_eq!(bytes(plain, 0..4), [FRESH; 4]);
    for answer in [Mapped::Content, Mapped::Zeroed] {
        *vm.platform().answer.lock().unwrap() = answer;
        for ptr in [
            vm.vzalloc(5000, HERE),
            vm.vzalloc_node(5000, NodeId(0), HERE),
            vm.vmalloc_user(5000, HERE),
            vm.vcalloc(1000, 5, HERE),
            vm.__vmalloc(5000, GFP_KERNEL.with(Gfp::ZERO), HERE),
        ] {
            let ptr = ptr.unwrap();
            assert!(bytes(ptr, 0..2 * PAGE_SIZE).iter().all(|b| *b == 0));
            vm.free(ptr).unwrap();
        }
    }
}

#[test]
fn products_that_overflow_are_refused() {
    // V1, V60
    let vm = machine(16, 64);
    assert_eq!(
        vm.vmalloc_array(usize::MAX / 2, 3, HERE),
        Err(AllocError::Overflow)
    );
    assert_eq!(vm.vcalloc(usize::MAX, 2, HERE), Err(AllocError::Overflow));
    assert_eq!(vm.vcalloc(0, 2, HERE), Err(AllocError::ZeroSize));
    assert!(vm.vmalloc_array(3, 1000, HERE).is_ok());
}

#[test]
fn flags_and_callers_are_kept_and_placement_is_honoured() {
    // V1, V28: node preference, vmalloc_32, vmalloc_user
    let vm = two_nodes(256);
    let four_gib = PhysAddr(4 << 30).pfn();
    let frames = |ptr: NonNull<u8>| -> Vec<Pfn> {
        let at = |i| vm.vmalloc_to_pfn(ptr.addr().get() + i * PAGE_SIZE).unwrap();
        (0..8).map(at).collect()
    };
    let near = vm.vmalloc_node(8 * PAGE_SIZE, NodeId(1), HERE).unwrap();
    assert!(frames(near).iter().all(|f| *f >= four_gib));
    let low = vm.vmalloc_32(8 * PAGE_SIZE, HERE).unwrap();
    assert!(frames(low).iter().all(|f| *f < four_gib));
    let caller = Caller::Address(0x99);
    let user = vm.vmalloc_32_user(8 * PAGE_SIZE, caller).unwrap();
    assert!(frames(user).iter().all(|f| *f < four_gib));
    let area = vm.find_vm_area(user.addr().get()).unwrap();
    assert_eq!(area.flags, AreaFlags::USER);
    assert!(matches!(area.caller, Caller::Address(0x99)));
    assert_eq!(vm.find_vm_area(near.addr().get()).unwrap().node_pages[1], 8);
    assert_eq!(vm.find_vm_area(low.addr().get()).unwrap().node_pages[0], 8);
    vm.check();
}

#[test]
fn bits_that_vmalloc_does_not_take_are_dropped() {
    // V5
    let vm = two_nodes(256);
    let odd = GFP_KERNEL.with(Gfp::MOVABLE).with(Gfp::COMP).with(Gfp::DMA);
    let ptr = vm.__vmalloc(64 * PAGE_SIZE, odd, HERE).unwrap();
    vm.check();
    vm.free(ptr).unwrap();
    vm.check();
}

#[test]
fn large_blocks_are_taken_first_and_mapped_as_runs() {
    // V8
    let vm = machine(32, 4096);
    // Single pages lie ready in this CPU's cache, scattered.
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    let pages: Vec<Pfn> = (0..60)
        .map(|_| vm.pages().alloc(&request).unwrap())
        .collect();
    for pfn in pages.into_iter().step_by(2) {
        // SAFETY: taken above.
        unsafe { vm.pages().free(pfn, Order::ZERO) }.unwrap();
    }
    let ptr = vm.vmalloc(700 * PAGE_SIZE, HERE).unwrap();
    let runs = vm.tables().runs.clone();
    assert!(runs[0].pages >= 512, "{runs:?}");
    assert!(runs.len() <= 8, "512 + 128 + 32 + 16 + 8 + 4: {runs:?}");
    assert_eq!(runs.iter().map(|r| r.pages).sum::<usize>(), 700);
    vm.check();
    vm.free(ptr).unwrap();
    vm.check();
}

#[test]
fn fragmented_memory_is_gathered_page_by_page() {
    // V8: single pages behind large blocks; the point of vmalloc.
    let vm = machine(8, 4096);
    let kept = fragment(&vm, 2);
    let ptr = vm.vmalloc(300 * PAGE_SIZE, HERE).unwrap();
    assert!(vm.tables().runs.len() >= 150);
    fill(ptr, 300 * PAGE_SIZE, 7);
    assert_filled(ptr, 300 * PAGE_SIZE, 7);
    vm.check();
    vm.free(ptr).unwrap();
    drop(kept);
    vm.check();
}

#[test]
fn a_failure_in_the_middle_gives_everything_back() {
    // V8, V11: partial success frees all; addresses too
    let vm = machine(8, 1 << 16);
    let warm = vm.vmalloc(PAGE_SIZE, HERE).unwrap();
    vm.free(warm).unwrap();
    vm.pages().drain_all();
    let before = vm.used_pages();
    let all = vm.pages().managed_pages() * PAGE_SIZE;
    let error = vm.vmalloc(all, HERE).unwrap_err();
    assert!(matches!(error, AllocError::NoMemory { .. }), "{error}");
    vm.check();
    vm.pages().drain_all();
    assert_eq!(
        vm.used_pages(),
        before + vm.vmalloc_counters().table_pages - 1
    );
    // The refusal of a mapping does the same; it may be tried twice, the second time with what the
    // slabs gave back.
    vm.tables().refuse = 2;
    assert!(matches!(
        vm.vmalloc(40_000, HERE),
        Err(AllocError::NoMemory { .. })
    ));
    vm.tables().refuse = 0;
    vm.check();
    assert!(vm.live().is_empty());
    assert!(vm.vmalloc(40_000, HERE).is_ok());
}

#[test]
fn the_array_of_a_large_area_is_an_area_itself() {
    // V9
    let vm = machine(64, 1 << 14);
    vm.vmalloc(PAGE_SIZE, HERE)
        .map(|p| vm.free(p))
        .unwrap()
        .unwrap();
    vm.purge();
    let before = vm.used_pages() - vm.vmalloc_counters().pool_pages;
    let before = before - vm.vmalloc_counters().table_pages;
    let small = vm.vmalloc(1024 * PAGE_SIZE, HERE).unwrap();
    assert_eq!(vm.live().len(), 1);
    let large = vm.vmalloc(1025 * PAGE_SIZE, HERE).unwrap();
    assert_eq!(vm.live().len(), 3);
    let flags = vm.find_vm_area(large.addr().get()).unwrap().flags;
    assert!(flags.contains(AreaFlags::VPAGES));
    vm.check();
    vm.free(large).unwrap();
    vm.free(small).unwrap();
    vm.check();
    vm.check_nothing_leaks(before);
}

#[test]
fn a_wrong_free_is_refused_with_its_reason() {
    // V10
    let vm = machine(16, 256);
    let a = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap();
    // SAFETY: wrong frees are what is tested; nothing is freed by them.
    let free = |ptr: *mut u8| unsafe { vm.vfree(ptr, HERE) };
    assert_eq!(free(std::ptr::null_mut()), Ok(()));
    assert_eq!(free(a.as_ptr().wrapping_add(1)), Err(Misuse::InteriorFree));
    assert_eq!(
        free(a.as_ptr().wrapping_add(PAGE_SIZE)),
        Err(Misuse::InteriorFree)
    );
    let mut outside = 0u64;
    assert_eq!(free((&raw mut outside).cast()), Err(Misuse::WildFree));
    assert_eq!(
        free(a.as_ptr().wrapping_add(100 * PAGE_SIZE)),
        Err(Misuse::WildFree)
    );
    vm.check();
    assert_eq!(free(a.as_ptr()), Ok(()));
    assert_eq!(free(a.as_ptr()), Err(Misuse::DoubleFree));
    vm.check();
    vm.purge();
    assert_eq!(free(a.as_ptr()), Err(Misuse::WildFree));
    vm.check();
}

#[test]
fn addresses_are_looked_up_by_any_byte_inside() {
    // V12
    let vm = machine(16, 256);
    let a = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap().addr().get();
    let (start, size) = vm.platform().vmalloc_range();
    let start = start.addr().get();
    assert!(vm.is_vmalloc_addr(start) && vm.is_vmalloc_addr(start + size - 1));
    assert!(!vm.is_vmalloc_addr(start - 1) && !vm.is_vmalloc_addr(start + size));
    assert!(!vm.is_vmalloc_addr(0) && !vm.is_vmalloc_addr(16));
    for offset in [0, 1, 2 * PAGE_SIZE, 3 * PAGE_SIZE - 1] {
        assert_eq!(
            vm.vmalloc_to_pfn(a + offset),
            vm.platform().translate(a + offset)
        );
        assert_eq!(vm.find_vm_area(a + offset).unwrap().start, a);
    }
    assert_eq!(vm.vmalloc_to_pfn(a + 5 * PAGE_SIZE), None);
    assert!(vm.find_vm_area(a + 5 * PAGE_SIZE).is_none());
    assert_eq!(vm.vmalloc_size(a), Some(3 * PAGE_SIZE));
    assert_eq!(vm.vmalloc_size(a + PAGE_SIZE), None);
    assert_eq!(vm.describe(a + 5 * PAGE_SIZE), Some(Owner::Unmanaged));
    assert_eq!(vm.describe(16), None);
}

#[test]
fn alignment_is_honoured() {
    // V13
    let vm = machine(16, 1024);
    vm.vmalloc(1, HERE).unwrap();
    for align in [1, 64, PAGE_SIZE, 4 * PAGE_SIZE, 64 * PAGE_SIZE] {
        let request = AreaRequest {
            align,
            ..AreaRequest::new(9000, GFP_KERNEL, HERE)
        };
        let ptr = vm.alloc_area(&request).unwrap();
        assert!(
            ptr.addr().get().is_multiple_of(align.max(PAGE_SIZE)),
            "{align}"
        );
        vm.check();
    }
    let request = AreaRequest {
        align: 3,
        ..AreaRequest::new(9000, GFP_KERNEL, HERE)
    };
    assert!(matches!(
        vm.alloc_area(&request),
        Err(AllocError::BadAlign { .. })
    ));
}

#[test]
fn a_hole_of_exactly_one_area_is_reused_after_the_flush_only() {
    // V13, V14, V17: `map` panics if a page is mapped before its flush.
    let vm = machine(16, 256);
    let areas: Vec<_> = (0..8)
        .map(|_| vm.vmalloc(5 * PAGE_SIZE, HERE).unwrap())
        .collect();
    vm.free(areas[3]).unwrap();
    let other = vm.vmalloc(5 * PAGE_SIZE, HERE).unwrap();
    assert!(other > areas[7]);
    assert_eq!(vm.vm_unmap_aliases(), Ok(6));
    assert_eq!(vm.vmalloc(5 * PAGE_SIZE, HERE).unwrap(), areas[3]);
    vm.check();
}

#[test]
fn a_purge_flushes_what_was_freed_and_nothing_else() {
    // V17, W11: ranges that touch are one flush, what lies between is left alone
    let vm = machine(16, 512);
    let areas: Vec<_> = (0..6)
        .map(|_| vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap())
        .collect();
    for i in [1, 4, 2] {
        vm.free(areas[i]).unwrap();
    }
    assert_eq!(vm.vmalloc_counters().lazy_pages, 12);
    assert_eq!(vm.areas().iter().filter(|a| !a.live).count(), 3);
    assert_eq!(vm.purge(), 12);
    let mut flushed = vm.tables().flushed.clone();
    flushed.sort_unstable();
    assert_eq!(flushed, [(4, 8), (16, 4)]);
    assert_eq!(vm.tables().flushes, 1, "both in one request");
    vm.purge();
    assert_eq!(vm.tables().flushes, 1, "nothing waits, nothing is asked");
    assert!(vm.tables().stale.is_empty());
    assert_eq!(vm.vmalloc_counters().lazy_pages, 0);
    assert_eq!(vm.purge(), 0);
}

#[test]
fn the_backlog_is_bounded() {
    // V17: at most an eighth of a small window waits
    let vm = machine(16, 800);
    for _ in 0..200 {
        let ptr = vm.vmalloc(9 * PAGE_SIZE, HERE).unwrap();
        vm.free(ptr).unwrap();
        assert!(vm.vmalloc_counters().lazy_pages <= 100);
    }
    assert!(!vm.tables().flushed.is_empty());
    vm.check();
}

#[test]
fn an_exhausted_window_is_purged_unless_the_caller_may_not_wait() {
    // V4, V18
    let vm = machine(16, 43);
    let areas: Vec<_> = (0..4)
        .map(|_| vm.vmalloc(9 * PAGE_SIZE, HERE).unwrap())
        .collect();
    assert_eq!(
        vm.vmalloc(9 * PAGE_SIZE, HERE),
        Err(AllocError::NoAddressSpace)
    );
    vm.on_context(crate::platform::Context::Atomic); // no purge at the free
    vm.free(areas[0]).unwrap();
    vm.on_context(crate::platform::Context::Task);
    let quick = vm.__vmalloc(9 * PAGE_SIZE, GFP_NOWAIT, HERE);
    assert_eq!(quick, Err(AllocError::NoAddressSpace));
    assert_eq!(vm.vmalloc(9 * PAGE_SIZE, HERE).unwrap(), areas[0]);
    assert!(vm.__vmalloc(PAGE_SIZE, GFP_NOWAIT, HERE).is_ok());
    vm.check();
}

#[test]
fn areas_are_listed_in_the_order_of_addresses() {
    // V28
    let vm = machine(16, 512);
    let mut want: Vec<usize> = (1..20)
        .map(|i| vm.vmalloc(i * 1000, HERE).unwrap().addr().get())
        .collect();
    want.sort_unstable();
    let got: Vec<usize> = vm.areas().iter().map(|a| a.start).collect();
    assert_eq!(got, want);
    // The visitor may allocate and free.
    let mut seen = 0;
    vm.for_each_area(&mut |_| {
        seen += 1;
        if seen < 5 {
            vm.vmalloc(1, HERE).unwrap();
        }
    })
    .unwrap();
    assert!(seen >= 19);
    vm.check();
}

#[test]
fn counters_count() {
    let vm = machine(16, 512);
    assert_eq!(vm.vmalloc_counters(), Default::default());
    let a = vm.vmalloc(10 * PAGE_SIZE, HERE).unwrap();
    let b = vm.vmalloc(5 * PAGE_SIZE, HERE).unwrap();
    vm.free(a).unwrap();
    let c = vm.vmalloc_counters();
    assert_eq!((c.areas, c.pages, c.peak_pages), (1, 5, 15));
    assert_eq!((c.lazy_pages, c.range_pages), (11, 512));
    assert!(c.pool_pages == 1 && c.table_pages == 1);
    vm.free(b).unwrap();
    assert_eq!(vm.vmalloc_counters().areas, 0);
}
