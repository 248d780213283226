//! What caches keep that nobody uses goes back.

use crate::flags::GFP_KERNEL;
use crate::frame::{CpuId, NodeId, Order};
use crate::page::{PageAllocator, PageRequest};
use crate::testing::{TestPlatform, pages};

const O0: Order = Order::ZERO;

/// Allocates one page and frees it.
fn use_cache(machine: &PageAllocator<TestPlatform>) {
    let pfn = machine.alloc(&PageRequest::new(GFP_KERNEL, O0)).unwrap();
    // SAFETY: it is freed once.
    unsafe { machine.free(pfn, O0).unwrap() }
}

#[test]
fn what_nobody_uses_goes_back_when_it_ages() {
    // P328, P713: of the CPU that ages caches, and of others.
    let machine = pages(64);
    for cpu in [0, 1] {
        machine.platform().on(cpu);
        use_cache(&machine);
    }
    let free = machine.free_page_count();
    let cached = || [0, 1].map(|cpu| machine.cached_pages(CpuId(cpu)));
    let [other, own] = cached();
    assert!(own > 0 && other > 0);
    assert_eq!(machine.age_caches(), 0, "all were used just now");
    assert_eq!(cached(), [other, own]);
    use_cache(&machine);
    assert_eq!(
        machine.age_caches_of(NodeId(1)),
        0,
        "nothing of its is cached"
    );
    assert_eq!(
        machine.age_caches_of(NodeId(0)),
        other,
        "CPU 1 has used its own"
    );
    assert_eq!(cached(), [0, own]);
    assert_eq!((machine.age_caches(), cached()), (own, [0, 0]));
    assert_eq!(machine.free_page_count(), free + own + other);
    assert_eq!(machine.age_caches(), 0);
    machine.verify().unwrap();
    use_cache(&machine);
    assert!(machine.cached_pages(CpuId(1)) > 0, "it goes on");
}
