//! The right to what one CPU id protects, and how it ends.

use super::owner_lock::{OwnerLock, ThreadKey};
use super::place::Place;
use super::protocol::Slot;
use crate::sys;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What the sections of slots need that are not one's own.
pub(super) struct Shared {
    /// Only its number is used: a guest is kept apart from others by the lock.
    pub(super) guest_slot: Slot,
    pub(super) guest: OwnerLock,
    pub(super) drain: OwnerLock,
    /// The own slot of who holds `guest`; null if it has none.
    guest_own: AtomicPtr<Slot>,
    /// The own slot of who holds `drain` to use another slot; null if it has none, and holds
    /// `guest` in its place.
    drain_own: AtomicPtr<Slot>,
    /// The place that was taken from outside by who holds `drain`.
    taken: AtomicPtr<Place>,
    /// Not used: it stands for `taken` in a section.
    taken_slot: Slot,
    /// Not used: it stands in a section for the guest slot of a thread that holds `guest` and
    /// `drain` for a fork.
    forking_slot: Slot,
}

/// The right to one slot or place. Leaves it when dropped, on the thread that entered.
///
/// Two words, so that an entry stays in registers: what more there is to know about the rare kinds
/// is kept in `Shared`, under the lock that they hold.
pub struct Section<'a> {
    slot: &'a Slot,
    beside: Beside<'a>,
    /// Not `Send`.
    _thread: PhantomData<*mut ()>,
}

/// What a section needs beside its slot, in one word.
#[derive(Copy, Clone)]
struct Beside<'a>(*const (), PhantomData<(&'a Shared, &'a Place)>);

/// The kinds of it.
enum Kind<'a> {
    /// Null: the slot is the thread's own.
    Own,
    /// Bit 0 is set: the place that the thread has, while its slot says that it is elsewhere.
    Place(&'a Place),
    /// The guest slot, or what was taken from outside.
    Shared(&'a Shared),
}

const IS_PLACE: usize = 1;

impl<'a> Beside<'a> {
    const OWN: Beside<'static> = Beside(ptr::null(), PhantomData);

    #[inline(always)]
    fn kind(self) -> Kind<'a> {
        if self.0.is_null() {
            return Kind::Own;
        }
        let at = self.0.map_addr(|addr| addr & !IS_PLACE);
        if self.0.addr() & IS_PLACE != 0 {
            // SAFETY: [INV-HOST-10] made of a reference to a place, by `Section::of_place`.
            return Kind::Place(unsafe { &*at.cast() });
        }
        // SAFETY: [INV-HOST-10] made of a reference to what is shared, by `Section::other`.
        Kind::Shared(unsafe { &*at.cast() })
    }
}

impl<'a> Section<'a> {
    #[inline(always)]
    pub(super) fn own(slot: &'a Slot) -> Section<'a> {
        Section::new(slot, Beside::OWN)
    }

    /// `slot` is the thread's own, and says that it is elsewhere.
    #[inline(always)]
    pub(super) fn of_place(slot: &'a Slot, place: &'a Place) -> Section<'a> {
        let place = ptr::from_ref(place).cast::<()>();
        let marked = place.map_addr(|addr| addr | IS_PLACE);
        Section::new(slot, Beside(marked, PhantomData))
    }

    pub(super) fn other(slot: &'a Slot, shared: &'a Shared) -> Section<'a> {
        Section::new(slot, Beside(ptr::from_ref(shared).cast(), PhantomData))
    }

    #[inline(always)]
    fn new(slot: &'a Slot, beside: Beside<'a>) -> Section<'a> {
        Section {
            slot,
            beside,
            _thread: PhantomData,
        }
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> &'a Slot {
        self.slot
    }
}

impl Drop for Section<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match self.beside.kind() {
            Kind::Own => self.slot.leave(),
            Kind::Place(place) => {
                place.leave();
                self.slot.come_back();
            }
            Kind::Shared(shared) => shared.leave(self.slot),
        }
    }
}

impl Shared {
    pub(super) const fn new(guest_index: u32) -> Shared {
        Shared {
            guest_slot: Slot::new(guest_index),
            guest: OwnerLock::new(),
            drain: OwnerLock::new(),
            guest_own: AtomicPtr::new(ptr::null_mut()),
            drain_own: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicPtr::new(ptr::null_mut()),
            taken_slot: Slot::new(0),
            forking_slot: Slot::new(0),
        }
    }

    /// Ends a section of the guest slot or of what was taken from outside.
    #[cold]
    #[inline(never)]
    fn leave(&self, slot: &Slot) {
        if ptr::eq(slot, &self.guest_slot) {
            return self.leave_guest();
        }
        if ptr::eq(slot, &self.forking_slot) {
            // The fork keeps the locks.
            return self.drain_own().into_iter().for_each(Slot::come_back);
        }
        if ptr::eq(slot, &self.taken_slot) {
            // SAFETY: [INV-HOST-10] the address of a place, written by `taken` under this lock.
            unsafe { &*self.taken.load(Ordering::Relaxed) }.unbar();
        } else {
            resume(slot);
        }
        self.end_drain();
    }

    /// Ends `lock_drain`; the thread's own slot is not elsewhere any more.
    pub(super) fn end_drain(&self) {
        let own = self.drain_own();
        self.drain.unlock();
        match own {
            Some(own) => own.come_back(),
            None => self.guest.unlock(),
        }
    }

    fn drain_own(&self) -> Option<&Slot> {
        // SAFETY: [INV-HOST-2] the address of a slot of this registry, or null.
        unsafe { self.drain_own.load(Ordering::Relaxed).as_ref() }
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
    pub(super) fn lock_guest(&self, key: ThreadKey, own: Option<&Slot>) {
        self.guest.lock(key);
        self.guest_own.store(as_ptr(own), Ordering::Relaxed);
    }

    /// Takes the right to stop others, for a thread whose own slot is `own` and says that it is
    /// elsewhere.
    pub(super) fn lock_drain(&self, key: ThreadKey, own: Option<&Slot>) {
        if own.is_none() {
            // What tells the handlers of a thread without a slot.
            self.lock_guest(key, None);
        }
        self.drain.lock(key);
        self.drain_own.store(as_ptr(own), Ordering::Relaxed);
    }

    /// A section of `place`, barred by the caller, who holds `drain`. Its end unbars it.
    pub(super) fn taken<'a>(&'a self, place: &'a Place) -> Section<'a> {
        let place = ptr::from_ref(place).cast_mut();
        self.taken.store(place, Ordering::Relaxed);
        Section::other(&self.taken_slot, self)
    }

    /// A section of the guest slot for a thread that holds both locks for a fork; its own slot says
    /// that it is elsewhere.
    pub(super) fn of_forking<'a>(&'a self, own: &'a Slot) -> Section<'a> {
        self.drain_own.store(as_ptr(Some(own)), Ordering::Relaxed);
        Section::other(&self.forking_slot, self)
    }

    /// True if the thread holds one of the locks: it is a signal handler that came in the middle.
    pub(super) fn holds(&self, key: ThreadKey) -> bool {
        self.guest.held_by(key) || self.drain.held_by(key)
    }
}

fn as_ptr(slot: Option<&Slot>) -> *mut Slot {
    slot.map_or(ptr::null_mut(), |slot| ptr::from_ref(slot).cast_mut())
}

/// Ends a stop.
pub(super) fn resume(slot: &Slot) {
    if slot.resume() {
        sys::futex_wake(slot.stop_word(), i32::MAX);
    }
}
