//! Memory from the heap that reads as zero.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// A block of zeroed memory. Only the pages that are touched cost anything.
#[derive(Debug)]
pub(crate) struct Block {
    whole: *mut u8,
    layout: Layout,
    start: *mut u8,
}

impl Block {
    /// `bytes` from an address that is a multiple of `align`, a power of two.
    pub(crate) fn new(bytes: usize, align: usize) -> Block {
        // With an alignment in the layout the allocator would write zeroes, to every page.
        let layout = Layout::from_size_align(bytes + align, 16).expect("a sensible size");
        // SAFETY: the size is not zero.
        let whole = unsafe { alloc_zeroed(layout) };
        if whole.is_null() {
            handle_alloc_error(layout);
        }
        let start = whole.wrapping_add(whole.align_offset(align));
        Block {
            whole,
            layout,
            start,
        }
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.whole, self.layout) };
    }
}
