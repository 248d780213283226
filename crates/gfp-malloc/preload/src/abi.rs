//! The C library's allocation functions.
//!
//! Where a report may follow (a bad pointer) or an area keeps its maker, the exported name is two
//! instructions: the return address becomes the last argument, and the function with `_from` in its
//! name goes on.

use crate::{MALLOC, set_errno};
use core::ffi::{c_int, c_void};
use core::ptr;
use libc::{EINVAL, ENOMEM};

const PAGE: usize = gfp::frame::PAGE_SIZE;

/// Exports `$name`, which passes its arguments and its return address, as argument register
/// `$caller`, on to `$to`.
macro_rules! with_caller {
    (
        $(#[$doc:meta])*
        $name:ident => $to:ident, $caller:literal, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?
    ) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            core::arch::naked_asm!(
                concat!("mov ", $caller, ", [rsp]"),
                "jmp {to}",
                to = sym $to,
            )
        }

        $(#[$doc])*
        #[cfg(not(target_arch = "x86_64"))]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller's promise.
            unsafe { $to($($arg,)* 0) }
        }
    };
}
pub(crate) use with_caller;

#[inline(always)]
fn or_enomem(memory: *mut u8) -> *mut c_void {
    if memory.is_null() {
        set_errno(ENOMEM);
    }
    memory.cast()
}

pub(crate) extern "C" fn malloc_from(size: usize, caller: usize) -> *mut c_void {
    or_enomem(MALLOC.malloc(size, caller))
}

pub(crate) extern "C" fn calloc_from(count: usize, size: usize, caller: usize) -> *mut c_void {
    or_enomem(MALLOC.calloc(count, size, caller))
}

/// # Safety
/// As `free`.
pub(crate) unsafe extern "C" fn free_from(ptr: *mut c_void, caller: usize) {
    // SAFETY: the caller's promise.
    unsafe { MALLOC.free(ptr.cast(), caller) }
}

/// # Safety
/// As `realloc`.
pub(crate) unsafe extern "C" fn realloc_from(
    ptr: *mut c_void,
    size: usize,
    caller: usize,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    let new = unsafe { MALLOC.realloc(ptr.cast(), size, caller) };
    if new.is_null() && (size != 0 || ptr.is_null()) {
        set_errno(ENOMEM);
    }
    new.cast()
}

/// # Safety
/// As `reallocarray`.
pub(crate) unsafe extern "C" fn reallocarray_from(
    ptr: *mut c_void,
    count: usize,
    size: usize,
    caller: usize,
) -> *mut c_void {
    // usize::MAX fails, is counted, and leaves the old memory alone.
    let bytes = count.saturating_mul(size);
    // SAFETY: the caller's promise.
    unsafe { realloc_from(ptr, bytes, caller) }
}

/// As glibc: an alignment that is no power of two is rounded up to one.
pub(crate) extern "C" fn memalign_from(align: usize, size: usize, caller: usize) -> *mut c_void {
    match align.max(1).checked_next_power_of_two() {
        Some(align) => or_enomem(MALLOC.memalign(align, size, caller)),
        None => {
            set_errno(EINVAL);
            ptr::null_mut()
        }
    }
}

pub(crate) extern "C" fn aligned_alloc_from(
    align: usize,
    size: usize,
    caller: usize,
) -> *mut c_void {
    if !align.is_power_of_two() {
        set_errno(EINVAL);
        return ptr::null_mut();
    }
    or_enomem(MALLOC.memalign(align, size, caller))
}

pub(crate) unsafe extern "C" fn posix_memalign_from(
    out: *mut *mut c_void,
    align: usize,
    size: usize,
    caller: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*const c_void>()) {
        return EINVAL;
    }
    let memory = MALLOC.memalign(align, size, caller);
    if memory.is_null() {
        return ENOMEM;
    }
    // SAFETY: `out` is a place for a pointer (the caller's promise).
    unsafe { *out = memory.cast() };
    0
}

pub(crate) extern "C" fn valloc_from(size: usize, caller: usize) -> *mut c_void {
    or_enomem(MALLOC.memalign(PAGE, size, caller))
}

pub(crate) extern "C" fn pvalloc_from(size: usize, caller: usize) -> *mut c_void {
    // usize::MAX fails, and is counted.
    let bytes = size.max(1).checked_next_multiple_of(PAGE);
    or_enomem(MALLOC.memalign(PAGE, bytes.unwrap_or(usize::MAX), caller))
}

with_caller! {
    /// `malloc(3)`.
    ///
    /// # Safety
    /// None is asked.
    malloc => malloc_from, "rsi", (size: usize) -> *mut c_void
}
with_caller! {
    /// `calloc(3)`.
    ///
    /// # Safety
    /// None is asked.
    calloc => calloc_from, "rdx", (count: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// `free(3)`. Memory that is not ours, or free already, is reported and left alone.
    ///
    /// # Safety
    /// Nobody uses the memory any more.
    free => free_from, "rsi", (ptr: *mut c_void)
}
with_caller! {
    /// `realloc(3)`.
    ///
    /// # Safety
    /// If this succeeds nobody uses the old memory any more.
    realloc => realloc_from, "rdx", (ptr: *mut c_void, size: usize) -> *mut c_void
}
with_caller! {
    /// `reallocarray(3)`.
    ///
    /// # Safety
    /// As `realloc`.
    reallocarray => reallocarray_from, "rcx",
    (ptr: *mut c_void, count: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// `memalign(3)`.
    ///
    /// # Safety
    /// None is asked.
    memalign => memalign_from, "rdx", (align: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// `aligned_alloc(3)`.
    ///
    /// # Safety
    /// None is asked.
    aligned_alloc => aligned_alloc_from, "rdx", (align: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// `posix_memalign(3)`. On failure neither `*out` nor `errno` changes.
    ///
    /// # Safety
    /// `out` is a place for a pointer.
    posix_memalign => posix_memalign_from, "rcx",
    (out: *mut *mut c_void, align: usize, size: usize) -> c_int
}
with_caller! {
    /// `valloc(3)`.
    ///
    /// # Safety
    /// None is asked.
    valloc => valloc_from, "rsi", (size: usize) -> *mut c_void
}
with_caller! {
    /// `pvalloc(3)`.
    ///
    /// # Safety
    /// None is asked.
    pvalloc => pvalloc_from, "rsi", (size: usize) -> *mut c_void
}

/// `malloc_usable_size(3)`; 0 for memory that is not ours.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_usable_size(ptr: *mut c_void) -> usize {
    MALLOC.usable(ptr.cast())
}
