//! How hard to try.

use crate::flags::Gfp;

/// Says how hard a container may try to get memory from the source `K`.
///  A [`Gfp`] word; a reference to a token, which asks with what is
/// [`Usual`](crate::context::Usual) in its context; a token with a class: `(&task, Kernel)`.
/// Tokens permit what the calls of [`Mm::with`](crate::Mm::with) do. `ZERO` is left out: what a
/// container gives is initialised.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not permit a container to allocate from `{K}`",
    label = "no permission to allocate",
    note = "give a `Gfp` word such as `GFP_KERNEL`; a token, `&task`; or a token with a class of \
        its context, `(&task, Kernel)`",
    note = "an NMI allocates in advance; only tasks take memory from `Vmalloc` and `KVmalloc`"
)]
pub trait Permit<K> {
    /// The flag word of the request.
    fn gfp(self) -> Gfp;
}

impl<K> Permit<K> for Gfp {
    #[inline(always)]
    fn gfp(self) -> Gfp {
        self
    }
}
