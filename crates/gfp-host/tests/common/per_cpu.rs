//! The kinds of CPUs that machines of this process can have.

use gfp_host::{HostConfig, HostError, HostPlatform, PerCpu};

/// All of them; those with restartable sequences only where there are such.
pub(crate) fn kinds() -> Vec<PerCpu> {
    let there = |kind: &PerCpu| match HostPlatform::new(&HostConfig::new(4096).per_cpu(*kind)) {
        Ok(_) => true,
        Err(HostError::NoRseq) => false,
        Err(other) => panic!("{kind:?}: {other}"),
    };
    let all = [PerCpu::Slots, PerCpu::Rseq, PerCpu::RseqByCpu];
    all.into_iter().filter(there).collect()
}
