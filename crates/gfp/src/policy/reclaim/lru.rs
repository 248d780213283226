//! Lists of pages whose owner can drop, write or move them (P410).
//!
//! 1. **Concept.** The rules ask for no more than a provider with `scan(n) -> freed`; this is one.
//!    A new page enters the *inactive* list. Who is found used there once gets a second look, who
//!    is found used twice goes to the *active* list. Active pages come back only when the inactive
//!    list is too short. So what is used once and never again leaves without disturbing what is in
//!    use.
//!
//!    ```text
//!                    used twice
//!      new -> inactive ---------> active
//!               |  ^                |
//!               |  +----------------+  inactive too short
//!               v
//!        dropped, or written and then dropped
//!    ```
//! 2. **Two kinds.** [`Kind::Droppable`]: the content exists elsewhere, giving the page up costs a
//!    fetch. [`Kind::Storable`]: the owner must write it somewhere first, what swap is elsewhere.
//!    Each has its two lists, and [`shares`] says how hard each is scanned.
//! 3. **Progress.** A page is kept for being used at most once in a row at the same list: a page
//!    that is always used goes to the active list, and [`scan_count`] bounds each pass.
//! 4. **The executor** keeps for each node: sizes of the four lists, pages isolated, and the two
//!    costs of [`Costs`], halved when they grow ([`Costs::add`]).
//! 5. **Not done.** Generations, and detection of pages that come back at once. All numbers are the
//!    usual ones of two-list designs; the rules have none but the default of P714.

use super::Priority;
use crate::flags::Gfp;
use crate::policy::order::PAGE_SHIFT;
use crate::policy::watermark::isqrt;

/// How a page is given up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its content is elsewhere, or is written back to where it came from.
    Droppable,
    /// Its owner stores it first.
    Storable,
}

/// P714: default of the sysctl `swappiness`, 0 to 200: how much cheaper it is to fetch back a
/// [`Kind::Storable`] page than a [`Kind::Droppable`] one. 100: both cost the same.
pub const DEFAULT_WEIGHT: u8 = 60;
/// P714: the largest weight.
pub const WEIGHT_MAX: u8 = 200;

/// Whether active pages go back to the inactive list: it is shorter than the balance wants.
///
/// In a list of up to 1 GiB both are to be equal; above, the inactive part may be smaller by
/// `sqrt(10 * GiB)`: 10 GiB keep a tenth inactive, 1 TiB a hundredth. In pages.
pub const fn inactive_is_short(inactive: usize, active: usize) -> bool {
    let gib = inactive.saturating_add(active) >> (30 - PAGE_SHIFT);
    let ratio = match isqrt((gib as u64).saturating_mul(10)) {
        0 => 1,
        root => root as usize,
    };
    inactive.saturating_mul(ratio) < active
}

/// What pages of each kind have cost lately: pages that were fetched back or written, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Of [`Kind::Droppable`].
    pub droppable: usize,
    /// Of [`Kind::Storable`].
    pub storable: usize,
}

impl Costs {
    /// Adds a cost, in pages. `lru`: pages on all lists. When the sum exceeds a quarter of them,
    /// both are halved until it does not: what was long ago counts less.
    pub const fn add(self, kind: Kind, pages: usize, lru: usize) -> Costs {
        let mut costs = self;
        match kind {
            Kind::Droppable => costs.droppable = costs.droppable.saturating_add(pages),
            Kind::Storable => costs.storable = costs.storable.saturating_add(pages),
        }
        while costs.droppable.saturating_add(costs.storable) > lru / 4 {
            costs.droppable /= 2;
            costs.storable /= 2;
        }
        costs
    }
}

/// What the shares of the kinds depend on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ShareFacts {
    /// P714: 0 to 200.
    pub weight: u8,
    /// Recent costs.
    pub costs: Costs,
    /// The reclaimer's flags: who may not do I/O stores nothing.
    pub gfp: Gfp,
    /// There is room to store pages, and this run may write
    /// ([`super::kswapd::RunPass::may_write`]).
    pub can_store: bool,
    /// The pass.
    pub priority: Priority,
}

/// How much of the scanning each kind gets: a numerator each, over their sum.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of [`Kind::Droppable`].
    pub droppable: u64,
    /// Of [`Kind::Storable`].
    pub storable: u64,
}

impl Shares {
    /// The share of a kind.
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Droppable => self.droppable,
            Kind::Storable => self.storable,
        }
    }
}

/// How much of the scanning each kind gets.
///
/// Nothing for storable pages where they cannot be stored. At priority 0 both are scanned whole: it
/// is the last look before somebody is killed. Else by weight, and inversely to recent cost; at
/// least a little for both as long as the weight is above 0 and below 200.
pub const fn shares(facts: &ShareFacts) -> Shares {
    let weight = if facts.weight < WEIGHT_MAX {
        facts.weight
    } else {
        WEIGHT_MAX
    };
    if !facts.can_store || !facts.gfp.contains(Gfp::IO) || weight == 0 {
        return Shares {
            droppable: 1,
            storable: 0,
        };
    }
    if facts.priority.get() == 0 {
        return Shares {
            droppable: 1,
            storable: 1,
        };
    }
    // Bounded, so that the products fit.
    let droppable = bounded(facts.costs.droppable);
    let storable = bounded(facts.costs.storable);
    let total = droppable + storable;
    // The total once more in each: a kind without recent cost gets at most twice what its weight
    // gives.
    Shares {
        droppable: (WEIGHT_MAX - weight) as u64 * (2 * total + 1) / (total + droppable + 1),
        storable: weight as u64 * (2 * total + 1) / (total + storable + 1),
    }
}

const fn bounded(pages: usize) -> u64 {
    const LIMIT: usize = 1 << 40;
    if pages < LIMIT {
        pages as u64
    } else {
        LIMIT as u64
    }
}

/// How many pages of a list a pass looks at. `share` is the list's kind's; at priority 0 a kind
/// with any share is scanned whole. Never more than the list has.
pub const fn scan_count(list: usize, priority: Priority, shares: &Shares, kind: Kind) -> usize {
    let share = shares.of(kind);
    let part = priority.part(list);
    if share == 0 || priority.get() == 0 {
        return if share == 0 { 0 } else { part };
    }
    let sum = shares.droppable as u128 + shares.storable as u128;
    // Rounded up, so that a short list is not spared by rounding alone.
    (part as u128 * share as u128).div_ceil(sum) as usize
}

/// A page of the inactive list, as it is found.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// It was used since the last look.
    pub used: bool,
    /// It was found used at the last look, and got its second chance.
    pub second_chance: bool,
    /// Its content must be written before it can go.
    pub dirty: bool,
    /// It is being written.
    pub writeback: bool,
    /// Somebody holds it: it cannot go now.
    pub held: bool,
    /// Its owner has locked it into memory.
    pub locked_in: bool,
}

/// What the reclaimer may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct May {
    /// Its flags, with scopes: `IO` to write.
    pub gfp: Gfp,
    /// Pages may be written in this run.
    pub write: bool,
    /// The pass.
    pub priority: Priority,
}

/// What happens to a page of the inactive list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the list of those that are never scanned.
    Unevictable,
    /// To the active list; the mark is cleared.
    Activate,
    /// Back to the head of the inactive list, marked: its second chance.
    SecondChance,
    /// Back to the head of the inactive list, as it is.
    Keep,
    /// Back, and it counts as being written ([`super::throttle::waits_for_writeback`]).
    KeepWriting,
    /// The owner writes it; it is dropped when it comes round again.
    Write,
    /// The owner drops it: a page freed.
    Drop,
}

/// What happens to a page of the inactive list.
///
/// At priority 0 one use is no excuse any more, two are.
pub const fn verdict(page: &Found, may: &May) -> Verdict {
    if page.locked_in {
        return Verdict::Unevictable;
    }
    if page.used {
        if page.second_chance {
            return Verdict::Activate;
        }
        if may.priority.get() > 0 {
            return Verdict::SecondChance;
        }
    }
    if page.writeback {
        return Verdict::KeepWriting;
    }
    if page.held {
        return Verdict::Keep;
    }
    if page.dirty {
        return if may.write && may.gfp.contains(Gfp::IO) {
            Verdict::Write
        } else {
            Verdict::Keep
        };
    }
    Verdict::Drop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOIO};

    const GIB: usize = 1 << 18; // pages

    fn priority(value: u8) -> Priority {
        Priority::new(value).unwrap()
    }

    #[test]
    fn small_lists_are_halved_and_large_ones_keep_little_inactive() {
        // P410
        assert!(!inactive_is_short(0, 0) && !inactive_is_short(100, 100));
        assert!(inactive_is_short(99, 100));
        assert!(!inactive_is_short(GIB, 9 * GIB) && inactive_is_short(GIB - 1, 10 * GIB)); // 1 : 10
        assert!(!inactive_is_short(usize::MAX, usize::MAX));
        for active in (0..4 * GIB).step_by(GIB / 7) {
            let mut was_short = true;
            for inactive in (0..4 * GIB).step_by(GIB / 7) {
                let short = inactive_is_short(inactive, active);
                assert!(was_short || !short, "{inactive} {active}: monotone");
                was_short = short;
            }
        }
    }

    fn facts(weight: u8, droppable: usize, storable: usize) -> ShareFacts {
        ShareFacts {
            weight,
            costs: Costs {
                droppable,
                storable,
            },
            gfp: GFP_KERNEL,
            can_store: true,
            priority: Priority::START,
        }
    }

    #[test]
    fn shares_follow_the_weight_and_the_costs() {
        // P714
        let of = |facts| {
            let Shares {
                droppable,
                storable,
            } = shares(&facts);
            (droppable, storable)
        };
        assert_eq!(of(facts(60, 0, 0)), (140, 60));
        assert_eq!(of(facts(100, 500, 500)), (133, 133));
        assert_eq!(of(facts(200, 0, 0)), (0, 200));
        assert_eq!(of(facts(255, 0, 0)), (0, 200));
        assert_eq!(of(facts(0, 0, 0)), (1, 0));
        // What costs more is scanned less, at most by half.
        assert_eq!(of(facts(100, 1000, 0)), (100, 199));
        assert_eq!(of(facts(100, usize::MAX, usize::MAX)), (133, 133));
    }

    #[test]
    fn what_cannot_be_stored_is_not_scanned() {
        // P7, P402
        let base = facts(100, 0, 0);
        let none = [
            ShareFacts {
                gfp: GFP_NOIO,
                ..base
            },
            ShareFacts {
                can_store: false,
                priority: Priority::LAST,
                ..base
            },
        ];
        for facts in none {
            assert_eq!(
                scan_count(9999, Priority::LAST, &shares(&facts), Kind::Storable),
                0
            );
            assert!(scan_count(9999, Priority::LAST, &shares(&facts), Kind::Droppable) == 9999);
        }
        let nofs = ShareFacts {
            gfp: GFP_NOFS,
            ..base
        };
        assert_eq!(shares(&nofs), shares(&base));
    }

    #[test]
    fn scans_split_a_part_of_the_lists_and_the_last_takes_all() {
        // P405
        for weight in [0, 1, 60, 100, 199, 200] {
            for value in 0..=12 {
                let facts = ShareFacts {
                    priority: priority(value),
                    ..facts(weight, 3000, 40)
                };
                let shares = shares(&facts);
                for list in [0, 1, 31, 4096, 100_000, usize::MAX] {
                    let drop = scan_count(list, priority(value), &shares, Kind::Droppable);
                    let store = scan_count(list, priority(value), &shares, Kind::Storable);
                    assert!(drop <= list && store <= list);
                    let part = list >> value;
                    if value == 0 {
                        assert_eq!((drop, store), (list, if weight == 0 { 0 } else { list }));
                    } else {
                        let sum = drop as u128 + store as u128;
                        assert!(sum >= part as u128 && sum <= part as u128 + 1);
                    }
                }
            }
        }
    }

    #[test]
    fn old_costs_fade() {
        let costs = Costs::default().add(Kind::Storable, 200, 1000);
        assert_eq!(costs.storable, 200);
        let costs = costs.add(Kind::Droppable, 100, 1000);
        assert_eq!((costs.droppable, costs.storable), (50, 100)); // 300 > 250
        let none = costs.add(Kind::Droppable, usize::MAX, 0);
        assert_eq!(none, Costs::default());
    }

    #[test]
    fn verdicts() {
        // P410: every page against every right, by the order of the reasons.
        for bits in 0..256u32 {
            let bit = |n: u32| bits >> n & 1 != 0;
            let page = Found {
                used: bit(0),
                second_chance: bit(1),
                dirty: bit(2),
                writeback: bit(3),
                held: bit(4),
                locked_in: bit(5),
            };
            let may = May {
                gfp: if bit(6) { GFP_NOFS } else { GFP_NOIO },
                write: bit(7),
                priority: Priority::START,
            };
            let expected = match page {
                Found {
                    locked_in: true, ..
                } => Verdict::Unevictable,
                Found {
                    used: true,
                    second_chance: true,
                    ..
                } => Verdict::Activate,
                Found { used: true, .. } => Verdict::SecondChance,
                Found {
                    writeback: true, ..
                } => Verdict::KeepWriting,
                Found { held: true, .. } => Verdict::Keep,
                Found { dirty: true, .. } if bit(6) && bit(7) => Verdict::Write,
                Found { dirty: true, .. } => Verdict::Keep,
                _ => Verdict::Drop,
            };
            assert_eq!(verdict(&page, &may), expected, "{page:?} {may:?}");
        }
        let once = Found {
            used: true,
            ..Found::default()
        };
        let last = May {
            gfp: GFP_KERNEL,
            write: true,
            priority: Priority::LAST,
        };
        assert_eq!(verdict(&once, &last), Verdict::Drop);
    }

    #[test]
    fn no_page_circles_for_ever() {
        // A page that can go leaves the inactive list after at most three looks, whatever is used.
        let may = May {
            gfp: GFP_KERNEL,
            write: true,
            priority: Priority::START,
        };
        for uses in 0..8u32 {
            for dirty in [false, true] {
                let mut page = Found {
                    dirty,
                    ..Found::default()
                };
                let mut looks = 0;
                loop {
                    page.used = uses >> looks & 1 != 0;
                    looks += 1;
                    assert!(looks <= 3);
                    match verdict(&page, &may) {
                        Verdict::SecondChance => page.second_chance = true,
                        Verdict::Write => page.dirty = false,
                        Verdict::Activate | Verdict::Drop => break,
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}
