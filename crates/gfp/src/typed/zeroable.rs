//! Types for which zeroed memory is a value.

use core::cell::{Cell, UnsafeCell};
use core::marker::{PhantomData, PhantomPinned};
use core::mem::{ManuallyDrop, MaybeUninit};
use core::num::Wrapping;
use core::ptr::NonNull;

/// Types of which a value is made by zeroing its memory: what `kzalloc_obj` gives without more.
///
/// # Safety
/// All bytes zero is a valid value of the type.
pub unsafe trait Zeroable {}

macro_rules! zeroable {
    ($($(#[$why:meta])* [$($generics:tt)*] $type:ty;)*) => {$(
        $(#[$why])*
        // SAFETY: zeroes are a number, null, `None` of a type that has no zero, or nothing at all;
        // of what holds values, these are such in turn.
        unsafe impl<$($generics)*> Zeroable for $type {}
    )*};
}
zeroable! {
    [] u8; [] u16; [] u32; [] u64; [] u128; [] usize;
    [] i8; [] i16; [] i32; [] i64; [] i128; [] isize;
    [] f32; [] f64; [] bool; [] char; [] ();
    [T] *const T; [T] *mut T;
    [T] Option<NonNull<T>>; [T] Option<&T>; [T] Option<&mut T>;
    [T: Zeroable, const N: usize] [T; N];
    [T: Zeroable] [T];
    [T: Zeroable + ?Sized] Cell<T>; [T: Zeroable + ?Sized] UnsafeCell<T>;
    [T: Zeroable + ?Sized] ManuallyDrop<T>; [T: Zeroable] Wrapping<T>;
    [T] MaybeUninit<T>;
    [T: ?Sized] PhantomData<T>; [] PhantomPinned;
    [A: Zeroable, B: Zeroable] (A, B);
    [A: Zeroable, B: Zeroable, C: Zeroable] (A, B, C);
    [A: Zeroable, B: Zeroable, C: Zeroable, D: Zeroable] (A, B, C, D);
    [] core::sync::atomic::AtomicBool;
    [] core::sync::atomic::AtomicU8; [] core::sync::atomic::AtomicI8;
    [] core::sync::atomic::AtomicU16; [] core::sync::atomic::AtomicI16;
    [] core::sync::atomic::AtomicU32; [] core::sync::atomic::AtomicI32;
    [] core::sync::atomic::AtomicU64; [] core::sync::atomic::AtomicI64;
    [] core::sync::atomic::AtomicUsize; [] core::sync::atomic::AtomicIsize;
    [T] core::sync::atomic::AtomicPtr<T>;
}
