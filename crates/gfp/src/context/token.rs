//! Tokens: where the code runs.

use super::rights::{IsTask, MayEnterFs, MaySleep, MaySpin, MayStartIo};
use super::sealed::Sealed;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOIO, Gfp};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// Where the code runs. Made by [`InTask::assume`] and its like, passed on by reference.
pub trait Token: Sealed {
    /// What the scopes around forbid.
    type Scope: Scope;
    /// What [`Usual`](super::Usual) means here.
    const USUAL: Gfp;
}

/// What scopes around a task forbid to its reclaim.
pub trait Scope: Sealed {
    /// Inside [`InTask::nofs`] as well.
    type InNoFs: Scope;
    /// What [`Usual`](super::Usual) means for a task here.
    const USUAL: Gfp;
}

/// No scope: reclaim may do anything.
#[derive(Debug)]
pub enum Free {}
/// Inside [`InTask::nofs`]: reclaim stays out of file systems (P34, P35, P151).
#[derive(Debug)]
pub enum NoFs {}
/// Inside [`InTask::noio`]: reclaim starts no I/O, and stays out of file systems.
#[derive(Debug)]
pub enum NoIo {}

macro_rules! scopes {
    ($($scope:ident: nofs $nofs:ident, usual $usual:ident;)*) => {$(
        impl Sealed for $scope {}
        impl Scope for $scope {
            type InNoFs = $nofs;
            const USUAL: Gfp = $usual;
        }
    )*};
}
scopes! {
    Free: nofs NoFs, usual GFP_KERNEL;
    NoFs: nofs NoFs, usual GFP_NOFS;
    NoIo: nofs NoIo, usual GFP_NOIO;
}
impl MayEnterFs for Free {}
impl MayStartIo for Free {}
impl MayStartIo for NoFs {}

/// Neither `Send` nor `Sync`: a context is that of one CPU or thread.
type Here = PhantomData<*mut ()>;

/// A task that may sleep; `S` is what the scopes around it forbid.
#[derive(Debug)]
pub struct InTask<S: Scope = Free>(Here, PhantomData<S>);

impl<S: Scope> Sealed for InTask<S> {}
impl<S: Scope> Token for InTask<S> {
    type Scope = S;
    const USUAL: Gfp = S::USUAL;
}
impl<S: Scope> MaySleep for InTask<S> {}
impl<S: Scope> MaySpin for InTask<S> {}
impl<S: Scope> IsTask for InTask<S> {}

impl InTask {
    /// A task's token.
    ///
    /// # Safety
    /// As long as the token can be used the code runs in a task that may sleep, in no scope.
    #[inline(always)]
    pub const unsafe fn assume() -> InTask {
        InTask(PhantomData, PhantomData)
    }
}

impl<S: Scope> InTask<S> {
    #[inline(always)]
    const fn narrowed() -> InTask<S> {
        InTask(PhantomData, PhantomData)
    }

    /// Runs `f` where reclaim must not call into file systems: a file system that holds its own
    /// locks. Inside, [`Kernel`](super::Kernel) does not compile, and this token is lent out.
    #[inline(always)]
    pub fn nofs<R>(&mut self, f: impl FnOnce(&mut InTask<S::InNoFs>) -> R) -> R {
        f(&mut InTask::narrowed())
    }

    /// Runs `f` where reclaim must not start I/O: a block driver on its way to the disk. Inside,
    /// [`Kernel`](super::Kernel) and [`Nofs`](super::Nofs) do not compile.
    #[inline(always)]
    pub fn noio<R>(&mut self, f: impl FnOnce(&mut InTask<NoIo>) -> R) -> R {
        f(&mut InTask::narrowed())
    }

    /// Runs `f` where nothing may sleep: preemption or interrupts are off.
    #[inline(always)]
    pub fn without_sleep<R>(&mut self, f: impl FnOnce(&InAtomic) -> R) -> R {
        f(&InAtomic(PhantomData))
    }

    /// Keeps the guard of a lock under which nothing may sleep. Until it is dropped this token is
    /// lent out, and [`Holding::atomic`] stands for it.
    #[inline(always)]
    pub fn holding<G>(&mut self, guard: G) -> Holding<'_, G> {
        Holding {
            guard,
            atomic: InAtomic(PhantomData),
            task: PhantomData,
        }
    }
}

/// A guard, and the right to sleep that it took away ([`InTask::holding`]).
#[derive(Debug)]
pub struct Holding<'t, G> {
    guard: G,
    atomic: InAtomic,
    task: PhantomData<&'t mut ()>,
}

impl<G> Holding<'_, G> {
    /// The context while the lock is held.
    #[inline(always)]
    pub fn atomic(&self) -> &InAtomic {
        &self.atomic
    }
}

impl<G> Deref for Holding<'_, G> {
    type Target = G;
    #[inline(always)]
    fn deref(&self) -> &G {
        &self.guard
    }
}

impl<G> DerefMut for Holding<'_, G> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut G {
        &mut self.guard
    }
}

macro_rules! sleepless {
    ($($(#[$doc:meta])* $token:ident: $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $token(Here);

        impl $token {
            #[doc = concat!("The token of ", $what, ".")]
            ///
            /// # Safety
            #[doc = concat!("As long as the token can be used the code runs in ", $what, ".")]
            #[inline(always)]
            pub const unsafe fn assume() -> $token {
                $token(PhantomData)
            }
        }

        impl Sealed for $token {}
        impl Token for $token {
            type Scope = Free;
            const USUAL: Gfp = GFP_ATOMIC;
        }
    )*};
}
sleepless! {
    /// A task that must not sleep: a spin lock is held, preemption or interrupts are off.
    InAtomic: "a task that must not sleep";
    /// A deferred interrupt.
    InSoftIrq: "a softirq";
    /// A hardware interrupt.
    InHardIrq: "a hardware interrupt";
    /// An interrupt that can come at any instruction; in a process a signal handler. It has the
    /// no-lock calls only.
    InNmi: "an NMI";
}
impl MaySpin for InAtomic {}
impl IsTask for InAtomic {}
impl MaySpin for InSoftIrq {}
impl MaySpin for InHardIrq {}

const _: () = assert!(size_of::<InTask>() + size_of::<InTask<NoFs>>() == 0);
const _: () = assert!(size_of::<InAtomic>() + size_of::<Holding<'_, ()>>() == 0);
