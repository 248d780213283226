//! Rounds of all sides in turn, on threads that start each part together.

use crate::floor;
use crate::pace::{Clock, Line};
use crate::peers::set_thread;
use crate::report::{Measured, Times};
use crate::side::{Side, Sides};
use crate::work::Work;
use std::sync::Mutex;

/// How much is done.
#[derive(Copy, Clone)]
pub(crate) struct Scale {
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    pub(crate) clock: Clock,
    /// Pairs of one round of one thread.
    pub(crate) pairs: usize,
    /// Single frames of a batch of one thread.
    pub(crate) frames: usize,
    /// Larger blocks of a batch.
    pub(crate) large: usize,
    /// Blocks of which there are few.
    pub(crate) rare: usize,
    /// Requests that fail.
    pub(crate) failures: usize,
}

/// What threads share.
struct Meeting {
    line: Line,
    /// One place a thread, for what it gives to the next.
    parcels: Vec<Mutex<Vec<u32>>>,
}

/// One thread of a run.
pub(crate) struct Me<'m> {
    index: usize,
    pub(crate) scale: Scale,
    meeting: &'m Meeting,
    random: u64,
}

impl Me<'_> {
    /// Does `work`, which is `ops` operations, at the same time as the other threads. Returns ns an
    /// operation.
    pub(crate) fn timed(&mut self, ops: usize, work: impl FnOnce()) -> f64 {
        self.meeting.line.wait();
        let start = self.scale.clock.now_ns();
        work();
        (self.scale.clock.now_ns() - start) as f64 / ops as f64
    }

    /// Gives `mine` to the next thread; returns what the one before gave.
    pub(crate) fn exchange(&mut self, mine: Vec<u32>) -> Vec<u32> {
        let parcels = &self.meeting.parcels;
        let lock = |at: usize| parcels[at % parcels.len()].lock().expect("nobody panics");
        *lock(self.index + 1) = mine;
        self.meeting.line.wait();
        let theirs = std::mem::take(&mut *lock(self.index));
        // Nobody fills a place again before it was emptied.
        self.meeting.line.wait();
        theirs
    }

    pub(crate) fn shuffle(&mut self, frames: &mut [u32]) {
        for at in (1..frames.len()).rev() {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            frames.swap(at, (self.random >> 16) as usize % (at + 1));
        }
    }
}

/// Who takes a turn in a round, with what it does there.
type Turn<'s> = (&'static str, &'s (dyn Fn(&mut Me<'_>) -> Vec<f64> + Sync));

/// Measures one piece of work of all sides.
pub(crate) fn measure(sides: &Sides, work: Work, scale: &Scale, bytes: usize) -> Measured {
    let pairs = scale.pairs;
    let cmpxchg = |me: &mut Me<'_>| vec![me.timed(pairs, || floor::locked_cmpxchg(pairs))];
    let stack = |me: &mut Me<'_>| vec![me.timed(pairs, || floor::percpu_stack(pairs))];
    let ours = |me: &mut Me<'_>| work.run(&sides.ours, me, bytes);
    let mut turns: Vec<Turn<'_>> = vec![
        ("gfp", &ours),
        ("locked-cmpxchg", &cmpxchg),
        ("percpu-stack", &stack),
    ];
    let peers = sides.peers.as_ref();
    let bare = peers.map(|peers| turn(&peers.0, work, bytes));
    let cached = peers.map(|peers| turn(&peers.1, work, bytes));
    let buddy = peers.map(|peers| turn(&peers.2, work, bytes));
    if let (Some(bare), Some(cached), Some(buddy)) = (&bare, &cached, &buddy) {
        turns.push(("frame-alloc", bare));
        turns.push(("frame-alloc-cached", cached));
        turns.push(("buddy_system_allocator", buddy));
    }
    let meeting = Meeting {
        line: Line::new(scale.threads),
        parcels: (0..scale.threads).map(|_| Mutex::default()).collect(),
    };
    let run = |index| rounds(index, scale, &meeting, &turns);
    let run = &run;
    let all: Vec<Vec<Times>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..scale.threads)
            .map(|index| scope.spawn(move || run(index)))
            .collect();
        let times = threads.into_iter().map(|t| t.join().expect("a round"));
        times.collect()
    });
    Measured::new(scale.threads, turns.iter().map(|turn| turn.0), all)
}

fn turn<S: Side>(
    side: &S,
    work: Work,
    bytes: usize,
) -> impl Fn(&mut Me<'_>) -> Vec<f64> + Sync + '_ {
    move |me| work.run(side, me, bytes)
}

/// What one thread does: for each turn, the times of each round. One round before is not counted:
/// tables are touched, caches are filled.
fn rounds(index: usize, scale: &Scale, meeting: &Meeting, turns: &[Turn<'_>]) -> Vec<Times> {
    set_thread(index);
    let mut me = Me {
        index,
        scale: *scale,
        meeting,
        random: 0x9e37_79b9_7f4a_7c15 ^ index as u64,
    };
    let mut times = vec![Times::new(); turns.len()];
    for round in 0..=scale.rounds {
        for ((_, work), times) in turns.iter().zip(&mut times) {
            let sample = work(&mut me);
            if round > 0 {
                times.push(sample);
            }
        }
    }
    times
}
