//! A machine's RAM: address space reserved once, pages committed by the operating system on touch.
//!
//! 1. **Place.** One range of addresses, `size` bytes, as much aligned as its physical address is
//!    up to 4 MiB, so that a block of any order is aligned in memory as its frame number is (P301,
//!    S10).
//! 2. **Budget.** No page beyond `size` is ever committed for frames; what `vmalloc` maps in
//!    [`Backing::Private`] replaces the pages of its frames.
//! 3. **Fork.** Private RAM is copied on write: the child has its own machine. Shared RAM is not
//!    given to a child: two processes with the same frame table and the same slots would destroy
//!    it. A touch in the child faults.

use crate::cpus::PerCpu;
use crate::sys::{self, Errno};
use core::fmt;
use core::ptr::NonNull;
use gfp::frame::{MAX_NODES, NodeId, Order, PAGE_SIZE, PhysAddr};

/// Alignment that addresses and physical addresses share: the largest block.
const ALIGN: usize = Order::MAX.bytes();

/// What is behind the frames.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Private anonymous memory. A `vmalloc` area is memory of its own that takes the place of its
    /// frames' memory. A forked child has a copy.
    Private,
    /// A memory file. A `vmalloc` area shows its frames, as on a real machine: for tests. A forked
    /// child has nothing.
    Shared,
}

/// What becomes of requests that end without memory (P600).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum FailureReports {
    /// Only who asked is told.
    #[default]
    Silent,
    /// One in 10 s is reported on standard error, as Linux does in its log: who asked for what, why
    /// each zone did not serve it and, for a [`Host`](crate::Host), the memory report (P606). Not
    /// with `NOWARN`.
    StandardError,
}

/// How a machine is built.
///
/// ```
/// use gfp_host::{Backing, HostConfig, HostPlatform};
/// let config = HostConfig::new(64 << 20).backing(Backing::Shared);
/// let platform = HostPlatform::new(&config)?;
/// assert_eq!(platform.size(), 64 << 20);
/// # Ok::<(), gfp_host::HostError>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct HostConfig {
    node_bytes: [usize; MAX_NODES],
    phys_base: PhysAddr,
    backing: Backing,
    vmalloc_bytes: Option<usize>,
    failure_reports: FailureReports,
    per_cpu: PerCpu,
}

impl HostConfig {
    /// A machine with `size` bytes of private RAM, all in node 0, from 4 GiB on (so that all of it
    /// is in zone NORMAL).
    pub const fn new(size: usize) -> HostConfig {
        let mut node_bytes = [0; MAX_NODES];
        node_bytes[0] = size;
        HostConfig {
            node_bytes,
            phys_base: PhysAddr(4 << 30),
            backing: Backing::Private,
            vmalloc_bytes: None,
            failure_reports: FailureReports::Silent,
            per_cpu: PerCpu::Slots,
        }
    }

    /// How many bytes a node has. Nodes follow each other in memory in the order of their numbers.
    ///
    /// # Panics
    /// If the library knows no such node.
    #[must_use]
    pub const fn node(mut self, node: NodeId, bytes: usize) -> HostConfig {
        self.node_bytes[node.0 as usize] = bytes;
        self
    }

    /// The physical address of the first byte of RAM; a multiple of the page size.
    #[must_use]
    pub const fn phys_base(mut self, base: PhysAddr) -> HostConfig {
        self.phys_base = base;
        self
    }

    /// What is behind the frames.
    #[must_use]
    pub const fn backing(mut self, backing: Backing) -> HostConfig {
        self.backing = backing;
        self
    }

    /// Bytes of addresses for `vmalloc`. By default four times RAM, at least 64 GiB, at most 16
    /// TiB, and less where the operating system does not give that much.
    #[must_use]
    pub const fn vmalloc_bytes(mut self, bytes: usize) -> HostConfig {
        self.vmalloc_bytes = Some(bytes);
        self
    }

    /// What becomes of requests that end without memory.
    #[must_use]
    pub const fn failure_reports(mut self, reports: FailureReports) -> HostConfig {
        self.failure_reports = reports;
        self
    }

    /// What the CPUs of the machine are. Where that is not there the answer is
    /// [`HostError::NoRseq`]; nothing falls back by itself.
    ///
    /// A machine with anything but [`PerCpu::Slots`] must not be built inside `malloc`: the dynamic
    /// linker is asked, which also changes `errno`.
    #[must_use]
    pub const fn per_cpu(mut self, per_cpu: PerCpu) -> HostConfig {
        self.per_cpu = per_cpu;
        self
    }

    pub(crate) fn chosen_per_cpu(&self) -> PerCpu {
        self.per_cpu
    }

    fn size(&self) -> Option<usize> {
        self.node_bytes
            .iter()
            .try_fold(0usize, |sum, bytes| sum.checked_add(*bytes))
    }

    fn check(&self) -> Result<usize, HostError> {
        let size = self.size().ok_or(HostError::TooLarge)?;
        if size == 0 {
            return Err(HostError::NoMemory);
        }
        if size > isize::MAX as usize - ALIGN
            || self.phys_base.0.checked_add(size as u64).is_none()
            || self
                .vmalloc_bytes
                .is_some_and(|bytes| bytes > isize::MAX as usize)
        {
            return Err(HostError::TooLarge);
        }
        let sizes = self.node_bytes.iter().copied().chain(self.vmalloc_bytes);
        let mut aligned = sizes.chain([self.phys_base.0 as usize]);
        if !aligned.all(|bytes| bytes.is_multiple_of(PAGE_SIZE)) {
            return Err(HostError::NotPageAligned);
        }
        Ok(size)
    }
}

/// Why a machine could not be built.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HostError {
    /// No node has memory; give at least one page.
    NoMemory,
    /// More than addresses can name; ask for less.
    TooLarge,
    /// A size or the base is no multiple of the page size; round it.
    NotPageAligned,
    /// [`PerCpu::Rseq`] was asked for, and this process has no restartable sequences: see the
    /// message, or take [`PerCpu::Slots`].
    NoRseq,
    /// [`PerCpu::Rseq`] was asked for on a machine that may have more than 1024 processors: take
    /// [`PerCpu::Slots`].
    TooManyCpus,
    /// A machine with [`PerCpu::Rseq`] was to be built inside a section, or around a fork.
    Nested,
    /// The operating system refused.
    System {
        /// The call.
        what: &'static str,
        /// Its error number.
        errno: i32,
    },
}

impl HostError {
    fn system(what: &'static str) -> impl FnOnce(Errno) -> HostError {
        move |errno| HostError::System {
            what,
            errno: errno.0,
        }
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            HostError::NoMemory => f.write_str("a machine without memory: give at least one page"),
            HostError::TooLarge => f.write_str("more memory than addresses can name"),
            HostError::NotPageAligned => {
                write!(f, "sizes and the base must be multiples of {PAGE_SIZE}")
            }
            HostError::NoRseq => f.write_str(
                "no restartable sequences in this process (they take Linux 5.10 on x86-64 and \
                 glibc 2.35, and no GLIBC_TUNABLES=glibc.pthread.rseq=0): take PerCpu::Slots",
            ),
            HostError::TooManyCpus => {
                f.write_str("more than 1024 processors are possible: take PerCpu::Slots")
            }
            HostError::Nested => f.write_str("a machine with rseq is to be built outside sections"),
            HostError::System { what, errno } => {
                write!(
                    f,
                    "{what} failed with error {errno}: ask for less, or look at `ulimit -v`"
                )
            }
        }
    }
}

impl core::error::Error for HostError {}

/// A range of addresses that is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Reservation {
    /// `len` bytes of addresses without access, at an address that is `phase` modulo [`ALIGN`].
    fn new(len: usize, phase: usize) -> Result<Reservation, HostError> {
        debug_assert!(phase < ALIGN && len.is_multiple_of(PAGE_SIZE) && len != 0);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let padded = len.checked_add(ALIGN).ok_or(HostError::TooLarge)?;
        // SAFETY: a new mapping, anywhere.
        let got = unsafe { sys::mmap(0, padded, libc::PROT_NONE, flags, -1, 0) }
            .map_err(HostError::system("mmap of the address range"))?;
        // The first address from `got` on that is `phase` modulo ALIGN; less than ALIGN away.
        let start = got + (phase.wrapping_sub(got) & (ALIGN - 1));
        let end = start + len;
        for (from, to) in [(got, start), (end, got + padded)] {
            if from < to {
                // SAFETY: the padding around what we keep, mapped above, known to nobody.
                unsafe { sys::munmap(from, to - from) };
            }
        }
        debug_assert!(start % ALIGN == phase && end <= got + padded);
        Ok(Reservation { start, len })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: [INV-HOST-1] the range is ours since `new`; whoever drops it has no use for
            // it.
            unsafe { sys::munmap(self.start, self.len) };
        }
    }
}

/// The memory file of [`Backing::Shared`].
#[derive(Debug)]
struct File(i32);

impl Drop for File {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// RAM and the addresses for `vmalloc`.
///
/// [INV-HOST-1] Both ranges are this value's from its making to its drop, and nothing else in the
/// process is mapped there.
#[derive(Debug)]
pub(crate) struct Ram {
    range: Reservation,
    vmalloc: Reservation,
    file: Option<File>,
    config: HostConfig,
    /// The process that made it.
    pid: i32,
}

impl Ram {
    pub(crate) fn new(config: &HostConfig) -> Result<Ram, HostError> {
        let size = config.check()?;
        let range = Reservation::new(size, config.phys_base.0 as usize & (ALIGN - 1))?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let file = match config.backing {
            Backing::Private => {
                // SAFETY: [INV-HOST-1] our range.
                unsafe { sys::mprotect(range.start, size, access) }
                    .map_err(HostError::system("mprotect of RAM"))?;
                None
            }
            Backing::Shared => {
                let file = File(sys::memfd_create().map_err(HostError::system("memfd_create"))?);
                sys::ftruncate(file.0, size).map_err(HostError::system("ftruncate of RAM"))?;
                let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
                // SAFETY: [INV-HOST-1] our range; the file has that many bytes.
                unsafe { sys::mmap(range.start, size, access, flags, file.0, 0) }
                    .map_err(HostError::system("mmap of RAM"))?;
                // SAFETY: [INV-HOST-1] our range; this drops no content.
                unsafe { sys::madvise(range.start, size, libc::MADV_DONTFORK) }
                    .map_err(HostError::system("madvise of RAM"))?;
                Some(file)
            }
        };
        let vmalloc = reserve_vmalloc(config.vmalloc_bytes, size)?;
        Ok(Ram {
            range,
            vmalloc,
            file,
            config: *config,
            pid: sys::getpid(),
        })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        let start = core::ptr::with_exposed_provenance_mut(self.range.start);
        NonNull::new(start).expect("nothing is mapped at 0")
    }

    pub(crate) fn size(&self) -> usize {
        self.range.len
    }

    pub(crate) fn failure_reports(&self) -> FailureReports {
        self.config.failure_reports
    }

    pub(crate) fn phys_base(&self) -> PhysAddr {
        self.config.phys_base
    }

    pub(crate) fn vmalloc(&self) -> &Reservation {
        &self.vmalloc
    }

    /// The memory file, in [`Backing::Shared`].
    pub(crate) fn fd(&self) -> Option<i32> {
        self.file.as_ref().map(|file| file.0)
    }

    /// Offset in RAM of a range of physical addresses, if RAM contains it.
    pub(crate) fn offset(&self, phys: PhysAddr, len: usize) -> Option<usize> {
        let offset = usize::try_from(phys.0.checked_sub(self.config.phys_base.0)?).ok()?;
        (offset <= self.size() && len <= self.size() - offset).then_some(offset)
    }

    /// Drops the content of part of RAM; it reads as zero then. False if that failed.
    ///
    /// # Safety
    /// Nobody may need the content.
    pub(crate) unsafe fn forget(&self, offset: usize, len: usize) -> bool {
        debug_assert!(
            offset
                .checked_add(len)
                .is_some_and(|end| end <= self.size())
        );
        let done = match &self.file {
            // SAFETY: [INV-HOST-1] our range; the caller's promise about the content.
            None => unsafe { sys::madvise(self.range.start + offset, len, libc::MADV_DONTNEED) },
            // SAFETY: our file; the caller's promise.
            Some(file) => unsafe { sys::punch_hole(file.0, offset, len) },
        };
        done.is_ok()
    }

    /// Node, first and past-the-end physical address of each node with memory.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, PhysAddr, PhysAddr)> {
        let mut at = self.config.phys_base;
        let bytes = self.config.node_bytes;
        let part = move |(node, bytes): (usize, usize)| {
            let start = at;
            at = PhysAddr(start.0 + bytes as u64);
            (bytes != 0).then_some((NodeId(node as u8), start, at))
        };
        bytes.into_iter().enumerate().filter_map(part)
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // A forked child has no shared RAM, and may have mapped something else at its place.
        if self.file.is_some() && sys::getpid() != self.pid {
            self.range.len = 0;
        }
    }
}

fn reserve_vmalloc(asked: Option<usize>, ram: usize) -> Result<Reservation, HostError> {
    const LEAST: usize = 64 << 30;
    const MOST: usize = 16 << 40;
    if let Some(bytes) = asked {
        return match bytes {
            0 => Ok(Reservation {
                start: ALIGN,
                len: 0,
            }),
            _ => Reservation::new(bytes, 0),
        };
    }
    let mut bytes = ram.saturating_mul(4).clamp(LEAST, MOST);
    loop {
        match Reservation::new(bytes, 0) {
            // `ulimit -v`: take what there is, as long as it is worth having.
            Err(_) if bytes / 2 >= 1 << 20 => bytes = bytes / 2 / PAGE_SIZE * PAGE_SIZE,
            answer => return answer,
        }
    }
}
