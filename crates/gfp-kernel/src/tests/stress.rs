//! All CPUs, all contexts, all allocators at once.

use super::fixture::{Ledger, Random, Wrong, cpus, hooks_off, kmalloc, platform};
use super::owners::{CACHED_BYTES, Holding, Kind, Owners, Place, SIZES};
use super::threads::on_all_cpus;
use crate::arch::{apic, percpu, time, traps};
use crate::memory::mm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::frame::CpuId;
use gfp::platform::Platform;
use gfp::slab::CacheArgs;

super::tests! { "stress":
    a_million_operations_in_all_contexts_on_all_cpus,
    all_cpus_trim_at_once_while_interrupts_and_nmis_allocate,
    nmis_leave_a_place_alone_that_another_cpu_took,
    who_takes_a_place_waits_until_its_owner_is_outside,
    what_one_cpu_allocates_another_frees,
    caches_come_and_go_while_others_allocate,
}

/// What happened where.
struct Counts {
    task: AtomicUsize,
    interrupt: AtomicUsize,
    nmi: AtomicUsize,
    /// NMIs that found a section under them.
    nested: AtomicUsize,
}

static COUNTS: Counts = Counts {
    task: AtomicUsize::new(0),
    interrupt: AtomicUsize::new(0),
    nmi: AtomicUsize::new(0),
    nested: AtomicUsize::new(0),
};

impl Counts {
    fn all(&self) -> [&AtomicUsize; 4] {
        [&self.task, &self.interrupt, &self.nmi, &self.nested]
    }
}

const HELD: usize = 8;
static BY_INTERRUPT: [[Place; HELD]; percpu::MAX_CPUS] =
    [const { [const { Place::new() }; HELD] }; percpu::MAX_CPUS];
static BY_NMI: [[Place; HELD]; percpu::MAX_CPUS] =
    [const { [const { Place::new() }; HELD] }; percpu::MAX_CPUS];
/// Where tasks leave what anybody may take.
static EXCHANGE: [Place; 64] = [const { Place::new() }; 64];

/// Who takes, for tags: the context in the two highest bits, the CPU below.
fn tag(context: u16, cpu: u32, serial: usize) -> u16 {
    context << 14 | (cpu as u16 & 63) << 8 | serial as u16 & 0xff
}

fn kind(random: &mut Random, largest_order: usize) -> Kind {
    match random.below(16) {
        0..10 => Kind::Object(random.below(SIZES.len()) as u8),
        10..14 => Kind::Pages(random.below(largest_order + 1) as u8),
        _ => Kind::Cached,
    }
}

/// What handlers do: free what is at a place, or put something there.
fn in_handler(context: u16, places: &[Place; HELD], count: &AtomicUsize) {
    let Some(owners) = Owners::get() else { return };
    let serial = count.fetch_add(1, Relaxed);
    let mut random = Random(serial as u64 * 4 + u64::from(context));
    let place = &places[random.below(HELD)];
    let held = match place.swap(None) {
        None if serial.is_multiple_of(4) => EXCHANGE[random.below(EXCHANGE.len())].swap(None),
        held => held,
    };
    if let Some(holding) = held {
        return owners.free(holding);
    }
    let tag = tag(context, percpu::cpu(), serial);
    match owners.take(kind(&mut random, 3), GFP_ATOMIC, tag) {
        Ok(holding) => {
            let old = place.swap(Some(holding));
            old.into_iter().for_each(|old| owners.free(old));
        }
        Err(AllocError::Nested) if context == 2 => {
            COUNTS.nested.fetch_add(1, Relaxed);
        }
        Err(AllocError::Nested) => Wrong::InSection.count(),
        Err(_) => Wrong::Refused.count(),
    }
}

/// Sends an NMI to every CPU.
fn nmi_all() {
    percpu::all().for_each(|cpu| apic::send_nmi(cpu.apic_id.load(Relaxed)));
}

/// One operation of a task: an allocation or a free. Before it one in eight holdings goes to
/// somebody else.
fn step(owners: &Owners, random: &mut Random, held: &mut [Option<Holding>], tag: u16) {
    let at = random.below(held.len());
    if random.below(8) == 0 {
        held[at] = EXCHANGE[random.below(EXCHANGE.len())].swap(held[at]);
    }
    match held[at].take() {
        Some(holding) => owners.free(holding),
        None => match owners.take(kind(random, 5), GFP_KERNEL | Gfp::NOWARN, tag) {
            Ok(holding) => held[at] = Some(holding),
            Err(_) => Wrong::Refused.count(),
        },
    }
}

fn a_million_operations_in_all_contexts_on_all_cpus() {
    const OPERATIONS: usize = 1_000_000;
    let books = Ledger::open();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-stress", CACHED_BYTES));
    let cache = cache.expect("a cache");
    COUNTS.all().into_iter().for_each(|n| n.store(0, Relaxed));
    Owners::begin(cache);
    traps::ON_TIMER.set(Some(|_| {
        let places = &BY_INTERRUPT[percpu::cpu() as usize];
        in_handler(1, places, &COUNTS.interrupt);
    }));
    traps::ON_NMI.set(Some(|_| {
        let places = &BY_NMI[percpu::cpu() as usize];
        in_handler(2, places, &COUNTS.nmi);
    }));
    on_all_cpus(|cpu| {
        let Some(owners) = Owners::get() else { return };
        time::timer_hz(5000);
        let mut held = [None; 64];
        let mut random = Random(u64::from(cpu) << 32);
        for n in 0..OPERATIONS / cpus() as usize + 1 {
            step(owners, &mut random, &mut held, tag(0, cpu, n | 1));
            COUNTS.task.fetch_add(1, Relaxed);
            if n % 128 == 0 {
                nmi_all();
            }
        }
        held.into_iter().flatten().for_each(|h| owners.free(h));
        time::timer_hz(super::TIMER_HZ);
    });
    hooks_off();
    finish();
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    books.close();
}

/// Frees what handlers hold, and looks at what happened.
fn finish() {
    if let Some(owners) = Owners::get() {
        let handlers = BY_INTERRUPT.iter().chain(&BY_NMI).flatten();
        let left = handlers.chain(&EXCHANGE).filter_map(|p| p.swap(None));
        left.for_each(|holding| owners.free(holding));
    }
    Owners::end();
    let [task, interrupt, nmi, nested] = COUNTS.all().map(|n| n.load(Relaxed));
    crate::println!(
        "    {task} by tasks, {interrupt} in interrupts, {nmi} in NMIs ({nested} nested)"
    );
    assert!(task + interrupt + nmi >= 1_000_000);
    assert!(interrupt > 100 && nmi > 100, "handlers took part");
    assert!(nested < nmi, "NMIs came outside of sections");
    // What a CPU sends itself comes at once, outside.
    assert!(nested > 0 || cpus() == 1, "and inside");
}

fn all_cpus_trim_at_once_while_interrupts_and_nmis_allocate() {
    fn pair(wrong: Wrong) {
        match mm().kmalloc(128, GFP_ATOMIC) {
            // SAFETY: freed once.
            Ok(p) => unsafe { mm().kfree(p.as_ptr()) },
            Err(AllocError::Nested) if wrong == Wrong::Other => {}
            Err(_) => wrong.count(),
        }
    }
    let books = Ledger::open();
    traps::ON_TIMER.set(Some(|_| pair(Wrong::Refused)));
    traps::ON_NMI.set(Some(|_| pair(Wrong::Other)));
    on_all_cpus(|_| {
        for n in 0..60 {
            let objects = [24, 700, 4096, 40_000].map(kmalloc);
            mm().trim();
            drop(objects);
            if n % 2 == 0 {
                nmi_all();
            }
            mm().pages().drain_all();
        }
    });
    traps::ON_TIMER.set(None);
    traps::ON_NMI.set(None);
    books.close();
}

/// A word that only sections of its CPU may touch: each writes what it read plus 1, slowly.
struct Guarded(UnsafeCell<[u64; 2]>);

// SAFETY: the tests look whether sections keep others off; all accesses are volatile.
unsafe impl Sync for Guarded {}

impl Guarded {
    const fn new() -> Guarded {
        Guarded(UnsafeCell::new([0; 2]))
    }

    /// Adds one. Called in a section.
    fn add(&self) {
        self.add_and(|| (0..20).for_each(|_| core::hint::spin_loop()));
    }

    /// [`Guarded::add`], with something to be done amid.
    fn add_and(&self, amid: impl FnOnce()) {
        let [a, b] = [0, 1].map(|i| self.0.get().cast::<u64>().wrapping_add(i));
        // SAFETY: valid; who else writes meanwhile is what the test is about.
        unsafe {
            let was = a.read_volatile();
            a.write_volatile(was + 1);
            amid();
            Wrong::InSection.unless(b.read_volatile() == was);
            b.write_volatile(was + 1);
        }
    }

    fn value(&self) -> [u64; 2] {
        // SAFETY: nobody writes any more.
        unsafe { self.0.get().read_volatile() }
    }

    fn reset(&self) {
        // SAFETY: nobody uses it yet.
        unsafe { self.0.get().write_volatile([0; 2]) }
    }
}

static GUARDED: [Guarded; percpu::MAX_CPUS] = [const { Guarded::new() }; percpu::MAX_CPUS];
static ADDED: AtomicUsize = AtomicUsize::new(0);
/// NMI handlers that have added, or were refused, on each CPU.
static NMIS: [AtomicUsize; percpu::MAX_CPUS] = [const { AtomicUsize::new(0) }; percpu::MAX_CPUS];

/// Adds in a section of this CPU.
fn add_here() {
    if let Ok((cpu, section)) = platform().enter() {
        GUARDED[cpu.0 as usize].add();
        ADDED.fetch_add(1, Relaxed);
        drop(section);
    }
}

/// An NMI comes to a CPU, and its handler ends.
fn nmi_and_wait(cpu: u32) {
    let handled = || NMIS[cpu as usize].load(Relaxed);
    let before = handled();
    let to = percpu::of(CpuId(cpu)).expect("it runs");
    apic::send_nmi(to.apic_id.load(Relaxed));
    while handled() == before {
        core::hint::spin_loop();
    }
}

/// All CPUs add in sections of their own and in each other's place; NMIs do what `on_nmi` says.
/// `amid` is done in the middle of an addition in another's place.
///
/// # Panics
/// If an addition is lost.
fn add_everywhere(on_nmi: Option<fn(&mut traps::Frame)>, amid: fn(u32)) {
    const TURNS: u32 = 20_000;
    GUARDED.iter().for_each(Guarded::reset);
    ADDED.store(0, Relaxed);
    traps::ON_NMI.set(on_nmi);
    on_all_cpus(|me| {
        for turn in 0..TURNS {
            add_here();
            if turn % 64 == 0 {
                let other = (me + 1 + turn / 64) % cpus();
                match platform().enter_remote(CpuId(other)) {
                    Some(section) => {
                        GUARDED[other as usize].add_and(|| amid(other));
                        ADDED.fetch_add(1, Relaxed);
                        drop(section);
                    }
                    None => Wrong::Refused.count(),
                }
                nmi_all();
            }
        }
    });
    hooks_off();
    let sums = GUARDED.iter().map(Guarded::value);
    let sums = sums.inspect(|[a, b]| Wrong::InSection.unless(a == b));
    let sum: u64 = sums.map(|[a, _]| a).sum();
    assert_eq!(sum as usize, ADDED.load(Relaxed), "no addition is lost");
}

fn who_takes_a_place_waits_until_its_owner_is_outside() {
    // INV-PCPU-1
    let books = Ledger::open();
    add_everywhere(None, |_| ());
    books.close();
}

fn nmis_leave_a_place_alone_that_another_cpu_took() {
    // INV-PCPU-1
    let books = Ledger::open();
    let on_nmi = |_: &mut traps::Frame| {
        add_here();
        NMIS[percpu::cpu() as usize].fetch_add(1, Relaxed);
    };
    add_everywhere(Some(on_nmi), nmi_and_wait);
    books.close();
}

fn what_one_cpu_allocates_another_frees() {
    const OBJECTS: usize = 20_000;
    static RING: [AtomicPtr<u8>; 128] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 128];
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static FREED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    FREED.store(0, Relaxed);
    NEXT.store(0, Relaxed);
    let take = |place: &AtomicPtr<u8>, new| {
        // AcqRel: what the other CPU wrote into the object is seen.
        let old = place.swap(new, Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: ours since we took it: it holds the number of who allocated, and is freed
            // once.
            unsafe {
                Wrong::Content.unless(old.cast::<u64>().read() < u64::from(cpus()));
                mm().kfree(old);
            }
            FREED.fetch_add(1, Relaxed);
        }
    };
    on_all_cpus(|me| {
        for n in 0..OBJECTS {
            let object = kmalloc([16, 64, 512, 2048][n % 4]).into_ptr();
            // SAFETY: ours.
            unsafe { object.cast::<u64>().write(me.into()) }
            let place = NEXT.fetch_add(1, Relaxed) as usize % RING.len();
            take(&RING[place], object);
        }
    });
    RING.iter().for_each(|p| take(p, core::ptr::null_mut()));
    assert_eq!(FREED.load(Relaxed), OBJECTS * cpus() as usize);
    books.close();
}

fn caches_come_and_go_while_others_allocate() {
    // S67: a cache is emptied on all CPUs before it goes.
    let books = Ledger::open();
    on_all_cpus(|me| {
        let name = ["tests-c0", "tests-c1", "tests-c2", "tests-c3"].get(me as usize);
        for _ in 0..40 {
            let Some(cache) = name.and_then(|name| {
                let args = CacheArgs::new(name, 100 + 40 * me as usize);
                mm().kmem_cache_create(&args).ok()
            }) else {
                drop(kmalloc(100));
                continue;
            };
            let objects: [_; 50] =
                core::array::from_fn(|_| mm().kmem_cache_alloc(cache, GFP_KERNEL));
            for p in objects {
                match p {
                    // SAFETY: freed once.
                    Ok(p) => unsafe { mm().kmem_cache_free(cache, p.as_ptr()) },
                    Err(_) => Wrong::Refused.count(),
                }
            }
            Wrong::Other.unless(mm().kmem_cache_destroy(cache).is_ok());
        }
    });
    books.close();
}
