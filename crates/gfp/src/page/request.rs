//! What is asked for.

use crate::flags::Gfp;
use crate::frame::{NodeId, NodeMask, Order};
use crate::policy::effort::Reach;
use core::fmt;
use core::num::NonZeroU8;

/// One request for pages: everything that decides how it is served.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// How many: 2^order pages.
    pub order: Order,
    /// How hard to try, and from where.
    pub gfp: Gfp,
    /// The nodes that are wanted; `None`: that of this CPU, else the nearest to it.
    pub place: Option<Place>,
}

/// The node that a request wants most, and those that it is limited to.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Place {
    /// [`ANY_NODE`], or the bits of a set of nodes and one. Never 0, so an `Option` of this looks
    /// as one of a node does, and a request without a limit costs nothing more.
    limit: NonZeroU8,
    node: NodeId,
}

const SPECIAL: Gfp = Gfp::MOVABLE.with(Gfp::RECLAIMABLE).with(Gfp::COMP);

/// There is no limit.
const ANY_NODE: NonZeroU8 = NonZeroU8::MIN;

const _: () = assert!(size_of::<PageRequest>() == 8);

impl Place {
    /// This node, else the nearest to it.
    #[inline]
    pub const fn near(node: NodeId) -> Place {
        Place {
            limit: ANY_NODE,
            node,
        }
    }

    /// These nodes and no others, `from` or the nearest to it first. Requests that may take what is
    /// kept for who frees memory are not limited (P115).
    pub const fn among(from: NodeId, nodes: NodeMask) -> Place {
        match (nodes, ANY_NODE.checked_add(nodes.bits())) {
            // No machine has this node, so nothing is near it.
            (NodeMask::NONE, _) => Place::near(NodeId(u8::MAX)),
            (NodeMask::ALL, _) | (_, None) => Place::near(from),
            (_, Some(limit)) => Place { limit, node: from },
        }
    }

    /// The node that is wanted most.
    #[inline]
    pub const fn node(self) -> NodeId {
        self.node
    }

    /// The nodes that it is limited to.
    #[inline]
    pub const fn nodes(self) -> NodeMask {
        match self.is_limited() {
            true => NodeMask::from_bits(self.limit.get() - 1),
            false => NodeMask::ALL,
        }
    }

    /// True if some nodes may not serve it.
    #[inline]
    pub(super) const fn is_limited(self) -> bool {
        self.limit.get() > ANY_NODE.get()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({} of {})", self.node.0, self.nodes())
    }
}

impl PageRequest {
    /// A request with no wish for a node.
    #[inline]
    pub const fn new(gfp: Gfp, order: Order) -> PageRequest {
        PageRequest {
            order,
            gfp,
            place: None,
        }
    }

    /// The same request, preferring a node.
    #[inline]
    pub fn at(self, node: Option<NodeId>) -> PageRequest {
        let place = node.map(Place::near);
        PageRequest { place, ..self }
    }

    /// The same request, of some nodes only ([`Place::among`]).
    pub const fn among(self, from: NodeId, nodes: NodeMask) -> PageRequest {
        let place = Some(Place::among(from, nodes));
        PageRequest { place, ..self }
    }

    /// The node that is wanted most, if it is not that of the CPU.
    #[inline]
    pub fn node(&self) -> Option<NodeId> {
        self.place.map(Place::node)
    }

    /// The nodes that may serve it.
    #[inline]
    pub fn nodes(&self) -> NodeMask {
        self.place.map_or(NodeMask::ALL, Place::nodes)
    }

    /// One AND: false means that [`PageAllocator::admit`](super::PageAllocator::admit) would change
    /// and refuse nothing, that the pages are of the type `Unmovable`, and are not compound.
    #[inline(always)]
    pub(super) const fn is_special(&self) -> bool {
        self.gfp.needs_check_or(SPECIAL)
    }

    /// The nodes that it is limited to, if it is.
    pub fn nodemask(&self) -> Option<NodeMask> {
        Some(self.nodes()).filter(|nodes| *nodes != NodeMask::ALL)
    }

    /// P115: the request as a pass makes it that looks so far.
    pub(super) fn within(&self, reach: Reach) -> PageRequest {
        match reach {
            Reach::Policy => *self,
            Reach::Anywhere => self.at(self.node()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_node_and_the_nodes_that_it_was_made_of() {
        let req = PageRequest::new(crate::flags::GFP_KERNEL, Order::ZERO);
        assert_eq!(
            (req.node(), req.nodes(), req.nodemask()),
            (None, NodeMask::ALL, None)
        );
        for bits in 1..=u8::MAX {
            let nodes = NodeMask::from_bits(bits);
            let some = req.among(NodeId(2), nodes);
            assert_eq!((some.node(), some.nodes()), (Some(NodeId(2)), nodes));
            assert_eq!(some.nodemask().is_some(), bits != u8::MAX);
            // P115
            assert_eq!(some.within(Reach::Policy), some);
            assert_eq!(some.within(Reach::Anywhere), req.at(Some(NodeId(2))));
        }
        let none = req.among(NodeId(2), NodeMask::NONE);
        assert_eq!(none.node(), Some(NodeId(255)), "no machine has it");
    }
}
