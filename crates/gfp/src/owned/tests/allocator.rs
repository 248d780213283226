//! A machine as allocator of other crates' containers.

use super::{fail, live, machine};
use crate::flags::GFP_KERNEL;
use crate::owned::{At, Kmalloc};
use crate::testing::TestPlatform;
use core::alloc::Layout;
use core::ptr::NonNull;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// # Safety
/// The bytes are there.
unsafe fn bytes<'a>(memory: NonNull<[u8]>) -> &'a mut [u8] {
    // SAFETY: promised by the caller.
    unsafe { &mut *memory.as_ptr() }
}

macro_rules! versions {
    ($($name:ident: $feature:literal, $crate_name:ident;)*) => {$(
        // S13, S22, S41
        #[cfg(feature = $feature)]
        #[test]
        fn $name() {
            use $crate_name::alloc::Allocator;
            let mm = machine();
            let before = live(&mm);
            let at: At<'_, TestPlatform, Kmalloc> = At::new(&mm, GFP_KERNEL);
            let (small, wide) = (layout(100, 8), layout(300, 1024));
            // SAFETY: each block is used inside of its layout, and given back once.
            unsafe {
                let empty = at.allocate(layout(0, 64)).unwrap();
                assert!(empty.len() == 0 && empty.cast::<u8>().addr().get() % 64 == 0);
                let first = at.grow(empty.cast(), layout(0, 64), layout(64, 64)).unwrap();
                at.deallocate(first.cast(), layout(64, 64));
                let memory = at.allocate_zeroed(small).unwrap();
                assert!(bytes(memory).len() == 100 && bytes(memory).iter().all(|b| *b == 0));
                bytes(memory).fill(7);
                // Another alignment: it moves.
                let memory = at.grow_zeroed(memory.cast(), small, wide).unwrap();
                assert!(memory.cast::<u8>().addr().get() % 1024 == 0);
                let (old, new) = bytes(memory).split_at(100);
                assert!(new.len() == 200 && new.iter().all(|b| *b == 0));
                assert!(old.iter().all(|b| *b == 7));
                fail(&mm, true);
                assert!(at.allocate(small).is_err());
                assert!(at.grow(memory.cast(), wide, layout(9000, 1024)).is_err());
                // In place there is no need of memory.
                let memory = at.shrink(memory.cast(), wide, layout(10, 1024)).unwrap();
                fail(&mm, false);
                assert_eq!(bytes(memory), [7; 10]);
                let copy = at;
                let gone = copy.shrink(memory.cast(), layout(10, 1024), layout(0, 1)).unwrap();
                copy.deallocate(gone.cast(), layout(0, 1));
            }
            assert_eq!(live(&mm), before);
            assert!(mm.platform().reports().is_empty());
        }
    )*};
}
versions! {
    containers_of_version_0_2_can_be_on_a_machine: "allocator-api2-02", allocator_api2_02;
    containers_of_version_0_4_can_be_on_a_machine: "allocator-api2-04", allocator_api2_04;
}
