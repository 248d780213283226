//! Sets of nodes.

use super::types::{MAX_NODES, NodeId};
use core::fmt;

/// A set of nodes (`nodemask_t`).
///
/// ```
/// use gfp::frame::{NodeId, NodeMask};
///
/// let nodes = NodeMask::of(NodeId(0)).with(NodeId(2)).with(NodeId(3));
/// assert!(nodes.has(NodeId(2)) && !nodes.has(NodeId(1)));
/// assert_eq!(nodes.to_string(), "0,2-3");
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct NodeMask(u8);

const _: () = assert!(MAX_NODES <= u8::BITS as usize, "a bit a node");

impl NodeMask {
    /// No node.
    pub const NONE: NodeMask = NodeMask(0);
    /// Every node that a machine can have.
    pub const ALL: NodeMask = NodeMask(u8::MAX >> (u8::BITS as usize - MAX_NODES));

    /// One node; none, if no machine can have it.
    #[inline]
    pub const fn of(node: NodeId) -> NodeMask {
        if (node.0 as usize) < MAX_NODES {
            NodeMask(1 << node.0)
        } else {
            NodeMask::NONE
        }
    }

    pub(crate) const fn from_bits(bits: u8) -> NodeMask {
        NodeMask(bits & NodeMask::ALL.0)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// These and one more.
    #[inline]
    pub const fn with(self, node: NodeId) -> NodeMask {
        NodeMask(self.0 | NodeMask::of(node).0)
    }

    /// Those that are in both.
    #[inline]
    pub const fn and(self, other: NodeMask) -> NodeMask {
        NodeMask(self.0 & other.0)
    }

    /// True if a node is one of them.
    #[inline]
    pub const fn has(self, node: NodeId) -> bool {
        self.0 & NodeMask::of(node).0 != 0
    }

    /// True if there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// All of them, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        let all = (0..MAX_NODES as u8).map(NodeId);
        all.filter(move |node| self.has(*node))
    }
}

impl FromIterator<NodeId> for NodeMask {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> NodeMask {
        nodes.into_iter().fold(NodeMask::NONE, NodeMask::with)
    }
}

impl fmt::Display for NodeMask {
    /// As Linux lists them: `0,2-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = |node: NodeId| node.0 > 0 && self.has(NodeId(node.0 - 1));
        let after = |node: NodeId| self.has(NodeId(node.0 + 1));
        let mut separator = "";
        for node in self.iter().filter(|node| !before(*node)) {
            write!(f, "{separator}{}", node.0)?;
            separator = ",";
            if let Some(last) = (node.0..MAX_NODES as u8).map(NodeId).find(|n| !after(*n))
                && last != node
            {
                write!(f, "-{}", last.0)?;
            }
        }
        Ok(())
    }
}

/// A set of nodes in a report; `(null)` if there is no limit.
#[derive(Copy, Clone)]
pub(crate) struct Listed(pub(crate) Option<NodeMask>);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nodes) => nodes.fmt(f),
            None => f.write_str("(null)"),
        }
    }
}

impl fmt::Debug for NodeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeMask({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_set_of_nodes_is_listed_as_linux_lists_it() {
        let text = |nodes: &[u8]| {
            let nodes: NodeMask = nodes.iter().copied().map(NodeId).collect();
            nodes.to_string()
        };
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[5]), "5");
        assert_eq!(text(&[0, 1]), "0-1");
        assert_eq!(text(&[7, 6, 4, 0, 2, 3]), "0,2-4,6-7");
        assert_eq!(NodeMask::ALL.to_string(), "0-7");
    }

    #[test]
    fn it_is_the_set_it_stands_for() {
        for bits in 0..=u8::MAX {
            let nodes: NodeMask = (0..8).filter(|n| bits >> n & 1 != 0).map(NodeId).collect();
            assert_eq!(nodes.len(), bits.count_ones() as usize);
            assert_eq!(nodes.is_empty(), bits == 0);
            assert!(
                nodes
                    .iter()
                    .eq(NodeMask::ALL.iter().filter(|n| nodes.has(*n)))
            );
            assert!((0..8).all(|n| nodes.has(NodeId(n)) == (bits >> n & 1 != 0)));
            assert!(!nodes.has(NodeId(8)) && !nodes.has(NodeId(255)));
            assert_eq!(nodes.with(NodeId(9)), nodes);
            assert_eq!(nodes.and(NodeMask::ALL), nodes);
        }
    }
}
