//! Shrinkers: how many objects a cache is asked to give up (P411-P417).
//!
//! A shrinker has two functions: *count* says how many objects it could free, *scan(n)* looks at
//! `n` of them. How many are looked at depends on the [`Priority`] and on what an object costs to
//! make again (*seeks*). What is less than a batch is not lost: it is *deferred*, and added to the
//! next pass.
//!
//! ```text
//!   deferred -> taken to 0 --+
//!                            v
//!   count -> delta ------> total --> scan(batch), scan(batch), ... --> rest -> deferred
//! ```
//!
//! What the executor keeps: for each shrinker one deferred counter for each node
//! ([`Settings::deferred_node`]) and group, taken with a swap to 0 and given back with an addition,
//! so that two reclaimers never do the same work twice.

use super::Priority;
use crate::flags::Gfp;

/// P412: what an object costs to make again if its owner does not say.
pub const DEFAULT_SEEKS: u32 = 2;
/// P412: how many objects a scan is asked for if the owner does not say.
pub const DEFAULT_BATCH: usize = 128;
/// P715: default of the sysctl `vfs_cache_pressure`, in percent.
pub const DEFAULT_VFS_CACHE_PRESSURE: usize = 100;
/// P411: Linux's number for [`Counted::Empty`].
pub const SHRINK_EMPTY: usize = usize::MAX - 1;
/// P411: Linux's number for [`Scanned::Stop`].
pub const SHRINK_STOP: usize = usize::MAX;

/// P411: the answer of *count*.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Unknown, or nothing worth a scan.
    Nothing,
    /// Surely empty: the group need not ask again until something is added.
    Empty,
    /// So many objects could be freed.
    Objects(usize),
}

impl Counted {
    /// The answer from Linux's number.
    pub const fn from_raw(raw: usize) -> Counted {
        match raw {
            0 => Counted::Nothing,
            SHRINK_EMPTY => Counted::Empty,
            // Not a count: the shrinker of Linux that cannot count now says so too.
            SHRINK_STOP => Counted::Nothing,
            objects => Counted::Objects(objects),
        }
    }
}

/// P411, P413: what came of one call of *scan*.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The provider looked at objects.
    Done {
        /// Objects looked at. Preset to what was asked for; the provider may lower it (P413).
        looked_at: usize,
        /// Objects freed.
        freed: usize,
    },
    /// The provider cannot go on now (it would have to wait for what its caller holds).
    Stop,
}

/// P412, P414: what an owner says about its shrinker.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What an object costs to make again; 0: nothing, so half of them go at once.
    pub seeks: u32,
    /// Objects a call; 0 for [`DEFAULT_BATCH`].
    pub batch: usize,
    /// P416: what the owner must be allowed to do: `IO`, `FS`, both or none. Work that a request
    /// does not allow is deferred.
    pub needs: Gfp,
    /// Counts and scans one node at a time (`SHRINKER_NUMA_AWARE`).
    pub numa_aware: bool,
    /// Counts and scans one group at a time (`SHRINKER_MEMCG_AWARE`).
    pub group_aware: bool,
    /// Works for groups even if kernel memory is not accounted to them (`SHRINKER_NONSLAB`).
    pub nonslab: bool,
    /// P715: keeps names or inodes of files, so that `vfs_cache_pressure` says how many of them
    /// count ([`Settings::counted`]).
    pub vfs: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seeks: DEFAULT_SEEKS,
            batch: 0,
            needs: Gfp::NONE,
            numa_aware: false,
            group_aware: false,
            nonslab: false,
            vfs: false,
        }
    }
}

impl Settings {
    /// Objects a call, at least 1.
    pub const fn batch(&self) -> usize {
        if self.batch == 0 {
            DEFAULT_BATCH
        } else {
            self.batch
        }
    }

    /// P715: as how many objects those of its owner count: `vfs_cache_pressure` percent of them, if
    /// they are names or inodes.
    pub const fn counted(&self, objects: usize, vfs_cache_pressure: usize) -> usize {
        if !self.vfs {
            return objects;
        }
        let part = objects as u128 * vfs_cache_pressure as u128 / 100;
        if part > usize::MAX as u128 {
            usize::MAX
        } else {
            part as usize
        }
    }

    /// P416: whether a reclaimer with these flags may call *scan*.
    pub const fn allowed_by(&self, gfp: Gfp) -> bool {
        gfp.contains(self.needs.intersection(Gfp::IO.with(Gfp::FS)))
    }

    /// P414: whether a pass on behalf of this asks the shrinker at all.
    pub const fn is_asked_by(&self, pass: GroupPass) -> bool {
        match pass {
            GroupPass::Root => true,
            GroupPass::Group {
                marked,
                kernel_accounting,
            } => self.group_aware && marked && (kernel_accounting || self.nonslab),
        }
    }

    /// P414: whose deferred counter a pass on `node` uses: the node's, or the first for a shrinker
    /// that does not tell nodes apart.
    pub const fn deferred_node(&self, node: usize) -> usize {
        if self.numa_aware { node } else { 0 }
    }
}

/// P414: on whose behalf shrinkers are asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GroupPass {
    /// The whole machine or the root group: all shrinkers.
    Root,
    /// One group.
    Group {
        /// The shrinker's bit is set in the group's map: it may have objects there.
        marked: bool,
        /// Kernel memory is accounted to groups.
        kernel_accounting: bool,
    },
}

/// P411: what to do with the answer of *count* in the pass of a group.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GroupCount {
    /// Clear the shrinker's bit, then count once more: an object may have been added between count
    /// and clear, and its bit would be lost.
    ClearAndRecount,
    /// Nothing to do; the bit stays as it is.
    Skip,
    /// Nothing to do now, but set the bit again.
    MarkAndSkip,
    /// Scan; the bit stays set.
    Scan(usize),
    /// Set the bit again, then scan.
    MarkAndScan(usize),
}

/// Which count this is (P411).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CountNumber {
    /// The first.
    First,
    /// The one after the bit was cleared.
    AfterClear,
}

/// P411: the closing of the race between "empty" and an addition. At most two counts.
pub const fn group_count(counted: Counted, number: CountNumber) -> GroupCount {
    match (counted, number) {
        (Counted::Empty, CountNumber::First) => GroupCount::ClearAndRecount,
        (Counted::Empty, CountNumber::AfterClear) => GroupCount::Skip,
        (Counted::Nothing | Counted::Objects(0), CountNumber::First) => GroupCount::Skip,
        (Counted::Nothing | Counted::Objects(0), CountNumber::AfterClear) => {
            GroupCount::MarkAndSkip
        }
        (Counted::Objects(n), CountNumber::First) => GroupCount::Scan(n),
        (Counted::Objects(n), CountNumber::AfterClear) => GroupCount::MarkAndScan(n),
    }
}

/// P412: objects that a pass owes for `freeable` objects at this priority.
pub const fn delta(freeable: usize, priority: Priority, seeks: u32) -> usize {
    if seeks == 0 {
        return freeable / 2;
    }
    // At most four times as many: a usize or its end.
    let delta = priority.part(freeable) as u128 * 4 / seeks as u128;
    if delta > usize::MAX as u128 {
        usize::MAX
    } else {
        delta as usize
    }
}

/// One pass over one shrinker, node and group (P412).
///
/// ```text
/// let mut pass = Pass::new(..);
/// while let Some(n) = pass.next() {
///     pass.scanned(scan(n));
/// }
/// counter.fetch_add(pass.deferred());
/// ```
///
/// Bound: `next` is answered at most `2 * freeable` times, and `2 * freeable / batch + 1` times if
/// the provider looks at all it is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    freeable: usize,
    batch: usize,
    /// Deferred before, and what this pass added.
    owed: usize,
    total: usize,
    looked_at: usize,
    freed: usize,
    stopped: bool,
}

impl Pass {
    /// A pass over `freeable` objects, with what was deferred so far (taken from its counter).
    pub const fn new(
        settings: &Settings,
        freeable: usize,
        deferred: usize,
        priority: Priority,
    ) -> Pass {
        let delta = delta(freeable, priority, settings.seeks);
        Pass {
            freeable,
            batch: settings.batch(),
            owed: deferred.saturating_add(delta),
            total: min(
                priority.part(deferred).saturating_add(delta),
                freeable.saturating_mul(2),
            ),
            looked_at: 0,
            freed: 0,
            stopped: freeable == 0,
        }
    }

    /// How many objects to look at now; `None`: the pass is over.
    pub const fn next(&self) -> Option<usize> {
        let worth_it = self.total >= self.batch || self.total >= self.freeable;
        if self.stopped || self.total == 0 || !worth_it {
            None
        } else {
            Some(min(self.batch, self.total))
        }
    }

    /// What came of it.
    ///
    /// A call that looked at nothing counts as [`Scanned::Stop`]: the rule is silent, and Linux
    /// would ask for ever.
    pub const fn scanned(&mut self, scanned: Scanned) {
        match scanned {
            Scanned::Done { looked_at, freed } => {
                self.freed = self.freed.saturating_add(freed);
                self.looked_at = self.looked_at.saturating_add(looked_at);
                self.total = self.total.saturating_sub(looked_at);
                self.stopped = looked_at == 0;
            }
            Scanned::Stop => self.stopped = true,
        }
    }

    /// P412: what to add to the deferred counter after the pass.
    pub const fn deferred(&self) -> usize {
        min(
            self.owed.saturating_sub(self.looked_at),
            self.freeable.saturating_mul(2),
        )
    }

    /// Objects freed by this pass.
    pub const fn freed(&self) -> usize {
        self.freed
    }

    /// P121: objects that another pass could free: none, if the provider cannot go on.
    pub const fn left(&self) -> usize {
        if self.stopped {
            0
        } else {
            self.freeable.saturating_sub(self.freed)
        }
    }

    /// P413: what this pass adds to the counter `slabs_scanned`.
    pub const fn looked_at(&self) -> usize {
        self.looked_at
    }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// P417: whether `drop_caches` asks all shrinkers once more after round `round` (0, 1, ...) freed
/// so many objects.
///
/// "Next to nothing" grows with the rounds, 2, 4, 8 ..., so that a machine that fills its caches
/// again meanwhile does not keep it for ever: at most 64 rounds.
pub const fn drop_again(freed: usize, round: u32) -> bool {
    round < usize::BITS - 1 && freed >= 2 << round
}

#[cfg(test)]
mod tests;
