//! The tunables of `/proc/sys/vm` by their names.

use super::Mm;
use crate::error::AllocError;
use crate::page::{NumaCounting, Tuning};
use crate::platform::Platform;
use crate::policy::compaction::Unevictable;
use crate::policy::reclaim::manual::DropCaches;
use crate::policy::reclaim::node::Mode;
use crate::policy::tunable::{Access, Numbers, Tunable, TunableError};
use crate::reclaim::ReclaimBusy;

/// What an administrator sets while the machine runs ([`Mm::tunables`]).
///
/// Everything that is written is looked at as a whole first: what is refused changes nothing
/// (P723). Numbers are read without a lock.
///
/// ```
/// # use gfp::frame::{NodeId, PhysAddr};
/// # use gfp::page::{BootConfig, MemoryRegion, RegionKind};
/// # use gfp::platform::{DirectMap, SingleCore};
/// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
/// # let ram = unsafe { std::alloc::alloc(layout) };
/// # let map = [MemoryRegion {
/// #     start: PhysAddr(0),
/// #     end: PhysAddr(16 << 20),
/// #     node: NodeId(0),
/// #     kind: RegionKind::Usable,
/// # }];
/// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
/// # let mm = gfp::Mm::boot(platform, &map, &BootConfig::default())?;
/// let vm = mm.tunables();
/// vm.write("min_free_kbytes", "2048\n")?;
/// assert_eq!(vm.read("vm.min_free_kbytes")?.to_string(), "2048");
///
/// let error = vm.write("watermark_scale_factor", "5000").unwrap_err();
/// assert_eq!(error.to_string(), "watermark_scale_factor takes 1 to 3000");
/// # drop(mm);
/// # unsafe { std::alloc::dealloc(ram, layout) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tunables<'a, P: Platform> {
    mm: &'a Mm<P>,
}

impl<P: Platform> Mm<P> {
    /// What an administrator sets while the machine runs, by the names of `/proc/sys/vm`.
    pub fn tunables(&self) -> Tunables<'_, P> {
        Tunables { mm: self }
    }
}

impl<P: Platform> Tunables<'_, P> {
    /// What the file of this name shows, as [`fmt::Display`](core::fmt::Display) of the result.
    ///
    /// Context: any.
    ///
    /// # Errors
    /// [`TunableError`]: there is no such name, or nothing to read.
    pub fn read(&self, name: &str) -> Result<Numbers, TunableError> {
        self.get(Tunable::find(name)?)
    }

    /// Writes to the file of this name.
    ///
    /// Context: a task that may sleep.
    ///
    /// # Errors
    /// [`TunableError`]: what is wrong with the name or the text; nothing was changed.
    pub fn write(&self, name: &str, text: &str) -> Result<(), TunableError> {
        let tunable = Tunable::find(name)?;
        self.set(tunable, &tunable.parse(text)?)
    }

    /// The value of a tunable. Context: any.
    ///
    /// # Errors
    /// [`TunableError::WriteOnly`].
    pub fn get(&self, tunable: Tunable) -> Result<Numbers, TunableError> {
        let (pages, reclaim) = (self.mm.pages(), self.mm.slabs().reclaim());
        Ok(match tunable {
            Tunable::CompactMemory | Tunable::DropCaches => {
                debug_assert_eq!(tunable.access(), Access::WriteOnly);
                let name = tunable.name();
                return Err(TunableError::WriteOnly { name });
            }
            Tunable::CompactUnevictableAllowed => i64::from(reclaim.moves_unevictable()).into(),
            Tunable::CompactionProactiveness => {
                i64::from(reclaim.compaction_proactiveness()).into()
            }
            Tunable::ExtfragThreshold => i64::from(reclaim.extfrag_threshold()).into(),
            Tunable::LowmemReserveRatio => {
                Numbers::new(pages.lowmem_reserve_ratio().map(|ratio| ratio as i64))
            }
            Tunable::MinFreeKbytes => (pages.min_free_kbytes() as i64).into(),
            Tunable::MinSlabRatio => (reclaim.node_reclaim_ratios().slab as i64).into(),
            Tunable::MinUnmappedRatio => (reclaim.node_reclaim_ratios().unmapped as i64).into(),
            Tunable::NumaStat => i64::from(pages.numa_counting() == NumaCounting::On).into(),
            Tunable::PercpuPagelistHighFraction => {
                (pages.percpu_pagelist_high_fraction() as i64).into()
            }
            Tunable::Swappiness => i64::from(self.mm.swappiness()).into(),
            Tunable::VfsCachePressure => (reclaim.vfs_cache_pressure() as i64).into(),
            Tunable::WatermarkScaleFactor => (pages.watermark_scale_factor() as i64).into(),
            Tunable::ZoneReclaimMode => i64::from(pages.zone_reclaim_mode().bits()).into(),
        })
    }

    /// Sets a tunable. Of a list of numbers those that are left out at its end stay as they are.
    ///
    /// Context: a task that may sleep.
    ///
    /// # Errors
    /// [`TunableError`]: what is wrong with the numbers; nothing was changed.
    pub fn set(&self, tunable: Tunable, numbers: &Numbers) -> Result<(), TunableError> {
        tunable.check(numbers)?;
        let number = numbers.first();
        let reclaim = self.mm.slabs().reclaim();
        match tunable {
            Tunable::CompactMemory => self.mm.compact_memory(),
            Tunable::CompactUnevictableAllowed => {
                reclaim.set_moves_unevictable(match number {
                    0 => Unevictable::Leave,
                    _ => Unevictable::Move,
                });
            }
            Tunable::CompactionProactiveness => {
                reclaim.set_compaction_proactiveness(number as u8);
            }
            Tunable::ExtfragThreshold => reclaim.set_extfrag_threshold(number as u16),
            Tunable::DropCaches => {
                if let Some(what) = DropCaches::new(number) {
                    let dropped = self.mm.drop_caches(what);
                    dropped.map_err(|ReclaimBusy| TunableError::Nested)?;
                }
            }
            Tunable::LowmemReserveRatio => {
                // P703: less than 1 is no protection.
                let ratio = |i: usize| Some((*numbers.as_slice().get(i)?).max(0) as usize);
                self.tune(Tuning::LowmemReserveRatio(core::array::from_fn(ratio)))?;
            }
            Tunable::MinFreeKbytes => self.tune(Tuning::MinFreeKbytes(number as u32))?,
            Tunable::MinSlabRatio => reclaim.set_min_slab_ratio(number as usize),
            Tunable::MinUnmappedRatio => reclaim.set_min_unmapped_ratio(number as usize),
            Tunable::NumaStat => self.mm.pages().set_numa_counting(match number {
                0 => NumaCounting::Off,
                _ => NumaCounting::On,
            }),
            Tunable::PercpuPagelistHighFraction => {
                self.tune(Tuning::PagelistHighFraction(number as usize))?;
            }
            Tunable::Swappiness => self.mm.set_swappiness(number as u8),
            Tunable::VfsCachePressure => reclaim.set_vfs_cache_pressure(number as usize),
            Tunable::WatermarkScaleFactor => {
                self.tune(Tuning::WatermarkScaleFactor(number as usize))?;
            }
            Tunable::ZoneReclaimMode => {
                let mode = Mode::new(number as u8).unwrap_or_default();
                self.mm.pages().set_zone_reclaim_mode(mode);
            }
        }
        Ok(())
    }

    fn tune(&self, tuning: Tuning) -> Result<(), TunableError> {
        let done = self.mm.pages().tune(tuning);
        debug_assert!(matches!(done, Ok(()) | Err(AllocError::Nested)));
        done.map_err(|_| TunableError::Nested)
    }
}
