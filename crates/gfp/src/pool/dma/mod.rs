//! Memory for devices (M10): blocks that a device can reach, and the address by which it does.
//!
//! 1. **Concepts.** A device names memory by *device addresses* ([`DmaAddr`]); its *mask*
//!    ([`DmaMask`]) says how many bits of them it can drive. A bus may shift them against physical
//!    addresses. Both together are a [`DmaDevice`]: a plain value that the driver keeps.
//!    *Coherent* memory is seen alike by CPU and device without further calls.
//! 2. **Structure.** None of its own: the word of a block's first frame says that it is coherent
//!    memory, and how many bytes were asked for ([`FrameKind::DmaCoherent`]).
//! 3. **Allocation.** The highest zone that has memory within reach is asked first. A block that
//!    the device does not reach after all (its limit lies inside the zone) goes back, and the next
//!    lower zone is asked. A zone that has run dry does not send the request to a lower one: what
//!    lower zones keep in reserve is for those who need it.
//! 4. **Free.** Address, size and device address must be those of the allocation; the first two are
//!    in the frame's word, the third follows from the device.
//! 5. **Locking.** None: pages are taken and freed like any others. Of two frees of one block one
//!    wins the word.
//! 6. **Failure.** [`AllocError`](crate::AllocError) with the reason. A misuse is returned to the
//!    layer above, which reports it; the memory leaks.
//! 7. **What it does not do.** A limit between two zone limits is served by the zone below it,
//!    even if memory within reach is free above: let a zone of
//!    [`BootConfig`](crate::page::BootConfig) end at the limit of the narrowest device. Coherent
//!    memory is ordinary memory here, as it is on x86, whose devices look into the caches. A
//!    machine whose devices do not would need one capability trait with two calls, each with a
//!    default that does nothing: after the allocation write the block's lines back and map it a
//!    second time uncached, before the free take that mapping away. No such platform exists yet.
//!    dma_pool, which cuts such blocks into small pieces, comes with issue 8.
//!
//! [`FrameKind::DmaCoherent`]: crate::frame::FrameKind::DmaCoherent

mod coherent;
mod device;
#[cfg(test)]
mod tests;

pub use coherent::{CoherentBlock, alloc_coherent, free_coherent};
pub use device::{DmaAddr, DmaDevice, DmaMask};
