//! Negative controls: `break=NAME` on the command line takes one check out, and the test that
//! exists for it must fail. A test that cannot fail proves nothing. Which
//! tests must fail stands in `xtask/src/vm/controls.rs`, one row a control.
//!
//! What the library itself sees cannot be switched off; where a test keeps books of its own, a
//! control falsifies those.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

macro_rules! controls {
    ($($(#[$doc:meta])* $control:ident = $name:literal,)*) => {
        /// A check that can be taken out.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Control {
            $($(#[$doc])* $control,)*
        }

        impl Control {
            /// All of them.
            pub const ALL: &[Control] = &[$(Control::$control,)*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Control::$control => $name,)*
                }
            }
        }
    };
}

controls! {
    /// A section does not see that it is inside another.
    Nested = "nested",
    /// Interrupted restartable sequences are not restarted.
    Restart = "restart",
    /// Interrupts are taken on the interrupted stack, over its red zone.
    RedZone = "red-zone",
    /// The handler of an NMI lets the next one in.
    NmisNest = "nmis-nest",
    /// A device is given another page than the driver reads.
    Share = "share",
    /// Other CPUs are not told to forget mappings.
    Shootdown = "shootdown",
    /// The page behind an area is mapped.
    Guard = "guard",
    /// What is freed stays mapped.
    Unmap = "unmap",
    /// What is read-only can be written.
    Protection = "protection",
    /// What is data can be executed.
    Execute = "execute",
    /// Physical memory stays mapped at 0.
    Null = "null",
    /// The books of a test are closed with a page missing.
    Leak = "leak",
    /// Memory that somebody has is given to a second owner.
    GivenTwice = "given-twice",
    /// A section leaves interrupts on.
    InterruptsOn = "interrupts-on",
    /// A CPU whose place was taken does not say so to NMIs.
    NotTaken = "not-taken",
    /// Who takes a place does not wait for its owner.
    NoWait = "no-wait",
    /// There is no DMA zone.
    NoDma = "no-dma",
    /// No pages are kept back for those who cannot wait.
    NoReserve = "no-reserve",
}

static BROKEN: AtomicU32 = AtomicU32::new(0);

/// Takes a check out.
pub fn set(control: Control) {
    BROKEN.fetch_or(1 << control as u32, Relaxed);
}

/// True if the check is taken out. Constant in builds without debug assertions, so that what is
/// measured does not pay for it.
#[inline(always)]
pub fn broken(control: Control) -> bool {
    cfg!(debug_assertions) && BROKEN.load(Relaxed) >> control as u32 & 1 != 0
}
