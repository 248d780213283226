//! `extfrag/unusable_index` and `extfrag/extfrag_index` of debugfs (P623).
//!
//! Both have a line for each populated zone and a number for each order, in thousandths. They are
//! computed from the free blocks that [`buddyinfo`](super::buddyinfo) shows, of all types.

use super::source::Sink;
use super::zones::for_each_populated;
use super::{Source, ZoneView};
use crate::frame::NR_ORDERS;
use crate::policy::compaction::{fragmentation, unusable_permille};
use core::fmt;

/// Free blocks of a zone, as both indexes see them for one order.
struct Blocks {
    /// Of any order.
    all: usize,
    /// Pages in them.
    free: usize,
    /// Of this order or a higher one.
    suitable: usize,
    /// Pages in those.
    usable: usize,
}

impl Blocks {
    fn of(zone: &ZoneView, order: usize) -> Blocks {
        // What does not fit a word is more than any machine has.
        let sum = |orders: core::ops::Range<usize>, shift: usize| {
            orders.fold(0usize, |sum, o| {
                let blocks = zone.blocks_of_order(o);
                sum.saturating_add(blocks.saturating_mul(1 << (o * shift)))
            })
        };
        Blocks {
            all: sum(0..NR_ORDERS, 0),
            free: sum(0..NR_ORDERS, 1),
            suitable: sum(order..NR_ORDERS, 0),
            usable: sum(order..NR_ORDERS, 1),
        }
    }
}

/// Writes `extfrag/unusable_index`: what part of the free memory is of no use for a request of each
/// order, because it lies in smaller blocks; 1 if nothing is free (P623).
///
/// # Errors
/// Those of `w`.
pub fn unusable_index(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    lines(src, w, |out, blocks, _| {
        let index = unusable_permille(blocks.free, blocks.usable);
        out.put(format_args!("{}.{:03} ", index / 1000, index % 1000));
    })
}

/// Writes `extfrag/extfrag_index`: whether a request of each order would fail for lack of memory,
/// towards 0, or because it is in pieces, towards 1; -1 if it would not fail (P423, P623).
///
/// Linux prints less than 0 where one free block is nearly large enough; here that is 0.
///
/// # Errors
/// Those of `w`.
pub fn extfrag_index(src: &dyn Source, w: &mut dyn fmt::Write) -> fmt::Result {
    lines(src, w, |out, blocks, order| {
        let index = fragmentation(order as u32, blocks.all, blocks.free, blocks.suitable).value();
        out.put(format_args!(
            "{:>2}.{:03} ",
            index / 1000,
            index.abs() % 1000
        ));
    })
}

fn lines(
    src: &dyn Source,
    w: &mut dyn fmt::Write,
    number: impl Fn(&mut Sink<'_>, &Blocks, usize),
) -> fmt::Result {
    let mut out = Sink::new(w);
    src.for_each_node(&mut |node| {
        for_each_populated(src, node.node, &mut |zone| {
            let (node, kind) = (zone.node.0, zone.kind.name());
            out.put(format_args!("Node {node}, zone {kind:>8} "));
            for order in 0..NR_ORDERS {
                number(&mut out, &Blocks::of(zone, order), order);
            }
            out.put(format_args!("\n"));
        });
    });
    out.finish()
}
