//! P270: how many pages of the reserve each kind of request can take, to the page.
//!
//! One zone of the machine has a few pages beyond its low watermark free, the others nothing. Who
//! may take what is written down by the words of P268-P270 and of ADR 0012: requests come one kind
//! after the other, each until it is refused, and what each got is what lies between where the one
//! before stopped and where it must stop itself.
//!
//! Seen to fail with: another part of min for `__GFP_HIGH`, for requests that cannot wait, and for
//! victims; a page given at the mark; a victim without the rights of the urgent; a task that stays
//! one; pages below min that one takes for the next of its CPU (on machines large enough for that).

use super::hoard::Hoard;
use core::fmt;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::platform::Fact;
use gfp::{Mm, Platform};

/// A kind of request.
#[derive(Copy, Clone)]
struct Who {
    what: &'static str,
    gfp: Gfp,
    /// What is true of its task.
    fact: Option<Fact>,
    /// It is refused while so many pages are free, of a min watermark; what the zone keeps from
    /// its highest zone comes on top (P269).
    stops_at: fn(usize) -> usize,
    /// It asks for no more.
    wants: usize,
}

/// P268, P270, in their words and numbers, for a min of 800.
const fn all(min: usize) -> usize {
    min
}
/// 400: half of it.
const fn half(min: usize) -> usize {
    min - min / 2
}
/// 300: and a quarter of that.
const fn urgent(min: usize) -> usize {
    half(min) - half(min) / 4
}
/// 150: half of what the urgent leave (ADR 0012).
const fn victims(min: usize) -> usize {
    urgent(min) - urgent(min) / 2
}

/// Fails rather than waits for others.
const KERNEL: Gfp = GFP_KERNEL.with(Gfp::NORETRY);

const fn who(what: &'static str, gfp: Gfp, stops_at: fn(usize) -> usize) -> Who {
    Who {
        what,
        gfp,
        fact: None,
        stops_at,
        wants: usize::MAX,
    }
}

/// As `who`, but for one page.
const fn one(who: Who) -> Who {
    Who { wants: 1, ..who }
}

const fn task(what: &'static str, fact: Fact, gfp: Gfp, stops_at: fn(usize) -> usize) -> Who {
    Who {
        fact: Some(fact),
        ..who(what, gfp, stops_at)
    }
}

const NOWAIT: Who = who("GFP_NOWAIT", GFP_NOWAIT, all);
const WAITS: Who = who("GFP_KERNEL", KERNEL, all);
const HIGH: Who = who("__GFP_HIGH that can wait", KERNEL.with(Gfp::HIGH), half);
const REALTIME: Who = task("a real-time task", Fact::Realtime, KERNEL, half);
const REALTIME_NOWAIT: Who = task("one that cannot wait", Fact::Realtime, GFP_NOWAIT, all);
const ATOMIC: Who = who("GFP_ATOMIC", GFP_ATOMIC, urgent);
const ATOMIC_CAREFUL: Who = who("not from reserves", GFP_ATOMIC.with(Gfp::NOMEMALLOC), half);
const VICTIM: Who = task("an OOM victim", Fact::OomVictim, KERNEL, victims);
const VICTIM_CAREFUL: Who = task(
    "a victim, not from reserves",
    Fact::OomVictim,
    KERNEL.with(Gfp::NOMEMALLOC),
    all,
);
const RECLAIMER: Who = who("who frees memory", GFP_NOWAIT.with(Gfp::MEMALLOC), |_| 0);

/// Who comes after whom.
const ORDERS: [&[Who]; 12] = [
    &[NOWAIT, ATOMIC, VICTIM, RECLAIMER],
    &[NOWAIT, WAITS, HIGH, ATOMIC, VICTIM, RECLAIMER],
    &[NOWAIT, ATOMIC, NOWAIT, WAITS, HIGH, RECLAIMER],
    &[WAITS, REALTIME, HIGH, NOWAIT],
    &[REALTIME_NOWAIT, REALTIME, ATOMIC],
    &[NOWAIT, ATOMIC_CAREFUL, ATOMIC],
    &[NOWAIT, VICTIM_CAREFUL, VICTIM, ATOMIC, HIGH, RECLAIMER],
    // What one has taken for itself only is not there for others.
    &[NOWAIT, one(ATOMIC), NOWAIT, WAITS, one(VICTIM), NOWAIT],
    &[NOWAIT, ATOMIC, one(VICTIM), ATOMIC, HIGH, VICTIM],
    // Without anybody before them.
    &[ATOMIC, NOWAIT, VICTIM],
    &[VICTIM, ATOMIC, WAITS],
    &[RECLAIMER, VICTIM, ATOMIC, NOWAIT],
];

/// What one kind of request got and should have got.
#[derive(Copy, Clone)]
pub(in super::super) struct Share {
    what: &'static str,
    expected: usize,
    got: usize,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {}", self.what, self.got, self.expected)
    }
}

/// What was seen of the reserve of one zone.
#[derive(Debug)]
pub(in super::super) struct Reserves {
    /// Its min watermark.
    min: usize,
    /// By who comes after whom; the last of each repeat nothing.
    shares: [[Option<Share>; 6]; ORDERS.len()],
    /// All memory was there for it.
    whole: bool,
}

impl Reserves {
    /// The zone's min watermark; pages that `GFP_ATOMIC` got after `GFP_NOWAIT` was refused, and a
    /// victim after that.
    pub(in super::super) fn beyond(&self) -> (usize, usize, usize) {
        let got = |share: Option<Share>| share.map_or(0, |share| share.got);
        (self.min, got(self.shares[0][1]), got(self.shares[0][2]))
    }

    /// # Panics
    /// If somebody got more or less than the rules give him.
    #[track_caller]
    pub(in super::super) fn check(&self) {
        let wrong = |share: &Share| share.got != share.expected;
        let mut all = self.shares.iter().flatten().flatten();
        assert!(self.whole && !all.any(wrong), "{self:#?}");
    }
}

/// P270, ADR 0012: who got how much.
pub(in super::super) fn reserves<P: Platform>(mm: &Mm<P>) -> Reserves {
    let mut hoard = Hoard::of(mm);
    let (min, kept) = (hoard.min(), hoard.floor() - hoard.min());
    let mut seen = Reserves {
        min,
        shares: [[None; 6]; ORDERS.len()],
        whole: true,
    };
    for (whos, shares) in ORDERS.iter().zip(&mut seen.shares) {
        mm.slabs().shrink_all();
        mm.pages().drain_all();
        hoard.take(mm);
        seen.whole &= hoard.is_whole();
        let mut free = hoard.room();
        seen.whole &= hoard.give(mm, free) == free;
        for (who, share) in whos.iter().zip(shares) {
            let stops_at = match (who.stops_at)(min) {
                0 => 0, // whatever the watermarks, and what is kept from others
                mark => mark + kept,
            };
            let expected = free.saturating_sub(stops_at).min(who.wants);
            free -= expected;
            *share = Some(Share {
                what: who.what,
                expected,
                got: take_all(mm, &mut hoard, who),
            });
        }
    }
    hoard.end(mm);
    seen
}

/// Pages that requests of this kind get until one is refused; they are in the hoard then.
fn take_all<P: Platform>(mm: &Mm<P>, hoard: &mut Hoard, who: &Who) -> usize {
    if let (Some(fact), Some(task)) = (who.fact, mm.platform().this_task()) {
        task.note(fact);
    }
    let mut got = 0;
    while got < who.wants
        && let Ok(pfn) = mm.alloc_pages(who.gfp | Gfp::NOWARN, 0)
    {
        hoard.keep(mm, pfn);
        got += 1;
    }
    if let (Some(fact), Some(task)) = (who.fact, mm.platform().this_task()) {
        task.forget(fact);
    }
    got
}
