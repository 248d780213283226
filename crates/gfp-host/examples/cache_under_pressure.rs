//! A cache under memory pressure, with and without gfp, side by side:
//! `cargo run --release -p gfp-host --example cache_under_pressure`.
//!
//! A service answers requests. Each has a key, whose value it makes or finds in its cache, and
//! needs working memory for a moment. It has a fixed amount of memory, and all values together are
//! larger. Nobody told the cache when to stop.
//!
//! * Without gfp: a process whose address space is limited (`ulimit -v`). The cache grows until the
//!   service is refused memory, and dies.
//! * With gfp: a machine of the same size. When memory is short the cache is asked to give some
//!   back, mostly by a thread in the background. The service goes on.

use gfp::flags::GFP_KERNEL;
use gfp::policy::pressure::Pressure;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker};
use gfp_host::{Buffer, Host, HostConfig};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const MEMORY: usize = 32 << 20;
const REQUESTS: u64 = 40_000;
const KEYS: u64 = 30_000;
/// Half of the requests ask for one of these.
const HOT_KEYS: u64 = 1_000;
const VALUE_BYTES: usize = 4_000;
const WORK_BYTES: usize = 256 << 10;

/// The argument that makes this program the service without gfp.
pub(crate) const PLAIN: &str = "--without-gfp";

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|argument| argument == PLAIN) {
        return plain();
    }
    print!("{}", side_by_side()?);
    Ok(())
}

// --- The service ---

/// The key of a request: the same sequence each time.
fn key(request: u64) -> u64 {
    let mut x = request.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 32;
    match request % 2 {
        0 => x % HOT_KEYS,
        _ => x % KEYS,
    }
}

fn fill(key: u64, value: &mut [u8]) {
    let bytes = key.to_le_bytes();
    value
        .iter_mut()
        .zip(bytes.iter().cycle())
        .for_each(|(to, b)| *to = *b);
}

/// What is answered: worked out from the value, in working memory.
fn answer(value: &[u8], work: &mut [u8]) -> u64 {
    work[..value.len()].copy_from_slice(value);
    u64::from_le_bytes(work[..8].try_into().expect("8 bytes"))
}

// --- Without gfp ---

/// The service in a process that is limited to its size now and `MEMORY` more.
pub(crate) fn plain() -> Result<(), Box<dyn Error>> {
    let mut cache: HashMap<u64, Vec<u8>> = HashMap::new();
    println!("0");
    limit_addresses(MEMORY)?;
    for request in 0..REQUESTS {
        let key = key(request);
        let mut work = vec![0; WORK_BYTES];
        let value = cache.entry(key).or_insert_with(|| {
            let mut value = vec![0; VALUE_BYTES];
            fill(key, &mut value);
            value
        });
        assert_eq!(answer(value, &mut work), key);
        println!("{}", request + 1);
    }
    Ok(())
}

fn limit_addresses(more: usize) -> Result<(), Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').next().unwrap_or_default().parse()?;
    let bytes = (pages * 4096 + more) as libc::rlim_t;
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: reads `limit`, and changes nothing but a limit of this process.
    match unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

// --- With gfp ---

/// Values, oldest first. One that was used since it was last looked at stays a while longer.
#[derive(Default)]
struct Cache {
    values: HashMap<u64, (Buffer, bool)>,
    order: VecDeque<u64>,
}

/// What the machine asks for memory.
struct Shared(Mutex<Cache>);

impl Shared {
    fn with<R>(&self, work: impl FnOnce(&mut Cache) -> R) -> R {
        work(&mut self.0.lock().expect("nobody panics with it"))
    }
}

impl Shrinker for Shared {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(self.with(|cache| cache.order.len()))
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let freed = self.with(|cache| {
            let before = cache.order.len();
            (0..control.objects).for_each(|_| cache.look_at_oldest());
            before - cache.order.len()
        });
        Scanned::Done {
            looked_at: control.objects,
            freed,
        }
    }
}

impl Cache {
    fn look_at_oldest(&mut self) {
        let Some(key) = self.order.pop_front() else {
            return;
        };
        let used = self.values.get_mut(&key).map(|value| &mut value.1);
        if used.is_some_and(std::mem::take) {
            self.order.push_back(key);
        } else {
            self.values.remove(&key);
        }
    }

    fn answer(&mut self, key: u64, work: &mut [u8]) -> Option<u64> {
        let (value, used) = self.values.get_mut(&key)?;
        *used = true;
        Some(answer(value, work))
    }

    fn insert(&mut self, key: u64, value: Buffer) {
        self.values.insert(key, (value, false));
        self.order.push_back(key);
    }
}

/// What became of a run.
struct Run {
    answered: u64,
    /// Requests that got no memory.
    refused: u64,
    /// Values that the cache gave back.
    given_back: u64,
    /// The most that was seen at the end of a request.
    pressure: Pressure,
    /// In which at least one thread asked the cache, in milliseconds.
    reclaim_ms: u64,
    end: String,
}

fn with_gfp() -> Result<Run, Box<dyn Error>> {
    let host = Host::boot(&HostConfig::new(MEMORY))?;
    let _background = host.start_background()?;
    let shared = Arc::new(Shared(Mutex::default()));
    let guard = host.register_shrinker(shared.clone(), Settings::default())?;
    let mut run = Run {
        answered: 0,
        refused: 0,
        given_back: 0,
        pressure: Pressure::None,
        reclaim_ms: 0,
        end: "went on to the end".into(),
    };
    for request in 0..REQUESTS {
        match serve(&host, &shared, key(request)) {
            Ok((answer, pressure)) => {
                assert_eq!(answer, key(request));
                run.answered += 1;
                run.pressure = run.pressure.max(pressure);
            }
            Err(_) => run.refused += 1,
        }
    }
    run.reclaim_ms = host.memory_stall_us() / 1000;
    run.given_back = guard.freed_objects();
    drop(guard);
    shared.with(std::mem::take); // the values keep the machine
    Ok(run)
}

/// The answer, and the pressure while it was worked out. Memory is asked for with no lock held that
/// the shrinker wants.
fn serve(host: &Host, shared: &Shared, key: u64) -> Result<(u64, Pressure), gfp::AllocError> {
    let mut work = host.buffer(WORK_BYTES, GFP_KERNEL)?;
    if let Some(answer) = shared.with(|cache| cache.answer(key, &mut work)) {
        return Ok((answer, host.pressure()));
    }
    let mut value = host.buffer(VALUE_BYTES, GFP_KERNEL)?;
    fill(key, &mut value);
    let answer = answer(&value, &mut work);
    shared.with(|cache| cache.insert(key, value));
    Ok((answer, host.pressure()))
}

// --- Side by side ---

fn without_gfp() -> Result<Run, Box<dyn Error>> {
    let child = Command::new(std::env::current_exe()?)
        .arg(PLAIN)
        .stderr(Stdio::null())
        .output()?;
    let said = String::from_utf8(child.stdout)?;
    let answered = said
        .lines()
        .filter_map(|line| line.parse().ok())
        .next_back();
    let answered: u64 = answered.ok_or("the child said nothing")?;
    Ok(Run {
        answered,
        refused: u64::from(!child.status.success()),
        given_back: 0,
        pressure: Pressure::None,
        reclaim_ms: 0,
        end: match child.status.signal() {
            _ if child.status.success() => "went on to the end".into(),
            Some(signal) => format!("died of signal {signal}"),
            None => "died".into(),
        },
    })
}

/// Both runs as a table.
pub(crate) fn side_by_side() -> Result<String, Box<dyn Error>> {
    let (plain, gfp) = (without_gfp()?, with_gfp()?);
    let mut table = String::new();
    let mib = |bytes: usize| bytes >> 20;
    writeln!(
        table,
        "{REQUESTS} requests, {} MiB of memory, {} MiB of values\n",
        mib(MEMORY),
        mib(KEYS as usize * VALUE_BYTES)
    )?;
    let mut row =
        |what: &str, plain: &str, gfp: &str| writeln!(table, "{what:<24}{plain:<24}{gfp}");
    let number = |n: u64| n.to_string();
    row("", "without gfp", "with gfp")?;
    row("answered", &number(plain.answered), &number(gfp.answered))?;
    row("refused", &number(plain.refused), &number(gfp.refused))?;
    row(
        "values given back",
        &number(plain.given_back),
        &number(gfp.given_back),
    )?;
    row("pressure, at most", "nobody says", gfp.pressure.name())?;
    let time = format!("{} ms", gfp.reclaim_ms);
    row("time to make room", "none", &time)?;
    row("end", &plain.end, &gfp.end)?;
    Ok(table)
}
