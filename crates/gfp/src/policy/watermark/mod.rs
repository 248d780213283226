//! Watermarks: how much of a zone must stay free, and who may go below (P207-P216, P260-P272).
//!
//! 1. **Concept.** Each zone has four levels of free pages: min < low < high < promo. Ordinary
//!    requests stop at *low* and wake background reclaim, then at *min*. What is below min is for
//!    those who free memory or cannot wait.
//!
//!    ```text
//!    free pages
//!      high   ──────────  background reclaim may sleep
//!      low    ──────────  background reclaim wakes; the fast path stops here
//!      min    ──────────  the slow path stops here
//!      min/2  ──────────  HIGH that can wait, real-time tasks
//!      3min/8 ──────────  GFP_ATOMIC
//!      3min/16 ─────────  OOM victims
//!      0      ──────────  MEMALLOC: those who free more than they take
//!    ```
//! 2. **Structures.** [`Watermarks`] of a zone; [`lowmem_reserve`], extra pages that a zone keeps
//!    from requests that could have used a higher zone; [`AllocFlags`], one request's rights,
//!    derived from its flags and its task; [`FreeState`], what a zone has.
//! 3. **Algorithm.** [`zone_watermark_ok`] lowers the mark by the request's rights, raises it by
//!    the lowmem reserve, and compares it with the free pages that the request may use. Equality
//!    fails (P269).
//! 4. **Not done here.** Reading counters exactly or not (P273) is the caller's choice.

mod check;
mod reserve;
mod rights;
#[cfg(test)]
mod rights_tests;
#[cfg(test)]
mod tests;
mod values;

pub use check::{FreeState, order0_watermark_ok, zone_watermark_ok};
pub use reserve::{DEFAULT_LOWMEM_RATIO, ZoneTable, lowmem_reserve, totalreserve};
pub use rights::{AllocFlags, TaskRights, WatermarkLevel};
pub use values::{
    DEFAULT_BOOST_FACTOR, DEFAULT_SCALE_FACTOR, LowMemory, MinFree, Watermarks, boosted, isqrt,
    min_free_kbytes, recomputed_min_free_kbytes, zone_watermarks,
};
