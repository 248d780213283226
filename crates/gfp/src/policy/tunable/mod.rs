//! The tunables of `/proc/sys/vm`: names, and which values they take (P700-P723).
//!
//! 1. **Concept.** A [`Tunable`] has a name and one number or a few. A text is looked at as a whole
//!    before anything is changed (P723): what is wrong with it is a [`TunableError`] that says what
//!    would be right.
//! 2. **What is not here.** A name of Linux that this library has elsewhere, or not at all, is
//!    known all the same ([`ELSEWHERE`]): the error says where, or why not.

mod error;
#[cfg(test)]
mod tests;

use crate::flags::edit_distance;
use core::fmt;

pub use error::TunableError;

/// The most numbers that a tunable has.
const NUMBERS_MAX: usize = 5;

/// What can be set while the machine runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Tunable {
    /// P708: writing 1 compacts all nodes.
    CompactMemory,
    /// P709: 0 or 1.
    CompactUnevictableAllowed,
    /// P707: raising it has every node looked at now.
    CompactionProactiveness,
    /// P716: 1 to 4 drop caches, or silence who says so.
    DropCaches,
    /// P706: in thousandths.
    ExtfragThreshold,
    /// P703: by kind of zone, from the lowest.
    LowmemReserveRatio,
    /// P700.
    MinFreeKbytes,
    /// P711: in percent of a node.
    MinSlabRatio,
    /// P711: in percent of a node.
    MinUnmappedRatio,
    /// P712: 0 or 1.
    NumaStat,
    /// P704: 0, or 8 and more.
    PercpuPagelistHighFraction,
    /// P714.
    Swappiness,
    /// P715: in percent.
    VfsCachePressure,
    /// P701: in 1/10000 of a zone.
    WatermarkScaleFactor,
    /// P710: 1 on, 2 write, 4 store.
    ZoneReclaimMode,
}

/// What a tunable takes.
struct Takes {
    /// The least and the largest number.
    range: (i64, i64),
    /// The most numbers.
    count: usize,
    access: Access,
}

/// Whether a tunable has a value, or only an effect.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// It has a value.
    ReadWrite,
    /// It has an effect when it is written.
    WriteOnly,
}

/// Names of Linux that are no [`Tunable`]: where they are, or why they are nowhere.
pub const ELSEWHERE: &[(&str, &str)] = &[
    (
        "watermark_boost_factor",
        "it is said at boot: BootConfig::watermark_boost_factor",
    ),
    (
        "panic_on_oom",
        "it is an answer of the OOM source: OomSettings::panic_on_oom",
    ),
    (
        "oom_kill_allocating_task",
        "it is an answer of the OOM source: OomSettings::kills_caller",
    ),
    (
        "oom_dump_tasks",
        "it is an answer of the OOM source: OomSettings::dumps_tasks",
    ),
    ("overcommit_memory", NO_COMMIT),
    ("overcommit_ratio", NO_COMMIT),
    ("overcommit_kbytes", NO_COMMIT),
    ("admin_reserve_kbytes", NO_COMMIT),
    ("user_reserve_kbytes", NO_COMMIT),
];

/// P704: the least fraction that there can be.
const HIGH_FRACTION_MIN: i64 = 8;

/// P718.
const NO_COMMIT: &str = "this library promises no memory that it does not give out, so there is \
nothing to overcommit; who has processes limits what they may map";

impl Tunable {
    /// All of them, by name.
    pub const ALL: [Tunable; 15] = [
        Tunable::CompactMemory,
        Tunable::CompactUnevictableAllowed,
        Tunable::CompactionProactiveness,
        Tunable::DropCaches,
        Tunable::ExtfragThreshold,
        Tunable::LowmemReserveRatio,
        Tunable::MinFreeKbytes,
        Tunable::MinSlabRatio,
        Tunable::MinUnmappedRatio,
        Tunable::NumaStat,
        Tunable::PercpuPagelistHighFraction,
        Tunable::Swappiness,
        Tunable::VfsCachePressure,
        Tunable::WatermarkScaleFactor,
        Tunable::ZoneReclaimMode,
    ];

    /// Its file in `/proc/sys/vm`.
    pub const fn name(self) -> &'static str {
        match self {
            Tunable::CompactMemory => "compact_memory",
            Tunable::CompactUnevictableAllowed => "compact_unevictable_allowed",
            Tunable::CompactionProactiveness => "compaction_proactiveness",
            Tunable::DropCaches => "drop_caches",
            Tunable::ExtfragThreshold => "extfrag_threshold",
            Tunable::LowmemReserveRatio => "lowmem_reserve_ratio",
            Tunable::MinFreeKbytes => "min_free_kbytes",
            Tunable::MinSlabRatio => "min_slab_ratio",
            Tunable::MinUnmappedRatio => "min_unmapped_ratio",
            Tunable::NumaStat => "numa_stat",
            Tunable::PercpuPagelistHighFraction => "percpu_pagelist_high_fraction",
            Tunable::Swappiness => "swappiness",
            Tunable::VfsCachePressure => "vfs_cache_pressure",
            Tunable::WatermarkScaleFactor => "watermark_scale_factor",
            Tunable::ZoneReclaimMode => "zone_reclaim_mode",
        }
    }

    fn takes(self) -> Takes {
        const INT: i64 = i32::MAX as i64;
        let one = |least, most| Takes {
            range: (least, most),
            count: 1,
            access: Access::ReadWrite,
        };
        match self {
            Tunable::CompactMemory => Takes {
                access: Access::WriteOnly,
                ..one(1, 1)
            },
            Tunable::CompactUnevictableAllowed | Tunable::NumaStat => one(0, 1),
            Tunable::CompactionProactiveness => one(0, 100),
            Tunable::DropCaches => Takes {
                access: Access::WriteOnly,
                ..one(1, 4)
            },
            Tunable::ExtfragThreshold => one(0, 1000),
            // Less than 1 is no protection.
            Tunable::LowmemReserveRatio => Takes {
                count: NUMBERS_MAX,
                ..one(-INT, INT)
            },
            Tunable::MinFreeKbytes | Tunable::VfsCachePressure => one(0, INT),
            Tunable::PercpuPagelistHighFraction => one(HIGH_FRACTION_MIN, INT),
            Tunable::Swappiness => one(0, 200),
            Tunable::MinSlabRatio | Tunable::MinUnmappedRatio => one(0, 100),
            Tunable::WatermarkScaleFactor => one(1, 3000),
            Tunable::ZoneReclaimMode => one(0, 7),
        }
    }

    /// Whether it has a value.
    pub fn access(self) -> Access {
        self.takes().access
    }

    /// The tunable of a name, with `vm.` before it or without.
    ///
    /// # Errors
    /// [`TunableError::Unknown`], [`TunableError::Elsewhere`].
    pub fn find(name: &str) -> Result<Tunable, TunableError> {
        let name = name.strip_prefix("vm.").unwrap_or(name);
        if let Some(found) = Tunable::ALL.into_iter().find(|t| t.name() == name) {
            return Ok(found);
        }
        match ELSEWHERE.iter().find(|(known, _)| *known == name) {
            Some((name, why)) => Err(TunableError::Elsewhere { name, why }),
            None => Err(TunableError::Unknown {
                nearest: nearest(name),
            }),
        }
    }

    /// The numbers of a text: decimal, with white space between them and around.
    ///
    /// # Errors
    /// [`TunableError`]: what is wrong with the first that is wrong.
    pub fn parse(self, text: &str) -> Result<Numbers, TunableError> {
        let mut numbers = Numbers::default();
        for word in text.split_ascii_whitespace() {
            let number = word
                .parse()
                .map_err(|_| TunableError::NotANumber { name: self.name() })?;
            if numbers.count == self.takes().count {
                return Err(self.wrong_count());
            }
            numbers.values[numbers.count] = number;
            numbers.count += 1;
        }
        self.check(&numbers).map(|()| numbers)
    }

    /// P723: whether it takes these numbers.
    ///
    /// # Errors
    /// [`TunableError`]: what is wrong with the first that is wrong.
    pub fn check(self, numbers: &Numbers) -> Result<(), TunableError> {
        let Takes { range, count, .. } = self.takes();
        let (least, most) = range;
        if numbers.count == 0 || numbers.count > count {
            return Err(self.wrong_count());
        }
        let off = self == Tunable::PercpuPagelistHighFraction;
        let fits = |number: &i64| (least..=most).contains(number) || off && *number == 0;
        match numbers.as_slice().iter().all(fits) {
            true => Ok(()),
            false if off => Err(TunableError::NeitherZeroNor {
                name: self.name(),
                least,
            }),
            false => Err(TunableError::OutOfRange {
                name: self.name(),
                least,
                most,
            }),
        }
    }

    fn wrong_count(self) -> TunableError {
        TunableError::WrongCount {
            name: self.name(),
            most: self.takes().count,
        }
    }
}

/// The name that is nearest to one that nobody knows, if at most a third of it differs.
fn nearest(name: &str) -> Option<&'static str> {
    let known = Tunable::ALL.into_iter().map(Tunable::name);
    let all = known.chain(ELSEWHERE.iter().map(|(name, _)| *name));
    all.filter_map(|known| Some((edit_distance(name, known)?, known)))
        .filter(|(distance, _)| *distance <= name.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The numbers of a tunable.
///
/// As text ([`fmt::Display`]) they are what the file of `/proc/sys/vm` shows, without the newline.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Numbers {
    values: [i64; NUMBERS_MAX],
    count: usize,
}

impl Numbers {
    /// These numbers; of more than a tunable can have, the first.
    pub fn new(numbers: impl IntoIterator<Item = i64>) -> Numbers {
        let mut all = Numbers::default();
        for (to, from) in all.values.iter_mut().zip(numbers) {
            *to = from;
            all.count += 1;
        }
        all
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[i64] {
        &self.values[..self.count]
    }

    /// The first number; 0 if there is none.
    pub fn first(&self) -> i64 {
        self.values[0]
    }
}

impl From<i64> for Numbers {
    fn from(number: i64) -> Numbers {
        Numbers::new([number])
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.as_slice().iter().enumerate() {
            let before = if i == 0 { "" } else { "\t" };
            write!(f, "{before}{number}")?;
        }
        Ok(())
    }
}
