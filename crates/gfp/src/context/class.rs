//! Classes: how hard to try, as a type.

use super::rights::{ChoosesEffort, MayEnterFs, MaySleep, MaySpin, MayStartIo};
use super::sealed::Sealed;
use super::token::Token;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_NOWAIT, Gfp};

/// How hard to try, and what else is asked. Plain values of size 0.
pub trait Class: Copy + Sealed {
    /// The memory reads as zero (P9).
    #[inline(always)]
    fn zeroed(self) -> Zeroed<Self> {
        Zeroed(self)
    }

    /// The memory is charged to the current group (P23).
    #[inline(always)]
    fn account(self) -> Accounted<Self> {
        Accounted(self)
    }

    /// A failure is not reported (P14).
    #[inline(always)]
    fn quiet(self) -> Quiet<Self> {
        Quiet(self)
    }

    /// One light attempt, never an OOM kill (P17).
    #[inline(always)]
    fn noretry(self) -> Noretry<Self>
    where
        Self: ChoosesEffort,
    {
        Noretry(self)
    }

    /// Tries hard, never an OOM kill, may fail (P15).
    #[inline(always)]
    fn retry_mayfail(self) -> RetryMayfail<Self>
    where
        Self: ChoosesEffort,
    {
        RetryMayfail(self)
    }
}

/// Classes that the context `T` permits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no class that `{T}` permits",
    label = "not a class of this context",
    note = "use `Usual`, or one of `Kernel`, `Nofs`, `Noio`, `Atomic`, `Nowait`; for a `Gfp` \
        word, the call of `Mm` itself"
)]
pub trait AllowedIn<T: Token>: Class {
    /// The flag word that the request is made with.
    const GFP: Gfp;
}

/// What the context usually asks with: [`Kernel`] for a task, [`Nofs`] and [`Noio`] in their
/// scopes, [`Atomic`] where nothing may sleep.
#[derive(Copy, Clone, Debug, Default)]
pub struct Usual;

/// [`GFP_KERNEL`]: the usual choice of a task.
#[derive(Copy, Clone, Debug, Default)]
pub struct Kernel;

/// [`GFP_NOFS`]: reclaim stays out of file systems.
#[derive(Copy, Clone, Debug, Default)]
pub struct Nofs;

/// [`GFP_NOIO`]: reclaim starts no I/O.
#[derive(Copy, Clone, Debug, Default)]
pub struct Noio;

/// [`GFP_ATOMIC`]: never sleeps, may take from the reserves.
#[derive(Copy, Clone, Debug, Default)]
pub struct Atomic;

/// [`GFP_NOWAIT`]: never sleeps, fails silently.
#[derive(Copy, Clone, Debug, Default)]
pub struct Nowait;

impl Sealed for Usual {}
impl Sealed for Kernel {}
impl Sealed for Nofs {}
impl Sealed for Noio {}
impl Sealed for Atomic {}
impl Sealed for Nowait {}
impl Class for Usual {}
impl Class for Kernel {}
impl Class for Nofs {}
impl Class for Noio {}
impl Class for Atomic {}
impl Class for Nowait {}

impl<T: MaySpin> AllowedIn<T> for Usual {
    const GFP: Gfp = T::USUAL;
}

impl<T: MaySleep> AllowedIn<T> for Kernel
where
    T::Scope: MayEnterFs,
{
    const GFP: Gfp = GFP_KERNEL;
}

impl<T: MaySleep> AllowedIn<T> for Nofs
where
    T::Scope: MayStartIo,
{
    const GFP: Gfp = GFP_NOFS;
}

impl<T: MaySleep> AllowedIn<T> for Noio {
    const GFP: Gfp = GFP_NOIO;
}

impl<T: MaySpin> AllowedIn<T> for Atomic {
    const GFP: Gfp = GFP_ATOMIC;
}

impl<T: MaySpin> AllowedIn<T> for Nowait {
    const GFP: Gfp = GFP_NOWAIT;
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident adds $bit:ident, in $right:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, Debug)]
        pub struct $name<C>(C);

        impl<C> Sealed for $name<C> {}
        impl<C: Class> Class for $name<C> {}
        impl<T: $right, C: AllowedIn<T>> AllowedIn<T> for $name<C> {
            const GFP: Gfp = C::GFP.with(Gfp::$bit);
        }
    )*};
}
words! {
    /// [`Class::zeroed`].
    Zeroed adds ZERO, in Token;
    /// [`Class::account`].
    Accounted adds ACCOUNT, in Token;
    /// [`Class::quiet`].
    Quiet adds NOWARN, in Token;
    /// [`Class::noretry`]. Only where the caller may sleep: others never retry.
    Noretry adds NORETRY, in MaySleep;
    /// [`Class::retry_mayfail`]. Only where the caller may sleep: others never retry.
    RetryMayfail adds RETRY_MAYFAIL, in MaySleep;
}

const _: () = assert!(size_of::<Zeroed<Noretry<Quiet<Kernel>>>>() == 0);
