//! Containers over kmalloc; those over vmalloc and kvmalloc are in gfp-host's tests.

#[cfg(any(feature = "allocator-api2-02", feature = "allocator-api2-04"))]
mod allocator;
mod boxed;
mod flex;
mod model;
mod vec;

use crate::mm::Mm;
use crate::page::BootConfig;
use crate::testing::{TestPlatform, region};
use std::rc::Rc;
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

fn machine() -> Machine {
    let (start, bytes) = (4u64 << 30, 32 << 20);
    let map = [region(start, start + bytes)];
    let platform = TestPlatform::new(start, bytes as usize);
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// Fails all allocations as long as it is on.
fn fail(mm: &Machine, on: bool) {
    let nested = &mm.platform().nested;
    nested.store(on, std::sync::atomic::Ordering::Relaxed);
}

/// Objects in use in kmalloc's caches.
fn live(mm: &Machine) -> usize {
    let mut live = 0;
    mm.slabs().for_each_cache(&mut |view| {
        if view.name.starts_with("kmalloc-") {
            live += view.active_objs - view.cached;
        }
    });
    live
}

/// Values that count how many of them there are.
#[derive(Clone, Debug, PartialEq)]
struct Counted(u32, Rc<()>);

struct Counter(Rc<()>);

impl Counter {
    fn new() -> Counter {
        Counter(Rc::new(()))
    }

    fn make(&self, number: u32) -> Counted {
        Counted(number, self.0.clone())
    }

    fn alive(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }
}

fn numbers<'v>(values: impl IntoIterator<Item = &'v Counted>) -> Vec<u32> {
    values.into_iter().map(|value| value.0).collect()
}
