//! System calls that neither touch `errno` nor meet a cancellation point.
//!
//! `free` must leave `errno` as it was, and all of this is called inside `malloc`.

use core::ptr::NonNull;
use gfp_host::raw::call;

pub use gfp_host::raw::Errno;

/// A C string in a buffer: paths that are put together without allocating.
pub struct Path {
    bytes: [u8; Path::MAX],
    used: usize,
}

impl Path {
    /// Room, with the NUL at the end; as `PATH_MAX`.
    pub const MAX: usize = 4096;

    /// An empty path.
    pub const fn new() -> Path {
        Path {
            bytes: [0; Path::MAX],
            used: 0,
        }
    }

    /// Adds `part` at the end. False, and nothing done, if there is no room or a NUL in it.
    #[must_use]
    pub fn push(&mut self, part: &[u8]) -> bool {
        if part.len() >= Path::MAX - self.used || part.contains(&0) {
            return false;
        }
        self.bytes[self.used..self.used + part.len()].copy_from_slice(part);
        self.used += part.len();
        true
    }

    /// Adds a decimal number.
    #[must_use]
    pub fn push_number(&mut self, mut number: u64) -> bool {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return self.push(&digits[at..]);
            }
        }
    }

    /// Shortens to `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        while self.used > len {
            self.used -= 1;
            self.bytes[self.used] = 0;
        }
    }

    /// Bytes, without the NUL.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    fn addr(&self) -> usize {
        debug_assert_eq!(self.bytes[self.used], 0);
        self.bytes.as_ptr().addr()
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::new()
    }
}

/// An open file; closed when dropped.
pub struct File(i32);

impl File {
    /// Opens with `flags` (and `O_CLOEXEC`) and `mode`.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open(path: &Path, flags: i32, mode: u32) -> Result<File, Errno> {
        let flags = (flags | libc::O_CLOEXEC) as usize;
        let here = libc::AT_FDCWD as isize as usize;
        // SAFETY: the path is a C string; the call touches no other memory.
        let fd = unsafe {
            let args = [here, path.addr(), flags, mode as usize, 0, 0];
            call(libc::SYS_openat, args)
        }?;
        Ok(File(fd as i32))
    }

    /// Reads until `into` is full or the file ends.
    ///
    /// # Errors
    /// As `read(2)`.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        let mut used = 0;
        while used < into.len() {
            let rest = &mut into[used..];
            let args = [
                self.0 as usize,
                rest.as_mut_ptr().addr(),
                rest.len(),
                0,
                0,
                0,
            ];
            // SAFETY: the kernel writes at most `rest.len()` bytes there.
            match unsafe { call(libc::SYS_read, args) } {
                Ok(0) => break,
                Ok(n) => used += n,
                Err(Errno(libc::EINTR)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(used)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        write(self.0, bytes)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: touches no memory; the file is ours.
        let _ = unsafe { call(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Some pages of zeroes from the operating system; given back when dropped.
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Pages for `len` bytes.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new(len: usize) -> Result<Pages, Errno> {
        let access = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        // SAFETY: a new mapping, anywhere.
        let at = unsafe { call(libc::SYS_mmap, [0, len, access, flags, usize::MAX, 0]) }?;
        let start = NonNull::new(core::ptr::with_exposed_provenance_mut(at));
        let start = start.ok_or(Errno(libc::ENOMEM))?;
        Ok(Pages { start, len })
    }

    /// The first byte.
    pub fn start(&mut self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let args = [self.start.addr().get(), self.len, 0, 0, 0, 0];
        // SAFETY: the mapping is ours, and nobody uses it any more.
        let _ = unsafe { call(libc::SYS_munmap, args) };
    }
}

/// Writes all of `bytes` to the file descriptor `fd`.
///
/// # Errors
/// As `write(2)`.
pub fn write(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let args = [fd as usize, bytes.as_ptr().addr(), bytes.len(), 0, 0, 0];
        // SAFETY: the kernel reads `bytes` only.
        match unsafe { call(libc::SYS_write, args) } {
            Ok(0) => return Err(Errno(libc::EIO)),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno(libc::EINTR)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes a directory.
///
/// # Errors
/// As `mkdir(2)`.
pub fn mkdir(path: &Path, mode: u32) -> Result<(), Errno> {
    let here = libc::AT_FDCWD as isize as usize;
    // SAFETY: the path is a C string.
    unsafe {
        let args = [here, path.addr(), mode as usize, 0, 0, 0];
        call(libc::SYS_mkdirat, args)
    }
    .map(drop)
}

/// Renames a file over another.
///
/// # Errors
/// As `rename(2)`.
pub fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    let here = libc::AT_FDCWD as isize as usize;
    // SAFETY: both paths are C strings.
    unsafe {
        let args = [here, from.addr(), here, to.addr(), 0, 0];
        call(libc::SYS_renameat2, args)
    }
    .map(drop)
}

/// Where the symbolic link `path` leads; the number of bytes put into `into`.
///
/// # Errors
/// As `readlink(2)`.
pub fn readlink(path: &Path, into: &mut [u8]) -> Result<usize, Errno> {
    let here = libc::AT_FDCWD as isize as usize;
    let to = into.as_mut_ptr().addr();
    // SAFETY: the path is a C string; the kernel writes at most `into.len()` bytes.
    unsafe {
        let args = [here, path.addr(), to, into.len(), 0, 0];
        call(libc::SYS_readlinkat, args)
    }
}

/// This process.
pub fn getpid() -> u32 {
    // SAFETY: touches no memory; cannot fail.
    unsafe { call(libc::SYS_getpid, [0; 6]).map_or(0, |id| id as u32) }
}

/// Its parent.
pub fn getppid() -> u32 {
    // SAFETY: touches no memory; cannot fail.
    unsafe { call(libc::SYS_getppid, [0; 6]).map_or(0, |id| id as u32) }
}

/// This thread.
pub fn gettid() -> u32 {
    // SAFETY: touches no memory; cannot fail.
    unsafe { call(libc::SYS_gettid, [0; 6]).map_or(0, |id| id as u32) }
}

/// Lets others run.
pub fn sched_yield() {
    // SAFETY: touches no memory.
    let _ = unsafe { call(libc::SYS_sched_yield, [0; 6]) };
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_ns() -> u64 {
    let mut now = [0u64; 2];
    let args = [
        libc::CLOCK_MONOTONIC as usize,
        now.as_mut_ptr().addr(),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes two words there.
    let _ = unsafe { call(libc::SYS_clock_gettime, args) };
    now[0] * 1_000_000_000 + now[1]
}

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE`: a few milliseconds late, and without a system call.
pub fn coarse_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a place for the answer; with this clock the call cannot fail, so it leaves
    // `errno` alone.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Bytes of addresses that this process may still map; `None`: no limit.
pub fn addresses_left() -> Option<usize> {
    let mut limit = [0u64; 2]; // soft, hard
    let place = limit.as_mut_ptr().addr();
    let args = [0, libc::RLIMIT_AS as usize, 0, place, 0, 0];
    // SAFETY: the kernel writes two words there.
    unsafe { call(libc::SYS_prlimit64, args) }.ok()?;
    if limit[0] == u64::MAX {
        return None;
    }
    let limit = usize::try_from(limit[0]).unwrap_or(usize::MAX);
    Some(limit.saturating_sub(mapped_bytes()))
}

/// Bytes of addresses that are mapped; 0 if the system does not say.
fn mapped_bytes() -> usize {
    let mut text = [0u8; 32];
    let mut path = Path::new();
    let file = path
        .push(b"/proc/self/statm")
        .then(|| File::open(&path, libc::O_RDONLY, 0));
    let Some(Ok(file)) = file else { return 0 };
    let used = file.read(&mut text).unwrap_or(0);
    let digits = text[..used].iter().take_while(|b| b.is_ascii_digit());
    let pages = digits.fold(0usize, |n, b| n.saturating_mul(10) + usize::from(b - b'0'));
    pages.saturating_mul(4096)
}

/// Sleeps, or less if a signal comes.
pub fn sleep_ms(ms: u64) {
    let span = [ms / 1000, ms % 1000 * 1_000_000];
    let args = [span.as_ptr().addr(), 0, 0, 0, 0, 0];
    // SAFETY: the kernel reads two words.
    let _ = unsafe { call(libc::SYS_nanosleep, args) };
}

/// Bytes of RAM that the machine has; 0 if it does not say.
pub fn total_ram() -> u64 {
    // SAFETY: all-zero bytes are a valid `sysinfo`.
    let mut info: libc::sysinfo = unsafe { core::mem::zeroed() };
    let args = [core::ptr::from_mut(&mut info).addr(), 0, 0, 0, 0, 0];
    // SAFETY: the kernel writes one `sysinfo`.
    match unsafe { call(libc::SYS_sysinfo, args) } {
        Ok(_) => info.totalram as u64 * u64::from(info.mem_unit),
        Err(_) => 0,
    }
}

/// Ends the process at once, without destructors.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Dies by `SIGABRT`, whatever its handler is, without calling anything.
pub fn abort() -> ! {
    let default = [0usize; 4]; // the kernel's sigaction: handler SIG_DFL, flags, restorer, mask
    let set = 1u64 << (libc::SIGABRT - 1);
    let (abrt, set) = (libc::SIGABRT as usize, core::ptr::from_ref(&set).addr());
    // SAFETY: the kernel reads the structures given; the process ends.
    unsafe {
        let _ = call(
            libc::SYS_rt_sigaction,
            [abrt, default.as_ptr().addr(), 0, 8, 0, 0],
        );
        let _ = call(
            libc::SYS_tgkill,
            [getpid() as usize, gettid() as usize, abrt, 0, 0, 0],
        );
        let _ = call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_UNBLOCK as usize, set, 0, 8, 0, 0],
        );
    }
    exit_group(134)
}

/// Dies by `SIGKILL`.
pub fn kill_self() -> ! {
    let args = [getpid() as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: touches no memory; the process ends.
    let _ = unsafe { call(libc::SYS_kill, args) };
    exit_group(137)
}

/// All signals blocked while it lives.
pub struct SignalsBlocked(u64);

impl SignalsBlocked {
    /// Blocks all signals of this thread.
    pub fn new() -> SignalsBlocked {
        let (all, mut before) = (u64::MAX, 0u64);
        SignalsBlocked::change(&all, Some(&mut before));
        SignalsBlocked(before)
    }

    fn change(to: &u64, before: Option<&mut u64>) {
        let to = core::ptr::from_ref(to).addr();
        let before = before.map_or(0, |place| core::ptr::from_mut(place).addr());
        let args = [libc::SIG_SETMASK as usize, to, before, 8, 0, 0];
        // SAFETY: the kernel reads one mask of 8 bytes and writes one.
        let _ = unsafe { call(libc::SYS_rt_sigprocmask, args) };
    }
}

impl Default for SignalsBlocked {
    fn default() -> SignalsBlocked {
        SignalsBlocked::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        SignalsBlocked::change(&self.0, None);
    }
}
