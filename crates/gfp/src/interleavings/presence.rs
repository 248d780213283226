//! What the shards of a zone have, in one word (`page/presence.rs`): two shards, one that gets a
//! run and loses it, one who looks again, and a request that reads nothing but the word.
//!
//! Seen to fail: nothing said to who looks; the look begun after the locks were taken; two who look
//! at once.
//!
//! Not seen: the orderings of `seen` and `end` relaxed.

use crate::presence::Presence;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
}

impl Zone {
    fn new() -> Arc<Zone> {
        let zone = Zone {
            presence: Presence::new(),
            shards: [Mutex::new(0), Mutex::new(0)],
            put: AtomicBool::new(false),
            done: AtomicU64::new(0),
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
        let (taker, looker) = (zone.clone(), zone.clone());
        let take = thread::spawn(move || taker.take(0));
        let look = thread::spawn(move || looker.look_again());
        if !zone.is_seen() {
            assert_eq!(zone.done.load(Ordering::Relaxed), 1);
        }
        take.join().unwrap();
        look.join().unwrap();
        assert!(!zone.is_seen() || zone.look_again());
        assert!(!zone.is_seen());
    });
}
