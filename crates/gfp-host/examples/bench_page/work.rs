//! What a round does: for each kind of work one loop, the same for all sides.

use crate::measure::{Me, Scale};
use crate::side::{BULK, Side};
use gfp::frame::{Order, PAGE_SIZE};
use std::hint::black_box;

/// Parts of memory of which each is timed by itself.
pub(crate) const DECILES: usize = 10;
/// Of all memory, what is got in percent; the rest are tables and reserves.
const TAKEN_PERCENT: usize = 97;

#[derive(Copy, Clone)]
pub(crate) enum Work {
    /// Get one, put it.
    Pair(Order),
    /// 64 single frames in one call, then put one by one. Time a frame.
    Bulk64,
    /// A batch of blocks is got; then put in the order in which they came; got again and put in
    /// random order; got again and put by the next thread. Four samples, the last only if there
    /// are several threads.
    Batch(Order),
    /// Blocks of an order of which there are few; what follows is not timed: they are put.
    Rare(Order),
    /// Requests that cannot succeed.
    Fail(Order),
    /// Nearly all memory, a sample for each tenth; what follows is not timed: it is put.
    Whole(Order),
}

impl Work {
    /// One round of one thread: the times in ns an operation.
    pub(crate) fn run(self, side: &impl Side, me: &mut Me<'_>, bytes: usize) -> Vec<f64> {
        let scale = me.scale;
        match self {
            Work::Pair(order) => vec![pair(side, me, order)],
            Work::Bulk64 => vec![bulk64(side, me)],
            Work::Batch(order) => batch(side, me, order),
            Work::Rare(order) => {
                let mut held = Vec::with_capacity(scale.rare);
                let time = me.timed(scale.rare, || get(side, order, scale.rare, &mut held));
                put_all(side, order, &held);
                vec![time]
            }
            Work::Fail(order) => vec![fail(side, me, order)],
            Work::Whole(order) => whole(side, me, order, bytes),
        }
    }
}

fn get(side: &impl Side, order: Order, n: usize, held: &mut Vec<u32>) {
    held.extend((0..n).map(|_| side.get_sure(order)));
}

fn put_all(side: &impl Side, order: Order, held: &[u32]) {
    held.iter().for_each(|frame| side.put(*frame, order));
}

fn pair(side: &impl Side, me: &mut Me<'_>, order: Order) -> f64 {
    let pairs = me.scale.pairs;
    me.timed(pairs, || {
        for _ in 0..pairs {
            let frame = side.get_sure(order);
            side.put(black_box(frame), order);
        }
    })
}

fn bulk64(side: &impl Side, me: &mut Me<'_>) -> f64 {
    let calls = (me.scale.pairs / BULK).max(1);
    let mut frames = [0; BULK];
    me.timed(calls * BULK, || {
        for _ in 0..calls {
            side.get_bulk(&mut frames);
            put_all(side, Order::ZERO, black_box(&frames));
        }
    })
}

fn batch(side: &impl Side, me: &mut Me<'_>, order: Order) -> Vec<f64> {
    let n = match order {
        Order::ZERO => me.scale.frames,
        _ => me.scale.large,
    };
    let mut held = Vec::with_capacity(n);
    let mut times = vec![me.timed(n, || get(side, order, n, &mut held))];
    times.push(me.timed(n, || put_all(side, order, &held)));
    held.clear();
    get(side, order, n, &mut held);
    me.shuffle(&mut held);
    times.push(me.timed(n, || put_all(side, order, &held)));
    if me.scale.threads > 1 {
        held.clear();
        get(side, order, n, &mut held);
        let theirs = me.exchange(held);
        times.push(me.timed(n, || put_all(side, order, &theirs)));
    }
    times
}

fn fail(side: &impl Side, me: &mut Me<'_>, order: Order) -> f64 {
    let n = me.scale.failures;
    me.timed(n, || {
        for _ in 0..n {
            assert_eq!(black_box(side.get(order)), None, "memory is fragmented");
        }
    })
}

fn whole(side: &impl Side, me: &mut Me<'_>, order: Order, bytes: usize) -> Vec<f64> {
    let Scale { threads, .. } = me.scale;
    let all = bytes / PAGE_SIZE / order.pages();
    let n = all * TAKEN_PERCENT / 100 / threads / DECILES;
    let mut held = Vec::with_capacity(n * DECILES);
    let times = (0..DECILES)
        .map(|_| me.timed(n, || get(side, order, n, &mut held)))
        .collect();
    put_all(side, order, &held);
    times
}
