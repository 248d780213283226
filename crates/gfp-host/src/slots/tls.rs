//! One word a thread, and its [`TaskWord`](gfp::platform::TaskWord).
//!
//! Both must be readable inside `malloc`, so no access to them may allocate: hand-made
//! initial-exec words, at a fixed distance from the thread pointer. They work in programs, in
//! libraries loaded at start, and in libraries loaded later (24 bytes of the surplus that the C
//! library keeps). On targets other than x86-64, and with the feature `portable-tls`, std's
//! `thread_local!` takes their place: right in programs and in libraries loaded at start; in a
//! library loaded later its first access on a thread may allocate.

use super::owner_lock::ThreadKey;

/// The thread has not called yet.
pub(crate) const NEW: usize = 0;
/// The thread's destructors have run; it may still free a little.
pub(crate) const TORN_DOWN: usize = 1;

/// Where a thread keeps its word. A trait so that tests can have registries of their own.
pub(crate) trait Thread: Copy {
    /// [`NEW`], [`TORN_DOWN`], or the address of the thread's slot.
    fn word(self) -> usize;
    fn set_word(self, word: usize);
    /// Who this thread is.
    fn key(self) -> ThreadKey;
    /// Asks that the registry is told when this thread ends. May call `malloc`.
    fn watch_exit(self);
}

pub(crate) use word::{get, key, set, task};

#[cfg(all(target_arch = "x86_64", not(feature = "portable-tls")))]
mod word {
    use core::arch::{asm, global_asm};
    use gfp::platform::TaskWord;

    global_asm!(
        ".pushsection .tbss.gfp_host_thread_word,\"awT\",@nobits",
        ".p2align 3",
        ".globl gfp_host_thread_word",
        ".hidden gfp_host_thread_word",
        ".type gfp_host_thread_word,@object",
        ".size gfp_host_thread_word,8",
        "gfp_host_thread_word:",
        ".zero 8",
        ".globl gfp_host_thread_task",
        ".hidden gfp_host_thread_task",
        ".type gfp_host_thread_task,@object",
        ".size gfp_host_thread_task,{task_bytes}",
        "gfp_host_thread_task:",
        ".zero {task_bytes}", // a task without scopes and facts
        ".popsection",
        task_bytes = const size_of::<TaskWord>(),
    );

    const _: () = assert!(align_of::<TaskWord>() <= 8);

    /// This thread's task word. Valid as long as the thread.
    pub(crate) fn task() -> *const TaskWord {
        let task: *const TaskWord;
        // SAFETY: fs:[0] contains the thread pointer itself (x86-64 TLS ABI).
        unsafe {
            asm!(
                "mov {task}, qword ptr [rip + gfp_host_thread_task@GOTTPOFF]",
                "add {task}, qword ptr fs:[0]",
                task = out(reg) task,
                options(nostack, readonly),
            );
        }
        task
    }

    #[inline(always)]
    pub(crate) fn get() -> usize {
        let word: usize;
        // SAFETY: reads this thread's word: fs:[offset], the offset from the table that the loader
        // filled.
        unsafe {
            asm!(
                "mov {word}, qword ptr [rip + gfp_host_thread_word@GOTTPOFF]",
                "mov {word}, qword ptr fs:[{word}]",
                word = out(reg) word,
                options(nostack, preserves_flags, readonly),
            );
        }
        word
    }

    pub(crate) fn set(word: usize) {
        // SAFETY: writes this thread's word, which nobody else can see.
        unsafe {
            asm!(
                "mov {offset}, qword ptr [rip + gfp_host_thread_word@GOTTPOFF]",
                "mov qword ptr fs:[{offset}], {word}",
                offset = out(reg) _,
                word = in(reg) word,
                options(nostack, preserves_flags),
            );
        }
    }

    /// The address of the word: unique among living threads, the same in the child of a fork.
    pub(crate) fn key() -> usize {
        let key: usize;
        // SAFETY: fs:[0] contains the thread pointer itself (x86-64 TLS ABI).
        unsafe {
            asm!(
                "mov {key}, qword ptr [rip + gfp_host_thread_word@GOTTPOFF]",
                "add {key}, qword ptr fs:[0]",
                key = out(reg) key,
                options(nostack, readonly),
            );
        }
        key
    }
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable-tls"))))]
mod word {
    extern crate std;
    use core::cell::Cell;
    use gfp::platform::TaskWord;

    // Constant and without a destructor: plain memory from the thread's start to its end.
    std::thread_local! {
        static WORD: Cell<usize> = const { Cell::new(super::NEW) };
        static TASK: TaskWord = const { TaskWord::new() };
    }

    pub(crate) fn task() -> *const TaskWord {
        TASK.with(core::ptr::from_ref)
    }

    #[inline]
    pub(crate) fn get() -> usize {
        WORD.with(Cell::get)
    }

    pub(crate) fn set(word: usize) {
        WORD.with(|cell| cell.set(word));
    }

    pub(crate) fn key() -> usize {
        WORD.with(|cell| cell.as_ptr().addr())
    }
}
