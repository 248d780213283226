//! Libraries opened with `RTLD_DEEPBIND`.
//!
//! Such a library sees its own dependencies before the preloaded library, so its `malloc` is the C
//! library's, whose `free` kills the process when it meets memory of ours, and the other way round.
//!
//! 1. A C library before 2.34 asks its hooks on every call. They are exported here and lead to us.
//! 2. A later one has no hooks. Therefore `dlopen` is exported, too: it drops the flag and goes on
//!    to the real one by a jump, so that the return address, which decides about the search path,
//!    stays.

use crate::abi::{free_from, malloc_from, memalign_from, realloc_from};
use core::ffi::c_void;

/// The C library's `malloc` hook before 2.34.
#[unsafe(no_mangle)]
pub static __malloc_hook: extern "C" fn(usize, usize) -> *mut c_void = malloc_from;
/// The C library's `realloc` hook before 2.34.
#[unsafe(no_mangle)]
pub static __realloc_hook: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void =
    realloc_from;
/// The C library's `free` hook before 2.34.
#[unsafe(no_mangle)]
pub static __free_hook: unsafe extern "C" fn(*mut c_void, usize) = free_from;
/// The C library's `memalign` hook before 2.34.
#[unsafe(no_mangle)]
pub static __memalign_hook: extern "C" fn(usize, usize, usize) -> *mut c_void = memalign_from;

/// `dlopen` without the flag.
#[cfg(target_arch = "x86_64")]
pub mod deepbind {
    use core::ffi::{c_char, c_int, c_void};
    use core::ptr;
    use core::sync::atomic::{AtomicPtr, Ordering};

    static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    const _: () = assert!(libc::RTLD_DEEPBIND == 8); // as in the instructions below

    /// The real `dlopen`. Called outside of `malloc`: the linker may allocate.
    extern "C" fn find() -> *mut c_void {
        // SAFETY: the name is a C string.
        let real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dlopen".as_ptr()) };
        REAL.store(real, Ordering::Relaxed);
        real
    }

    /// `dlopen(3)` without `RTLD_DEEPBIND`.
    ///
    /// # Safety
    /// As `dlopen`.
    #[unsafe(no_mangle)]
    #[unsafe(naked)]
    pub unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
        core::arch::naked_asm!(
            "and esi, -9",
            "mov rax, [rip + {real}]",
            "test rax, rax",
            "jz 2f",
            "jmp rax",
            "2:",
            "push rdi",
            "push rsi",
            "sub rsp, 8",
            "call {find}",
            "add rsp, 8",
            "pop rsi",
            "pop rdi",
            "jmp rax",
            real = sym REAL,
            find = sym find,
        )
    }
}
