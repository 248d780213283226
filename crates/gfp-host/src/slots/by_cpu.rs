//! Places: the CPU ids of restartable sequences, in the place of slots.
//!
//! 1. **Tables.** A process has a place for each processor that Linux may ever have, and once more
//!    for each compact id (`mm_cid`), as the two may not be mixed. All machines share both.
//! 2. **Entering.** The thread's slot says that it is elsewhere, so that its signal handlers are
//!    refused; then one sequence claims the place of the id that the thread has at that moment.
//!    `place.rs` has the proof.
//! 3. **Taken.** A thread that finds the place taken, by one that was preempted inside or moved
//!    away, or by a drain, gives the processor away once: the owner may be next. If it is taken
//!    even then, the thread uses the guest slot: under a lock, but without waiting for somebody who
//!    may not run for long. (Without the first, 16 threads on 4 processors met at that lock, and a
//!    page took twice as long: ADR 0017.)
//! 4. **From outside** it is as with slots, under the same lock: a bar, a `membarrier` (of the kind
//!    that restarts sequences), a wait until nobody has the place.
//! 5. **Thread exit, fork.** As with slots: a place whose owner is gone is lost. Who comes to that
//!    id is a guest from then on. The forking thread is a guest until the fork is over.
//! 6. **What it does not do.** Nothing registers an area: a thread of which the C library does not
//!    keep one is a guest.

use super::place::Place;
use super::protocol::Slot;
use super::registry::{Asymmetric, Registry};
use super::section::Section;
use super::tls::{self, Thread};
use crate::rseq::{self, Reach, Rseq};
use crate::sys;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use gfp::frame::CpuId;
use gfp::platform::Nested;
use gfp::sync::restart::{ByCid, ByCpu, Claim, Claims, Numbering};

/// The most ids that a table has places for.
pub(crate) const NR_PLACES: usize = 1024;

/// The places of one kind of id.
pub(crate) struct Table<I: Numbering> {
    places: [Place; NR_PLACES],
    /// Ids of the machines that use the table; 0: there is none. Written under `drain`.
    nr_ids: AtomicU32,
    _kind: core::marker::PhantomData<I>,
}

// SAFETY: the kind of id is no value.
unsafe impl<I: Numbering> Sync for Table<I> {}

static BY_CPU: Table<ByCpu> = Table::new();
static BY_CID: Table<ByCid> = Table::new();

/// A kind of id that the process has a table for.
pub(crate) trait Tabled: Reach + 'static {
    #[doc(hidden)]
    fn table() -> &'static Table<Self>
    where
        Self: Sized;
}

impl Tabled for ByCpu {
    fn table() -> &'static Table<ByCpu> {
        &BY_CPU
    }
}
impl Tabled for ByCid {
    fn table() -> &'static Table<ByCid> {
        &BY_CID
    }
}

impl<I: Reach> Table<I> {
    pub(super) const fn new() -> Table<I> {
        Table {
            places: [const { Place::new() }; NR_PLACES],
            nr_ids: AtomicU32::new(0),
            _kind: core::marker::PhantomData,
        }
    }

    fn used(&self) -> &[Place] {
        // Acquire: pairs with the Release in `open`.
        &self.places[..self.nr_ids.load(Ordering::Acquire) as usize]
    }

    #[cfg(test)]
    pub(super) fn is_barred(&self, cpu: CpuId) -> bool {
        self.places[cpu.0 as usize].is_barred()
    }

    /// Claims the place of the id that the thread of `slot` has now.
    #[inline(always)]
    fn claim(&self, rseq: &Rseq, slot: &Slot) -> Option<(CpuId, &Place)> {
        let task = rseq.current()?;
        let base = NonNull::from(&self.places).cast::<Claim>();
        // SAFETY: [INV-RESTART-4] ids of areas are below `nr_cpus`, which `open` compared with
        // the number of places; the first words of each are a `Claim`. Compact ids are asked for
        // only where the kernel has them (`Cpus::new`).
        let claims: Claims<I> = unsafe { Claims::new(base, size_of::<Place>()) };
        let id = claims.claim(task, NonNull::from(slot).addr())?;
        let place = &self.places[id.0 as usize];
        place.note_claimed();
        Some((id, place))
    }
}

const _: () = assert!(Place::OWNER == offset_of!(Claim, owner));
const _: () = assert!(Place::BARRED == offset_of!(Claim, barred));

impl<const N: usize> Registry<N> {
    /// A machine is about to use `table` with `nr_ids` ids. False: the caller is inside a section.
    pub(super) fn open<T: Thread, I: Reach>(&self, me: T, table: &Table<I>, nr_ids: u32) -> bool {
        assert!(nr_ids as usize <= NR_PLACES);
        // Under the lock, so that a fork sees all places that may be in use.
        let drains = self.begin_drain(me);
        if drains {
            // Release: pairs with the Acquire in `used`.
            table.nr_ids.fetch_max(nr_ids, Ordering::Release);
            self.shared.end_drain();
        }
        drains
    }

    /// `None`: not without a call.
    #[inline(always)]
    pub(super) fn enter_place_quick<'a, T: Thread, I: Reach>(
        &'a self,
        me: T,
        table: &'a Table<I>,
        rseq: &Rseq,
    ) -> Option<(CpuId, Section<'a>)> {
        let slot = self.slot_of(me)?;
        if !slot.go_elsewhere::<Asymmetric>() {
            return None;
        }
        let Some((id, place)) = table.claim(rseq, slot) else {
            slot.come_back();
            return None;
        };
        Some((id, Section::of_place(slot, place)))
    }

    /// [`Registry::enter_place_quick`], else the guest slot.
    #[cold]
    #[inline(never)]
    pub(super) fn enter_place<'a, T: Thread, I: Reach>(
        &'a self,
        me: T,
        table: &'a Table<I>,
        rseq: &Rseq,
    ) -> Result<(CpuId, Section<'a>), Nested> {
        let key = me.key();
        let guest = CpuId(rseq.nr_cpus());
        if self.slot_of(me).is_none() {
            if self.shared.holds(key) {
                return Err(Nested);
            }
            if me.word() != tls::NEW || !self.attach(me) {
                return Ok((guest, self.enter_guest(key, None)));
            }
        }
        let slot = self.slot_of(me).ok_or(Nested)?; // it was attached
        if !slot.go_elsewhere::<Asymmetric>() {
            return Err(Nested);
        }
        for turn in 0..2 {
            if let Some((id, place)) = table.claim(rseq, slot) {
                return Ok((id, Section::of_place(slot, place)));
            }
            if turn == 0 {
                sys::sched_yield();
            }
        }
        if self.shared.drain.held_by(key) {
            // Outside and yet with the lock: this thread is about to fork.
            return Ok((guest, self.shared.of_forking(slot)));
        }
        Ok((guest, self.enter_guest(key, Some(slot))))
    }

    /// As [`Registry::enter_remote`], of a place or the guest slot.
    pub(super) fn enter_place_remote<'a, T: Thread, I: Reach>(
        &'a self,
        me: T,
        table: &'a Table<I>,
        rseq: &Rseq,
        cpu: CpuId,
    ) -> Option<Section<'a>> {
        if cpu.0 == rseq.nr_cpus() {
            return self.enter_guest_remote(me);
        }
        let place = table.used().get(cpu.0 as usize)?;
        if !self.begin_drain(me) {
            return None;
        }
        place.bar();
        let section = self.shared.taken(place); // unbars it in any case
        rseq.restart_all::<I>(cpu)?;
        wait_until_free(place);
        (!place.is_lost()).then_some(section)
    }
}

fn wait_until_free(place: &Place) {
    let mut spins = 0u32;
    while place.is_owned() {
        sys::relax(spins);
        spins = spins.saturating_add(1);
    }
}

impl<I: Reach> Table<I> {
    /// Brings all to rest that are inside. The caller holds `drain` and has no place.
    pub(super) fn quiesce(&self) {
        self.used().iter().for_each(Place::bar);
        if !self.used().is_empty() {
            // Registered and yet refused: as in `Registry::quiesce`.
            let _ = rseq::restart_everywhere();
        }
        self.used().iter().for_each(wait_until_free);
    }

    /// Ends [`Table::quiesce`].
    pub(super) fn resume(&self) {
        self.used().iter().for_each(Place::unbar);
    }

    /// In the child of a fork: only the thread of `own` exists.
    pub(super) fn resume_child(&self, own: Option<&Slot>) {
        let survivor = own.map_or(0, owner);
        self.used().iter().for_each(|place| place.reset(survivor));
        if !self.used().is_empty() {
            // Refused: nobody can be stopped in this process, and `enter_remote` says so.
            let _ = rseq::register();
        }
    }

    /// The thread of `own` ended inside a section.
    pub(super) fn lose_of(&self, own: &Slot) {
        let lose = |place: &Place| place.lose_if_of(owner(own));
        self.used().iter().for_each(lose);
    }
}

/// What a thread is called in its place.
fn owner(slot: &Slot) -> usize {
    NonNull::from(slot).addr().get()
}

/// [`Table::quiesce`] of the process.
pub(super) fn quiesce() {
    BY_CPU.quiesce();
    BY_CID.quiesce();
}

/// [`Table::resume`] of the process.
pub(super) fn resume() {
    BY_CPU.resume();
    BY_CID.resume();
}

/// [`Table::resume_child`] of the process.
pub(super) fn resume_child(own: Option<&Slot>) {
    BY_CPU.resume_child(own);
    BY_CID.resume_child(own);
}

/// [`Table::lose_of`] of the process.
pub(super) fn lose_places(own: &Slot) {
    BY_CPU.lose_of(own);
    BY_CID.lose_of(own);
}
