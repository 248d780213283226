//! The script: a cache that gives what it says, and one who can be killed.

use super::Calls;
use super::hoard::Hoard;
use super::model::{BATCH, OBJECTS};
use core::cell::UnsafeCell;
use core::mem::transmute;
use core::ops::ControlFlow;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::Pfn;
use gfp::page::{MigrateMode, Migrated, PageOwner};
use gfp::policy::effort::Scopes;
use gfp::policy::oom::Candidate;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::oom::{OomId, OomSource};
use gfp::reclaim::{ShrinkControl, Shrinker, ShrinkerId};
use gfp::{Mm, Platform};

/// What the cache's shrinker does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Looks, and gives what the script says.
    Looks,
    /// Says after so many calls that it cannot go on (P411).
    StopsAfter(usize),
    /// Asks for a page itself, first (P962).
    Allocates,
}

/// What the cache gives in the first scan of a round of direct reclaim. Rounds count from 1.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    Nothing,
    /// In one round so many pages, of which no two are neighbours.
    In {
        round: usize,
        pages: usize,
    },
    /// A page in each round.
    One,
    /// In this round enough to serve any request.
    PlentyIn(usize),
    /// A page in each round before this one, and then enough.
    OneUntil(usize),
}

impl Gives {
    pub(super) fn pages(self, round: usize) -> usize {
        match self {
            Gives::In { round: at, pages } if round == at => pages,
            Gives::One => 1,
            Gives::OneUntil(late) if round < late => 1,
            Gives::PlentyIn(late) | Gives::OneUntil(late) if round == late => PLENTY,
            // What should have ended long ago ends now, with the wrong number of rounds.
            _ if round == TOO_LATE => PLENTY,
            _ => 0,
        }
    }
}

/// [`Gives::pages`] of all that is needed.
const PLENTY: usize = usize::MAX;

/// No request here takes so many rounds.
const TOO_LATE: usize = 200;

/// What is free when the request comes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Free {
    Nothing,
    /// So many pages, of which no two are neighbours.
    Pages(usize),
    /// So many pages less than an ordinary request is still refused at.
    BelowMin(usize),
    /// One block of this order, and nothing else.
    Block(u8),
    /// Single pages that are enough for compaction to begin.
    RoomToCompact,
}

/// Who can be killed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Killer {
    /// The machine has no killer.
    None,
    /// One who has enough for any request.
    Victim,
}

/// Who has pages that can be moved, without whom there is no compaction (P126).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    None,
    /// One without any, so that compaction finds nothing to move.
    WithoutPages,
}

/// He is never asked.
struct Owns;

// SAFETY: it says no to everything.
unsafe impl PageOwner for Owns {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }
}

/// What the script says.
#[derive(Copy, Clone, Debug)]
pub(super) struct Setting {
    pub(super) scan: Scan,
    pub(super) gives: Gives,
    pub(super) free: Free,
    pub(super) killer: Killer,
    pub(super) owner: Owner,
    /// Objects a call of `scan`.
    pub(super) batch: usize,
    /// Scopes that the task has open.
    pub(super) scopes: Scopes,
}

impl Setting {
    /// Nothing is free, the cache gives nothing, somebody can be killed.
    pub(super) const BARREN: Setting = Setting {
        scan: Scan::Looks,
        gives: Gives::Nothing,
        free: Free::Nothing,
        killer: Killer::Victim,
        owner: Owner::None,
        batch: BATCH,
        scopes: Scopes::NONE,
    };
}

/// A cache, and one who can be killed.
pub(super) struct Script<'m, P: Platform> {
    mm: &'m Mm<P>,
    mine: &'m (dyn Fn() -> bool + Sync),
    setting: Setting,
    /// Before, the cache has nothing, and nobody can be killed.
    begun: AtomicBool,
    /// Direct reclaims of the machine before the request.
    rounds_before: AtomicUsize,
    /// The round in which the cache was scanned last.
    last_round: AtomicUsize,
    counts: AtomicUsize,
    scans: AtomicUsize,
    /// Requests of a scan that were served.
    pub(super) served: AtomicUsize,
    /// Calls that came while a scan was under way (P133).
    pub(super) nested: AtomicUsize,
    inside: AtomicUsize,
    kills: AtomicUsize,
    /// Bits of the request that the cache should be told (P416).
    told: AtomicUsize,
    /// Calls that told it something else.
    misled: AtomicUsize,
    hoard: UnsafeCell<&'m mut Hoard>,
}

// SAFETY: the hoard is touched by the task that runs the script only, also in the killer.
unsafe impl<P: Platform> Sync for Script<'_, P> where Mm<P>: Sync {}

impl<P: Platform> Script<'_, P> {
    /// The script runs, in its task.
    fn is_on(&self) -> bool {
        self.begun.load(Relaxed) && (self.mine)()
    }

    /// Direct reclaims since the request began.
    fn rounds(&self) -> usize {
        let stalls = self.mm.slabs().reclaim().events().stalls;
        stalls.iter().sum::<u64>() as usize - self.rounds_before.load(Relaxed)
    }

    #[allow(clippy::mut_from_ref, reason = "the script's task has one at a time")]
    fn hoarded(&self) -> &mut Hoard {
        // SAFETY: only the task of the script is let here, and no call of it is inside another.
        unsafe { &mut *self.hoard.get() }
    }

    /// Gives what the script says, if this is the first scan of a round. How much that is.
    fn give(&self) -> usize {
        let round = self.rounds();
        match self.last_round.swap(round, Relaxed) == round {
            true => 0,
            false => match self.setting.gives.pages(round) {
                PLENTY => self.hoarded().give_plenty(self.mm),
                pages => self.hoarded().give(self.mm, pages),
            },
        }
    }

    /// So much is free as the script says, none of it at hand of a CPU. False: there was not enough
    /// memory for that.
    fn hoard(&self) -> bool {
        self.mm.slabs().shrink_all();
        self.mm.pages().drain_all();
        let hoard = self.hoarded();
        hoard.take(self.mm);
        let whole = hoard.is_whole();
        if self.setting.owner != Owner::None {
            self.use_up_deferral();
        }
        let pages = match self.setting.free {
            Free::Nothing | Free::Block(_) => 0,
            Free::Pages(pages) => pages,
            Free::BelowMin(missing) => hoard.floor().saturating_sub(missing),
            Free::RoomToCompact => hoard.room(),
        };
        hoard.give(self.mm, pages);
        if let Free::Block(order) = self.setting.free {
            hoard.give_block(self.mm, order);
        }
        whole
    }

    /// Has large requests fail, without memory to compact, until no compaction is put off any more
    /// because of what failed before: that is at most 64 attempts (P426), of which each makes two.
    fn use_up_deferral(&self) {
        const REQUESTS: usize = 33;
        let gfp = GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN;
        for _ in 0..REQUESTS {
            if let Ok(pfn) = self.mm.alloc_pages(gfp, 9) {
                // SAFETY: ours.
                unsafe { self.mm.free_frames(pfn, 9) };
            }
        }
    }

    /// The script begins.
    fn begin(&self) {
        for count in [
            &self.counts,
            &self.scans,
            &self.served,
            &self.nested,
            &self.kills,
            &self.misled,
            &self.last_round,
            &self.rounds_before,
        ] {
            count.store(0, Relaxed);
        }
        self.rounds_before.store(self.rounds(), Relaxed);
        self.begun.store(true, Relaxed);
    }

    /// Runs `work` in the scopes of the script's task; the script begins.
    pub(super) fn in_scope<R>(&self, work: impl FnOnce() -> R) -> R {
        let scopes = self.setting.scopes;
        self.begin();
        let _scope = (scopes != Scopes::NONE).then(|| self.mm.scope(scopes, &"a script"));
        work()
    }

    /// One request of the task, in its scopes.
    pub(super) fn request(&self, gfp: Gfp, order: u8) -> Calls {
        self.told
            .store(self.bits_in_scope(gfp).bits() as usize, Relaxed);
        self.in_scope(|| self.ask(gfp, order))
    }

    /// P150: of IO and FS, what a request may use.
    fn bits_in_scope(&self, gfp: Gfp) -> Gfp {
        let scopes = self.setting.scopes;
        let bits = gfp.intersection(Gfp::IO | Gfp::FS);
        match (scopes.contains(Scopes::NOIO), scopes.contains(Scopes::NOFS)) {
            (true, _) => Gfp::NONE,
            (false, true) => bits.without(Gfp::FS),
            (false, false) => bits,
        }
    }

    /// Asks for one block, and gives it back.
    pub(super) fn ask(&self, gfp: Gfp, order: u8) -> Calls {
        let block = self.mm.alloc_pages(gfp | Gfp::NOWARN, order);
        let calls = Calls {
            served: block.is_ok(),
            rounds: self.rounds(),
            counts: self.counts.load(Relaxed),
            scans: self.scans.load(Relaxed),
            kills: self.kills.load(Relaxed),
            misled: self.misled.load(Relaxed),
        };
        // SAFETY: ours.
        block
            .into_iter()
            .for_each(|pfn| unsafe { self.mm.free_frames(pfn, order) });
        calls
    }
}

impl<P: Platform> Shrinker for Script<'_, P> {
    fn count(&self, control: &ShrinkControl) -> Counted {
        if !self.is_on() {
            return Counted::Nothing;
        }
        let told = control.gfp.intersection(Gfp::IO | Gfp::FS).bits() as usize;
        if told != self.told.load(Relaxed) {
            self.misled.fetch_add(1, Relaxed);
        }
        self.counts.fetch_add(1, Relaxed);
        self.nested.fetch_add(self.inside.load(Relaxed), Relaxed);
        Counted::Objects(OBJECTS)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let call = self.scans.fetch_add(1, Relaxed);
        match self.setting.scan {
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
            freed: self.give(),
        }
    }
}

impl<P: Platform> OomSource for Script<'_, P> {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        let candidate = Candidate {
            rss: 1,
            ..Candidate::default()
        };
        if self.is_on() {
            _ = visit(OomId(1), &candidate);
        }
    }

    fn mark(&self, _: OomId) {}

    /// What it had is there at once. Only the task of the script is shown somebody to kill.
    fn kill(&self, _: OomId) {
        self.kills.fetch_add(1, Relaxed);
        self.hoarded().give_plenty(self.mm);
    }

    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

/// Runs `work` on a machine that is as `setting` says; what is not free is in the hoard then.
/// `None`: there was no memory for the script itself.
pub(super) fn with_script<P: Platform, R>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
    hoard: &mut Hoard,
    setting: Setting,
    work: impl FnOnce(&Script<'_, P>) -> R,
) -> Option<R>
where
    Mm<P>: Sync,
{
    let script = Script {
        mm,
        mine,
        setting,
        begun: AtomicBool::new(false),
        rounds_before: AtomicUsize::new(0),
        last_round: AtomicUsize::new(0),
        counts: AtomicUsize::new(0),
        scans: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
        nested: AtomicUsize::new(0),
        inside: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
        told: AtomicUsize::new(0),
        misled: AtomicUsize::new(0),
        hoard: UnsafeCell::new(hoard),
    };
    let shrinker = register(mm, &script)?;
    let source = NonNull::from(&script as &dyn OomSource);
    // SAFETY: lifetimes only; it is unregistered below.
    let source =
        unsafe { transmute::<NonNull<dyn OomSource + '_>, NonNull<dyn OomSource>>(source) };
    let source = (setting.killer == Killer::Victim).then(|| {
        // SAFETY: as above.
        unsafe { mm.slabs().reclaim().register_oom_source_for(source) }
    });
    let owner = match setting.owner {
        Owner::None => None,
        Owner::WithoutPages => mm.register_page_owner(&Owns).ok(),
    };
    let result = script.hoard().then(|| work(&script));
    let owner_gone = owner.is_none_or(|id| mm.unregister_page_owner(id).is_ok());
    if let Some(Ok(id)) = source {
        mm.unregister_oom_source(id);
    }
    mm.unregister_shrinker(shrinker);
    result.filter(|_| owner_gone)
}

/// The caller unregisters it before the script goes.
fn register<P: Platform>(mm: &Mm<P>, script: &Script<'_, P>) -> Option<ShrinkerId>
where
    Mm<P>: Sync,
{
    let settings = Settings {
        batch: script.setting.batch,
        ..Settings::default()
    };
    let shrinker = NonNull::from(script as &dyn Shrinker);
    // SAFETY: lifetimes only; see above.
    let shrinker =
        unsafe { transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker) };
    // SAFETY: as above.
    unsafe { mm.register_shrinker_for(shrinker, settings) }.ok()
}

/// Registers something once, so that the machine has the page of slots that it keeps from then on.
pub(in super::super) fn touch<P: Platform>(mm: &Mm<P>)
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
