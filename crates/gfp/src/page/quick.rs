//! The shortest way: a block out of this CPU's cache, or into it, and nothing else.
//!
//! What a plain request asks for depends on six bits of its flags. [`Routes`] says for each of
//! their values which zone of a node serves it first and with which type, so that no zonelist is
//! walked. Whatever is not at hand there, [`PageAllocator::alloc_with`] does with care.

use super::cache::{List, PcpKind};
use super::{PageAllocator, PageRequest, VerifyError, same};
use crate::flags::{Gfp, MigrateType};
use crate::frame::{FrameKind, FramePlace, FrameWord, NodeId, Order, Pfn};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::{AtomicU16, Ordering::Acquire, Ordering::Release};

/// Values of the bits that decide where a request goes.
const VALUES: usize = 64;
/// No zone of the node serves such requests first.
const NOWHERE: u16 = u16::MAX;
/// Zone selector and mobility (P47, P48), and `ZERO`, which lies higher and is moved next to them.
const LOW: u32 = 0x1f;
const ZERO_SHIFT: u32 = Gfp::ZERO.bits().trailing_zeros() - LOW.trailing_ones();

/// Where the plain requests of one node go.
pub(super) struct Routes([AtomicU16; VALUES]);

/// The zone whose cache serves a request, and the type that it allocates with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Route {
    zone: u8,
    kind: MigrateType,
}

impl Route {
    fn word(self) -> u16 {
        u16::from(self.zone) | (self.kind as u16) << 8
    }
}

/// The bits that a place in [`Routes`] stands for.
fn flags(value: u32) -> Gfp {
    Gfp::from_bits_retain(value & LOW | (value & !LOW) << ZERO_SHIFT)
}

impl Routes {
    /// No request goes anywhere.
    pub(super) fn new() -> Routes {
        Routes(core::array::from_fn(|_| AtomicU16::new(NOWHERE)))
    }

    /// Writes all of them; `route` says where requests with these flags go.
    fn write(&self, route: impl Fn(Gfp) -> Option<Route>) {
        for (value, place) in self.0.iter().enumerate() {
            let word = route(flags(value as u32)).map_or(NOWHERE, Route::word);
            // Release: pairs with the Acquire in `get`: who sees a zone sees its marks.
            place.store(word, Release);
        }
    }

    /// Where a request goes; the flags have been checked.
    #[inline(always)]
    fn get(&self, gfp: Gfp) -> Option<(u8, PcpKind)> {
        let bits = gfp.bits();
        let value = bits & LOW | bits >> ZERO_SHIFT & !LOW & (VALUES as u32 - 1);
        // Acquire: pairs with the Release in `write`.
        let word = self.0[value as usize].load(Acquire);
        Some((word as u8, PcpKind::from_bits((word >> 8) as u8)?))
    }
}

impl FrameWord {
    /// The word of the first frame of a block that a request gets.
    #[inline(always)]
    pub(super) fn given(req: &PageRequest) -> FrameWord {
        let compound = req.gfp.contains(Gfp::COMP) && req.order > Order::ZERO;
        let kind = match compound {
            true => FrameKind::Compound,
            false => FrameKind::Page,
        };
        FrameWord::new(kind, req.order, 1)
    }
}

/// A block that was taken from a cache and still says so.
pub(super) struct Quick<'a> {
    place: FramePlace<'a>,
    /// Its first frame's place in the frame table.
    frame: usize,
}

impl<P: Platform> PageAllocator<P> {
    /// Says where plain requests go. Called where the zonelists are written and the grouping is
    /// known.
    pub(super) fn write_routes(&self) {
        for (node, list) in self.lists.iter().enumerate() {
            list.routes.write(|gfp| self.route(NodeId(node as u8), gfp));
        }
    }

    /// Where plain requests of a node go: to the first zone of its zonelist that may serve them.
    fn route(&self, node: NodeId, gfp: Gfp) -> Option<Route> {
        // Illegal values have no way: such requests are refused before.
        let (_, _) = (gfp.highest_zone().ok()?, gfp.migratetype().ok()?);
        let highest = self.highest(gfp);
        let ids = self.lists.get(node.0 as usize)?.ids();
        let mut zones = ids.iter().map(|id| &self.zones[id.load(Acquire) as usize]);
        let zone = zones.find(|zone| zone.kind <= highest)?;
        // What another node serves is counted with more care.
        (zone.node == node).then_some(Route {
            zone: zone.id,
            kind: self.mobility(gfp),
        })
    }

    /// Checks that each route leads where walking the zonelist would.
    pub(super) fn verify_routes(&self) -> Result<(), VerifyError> {
        for (node, list) in self.lists.iter().enumerate() {
            for value in 0..VALUES as u32 {
                let gfp = flags(value);
                let route = self.route(NodeId(node as u8), gfp).map(Route::word);
                let (way, word) = (route.unwrap_or(NOWHERE), &list.routes.0[value as usize]);
                let node = node * VALUES + value as usize;
                same(
                    "a route is the first zone",
                    node,
                    word.load(Acquire).into(),
                    way.into(),
                )?;
            }
        }
        Ok(())
    }

    /// Takes the block that this CPU cached last of the kind that the request asks for. `None`, and
    /// nothing done, if there is none or more is to be done than to take it.
    #[inline(always)]
    pub(super) fn take_quick(&self, local: &Local<'_, P>, req: &PageRequest) -> Option<Quick<'_>> {
        if req.node.is_some() {
            return None;
        }
        let node = self.platform.node();
        let (zone, kind) = self.lists.get(node.0 as usize)?.routes.get(req.gfp)?;
        let cache = self.caches_of(local.cpu())?.get(zone as usize)?;
        let list = List::any(req.order, kind);
        let frame = cache.top(list)? as usize;
        let place = self.frames.place(frame)?;
        if !place.get_acquire().is_block(FrameKind::Cached, req.order) {
            return None; // `pop` reports it
        }
        cache.drop_top(list);
        cache.events.alloc_pages.add(req.order.pages());
        cache.events.numa_hit.add(1);
        Some(Quick { place, frame })
    }

    /// Makes what [`PageAllocator::take_quick`] took the caller's.
    #[inline(always)]
    pub(super) fn hand_out_quick(&self, taken: Quick<'_>, req: &PageRequest) -> Pfn {
        taken.place.set(FrameWord::given(req));
        let pfn = self.frames.base().add(taken.frame);
        if req.gfp.contains(Gfp::ZERO) {
            self.clear(pfn, req.order);
        }
        pfn
    }

    /// Frees a block that has no other reference. False, and nothing done, if it is no such block
    /// or entering takes time.
    #[inline(always)]
    pub(super) fn free_quick(&self, pfn: Pfn, order: Order) -> bool {
        let frame = pfn.0.wrapping_sub(self.frames.base().0);
        let Some(place) = self.frames.place(frame) else {
            return false;
        };
        if !place.get_acquire().is_last_reference(order) {
            return false;
        }
        let Some(local) = Local::enter_quick(&self.platform) else {
            return false;
        };
        if self.put_quick(&local, pfn, order, frame as u32) {
            place.set(FrameWord::new(FrameKind::Cached, order, 0));
            local.leave();
        } else {
            self.free_uncached(local, pfn, order);
        }
        true
    }

    /// Frees a block where more is to be done than to put it into the cache.
    #[inline(never)]
    fn free_uncached(&self, local: Local<'_, P>, pfn: Pfn, order: Order) {
        self.free_local(&local, pfn, order);
    }

    /// Puts a block into this CPU's cache. False, and nothing done, if it has no room there or is
    /// not to be cached.
    #[inline(always)]
    fn put_quick(&self, local: &Local<'_, P>, pfn: Pfn, order: Order, frame: u32) -> bool {
        let Some((zone, kind)) = self.blocks.zone_and_kind_of(pfn) else {
            return false;
        };
        let Some(cache) = self.caches_of(local.cpu()).and_then(|all| all.get(zone)) else {
            return false;
        };
        let Some(sizing) = self.sizing.get(zone) else {
            return false;
        };
        let list = List::any(order, PcpKind::of(kind));
        if kind == MigrateType::Isolate
            || cache.count() + order.pages() > sizing.high_min()
            || !cache.push(list, frame)
        {
            return false;
        }
        cache.events.free_pages.add(order.pages());
        true
    }
}
