//! What the shards of a zone have, in one word (`page/presence.rs`): two shards, one that gets a
//! run and loses it, one who looks again, and a request that reads nothing but the word.
//!
//! And a run that somebody hides for a moment, which a request waits for or is refused without.
//!
//! Seen to fail: nothing said to who looks; the look begun after the locks were taken; two who look
//! at once; shown before it is noted; no second look at the word; `seen` relaxed; `end` without
//! its release.
//!
//! Who only reads is a thread of its own: on the first thread the model did not let the others come
//! before it.

use crate::presence::Presence;
use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

const RUN: u64 = 1;

struct Zone {
    presence: Presence,
    /// What each shard has, under its lock.
    shards: [Mutex<u64>; 2],
    /// A run was put, and stays.
    put: AtomicBool,
    /// What the last owner of the run did before it was noted as gone.
    done: AtomicU64,
    /// Runs that are neither free nor used.
    hidden: AtomicUsize,
}

impl Zone {
    fn new() -> Arc<Zone> {
        let zone = Zone {
            presence: Presence::new(),
            shards: [Mutex::new(0), Mutex::new(0)],
            put: AtomicBool::new(false),
            done: AtomicU64::new(0),
            hidden: AtomicUsize::new(0),
        };
        // There was a run, and is none any more.
        zone.presence.note(RUN, |_| RUN);
        Arc::new(zone)
    }

    fn put(&self, shard: usize) {
        let mut runs = self.shards[shard].lock().unwrap();
        *runs |= RUN;
        self.presence.note(*runs, |_| RUN);
    }

    fn take(&self, shard: usize) {
        let mut runs = self.shards[shard].lock().unwrap();
        self.done.fetch_add(1, Ordering::Relaxed);
        *runs &= !RUN;
        self.presence.note(*runs, |_| RUN);
    }

    /// Takes the run of shard 0 out for a moment, as free page reporting does.
    fn hide(&self) {
        let mut runs = self.shards[0].lock().unwrap();
        *runs &= !RUN;
        self.hidden.fetch_add(1, Ordering::Relaxed);
        self.presence.note(*runs, |_| RUN);
    }

    fn show(&self) {
        let mut runs = self.shards[0].lock().unwrap();
        *runs |= RUN;
        self.presence.note(*runs, |_| RUN);
        self.hidden.fetch_sub(1, Ordering::Release);
    }

    /// What a request goes by that is refused at once.
    fn has_nothing(&self) -> bool {
        !self.is_seen() && self.hidden.load(Ordering::Acquire) == 0 && !self.is_seen()
    }

    fn look_again(&self) -> bool {
        if !self.presence.begin(9) {
            return false;
        }
        let there = self.shards.iter().map(|s| *s.lock().unwrap());
        let there = there.fold(0, |all, runs| all | runs);
        self.presence.end(RUN & !there)
    }

    fn is_seen(&self) -> bool {
        self.presence.seen() & RUN != 0
    }
}

#[test]
fn what_a_shard_has_is_seen_by_who_knows_of_it() {
    loom::model(|| {
        let zone = Zone::new();
        let (putter, looker) = (zone.clone(), zone.clone());
        let put = thread::spawn(move || {
            putter.put(0);
            putter.put.store(true, Ordering::Release);
        });
        let look = thread::spawn(move || looker.look_again());
        let known = zone.put.load(Ordering::Acquire);
        assert!(!known || zone.is_seen(), "a request misses a run");
        put.join().unwrap();
        look.join().unwrap();
        assert!(zone.is_seen(), "a run is lost for ever");
    });
}

#[test]
fn two_who_look_do_not_undo_what_is_put_in_between() {
    loom::model(|| {
        let zone = Zone::new();
        let looks = [(); 2].map(|()| {
            let zone = zone.clone();
            thread::spawn(move || zone.look_again())
        });
        zone.put(1);
        assert!(zone.is_seen());
        looks.map(|look| look.join().unwrap());
        assert!(zone.is_seen());
    });
}

#[test]
fn what_no_shard_has_goes_and_who_sees_that_sees_who_took_the_last() {
    loom::model(|| {
        let zone = Zone::new();
        zone.put(0);
        let (asker, looker) = (zone.clone(), zone.clone());
        let look = thread::spawn(move || looker.look_again());
        let ask = thread::spawn(move || {
            if !asker.is_seen() {
                assert_eq!(asker.done.load(Ordering::Relaxed), 1);
            }
        });
        zone.take(0);
        look.join().unwrap();
        ask.join().unwrap();
        assert!(!zone.is_seen() || zone.look_again());
        assert!(!zone.is_seen());
    });
}

#[test]
fn a_run_that_is_hidden_for_a_moment_is_seen_or_waited_for() {
    // P106
    loom::model(|| {
        let zone = Zone::new();
        zone.put(0);
        let (asker, looker) = (zone.clone(), zone.clone());
        let look = thread::spawn(move || looker.look_again());
        let ask = thread::spawn(move || asker.has_nothing());
        zone.hide();
        zone.show();
        let refused = ask.join().unwrap();
        assert!(!refused, "and it was there all the time");
        look.join().unwrap();
        assert!(zone.is_seen());
    });
}
