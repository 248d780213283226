//! Scopes: what a stretch of code takes away from all its requests (P150-P152).

use core::fmt;

use crate::flags::Gfp;

/// P150: the scopes that are in force for a task, as a set.
///
/// A scope is opened with [`Scopes::save`] and closed with [`Scopes::restore`], last opened first
/// closed. The value is plain data: a copy taken when work is handed to another task is the
/// snapshot that travels with it.
///
/// ```
/// use gfp::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOIO};
/// use gfp::policy::effort::Scopes;
/// let mut scopes = Scopes::NONE;
/// let outer = scopes.save(Scopes::NOIO);
/// let inner = scopes.save(Scopes::NOFS);
/// assert_eq!(scopes.apply(GFP_KERNEL), GFP_NOIO);
/// scopes.restore(inner);
/// scopes.restore(outer);
/// assert_eq!(scopes.apply(GFP_KERNEL), GFP_KERNEL);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

/// What [`Scopes::save`] newly set: give it back to [`Scopes::restore`] (P151).
#[must_use = "the scope stays open until this is restored"]
#[derive(Debug, PartialEq, Eq)]
pub struct Saved(Scopes);

impl Scopes {
    /// No scope is open.
    pub const NONE: Scopes = Scopes(0);
    /// Reclaim starts no I/O, and so does not enter file systems either.
    pub const NOIO: Scopes = Scopes(1);
    /// Reclaim does not call into file systems.
    pub const NOFS: Scopes = Scopes(2);
    /// The task frees memory itself (`PF_MEMALLOC`): its requests ignore watermarks and do not
    /// reclaim.
    pub const NORECLAIM: Scopes = Scopes(4);
    /// What is allocated will be pinned for long: it must not be in movable memory.
    pub const PIN: Scopes = Scopes(8);

    /// The single scopes with their names.
    pub const NAMED: [(&'static str, Scopes); 4] = [
        ("noio", Self::NOIO),
        ("nofs", Self::NOFS),
        ("noreclaim", Self::NORECLAIM),
        ("pin", Self::PIN),
    ];

    /// All bits of a set, for who keeps it in a word of its own.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; bits that are no scope are dropped.
    #[inline]
    pub const fn from_bits(bits: u8) -> Scopes {
        Scopes(bits & (Self::NOIO.0 | Self::NOFS.0 | Self::NORECLAIM.0 | Self::PIN.0))
    }

    /// All scopes of either set.
    #[inline]
    pub const fn with(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// All scopes of `other` are open.
    #[inline]
    pub const fn contains(self, other: Scopes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Opens scopes. Returns exactly those that were not open before (P151).
    #[inline]
    pub const fn save(&mut self, open: Scopes) -> Saved {
        let newly = Scopes(open.0 & !self.0);
        self.0 |= open.0;
        Saved(newly)
    }

    /// Closes what the matching [`Scopes::save`] opened, and nothing else (P151).
    #[inline]
    pub const fn restore(&mut self, saved: Saved) {
        debug_assert!(
            self.0 & saved.0.0 == saved.0.0,
            "closed twice, or out of order"
        );
        self.0 &= !saved.0.0;
    }

    /// P150, P152: the word with which a request goes on. `NORECLAIM` is not a bit of the word:
    /// it counts as a right of the task ([`super::Caller`]).
    #[inline]
    pub const fn apply(self, gfp: Gfp) -> Gfp {
        let mut taken = Gfp::NONE;
        if self.contains(Self::NOIO) {
            taken = taken.with(Gfp::IO).with(Gfp::FS);
        } else if self.contains(Self::NOFS) {
            taken = taken.with(Gfp::FS);
        }
        self.apply_pin(gfp.without(taken))
    }

    /// [`Scopes::apply`] of `PIN` alone: what decides from where memory comes, so that it counts on
    /// a fast path too.
    #[inline]
    pub const fn apply_pin(self, gfp: Gfp) -> Gfp {
        if self.contains(Self::PIN) {
            gfp.without(Gfp::MOVABLE)
        } else {
            gfp
        }
    }
}

/// `noio|pin`; `none` if no scope is open.
impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, scope) in Self::NAMED {
            if self.contains(scope) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        f.write_str(if separator.is_empty() { "none" } else { "" })
    }
}
