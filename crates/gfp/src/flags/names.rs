//! Flag words as text, in the form of Linux's traces (P602).

use core::fmt;

use super::bits::Gfp;
use super::composite::*;

/// A name that prints and parses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KnownFlag {
    /// The full name, with its `GFP_` or `__GFP_` prefix.
    pub name: &'static str,
    /// What it stands for.
    pub gfp: Gfp,
}

const fn flag(name: &'static str, gfp: Gfp) -> KnownFlag {
    KnownFlag { name, gfp }
}

/// Composites, in the order in which printing tries them: longest first, ties as in Linux's traces.
const COMPOSITES: [KnownFlag; 13] = [
    flag("GFP_TRANSHUGE", GFP_TRANSHUGE),
    flag("GFP_TRANSHUGE_LIGHT", GFP_TRANSHUGE_LIGHT),
    flag("GFP_HIGHUSER_MOVABLE", GFP_HIGHUSER_MOVABLE),
    flag("GFP_HIGHUSER", GFP_HIGHUSER),
    flag("GFP_USER", GFP_USER),
    flag("GFP_KERNEL_ACCOUNT", GFP_KERNEL_ACCOUNT),
    flag("GFP_KERNEL", GFP_KERNEL),
    flag("GFP_NOFS", GFP_NOFS),
    flag("GFP_ATOMIC", GFP_ATOMIC),
    flag("GFP_NOIO", GFP_NOIO),
    flag("GFP_NOWAIT", GFP_NOWAIT),
    flag("GFP_DMA", GFP_DMA),
    flag("GFP_DMA32", GFP_DMA32),
];

/// Single bits in bit order, then the names that parse but never print.
const BITS: [KnownFlag; 28] = [
    flag("__GFP_DMA", Gfp::DMA),
    flag("__GFP_HIGHMEM", Gfp::HIGHMEM),
    flag("__GFP_DMA32", Gfp::DMA32),
    flag("__GFP_MOVABLE", Gfp::MOVABLE),
    flag("__GFP_RECLAIMABLE", Gfp::RECLAIMABLE),
    flag("__GFP_HIGH", Gfp::HIGH),
    flag("__GFP_IO", Gfp::IO),
    flag("__GFP_FS", Gfp::FS),
    flag("__GFP_ZERO", Gfp::ZERO),
    flag("__GFP_DIRECT_RECLAIM", Gfp::DIRECT_RECLAIM),
    flag("__GFP_KSWAPD_RECLAIM", Gfp::KSWAPD_RECLAIM),
    flag("__GFP_WRITE", Gfp::WRITE),
    flag("__GFP_NOWARN", Gfp::NOWARN),
    flag("__GFP_RETRY_MAYFAIL", Gfp::RETRY_MAYFAIL),
    flag("__GFP_NOFAIL", Gfp::NOFAIL),
    flag("__GFP_NORETRY", Gfp::NORETRY),
    flag("__GFP_MEMALLOC", Gfp::MEMALLOC),
    flag("__GFP_COMP", Gfp::COMP),
    flag("__GFP_NOMEMALLOC", Gfp::NOMEMALLOC),
    flag("__GFP_HARDWALL", Gfp::HARDWALL),
    flag("__GFP_THISNODE", Gfp::THISNODE),
    flag("__GFP_ACCOUNT", Gfp::ACCOUNT),
    flag("__GFP_ZEROTAGS", Gfp::ZEROTAGS),
    flag("__GFP_NOLOCKDEP", Gfp::NOLOCKDEP),
    flag("__GFP_NO_OBJ_EXT", Gfp::NO_OBJ_EXT),
    flag("__GFP_RECLAIM", Gfp::RECLAIM),
    flag("__GFP_SKIP_ZERO", Gfp::SKIP_ZERO),
    flag("__GFP_SKIP_KASAN", Gfp::SKIP_KASAN),
];

/// Every name that printing and parsing know: composites first, in printing order, then single
/// bits.
pub fn known_flags() -> impl Iterator<Item = KnownFlag> {
    COMPOSITES.into_iter().chain(BITS)
}

/// P602: `GFP_KERNEL|__GFP_ZERO`. Composites first, longest first, each only if all its bits are
/// still there; then single bits in bit order; then what has no name, in hex. The empty word is
/// `none`.
impl fmt::Display for Gfp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut rest = *self;
        let mut separator = "";
        for known in known_flags() {
            if !known.gfp.is_empty() && rest.contains(known.gfp) {
                f.write_str(separator)?;
                f.write_str(known.name)?;
                separator = "|";
                rest = rest.without(known.gfp);
            }
        }
        if !rest.is_empty() {
            write!(f, "{separator}{:#x}", rest.bits())?;
        }
        Ok(())
    }
}

/// The same text as `Display`.
impl fmt::Debug for Gfp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::LowerHex for Gfp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.bits(), f)
    }
}
