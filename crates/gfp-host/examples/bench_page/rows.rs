//! The rows, what each measures, and the targets.

use crate::options::Size;
use crate::work::Work;
use gfp::frame::Order;

/// What state of memory a group of rows wants.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// All of it free at first, in the largest blocks.
    Fresh,
    /// Half of the frames free, each by chance.
    Fragmented,
}

/// Memory that the sides manage. Nothing but their own tables is ever touched.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) gib: usize,
    pub(crate) state: State,
}

impl Memory {
    pub(crate) fn bytes(self) -> usize {
        self.gib << 30
    }

    /// A sixteenth of it where speed matters more than the figure.
    pub(crate) fn at_scale(self, size: Size) -> Memory {
        let gib = match size {
            Size::Full => self.gib,
            Size::Quick => self.gib / 16,
        };
        Memory { gib, ..self }
    }
}

/// What a row reports.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Time an operation, of this sample of its work.
    Sample(usize),
    /// The slowest of ten deciles, and how the last compares to the first.
    Deciles,
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) figure: Figure,
    /// At most so many times one locked compare-and-exchange.
    pub(crate) target: Option<f64>,
    /// The target is meant for this number of threads and more.
    pub(crate) from: usize,
}

/// Rows that one piece of work measures together.
pub(crate) struct Group {
    pub(crate) work: Work,
    pub(crate) memory: Memory,
    pub(crate) rows: &'static [Row],
}

const fn row(name: &'static str, sample: usize, target: Option<f64>) -> Row {
    Row {
        name,
        figure: Figure::Sample(sample),
        target,
        from: 1,
    }
}

const fn remote(row: Row) -> Row {
    Row { from: 4, ..row }
}

/// Throughput of 4 threads, in times that of one.
pub(crate) const SCALING_TARGET: f64 = 3.6;
/// The last decile at most so many times the first: what "flat" is taken to mean.
pub(crate) const FLAT_TARGET: f64 = 1.25;

const FRESH: Memory = Memory {
    gib: 64,
    state: State::Fresh,
};
const FRAGMENTED: Memory = Memory {
    gib: 64,
    state: State::Fragmented,
};
const HUGE: Memory = Memory {
    gib: 1024,
    state: State::Fresh,
};

const fn order(n: u8) -> Order {
    match Order::new(n) {
        Some(order) => order,
        None => panic!("no such order"),
    }
}

const fn group(work: Work, memory: Memory, rows: &'static [Row]) -> Group {
    Group { work, memory, rows }
}

const DECILES: &[Row] = &[Row {
    name: "page/o9-get-1tib",
    figure: Figure::Deciles,
    target: Some(3.5),
    from: 1,
}];

/// Ordered by memory: its sides are made once.
pub(crate) const GROUPS: &[Group] = &[
    group(
        Work::Pair(order(0)),
        FRESH,
        &[row("page/o0-pair", 0, Some(0.65))],
    ),
    group(Work::Pair(order(3)), FRESH, &[row("page/o3-pair", 0, None)]),
    group(Work::Pair(order(9)), FRESH, &[row("page/o9-pair", 0, None)]),
    group(Work::Bulk64, FRESH, &[row("page/bulk64", 0, None)]),
    group(
        Work::Batch(order(0)),
        FRESH,
        &[
            row("page/o0-bulk-get", 0, Some(0.52)),
            row("page/o0-put", 1, Some(1.04)),
            row("page/o0-put-random", 2, Some(1.7)),
            remote(row("page/o0-put-remote", 3, Some(4.6))),
        ],
    ),
    group(
        Work::Batch(order(9)),
        FRESH,
        &[remote(row("page/o9-put-remote", 3, None))],
    ),
    group(
        Work::Rare(order(1)),
        FRAGMENTED,
        &[row("page/frag-o1", 0, None)],
    ),
    group(
        Work::Rare(order(2)),
        FRAGMENTED,
        &[row("page/frag-o2", 0, Some(17.0))],
    ),
    group(
        Work::Rare(order(3)),
        FRAGMENTED,
        &[row("page/frag-o3", 0, None)],
    ),
    group(
        Work::Fail(order(9)),
        FRAGMENTED,
        &[row("page/fail-o9", 0, Some(13.0))],
    ),
    group(Work::Whole(order(9)), HUGE, DECILES),
];
