//! What the user allocated and has not freed.

use crate::memory::mm;
use alloc::collections::BTreeMap;
use core::fmt;

/// How something was allocated, and so how it is freed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `kmalloc` of so many bytes.
    Kmalloc(usize),
    /// `vmalloc` of so many bytes.
    Vmalloc(usize),
    /// Pages of an order.
    Pages(u8),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Kmalloc(size) => write!(f, "kmalloc of {size} bytes"),
            Kind::Vmalloc(size) => write!(f, "vmalloc of {size} bytes"),
            Kind::Pages(order) => write!(f, "pages of order {order}"),
        }
    }
}

/// What is held, by number.
pub(super) struct Held {
    next: u32,
    by_number: BTreeMap<u32, (Kind, *mut u8)>,
}

impl Held {
    pub(super) fn new() -> Held {
        Held {
            next: 1,
            by_number: BTreeMap::new(),
        }
    }

    /// Keeps something; the answer is its number.
    pub(super) fn keep(&mut self, kind: Kind, at: *mut u8) -> u32 {
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, (kind, at));
        number
    }

    /// Frees one; false if there is none of that number.
    pub(super) fn free(&mut self, number: u32) -> bool {
        let Some((kind, at)) = self.by_number.remove(&number) else {
            return false;
        };
        // SAFETY: [INV-KERNEL-7] it was allocated so, and the table held the only pointer.
        unsafe {
            match kind {
                Kind::Kmalloc(_) => mm().kfree(at),
                Kind::Vmalloc(_) => mm().vfree(at),
                Kind::Pages(order) => mm().free_pages(at, order),
            }
        }
        true
    }

    pub(super) fn numbers(&self) -> alloc::vec::Vec<u32> {
        self.by_number.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Kind, *mut u8)> {
        self.by_number
            .iter()
            .map(|(n, (kind, at))| (*n, *kind, *at))
    }
}
