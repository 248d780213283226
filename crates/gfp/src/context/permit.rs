//! Tokens as permits of containers.

use super::class::AllowedIn;
use super::rights::{IsTask, MaySpin, TriesBoth};
use super::token::Token;
use crate::flags::Gfp;
use crate::owned::{KVmalloc, Kmalloc, Permit, Vmalloc};

macro_rules! permits {
    ($($source:ident: $($token:ident)+, $class:path;)*) => {$(
        impl<T: MaySpin $(+ $token)+> Permit<$source> for &T {
            #[inline(always)]
            fn gfp(self) -> Gfp {
                T::USUAL
            }
        }

        impl<T: MaySpin $(+ $token)+, C: AllowedIn<T> + $class> Permit<$source> for (&T, C) {
            #[inline(always)]
            fn gfp(self) -> Gfp {
                C::GFP
            }
        }
    )*};
}
permits! {
    Kmalloc: Token, super::Class;
    Vmalloc: IsTask, super::Class;
    KVmalloc: IsTask, TriesBoth;
}
