//! What tests do with a machine again and again.

use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{Order, Pfn};
use crate::page::{PageAllocator, PageRequest};
use crate::report::Misuse;
use crate::testing::TestPlatform;
use std::vec::Vec;

/// The machine of a test.
pub(super) type Machine = PageAllocator<TestPlatform>;

/// An order that exists.
pub(super) fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

/// Asks for a block.
pub(super) fn try_get(machine: &Machine, gfp: Gfp, o: u8) -> Result<Pfn, AllocError> {
    machine.alloc(&PageRequest::new(gfp, order(o)))
}

/// A block that is there.
pub(super) fn get(machine: &Machine, gfp: Gfp, o: u8) -> Pfn {
    try_get(machine, gfp, o).unwrap()
}

/// Frees a block, or what the allocator is to refuse.
pub(super) fn try_put(machine: &Machine, pfn: Pfn, o: u8) -> Result<(), Misuse> {
    // SAFETY: tests free what they own, or a block that the allocator refuses.
    unsafe { machine.free(pfn, order(o)) }
}

/// Frees a block.
pub(super) fn put(machine: &Machine, pfn: Pfn, o: u8) {
    try_put(machine, pfn, o).unwrap();
}

/// Takes single pages until a request fails; returns them.
pub(super) fn exhaust(machine: &Machine, gfp: Gfp) -> Vec<Pfn> {
    core::iter::from_fn(|| try_get(machine, gfp | Gfp::NOWARN, 0).ok()).collect()
}
