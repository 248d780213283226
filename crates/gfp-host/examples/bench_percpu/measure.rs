//! Rounds of all sides in turn, on threads that start each part together.

use crate::pace::{Clock, Line};
use std::sync::atomic::{AtomicU64, Ordering};

/// How much is done.
#[derive(Copy, Clone)]
pub(crate) struct Scale {
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// Pairs of one round of one thread.
    pub(crate) pairs: usize,
}

/// Who takes a turn in a round: its name, and what does so many pairs and says how many entries
/// were a guest's.
pub(crate) type Turn<'s> = (&'static str, Box<dyn Fn(usize) -> u64 + Sync + 's>);

/// What a side came to.
pub(crate) struct Figure {
    pub(crate) side: &'static str,
    /// Median of rounds and threads, of a pair.
    pub(crate) ns: f64,
    /// Entries that were a guest's, of all, where one can tell.
    pub(crate) guests: f64,
}

/// The figures of one row with one number of threads. The first side is the floor that all are
/// compared with.
pub(crate) struct Measured {
    pub(crate) threads: usize,
    pub(crate) figures: Vec<Figure>,
}

pub(crate) fn measure(turns: &[Turn<'_>], scale: &Scale) -> Measured {
    let line = &Line::new(scale.threads);
    let guests: Vec<AtomicU64> = turns.iter().map(|_| AtomicU64::new(0)).collect();
    let run = || rounds(turns, scale, line, &guests);
    let all: Vec<Vec<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..scale.threads).map(|_| scope.spawn(run)).collect();
        let times = threads.into_iter().map(|t| t.join().expect("a round"));
        times.collect()
    });
    let done = (scale.threads * scale.rounds * scale.pairs) as f64;
    let figure = |(at, (side, _)): (usize, &Turn<'_>)| {
        let mut times: Vec<f64> = all.iter().flat_map(|of| of[at].iter().copied()).collect();
        times.sort_by(f64::total_cmp);
        Figure {
            side,
            ns: times[times.len() / 2],
            guests: guests[at].load(Ordering::Relaxed) as f64 / done,
        }
    };
    Measured {
        threads: scale.threads,
        figures: turns.iter().enumerate().map(figure).collect(),
    }
}

/// What one thread does: the times of each turn. One round before is not counted.
fn rounds(turns: &[Turn<'_>], scale: &Scale, line: &Line, guests: &[AtomicU64]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); turns.len()];
    for round in 0..=scale.rounds {
        for (at, (_, work)) in turns.iter().enumerate() {
            line.wait();
            let start = Clock::Cpu.now_ns();
            let found = work(scale.pairs);
            let time = (Clock::Cpu.now_ns() - start) as f64 / scale.pairs as f64;
            if round > 0 {
                times[at].push(time);
                guests[at].fetch_add(found, Ordering::Relaxed);
            }
        }
    }
    times
}
