//! Exclusive use of one CPU's private state.

use crate::frame::CpuId;
use crate::platform::{Nested, Platform};
use core::cell::Cell;
use core::marker::PhantomData;

/// The right to touch the private state of one CPU, and to take locks.
///
/// [INV-PCPU-1] At most one `Local` of a machine exists for a CPU at any time: the platform
/// promises it ([`Platform::enter`], [`Platform::enter_remote`]).
pub struct Local<'a, P: Platform> {
    cpu: CpuId,
    platform: &'a P,
    held: Cell<u32>,
    section: P::Section<'a>,
    /// A section stays on the thread that entered, whatever the platform's type says.
    _not_send: PhantomData<*mut ()>,
}

impl<'a, P: Platform> Local<'a, P> {
    /// Enters on the current CPU.
    ///
    /// # Errors
    /// [`Nested`] if this CPU is already inside: we are an interrupt or a signal handler that came
    /// in the middle, and must do without locks and private caches.
    #[inline]
    pub fn enter(platform: &'a P) -> Result<Local<'a, P>, Nested> {
        let (cpu, section) = platform.enter()?;
        Ok(Local {
            cpu,
            platform,
            held: Cell::new(0),
            section,
            _not_send: PhantomData,
        })
    }

    /// Enters on the current CPU if that is a matter of a few instructions
    /// ([`Platform::enter_quick`]).
    #[inline(always)]
    pub fn enter_quick(platform: &'a P) -> Option<Local<'a, P>> {
        let (cpu, section) = platform.enter_quick()?;
        Some(Local {
            cpu,
            platform,
            held: Cell::new(0),
            section,
            _not_send: PhantomData,
        })
    }

    /// Enters in place of another CPU, which is kept out until the result is dropped. `None` where
    /// the platform cannot do that, or when we are inside a section ourselves.
    pub fn enter_remote(platform: &'a P, cpu: CpuId) -> Option<Local<'a, P>> {
        let section = platform.enter_remote(cpu)?;
        Some(Local {
            cpu,
            platform,
            held: Cell::new(0),
            section,
            _not_send: PhantomData,
        })
    }

    /// Leaves, as dropping does, by way of [`Platform::leave`].
    #[inline(always)]
    pub fn leave(self) {
        P::leave(self.section);
    }

    /// The CPU whose private state this is.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// The platform.
    #[inline]
    pub fn platform(&self) -> &'a P {
        self.platform
    }

    /// Ranks held, one bit a rank (debug builds only).
    #[inline]
    pub(super) fn held(&self) -> &Cell<u32> {
        &self.held
    }
}
