//! Record files: their names, and making one from inside malloc.

use core::ffi::c_int;
use core::mem::size_of;
use core::ptr::{self, NonNull};

use super::cells::Record;
use super::{Identity, PAGE_BYTES};

/// Name of a record file: `<pid>.<started_ns>.gfp`, NUL-terminated for the system call.
#[derive(Clone, Copy)]
pub struct FileName {
    bytes: [u8; 40],
    len: usize,
}

impl FileName {
    /// The name for an image.
    pub fn new(pid: u32, started_ns: u64) -> FileName {
        let mut name = FileName {
            bytes: [0; 40],
            len: 0,
        };
        name.push_number(u64::from(pid));
        name.push(b".");
        name.push_number(started_ns);
        name.push(b".gfp");
        debug_assert!(
            name.len < name.bytes.len(),
            "10 + 1 + 20 + 4 digits, and the NUL"
        );
        name
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn push_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    /// The name, without the NUL.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Pid and start of a file name of this form; `None` for any other file.
    pub fn parse(name: &[u8]) -> Option<(u32, u64)> {
        let text = core::str::from_utf8(name).ok()?.strip_suffix(".gfp")?;
        let (pid, started_ns) = text.split_once('.')?;
        let (pid, started_ns) = (pid.parse().ok()?, started_ns.parse().ok()?);
        // One spelling only: "+7.1.gfp" and "07.1.gfp" are not ours.
        (FileName::new(pid, started_ns).bytes() == name).then_some((pid, started_ns))
    }
}

/// Makes the record file of `identity` in the directory `dir` and maps it for the rest of the
/// process.
///
/// Errors are the errno of the system call that failed: `EEXIST` if the name is taken (take a later
/// `started_ns`), `ENAMETOOLONG` if `dir` has more than 4000 bytes or holds a NUL, and those of
/// `openat`, `ftruncate`, `mmap`. `errno` is as before, no cancellation point is met, nothing is
/// allocated, and no file stays open.
pub fn create_file(dir: &[u8], identity: &Identity) -> Result<&'static Record, c_int> {
    let name = FileName::new(identity.pid, identity.started_ns);
    let mut path = [0_u8; 4096];
    if dir.len() > 4000 || dir.contains(&0) {
        return Err(libc::ENAMETOOLONG);
    }
    path[..dir.len()].copy_from_slice(dir);
    path[dir.len()] = b'/';
    path[dir.len() + 1..dir.len() + 1 + name.len].copy_from_slice(name.bytes());

    // SAFETY: __errno_location gives this thread's errno, valid for as long as the thread runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let errno_before = unsafe { *errno };
    let mapped = map_new(&path, errno);
    // SAFETY: as above.
    unsafe { *errno = errno_before };
    // SAFETY: map_new gave a fresh page-aligned shared mapping of at least a record that is never
    // unmapped, and the file was created by us with O_EXCL, so no other process writes to it.
    mapped.map(|at| unsafe { Record::init_in(at, identity) })
}

/// Creates the file named by the NUL-terminated `path` and maps a record's worth of it.
fn map_new(path: &[u8], errno: *mut c_int) -> Result<NonNull<u8>, c_int> {
    debug_assert!(path.contains(&0));
    // SAFETY: errno is this thread's errno (caller).
    let failed = || Err(unsafe { *errno });
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // The raw call, since open(3) is a cancellation point and we may be inside malloc.
    // SAFETY: path is NUL-terminated; the arguments are those of openat(2).
    let file = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            0o600 as libc::c_uint,
        )
    };
    if file < 0 {
        return failed();
    }
    let file = file as c_int;
    let len = size_of::<Record>().next_multiple_of(PAGE_BYTES as usize);
    // SAFETY: file is open and ours; ftruncate touches no memory.
    let mapped = if unsafe { libc::ftruncate(file, len as libc::off_t) } != 0 {
        failed()
    } else {
        // SAFETY: a new mapping at an address the kernel chooses; it overlaps nothing.
        let at = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, file, 0)
        };
        if at == libc::MAP_FAILED {
            failed()
        } else {
            NonNull::new(at.cast()).ok_or(libc::EINVAL)
        }
    };
    // SAFETY: file is open and ours, and not used after this; the raw call is no cancellation
    // point.
    unsafe { libc::syscall(libc::SYS_close, file) };
    if mapped.is_err() {
        // SAFETY: path is NUL-terminated. An empty record would only be told as a broken one.
        unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) };
    }
    mapped
}
