//! A machine as Rust's global allocator.

use super::Source;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::mm::Mm;
use crate::platform::Platform;
use crate::typed::Shape;
use core::alloc::{GlobalAlloc, Layout};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// `#[global_allocator]` over a machine that lives for ever: what `alloc`'s own `Box` and `Vec`
/// use. They cannot say how hard to try, so it is said here, once; and a failure ends the program.
///
/// ```no_run
/// use gfp::Mm;
/// use gfp::owned::{Heap, Kmalloc};
/// use gfp::platform::SingleCore;
/// use std::sync::OnceLock;
///
/// static MM: OnceLock<Mm<SingleCore>> = OnceLock::new();
/// #[global_allocator]
/// static HEAP: Heap<SingleCore, Kmalloc> = Heap::new(|| MM.get());
/// ```
pub struct Heap<P: Platform + 'static, K: Source<P>> {
    machine: fn() -> Option<&'static Mm<P>>,
    gfp: Gfp,
    source: PhantomData<fn() -> K>,
}

impl<P: Platform, K: Source<P>> Heap<P, K> {
    /// Over the machine that `machine` finds; as long as it finds none there is no memory. Requests
    /// are made with `GFP_KERNEL`, so who must not sleep must not use it.
    ///
    /// `machine` must not allocate, must not panic, and must not find another one later.
    pub const fn new(machine: fn() -> Option<&'static Mm<P>>) -> Heap<P, K> {
        Heap::with_gfp(machine, GFP_KERNEL)
    }

    /// [`Heap::new`] with another flag word.
    pub const fn with_gfp(machine: fn() -> Option<&'static Mm<P>>, gfp: Gfp) -> Heap<P, K> {
        Heap {
            machine,
            gfp: gfp.without(Gfp::ZERO),
            source: PhantomData,
        }
    }

    fn get(&self, layout: Layout, gfp: Gfp) -> *mut u8 {
        let shape = Shape {
            size: layout.size(),
            align: layout.align(),
        };
        (self.machine)()
            .and_then(|mm| K::alloc(mm, shape, gfp).ok())
            .map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

// SAFETY: [INV-OWNED-2] a source's memory has the shape asked for and is nobody else's, until it is
// freed; the machine lives for ever.
unsafe impl<P: Platform, K: Source<P>> GlobalAlloc for Heap<P, K> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.get(layout, self.gfp)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.get(layout, self.gfp.with(Gfp::ZERO))
    }

    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        if let (Some(mm), Some(at)) = ((self.machine)(), NonNull::new(ptr)) {
            // SAFETY: promised by the caller: from this heap, and not used any more.
            unsafe { K::free(mm, at) }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let align = layout.align();
        // A layout's size fits with its padding.
        let size = new_size.checked_next_multiple_of(align);
        let (Some(mm), Some(at), Some(size)) = ((self.machine)(), NonNull::new(ptr), size) else {
            return ptr::null_mut();
        };
        // SAFETY: promised by the caller; the memory has this alignment.
        match unsafe { K::resize(mm, at, size, align, self.gfp) } {
            Ok(new) => new.as_ptr(),
            Err(_) => ptr::null_mut(),
        }
    }
}
