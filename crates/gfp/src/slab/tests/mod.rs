//! Tests of the slab caches on a machine that the test plays by hand.

mod caches;
mod cpus;
mod grace;
mod homes;
mod kmalloc;
mod misuse;
mod model;
mod nolock;
mod threads;

use super::Slabs;
use crate::flags::GFP_KERNEL;
use crate::platform::Platform;
use crate::testing::{self, TestPlatform};
use std::string::{String, ToString};
use std::vec::Vec;

pub(super) type Machine = Slabs<TestPlatform>;

pub(super) fn machine(mib: usize) -> Machine {
    let slabs = Slabs::boot(testing::pages(mib)).unwrap();
    slabs.verify().unwrap();
    slabs
}

/// Pages in use: what is neither free in a zone nor in a CPU's page cache.
pub(super) fn pages_in_use<P: Platform>(slabs: &Slabs<P>) -> usize {
    slabs.pages().drain_all();
    slabs.pages().managed_pages() - slabs.pages().free_page_count()
}

/// Checks everything.
pub(super) fn verify<P: Platform>(slabs: &Slabs<P>) {
    slabs.verify().unwrap();
    slabs.pages().verify().unwrap();
}

/// (active, cached, total objects, slabs) of a cache.
pub(super) fn counts<P: Platform>(slabs: &Slabs<P>, name: &str) -> (usize, usize, usize, usize) {
    let mut found = None;
    slabs.for_each_cache(&mut |view| {
        if view.name == name {
            assert!(found.is_none(), "{name} twice");
            found = Some((view.active_objs, view.cached, view.num_objs, view.num_slabs));
        }
    });
    found.unwrap()
}

pub(super) fn names<P: Platform>(slabs: &Slabs<P>) -> Vec<String> {
    let mut names = Vec::new();
    slabs.for_each_cache(&mut |view| names.push(view.name.to_string()));
    names
}

/// Pages in use when nothing lives, once every CPU has its tables.
pub(super) fn baseline(slabs: &Machine) -> usize {
    for cpu in 0..testing::CPUS as u32 {
        slabs.platform().on(cpu);
        let p = slabs.kmalloc(1, GFP_KERNEL, None).unwrap();
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
    }
    slabs.shrink_all();
    pages_in_use(slabs)
}
