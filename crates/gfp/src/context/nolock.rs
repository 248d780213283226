//! The typed calls that wait for nobody: all that an NMI has.

use super::calls::With;
use super::class::{Accounted, Class, Zeroed};
use super::sealed::Sealed;
use super::token::Token;
use crate::flags::Gfp;
use crate::frame::Pfn;
use crate::platform::Platform;
use core::ptr::NonNull;

/// The class of the calls that wait for nobody. No other call takes it.
#[derive(Copy, Clone, Debug, Default)]
pub struct Nolock;

impl Sealed for Nolock {}
impl Class for Nolock {}

/// Classes that the calls take that wait for nobody (P170, S36).
#[diagnostic::on_unimplemented(
    message = "`{Self}` says how to wait or try, and this call waits for nobody",
    label = "not a class of a no-lock call",
    note = "use `Nolock`, with `zeroed()` or `account()` if that is wanted"
)]
pub trait WaitsForNobody: Class {
    /// The flag word that the request is made with.
    const GFP: Gfp;
}

impl WaitsForNobody for Nolock {
    const GFP: Gfp = Gfp::NONE;
}

impl<C: WaitsForNobody> WaitsForNobody for Zeroed<C> {
    const GFP: Gfp = C::GFP.with(Gfp::ZERO);
}

impl<C: WaitsForNobody> WaitsForNobody for Accounted<C> {
    const GFP: Gfp = C::GFP.with(Gfp::ACCOUNT);
}

impl<P: Platform, T: Token> With<'_, '_, P, T> {
    /// [`Mm::kmalloc_nolock`](crate::Mm::kmalloc_nolock): at most 8 KiB; `None` is normal.
    #[inline(always)]
    pub fn kmalloc_nolock<C: WaitsForNobody>(self, size: usize, _: C) -> Option<NonNull<u8>> {
        self.mm.kmalloc_nolock(size, C::GFP, None)
    }

    /// [`Mm::alloc_pages_nolock`](crate::Mm::alloc_pages_nolock): zeroed pages of an order that
    /// CPUs cache; `None` is normal.
    #[inline(always)]
    pub fn alloc_pages_nolock<C: WaitsForNobody>(self, _: C, order: u8) -> Option<Pfn> {
        // They are zeroed anyhow, and the call does not take the word.
        let gfp = C::GFP.without(Gfp::ZERO);
        self.mm.alloc_pages_nolock(gfp, None, order)
    }
}
