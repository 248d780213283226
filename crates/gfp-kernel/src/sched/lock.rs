//! A spin lock with interrupts off: for what interrupt handlers touch too.

use crate::arch::cpu::IrqOff;
use crate::arch::percpu;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};

/// A value that one context at a time may touch. Who holds it has interrupts off, so it is neither
/// interrupted nor preempted, and nobody waits for a holder that does not run.
///
/// Context: any but an NMI, which could wait for who it interrupted.
pub struct IrqLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: [INV-SCHED-1] `value` is reached only by the one who set `taken`.
unsafe impl<T: Send> Sync for IrqLock<T> {}

impl<T> IrqLock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> IrqLock<T> {
        IrqLock {
            taken: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock, spinning.
    ///
    /// # Panics
    /// In debug builds, in an NMI.
    #[inline]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let off = IrqOff::new();
        count_lock(1);
        // Acquire: pairs with the Release in `unlock`.
        while self.taken.swap(true, Ordering::Acquire) {
            while self.taken.load(Relaxed) {
                core::hint::spin_loop();
            }
        }
        IrqGuard { lock: self, off }
    }

    /// Takes the lock if it is free, also in an NMI.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let off = IrqOff::new();
        // Acquire: pairs with the Release in `unlock`.
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let this = percpu::this();
        this.locks.store(this.locks.load(Relaxed) + 1, Relaxed);
        Some(IrqGuard { lock: self, off })
    }

    fn unlock(&self) {
        // Release: pairs with the Acquire in `lock`.
        self.taken.store(false, Ordering::Release);
        let this = percpu::this();
        this.locks.store(this.locks.load(Relaxed) - 1, Relaxed);
    }

    /// Unlocks what [`IrqGuard::hand_over`] left locked.
    ///
    /// # Safety
    /// A guard was handed over on this CPU, to the caller; interrupts are off.
    pub(super) unsafe fn accept(&self) {
        self.unlock();
    }
}

#[inline]
fn count_lock(n: u32) {
    let this = percpu::this();
    debug_assert_eq!(this.nmi_depth.load(Relaxed), 0, "an NMI takes no locks");
    this.locks.store(this.locks.load(Relaxed) + n, Relaxed);
}

/// Holds an [`IrqLock`]; dropping it unlocks, then restores interrupts. By its [`IrqOff`] neither
/// `Send` nor `Sync`.
pub struct IrqGuard<'l, T> {
    lock: &'l IrqLock<T>,
    off: IrqOff,
}

impl<T> IrqGuard<'_, T> {
    /// True if interrupts were on before.
    pub(super) fn were_on(&self) -> bool {
        self.off.were_on()
    }

    /// Leaves the lock taken: whoever runs next on this CPU unlocks it by [`IrqLock::accept`].
    pub(super) fn hand_over(self) -> IrqOff {
        let guard = core::mem::ManuallyDrop::new(self);
        // SAFETY: [INV-SCHED-1] moved out once: the guard is not dropped.
        unsafe { core::ptr::read(&guard.off) }
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: [INV-SCHED-1] we hold the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: [INV-SCHED-1] we hold the lock, and `self` is borrowed for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for IrqGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.unlock();
    }
}

/// Guards stay where they were made: ambiguous, so an error, for one that is `Send` or `Sync`.
const _: () = {
    trait UnlessSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> UnlessSend<()> for T {}
    impl<T: ?Sized + Send> UnlessSend<u8> for T {}
    trait UnlessSync<A> {
        fn check() {}
    }
    impl<T: ?Sized> UnlessSync<()> for T {}
    impl<T: ?Sized + Sync> UnlessSync<u8> for T {}
    let _ = <IrqOff as UnlessSend<_>>::check;
    let _ = <percpu::PreemptOff as UnlessSend<_>>::check;
    let _ = <IrqGuard<'static, u8> as UnlessSend<_>>::check;
    let _ = <IrqGuard<'static, u8> as UnlessSync<_>>::check;
    let _ = <super::MutexGuard<'static, core::cell::Cell<u8>> as UnlessSync<_>>::check;
};
