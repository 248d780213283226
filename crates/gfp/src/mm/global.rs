//! The free functions with Linux's names, over one instance.

/// Makes the functions with Linux's names and shapes over one machine: pointers, null for failure.
///
/// The argument is an expression that gives a `&'static Mm<P>` (or any reference to one), looked up
/// at each call. Misuse is reported with the place of the caller.
///
/// ```
/// # use gfp::{flags::GFP_KERNEL, frame::*, page::*, platform::*, Mm};
/// mod mm {
///     use gfp::{Mm, platform::SingleCore};
///     use std::sync::OnceLock;
///
///     pub static MM: OnceLock<Mm<SingleCore>> = OnceLock::new();
///     gfp::global!(MM.get().expect("booted"), paging: none);
/// }
///
/// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20).unwrap();
/// # let ram = unsafe { std::alloc::alloc(layout) };
/// # let end = PhysAddr(16 << 20);
/// # let (start, node, kind) = (PhysAddr(0), NodeId(0), RegionKind::Usable);
/// # let map = [MemoryRegion { start, end, node, kind }];
/// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
/// # let machine = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
/// assert!(mm::MM.set(machine).is_ok());
/// unsafe {
///     let p = mm::kzalloc(100, GFP_KERNEL);
///     assert!(!p.is_null() && *p == 0);
///     mm::kfree(p);
/// }
/// ```
///
/// With `paging: yes` (a platform that is [`Paging`](crate::Paging)) the vmalloc and kvmalloc
/// families are made as well.
#[macro_export]
macro_rules! global {
    ($mm:expr, paging: none) => {
        $crate::__global_fns! { $mm;
            /// See [`Mm::kmalloc`](gfp::Mm::kmalloc).
            fn kmalloc(size: usize, gfp: Gfp) -> *mut u8 = kmalloc;
            /// See [`Mm::kzalloc`](gfp::Mm::kzalloc).
            fn kzalloc(size: usize, gfp: Gfp) -> *mut u8 = kzalloc;
            /// See [`Mm::kmalloc_array`](gfp::Mm::kmalloc_array).
            fn kmalloc_array(n: usize, size: usize, gfp: Gfp) -> *mut u8 = kmalloc_array;
            /// See [`Mm::kcalloc`](gfp::Mm::kcalloc).
            fn kcalloc(n: usize, size: usize, gfp: Gfp) -> *mut u8 = kcalloc;
            /// See [`Mm::get_free_pages`](gfp::Mm::get_free_pages).
            fn __get_free_pages(gfp: Gfp, order: u8) -> *mut u8 = get_free_pages;
            /// See [`Mm::get_zeroed_page`](gfp::Mm::get_zeroed_page).
            fn get_zeroed_page(gfp: Gfp) -> *mut u8 = get_zeroed_page;
            /// See [`Mm::alloc_pages_exact`](gfp::Mm::alloc_pages_exact).
            fn alloc_pages_exact(size: usize, gfp: Gfp) -> *mut u8 = alloc_pages_exact;
        }
        $crate::__global_unsafe_fns! { $mm;
            /// See [`Mm::krealloc`](gfp::Mm::krealloc).
            fn krealloc(p: *mut u8, size: usize, gfp: Gfp) -> *mut u8 = krealloc;
        }
        $crate::__global_frees! { $mm;
            /// See [`Mm::kfree`](gfp::Mm::kfree).
            fn kfree(p: *mut u8) = kfree;
            /// See [`Mm::kfree_sensitive`](gfp::Mm::kfree_sensitive).
            fn kfree_sensitive(p: *mut u8) = kfree_sensitive;
            /// See [`Mm::kfree_nolock`](gfp::Mm::kfree_nolock).
            fn kfree_nolock(p: *mut u8) = kfree_nolock;
            /// See [`Mm::free_pages`](gfp::Mm::free_pages).
            fn free_pages(p: *mut u8, order: u8) = free_pages;
            /// See [`Mm::free_pages_exact`](gfp::Mm::free_pages_exact).
            fn free_pages_exact(p: *mut u8, size: usize) = free_pages_exact;
        }
        $crate::__global_dma! { $mm }
        $crate::__global_nolock! { $mm }
        $crate::__global_scopes! { $mm;
            NOIO memalloc_noio_save memalloc_noio_restore scope_noio;
            NOFS memalloc_nofs_save memalloc_nofs_restore scope_nofs;
            NORECLAIM memalloc_noreclaim_save memalloc_noreclaim_restore scope_noreclaim;
            PIN memalloc_pin_save memalloc_pin_restore scope_pin;
        }
    };
    ($mm:expr, paging: yes) => {
        $crate::global!($mm, paging: none);
        $crate::__global_fns! { $mm;
            /// See [`Mm::vmalloc`](gfp::Mm::vmalloc).
            fn vmalloc(size: usize) -> *mut u8 = vmalloc;
            /// See [`Mm::vzalloc`](gfp::Mm::vzalloc).
            fn vzalloc(size: usize) -> *mut u8 = vzalloc;
            /// See [`Mm::vmalloc_gfp`](gfp::Mm::vmalloc_gfp).
            fn __vmalloc(size: usize, gfp: Gfp) -> *mut u8 = vmalloc_gfp;
            /// See [`Mm::kvmalloc`](gfp::Mm::kvmalloc).
            fn kvmalloc(size: usize, gfp: Gfp) -> *mut u8 = kvmalloc;
            /// See [`Mm::kvzalloc`](gfp::Mm::kvzalloc).
            fn kvzalloc(size: usize, gfp: Gfp) -> *mut u8 = kvzalloc;
        }
        $crate::__global_frees! { $mm;
            /// See [`Mm::vfree`](gfp::Mm::vfree).
            fn vfree(p: *mut u8) = vfree;
            /// See [`Mm::kvfree`](gfp::Mm::kvfree).
            fn kvfree(p: *mut u8) = kvfree;
        }
    };
}

/// Part of [`global!`](crate::global): allocations.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_fns {
    ($mm:expr; $($(#[$doc:meta])*
        fn $name:ident($($arg:ident: $ty:ident),*) -> *mut u8 = $method:ident;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        #[allow(dead_code)]
        pub fn $name($($arg: $crate::__global_type!($ty)),*) -> *mut u8 {
            match $mm.$method($($arg),*) {
                ::core::result::Result::Ok(p) => p.as_ptr(),
                ::core::result::Result::Err(_) => ::core::ptr::null_mut(),
            }
        }
    )*};
}

/// Part of [`global!`](crate::global): what takes a pointer and gives one.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_unsafe_fns {
    ($mm:expr; $($(#[$doc:meta])*
        fn $name:ident($p:ident: *mut u8, $($arg:ident: $ty:ident),*) -> *mut u8
            = $method:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As said there.
        #[track_caller]
        #[allow(dead_code)]
        pub unsafe fn $name($p: *mut u8, $($arg: $crate::__global_type!($ty)),*) -> *mut u8 {
            // SAFETY: promised by the caller.
            match unsafe { $mm.$method($p, $($arg),*) } {
                ::core::result::Result::Ok(p) => p.as_ptr(),
                ::core::result::Result::Err(_) => ::core::ptr::null_mut(),
            }
        }
    )*};
}

/// Part of [`global!`](crate::global): frees.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_frees {
    ($mm:expr; $($(#[$doc:meta])*
        fn $name:ident($p:ident: *mut u8 $(, $arg:ident: $ty:ident)*) = $method:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As said there.
        #[track_caller]
        #[allow(dead_code)]
        pub unsafe fn $name($p: *mut u8 $(, $arg: $crate::__global_type!($ty))*) {
            // SAFETY: promised by the caller.
            unsafe { $mm.$method($p $(, $arg)*) }
        }
    )*};
}

/// Part of [`global!`](crate::global): calls that wait for nobody. A node of -1 is any.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_nolock {
    ($mm:expr) => {
        /// See [`Mm::kmalloc_nolock`](gfp::Mm::kmalloc_nolock).
        #[allow(dead_code)]
        pub fn kmalloc_nolock(size: usize, gfp: $crate::flags::Gfp, node: i32) -> *mut u8 {
            let node = u8::try_from(node).ok().map($crate::frame::NodeId);
            match $mm.kmalloc_nolock(size, gfp, node) {
                ::core::option::Option::Some(p) => p.as_ptr(),
                ::core::option::Option::None => ::core::ptr::null_mut(),
            }
        }

        /// See [`Mm::alloc_pages_nolock`](gfp::Mm::alloc_pages_nolock).
        #[allow(dead_code)]
        pub fn alloc_pages_nolock(
            gfp: $crate::flags::Gfp,
            nid: i32,
            order: u8,
        ) -> ::core::option::Option<$crate::frame::Pfn> {
            $mm.alloc_pages_nolock(
                gfp,
                u8::try_from(nid).ok().map($crate::frame::NodeId),
                order,
            )
        }

        /// See [`Mm::free_pages_nolock`](gfp::Mm::free_pages_nolock).
        ///
        /// # Safety
        /// As said there.
        #[track_caller]
        #[allow(dead_code)]
        pub unsafe fn free_pages_nolock(pfn: $crate::frame::Pfn, order: u8) {
            // SAFETY: promised by the caller.
            unsafe { $mm.free_pages_nolock(pfn, order) }
        }
    };
}

/// Part of [`global!`](crate::global): memory for devices.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_dma {
    ($mm:expr) => {
        /// See [`Mm::might_alloc`](gfp::Mm::might_alloc).
        #[track_caller]
        #[allow(dead_code)]
        pub fn might_alloc(gfp: $crate::flags::Gfp) {
            $mm.might_alloc(gfp)
        }

        /// See [`Mm::dma_alloc_coherent`](gfp::Mm::dma_alloc_coherent). The device address is
        /// written to `dma_handle`, on failure nothing is.
        #[track_caller]
        #[allow(dead_code)]
        pub fn dma_alloc_coherent(
            dev: &$crate::pool::dma::DmaDevice,
            size: usize,
            dma_handle: &mut $crate::pool::dma::DmaAddr,
            gfp: $crate::flags::Gfp,
        ) -> *mut u8 {
            match $mm.dma_alloc_coherent(dev, size, gfp) {
                ::core::result::Result::Ok((p, dma)) => {
                    *dma_handle = dma;
                    p.as_ptr()
                }
                ::core::result::Result::Err(_) => ::core::ptr::null_mut(),
            }
        }

        /// See [`Mm::dma_free_coherent`](gfp::Mm::dma_free_coherent).
        ///
        /// # Safety
        /// As said there.
        #[track_caller]
        #[allow(dead_code)]
        pub unsafe fn dma_free_coherent(
            dev: &$crate::pool::dma::DmaDevice,
            size: usize,
            cpu_addr: *mut u8,
            dma_handle: $crate::pool::dma::DmaAddr,
        ) {
            // SAFETY: promised by the caller.
            unsafe { $mm.dma_free_coherent(dev, size, cpu_addr, dma_handle) }
        }
    };
}

/// Part of [`global!`](crate::global): scopes of the running task.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_scopes {
    ($mm:expr; $($scope:ident $save:ident $restore:ident $guard:ident;)*) => {$(
        #[doc = concat!("Opens the scope of [`Mm::", stringify!($guard), "`](gfp::Mm::",
            stringify!($guard), ") until the answer is given to [`", stringify!($restore), "`].")]
        ///
        /// # Panics
        /// On a platform that keeps no word for its tasks.
        #[allow(dead_code)]
        #[must_use = "the scope stays open until this is restored"]
        pub fn $save() -> u32 {
            $mm.memalloc_save($crate::policy::effort::Scopes::$scope)
        }

        #[doc = concat!("Closes what the matching [`", stringify!($save), "`] opened.")]
        #[allow(dead_code)]
        pub fn $restore(flags: u32) {
            $mm.memalloc_restore($crate::policy::effort::Scopes::$scope, flags)
        }
    )*};
}

/// Part of [`global!`](crate::global): the types of arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __global_type {
    (Gfp) => {
        $crate::flags::Gfp
    };
    (usize) => {
        usize
    };
    (u8) => {
        u8
    };
}
