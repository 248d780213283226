//! How hard a process tries: requests of each level against a scripted cache and killer, with the
//! counts that the table of `policy::effort` says (P961); recursion (P962); shrinkers (P963).
//!
//! Seen to fail with: another limit of rounds without progress; a scan that may reclaim; deferred
//! work that is dropped; an unregister that does not wait.
#![cfg(not(loom))]

use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::policy::oom::Candidate;
use gfp::policy::reclaim::Priority;
use gfp::policy::reclaim::shrink::{Counted, Pass, Scanned, Settings};
use gfp::reclaim::oom::{OomId, OomReport, OomSource};
use gfp::reclaim::{ShrinkControl, Shrinker};
use gfp_host::{Host, HostConfig};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// All free memory of a machine, as addresses of pages.
#[derive(Default)]
struct Hoard(Mutex<Vec<usize>>);

impl Hoard {
    /// Takes what any request can get.
    fn fill(&self, host: &Host) {
        let _reserve = host.scope_noreclaim(&"a test").unwrap();
        let mut pages = Vec::new();
        while let Ok(page) = host.get_free_pages(GFP_KERNEL | Gfp::NOWARN, 0) {
            pages.push(page.as_ptr().addr());
        }
        self.0.lock().unwrap().extend(pages);
    }

    /// Gives so many pages back; how many there were.
    fn give(&self, host: &Host, pages: usize) -> usize {
        let mut mine = self.0.lock().unwrap();
        let keep = mine.len().saturating_sub(pages);
        let given = mine.split_off(keep);
        for page in &given {
            // SAFETY: a page of ours, freed once.
            unsafe { host.free_pages(std::ptr::with_exposed_provenance_mut(*page), 0) };
        }
        host.pages().drain_all(); // what a CPU has cached is for its next request, watermark or not
        given.len()
    }
}

/// Pages that the machine must have beyond what requests leave for others, so that one is served.
const PLENTY: usize = 512;

/// A cache that says it has much, and at the first pass of each round gives what the script says.
struct Scripted {
    host: Host,
    hoard: Arc<Hoard>,
    /// Pages to give, by the rounds before.
    gives: fn(usize) -> usize,
    first_round: AtomicUsize,
    last_round: AtomicUsize,
}

impl Scripted {
    fn rounds(&self) -> usize {
        rounds(&self.host) - self.first_round.load(SeqCst)
    }
}

/// Direct reclaims of a machine.
fn rounds(host: &Host) -> usize {
    let stalls = host.slabs().reclaim().events().stalls;
    stalls.iter().sum::<u64>() as usize
}

impl Shrinker for Scripted {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(10_000)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let round = self.rounds();
        let freed = match self.last_round.swap(round, SeqCst) == round {
            true => 0,
            false => self.hoard.give(&self.host, (self.gives)(round - 1)),
        };
        Scanned::Done {
            looked_at: control.objects,
            freed,
        }
    }
}

/// One task, which has everything and gives it up when it is killed.
struct Victim {
    host: Host,
    hoard: Arc<Hoard>,
    kills: AtomicUsize,
    deadlocks: AtomicUsize,
    /// It may be killed.
    killable: bool,
}

impl OomSource for Victim {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        if self.killable && self.kills.load(SeqCst) == 0 {
            let candidate = Candidate {
                rss: 1000,
                ..Candidate::default()
            };
            let _ = visit(OomId(1), &candidate);
        }
    }

    fn mark(&self, _: OomId) {}

    fn kill(&self, _: OomId) {
        self.kills.fetch_add(1, SeqCst);
        self.hoard.give(&self.host, PLENTY);
    }

    fn has_ended(&self, _: OomId) -> bool {
        true
    }

    fn deadlocked(&self, _: &OomReport<'_>) {
        self.deadlocks.fetch_add(1, SeqCst);
    }
}

/// What a request did.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    served: bool,
    rounds: usize,
    kills: usize,
}

/// How a machine stands to killing.
#[derive(Copy, Clone, PartialEq)]
enum Killer {
    None,
    Nobody,
    Victim,
}

fn ask(gfp: Gfp, gives: fn(usize) -> usize, killer: Killer) -> Seen {
    let host = Host::boot(&HostConfig::new(16 << 20)).unwrap();
    let hoard = Arc::new(Hoard::default());
    let cache = Arc::new(Scripted {
        host: host.clone(),
        hoard: hoard.clone(),
        gives,
        first_round: AtomicUsize::new(0),
        last_round: AtomicUsize::new(0),
    });
    let victim = Arc::new(Victim {
        host: host.clone(),
        hoard: hoard.clone(),
        kills: AtomicUsize::new(0),
        deadlocks: AtomicUsize::new(0),
        killable: killer == Killer::Victim,
    });
    let settings = Settings::default();
    let shrinker = host.register_shrinker(cache.clone(), settings).unwrap();
    let source = (killer != Killer::None).then(|| host.register_oom_source(victim.clone()));
    hoard.fill(&host);
    cache.first_round.store(rounds(&host), SeqCst);
    let page = host.get_free_pages(gfp | Gfp::NOWARN, 0);
    let seen = Seen {
        served: page.is_ok(),
        rounds: cache.rounds(),
        kills: victim.kills.load(SeqCst),
    };
    if killer == Killer::Nobody && !seen.served && seen.rounds > 1 {
        let tells = !gfp.contains(Gfp::RETRY_MAYFAIL);
        assert_eq!(victim.deadlocks.load(SeqCst), usize::from(tells));
    }
    drop((shrinker, source));
    if let Ok(page) = page {
        // SAFETY: allocated above, freed once.
        unsafe { host.free_pages(page.as_ptr(), 0) };
    }
    hoard.give(&host, usize::MAX);
    assert_eq!(Arc::strong_count(&cache), 1, "the guard has let go of it");
    host.verify().unwrap();
    seen
}

const LEVELS: [(&str, Gfp); 7] = [
    ("1 no reclaim", GFP_KERNEL.without(Gfp::RECLAIM)),
    ("2 background", GFP_KERNEL.without(Gfp::DIRECT_RECLAIM)),
    ("3 reserves", GFP_ATOMIC),
    ("4 default", GFP_KERNEL),
    ("5 noretry", GFP_KERNEL.with(Gfp::NORETRY)),
    ("6 retry_mayfail", GFP_KERNEL.with(Gfp::RETRY_MAYFAIL)),
    ("7 nofail", GFP_KERNEL.with(Gfp::NOFAIL)),
];

/// The level, the killer, and whether it was served, after how many rounds and kills.
fn check(name: &str, gives: fn(usize) -> usize, killer: Killer, want: [(bool, usize, usize); 7]) {
    for ((level, gfp), (served, rounds, kills)) in LEVELS.into_iter().zip(want) {
        let want = Seen {
            served,
            rounds,
            kills,
        };
        assert_eq!(ask(gfp, gives, killer), want, "{name}: {level}");
    }
}

#[test]
fn a_provider_that_gives_nothing_is_asked_as_often_as_the_level_says() {
    // P100-P106, P121, P961: once, or 17 times; NOFAIL until something comes.
    let late = |round| if round == 39 { PLENTY } else { 0 };
    let (no, yes) = (false, true);
    let want = |kills, last| {
        let default = (kills != 0, 17, kills);
        let [one, two, three] = [(no, 0, 0); 3];
        [one, two, three, default, (no, 1, 0), (no, 17, 0), last]
    };
    check("nobody", late, Killer::None, want(0, (yes, 40, 0)));
    check("a victim", late, Killer::Victim, want(1, (yes, 17, 1)));
}

#[test]
fn a_killer_without_anybody_to_kill_changes_nothing_but_that_it_says_so() {
    // P434, P961
    assert_eq!(
        ask(GFP_KERNEL, |_| 0, Killer::Nobody),
        Seen {
            served: false,
            rounds: 17,
            kills: 0
        }
    );
    assert!(!ask(GFP_KERNEL | Gfp::RETRY_MAYFAIL, |_| 0, Killer::Nobody).served);
}

#[test]
fn progress_begins_the_count_of_rounds_anew() {
    // P122, P961: a page is progress, though it does not serve the request: the reserve is empty.
    let rounds = |gfp, gives| ask(gfp, gives, Killer::None).rounds;
    let once: fn(usize) -> usize = |round| usize::from(round == 0);
    let batch: fn(usize) -> usize = |round| if round == 0 { 8 } else { 0 };
    let later: fn(usize) -> usize = |round| usize::from(round == 9);
    for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::RETRY_MAYFAIL] {
        assert_eq!(rounds(gfp, once), 18);
        assert_eq!(rounds(gfp, batch), 18);
        assert_eq!(rounds(gfp, later), 27);
    }
    assert_eq!(rounds(GFP_KERNEL | Gfp::NORETRY, once), 1);
}

#[test]
fn a_page_a_round_for_ever_serves_all_that_wait_for_it_and_kills_nobody() {
    // P122, P961
    let rounds: Vec<usize> = [
        GFP_KERNEL,
        GFP_KERNEL | Gfp::RETRY_MAYFAIL,
        GFP_KERNEL | Gfp::NOFAIL,
    ]
    .into_iter()
    .map(|gfp| {
        let seen = ask(gfp, |_| 1, Killer::Victim);
        assert!(seen.served && seen.kills == 0, "{gfp}: {seen:?}");
        seen.rounds
    })
    .collect();
    assert!(rounds[0] > 18, "so many pages are missing: {rounds:?}");
    assert!(rounds.iter().all(|n| *n == rounds[0]));
    let noretry = ask(GFP_KERNEL | Gfp::NORETRY, |_| 1, Killer::Victim);
    assert!(!noretry.served && noretry.rounds == 1);
}

/// A cache that asks for memory itself.
struct Allocates {
    host: Host,
    hoard: Arc<Hoard>,
    scans: AtomicUsize,
    served: AtomicUsize,
}

impl Shrinker for Allocates {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(10_000)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        assert_eq!(
            self.scans.fetch_add(1, SeqCst),
            0,
            "it is not entered again"
        );
        let before = rounds(&self.host);
        self.hoard.give(&self.host, 1);
        if let Ok(page) = self.host.get_free_pages(GFP_KERNEL, 0) {
            self.served.fetch_add(1, SeqCst);
            self.hoard.0.lock().unwrap().push(page.as_ptr().addr());
        }
        assert!(
            self.host.get_free_pages(GFP_KERNEL, 0).is_err(),
            "it was the last one"
        );
        assert_eq!(rounds(&self.host), before, "nobody reclaimed for it");
        self.scans.fetch_sub(1, SeqCst);
        self.hoard.give(&self.host, PLENTY);
        Scanned::Done {
            looked_at: control.objects,
            freed: PLENTY,
        }
    }
}

#[test]
fn what_a_shrinker_asks_for_ignores_watermarks_and_does_not_reclaim() {
    // P133, P962
    let host = Host::boot(&HostConfig::new(16 << 20)).unwrap();
    let cache = Arc::new(Allocates {
        host: host.clone(),
        hoard: Arc::default(),
        scans: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
    });
    let guard = host.register_shrinker(cache.clone(), Settings::default());
    cache.hoard.fill(&host);
    let page = host.get_free_pages(GFP_KERNEL, 0).unwrap();
    assert!(cache.served.load(SeqCst) > 0, "far below the watermark");
    drop(guard);
    // SAFETY: allocated above, freed once.
    unsafe { host.free_pages(page.as_ptr(), 0) };
    cache.hoard.give(&host, usize::MAX);
    host.verify().unwrap();
}

/// A cache that notes what it is asked for, and gives nothing.
struct Notes {
    objects: usize,
    passes: Mutex<Vec<Vec<usize>>>,
    /// From this call of a pass on it stops.
    stops_at: usize,
}

impl Shrinker for Notes {
    fn count(&self, _: &ShrinkControl) -> Counted {
        self.passes.lock().unwrap().push(Vec::new());
        Counted::Objects(self.objects)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let mut passes = self.passes.lock().unwrap();
        let pass = passes.last_mut().unwrap();
        pass.push(control.objects);
        match pass.len() > self.stops_at {
            true => Scanned::Stop,
            false => Scanned::Done {
                looked_at: control.objects,
                freed: 0,
            },
        }
    }
}

/// What a shrinker is asked for by one round that finds nothing.
fn noted(stops_at: usize) -> Vec<Vec<usize>> {
    let host = Host::boot(&HostConfig::new(16 << 20)).unwrap();
    let cache = Arc::new(Notes {
        objects: 10_000,
        passes: Mutex::default(),
        stops_at,
    });
    let _guard = host.register_shrinker(cache.clone(), Settings::default());
    let hoard = Hoard::default();
    hoard.fill(&host);
    assert!(host.get_free_pages(GFP_KERNEL | Gfp::NORETRY, 0).is_err());
    hoard.give(&host, usize::MAX);
    let passes = cache.passes.lock().unwrap();
    passes.clone()
}

/// What the rule says of it.
fn modelled(stops_at: usize) -> Vec<Vec<usize>> {
    let mut deferred = 0;
    let priorities = (0..=12).rev().filter_map(Priority::new);
    let one = |priority| {
        let mut pass = Pass::new(&Settings::default(), 10_000, deferred, priority);
        let mut asked = Vec::new();
        while let Some(objects) = pass.next() {
            asked.push(objects);
            pass.scanned(match asked.len() > stops_at {
                true => Scanned::Stop,
                false => Scanned::Done {
                    looked_at: objects,
                    freed: 0,
                },
            });
        }
        deferred = pass.deferred();
        asked
    };
    priorities.map(one).collect()
}

#[test]
fn a_shrinker_is_asked_for_what_the_rule_says_and_the_rest_is_deferred() {
    // P412, P963: at priority 12 4 of 10,000 objects, which is no batch; at 3 19 batches and more,
    // since what was deferred is added.
    let passes = noted(usize::MAX);
    assert_eq!(passes, modelled(usize::MAX));
    assert_eq!(passes.len(), 13);
    assert!(passes[0].is_empty() && passes[9].len() >= 19);
    assert!(passes.iter().flatten().all(|objects| *objects <= 128));
}

#[test]
fn a_shrinker_that_stops_is_left_alone_for_the_pass() {
    // P411, P963
    for stops_at in [0, 1, 7] {
        let passes = noted(stops_at);
        assert_eq!(passes, modelled(stops_at));
        let most = passes.iter().map(Vec::len).max();
        assert_eq!(most, Some(stops_at + 1));
    }
}

/// A cache that stays in its scan until the other thread is about to leave.
struct Stays {
    inside: AtomicBool,
    leaving: AtomicBool,
    left: AtomicBool,
}

impl Shrinker for Stays {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(1000)
    }

    fn scan(&self, _: &ShrinkControl) -> Scanned {
        self.inside.store(true, SeqCst);
        while !self.leaving.load(SeqCst) {
            thread::yield_now();
        }
        for _ in 0..100 {
            assert!(!self.left.load(SeqCst), "somebody is inside");
            thread::yield_now();
        }
        Scanned::Stop
    }
}

#[test]
fn who_unregisters_waits_for_the_call_that_is_under_way() {
    // P415, P963
    let host = Host::boot(&HostConfig::new(16 << 20)).unwrap();
    let cache = Arc::new(Stays {
        inside: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        left: AtomicBool::new(false),
    });
    let guard = host.register_shrinker(cache.clone(), Settings::default());
    let hoard = Hoard::default();
    hoard.fill(&host);
    thread::scope(|scope| {
        scope.spawn(|| {
            let page = host.get_free_pages(GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN, 0);
            assert!(page.is_err());
        });
        while !cache.inside.load(SeqCst) {
            thread::yield_now();
        }
        cache.leaving.store(true, SeqCst);
        drop(guard);
        cache.left.store(true, SeqCst);
    });
    hoard.give(&host, usize::MAX);
    assert_eq!(Arc::strong_count(&cache), 1);
}
