//! Who owns which slot.

use super::owner_lock::{OwnerLock, ThreadKey};
use super::protocol::{Entry, Fences, Heavy, Slot};
use super::tls::{self, Thread};
use crate::sys;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, compiler_fence, fence,
};
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
    shared: Shared,
}

/// What the sections of slots need that are not one's own.
struct Shared {
    /// Only its number is used: a guest is kept apart from others by the lock.
    guest_slot: Slot,
    guest: OwnerLock,
    drain: OwnerLock,
    /// The own slot of who holds `guest`; null if it has none.
    guest_own: AtomicPtr<Slot>,
    /// The own slot of who holds `drain` to use another slot; null if it has none, and holds
    /// `guest` in its place.
    drain_own: AtomicPtr<Slot>,
}

/// The right to one slot. Leaves it when dropped, on the thread that entered.
///
/// Two words, so that an entry stays in registers: what more there is to know about the rare kinds
/// is kept in `Shared`, under the lock that they hold.
pub struct Section<'a> {
    slot: &'a Slot,
    /// `None`: the thread's own slot. Else the guest slot, or a slot taken from outside.
    shared: Option<&'a Shared>,
    /// Not `Send`.
    _thread: PhantomData<*mut ()>,
}

impl<'a> Section<'a> {
    #[inline(always)]
    fn own(slot: &'a Slot) -> Section<'a> {
        Section {
            slot,
            shared: None,
            _thread: PhantomData,
        }
    }

    fn other(slot: &'a Slot, shared: &'a Shared) -> Section<'a> {
        Section {
            slot,
            shared: Some(shared),
            _thread: PhantomData,
        }
    }
}

impl Drop for Section<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match self.shared {
            None => self.slot.leave(),
            Some(shared) => shared.leave(self.slot),
        }
    }
}

impl Shared {
    const fn new(guest_index: u32) -> Shared {
        Shared {
            guest_slot: Slot::new(guest_index),
            guest: OwnerLock::new(),
            drain: OwnerLock::new(),
            guest_own: AtomicPtr::new(ptr::null_mut()),
            drain_own: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Ends a section of the guest slot or of a slot taken from outside.
    #[cold]
    #[inline(never)]
    fn leave(&self, slot: &Slot) {
        if ptr::eq(slot, &self.guest_slot) {
            return self.leave_guest();
        }
        let own = self.drain_own.load(Ordering::Relaxed);
        resume(slot);
        self.drain.unlock();
        // SAFETY: [INV-HOST-2] the address of a slot of this registry, or null.
        match unsafe { own.as_ref() } {
            Some(own) => own.come_back(),
            None => self.guest.unlock(),
        }
    }

    fn leave_guest(&self) {
        let own = self.guest_own.load(Ordering::Relaxed);
        self.guest.unlock();
        // SAFETY: [INV-HOST-2] the address of a slot of this registry, or null.
        if let Some(own) = unsafe { own.as_ref() } {
            own.come_back();
        }
    }

    /// Takes the guest slot, for a thread whose own slot is `own` if it has one.
    fn lock_guest(&self, key: ThreadKey, own: Option<&Slot>) {
        self.guest.lock(key);
        self.guest_own.store(as_ptr(own), Ordering::Relaxed);
    }

    /// True if the thread holds one of the locks: it is a signal handler that came in the middle.
    fn holds(&self, key: ThreadKey) -> bool {
        self.guest.held_by(key) || self.drain.held_by(key)
    }
}

fn as_ptr(slot: Option<&Slot>) -> *mut Slot {
    slot.map_or(ptr::null_mut(), |slot| ptr::from_ref(slot).cast_mut())
}

fn resume(slot: &Slot) {
    if slot.resume() {
        sys::futex_wake(slot.stop_word(), i32::MAX);
    }
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
        Ok((CpuId(section.slot.index()), section))
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
                self.shared.lock_guest(key, None);
                self.guest_used.store(true, Ordering::Relaxed);
                return Some(Section::other(&self.shared.guest_slot, &self.shared));
            };
            match slot.try_enter::<Asymmetric>() {
                Entry::Inside => return Some(Section::own(slot)),
                Entry::Nested => return None,
                Entry::Stopped => wait_while_stopped(slot),
            }
        }
    }

    pub(super) fn enter_remote<T: Thread>(&self, me: T, cpu: CpuId) -> Option<Section<'_>> {
        let key = me.key();
        let guest = cpu.0 as usize == N && self.guest_used.load(Ordering::Relaxed);
        // Acquire: pairs with the Release in `claim`.
        let known = guest || cpu.0 < self.high.load(Ordering::Acquire);
        if self.shared.holds(key) || !known {
            return None;
        }
        let own = self.slot_of(me);
        if own.is_some_and(|own| !own.go_elsewhere::<Asymmetric>()) {
            return None;
        }
        if guest {
            self.shared.lock_guest(key, own);
            return Some(Section::other(&self.shared.guest_slot, &self.shared));
        }
        if own.is_none() {
            // What tells the handlers of a thread without a slot.
            self.shared.lock_guest(key, None);
        }
        self.shared.drain.lock(key);
        self.shared.drain_own.store(as_ptr(own), Ordering::Relaxed);
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
    fn attach<T: Thread>(&self, me: T) -> bool {
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

    /// The thread ends: its slot is free for others.
    pub(super) fn detach<T: Thread>(&self, me: T) {
        let Some(slot) = self.slot_of(me) else { return };
        me.set_word(tls::TORN_DOWN);
        if slot.is_busy() {
            slot.lose();
            return;
        }
        self.disown(slot.index() as usize);
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

    /// Ends [`Registry::quiesce`]. False, and nothing done, if that answered false.
    pub(super) fn resume<T: Thread>(&self, me: T) -> bool {
        if !self.frozen.load(Ordering::Relaxed) || !self.shared.drain.held_by(me.key()) {
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
