//! A cell that a protocol of atomics guards: the model checker's, or core's with the same face.

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;

/// [`core::cell::UnsafeCell`] with the face of loom's.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    /// Looks at the content; what may be done with the pointer is the protocol's matter.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(*const T) -> R) -> R {
        work(self.0.get())
    }

    /// Works on the content; what may be done with the pointer is the protocol's matter.
    #[inline]
    pub(crate) fn with_mut<R>(&self, work: impl FnOnce(*mut T) -> R) -> R {
        work(self.0.get())
    }
}
