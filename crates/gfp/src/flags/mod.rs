//! GFP flags: where memory may come from, and how hard to try.
//!
//! 1. **Concept.** A request carries one 32-bit word, [`Gfp`]. Single bits ([`Gfp::IO`], spelled
//!    `__GFP_IO` in text) are building blocks; composites ([`GFP_KERNEL`]) are what callers
//!    normally write. All numeric values are Linux's (P1-P46), so recorded traces and C callers
//!    need no translation.
//! 2. **Structures.** [`Gfp`] is a transparent `u32`. [`ZoneKind`] and [`MigrateType`] are what the
//!    low bits select. [`Entry`] names the function that received the word, since what is legal
//!    depends on it.
//! 3. **Selection.** The low four bits pick the highest usable zone (P47), bits 3 and 4 the
//!    mobility type (P48). Both are lookups in a 16 and a 4 entry constant table.
//! 4. **Failure.** A combination that Linux forbids, or answers with a warning and a silent change,
//!    is a [`GfpError`] here: its text names the problem and the fix. [`Gfp::sanitize_for`] gives
//!    the word that Linux would go on with. [`Gfp::needs_check`] is one AND: ordinary masks skip
//!    the whole check.
//! 5. **Text.** `Display` prints what Linux prints in traces (P602); [`core::str::FromStr`] reads
//!    it back, with `|`, `&`, `~`, parentheses and numbers.
//! 6. **Locking.** None: plain data, no state, every function is usable in any context.
//! 7. **Not done here.** What a mask *does* (reclaim, reserves, retries) is decided in `policy`.
//!
//! ## Bits above 23
//!
//! Linux fixes bits 0..=23 and lets configuration place the rest (P24-P27). Here `NOLOCKDEP` is bit
//! 24 and `NO_OBJ_EXT` bit 25; `SKIP_ZERO` and `SKIP_KASAN` are zero, as in a Linux without
//! hardware memory tags.
#![forbid(unsafe_code)]

mod bits;
mod check;
mod composite;
mod names;
mod parse;
mod zone;

#[cfg(test)]
mod tests;

pub use bits::Gfp;
pub use check::{Entry, GfpError, MAX_PAGE_ORDER, NodeLiveness};
pub use composite::*;
pub use names::{KnownFlag, known_flags};
pub(crate) use parse::edit_distance;
pub use parse::{Annotated, ParseError, ParseErrorKind};
pub use zone::{MigrateType, ZoneKind};
