//! Aliases, names of other systems, and what asks the allocator about itself.

use crate::abi::{
    calloc_from, free_from, malloc_from, memalign_from, posix_memalign_from, pvalloc_from,
    realloc_from, reallocarray_from, valloc_from, with_caller,
};
use crate::{MALLOC, set_errno};
use core::ffi::{c_int, c_void};
use core::fmt::Write;
use malloc::events::Line;

with_caller! {
    /// `cfree`: as `free`.
    ///
    /// # Safety
    /// As `free`.
    cfree => free_from, "rsi", (ptr: *mut c_void)
}
with_caller! {
    /// C23's `free` that is told the size.
    ///
    /// # Safety
    /// As `free`.
    free_sized => free_sized_from, "rdx", (ptr: *mut c_void, size: usize)
}
with_caller! {
    /// C23's `free` that is told alignment and size.
    ///
    /// # Safety
    /// As `free`.
    free_aligned_sized => free_aligned_sized_from, "rcx",
    (ptr: *mut c_void, align: usize, size: usize)
}
with_caller! {
    /// The C library's other name of `malloc`.
    ///
    /// # Safety
    /// None is asked.
    __libc_malloc => malloc_from, "rsi", (size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `calloc`.
    ///
    /// # Safety
    /// None is asked.
    __libc_calloc => calloc_from, "rdx", (count: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `realloc`.
    ///
    /// # Safety
    /// As `realloc`.
    __libc_realloc => realloc_from, "rdx", (ptr: *mut c_void, size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `reallocarray`.
    ///
    /// # Safety
    /// As `realloc`.
    __libc_reallocarray => reallocarray_from, "rcx",
    (ptr: *mut c_void, count: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `free`.
    ///
    /// # Safety
    /// As `free`.
    __libc_free => free_from, "rsi", (ptr: *mut c_void)
}
with_caller! {
    /// The C library's other name of `memalign`.
    ///
    /// # Safety
    /// None is asked.
    __libc_memalign => memalign_from, "rdx", (align: usize, size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `valloc`.
    ///
    /// # Safety
    /// None is asked.
    __libc_valloc => valloc_from, "rsi", (size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `pvalloc`.
    ///
    /// # Safety
    /// None is asked.
    __libc_pvalloc => pvalloc_from, "rsi", (size: usize) -> *mut c_void
}
with_caller! {
    /// The C library's other name of `posix_memalign`.
    ///
    /// # Safety
    /// As `posix_memalign`.
    __posix_memalign => posix_memalign_from, "rcx",
    (out: *mut *mut c_void, align: usize, size: usize) -> c_int
}

/// # Safety
/// As `free`.
unsafe extern "C" fn free_sized_from(ptr: *mut c_void, _size: usize, caller: usize) {
    // SAFETY: the caller's promise.
    unsafe { free_from(ptr, caller) }
}

/// # Safety
/// As `free`.
unsafe extern "C" fn free_aligned_sized_from(
    ptr: *mut c_void,
    _align: usize,
    _size: usize,
    caller: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { free_from(ptr, caller) }
}

/// macOS: the bytes that a request for `size` would really get.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_good_size(size: usize) -> usize {
    malloc::heap::good_size(size)
}

/// NetBSD: resizes what the pointer at `place` points to; answers an error number and leaves
/// `errno`.
///
/// # Safety
/// `place` is the address of a pointer to memory that `realloc` would take.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarr(place: *mut c_void, count: usize, size: usize) -> c_int {
    let Some(bytes) = count.checked_mul(size) else {
        return libc::EOVERFLOW;
    };
    // SAFETY: `place` is the address of a pointer, perhaps not aligned as one.
    let old = unsafe { place.cast::<*mut u8>().read_unaligned() };
    // SAFETY: the caller's promise.
    let new = unsafe { MALLOC.realloc(old, bytes, 0) };
    if new.is_null() && bytes != 0 {
        return libc::ENOMEM;
    }
    // SAFETY: as above.
    unsafe { place.cast::<*mut u8>().write_unaligned(new) };
    0
}

/// `malloc_trim(3)`: gives free memory back to the operating system; 1 if there was some.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(MALLOC.heap_if_ready().is_some_and(|heap| heap.trim() > 0))
}

/// `mallopt(3)`. There is nothing to set; the C library's parameters are accepted.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(parameter: c_int, _value: c_int) -> c_int {
    c_int::from((-8..=1).contains(&parameter)) // M_ARENA_MAX ..= M_MXFAST
}

/// `struct mallinfo2`.
#[repr(C)]
#[derive(Copy, Clone, Default)]
pub struct MallInfo<T> {
    arena: T,
    ordblks: T,
    smblks: T,
    hblks: T,
    hblkhd: T,
    usmblks: T,
    fsmblks: T,
    uordblks: T,
    fordblks: T,
    keepcost: T,
}

/// `mallinfo2(3)`: `arena` is the managed memory outside vmalloc, `hblks` and `hblkhd` are
/// vmalloc's, `uordblks` is in use and `fordblks` is free.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> MallInfo<usize> {
    let mut info = MallInfo::default();
    if let Some(heap) = MALLOC.heap_if_ready() {
        let usage = heap.usage();
        info.hblks = usage.vmalloc_areas;
        info.hblkhd = usage.vmalloc_bytes;
        info.arena = usage.managed_bytes.saturating_sub(usage.vmalloc_bytes);
        info.uordblks = usage.in_use_bytes.saturating_sub(usage.vmalloc_bytes);
        info.fordblks = info.arena.saturating_sub(info.uordblks);
        info.keepcost = info.fordblks;
    }
    info
}

/// `mallinfo(3)`: as `mallinfo2`, in numbers that are too small.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> MallInfo<c_int> {
    let info = mallinfo2();
    let cut = |n: usize| c_int::try_from(n).unwrap_or(c_int::MAX);
    MallInfo {
        arena: cut(info.arena),
        hblks: cut(info.hblks),
        hblkhd: cut(info.hblkhd),
        uordblks: cut(info.uordblks),
        fordblks: cut(info.fordblks),
        keepcost: cut(info.keepcost),
        ..MallInfo::default()
    }
}

/// `malloc_stats(3)`: on standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    let info = mallinfo2();
    let (system, used) = (info.arena + info.hblkhd, info.uordblks + info.hblkhd);
    let mut line = Line::new();
    let _ = write!(
        line,
        "gfp: managed bytes {system}, in use {used}, vmalloc areas {}, of bytes {}",
        info.hblks, info.hblkhd
    );
    let _ = malloc::sys::write(libc::STDERR_FILENO, line.finish());
}

/// `malloc_info(3)`: the totals, as XML.
///
/// # Safety
/// `stream` is an open stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    let info = mallinfo2();
    let mut line = Line::new();
    let _ = write!(
        line,
        "<malloc version=\"1\"><system type=\"current\" size=\"{}\"/>\
         <total type=\"mmap\" count=\"{}\" size=\"{}\"/>\
         <total type=\"rest\" size=\"{}\"/></malloc>",
        info.arena + info.hblkhd,
        info.hblks,
        info.hblkhd,
        info.fordblks
    );
    let text = line.finish();
    // SAFETY: the stream is open, the text as long as said.
    let written = unsafe { libc::fwrite(text.as_ptr().cast(), 1, text.len(), stream) };
    if written == text.len() {
        0
    } else {
        set_errno(libc::EIO);
        -1
    }
}
