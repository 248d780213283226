//! Allocation by type over physically and virtually contiguous memory.
#![cfg(not(loom))]

use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::page::BootConfig;
use gfp::typed::flex_items;
use gfp::{AllocError, Mm};
use gfp_host::{HostConfig, HostPlatform};
use std::ptr::NonNull;

fn machine() -> Mm<HostPlatform> {
    let platform = HostPlatform::new(&HostConfig::new(32 << 20)).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

#[repr(align(65536))]
struct Aligned(#[allow(dead_code)] [u8; 9 << 20]);

struct Header {
    len: u32,
}
gfp::flexible!(Header, len: u32, [Page]);

#[repr(align(4096))]
struct Page(#[allow(dead_code)] [u8; 4096]);

/// Clears or checks that all of it is there, and frees it.
fn give_back(mm: &Mm<HostPlatform>, p: NonNull<u8>, bytes: usize, gfp: Gfp) {
    assert!(mm.kvsize(p.as_ptr()).unwrap() >= bytes);
    // SAFETY: as many bytes are ours; initialised if they were to be zero; freed once.
    unsafe {
        if gfp.contains(Gfp::ZERO) {
            let all = std::slice::from_raw_parts(p.as_ptr(), bytes);
            assert!(all.iter().all(|byte| *byte == 0));
        }
        p.write_bytes(0xA5, bytes);
        mm.kvfree(p.as_ptr());
    }
}

// S40, V30, V32
#[test]
fn the_kv_calls_align_and_zero_on_both_legs() {
    let mm = machine();
    for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::ZERO] {
        let small = mm.kvmalloc_obj::<[u64; 5]>(gfp).unwrap();
        assert!(!mm.is_vmalloc_addr(small.addr().get()));
        give_back(&mm, small.cast(), 40, gfp);
        // Above 4 MiB only the second leg is left.
        let large = mm.kvmalloc_obj::<Aligned>(gfp).unwrap();
        assert!(mm.is_vmalloc_addr(large.addr().get()) && large.is_aligned());
        give_back(&mm, large.cast(), size_of::<Aligned>(), gfp);
        let many = mm.kvmalloc_objs::<Page>(3000, gfp).unwrap();
        let first = many.cast::<Page>();
        assert!(many.len() == 3000 && first.is_aligned());
        give_back(&mm, first.cast(), 3000 * PAGE_SIZE, gfp);
        let flex = mm.kvmalloc_flex::<Header>(1500, gfp).unwrap();
        // SAFETY: header and elements are ours, the counter is initialised.
        unsafe {
            assert!(flex.is_aligned() && flex_items(flex).is_aligned());
            assert_eq!((&raw const (*flex.as_ptr()).len).read(), 1500);
            (&raw mut (*flex.as_ptr()).len).write(0);
        }
        give_back(&mm, flex.cast(), 1501 * PAGE_SIZE, gfp);
    }
    mm.verify().unwrap();
}

// S40, S41
#[test]
fn the_kv_calls_refuse_what_overflows_or_cannot_be_aligned() {
    #[repr(align(8388608))]
    struct Huge;
    let mm = machine();
    let overflow = |e| assert_eq!(e, AllocError::Overflow);
    overflow(mm.kvmalloc_objs::<u64>(1 << 61, GFP_KERNEL).unwrap_err());
    overflow(mm.kvzalloc_objs::<u64>(1 << 61, GFP_KERNEL).unwrap_err());
    overflow(mm.kvmalloc_flex::<Header>(1 << 32, GFP_KERNEL).unwrap_err());
    overflow(mm.kvzalloc_flex::<Header>(1 << 32, GFP_KERNEL).unwrap_err());
    let max = 4 << 20;
    let refused = mm.kvmalloc_obj::<Huge>(GFP_KERNEL).unwrap_err();
    assert_eq!(refused, AllocError::BadAlign { max });
    let zeroed = mm.kvzalloc_obj::<Huge>(GFP_KERNEL).unwrap_err();
    assert_eq!(zeroed, AllocError::BadAlign { max });
}
