//! What per-CPU state costs, round by round side by side: `cargo run --release -p gfp-host
//! --example section_cost`.
//!
//! * slots, section: enter and leave the section of this thread's slot;
//! * rseq, section: enter and leave the place of this processor, and of this compact id;
//! * slots, pair: pop and push on an array of the slot, each in a section of its own;
//! * rseq, pair: pop and push as restartable sequences, the area found once, or for each;
//! * locked cmpxchg: the floor of whatever shares a word between CPUs.

use gfp::platform::Platform;
use gfp_host::{HostConfig, HostPlatform, PerCpu};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const PAIRS: u32 = 10_000_000;
const ROUNDS: usize = 9;
const CAPACITY: usize = 64;

/// One row: its name, and what does `PAIRS` of it.
type Row<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn main() {
    let machine = |kind| HostPlatform::new(&HostConfig::new(4 << 20).per_cpu(kind));
    let platform = machine(PerCpu::Slots).expect("address space");
    let places = [machine(PerCpu::RseqByCpu), machine(PerCpu::Rseq)];
    let mut rows = vec![
        section("slots, section", &platform),
        slot_pair(&platform),
        cmpxchg(),
    ];
    for (place, name) in places
        .iter()
        .zip(["rseq, section", "rseq, section, by mm_cid"])
    {
        rows.extend(place.iter().map(|platform| section(name, platform)));
    }
    rows.extend(rseq_rows());
    let mut times = vec![[0.0; ROUNDS]; rows.len()];
    for round in 0..ROUNDS {
        for ((_, work), times) in rows.iter_mut().zip(&mut times) {
            let start = Instant::now();
            work();
            times[round] = start.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS);
        }
    }
    println!("ns, median of {ROUNDS} rounds (least)");
    for ((name, _), times) in rows.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("{name:28} {:6.2} ({:.2})", times[ROUNDS / 2], times[0]);
    }
}

fn section<'a>(name: &'static str, platform: &'a HostPlatform) -> Row<'a> {
    let mut counter = 0u64;
    let work = move || {
        for _ in 0..PAIRS {
            let (cpu, section) = platform.enter().expect("not nested");
            *black_box(&mut counter) += u64::from(cpu.0) + 1;
            drop(section);
        }
        assert_ne!(counter, 0);
    };
    (name, Box::new(work))
}

/// An array as a slot would have it.
struct Array {
    len: usize,
    words: [usize; CAPACITY],
}

fn slot_pair(platform: &HostPlatform) -> Row<'_> {
    let mut array = Box::new(Array {
        len: 32,
        words: [7; CAPACITY],
    });
    let work = move || {
        for _ in 0..PAIRS {
            let (_, section) = platform.enter().expect("not nested");
            let at = black_box(&mut *array);
            let index = at.len - 1;
            let word = at.words[index];
            at.len = index;
            drop(section);
            let (_, section) = platform.enter().expect("not nested");
            let at = black_box(&mut *array);
            let index = at.len;
            at.words[index] = black_box(word);
            at.len = index + 1;
            drop(section);
        }
    };
    ("slots, pair", Box::new(work))
}

fn cmpxchg() -> Row<'static> {
    let word = AtomicU64::new(0);
    let work = move || {
        for i in 0..u64::from(PAIRS) {
            let word = black_box(&word);
            // SeqCst: what it costs is the point; on x86 all orderings cost the same.
            let _ = word.compare_exchange(i, i + 1, Ordering::SeqCst, Ordering::SeqCst);
        }
    };
    ("locked cmpxchg", Box::new(work))
}

#[cfg(not(target_arch = "x86_64"))]
fn rseq_rows() -> Vec<Row<'static>> {
    println!("restartable sequences: not on this architecture");
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn rseq_rows() -> Vec<Row<'static>> {
    use gfp::sync::restart::{ByCid, ByCpu};
    use gfp_host::rseq::Rseq;

    let Some(rseq) = Rseq::find() else {
        println!("restartable sequences: not in this process");
        return Vec::new();
    };
    let mut rows = vec![
        rseq_row::<ByCpu>("rseq, pair", rseq, Find::Once),
        rseq_row::<ByCpu>("rseq, pair, area for each", rseq, Find::Each),
    ];
    if rseq.has_cid() {
        rows.push(rseq_row::<ByCid>("rseq, pair, by mm_cid", rseq, Find::Once));
    }
    rows
}

/// How often the thread's area is looked for.
#[cfg(target_arch = "x86_64")]
#[derive(Copy, Clone, PartialEq)]
enum Find {
    Once,
    Each,
}

#[cfg(target_arch = "x86_64")]
fn rseq_row<I: gfp::sync::restart::Numbering + 'static>(
    name: &'static str,
    rseq: gfp_host::rseq::Rseq,
    find: Find,
) -> Row<'static> {
    use gfp::sync::restart::{Shape, Stacks};
    let shape = Shape::new(rseq.nr_cpus(), CAPACITY as u32);
    let mut memory = vec![0u64; shape.bytes() / 8];
    let base = std::ptr::NonNull::new(memory.as_mut_ptr()).unwrap().cast();
    // SAFETY: the memory is as large as the shape says, and goes with the closure.
    let stacks: Stacks<I> = unsafe { Stacks::new(base, shape) };
    let work = move || {
        let _keep = &memory;
        let once = rseq.current().expect("registered");
        for _ in 0..PAIRS {
            // `black_box` keeps what is to be found each time from being found once.
            let task = |rseq: &gfp_host::rseq::Rseq| match find {
                Find::Once => once,
                Find::Each => black_box(*rseq).current().expect("registered"),
            };
            // A CPU that the thread came to since has nothing yet.
            let word = stacks.pop(task(&rseq)).unwrap_or(7);
            let _ = stacks.push(task(&rseq), black_box(word));
        }
    };
    (name, Box::new(work))
}
