//! Restartable sequences in a process: Linux's `rseq`, over the area that glibc registered.
//!
//! 1. **Whose area.** A thread can have one registration. glibc 2.35 and later makes it for each
//!    thread and says where the area is (`__rseq_offset` from the thread pointer; `__rseq_size`, of
//!    which only "not 0" means the same everywhere). So we use that, and register nothing: code
//!    that reads the area and arms sequences is compatible with everything else that does.
//! 2. **Where it is missing** (older kernel or C library, `GLIBC_TUNABLES=glibc.pthread.rseq=0`, a
//!    filter of system calls, valgrind, gVisor) the answer is `None`, and the fallback are the
//!    thread-bound [`slots`](crate::slots), which are the default anyway: nothing here switches.
//! 3. **Ids.** `cpu_id` counts possible CPUs. `mm_cid`, compact, is there where the kernel says so
//!    (`AT_RSEQ_FEATURE_SIZE`), not where `__rseq_size` seems to.
//! 4. **Closing a CPU's stack** from outside: the stack is closed, then one `membarrier` of the
//!    kind that restarts sequences. By CPU it concerns that CPU alone; compact ids move, so there
//!    it concerns all.
//! 5. **Fork.** The child's thread keeps the registration. A stack that another thread had closed
//!    stays closed in the child: who closes stacks must be brought to rest by fork handlers, as
//!    the slots are.
//! 6. **x86-64 only**, as the sequences are.

use crate::raw::call;
use gfp::frame::CpuId;
use gfp::sync::restart::{Area, ByCid, ByCpu, Closed, Cover, Current, Numbering, Stacks};

/// Bytes of the kernel's area that its features need (`getauxval`).
const AT_RSEQ_FEATURE_SIZE: libc::c_ulong = 27;
/// Where `mm_cid` ends.
const WITH_MM_CID: libc::c_ulong = 28;

const MEMBARRIER_RSEQ: usize = 1 << 7;
const MEMBARRIER_REGISTER_RSEQ: usize = 1 << 8;
const MEMBARRIER_FLAG_CPU: usize = 1;

/// The most CPUs that Linux can be built for on x86-64.
const CPUS_MAX: u32 = 8192;

/// What this process has.
#[derive(Copy, Clone, Debug)]
pub struct Rseq {
    offset: isize,
    nr_cpus: u32,
    has_cid: bool,
}

impl Rseq {
    /// Looks for the area and announces the `membarrier` that closes stacks. `None`: use the slots.
    ///
    /// Once, early, and not from inside `malloc`: it asks the dynamic linker, which may allocate
    /// where the names are missing. (A weak reference would be simpler, but today's linkers make it
    /// a hard demand for glibc 2.35.) Changes `errno`.
    pub fn find() -> Option<Rseq> {
        // SAFETY: glibc's documented types of these names; both are constants after start.
        let (offset, size) = unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr());
            let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr());
            (
                offset.cast::<isize>().as_ref()?,
                size.cast::<u32>().as_ref()?,
            )
        };
        if *size == 0 {
            return None; // not registered
        }
        register()?;
        // SAFETY: always valid to call.
        let features = unsafe { libc::getauxval(AT_RSEQ_FEATURE_SIZE) };
        let rseq = Rseq {
            offset: *offset,
            nr_cpus: possible_cpus()?,
            has_cid: features >= WITH_MM_CID,
        };
        rseq.current().map(|_| rseq)
    }

    /// The calling thread's right to run sequences; `None` if this thread has no registration.
    ///
    /// A thread keeps it for its life; it is also that of its signal handlers. To be asked for
    /// again costs a load of the thread pointer and a test.
    #[inline(always)]
    pub fn current(&self) -> Option<Current<'static>> {
        let thread: *const u8;
        // SAFETY: fs:[0] contains the thread pointer itself (x86-64 TLS ABI).
        unsafe {
            core::arch::asm!(
                "mov {thread}, qword ptr fs:[0]",
                thread = out(reg) thread,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        // SAFETY: [INV-HOST-4] glibc keeps the area at this distance as long as the thread lives;
        // the reference cannot leave the thread, as an area is not `Sync`.
        let area = unsafe { &*thread.offset(self.offset).cast::<Area>() };
        area.cpu()?;
        // SAFETY: [INV-RESTART-2] the area is registered: Linux keeps its ids and restarts.
        Some(unsafe { Current::new(area) })
    }

    /// How many ids there are: one more than the highest CPU that may ever be there.
    pub fn nr_cpus(&self) -> u32 {
        self.nr_cpus
    }

    /// True if the kernel keeps compact ids. Where it does not, all threads seem to have the same,
    /// and stacks [`ByCid`] must not be made.
    pub fn has_cid(&self) -> bool {
        self.has_cid
    }

    /// Takes the stack of `id` from outside. `None` if somebody has it already, or the kernel
    /// refuses (the stack is open then).
    pub fn close<'s, I: Reach, C: Cover>(
        &self,
        stacks: &'s Stacks<I, C>,
        id: CpuId,
    ) -> Option<Closed<'s>> {
        let closing = stacks.close(id)?;
        self.restart_all::<I>(id)?;
        // SAFETY: [INV-HOST-5] the call has restarted all sequences that were under way.
        Some(unsafe { closing.stopped() })
    }

    /// Restarts each sequence that is under way on the stacks of `id`, and makes visible here what
    /// was done there: between [`Stacks::close`] and
    /// [`Closing::stopped`](gfp::sync::restart::Closing::stopped), once for several stacks of a
    /// CPU. `None`: the kernel refuses.
    pub fn restart_all<I: Reach>(&self, id: CpuId) -> Option<()> {
        let (flags, cpu) = if I::ONE_CPU {
            (MEMBARRIER_FLAG_CPU, id.0 as usize)
        } else {
            (0, 0)
        };
        membarrier(MEMBARRIER_RSEQ, flags, cpu)
    }
}

/// Announces that this process will restart sequences.
pub(crate) fn register() -> Option<()> {
    membarrier(MEMBARRIER_REGISTER_RSEQ, 0, 0)
}

/// [`Rseq::restart_all`] for all CPUs.
pub(crate) fn restart_everywhere() -> Option<()> {
    membarrier(MEMBARRIER_RSEQ, 0, 0)
}

fn membarrier(command: usize, flags: usize, cpu: usize) -> Option<()> {
    let args = [command, flags, cpu, 0, 0, 0];
    // SAFETY: touches no memory.
    unsafe { call(libc::SYS_membarrier, args) }.ok().map(drop)
}

/// How far the `membarrier` must reach that stops the users of an id.
pub trait Reach: Numbering {
    /// The id is that of one CPU.
    #[doc(hidden)]
    const ONE_CPU: bool;
}

impl Reach for ByCpu {
    const ONE_CPU: bool = true;
}
impl Reach for ByCid {
    const ONE_CPU: bool = false;
}

/// One more than the last number in the kernel's list of possible CPUs (`0-3`, `0,2-7`).
fn possible_cpus() -> Option<u32> {
    let mut text = [0u8; 4096];
    let path = c"/sys/devices/system/cpu/possible".as_ptr();
    let cwd = libc::AT_FDCWD as isize as usize;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string; the kernel writes at most the given length into `text`.
    let len = unsafe {
        let args = [cwd, path as usize, flags as usize, 0, 0, 0];
        let fd = call(libc::SYS_openat, args).ok()?;
        let len = call(
            libc::SYS_read,
            [fd, text.as_mut_ptr() as usize, text.len(), 0, 0, 0],
        );
        crate::sys::close(fd as i32);
        len.ok()?
    };
    highest(&text[..len]).map(|last| last + 1)
}

/// The last number of a list of CPUs.
fn highest(list: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(list).ok()?.trim_end();
    let last = text.rsplit([',', '-']).next()?.parse().ok()?;
    (last < CPUS_MAX).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_cpu_is_the_last_number_of_the_list() {
        assert_eq!(highest(b"0-3\n"), Some(3));
        assert_eq!(highest(b"0\n"), Some(0));
        assert_eq!(highest(b"0,2-7,9\n"), Some(9));
        assert_eq!(highest(b"0-8191\n"), Some(8191));
        assert_eq!((highest(b"\n"), highest(b"0-8192")), (None, None));
    }
}
