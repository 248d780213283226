//! System calls that leave `errno` alone.

use crate::raw::call;
use core::sync::atomic::AtomicU32;

pub(crate) use crate::raw::Errno;

/// Calls the C library without a trace in `errno`.
fn with_errno_kept<R>(call: impl FnOnce() -> R) -> R {
    // SAFETY: the place of this thread's `errno`, which lives as long as the thread.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let answer = call();
        *errno = before;
        answer
    }
}

/// # Safety
/// As `mmap`: with MAP_FIXED the range must be the caller's.
pub(crate) unsafe fn mmap(
    at: usize,
    len: usize,
    protection: i32,
    flags: i32,
    fd: i32,
    offset: usize,
) -> Result<usize, Errno> {
    if cfg!(gfp_tsan) {
        let place = with_errno_kept(|| {
            // SAFETY: the caller's promise. ThreadSanitizer must see that the addresses begin anew.
            unsafe { libc::mmap(at as _, len, protection, flags, fd, offset as _) }
        });
        return if place == libc::MAP_FAILED {
            Err(Errno(libc::ENOMEM))
        } else {
            Ok(place as _)
        };
    }
    let args = [
        at,
        len,
        protection as usize,
        flags as usize,
        fd as isize as usize,
        offset,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(libc::SYS_mmap, args) }
}

/// # Safety
/// The range must be the caller's, and used by nobody any more.
pub(crate) unsafe fn munmap(at: usize, len: usize) {
    if cfg!(gfp_tsan) {
        // SAFETY: the caller's promise. As in `mmap`.
        let done = unsafe { libc::munmap(at as _, len) };
        debug_assert_eq!(done, 0);
        return;
    }
    // SAFETY: the caller's promise.
    let done = unsafe { call(libc::SYS_munmap, [at, len, 0, 0, 0, 0]) };
    debug_assert!(done.is_ok());
}

/// # Safety
/// The range must be the caller's.
pub(crate) unsafe fn mprotect(at: usize, len: usize, protection: i32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(libc::SYS_mprotect, [at, len, protection as usize, 0, 0, 0]) }.map(drop)
}

/// # Safety
/// The range must be the caller's, and its content must not be needed if the advice drops it.
pub(crate) unsafe fn madvise(at: usize, len: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    unsafe { call(libc::SYS_madvise, [at, len, advice as usize, 0, 0, 0]) }.map(drop)
}

pub(crate) fn memfd_create() -> Result<i32, Errno> {
    let name = c"gfp".as_ptr() as usize;
    // SAFETY: the name is a C string.
    unsafe {
        call(
            libc::SYS_memfd_create,
            [name, libc::MFD_CLOEXEC as usize, 0, 0, 0, 0],
        )
    }
    .map(|fd| fd as i32)
}

pub(crate) fn ftruncate(fd: i32, len: usize) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call(libc::SYS_ftruncate, [fd as usize, len, 0, 0, 0, 0]) }.map(drop)
}

/// # Safety
/// The content of that part of the file must not be needed.
pub(crate) unsafe fn punch_hole(fd: i32, offset: usize, len: usize) -> Result<(), Errno> {
    let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as usize;
    // SAFETY: the caller's promise.
    unsafe { call(libc::SYS_fallocate, [fd as usize, mode, offset, len, 0, 0]) }.map(drop)
}

pub(crate) fn close(fd: i32) {
    // SAFETY: touches no memory; the caller owns `fd`.
    let done = unsafe { call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
    debug_assert!(done.is_ok());
}

pub(crate) fn getpid() -> i32 {
    // SAFETY: touches no memory. It cannot fail.
    unsafe { call(libc::SYS_getpid, [0; 6]).map_or(0, |pid| pid as i32) }
}

/// Room for the name of a thread.
pub(crate) const THREAD_NAME_BYTES: usize = 16;

/// The name of the calling thread.
pub(crate) fn thread_name(name: &mut [u8; THREAD_NAME_BYTES]) -> &str {
    let args = [
        libc::PR_GET_NAME as usize,
        name.as_mut_ptr() as usize,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes at most 16 bytes, the last of them 0.
    let done = unsafe { call(libc::SYS_prctl, args) };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    let text = core::str::from_utf8(&name[..end]).unwrap_or("?");
    if done.is_ok() { text } else { "?" }
}

/// Writes all of it, as far as the file takes it.
pub(crate) fn write(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let args = [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        // SAFETY: the kernel reads `bytes` only.
        match unsafe { call(libc::SYS_write, args) } {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(Errno(libc::EINTR)) => {}
            Err(_) => return,
        }
    }
}

pub(crate) fn sched_yield() {
    // SAFETY: touches no memory.
    let _ = unsafe { call(libc::SYS_sched_yield, [0; 6]) };
}

/// How many CPUs this thread may run on; at least 1.
pub(crate) fn nr_cpus_allowed() -> u32 {
    let mut mask = [0u64; 128]; // 8192 CPUs, the most that Linux can be built for
    let args = [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most the given length into `mask`.
    match unsafe { call(libc::SYS_sched_getaffinity, args) } {
        Ok(_) => mask
            .iter()
            .map(|word| word.count_ones())
            .sum::<u32>()
            .max(1),
        Err(_) => 1,
    }
}

/// Sleeps while `word` contains `expected`; may return at any time.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    let op = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    let args = [word.as_ptr() as usize, op, expected as usize, 0, 0, 0];
    // SAFETY: the kernel reads the word atomically; no timeout is given.
    let _ = unsafe { call(libc::SYS_futex, args) };
}

/// [`futex_wait`], but no longer than until CLOCK_MONOTONIC shows `deadline_ns`.
pub(crate) fn futex_wait_until(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) {
    let Some(deadline_ns) = deadline_ns else {
        return futex_wait(word, expected);
    };
    // With a set of bits the time is absolute.
    let op = (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG) as usize;
    let seconds = libc::time_t::try_from(deadline_ns / 1_000_000_000);
    let until = libc::timespec {
        tv_sec: seconds.unwrap_or(libc::time_t::MAX),
        tv_nsec: (deadline_ns % 1_000_000_000) as _,
    };
    let until = (&raw const until).addr();
    let all = libc::FUTEX_BITSET_MATCH_ANY as u32 as usize;
    let args = [word.as_ptr() as usize, op, expected as usize, until, 0, all];
    // SAFETY: the kernel reads the word atomically, and `until`, which lives until it returns.
    let _ = unsafe { call(libc::SYS_futex, args) };
}

/// Wakes up to `count` sleepers of `word`.
pub(crate) fn futex_wake(word: &AtomicU32, count: i32) {
    let op = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    let args = [word.as_ptr() as usize, op, count as usize, 0, 0, 0];
    // SAFETY: the kernel uses the address as a key only.
    let _ = unsafe { call(libc::SYS_futex, args) };
}

const MEMBARRIER_PRIVATE_EXPEDITED: usize = 1 << 3;
const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: usize = 1 << 4;

/// Announces that this process will call [`membarrier`].
pub(crate) fn membarrier_register() -> Result<(), Errno> {
    let args = [MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0];
    // SAFETY: touches no memory.
    unsafe { call(libc::SYS_membarrier, args) }.map(drop)
}

/// Every running thread of this process executes a full memory fence before this returns.
pub(crate) fn membarrier() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe {
        call(
            libc::SYS_membarrier,
            [MEMBARRIER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// Waits a little: a few pauses first, then the processor is given to others.
pub(crate) fn relax(spins: u32) {
    const PAUSES: u32 = 64; // about 3 us: longer than a section, shorter than a time slice
    if spins < PAUSES {
        core::hint::spin_loop();
    } else {
        sched_yield();
    }
}
