//! What requests in need ask of a scripted machine, call by call (P412, P961-P963): the same in a
//! simulator, in a process, and on bare metal. Their tests include this file.
//!
//! 1. The machine is the caller's alone meanwhile: nobody else allocates or frees, and no
//!    background runs. Calls that others make all the same are left out of the counts.
//! 2. All its memory is hoarded, so that only what the script gives is there.
//! 3. Nothing here panics while the script is registered: what was seen is returned, and compared
//!    by the caller ([`Seen::check`]).

use core::cell::UnsafeCell;
use core::mem::transmute;
use core::ops::ControlFlow;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOIO, GFP_NOWAIT, Gfp};
use gfp::policy::oom::Candidate;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::oom::{OomId, OomSource};
use gfp::reclaim::{ShrinkControl, Shrinker};
use gfp::{Mm, Platform};

/// Passes of one round of direct reclaim that frees nothing: priorities 12 to 0 (P405).
const PASSES: usize = 13;
/// Rounds without progress (P121, P122): the first, and 16 more.
const ROUNDS: usize = 17;
/// What the cache says that it has (P412).
const OBJECTS: usize = 10_000;
const BATCH: usize = 128;

/// Pages that are linked through their first words.
struct Hoard {
    head: *mut *mut u8,
    pages: usize,
}

impl Hoard {
    const fn empty() -> Hoard {
        let head = null_mut();
        Hoard { head, pages: 0 }
    }

    /// All pages that are free, whatever the watermarks.
    fn take<P: Platform>(&mut self, mm: &Mm<P>) {
        let Ok(_scope) = mm.scope_noreclaim(&"hoards all memory") else {
            return;
        };
        while let Ok(pfn) = mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, 0) {
            let page = mm.page_address(pfn).as_ptr().cast::<*mut u8>();
            // SAFETY: the page is ours.
            unsafe { page.write(self.head.cast()) };
            self.head = page;
            self.pages += 1;
        }
    }

    fn give<P: Platform>(&mut self, mm: &Mm<P>, pages: usize) {
        for _ in 0..pages.min(self.pages) {
            let page = self.head;
            // SAFETY: written by `take`.
            self.head = unsafe { page.read() }.cast();
            self.pages -= 1;
            // SAFETY: ours, given back once.
            unsafe { mm.free_pages(page.cast(), 0) };
        }
    }
}

/// What the cache's shrinker does.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Scan {
    /// Looks, and frees nothing.
    Looks,
    /// Says after so many calls that it cannot go on (P411).
    StopsAfter(usize),
    /// Asks for a page itself, first (P962).
    Allocates,
}

/// A cache that frees nothing, and one who can be killed.
struct Script<'m, P: Platform> {
    mm: &'m Mm<P>,
    mine: &'m (dyn Fn() -> bool + Sync),
    scan: Scan,
    counts: AtomicUsize,
    scans: AtomicUsize,
    /// Requests of a scan that were served.
    served: AtomicUsize,
    /// Calls that came while a scan was under way (P133).
    nested: AtomicUsize,
    inside: AtomicUsize,
    kills: AtomicUsize,
    hoard: UnsafeCell<&'m mut Hoard>,
}

// SAFETY: the hoard is touched by the task that runs the script only, also in the killer.
unsafe impl<P: Platform> Sync for Script<'_, P> where Mm<P>: Sync {}

impl<P: Platform> Shrinker for Script<'_, P> {
    fn count(&self, _: &ShrinkControl) -> Counted {
        if !(self.mine)() {
            return Counted::Nothing;
        }
        self.counts.fetch_add(1, Relaxed);
        self.nested.fetch_add(self.inside.load(Relaxed), Relaxed);
        Counted::Objects(OBJECTS)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let call = self.scans.fetch_add(1, Relaxed);
        match self.scan {
            Scan::StopsAfter(calls) if call >= calls => return Scanned::Stop,
            Scan::Allocates => {
                self.inside.fetch_add(1, Relaxed);
                if let Ok(pfn) = self.mm.alloc_pages(GFP_KERNEL | Gfp::NOWARN, 0) {
                    self.served.fetch_add(1, Relaxed);
                    // SAFETY: ours.
                    unsafe { self.mm.free_frames(pfn, 0) };
                }
                self.inside.fetch_sub(1, Relaxed);
            }
            _ => (),
        }
        Scanned::Done {
            looked_at: control.objects,
            freed: 0,
        }
    }
}

impl<P: Platform> OomSource for Script<'_, P> {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        let candidate = Candidate {
            rss: 1,
            ..Candidate::default()
        };
        if (self.mine)() {
            _ = visit(OomId(1), &candidate);
        }
    }

    fn mark(&self, _: OomId) {}

    /// What it had is there at once.
    fn kill(&self, _: OomId) {
        self.kills.fetch_add(1, Relaxed);
        // SAFETY: only the task of the script is shown somebody to kill.
        let hoard = unsafe { &mut *self.hoard.get() };
        hoard.give(self.mm, hoard.pages / 4);
    }

    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

/// What one request did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// It was served.
    pub(super) served: bool,
    /// Calls of `count`.
    pub(super) counts: usize,
    /// Calls of `scan`.
    pub(super) scans: usize,
    /// Kills.
    pub(super) kills: usize,
}

/// What was seen, and what the rules say.
#[derive(Copy, Clone, Debug)]
pub(super) struct Seen {
    what: &'static str,
    seen: Calls,
    expected: Calls,
}

impl Seen {
    /// # Panics
    /// If it is not what the rules say.
    #[track_caller]
    pub(super) fn check(&self) {
        assert_eq!(self.seen, self.expected, "{}", self.what);
    }
}

/// P412, by its words: calls of `scan` in one round that frees nothing, on so many nodes.
fn scans_of_a_round(nodes: usize, deferred: &mut usize) -> usize {
    let mut calls = 0;
    for priority in (0..PASSES).rev() {
        for _ in 0..nodes {
            let delta = (OBJECTS >> priority) * 4 / 2;
            let mut total = ((*deferred >> priority) + delta).min(2 * OBJECTS);
            let mut scanned = 0;
            while total >= BATCH || total >= OBJECTS {
                let now = total.min(BATCH);
                (total, scanned, calls) = (total - now, scanned + now, calls + 1);
            }
            *deferred = (*deferred + delta).saturating_sub(scanned).min(2 * OBJECTS);
        }
    }
    calls
}

/// P961: each level, with a cache that gives nothing and one who can be killed.
const LEVELS: [(&str, Gfp, usize, usize, bool); 9] = [
    (
        "1 no reclaim",
        GFP_KERNEL.without(Gfp::RECLAIM),
        0,
        0,
        false,
    ),
    ("2 background", GFP_NOWAIT, 0, 0, false),
    ("3 atomic", GFP_ATOMIC, 0, 0, false),
    ("4 kernel", GFP_KERNEL, ROUNDS, 1, true),
    ("5 noretry", GFP_KERNEL.with(Gfp::NORETRY), 1, 0, false),
    (
        "6 mayfail",
        GFP_KERNEL.with(Gfp::RETRY_MAYFAIL),
        ROUNDS,
        0,
        false,
    ),
    ("7 nofail", GFP_KERNEL.with(Gfp::NOFAIL), ROUNDS, 1, true),
    (
        "4, this node only",
        GFP_KERNEL.with(Gfp::THISNODE),
        ROUNDS,
        0,
        false,
    ),
    ("5 without I/O", GFP_NOIO.with(Gfp::NORETRY), 1, 0, false),
];

/// Runs `work` on a machine without memory but `spare` pages; the rest is in the hoard then.
fn with_script<P: Platform, R>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
    hoard: &mut Hoard,
    scan: Scan,
    spare: usize,
    work: impl FnOnce(&Script<'_, P>) -> R,
) -> Option<R>
where
    Mm<P>: Sync,
{
    let script = Script {
        mm,
        mine,
        scan,
        counts: AtomicUsize::new(0),
        scans: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
        nested: AtomicUsize::new(0),
        inside: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
        hoard: UnsafeCell::new(hoard),
    };
    let shrinker = NonNull::from(&script as &dyn Shrinker);
    let source = NonNull::from(&script as &dyn OomSource);
    // SAFETY: lifetimes only; both are unregistered below.
    let shrinker =
        unsafe { transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker) };
    // SAFETY: as above.
    let source =
        unsafe { transmute::<NonNull<dyn OomSource + '_>, NonNull<dyn OomSource>>(source) };
    let reclaim = mm.slabs().reclaim();
    // SAFETY: as above.
    let shrinker = unsafe { mm.register_shrinker_for(shrinker, Settings::default()) }.ok()?;
    // SAFETY: as above.
    let source = unsafe { reclaim.register_oom_source_for(source) };
    script.hoard(spare);
    let result = work(&script);
    if let Ok(id) = source {
        mm.unregister_oom_source(id);
    }
    mm.unregister_shrinker(shrinker);
    Some(result)
}

impl<P: Platform> Script<'_, P> {
    /// Only so many pages are free, none of them at hand of a CPU.
    fn hoard(&self, spare: usize) {
        self.mm.pages().drain_all();
        // SAFETY: the script's task, and no kill is under way.
        let hoard = unsafe { &mut *self.hoard.get() };
        hoard.take(self.mm);
        hoard.give(self.mm, spare);
        self.mm.pages().drain_all();
        for count in [
            &self.counts,
            &self.scans,
            &self.served,
            &self.nested,
            &self.kills,
        ] {
            count.store(0, Relaxed);
        }
    }

    fn request(&self, gfp: Gfp) -> Calls {
        let page = self.mm.alloc_pages(gfp | Gfp::NOWARN, 0);
        let calls = Calls {
            served: page.is_ok(),
            counts: self.counts.load(Relaxed),
            scans: self.scans.load(Relaxed),
            kills: self.kills.load(Relaxed),
        };
        // SAFETY: ours.
        page.into_iter()
            .for_each(|pfn| unsafe { self.mm.free_frames(pfn, 0) });
        calls
    }
}

/// Registers something once, so that the machine has the page of slots that it keeps from then on.
pub(super) fn touch<P: Platform>(mm: &Mm<P>)
where
    Mm<P>: Sync,
{
    struct Nothing;
    impl Shrinker for Nothing {
        fn count(&self, _: &ShrinkControl) -> Counted {
            Counted::Empty
        }
        fn scan(&self, _: &ShrinkControl) -> Scanned {
            Scanned::Stop
        }
    }
    if let Ok(id) = mm.register_shrinker(&Nothing, Settings::default()) {
        mm.unregister_shrinker(id);
    }
}

/// P961, P412: for each level, what it asked of a machine that gives nothing. `None`: there was no
/// memory for the script itself.
///
/// `mine`: the caller is the task that calls this.
pub(super) fn levels<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> [Option<Seen>; LEVELS.len()]
where
    Mm<P>: Sync,
{
    let all = mm.pages().nodes().count();
    let mut hoard = Hoard::empty();
    let seen = LEVELS.map(|(what, gfp, rounds, kills, served)| {
        let request = |script: &Script<'_, P>| script.request(gfp);
        let seen = with_script(mm, mine, &mut hoard, Scan::Looks, 0, request)?;
        let nodes = if gfp.contains(Gfp::THISNODE) { 1 } else { all };
        let (mut scans, mut deferred) = (0, 0);
        (0..rounds).for_each(|_| scans += scans_of_a_round(nodes, &mut deferred));
        let expected = Calls {
            served,
            counts: rounds * PASSES * nodes,
            scans,
            kills,
        };
        Some(Seen {
            what,
            seen,
            expected,
        })
    });
    hoard.give(mm, usize::MAX);
    seen
}

/// P962: with a few pages free, below min: a request fails; what the shrinker asks for itself is
/// served every time, and the shrinker is not asked meanwhile.
pub(super) fn recursion<P: Platform>(mm: &Mm<P>, mine: &(dyn Fn() -> bool + Sync)) -> Option<bool>
where
    Mm<P>: Sync,
{
    const SPARE: usize = 8;
    let gfp = GFP_KERNEL | Gfp::NORETRY;
    let mut hoard = Hoard::empty();
    let fails = with_script(mm, mine, &mut hoard, Scan::Looks, SPARE, |script| {
        !script.request(gfp).served
    });
    let asked = with_script(mm, mine, &mut hoard, Scan::Allocates, SPARE, |script| {
        let calls = script.request(gfp);
        let nested = script.nested.load(Relaxed);
        calls.scans > 0 && script.served.load(Relaxed) == calls.scans && nested == 0
    });
    hoard.give(mm, usize::MAX);
    Some(fails? && asked?)
}

/// P963: a shrinker that stops after five calls is called once more in each pass that has a batch
/// for it, and no more. Its objects looked at, as the machine counts them.
pub(super) fn stops<P: Platform>(mm: &Mm<P>, mine: &(dyn Fn() -> bool + Sync)) -> Option<usize>
where
    Mm<P>: Sync,
{
    let scanned = || mm.slabs().reclaim().events().objects_scanned;
    let mut hoard = Hoard::empty();
    let batches = with_script(mm, mine, &mut hoard, Scan::StopsAfter(5), 0, |script| {
        let before = scanned();
        script.request(GFP_KERNEL | Gfp::NORETRY);
        (scanned() - before) as usize / BATCH
    });
    hoard.give(mm, usize::MAX);
    batches
}
