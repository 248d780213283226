//! Who misused what: every refused free is reported here, with its owner and its caller.

use super::Mm;
use crate::frame::{FrameKind, Order};
use crate::platform::Platform;
use crate::report::{Caller, Misuse, Owner, Report};
use crate::slab::CacheName;

impl<P: Platform> Mm<P> {
    /// Shows the owner of the memory at an address to `f`.
    pub fn with_owner_of<R>(&self, addr: usize, f: impl FnOnce(Owner<'_>) -> R) -> R {
        if let Some(area) = self.vm.describe(addr) {
            return f(area);
        }
        let mut name = CacheName::EMPTY;
        match self.slabs().describe(addr, &mut name) {
            Some(object) => f(object),
            None => f(self.pages().owner_of(self.pages().pfn_of(addr))),
        }
    }

    /// Reports a misuse by the policy of the machine.
    ///
    /// # Panics
    /// If the policy says so ([`OnMisuse::Panic`](crate::report::OnMisuse::Panic)).
    #[cold]
    pub fn complain(&self, misuse: Misuse, addr: usize, caller: Caller) {
        self.with_owner_of(addr, |owner| {
            self.pages().complain(&Report {
                misuse,
                addr,
                owner,
                caller,
            });
        });
    }

    /// Reports the misuse of a result, if it is one. True if it was none.
    #[inline]
    pub(super) fn freed(&self, result: Result<(), Misuse>, addr: usize, caller: Caller) -> bool {
        match result {
            Ok(()) => true,
            Err(misuse) => {
                self.complain(misuse, addr, caller);
                false
            }
        }
    }

    /// The order of the block of pages that starts at an address, for faces that get only
    /// addresses.
    pub fn order_of(&self, addr: usize) -> Option<Order> {
        let pfn = self.pages().pfn_of(addr);
        let word = self.pages().frames().get(pfn);
        let kinds = [FrameKind::Page, FrameKind::Compound, FrameKind::Movable];
        let page = kinds.into_iter().any(|kind| word.is(kind));
        page.then(|| word.order())
    }
}
