//! The registry by itself, small enough to run out of slots.

#[cfg(target_arch = "x86_64")]
mod places;

use super::owner_lock::ThreadKey;
use super::protocol::{Entry, Slot};
use super::registry::{Asymmetric, Registry};
use super::section::Section;
use super::tls::{self, Thread};
use gfp::frame::CpuId;
use gfp::platform::Nested;
use std::boxed::Box;
use std::cell::{Cell, UnsafeCell};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::vec::Vec;

std::thread_local! {
    static WORD: Cell<usize> = const { Cell::new(tls::NEW) };
}

/// A thread of a registry of the test's own. Nobody watches its exit: tests call `detach`.
#[derive(Copy, Clone)]
struct Me;

impl Thread for Me {
    fn word(self) -> usize {
        WORD.get()
    }

    fn set_word(self, word: usize) {
        WORD.set(word);
    }

    fn key(self) -> ThreadKey {
        WORD.with(|word| word.as_ptr().addr())
    }

    fn watch_exit(self) {}
}

fn registry<const N: usize>() -> &'static Registry<N> {
    leak(Registry::new())
}

/// Also forgets the slot that this thread had in the registry of an earlier test.
fn leak<const N: usize>(registry: Registry<N>) -> &'static Registry<N> {
    /// Keeps a leak checker quiet: what is leaked on purpose stays within reach.
    static LEAKED: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    WORD.set(tls::NEW);
    let leaked: &'static Registry<N> = Box::leak(Box::new(registry));
    let place = &LEAKED[COUNT.fetch_add(1, Ordering::Relaxed)];
    place.store(
        core::ptr::from_ref(leaked).expose_provenance(),
        Ordering::Relaxed,
    );
    leaked
}

fn cpu<const N: usize>(registry: &Registry<N>) -> CpuId {
    registry.enter(Me).expect("not nested").0
}

#[test]
fn an_entry_inside_a_section_is_nested() {
    let registry = registry::<2>();
    let (cpu, section) = registry.enter(Me).unwrap();
    assert_eq!(cpu, CpuId(0));
    assert!(matches!(registry.enter(Me), Err(Nested)));
    assert!(registry.enter_remote(Me, CpuId(0)).is_none());
    assert!(registry.is_inside(Me));
    drop(section);
    assert!(!registry.is_inside(Me));
    assert!(registry.enter(Me).is_ok());
}

#[test]
fn a_remote_section_counts_as_inside() {
    let registry = registry::<2>();
    assert_eq!(cpu(registry), CpuId(0));
    for target in [0, 1] {
        if target == 1 {
            assert!(registry.enter_remote(Me, CpuId(1)).is_none(), "never used");
            thread::spawn(|| assert_eq!(cpu(registry), CpuId(1)))
                .join()
                .unwrap();
        }
        let section = registry
            .enter_remote(Me, CpuId(target))
            .expect("a slot in use");
        assert!(registry.is_inside(Me));
        assert!(matches!(registry.enter(Me), Err(Nested)));
        assert!(registry.enter_remote(Me, CpuId(target)).is_none());
        drop(section);
        assert!(registry.enter(Me).is_ok());
    }
    assert!(
        registry.enter_remote(Me, CpuId(2)).is_none(),
        "nobody was a guest"
    );
    assert!(
        registry.enter_remote(Me, CpuId(3)).is_none(),
        "no such slot"
    );
}

#[test]
fn a_slot_goes_to_the_next_thread_when_its_owner_ends() {
    let registry = registry::<2>();
    for _ in 0..10 {
        let first = thread::spawn(|| {
            let first = cpu(registry);
            assert_eq!(cpu(registry), first, "a thread keeps its slot");
            registry.detach(Me);
            assert_eq!(cpu(registry), CpuId(2), "after its end a thread is a guest");
            first
        });
        assert_eq!(first.join().unwrap(), CpuId(0));
    }
}

#[test]
fn a_thread_that_ends_inside_loses_its_slot_for_ever() {
    let registry = registry::<2>();
    thread::spawn(|| {
        let (cpu, section) = registry.enter(Me).unwrap();
        assert_eq!(cpu, CpuId(0));
        core::mem::forget(section);
        registry.detach(Me);
    })
    .join()
    .unwrap();
    assert_eq!(cpu(registry), CpuId(1));
    assert!(registry.enter_remote(Me, CpuId(0)).is_none());
    assert!(registry.quiesce(Me), "a lost slot is not waited for");
    assert!(registry.resume(Me));
}

#[test]
fn threads_beyond_the_last_slot_share_the_guest_slot_one_at_a_time() {
    const THREADS: usize = 4;
    const SECTIONS: u64 = 5_000;
    let registry = registry::<1>();
    assert_eq!(cpu(registry), CpuId(0));
    let cache = Cache(UnsafeCell::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..SECTIONS {
                    let (cpu, section) = registry.enter(Me).unwrap();
                    assert_eq!(cpu, CpuId(1));
                    assert!(matches!(registry.enter(Me), Err(Nested)));
                    assert!(registry.enter_remote(Me, CpuId(0)).is_none());
                    cache.touch(&section);
                    drop(section);
                    // A thread without a slot can take slots from outside, the guest slot too.
                    drop(registry.enter_remote(Me, CpuId(0)).expect("a slot in use"));
                    drop(registry.enter_remote(Me, CpuId(1)).expect("guests exist"));
                }
            });
        }
        for _ in 0..SECTIONS {
            let section = registry.enter_remote(Me, CpuId(1));
            if let Some(section) = section {
                assert!(matches!(registry.enter(Me), Err(Nested)));
                cache.touch(&section);
                cache.undo(&section);
            }
        }
    });
    let section = registry.enter_remote(Me, CpuId(1)).unwrap();
    assert_eq!(cache.read(&section), THREADS as u64 * SECTIONS);
    drop(section);
    assert!(!registry.is_inside(Me));
}

/// What a slot protects: changed by plain loads and stores, so that a second one inside shows.
struct Cache(UnsafeCell<u64>);

// SAFETY: the tests use a cache inside sections of one slot only, which is what they test.
unsafe impl Sync for Cache {}

impl Cache {
    fn touch(&self, _section: &Section<'_>) {
        // SAFETY: as above. Volatile: the load and the store both happen.
        unsafe {
            self.0
                .get()
                .write_volatile(self.0.get().read_volatile() + 1)
        };
    }

    fn read(&self, _section: &Section<'_>) -> u64 {
        // SAFETY: as above.
        unsafe { self.0.get().read_volatile() }
    }

    fn undo(&self, _section: &Section<'_>) {
        // SAFETY: as above.
        unsafe {
            self.0
                .get()
                .write_volatile(self.0.get().read_volatile() - 1)
        };
    }
}

/// Owners count in their own caches while stoppers count in everybody's: a lost count means that
/// two were inside at once. (Control, done by hand: with the check of `stop` taken out of
/// `try_enter`, or the wait out of `enter_remote`, counts are lost in every run.)
fn nobody_is_inside_with_a_stopper<const N: usize>(registry: &'static Registry<N>) {
    const OWNERS: usize = 3;
    const STOPPERS: usize = 2;
    const DRAINS: u64 = 3_000;
    let caches = [const { Cache(UnsafeCell::new(0)) }; OWNERS];
    let stop = AtomicBool::new(false);
    let own_total = AtomicU64::new(0);
    let ready = Barrier::new(OWNERS + STOPPERS);
    let running = AtomicU64::new(STOPPERS as u64);
    thread::scope(|scope| {
        for _ in 0..OWNERS {
            scope.spawn(|| {
                let mine = cpu(registry);
                ready.wait();
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (cpu, section) = registry.enter(Me).unwrap();
                    assert_eq!(cpu, mine);
                    for _ in 0..8 {
                        caches[cpu.0 as usize].touch(&section);
                    }
                    drop(section);
                    done += 8;
                }
                own_total.fetch_add(done, Ordering::Relaxed);
            });
        }
        for _ in 0..STOPPERS {
            scope.spawn(|| {
                ready.wait();
                for round in 0..DRAINS {
                    let target = round as usize % OWNERS;
                    let section = registry.enter_remote(Me, CpuId(target as u32)).unwrap();
                    for _ in 0..64 {
                        caches[target].touch(&section);
                    }
                    drop(section);
                }
                if running.fetch_sub(1, Ordering::AcqRel) == 1 {
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    let mut counted = 0;
    for (target, cache) in caches.iter().enumerate() {
        // Inside: what the owners did is visible by the protocol, not by their end.
        let section = registry.enter_remote(Me, CpuId(target as u32)).unwrap();
        counted += cache.read(&section);
    }
    assert_eq!(
        counted,
        own_total.load(Ordering::Relaxed) + STOPPERS as u64 * DRAINS * 64
    );
}

#[test]
fn nobody_is_inside_with_a_stopper_by_membarrier() {
    nobody_is_inside_with_a_stopper(registry::<3>());
}

#[test]
fn nobody_is_inside_with_a_stopper_without_membarrier() {
    nobody_is_inside_with_a_stopper(leak(Registry::<3>::new().without_membarrier()));
}

/// Tells the other threads to end, also when an assertion fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn at_rest_nobody_is_inside_but_the_caller_may_enter() {
    const OWNERS: usize = 3;
    let registry = registry::<3>(); // one thread is a guest
    let cache = Cache(UnsafeCell::new(0));
    let stop = AtomicBool::new(false);
    let inside = AtomicU64::new(0);
    assert_eq!(cpu(registry), CpuId(0));
    thread::scope(|scope| {
        for _ in 0..OWNERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let section = registry.enter(Me).unwrap();
                    inside.fetch_add(1, Ordering::Relaxed);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(section);
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for _ in 0..2_000 {
            assert!(registry.quiesce(Me));
            assert_eq!(inside.load(Ordering::Relaxed), 0);
            let (_, section) = registry.enter(Me).expect("the caller may enter");
            cache.touch(&section);
            drop(section);
            assert_eq!(inside.load(Ordering::Relaxed), 0);
            assert!(registry.resume(Me));
        }
    });
    let (_, section) = registry.enter(Me).unwrap();
    assert_eq!(cache.read(&section), 2_000);
    drop(section);
}

#[test]
fn a_thread_that_is_inside_brings_nobody_to_rest() {
    let registry = registry::<2>();
    let (_, section) = registry.enter(Me).unwrap();
    assert!(!registry.quiesce(Me));
    assert!(!registry.resume(Me));
    drop(section);
    assert!(registry.quiesce(Me));
    assert!(registry.resume(Me));
    assert!(!registry.resume(Me), "only once");
}

#[test]
fn in_the_child_of_a_fork_the_slots_of_others_are_free() {
    let registry = registry::<3>();
    assert_eq!(cpu(registry), CpuId(0));
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(cpu(registry), CpuId(1));
            ready.wait();
            ready.wait();
        });
        ready.wait();
        assert!(registry.quiesce(Me));
        // What the child does; here the other thread lives, and does nothing.
        registry.resume_child(Me);
        assert_eq!(cpu(registry), CpuId(0), "the forking thread keeps its slot");
        let next = scope.spawn(|| cpu(registry)).join().unwrap();
        assert_eq!(next, CpuId(1));
        assert!(registry.enter_remote(Me, CpuId(1)).is_some());
        ready.wait();
    });
}

#[test]
fn an_entry_caught_by_a_fork_before_it_backed_out_is_undone() {
    let slot = Slot::new(0);
    // The owner has made its first step; the child has a copy of that.
    assert_eq!(slot.try_enter::<Asymmetric>(), Entry::Inside);
    slot.stop();
    assert!(slot.is_inside() && slot.is_stopped());
    assert!(slot.reset(), "not lost");
    assert!(!slot.is_inside() && !slot.is_stopped());
    assert_eq!(slot.try_enter::<Asymmetric>(), Entry::Inside);
    slot.lose();
    assert!(!slot.reset(), "lost for ever");
}

#[test]
fn in_the_child_of_a_fork_that_waited_for_nobody_a_section_is_lost() {
    let registry = registry::<2>();
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (cpu, section) = registry.enter(Me).unwrap();
            assert_eq!(cpu, CpuId(0));
            ready.wait();
            done.wait();
            core::mem::forget(section); // in a child this thread does not exist
        });
        ready.wait();
        registry.resume_child(Me);
        assert_eq!(cpu(registry), CpuId(1));
        assert!(registry.enter_remote(Me, CpuId(0)).is_none());
        done.wait();
    });
}

#[test]
fn every_slot_has_its_own_pair_of_cache_lines() {
    assert_eq!(size_of::<Slot>(), 128);
    assert_eq!(align_of::<Slot>(), 128);
    let both: Vec<usize> = std::vec![size_of::<Section<'_>>(), size_of::<Option<Section<'_>>>()];
    assert_eq!(both, [16, 16], "an entry stays in two registers");
}
