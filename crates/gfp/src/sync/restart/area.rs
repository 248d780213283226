//! The area of a task, and what an interrupt path does with it.

use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

/// The four bytes before every abort address: glibc registers its areas with this signature.
/// Linux ends a process whose abort address has other bytes before it.
pub const SIGNATURE: u32 = 0x5305_3053;

/// What `cpu_id` contains while nobody keeps the area up to date.
const NO_CPU: u32 = u32::MAX;

/// One sequence: where it is, and where to go if it is interrupted. Linux's `struct rseq_cs`.
///
/// [INV-RESTART-1] Descriptors are constants beside the sequences that they describe, and stay as
/// long as their code. In a process others may name one of theirs, which stays as long as an area
/// names it.
#[repr(C, align(32))]
#[derive(Copy, Clone, Debug)]
pub struct Descriptor {
    version: u32,
    flags: u32,
    start: usize,
    /// From `start` to just behind the store that commits.
    len_bytes: usize,
    /// Outside of the sequence.
    abort: usize,
}

impl Descriptor {
    /// A descriptor in words: the sequence is the `len_bytes` from `start`.
    ///
    /// # Panics
    /// If `abort` is inside: the sequence would be restarted for ever.
    pub const fn new(start: usize, len_bytes: usize, abort: usize) -> Descriptor {
        assert!(abort.wrapping_sub(start) >= len_bytes);
        Descriptor {
            version: 0,
            flags: 0,
            start,
            len_bytes,
            abort,
        }
    }

    /// Address of the first instruction.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Address just behind the store that commits.
    pub fn end(&self) -> usize {
        self.start + self.len_bytes
    }

    /// Address of the way back to the beginning.
    pub fn abort(&self) -> usize {
        self.abort
    }

    /// Where to go on instead of `ip`: somewhere only if the instruction there is inside.
    #[inline]
    pub fn restart_at(&self, ip: usize) -> Option<usize> {
        (ip.wrapping_sub(self.start) < self.len_bytes).then_some(self.abort)
    }
}

/// What a task and whoever interrupts it tell each other. Linux's `struct rseq`.
///
/// ```text
///   0  cpu_id_start  4  cpu_id  8  rseq_cs: the armed descriptor
///  16  flags        20  node_id  24  mm_cid  28  -
/// ```
///
/// All of it is read and written on one CPU only: that on which the task runs. So each access is
/// `Relaxed`; the stores of a sequence and of an interrupt path are seen in the order of their
/// instructions.
#[repr(C, align(32))]
pub struct Area {
    cpu_id_start: AtomicU32,
    cpu_id: AtomicU32,
    sequence: AtomicPtr<Descriptor>,
    flags: AtomicU32,
    node_id: AtomicU32,
    mm_cid: AtomicU32,
    reserved: AtomicU32,
    /// Belongs to its task: who shares it between CPUs must know what keeps them apart.
    _not_sync: PhantomData<*mut ()>,
}

const _: () = assert!(size_of::<Area>() == 32 && size_of::<Descriptor>() == 32);
const _: () = assert!(Area::CPU_ID == 4 && Area::SEQUENCE == 8 && Area::MM_CID == 24);

impl Area {
    pub(super) const CPU_ID: usize = offset_of!(Area, cpu_id);
    /// Where a sequence writes its descriptor, in bytes.
    pub const SEQUENCE: usize = offset_of!(Area, sequence);
    pub(super) const MM_CID: usize = offset_of!(Area, mm_cid);

    /// The area of a new task: disarmed, on no CPU yet.
    pub const fn new() -> Area {
        Area {
            cpu_id_start: AtomicU32::new(0),
            cpu_id: AtomicU32::new(NO_CPU),
            sequence: AtomicPtr::new(ptr::null_mut()),
            flags: AtomicU32::new(0),
            node_id: AtomicU32::new(0),
            mm_cid: AtomicU32::new(NO_CPU),
            reserved: AtomicU32::new(0),
            _not_sync: PhantomData,
        }
    }

    /// Says where the task runs from now on. For the scheduler, with interrupts off, before the
    /// area is the one that interrupt entries look at. On bare metal the compact id is the CPU's.
    ///
    /// # Safety
    /// [INV-RESTART-2] Sequences work on the data of `cpu` from now on, without a look at whether
    /// there is such a CPU: the area's task runs there next, or nobody has a [`Current`] of the
    /// area yet. In a process Linux alone writes it.
    ///
    /// ```compile_fail,E0133
    /// # use gfp::sync::restart::Current;
    /// fn anybody(task: Current<'_>) {
    ///     task.area().set_cpu(1 << 20, 0); // the next push would write anywhere
    /// }
    /// ```
    pub unsafe fn set_cpu(&self, cpu: u32, node: u32) {
        self.cpu_id_start.store(cpu, Relaxed);
        self.cpu_id.store(cpu, Relaxed);
        self.mm_cid.store(cpu, Relaxed);
        self.node_id.store(node, Relaxed);
    }

    /// The CPU on which the task was last seen; `None` while nobody keeps the area up to date.
    /// Already stale when it returns, unless the caller cannot be moved.
    #[inline]
    pub fn cpu(&self) -> Option<u32> {
        let cpu = self.cpu_id.load(Relaxed);
        (cpu as i32 >= 0).then_some(cpu) // Linux: -1 not registered, -2 registration failed
    }

    /// The compact id of the task among those of its process that run (Linux 6.3); as
    /// [`Area::cpu`].
    #[inline]
    pub fn cid(&self) -> Option<u32> {
        let cid = self.mm_cid.load(Relaxed);
        (cid as i32 >= 0).then_some(cid)
    }

    /// The NUMA node of [`Area::cpu`].
    pub fn node(&self) -> u32 {
        self.node_id.load(Relaxed)
    }

    /// A copy of the descriptor that was written last, if no interrupt came since: for tests and
    /// reports. A copy, because in a process others arm the area as well, whose descriptors live
    /// only as long as they are named here.
    pub fn armed(&self) -> Option<Descriptor> {
        // SAFETY: [INV-RESTART-1] what is named here is a descriptor, at least until it is not.
        unsafe { self.sequence.load(Relaxed).as_ref().copied() }
    }

    /// What an interrupt entry calls for the area of the interrupted task, with the address at
    /// which it was interrupted, with interrupts off, before anything else may use a sequence or
    /// switch tasks. Disarms the area. `Some(at)`: a sequence was interrupted, the task must go on
    /// at `at`.
    ///
    /// Not for NMIs: [`Area::suspend`].
    #[inline]
    pub fn interrupted(&self, ip: usize) -> Option<usize> {
        self.suspend(ip).restart_at()
    }

    /// [`Area::interrupted`] for an entry that may come before another's look at the area: an NMI.
    /// What it returns goes to [`Area::resume`] when all is handled.
    #[inline]
    pub fn suspend(&self, ip: usize) -> Suspended {
        // A load and a store: an NMI in between leaves the area as it found it.
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(ptr::null_mut(), Relaxed);
        // SAFETY: [INV-RESTART-1] what was named here is a descriptor, and its task stands still.
        let descriptor = unsafe { sequence.as_ref() };
        match descriptor.and_then(|descriptor| descriptor.restart_at(ip)) {
            Some(at) => Suspended {
                sequence: ptr::null_mut(),
                restart_at: Some(at),
            },
            None => Suspended {
                sequence,
                restart_at: None,
            },
        }
    }

    /// Makes the area as it was before [`Area::suspend`]; disarmed if a sequence is to be
    /// restarted.
    #[inline]
    pub fn resume(&self, before: Suspended) {
        self.sequence.store(before.sequence, Relaxed);
    }

    /// Arms the area as a sequence does.
    #[cfg(test)]
    pub(super) fn arm(&self, descriptor: &'static Descriptor) {
        self.sequence
            .store(ptr::from_ref(descriptor).cast_mut(), Relaxed);
    }
}

impl Default for Area {
    fn default() -> Area {
        Area::new()
    }
}

/// What an area was like when an NMI came.
#[must_use = "the area must be resumed with it"]
pub struct Suspended {
    sequence: *mut Descriptor,
    restart_at: Option<usize>,
}

impl Suspended {
    /// Where the interrupted code must go on, if not where it was.
    #[inline]
    pub fn restart_at(&self) -> Option<usize> {
        self.restart_at
    }
}

/// The area of the task that calls: the right to run sequences.
///
/// [INV-RESTART-2] Whoever interrupts, moves or replaces this task looks at this area first, and
/// its ids are those of the place where the task runs; no two running tasks have the same.
#[derive(Copy, Clone)]
pub struct Current<'a>(&'a Area);

impl<'a> Current<'a> {
    /// # Safety
    /// [INV-RESTART-2] must hold for `area` and the calling task while the result is used.
    #[inline(always)]
    pub const unsafe fn new(area: &'a Area) -> Current<'a> {
        Current(area)
    }

    /// The area.
    #[inline(always)]
    pub fn area(self) -> &'a Area {
        self.0
    }
}
