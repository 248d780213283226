//! The descriptor of one slab: where its objects are, and what each of them is doing.
//!
//! ```text
//!  descriptor            states                 free bits
//! +--------------------+----------------------+------------------------+
//! | Slab, 64 bytes     | 1 byte an object     | 1 bit an object, in    |
//! |                    | (any CPU, atomics)   | words (home's lock)    |
//! +--------------------+----------------------+------------------------+
//! ```
//!
//! | state | where the object is | next, by whom |
//! |---|---|---|
//! | `FREE` | in its slab, free bit set | `CACHED`, `ALLOCATED` by who holds the home's lock |
//! | `CACHED` | in the sheaf of one CPU | `ALLOCATED`, `FREE` by who holds that CPU's section |
//! | `ALLOCATED` | with the user | `CACHED`, `FREE`, `DEFERRED` by who frees it |
//! | `DEFERRED` | freed inside the allocator | `FREE` by who drains the stack of deferred frees |

use super::cache::Cache;
use super::deferred::Deferring;
use crate::frame::Order;
use crate::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering};
use core::ptr::NonNull;

use Ordering::Relaxed;

/// Free in its slab.
pub(super) const FREE: u8 = 0;
/// In the sheaf of a CPU.
pub(super) const CACHED: u8 = 1;
/// Given out.
pub(super) const ALLOCATED: u8 = 2;
/// Freed by an interrupt that came in the middle of an operation; waits to be put back.
pub(super) const DEFERRED: u8 = 3;

/// No per-CPU sheaf is kept for this cache.
pub(super) const NO_ID: u16 = u16::MAX;

/// S44: shift of the reciprocal. A slab has at most 2^22 bytes (order 10) and its stride is between
/// 8 and 2^22, so `offset * (2^44 / stride + 1)` stays below 2^64, and the rounding error, below
/// `offset * stride / 2^44 / stride`, never reaches the next integer.
const RECIPROCAL_SHIFT: u32 = 44;

/// S44: what to multiply an offset with.
pub(super) const fn reciprocal(stride: usize) -> u64 {
    (1u64 << RECIPROCAL_SHIFT).div_ceil(stride as u64)
}

/// The fixed part of a descriptor.
#[repr(C)]
pub(super) struct Slab {
    /// First object.
    pub(super) base: NonNull<u8>,
    /// The cache that it belongs to.
    pub(super) cache: NonNull<Cache>,
    reciprocal: u64,
    /// Links of the list that the slab is on; changed under the home's lock.
    pub(super) next: AtomicPtr<Slab>,
    pub(super) prev: AtomicPtr<Slab>,
    /// Link of the stack of slabs with deferred frees.
    pub(super) deferred_next: AtomicPtr<Slab>,
    pub(super) stride: u32,
    /// Bit 0: on the stack of deferred frees. The rest: nested frees in progress.
    pub(super) deferred: AtomicU16,
    /// The home that it belongs to ([`NO_HOME`]: none yet); set once, under the home's lock.
    home: AtomicU8,
    pub(super) objects: u16,
    /// Objects that are not `FREE`; changed under the home's lock.
    in_use: AtomicU16,
    /// Index of the cache in the sheaf tables; [`NO_ID`] if it has none.
    pub(super) id: AtomicU16,
    /// Order in the low four bits, then [`ON_SLAB`] and [`RECLAIMABLE`].
    kind: u8,
    pub(super) node: u8,
}

/// [`SlabPtr::home`] of a new slab.
pub(super) const NO_HOME: usize = u8::MAX as usize;
/// The descriptor is part of the slab.
pub(super) const ON_SLAB: u8 = 1 << 4;
/// The pages count as reclaimable.
pub(super) const RECLAIMABLE: u8 = 1 << 5;

const _: () = assert!(size_of::<usize>() != 8 || size_of::<Slab>() == 64);

/// Bytes of a descriptor for this many objects.
pub(super) const fn desc_size(objects: usize) -> usize {
    size_of::<Slab>() + objects.next_multiple_of(8) + objects.div_ceil(64) * 8
}

/// What a new slab is made of.
pub(super) struct NewSlab {
    pub(super) base: NonNull<u8>,
    pub(super) cache: NonNull<Cache>,
    pub(super) stride: usize,
    pub(super) objects: usize,
    pub(super) id: u16,
    pub(super) order: Order,
    /// Of [`ON_SLAB`] and [`RECLAIMABLE`].
    pub(super) flags: u8,
    pub(super) node: u8,
}

/// A pointer to a whole descriptor: the fixed part and the arrays behind it.
///
/// [INV-SLAB-1] It points to a live descriptor: one that [`SlabPtr::init`] wrote and that was not
/// freed since. A slab is freed only when no object of it is out, no CPU has one cached, and no
/// nested free is in progress; so who holds an object, a sheaf entry or its home's lock may use
/// it.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) struct SlabPtr(pub(super) NonNull<Slab>);

impl Deferring for Slab {
    fn word(&self) -> &AtomicU16 {
        &self.deferred
    }

    fn link(&self) -> &AtomicPtr<Slab> {
        &self.deferred_next
    }
}

impl core::ops::Deref for SlabPtr {
    type Target = Slab;

    #[inline]
    fn deref(&self) -> &Slab {
        // SAFETY: [INV-SLAB-1]; all that changes after `init` is atomic.
        unsafe { self.0.as_ref() }
    }
}

impl SlabPtr {
    /// # Safety
    /// `ptr` must be valid for the whole descriptor, and [INV-SLAB-1] must hold while it is used.
    #[inline]
    pub(super) unsafe fn new(ptr: NonNull<Slab>) -> SlabPtr {
        SlabPtr(ptr)
    }

    pub(super) fn as_ptr(self) -> *mut Slab {
        self.0.as_ptr()
    }

    /// Writes the descriptor of a slab whose objects are all free.
    ///
    /// # Safety
    /// `at` must be valid for writes of [`desc_size`] bytes, aligned to 8, and used by nobody else.
    pub(super) unsafe fn init(at: NonNull<u8>, new: &NewSlab) -> SlabPtr {
        debug_assert!(new.objects > 0 && new.objects <= u16::MAX as usize);
        let slab = at.cast::<Slab>();
        let null = || AtomicPtr::new(core::ptr::null_mut());
        // SAFETY: promised by the caller.
        unsafe {
            slab.write(Slab {
                base: new.base,
                cache: new.cache,
                reciprocal: reciprocal(new.stride),
                next: null(),
                prev: null(),
                deferred_next: null(),
                stride: new.stride as u32,
                deferred: AtomicU16::new(0),
                home: AtomicU8::new(NO_HOME as u8),
                objects: new.objects as u16,
                in_use: AtomicU16::new(0),
                id: AtomicU16::new(new.id),
                kind: new.order.get() | new.flags,
                node: new.node,
            });
        }
        let this = SlabPtr(slab);
        for index in 0..new.objects {
            // SAFETY: the state lies inside of the memory that the caller gave.
            unsafe { this.state_ptr(index).write(AtomicU8::new(FREE)) };
        }
        for word in 0..this.words() {
            let left = new.objects - word * 64;
            let bits = if left >= 64 {
                u64::MAX
            } else {
                (1 << left) - 1
            };
            // SAFETY: as above; the words start at a multiple of 8.
            unsafe { this.word_ptr(word).write(AtomicU64::new(bits)) };
        }
        this
    }

    #[inline]
    fn state_ptr(self, index: usize) -> NonNull<AtomicU8> {
        debug_assert!(index < self.objects as usize);
        // SAFETY: [INV-SLAB-1] the descriptor has one state an object, behind its fixed part.
        unsafe { self.0.cast::<u8>().add(size_of::<Slab>() + index).cast() }
    }

    #[inline]
    fn word_ptr(self, word: usize) -> NonNull<AtomicU64> {
        debug_assert!(word < self.words());
        let at = size_of::<Slab>() + (self.objects as usize).next_multiple_of(8) + word * 8;
        // SAFETY: [INV-SLAB-1] the free bits follow the states.
        unsafe { self.0.cast::<u8>().add(at).cast() }
    }

    #[inline]
    fn words(self) -> usize {
        (self.objects as usize).div_ceil(64)
    }

    /// The state of an object; lives as long as the slab ([INV-SLAB-1]).
    #[inline]
    pub(super) fn state<'a>(self, index: usize) -> &'a AtomicU8 {
        assert!(index < self.objects as usize);
        // SAFETY: [INV-SLAB-1] `init` wrote it; the caller uses it only while it may use the slab.
        unsafe { self.state_ptr(index).as_ref() }
    }

    #[inline]
    fn word<'a>(self, word: usize) -> &'a AtomicU64 {
        assert!(word < self.words());
        // SAFETY: as in `state`.
        unsafe { self.word_ptr(word).as_ref() }
    }

    /// S44: the object that starts at `addr`; `None` for every other address.
    #[inline]
    pub(super) fn locate(self, addr: usize) -> Option<usize> {
        let offset = addr.wrapping_sub(self.base.addr().get());
        let index = ((offset as u64).wrapping_mul(self.reciprocal) >> RECIPROCAL_SHIFT) as usize;
        let exact = index < self.objects as usize && index * self.stride as usize == offset;
        exact.then_some(index)
    }

    /// The object that covers `addr`; `None` for an address before the first or after the last.
    pub(super) fn covering(self, addr: usize) -> Option<usize> {
        let offset = addr.checked_sub(self.base.addr().get())?;
        let index = offset / self.stride as usize;
        (index < self.objects as usize).then_some(index)
    }

    /// The first byte of an object.
    #[inline]
    pub(super) fn object(self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.objects as usize);
        // SAFETY: [INV-SLAB-1] the slab has `objects` objects from `base` on, `stride` bytes apart.
        unsafe { self.base.add(index * self.stride as usize) }
    }

    /// The size of the slab.
    pub(super) fn order(self) -> Order {
        Order::new(self.kind & 0xf).unwrap_or_default()
    }

    /// The home that it belongs to: where its objects go back to; [`NO_HOME`] if it is new.
    #[inline]
    pub(super) fn home(self) -> usize {
        self.home.load(Relaxed) as usize
    }

    pub(super) fn set_home(self, home: usize) {
        debug_assert!(home < NO_HOME);
        self.home.store(home as u8, Relaxed);
    }

    /// One of [`ON_SLAB`] and [`RECLAIMABLE`].
    pub(super) fn has(self, flag: u8) -> bool {
        self.kind & flag != 0
    }

    /// Objects that are not `FREE`.
    #[inline]
    pub(super) fn in_use(self) -> usize {
        self.in_use.load(Relaxed) as usize
    }

    /// Takes up to `want` free objects, lowest first, and gives them the state `to`. The caller
    /// holds the home's lock and moves the slab to the list that it belongs on then.
    pub(super) fn take(self, want: usize, to: u8, mut out: impl FnMut(usize)) -> usize {
        let mut taken = 0;
        for w in 0..self.words() {
            let word = self.word(w);
            let mut bits = word.load(Relaxed);
            while bits != 0 && taken < want {
                let index = w * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                debug_assert!(self.state(index).load(Relaxed) == FREE);
                self.state(index).store(to, Relaxed);
                out(index);
                taken += 1;
            }
            word.store(bits, Relaxed);
            if taken == want {
                break;
            }
        }
        self.in_use.store((self.in_use() + taken) as u16, Relaxed);
        taken
    }

    /// Makes an object free if its state is `from`. False, and nothing changed, if the state is
    /// another: the object was freed twice. The caller holds the home's lock and says so with
    /// [`SlabPtr::returned`] before it lets go.
    #[inline]
    pub(super) fn put(self, index: usize, from: u8) -> bool {
        let (state, word) = (self.state(index), self.word(index / 64));
        let bit = 1 << (index % 64);
        let bits = word.load(Relaxed);
        if state.load(Relaxed) != from || bits & bit != 0 {
            return false;
        }
        state.store(FREE, Relaxed);
        word.store(bits | bit, Relaxed);
        true
    }

    /// Counts `n` objects that were put.
    pub(super) fn returned(self, n: usize) {
        debug_assert!(n <= self.in_use());
        self.in_use.store((self.in_use() - n) as u16, Relaxed);
    }

    /// True if the free bit of an object is set.
    pub(super) fn is_free(self, index: usize) -> bool {
        self.word(index / 64).load(Relaxed) >> (index % 64) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reciprocal_divides_exactly() {
        // S44: around every multiple of odd and even strides, over the largest slab.
        for stride in [
            8,
            24,
            40,
            56,
            72,
            96,
            136,
            192,
            1000,
            4088,
            8192,
            65_528,
            1 << 22,
        ] {
            let r = reciprocal(stride);
            let mut offset = 0;
            while offset < 1 << 22 {
                for o in [offset, offset + 1, (offset + stride - 1).min((1 << 22) - 1)] {
                    let index = (o as u64).wrapping_mul(r) >> RECIPROCAL_SHIFT;
                    assert_eq!(index as usize, o / stride, "{o} / {stride}");
                }
                offset += stride;
            }
        }
    }
}
