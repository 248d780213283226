//! Containers over virtually contiguous memory, and from several threads.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::context::{Atomic, Class, Kernel};
use gfp::flags::GFP_KERNEL;
use gfp::frame::PAGE_SIZE;
use gfp::owned::{Box, KVBox, KVFlex, KVVec, KVec, Source, VBox, VVec, Vec};
use gfp::page::BootConfig;
use gfp_host::{HostConfig, HostPlatform};
use std::rc::Rc;

fn machine() -> Mm<HostPlatform> {
    let platform = HostPlatform::new(&HostConfig::new(32 << 20)).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

#[repr(align(16384))]
#[derive(Clone)]
struct Wide(u8);

/// Grows, shrinks and gives away a vector; true if its memory was an area at the end.
fn exercise<K: Source<HostPlatform>>(mm: &Mm<HostPlatform>, up_to: usize) -> bool
where
    gfp::flags::Gfp: gfp::owned::Permit<K>,
{
    let mut vec: Vec<'_, u64, _, K> = Vec::new(mm);
    for i in 0..up_to as u64 {
        vec.push(i, GFP_KERNEL).unwrap();
    }
    assert!(vec.iter().copied().eq(0..up_to as u64));
    vec.retain(|i| *i % 3 == 0);
    let kept = up_to.div_ceil(3);
    vec.shrink_to(0, GFP_KERNEL).unwrap();
    assert_eq!(vec.len(), kept);
    let area = mm.is_vmalloc_addr(vec.as_ptr().addr());
    assert!(mm.kvsize(vec.as_ptr().cast()).unwrap() >= kept * 8);
    let boxed = vec.into_boxed_slice();
    let vec = boxed.into_vec().try_clone(GFP_KERNEL).unwrap();
    assert!(vec.into_iter().eq((0..up_to as u64).step_by(3)));
    area
}

// V1, V11, V29, V33
#[test]
fn vectors_grow_and_shrink_on_every_source() {
    let mm = machine();
    for up_to in [1, 600, 5000, 100_000] {
        assert!(!exercise::<gfp::owned::Kmalloc>(&mm, up_to));
        assert!(exercise::<gfp::owned::Vmalloc>(&mm, up_to));
        exercise::<gfp::owned::KVmalloc>(&mm, up_to);
    }
    // More than 4 MiB: only in an area.
    assert!(exercise::<gfp::owned::KVmalloc>(&mm, 1_000_000));
    assert_eq!(mm.vmalloc_space().vmalloc_counters().areas, 0);
    mm.verify().unwrap();
}

// V11: what kmalloc keeps, an area gives back.
#[test]
fn a_shrunken_area_gives_pages_back() {
    let mm = machine();
    let mut vec = VVec::from_elem(&mm, 1u8, 100 * PAGE_SIZE, GFP_KERNEL).unwrap();
    let pages = |vec: &VVec<'_, u8, _>| mm.kvsize(vec.as_ptr()).unwrap() / PAGE_SIZE;
    assert_eq!(pages(&vec), 100);
    vec.truncate(5000);
    vec.shrink_to(0, GFP_KERNEL).unwrap();
    assert_eq!((pages(&vec), vec.capacity()), (2, 2 * PAGE_SIZE));
    assert!(vec.iter().all(|byte| *byte == 1));
}

// V32, S41
#[test]
fn alignments_above_a_page_are_kept_while_a_vector_grows() {
    let mm = machine();
    let mut v = VVec::new(&mm);
    let mut kv = KVVec::new(&mm);
    let mut k = KVec::new(&mm);
    for i in 0..40 {
        v.push(Wide(i), GFP_KERNEL).unwrap();
        kv.push(Wide(i), GFP_KERNEL).unwrap();
        k.push(Wide(i), GFP_KERNEL).unwrap();
        assert!(v.as_ptr().is_aligned() && kv.as_ptr().is_aligned() && k.as_ptr().is_aligned());
    }
    assert!((0..40).all(|i| v[i].0 == i as u8 && kv[i].0 == i as u8 && k[i].0 == i as u8));
    let one: VBox<'_, _, _> = Box::new(&mm, Wide(1), GFP_KERNEL).unwrap();
    let both: KVBox<'_, _, _> = Box::new(&mm, Wide(2), GFP_KERNEL).unwrap();
    assert!((&raw const *one).is_aligned() && (&raw const *both).is_aligned());
}

struct Log {
    lines: u32,
}
gfp::flexible!(Log, lines: u32, [Rc<u32>]);

// S40
#[test]
fn the_calls_of_a_context_give_boxes() {
    let mm = machine();
    let mut task = mm.in_task().unwrap();
    let with = mm.with(&task);
    let small = with.kvmalloc_obj(7u32, Kernel).unwrap();
    assert!(*small == 7 && !mm.is_vmalloc_addr((&raw const *small).addr()));
    let zeroes = with.kvzalloc_obj::<[u64; 700_000], _>(Kernel.retry_mayfail());
    let zeroes = zeroes.unwrap();
    assert!(mm.is_vmalloc_addr(zeroes.as_ptr().addr()));
    assert!(zeroes.iter().all(|n| *n == 0));
    let many = with.kvzalloc_objs::<u16, _>(3_000_000, Kernel).unwrap();
    assert!(many.len() == 3_000_000 && many.iter().all(|n| *n == 0));
    let places = with.kvmalloc_objs::<u8, _>(100, Kernel).unwrap();
    assert_eq!(places.len(), 100);
    let shared = Rc::new(3);
    let line = |_| shared.clone();
    let log: KVFlex<'_, Log, _> = with
        .kvmalloc_flex(Log { lines: 0 }, 1000, line, Kernel)
        .unwrap();
    assert_eq!((log.lines, Rc::strong_count(&shared)), (1000, 1001));
    drop(log);
    assert_eq!(Rc::strong_count(&shared), 1);
    let log = with
        .kmalloc_flex(Log { lines: 0 }, 2, line, Kernel.quiet())
        .unwrap();
    assert_eq!(log.items().len(), 2);
    let more = with.kmalloc_objs::<u64, _>(5, Kernel).unwrap();
    let none = with.kzalloc_objs::<u64, _>(5, Kernel).unwrap();
    let one = with.kzalloc_obj::<u64, _>(Kernel).unwrap();
    assert!(more.len() == 5 && *none == [0; 5] && *one == 0);
    // A context that must not sleep may still use containers.
    let mut vec: KVVec<'_, u32, _> = Vec::new(&mm);
    task.without_sleep(|atomic| {
        vec.push(1, atomic).unwrap();
        vec.push(2, (atomic, Atomic.quiet())).unwrap();
    });
    vec.push(3, &task).unwrap();
    assert_eq!(vec[..], [1, 2, 3]);
}

#[test]
fn containers_go_from_thread_to_thread() {
    let mm = machine();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (send, mm) = (send.clone(), &mm);
            scope.spawn(move || {
                for i in 0..200 {
                    let mut vec: KVVec<'_, u32, _> = Vec::new(mm);
                    vec.resize(i * 10, thread, GFP_KERNEL).unwrap();
                    let boxed: KVBox<'_, [u32], _> = vec.into_boxed_slice();
                    send.send((thread, i, boxed)).unwrap();
                }
            });
        }
        drop(send);
        for (thread, i, boxed) in receive {
            assert!(boxed.len() == i * 10 && boxed.iter().all(|n| *n == thread));
        }
    });
    mm.verify().unwrap();
}
