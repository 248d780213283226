//! libgfp_malloc.so: every allocation function of the C library, over gfp, for `LD_PRELOAD`.
//!
//! 1. **Concepts.** The dynamic linker binds a program's `malloc` to the first library that has
//!    one; a preloaded library is first. So all names must be here, those that one would forget
//!    too: memory from one allocator must never meet another's `free`.
//! 2. **Structure.** `abi`: the C library's names; `more`: names of other systems, aliases,
//!    statistics; `hooks`: what `RTLD_DEEPBIND` needs; `life`: start, fork, exit, the record.
//! 3. **Calls before the start.** All state is constant; the first call makes the machine. The
//!    constructor only does what can wait.
//! 4. **C++.** `operator new` and `delete` are libstdc++'s, which call `malloc` and `free`.
//! 5. **Failure.** Null and `ENOMEM`. `free` and `posix_memalign` leave `errno` alone. Of Rust's
//!    std only the panic machinery is linked; a panic is one line and `abort`.
//! 6. **What it does not do.** Static programs are out of reach; so are libraries in name spaces of
//!    their own (`dlmopen`), which have their own `malloc` and keep to it.
#![no_std]

// For its panic handler alone: this crate is built as a Rust library, too.
extern crate std;

pub mod abi;
pub mod hooks;
pub mod life;
pub mod more;

use malloc::Malloc;

/// The process's memory.
static MALLOC: Malloc = Malloc::with_hooks(life::memory, life::ready);

fn set_errno(errno: i32) {
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = errno };
}
