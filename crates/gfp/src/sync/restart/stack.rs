//! One stack of words for each CPU.

use super::area::{Area, Current};
use super::closed::Closing;
use super::x86_64::{self, Place};
use crate::frame::CpuId;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// The start of a CPU's stack; its words follow.
///
/// ```text
///  base + id * stride   0 len   4 limit   8 word 0   16 word 1 ...
/// ```
#[repr(C, align(8))]
pub(super) struct Header {
    /// How many words are there: the one word that publishes.
    pub(super) len: AtomicU32,
    /// How many may be there; 0: closed.
    pub(super) limit: AtomicU32,
}

mod sealed {
    pub trait Sealed {}
}

/// Which id of the area chooses the stack.
pub trait Numbering: sealed::Sealed {
    /// Where the id is in the area, in bytes.
    #[doc(hidden)]
    const ID: usize;
}

/// By the number of the CPU: 0 to the highest possible.
pub enum ByCpu {}
/// By Linux's compact id: below the smaller of threads and CPUs. On bare metal the same as
/// [`ByCpu`].
pub enum ByCid {}

impl sealed::Sealed for ByCpu {}
impl sealed::Sealed for ByCid {}
impl Numbering for ByCpu {
    const ID: usize = Area::CPU_ID;
}
impl Numbering for ByCid {
    const ID: usize = Area::MM_CID;
}

/// Whether the sequences have something for an interrupt path to find.
pub trait Cover: sealed::Sealed {
    /// 1 or 0.
    #[doc(hidden)]
    const COVERED: u8;
}

/// They have: what everybody uses.
pub enum Covered {}
/// They have not: the same instructions, with a descriptor of length 0. The negative control of
/// the tests, which must see words lost or doubled.
#[doc(hidden)]
pub enum Exposed {}

impl sealed::Sealed for Covered {}
impl sealed::Sealed for Exposed {}
impl Cover for Covered {
    const COVERED: u8 = 1;
}
impl Cover for Exposed {
    const COVERED: u8 = 0;
}

/// Sizes of the memory of [`Stacks`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// How many ids there are, and stacks.
    pub nr_ids: u32,
    /// The most words that a stack can hold; at least 1.
    pub capacity: u32,
    /// From one CPU's stack to the next: at least [`Shape::stride_bytes_for`], or more where
    /// several kinds of stacks lie side by side in each CPU's part. A multiple of 8.
    pub stride_bytes: usize,
}

impl Shape {
    /// The smallest stride that keeps the stacks of two CPUs on different cache lines.
    pub const fn stride_bytes_for(capacity: u32) -> usize {
        (size_of::<Header>() + capacity as usize * size_of::<usize>()).next_multiple_of(64)
    }

    /// Stacks of `capacity` words for `nr_ids` CPUs, side by side.
    pub const fn new(nr_ids: u32, capacity: u32) -> Shape {
        Shape {
            nr_ids,
            capacity,
            stride_bytes: Shape::stride_bytes_for(capacity),
        }
    }

    /// How much memory that needs.
    ///
    /// # Panics
    /// If it is more than there are addresses.
    pub const fn bytes(self) -> usize {
        match (self.nr_ids as usize).checked_mul(self.stride_bytes) {
            Some(bytes) => bytes,
            None => panic!("more bytes than there are addresses"),
        }
    }
}

/// Why nothing was taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PopError {
    /// No word there: get some from elsewhere, and push them.
    Empty,
    /// Somebody owns the stack of this CPU at the moment: take another way, do not wait.
    Closed,
}

/// Why nothing was added.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PushError {
    /// No room: pop some, and bring them elsewhere.
    Full,
    /// Somebody owns the stack of this CPU at the moment: take another way, do not wait.
    Closed,
}

/// For each CPU a stack of words in memory that the caller gave.
///
/// [INV-RESTART-3] The memory is that of the stacks alone. For each id there is a header, with
/// `len` <= `limit` <= capacity or `limit` = 0, and room for capacity words; ids of areas are below
/// `nr_ids`. `len` and the words change in sequences of the CPU with that id while `limit` is not
/// 0, else by the one owner of a `Closed`.
pub struct Stacks<I: Numbering = ByCpu, C: Cover = Covered> {
    base: NonNull<u8>,
    shape: Shape,
    _kind: PhantomData<(I, C)>,
}

// SAFETY: [INV-RESTART-3] all that is shared is atomic, or kept apart by sequences and `limit`.
unsafe impl<I: Numbering, C: Cover> Send for Stacks<I, C> {}
// SAFETY: as above.
unsafe impl<I: Numbering, C: Cover> Sync for Stacks<I, C> {}

impl<I: Numbering, C: Cover> Stacks<I, C> {
    /// Makes empty, open stacks.
    ///
    /// # Panics
    /// If `shape` contradicts itself or is larger than memory can be, or `memory` is not aligned to
    /// 8 bytes.
    ///
    /// # Safety
    /// `memory` points to [`Shape::bytes`] bytes (where stacks lie side by side: as many from the
    /// first header to the end of the last stack) that are valid for reads and writes, and used by
    /// nobody else, while the result exists. Every [`Current`] that is used with it has an id of
    /// this kind that is below `nr_ids` and kept up to date: in a process, compact ids only where
    /// the kernel says that it has them. With [`Exposed`]: nobody interrupts, or the harm is what
    /// the caller wants.
    pub unsafe fn new(memory: NonNull<u8>, shape: Shape) -> Stacks<I, C> {
        let need = size_of::<Header>() + shape.capacity as usize * size_of::<usize>();
        assert!(shape.capacity > 0 && shape.stride_bytes >= need);
        assert!(shape.stride_bytes.is_multiple_of(8) && memory.addr().get().is_multiple_of(8));
        assert!(shape.bytes() <= isize::MAX as usize);
        let stacks = Stacks {
            base: memory,
            shape,
            _kind: PhantomData,
        };
        for id in 0..shape.nr_ids {
            // SAFETY: [INV-RESTART-3] the caller's promise; nobody else knows the memory yet.
            unsafe {
                stacks.header_at(id).write(Header {
                    len: AtomicU32::new(0),
                    limit: AtomicU32::new(shape.capacity),
                });
            }
        }
        stacks
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Adds `word` to the stack of the CPU that this runs on. From any context that [`Current`]
    /// covers: the table in the module's theory.
    ///
    /// # Errors
    /// [`PushError`]; nothing was done then.
    #[inline(always)]
    pub fn push(&self, task: Current<'_>, word: usize) -> Result<(), PushError> {
        // The only other values of these parameters are constants: the compiler picks one.
        let place = self.place(task);
        // SAFETY: [INV-RESTART-2] by `Current`, [INV-RESTART-3] by `new`.
        let (len, limit) = unsafe {
            match (I::ID, C::COVERED) {
                (Area::CPU_ID, 1) => x86_64::push::<{ Area::CPU_ID }, 1>(place, word),
                (Area::CPU_ID, _) => x86_64::push::<{ Area::CPU_ID }, 0>(place, word),
                (_, 1) => x86_64::push::<{ Area::MM_CID }, 1>(place, word),
                (_, _) => x86_64::push::<{ Area::MM_CID }, 0>(place, word),
            }
        };
        match (len < limit, limit) {
            (true, _) => Ok(()),
            (false, 0) => Err(PushError::Closed),
            (false, _) => Err(PushError::Full),
        }
    }

    /// Takes the last word from the stack of the CPU that this runs on. As [`Stacks::push`].
    ///
    /// # Errors
    /// [`PopError`].
    #[inline(always)]
    pub fn pop(&self, task: Current<'_>) -> Result<usize, PopError> {
        let place = self.place(task);
        // SAFETY: [INV-RESTART-2] by `Current`, [INV-RESTART-3] by `new`.
        let (index, limit, word) = unsafe {
            match (I::ID, C::COVERED) {
                (Area::CPU_ID, 1) => x86_64::pop::<{ Area::CPU_ID }, 1>(place),
                (Area::CPU_ID, _) => x86_64::pop::<{ Area::CPU_ID }, 0>(place),
                (_, 1) => x86_64::pop::<{ Area::MM_CID }, 1>(place),
                (_, _) => x86_64::pop::<{ Area::MM_CID }, 0>(place),
            }
        };
        match (index < limit, limit) {
            (true, _) => Ok(word),
            (false, 0) => Err(PopError::Closed),
            (false, _) => Err(PopError::Empty),
        }
    }

    /// How many words the stack of `id` holds; stale when it returns. From any context.
    pub fn len(&self, id: CpuId) -> u32 {
        // Relaxed: a figure for statistics, nothing is read because of it.
        // SAFETY: [INV-RESTART-3] `new` wrote a header there, all of whose fields are atomics.
        let header = unsafe { self.header_at(id.0).as_ref() };
        header.len.load(Ordering::Relaxed)
    }

    /// True if [`Stacks::len`] is 0.
    pub fn is_empty(&self, id: CpuId) -> bool {
        self.len(id) == 0
    }

    /// Begins to close the stack of `id`, of whatever CPU: sequences that begin from now on answer
    /// `Closed`. `None` if it is closed already. To own several stacks of a CPU, begin with each,
    /// then stop the CPU once, then call [`Closing::stopped`] on each.
    pub fn close(&self, id: CpuId) -> Option<Closing<'_>> {
        // SAFETY: [INV-RESTART-3] the header of a stack that `self` keeps.
        unsafe { Closing::begin(self.header_at(id.0), self.shape.capacity) }
    }

    /// Closes the stack of `id` where that is the CPU which the caller is on, and kept on: nothing
    /// is under way there but what the caller has interrupted, and that will be restarted. One
    /// locked instruction. `None` if it is closed already.
    ///
    /// # Safety
    /// The caller runs on the CPU of `id` and stays there until the result is dropped: interrupts
    /// are off, or it is an interrupt or NMI handler whose entry looked at the area.
    pub unsafe fn close_here(&self, id: CpuId) -> Option<super::Closed<'_>> {
        let closing = self.close(id)?;
        // SAFETY: the caller's promise: every sequence of this CPU is over or will be restarted.
        Some(unsafe { closing.stopped() })
    }

    #[inline(always)]
    fn place(&self, task: Current<'_>) -> Place {
        Place {
            area: task.area(),
            base: self.base.as_ptr(),
            stride_bytes: self.shape.stride_bytes,
        }
    }

    fn header_at(&self, id: u32) -> NonNull<Header> {
        assert!(id < self.shape.nr_ids, "no stack has the id {id}");
        let offset = id as usize * self.shape.stride_bytes;
        // SAFETY: [INV-RESTART-3] the id is below `nr_ids`.
        unsafe { self.base.add(offset).cast() }
    }
}
