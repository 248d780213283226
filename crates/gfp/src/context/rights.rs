//! Rights: the traits whose absence is the error. Each message names the fix.

use super::class::{Accounted, AllowedIn, Atomic, Class, Kernel, Nofs, Noio, Nowait, Quiet};
use super::class::{RetryMayfail, Usual, Zeroed};
use super::sealed::Sealed;
use super::token::Token;

/// Contexts that may be put to sleep (P154).
#[diagnostic::on_unimplemented(
    message = "`{Self}` must not sleep, and this request may",
    label = "may sleep here",
    note = "use the class `Atomic` (it may take from the reserves), `Nowait` or `Usual`, and \
        handle failure",
    note = "or allocate before the lock is taken, or in a task, where an `InTask` is at hand"
)]
pub trait MaySleep: Token {}

/// Contexts that may wait for a lock: all but an NMI.
#[diagnostic::on_unimplemented(
    message = "`{Self}` must not wait for a lock, and this call may",
    label = "may take a lock here",
    note = "use `kmalloc_nolock` or `alloc_pages_nolock` with the class `Nolock`, and handle \
        `None`",
    note = "or allocate in advance, in a task"
)]
pub trait MaySpin: Token {}

/// Tasks, whether they may sleep or not: what `vmalloc` needs (V4).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no task, and page tables are changed by tasks only",
    label = "needs a task",
    note = "use `kmalloc` here, or make the area in a task, before the interrupt comes"
)]
pub trait IsTask: Token {}

/// Scopes in which reclaim may call into file systems (P8).
#[diagnostic::on_unimplemented(
    message = "in a `{Self}` scope reclaim must stay out of file systems, and this class lets \
        it in",
    label = "may call into file systems",
    note = "use the class `Usual`; or `Nofs` in `nofs`, `Noio` in `noio`"
)]
pub trait MayEnterFs: super::Scope {}

/// Scopes in which reclaim may start I/O (P7).
#[diagnostic::on_unimplemented(
    message = "in a `{Self}` scope reclaim must not start I/O, and this class lets it",
    label = "may start I/O",
    note = "use the class `Noio` or `Usual`"
)]
pub trait MayStartIo: super::Scope {}

/// Classes to which one of `noretry()` and `retry_mayfail()` can be added (P51).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no effort left to choose",
    label = "neither `noretry()` nor `retry_mayfail()` fits here",
    note = "a class that never sleeps does not retry: leave the word out, or begin with \
        `Kernel`, `Nofs` or `Noio`",
    note = "if one of the two words is there already, keep just that one"
)]
pub trait ChoosesEffort: Class {}

/// Classes that can be served without fail in the context `T` (P49, P51).
#[diagnostic::on_unimplemented(
    message = "`{Self}` may give up, so it cannot promise memory",
    label = "cannot be NOFAIL",
    note = "use `Kernel`, `Nofs`, `Noio` or `Usual` without `noretry()` or `retry_mayfail()`; \
        or the call without `_nofail`, and handle its error"
)]
pub trait Unfailing<T: Token>: AllowedIn<T> {}

/// Classes that `kvmalloc` takes (V31).
#[diagnostic::on_unimplemented(
    message = "`{Self}` means nothing to kvmalloc: its first leg never retries, its second \
        asks for single pages",
    label = "kvmalloc does not take `noretry()`",
    note = "leave `noretry()` out; or use `retry_mayfail()` if contiguous memory is worth reclaim"
)]
pub trait TriesBoth: Class {}

/// The order of a block, as a type.
#[derive(Debug)]
pub enum Pages<const ORDER: u8> {}

/// Orders that can be served without fail: one and two pages (P50).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is too large to be promised: NOFAIL serves the orders 0 and 1",
    label = "more than two pages",
    note = "use `alloc_pages` and handle its error; or `kvmalloc`, which needs no contiguous pages"
)]
pub trait Promised: Sealed {}

impl<const ORDER: u8> Sealed for Pages<ORDER> {}
impl Promised for Pages<0> {}
impl Promised for Pages<1> {}

impl ChoosesEffort for Kernel {}
impl ChoosesEffort for Nofs {}
impl ChoosesEffort for Noio {}
impl ChoosesEffort for Usual {}
impl<C: ChoosesEffort> ChoosesEffort for Zeroed<C> {}
impl<C: ChoosesEffort> ChoosesEffort for Accounted<C> {}
impl<C: ChoosesEffort> ChoosesEffort for Quiet<C> {}

impl<T: Token> Unfailing<T> for Kernel where Kernel: AllowedIn<T> {}
impl<T: Token> Unfailing<T> for Nofs where Nofs: AllowedIn<T> {}
impl<T: Token> Unfailing<T> for Noio where Noio: AllowedIn<T> {}
impl<T: MaySleep + MaySpin> Unfailing<T> for Usual {}
impl<T: Token, C: Unfailing<T>> Unfailing<T> for Zeroed<C> {}
impl<T: Token, C: Unfailing<T>> Unfailing<T> for Accounted<C> {}
impl<T: Token, C: Unfailing<T>> Unfailing<T> for Quiet<C> {}

impl TriesBoth for Kernel {}
impl TriesBoth for Nofs {}
impl TriesBoth for Noio {}
impl TriesBoth for Usual {}
impl TriesBoth for Atomic {}
impl TriesBoth for Nowait {}
impl<C: TriesBoth> TriesBoth for RetryMayfail<C> {}
impl<C: TriesBoth> TriesBoth for Zeroed<C> {}
impl<C: TriesBoth> TriesBoth for Accounted<C> {}
impl<C: TriesBoth> TriesBoth for Quiet<C> {}
