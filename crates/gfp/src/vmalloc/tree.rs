//! A balanced tree of address ranges that together tile one window, with the largest free range of
//! every subtree.
//!
//! It is a treap: ordered by address, and a heap by a random priority, so its depth is O(log n)
//! whatever the order of operations. Nodes are also linked in address order, which makes finding a
//! neighbour O(1). Insertion needs no key: a new range always stands right after one that is there.
//!
//! [INV-VM-1] A node lives on a page of the pool that is never given back while the space lives,
//! and is reached only by who holds the space (`&Ranges` or `&mut Ranges`, behind the lock).

mod verify;

use super::area::Area;
use crate::frame::{PAGE_SHIFT, PAGE_SIZE};
use core::cell::Cell;
use core::ptr::NonNull;

/// What one range of addresses is.
///
/// | state | meaning | next |
/// |---|---|---|
/// | `Free` | may be given out | `Building` |
/// | `Building` | taken; memory and mapping are being made or changed (V19) | `Busy`, `Freeing` |
/// | `Busy` | an area in use | `Freeing`, `Building` |
/// | `Freeing` | being freed: unmapped, its frames given back | `Lazy` |
/// | `Lazy` | unmapped, but a TLB may remember it (V17) | `Flushing` |
/// | `Flushing` | its flush is under way | `Free` |
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    Building,
    Busy,
    Freeing,
    Lazy,
    Flushing,
}

pub(super) type Link = Option<NodeRef>;

/// A node, named by its address. Only [`Ranges`] looks inside.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct NodeRef(NonNull<Node>);

// SAFETY: [INV-VM-1] a name only; what it names is reached by who holds the space.
unsafe impl Send for NodeRef {}

/// One range. 128 bytes or a little more: about 30 to a page.
pub(super) struct Node {
    /// First address.
    start: Cell<usize>,
    /// Size in pages, guard included.
    pages: Cell<usize>,
    /// The largest free range in this subtree, in pages.
    largest: Cell<usize>,
    left: Cell<Link>,
    right: Cell<Link>,
    parent: Cell<Link>,
    prev: Cell<Link>,
    next: Cell<Link>,
    /// The next node in the pool, or in the list of lazy ranges.
    chain: Cell<Link>,
    priority: Cell<u32>,
    state: Cell<State>,
    area: Cell<Area>,
}

/// Nodes that one pool page holds.
pub(super) const NODES_PER_PAGE: usize = PAGE_SIZE / size_of::<Node>();

const _: () = assert!(NODES_PER_PAGE >= 16 && align_of::<Node>() <= PAGE_SIZE);

/// All ranges of a window, and a pool of spare nodes.
pub(super) struct Ranges {
    root: Link,
    first: Link,
    pool: Link,
    spare: usize,
    used: usize,
    random: u32,
}

// SAFETY: [INV-VM-1] the nodes belong to the space alone; whoever owns the value may reach them
// from any CPU.
unsafe impl Send for Ranges {}

impl Ranges {
    pub(super) const fn new() -> Ranges {
        // Any seed but zero; the priorities only have to be unrelated to the addresses.
        Ranges {
            root: None,
            first: None,
            pool: None,
            spare: 0,
            used: 0,
            random: 0x9e37_79b9,
        }
    }

    fn node(&self, r: NodeRef) -> &Node {
        // SAFETY: [INV-VM-1] pool pages stay while the space lives; every `NodeRef` was made by
        // `add_page`, which initialised the node; all fields are cells, reached under the lock.
        unsafe { r.0.as_ref() }
    }

    /// Cuts a page into spare nodes.
    ///
    /// # Safety
    /// `page` must be a page of memory that the space may keep for as long as it lives.
    pub(super) unsafe fn add_page(&mut self, page: NonNull<u8>) {
        let nodes = page.cast::<Node>();
        debug_assert!(nodes.is_aligned());
        for i in 0..NODES_PER_PAGE {
            let node = Node {
                start: Cell::new(0),
                pages: Cell::new(0),
                largest: Cell::new(0),
                left: Cell::new(None),
                right: Cell::new(None),
                parent: Cell::new(None),
                prev: Cell::new(None),
                next: Cell::new(None),
                chain: Cell::new(self.pool),
                priority: Cell::new(0),
                state: Cell::new(State::Free),
                area: Cell::new(Area::NONE),
            };
            // SAFETY: promised by the caller; `i` nodes fit the page (NODES_PER_PAGE).
            let at = unsafe { nodes.add(i) };
            // SAFETY: as above.
            unsafe { at.write(node) };
            self.pool = Some(NodeRef(at));
        }
        self.spare += NODES_PER_PAGE;
    }

    /// Spare nodes in the pool.
    pub(super) fn spare(&self) -> usize {
        self.spare
    }

    /// Ranges in the tree.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn start(&self, r: NodeRef) -> usize {
        self.node(r).start.get()
    }

    pub(super) fn pages(&self, r: NodeRef) -> usize {
        self.node(r).pages.get()
    }

    pub(super) fn end(&self, r: NodeRef) -> usize {
        self.start(r) + (self.pages(r) << PAGE_SHIFT)
    }

    pub(super) fn state(&self, r: NodeRef) -> State {
        self.node(r).state.get()
    }

    pub(super) fn next(&self, r: NodeRef) -> Link {
        self.node(r).next.get()
    }

    pub(super) fn prev(&self, r: NodeRef) -> Link {
        self.node(r).prev.get()
    }

    pub(super) fn first(&self) -> Link {
        self.first
    }

    pub(super) fn area(&self, r: NodeRef) -> Area {
        self.node(r).area.get()
    }

    pub(super) fn set_area(&mut self, r: NodeRef, area: Area) {
        self.node(r).area.set(area);
    }

    pub(super) fn chain(&self, r: NodeRef) -> Link {
        self.node(r).chain.get()
    }

    pub(super) fn set_chain(&mut self, r: NodeRef, next: Link) {
        self.node(r).chain.set(next);
    }

    /// Changes the state; keeps `largest` right.
    pub(super) fn set_state(&mut self, r: NodeRef, state: State) {
        let old = self.node(r).state.replace(state);
        if (old == State::Free) != (state == State::Free) {
            self.propagate(Some(r));
        }
    }

    /// Changes the extent of a range; its neighbour must be changed to match.
    pub(super) fn set_extent(&mut self, r: NodeRef, start: usize, pages: usize) {
        debug_assert!(pages > 0 && start.is_multiple_of(PAGE_SIZE));
        self.node(r).start.set(start);
        self.node(r).pages.set(pages);
        self.propagate(Some(r));
    }

    fn largest(&self, link: Link) -> usize {
        link.map_or(0, |r| self.node(r).largest.get())
    }

    fn own_free(&self, n: &Node) -> usize {
        if n.state.get() == State::Free {
            n.pages.get()
        } else {
            0
        }
    }

    /// What `largest` of a node must be.
    fn computed_largest(&self, r: NodeRef) -> usize {
        let n = self.node(r);
        let below = self.largest(n.left.get()).max(self.largest(n.right.get()));
        self.own_free(n).max(below)
    }

    /// Corrects `largest` from a node upwards, until nothing changes.
    fn propagate(&self, mut link: Link) {
        while let Some(r) = link {
            let n = self.node(r);
            let now = self.computed_largest(r);
            if n.largest.replace(now) == now {
                return;
            }
            link = n.parent.get();
        }
    }

    /// Puts `new` where `old` hangs below `parent`.
    fn replace_child(&mut self, parent: Link, old: NodeRef, new: Link) {
        match parent {
            None => {
                debug_assert_eq!(self.root, Some(old));
                self.root = new;
            }
            Some(p) => {
                let p = self.node(p);
                let side = if p.left.get() == Some(old) {
                    &p.left
                } else {
                    &p.right
                };
                debug_assert_eq!(side.get(), Some(old));
                side.set(new);
            }
        }
        if let Some(n) = new {
            self.node(n).parent.set(parent);
        }
    }

    /// Exchanges a node with its parent, keeping the order by address.
    fn rotate_up(&mut self, r: NodeRef) {
        let Some(parent) = self.node(r).parent.get() else {
            return;
        };
        let grand = self.node(parent).parent.get();
        self.replace_child(grand, parent, Some(r));
        let (n, p) = (self.node(r), self.node(parent));
        let moved = if p.left.get() == Some(r) {
            p.left.set(n.right.get());
            n.right.replace(Some(parent))
        } else {
            p.right.set(n.left.get());
            n.left.replace(Some(parent))
        };
        if let Some(m) = moved {
            self.node(m).parent.set(Some(parent));
        }
        p.parent.set(Some(r));
        // The subtree as a whole holds what it held: nothing above changes.
        n.largest.set(p.largest.get());
        p.largest.set(self.computed_largest(parent));
    }

    fn random(&mut self) -> u32 {
        // xorshift32: period 2^32 - 1.
        let mut x = self.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        x
    }

    /// Takes a spare node for a range right after `prev`; `None` as `prev`: the first range of all.
    ///
    /// # Panics
    /// If the pool is empty: the caller has looked at [`Ranges::spare`].
    pub(super) fn insert_after(
        &mut self,
        prev: Link,
        start: usize,
        pages: usize,
        state: State,
    ) -> NodeRef {
        let r = self.pool.expect("the pool was filled before");
        let priority = self.random();
        let n = self.node(r);
        let pool = n.chain.replace(None);
        n.start.set(start);
        n.pages.set(pages);
        n.state.set(state);
        n.priority.set(priority);
        n.area.set(Area::NONE);
        n.left.set(None);
        n.right.set(None);
        n.largest.set(if state == State::Free { pages } else { 0 });
        // In address order.
        let next = match prev {
            Some(p) => self.node(p).next.replace(Some(r)),
            None => {
                debug_assert!(
                    self.root.is_none(),
                    "only the very first range has none before it"
                );
                None
            }
        };
        n.prev.set(prev);
        n.next.set(next);
        if let Some(x) = next {
            self.node(x).prev.set(Some(r));
        }
        // In the tree: right of `prev` if that is free, else `next` has no left child.
        let parent = match (prev, next) {
            (Some(p), _) if self.node(p).right.get().is_none() => {
                self.node(p).right.set(Some(r));
                prev
            }
            (_, Some(x)) => {
                debug_assert!(self.node(x).left.get().is_none());
                self.node(x).left.set(Some(r));
                next
            }
            _ => None,
        };
        n.parent.set(parent);
        self.pool = pool;
        self.spare -= 1;
        self.used += 1;
        if prev.is_none() {
            self.first = Some(r);
        }
        if parent.is_none() {
            self.root = Some(r);
        }
        self.propagate(parent);
        while let Some(p) = self.node(r).parent.get()
            && self.node(p).priority.get() < priority
        {
            self.rotate_up(r);
        }
        r
    }

    /// Takes a range out; its neighbour must have grown over it.
    pub(super) fn remove(&mut self, r: NodeRef) {
        debug_assert!(
            self.node(r).prev.get().is_some(),
            "the first range is never merged away"
        );
        loop {
            let (left, right) = (self.node(r).left.get(), self.node(r).right.get());
            let (Some(a), Some(b)) = (left, right) else {
                let parent = self.node(r).parent.get();
                self.replace_child(parent, r, left.or(right));
                self.propagate(parent);
                break;
            };
            let (pa, pb) = (self.node(a).priority.get(), self.node(b).priority.get());
            self.rotate_up(if pa > pb { a } else { b });
        }
        let n = self.node(r);
        let (prev, next) = (n.prev.get(), n.next.get());
        n.chain.set(self.pool);
        if let Some(p) = prev {
            self.node(p).next.set(next);
        }
        if let Some(x) = next {
            self.node(x).prev.set(prev);
        }
        self.pool = Some(r);
        self.spare += 1;
        self.used -= 1;
    }

    /// The range that holds an address: O(log n).
    pub(super) fn find(&self, addr: usize) -> Link {
        let mut link = self.root;
        while let Some(r) = link {
            if addr < self.start(r) {
                link = self.node(r).left.get();
            } else if addr >= self.end(r) {
                link = self.node(r).right.get();
            } else {
                break;
            }
        }
        link
    }

    /// The free range at the lowest address that has `pages`: O(log n).
    pub(super) fn lowest_fit(&self, pages: usize) -> Link {
        if self.largest(self.root) < pages {
            return None;
        }
        let mut link = self.root;
        while let Some(r) = link {
            let n = self.node(r);
            if self.largest(n.left.get()) >= pages {
                link = n.left.get();
            } else if self.own_free(n) >= pages {
                return Some(r);
            } else {
                link = n.right.get();
            }
        }
        debug_assert!(false, "the root said that there is one");
        None
    }

    /// The lowest free range of at least `pages` for which `fits` holds; looks at all of them if
    /// need be. Depth of recursion: that of the tree.
    pub(super) fn lowest_fit_where(
        &self,
        pages: usize,
        fits: &dyn Fn(usize, usize) -> bool,
    ) -> Link {
        self.fit_below(self.root, pages, fits)
    }

    fn fit_below(&self, link: Link, pages: usize, fits: &dyn Fn(usize, usize) -> bool) -> Link {
        let r = link.filter(|_| self.largest(link) >= pages)?;
        let n = self.node(r);
        if let Some(found) = self.fit_below(n.left.get(), pages, fits) {
            return Some(found);
        }
        if self.own_free(n) >= pages && fits(n.start.get(), n.pages.get()) {
            return Some(r);
        }
        self.fit_below(n.right.get(), pages, fits)
    }
}
