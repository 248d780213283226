//! gfp's malloc beside the C library's: `cargo run --release -p gfp-malloc --example bench_malloc`.
//!
//! Both are called in one process, in turn, many short rounds each; the figure is the median.
//! `--json` prints one line a row, `--quick` measures for a fraction of the time, `--all` adds rows
//! to those of pairs and batches. A word picks the rows whose names have it.

use gfp_malloc_core::Malloc;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

static GFP: Malloc = Malloc::with_memory(1 << 30);

/// Both sides behind the same trait, so that the loops are the same code.
trait Side: Copy + Send + Sync {
    fn malloc(self, size: usize) -> *mut u8;
    fn calloc(self, size: usize) -> *mut u8;
    unsafe fn realloc(self, ptr: *mut u8, size: usize) -> *mut u8;
    unsafe fn free(self, ptr: *mut u8);
}

#[derive(Copy, Clone)]
struct Ours;

// As the preload library: a function behind a pointer, as through the linker's table.
#[inline(never)]
extern "C" fn our_malloc(size: usize) -> *mut u8 {
    GFP.malloc(size, 0)
}
#[inline(never)]
extern "C" fn our_calloc(count: usize, size: usize) -> *mut u8 {
    GFP.calloc(count, size, 0)
}
#[inline(never)]
unsafe extern "C" fn our_realloc(ptr: *mut u8, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { GFP.realloc(ptr, size, 0) }
}
#[inline(never)]
unsafe extern "C" fn our_free(ptr: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { GFP.free(ptr, 0) }
}

impl Side for Ours {
    #[inline(always)]
    fn malloc(self, size: usize) -> *mut u8 {
        our_malloc(size)
    }
    #[inline(always)]
    fn calloc(self, size: usize) -> *mut u8 {
        our_calloc(1, size)
    }
    #[inline(always)]
    unsafe fn realloc(self, ptr: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { our_realloc(ptr, size) }
    }
    #[inline(always)]
    unsafe fn free(self, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { our_free(ptr) }
    }
}

#[derive(Copy, Clone)]
struct Glibc;

impl Side for Glibc {
    #[inline(always)]
    fn malloc(self, size: usize) -> *mut u8 {
        // SAFETY: no condition.
        unsafe { libc::malloc(size).cast() }
    }
    #[inline(always)]
    fn calloc(self, size: usize) -> *mut u8 {
        // SAFETY: no condition.
        unsafe { libc::calloc(1, size).cast() }
    }
    #[inline(always)]
    unsafe fn realloc(self, ptr: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { libc::realloc(ptr.cast::<c_void>(), size).cast() }
    }
    #[inline(always)]
    unsafe fn free(self, ptr: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { libc::free(ptr.cast::<c_void>()) }
    }
}

fn touch(ptr: *mut u8) -> *mut u8 {
    assert!(!ptr.is_null(), "out of memory");
    // SAFETY: live memory of at least a byte.
    unsafe { ptr.write_volatile(1) };
    black_box(ptr)
}

/// One operation is an allocation and its free.
type Work<S> = fn(S, &mut State, usize) -> usize;

struct State {
    /// Blocks of a batch, and the order in which they are freed.
    blocks: Vec<*mut u8>,
    shuffled: Vec<usize>,
    size: usize,
    peer: Option<Mailbox>,
}

/// To the next thread, from the one before.
struct Mailbox {
    give: std::sync::mpsc::SyncSender<Vec<Sent>>,
    take: std::sync::mpsc::Receiver<Vec<Sent>>,
}

struct Sent(*mut u8);
// SAFETY: a block may be freed by any thread.
unsafe impl Send for Sent {}

fn pair<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    for _ in 0..ops {
        let ptr = touch(side.malloc(state.size));
        // SAFETY: allocated just now.
        unsafe { side.free(ptr) };
    }
    ops
}

fn zeroed<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    for _ in 0..ops {
        let ptr = touch(side.calloc(state.size));
        // SAFETY: allocated just now.
        unsafe { side.free(ptr) };
    }
    ops
}

fn batch<S: Side>(side: S, state: &mut State, ops: usize, random: Order) -> usize {
    let len = state.shuffled.len();
    let rounds = ops.div_ceil(len);
    for _ in 0..rounds {
        for _ in 0..len {
            state.blocks.push(touch(side.malloc(state.size)));
        }
        for at in 0..len {
            let at = match random {
                Order::Random => state.shuffled[at],
                Order::Lifo => len - 1 - at,
            };
            // SAFETY: each block is freed once.
            unsafe { side.free(state.blocks[at]) };
        }
        state.blocks.clear();
    }
    rounds * len
}

#[derive(Copy, Clone)]
enum Order {
    Lifo,
    Random,
}

fn lifo<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    batch(side, state, ops, Order::Lifo)
}

fn random<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    batch(side, state, ops, Order::Random)
}

/// One operation is one growth: from 16 bytes to 64 KiB by halves.
fn growth<S: Side>(side: S, _: &mut State, ops: usize) -> usize {
    let mut done = 0;
    while done < ops {
        let (mut size, mut ptr) = (16, touch(side.malloc(16)));
        while size < 65536 {
            size += size / 2;
            // SAFETY: the old pointer is not used again.
            ptr = touch(unsafe { side.realloc(ptr, size) });
            done += 1;
        }
        // SAFETY: live, and not used again.
        unsafe { side.free(ptr) };
    }
    done
}

/// A large block, every page of it written.
fn written<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    const PAGE: usize = 4096;
    // An operation of this kind is thousands of others.
    let ops = ops.div_ceil(state.size / PAGE);
    for _ in 0..ops {
        let block = side.malloc(state.size);
        for at in (0..state.size).step_by(PAGE) {
            // SAFETY: inside the block.
            touch(unsafe { block.add(at) });
        }
        // SAFETY: live, and not used again.
        unsafe { side.free(block) };
    }
    ops
}

/// Blocks go round in a ring: each thread allocates, the next one frees.
fn remote<S: Side>(side: S, state: &mut State, ops: usize) -> usize {
    const PARCEL: usize = 256;
    let mailbox = state.peer.as_ref().expect("a ring");
    let rounds = ops.div_ceil(PARCEL);
    for _ in 0..rounds {
        let parcel = (0..PARCEL)
            .map(|_| Sent(touch(side.malloc(state.size))))
            .collect();
        mailbox.give.send(parcel).expect("the next thread");
        for sent in mailbox.take.recv().expect("the thread before") {
            // SAFETY: each block is freed once, by whom it was sent to.
            unsafe { side.free(sent.0) };
        }
    }
    rounds * PARCEL
}

struct Row {
    name: &'static str,
    size: usize,
    batch: usize,
    ours: Work<Ours>,
    theirs: Work<Glibc>,
}

macro_rules! row {
    ($name:literal, $size:expr, $batch:expr, $work:ident) => {
        Row {
            name: $name,
            size: $size,
            batch: $batch,
            ours: $work::<Ours>,
            theirs: $work::<Glibc>,
        }
    };
}

/// Blocks of a row's size that a thread keeps while it measures.
const HELD: usize = 8;

const ROWS: &[Row] = &[
    row!("pair-16", 16, 0, pair),
    row!("pair-64", 64, 0, pair),
    row!("pair-256", 256, 0, pair),
    row!("pair-4096", 4096, 0, pair),
    row!("pair-65536", 65536, 0, pair),
    row!("batch10k-64-lifo", 64, 10_000, lifo),
    row!("batch10k-64-random", 64, 10_000, random),
    row!("batch1k-4096-lifo", 4096, 1000, lifo),
    row!("batch1k-4096-random", 4096, 1000, random),
];

/// What is measured with `--all`: what programs do besides.
const MORE: &[Row] = &[
    row!("calloc-64", 64, 0, zeroed),
    row!("calloc-4096", 4096, 0, zeroed),
    row!("realloc-growth", 16, 0, growth),
    row!("remote-free-64", 64, 0, remote),
    row!("written-2m", 2 << 20, 0, written),
    row!("written-8m", 8 << 20, 0, written),
];

/// CPU time of this thread. Waiting for the processor, which others use too, does not count.
fn thread_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timed<S: Side>(side: S, work: Work<S>, state: &mut State, ops: usize) -> f64 {
    let start = thread_ns();
    let done = work(side, state, ops);
    (thread_ns() - start) as f64 / done as f64
}

fn shuffled(len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut seed = 12345u64;
    for at in (1..len).rev() {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        order.swap(at, (seed >> 33) as usize % (at + 1));
    }
    order
}

/// Rounds of both sides in turn on `threads` threads; the median of each, all threads together.
fn measure(row: &Row, threads: usize, rounds: usize, span: Duration) -> (f64, f64) {
    let barrier = Barrier::new(threads);
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (give, take) = std::sync::mpsc::sync_channel(4);
        senders.push(give);
        receivers.push(take);
    }
    senders.rotate_left(1);
    let run = |peer: Mailbox| {
        let mut state = State {
            blocks: Vec::with_capacity(row.batch),
            shuffled: shuffled(row.batch.max(1)),
            size: row.size,
            peer: Some(peer),
        };
        // As many operations as take `span` on the C library's side; the same for all threads,
        // since a ring needs as many parcels from each.
        let ops = 4096;
        // A few blocks of each side stay: a program has some memory of every size, and the very
        // first object of a slab lies at the start of a page as the tables do, so that their
        // cache sets and store addresses meet.
        let held: [_; HELD] =
            core::array::from_fn(|_| (touch(Ours.malloc(row.size)), touch(Glibc.malloc(row.size))));
        barrier.wait();
        let _ = timed(Ours, row.ours, &mut state, ops);
        let one = timed(Glibc, row.theirs, &mut state, ops);
        let ops = ((span.as_nanos() as f64 / one.max(1.0)) as usize).max(ops);
        let ops = agree(&barrier, ops);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            barrier.wait();
            ours.push(timed(Ours, row.ours, &mut state, ops));
            barrier.wait();
            theirs.push(timed(Glibc, row.theirs, &mut state, ops));
        }
        for (ours, theirs) in held {
            // SAFETY: live, and freed once, each by its own side.
            unsafe {
                Ours.free(ours);
                Glibc.free(theirs);
            }
        }
        (ours, theirs)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let mailboxes = senders
            .into_iter()
            .zip(receivers)
            .map(|(give, take)| Mailbox { give, take });
        let threads: Vec<_> = mailboxes
            .map(|mailbox| scope.spawn(|| run(mailbox)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a round"))
            .collect()
    });
    let (ours, theirs): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    (median(ours.concat()), median(theirs.concat()))
}

/// The least of all threads' numbers.
fn agree(barrier: &Barrier, mine: usize) -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static LEAST: AtomicUsize = AtomicUsize::new(usize::MAX);
    if barrier.wait().is_leader() {
        LEAST.store(usize::MAX, Ordering::Relaxed);
    }
    barrier.wait();
    LEAST.fetch_min(mine, Ordering::Relaxed);
    barrier.wait();
    LEAST.load(Ordering::Relaxed)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let filter = args.iter().find(|arg| !arg.starts_with("--"));
    let (rounds, span) = match has("--quick") {
        true => (7, Duration::from_millis(2)),
        false => (25, Duration::from_millis(8)),
    };
    if !has("--json") {
        println!(
            "{:<22} {:>7} {:>9} {:>9} {:>7}",
            "ns an operation", "threads", "gfp", "glibc", "ratio"
        );
    }
    let mut worst: f64 = 0.0;
    let more = if has("--all") { MORE } else { &[] };
    for row in ROWS
        .iter()
        .chain(more)
        .filter(|row| filter.is_none_or(|text| row.name.contains(text.as_str())))
    {
        for threads in [1, 4] {
            if threads == 1 && row.name.starts_with("remote") {
                continue; // a ring of one is no ring
            }
            let (ours, theirs) = measure(row, threads, rounds, span);
            let ratio = ours / theirs;
            worst = worst.max(ratio);
            if has("--json") {
                println!(
                    "{{\"bench\":\"malloc-{}\",\"threads\":{threads},\"ours_ns\":{ours:.2},\
                     \"peer\":\"glibc\",\"peer_ns\":{theirs:.2},\"ratio\":{ratio:.3}}}",
                    row.name
                );
            } else {
                println!(
                    "{:<22} {threads:>7} {ours:>9.2} {theirs:>9.2} {ratio:>7.2}",
                    row.name
                );
            }
        }
    }
    if !has("--json") {
        println!("worst ratio {worst:.2}");
        if !has("--all") {
            println!(
                "--all measures calloc, large and remote blocks, too, and realloc, which loses"
            );
        }
    }
}
