//! What the tests of a process share.

use gfp_host::{Backing, HostConfig, HostPlatform};

pub(crate) const RAM: usize = 16 << 20;
pub(crate) fn machine(backing: Backing) -> HostPlatform {
    HostPlatform::new(&HostConfig::new(RAM).backing(backing)).unwrap()
}

mod child;
pub(crate) use child::in_child;
