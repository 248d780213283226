//! Contexts as types: what a caller may do is a token, and a request that its context forbids does
//! not compile.
//!
//! 1. **Tokens** say where the code runs: [`InTask`], [`InAtomic`], [`InSoftIrq`], [`InHardIrq`],
//!    [`InNmi`], named after Linux's questions `in_task()` and so on. They have size 0, stay on
//!    their thread and cannot be copied. An entry point makes one ([`InTask::assume`]), or the
//!    platform is asked ([`Mm::in_task`]); all other code passes it on by reference.
//! 2. **Narrowing.** [`InTask::nofs`] and [`InTask::noio`] lend a token that promises less;
//!    [`InTask::holding`] and [`InTask::without_sleep`] lend one that must not sleep. All borrow
//!    the wider token exclusively, so that it cannot be used until they are over: the borrow
//!    checker keeps the scopes.
//! 3. **Classes** say how hard to try: [`Kernel`], [`Nofs`], [`Noio`], [`Atomic`], [`Nowait`], or
//!    [`Usual`], which the context fills in. Words are added by methods of [`Class`]: `zeroed()`,
//!    `account()`, `quiet()`, and one of `noretry()` and `retry_mayfail()`. The flag word is a
//!    constant of the pair ([`AllowedIn::GFP`]).
//! 4. **Calls** are those of [`Mm::with`]. Each has the untyped call's name and hands it that
//!    constant: the instructions are the same. Calls that never fail return no `Result`, and exist
//!    only for what may sleep and is at most two pages. The no-lock calls take [`Nolock`], and are
//!    all that an NMI has.
//!    Containers ([`owned`](crate::owned)) take a token, or a token with a class, as their permit.
//! 5. **Rights** ([`rights`]) are the traits behind the errors; their messages name the fix.
//! 6. **What is not here.** A token narrows typed calls. Untyped calls made below, with a [`Gfp`]
//!    word, do not see it; [`Mm::nofs`] and [`Mm::noio`] open the run-time scope as well. No memory
//!    safety of this library rests on tokens: a wrong one leads to what a wrong flag leads to, a
//!    wait or an error.
//!
//! ```
//! use gfp::context::{Atomic, Class, InTask, Kernel, Nofs, Usual};
//! # use gfp::flags::GFP_KERNEL;
//! # use gfp::frame::{NodeId, PhysAddr};
//! # use gfp::page::{BootConfig, MemoryRegion, RegionKind};
//! # use gfp::platform::{DirectMap, SingleCore};
//! # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
//! # let ram = unsafe { std::alloc::alloc(layout) };
//! # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
//! # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
//! # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
//! # let mm = gfp::Mm::boot(platform, &map, &BootConfig::default())?;
//! let mut task = mm.in_task().ok_or("main is a task")?;
//!
//! let number = mm.with(&task).kmalloc_obj(5u64, Kernel)?; // freed when dropped
//! assert_eq!(*number, 5);
//! let page = mm.with(&task).alloc_pages_nofail::<0, _>(Usual); // no Result to handle
//! # unsafe { mm.free_frames(page, 0) };
//!
//! task.nofs(|task| {
//!     // `Kernel` does not compile in here.
//!     mm.with(task).kmalloc_obj([0u8; 64], Nofs.noretry()).map(drop)
//! })?;
//!
//! let lock = std::sync::Mutex::new(0); // stands for a spin lock
//! let held = task.holding(lock.lock().unwrap());
//! let urgent = mm.with(held.atomic()).kmalloc_obj(1u8, Atomic.quiet())?;
//! drop(held); // until here `task` is lent out: nothing that sleeps compiles
//! # drop((number, urgent));
//! # drop(mm);
//! # unsafe { std::alloc::dealloc(ram, layout) };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Gfp`]: crate::flags::Gfp

mod areas;
mod calls;
mod class;
mod nolock;
mod objs;
mod permit;
pub mod rights;
#[cfg(test)]
mod tests;
mod token;

pub use calls::With;
pub use class::{
    Accounted, AllowedIn, Atomic, Class, Kernel, Nofs, Noio, Noretry, Nowait, Quiet, RetryMayfail,
    Usual, Zeroed,
};
pub use nolock::{Nolock, WaitsForNobody};
pub use token::{
    Free, Holding, InAtomic, InHardIrq, InNmi, InSoftIrq, InTask, NoFs, NoIo, Scope, Token,
};

use crate::mm::Mm;
use crate::platform::{Context, Platform, Reason, ScopeError};
use crate::policy::effort::Scopes;

impl<P: Platform> Mm<P> {
    /// The calls that the context of `token` permits.
    #[inline(always)]
    pub fn with<'m, 't, T: Token>(&'m self, token: &'t T) -> With<'m, 't, P, T> {
        With::new(self, token)
    }

    /// A token, if the platform says that the caller is a task that may sleep now, and no scope is
    /// open that forbids it file systems, I/O or reclaim. Ask once, where the code begins, and pass
    /// the token on: it does not learn of locks that are taken without [`InTask::holding`], nor of
    /// scopes that are opened without a token.
    pub fn in_task(&self) -> Option<InTask> {
        let narrowed = [Scopes::NOFS, Scopes::NOIO, Scopes::NORECLAIM];
        let open = self.scopes().scopes();
        let free = !narrowed.into_iter().any(|scope| open.contains(scope));
        // SAFETY: the platform says so.
        let task = || unsafe { InTask::assume() };
        (self.platform().context() == Context::Task && free).then(task)
    }

    /// [`InTask::nofs`] that untyped calls below obey too: [`Mm::scope_nofs`] is open around `f`.
    ///
    /// # Errors
    /// [`ScopeError`]: the platform keeps no scopes for its tasks; `f` was not run.
    pub fn nofs<S: Scope, R>(
        &self,
        task: &mut InTask<S>,
        reason: Reason,
        f: impl FnOnce(&mut InTask<S::InNoFs>) -> R,
    ) -> Result<R, ScopeError> {
        let _open = self.scope_nofs(reason)?;
        Ok(task.nofs(f))
    }

    /// [`InTask::noio`] that untyped calls below obey too: [`Mm::scope_noio`] is open around `f`.
    ///
    /// # Errors
    /// As [`Mm::nofs`].
    pub fn noio<S: Scope, R>(
        &self,
        task: &mut InTask<S>,
        reason: Reason,
        f: impl FnOnce(&mut InTask<NoIo>) -> R,
    ) -> Result<R, ScopeError> {
        let _open = self.scope_noio(reason)?;
        Ok(task.noio(f))
    }
}

/// What keeps others from adding tokens and classes: their bounds are what the messages rely on.
mod sealed {
    /// A token, scope, class or order of this library.
    pub trait Sealed {}
}
