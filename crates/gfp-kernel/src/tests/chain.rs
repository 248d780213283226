//! Memory that is held without other memory.

use crate::memory::mm;
use gfp::AllocError;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::Pfn;

/// For requests that take all there is.
pub(super) const TRY: Gfp = GFP_KERNEL.with(Gfp::NORETRY).with(Gfp::NOWARN);

/// Memory linked through its own first word: nothing else is needed to hold it.
pub(super) struct Chain {
    head: *mut *mut u8,
    /// How many.
    pub(super) len: usize,
}

impl Chain {
    /// An empty chain.
    pub(super) const fn new() -> Chain {
        let head = core::ptr::null_mut();
        Chain { head, len: 0 }
    }

    /// Adds a block.
    pub(super) fn push(&mut self, at: *mut u8) {
        let at = at.cast::<*mut u8>();
        // SAFETY: ours, and a word at least.
        unsafe { at.write(self.head.cast()) }
        self.head = at;
        self.len += 1;
    }

    /// Takes out the block that was added last.
    pub(super) fn pop(&mut self) -> Option<*mut u8> {
        if self.head.is_null() {
            return None;
        }
        let at = self.head;
        // SAFETY: written by `push`.
        self.head = unsafe { at.read() }.cast();
        self.len = self.len.saturating_sub(1);
        Some(at.cast())
    }

    /// All blocks of this order that these flags give, and why there are no more.
    pub(super) fn pages(gfp: Gfp, order: u8) -> (Chain, AllocError) {
        let mut chain = Chain::new();
        loop {
            match mm().get_free_pages(gfp, order) {
                Ok(page) => chain.push(page.as_ptr()),
                Err(error) => return (chain, error),
            }
        }
    }

    /// The same for objects.
    pub(super) fn objects(gfp: Gfp, size: usize) -> (Chain, AllocError) {
        let mut chain = Chain::new();
        loop {
            match mm().kmalloc(size, gfp) {
                Ok(object) => chain.push(object.as_ptr()),
                Err(error) => return (chain, error),
            }
        }
    }

    /// Frees all of them: blocks of pages.
    pub(super) fn free_pages(mut self, order: u8) {
        while let Some(page) = self.pop() {
            // SAFETY: ours, and freed once.
            unsafe { mm().free_pages(page, order) }
        }
    }

    /// Frees all of them: objects.
    pub(super) fn free_objects(mut self) {
        while let Some(object) = self.pop() {
            // SAFETY: ours, and freed once.
            unsafe { mm().kfree(object) }
        }
    }

    /// The block that was added last, with all others linked behind it.
    pub(super) fn into_head(self) -> *mut u8 {
        self.head.cast()
    }

    /// What [`Chain::into_head`] gave; its length is not known.
    pub(super) fn from_head(head: *mut u8) -> Chain {
        let head = head.cast();
        Chain { head, len: 0 }
    }

    /// The first frame of each block, the one that was taken last in front.
    pub(super) fn frames(&self) -> impl Iterator<Item = Pfn> + '_ {
        let mut at = self.head;
        core::iter::from_fn(move || {
            let this = at;
            // SAFETY: written by `push`; the chain is borrowed meanwhile.
            at = unsafe { this.as_ref() }?.cast();
            Some(mm().pages().pfn_of(this.addr()))
        })
    }
}
