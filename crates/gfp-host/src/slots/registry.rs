//! Who owns which slot.

use super::owner_lock::ThreadKey;
use super::protocol::{Entry, Fences, Heavy, Slot};
use super::section::{Section, Shared, resume};
use super::tls::{self, Thread};
use crate::sys;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
use gfp::frame::CpuId;
use gfp::platform::Nested;

/// The fences of a process with `membarrier`.
pub(super) struct Asymmetric;

impl Fences for Asymmetric {
    #[inline(always)]
    fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    fn full() {
        fence(Ordering::SeqCst);
    }
}

/// Words of the bitmap of slots in use.
const WORDS: usize = 16;
/// Slots in one word.
const WORD_SLOTS: usize = u64::BITS as usize;

/// `barrier`: not asked yet.
const UNKNOWN: u32 = 0;
/// `barrier`: `membarrier` works.
const MEMBARRIER: u32 = 1;
/// `barrier`: it does not; all slots are HEAVY.
const NONE: u32 = 2;

/// A table of `N` slots and a guest slot.
pub(super) struct Registry<const N: usize> {
    slots: [Slot; N],
    /// One bit a slot: it has an owner. Set under `drain`.
    used: [AtomicU64; WORDS],
    /// Slots that ever had an owner are below this. Grows under `drain`.
    high: AtomicU32,
    barrier: AtomicU32,
    /// Somebody was a guest.
    guest_used: AtomicBool,
    /// All slots are stopped for a fork.
    frozen: AtomicBool,
    pub(super) shared: Shared,
}

fn wait_while_stopped(slot: &Slot) {
    const SPINS: u32 = 128; // a drain takes a few microseconds
    for _ in 0..SPINS {
        if !slot.is_stopped() {
            return;
        }
        core::hint::spin_loop();
    }
    while let Some(seen) = slot.await_resume() {
        sys::futex_wait(slot.stop_word(), seen);
    }
}

fn wait_until_outside(slot: &Slot) {
    let mut spins = 0u32;
    while slot.is_inside() {
        sys::relax(spins);
        spins = spins.saturating_add(1);
    }
}

impl<const N: usize> Registry<N> {
    pub(super) const fn new() -> Registry<N> {
        assert!(N > 0 && N <= WORDS * WORD_SLOTS);
        Registry {
            slots: [const { Slot::new(0) }; N],
            used: [const { AtomicU64::new(0) }; WORDS],
            high: AtomicU32::new(0),
            barrier: AtomicU32::new(UNKNOWN),
            guest_used: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            shared: Shared::new(N as u32),
        }
    }

    /// The slot behind a thread's word.
    #[inline(always)]
    fn attached(&self, word: usize) -> Option<&Slot> {
        if word <= tls::TORN_DOWN {
            return None;
        }
        // SAFETY: [INV-HOST-2] a word above TORN_DOWN is the address of a slot of this registry,
        // written by `attach`; slots live as long as the registry, which is `self`.
        Some(unsafe { &*ptr::with_exposed_provenance::<Slot>(word) })
    }

    pub(super) fn slot_of<T: Thread>(&self, me: T) -> Option<&Slot> {
        self.attached(me.word())
    }

    #[inline(always)]
    pub(super) fn enter<T: Thread>(&self, me: T) -> Result<(CpuId, Section<'_>), Nested> {
        let mut own = None;
        if let Some(slot) = self.attached(me.word()) {
            match slot.try_enter::<Asymmetric>() {
                Entry::Inside => own = Some(Section::own(slot)),
                Entry::Nested => return Err(Nested),
                Entry::Stopped => {}
            }
        }
        let section = match own {
            Some(section) => section,
            None => self.enter_slow(me).ok_or(Nested)?,
        };
        Ok((CpuId(section.slot().index()), section))
    }

    /// `None`: not without a call.
    #[inline(always)]
    pub(super) fn enter_quick<T: Thread>(&self, me: T) -> Option<(CpuId, Section<'_>)> {
        let slot = self.attached(me.word())?;
        if !slot.enter_quick::<Asymmetric>() {
            return None;
        }
        Some((CpuId(slot.index()), Section::own(slot)))
    }

    /// `None`: nested.
    #[cold]
    #[inline(never)]
    fn enter_slow<T: Thread>(&self, me: T) -> Option<Section<'_>> {
        loop {
            let Some(slot) = self.slot_of(me) else {
                let key = me.key();
                if self.shared.holds(key) {
                    return None;
                }
                if me.word() == tls::NEW && self.attach(me) {
                    continue;
                }
                return Some(self.enter_guest(key, None));
            };
            match slot.try_enter::<Asymmetric>() {
                Entry::Inside => return Some(Section::own(slot)),
                Entry::Nested => return None,
                Entry::Stopped => wait_while_stopped(slot),
            }
        }
    }

    pub(super) fn enter_remote<T: Thread>(&self, me: T, cpu: CpuId) -> Option<Section<'_>> {
        if cpu.0 as usize == N {
            return self.enter_guest_remote(me);
        }
        // Acquire: pairs with the Release in `claim`.
        if cpu.0 >= self.high.load(Ordering::Acquire) || !self.begin_drain(me) {
            return None;
        }
        let target = &self.slots[cpu.0 as usize];
        target.stop();
        let section = Section::other(target, &self.shared); // resumes the target in any case
        // With no owner there is nobody to wait for, and none can come while `drain` is held.
        // Acquire in `is_used` pairs with the Release in `detach`.
        if self.is_used(cpu.0 as usize) && !self.fence_on_everyone() {
            return None;
        }
        wait_until_outside(target);
        (!target.is_lost()).then_some(section)
    }

    /// Takes the guest slot from outside.
    pub(super) fn enter_guest_remote<T: Thread>(&self, me: T) -> Option<Section<'_>> {
        let (key, own) = (me.key(), self.slot_of(me));
        let known = self.guest_used.load(Ordering::Relaxed);
        if !known
            || self.shared.holds(key)
            || own.is_some_and(|own| !own.go_elsewhere::<Asymmetric>())
        {
            return None;
        }
        Some(self.enter_guest(key, own))
    }

    /// Takes the right to stop others. False: the thread is inside a section.
    pub(super) fn begin_drain<T: Thread>(&self, me: T) -> bool {
        let (key, own) = (me.key(), self.slot_of(me));
        if self.shared.holds(key) || own.is_some_and(|own| !own.go_elsewhere::<Asymmetric>()) {
            return false;
        }
        self.shared.lock_drain(key, own);
        true
    }

    /// Takes the guest slot, for a thread whose own slot, if it has one, says that it is elsewhere.
    pub(super) fn enter_guest(&self, key: ThreadKey, own: Option<&Slot>) -> Section<'_> {
        self.shared.lock_guest(key, own);
        self.guest_used.store(true, Ordering::Relaxed);
        Section::other(&self.shared.guest_slot, &self.shared)
    }

    pub(super) fn is_inside<T: Thread>(&self, me: T) -> bool {
        match self.slot_of(me) {
            Some(slot) => slot.is_busy(),
            None => self.shared.holds(me.key()),
        }
    }

    /// Fence b of the protocol. False if that is not possible.
    fn fence_on_everyone(&self) -> bool {
        fence(Ordering::SeqCst);
        match self.barrier.load(Ordering::Relaxed) {
            MEMBARRIER => sys::membarrier().is_ok(),
            // HEAVY slots: their fence 2 is a real one, and ours is above.
            _ => true,
        }
    }

    /// Gives the thread a slot. False if there is none.
    pub(super) fn attach<T: Thread>(&self, me: T) -> bool {
        if self.first_free().is_none() {
            return false;
        }
        let key = me.key();
        self.shared.drain.lock(key);
        // A signal handler may have attached this thread while we waited.
        let claimed = if me.word() == tls::NEW {
            self.claim()
        } else {
            None
        };
        if let Some(slot) = claimed {
            // From here on this thread can enter, and so `malloc` works on it.
            me.set_word(ptr::from_ref(slot).expose_provenance());
        }
        self.shared.drain.unlock();
        if claimed.is_some() {
            me.watch_exit();
        }
        claimed.is_some() || me.word() > tls::TORN_DOWN
    }

    /// Finds a free slot and marks it used. `drain` is held.
    fn claim(&self) -> Option<&Slot> {
        let index = self.first_free()?;
        if self.barrier.load(Ordering::Relaxed) == UNKNOWN {
            self.register_barrier();
        }
        let heavy = match self.barrier.load(Ordering::Relaxed) {
            MEMBARRIER => Heavy::No,
            _ => Heavy::Yes,
        };
        let slot = &self.slots[index];
        slot.prepare(index as u32, heavy);
        // Acquire: pairs with the Release in `detach`; the sections of the last owner are seen.
        let old =
            self.used[index / WORD_SLOTS].fetch_or(1 << (index % WORD_SLOTS), Ordering::Acquire);
        debug_assert_eq!(
            old >> (index % WORD_SLOTS) & 1,
            0,
            "slot {index} has an owner"
        );
        // Release: pairs with the Acquire in `enter_remote`.
        self.high.fetch_max(index as u32 + 1, Ordering::Release);
        Some(slot)
    }

    fn register_barrier(&self) {
        let have = !cfg!(gfp_tsan) && sys::membarrier_register().is_ok();
        self.barrier
            .store(if have { MEMBARRIER } else { NONE }, Ordering::Relaxed);
    }

    /// As on a kernel without `membarrier`. Before the first entry.
    #[cfg(test)]
    pub(super) fn without_membarrier(self) -> Registry<N> {
        self.barrier.store(NONE, Ordering::Relaxed);
        self
    }

    fn first_free(&self) -> Option<usize> {
        let of_word = |(i, word): (usize, &AtomicU64)| {
            // Acquire: as in `claim`.
            let free = !word.load(Ordering::Acquire);
            (free != 0).then(|| i * WORD_SLOTS + free.trailing_zeros() as usize)
        };
        let found = self.used.iter().enumerate().find_map(of_word);
        found.filter(|index| *index < N)
    }

    /// Slots that have an owner.
    pub(super) fn owners(&self) -> u32 {
        // Relaxed: a count, stale when it is there.
        let owned = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones();
        self.used.iter().map(owned).sum()
    }

    fn is_used(&self, index: usize) -> bool {
        self.used[index / WORD_SLOTS].load(Ordering::Acquire) >> (index % WORD_SLOTS) & 1 != 0
    }

    fn disown(&self, index: usize) {
        // Release: pairs with the Acquire in `claim` and `is_used`.
        let bit = 1 << (index % WORD_SLOTS);
        let old = self.used[index / WORD_SLOTS].fetch_and(!bit, Ordering::Release);
        debug_assert_ne!(old & bit, 0, "slot {index} had no owner");
    }

    /// The thread ends: its slot is free for others. Returns the slot if it is lost, as the thread
    /// ends inside a section.
    pub(super) fn detach<T: Thread>(&self, me: T) -> Option<&Slot> {
        let slot = self.slot_of(me)?;
        me.set_word(tls::TORN_DOWN);
        if slot.is_busy() {
            slot.lose();
            return Some(slot);
        }
        self.disown(slot.index() as usize);
        None
    }

    fn slots_but<'a>(&'a self, own: Option<&'a Slot>) -> impl Iterator<Item = (usize, &'a Slot)> {
        // Acquire: pairs with the Release in `claim`.
        let high = self.high.load(Ordering::Acquire) as usize;
        let others = self.slots[..high].iter().enumerate();
        others.filter(move |(_, slot)| own.is_none_or(|own| !ptr::eq(*slot, own)))
    }

    /// Brings every other thread to rest outside: no section exists, and none can begin. False, and
    /// nothing done, if the calling thread itself is inside one.
    pub(super) fn quiesce<T: Thread>(&self, me: T) -> bool {
        let key = me.key();
        if self.is_inside(me) || self.shared.holds(key) {
            return false;
        }
        if me.word() == tls::NEW {
            self.attach(me);
        }
        self.shared.lock_guest(key, None);
        self.shared.drain.lock(key);
        let own = self.slot_of(me);
        let mut owned = false;
        for (index, slot) in self.slots_but(own) {
            slot.stop();
            owned |= self.is_used(index);
        }
        if owned {
            // Registered and yet refused means a filter that came later. The child cannot be made
            // safe in another way: waiting still finds everyone whose stores have arrived.
            self.fence_on_everyone();
        }
        for (_, slot) in self.slots_but(own) {
            wait_until_outside(slot);
        }
        self.frozen.store(true, Ordering::Relaxed);
        true
    }

    /// True between [`Registry::quiesce`] and [`Registry::resume`] of the calling thread.
    pub(super) fn has_quiesced<T: Thread>(&self, me: T) -> bool {
        self.frozen.load(Ordering::Relaxed) && self.shared.drain.held_by(me.key())
    }

    /// Ends [`Registry::quiesce`]. False, and nothing done, if that answered false.
    pub(super) fn resume<T: Thread>(&self, me: T) -> bool {
        if !self.has_quiesced(me) {
            return false;
        }
        self.frozen.store(false, Ordering::Relaxed);
        for (_, slot) in self.slots_but(self.slot_of(me)) {
            resume(slot);
        }
        self.shared.drain.unlock();
        self.shared.guest.unlock();
        true
    }

    /// In the child of a fork: only the calling thread exists. Slots of the others are free, with
    /// their caches; those caught inside a section (only if `quiesce` answered false) are lost.
    pub(super) fn resume_child<T: Thread>(&self, me: T) {
        let whole = self.frozen.swap(false, Ordering::Relaxed);
        if self.barrier.load(Ordering::Relaxed) == MEMBARRIER && sys::membarrier_register().is_err()
        {
            self.barrier.store(NONE, Ordering::Relaxed);
            self.slots.iter().for_each(Slot::make_heavy);
        }
        for (index, slot) in self.slots_but(self.slot_of(me)) {
            if !whole && slot.is_inside() {
                slot.lose();
            }
            if slot.reset() && self.is_used(index) {
                self.disown(index);
            }
        }
        // Not whole: what a handler interrupted on this very thread goes on to unlock.
        for lock in [&self.shared.drain, &self.shared.guest] {
            if whole || !lock.held_by(me.key()) {
                lock.reset();
            }
        }
    }
}
