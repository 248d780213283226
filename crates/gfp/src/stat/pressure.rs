//! `/proc/pressure/memory` (P680).

use super::source::Sink;
use crate::policy::stall::StallKind;
use crate::stat::Source;
use core::fmt;

/// Writes `/proc/pressure/memory`: a line for each kind of stall (P680).
///
/// # Errors
/// Those of `w`.
pub fn pressure(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    let lines = src.memory_stalls();
    let mut out = Sink::new(w);
    for kind in StallKind::ALL {
        let line = &lines[kind as usize];
        out.put(format_args!("{} {line}\n", kind.name()));
    }
    out.finish()
}
