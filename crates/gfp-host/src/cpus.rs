//! Which CPU ids a machine has, chosen when it is built.
//!
//! | | ids | who comes in between |
//! |---|---|---|
//! | [`PerCpu::Slots`] | one a thread, up to 1024 | has its own |
//! | [`PerCpu::Rseq`] | one a processor, or as many as threads run | waits a turn, or is a guest |
//!
//! Both are the process's: machines of both kinds may stand side by side, and a thread is inside at
//! most one section, of whatever machine.

use crate::ram::HostError;
#[cfg(target_arch = "x86_64")]
use crate::rseq::Rseq;
use crate::slots::{self, NR_SLOTS, Section};
use gfp::frame::CpuId;
use gfp::platform::Nested;
#[cfg(target_arch = "x86_64")]
use gfp::sync::restart::{ByCid, ByCpu};

/// What the CPUs of a machine are.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PerCpu {
    /// Slots that are bound to threads: each thread has private caches of its own.
    #[default]
    Slots,
    /// Places that threads claim by restartable sequences, so that the number of private caches is
    /// bounded by that of processors: by Linux's compact id (`mm_cid`) where the kernel has it,
    /// else by processor. Linux on x86-64, with glibc 2.35 or later.
    Rseq,
    /// [`PerCpu::Rseq`] by the number of the processor, wherever: caches stay with the processor
    /// that filled them, but there are as many as processors ever had a thread.
    RseqByCpu,
}

/// The choice, with what it needs.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Cpus {
    Slots,
    #[cfg(target_arch = "x86_64")]
    ByCpu(Rseq),
    #[cfg(target_arch = "x86_64")]
    ByCid(Rseq),
}

impl Cpus {
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn new(choice: PerCpu) -> Result<Cpus, HostError> {
        if choice == PerCpu::Slots {
            return Ok(Cpus::Slots);
        }
        let rseq = Rseq::find().ok_or(HostError::NoRseq)?;
        if rseq.nr_cpus() as usize > slots::NR_PLACES {
            return Err(HostError::TooManyCpus);
        }
        let by_cid = choice == PerCpu::Rseq && rseq.has_cid();
        let opened = match by_cid {
            true => slots::open_places::<ByCid>(&rseq),
            false => slots::open_places::<ByCpu>(&rseq),
        };
        match (opened, by_cid) {
            (false, _) => Err(HostError::Nested),
            (true, true) => Ok(Cpus::ByCid(rseq)),
            (true, false) => Ok(Cpus::ByCpu(rseq)),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn new(choice: PerCpu) -> Result<Cpus, HostError> {
        match choice {
            PerCpu::Slots => Ok(Cpus::Slots),
            PerCpu::Rseq | PerCpu::RseqByCpu => Err(HostError::NoRseq),
        }
    }

    /// Ids: below this. The last is the guest's.
    pub(crate) fn count(&self) -> u32 {
        match self {
            Cpus::Slots => NR_SLOTS as u32 + 1,
            #[cfg(target_arch = "x86_64")]
            Cpus::ByCpu(rseq) | Cpus::ByCid(rseq) => rseq.nr_cpus() + 1,
        }
    }

    #[inline(always)]
    pub(crate) fn enter(&self) -> Result<(CpuId, Section<'static>), Nested> {
        match self {
            Cpus::Slots => slots::enter(),
            #[cfg(target_arch = "x86_64")]
            places => places.enter_place(),
        }
    }

    #[inline(always)]
    pub(crate) fn enter_quick(&self) -> Option<(CpuId, Section<'static>)> {
        match self {
            Cpus::Slots => slots::enter_quick(),
            #[cfg(target_arch = "x86_64")]
            places => places.enter_place_quick(),
        }
    }

    /// Out of line, so that machines with slots, the default, pay no more than the choice.
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn enter_place(&self) -> Result<(CpuId, Section<'static>), Nested> {
        match self {
            Cpus::Slots => slots::enter(),
            Cpus::ByCpu(rseq) => slots::enter_place::<ByCpu>(rseq),
            Cpus::ByCid(rseq) => slots::enter_place::<ByCid>(rseq),
        }
    }

    /// As [`Cpus::enter_place`].
    #[cfg(target_arch = "x86_64")]
    #[inline(never)]
    fn enter_place_quick(&self) -> Option<(CpuId, Section<'static>)> {
        match self {
            Cpus::Slots => slots::enter_quick(),
            Cpus::ByCpu(rseq) => slots::enter_place_quick::<ByCpu>(rseq),
            Cpus::ByCid(rseq) => slots::enter_place_quick::<ByCid>(rseq),
        }
    }

    pub(crate) fn enter_remote(&self, cpu: CpuId) -> Option<Section<'static>> {
        match self {
            Cpus::Slots => slots::enter_remote(cpu),
            #[cfg(target_arch = "x86_64")]
            Cpus::ByCpu(rseq) => slots::enter_place_remote::<ByCpu>(rseq, cpu),
            #[cfg(target_arch = "x86_64")]
            Cpus::ByCid(rseq) => slots::enter_place_remote::<ByCid>(rseq, cpu),
        }
    }
}
