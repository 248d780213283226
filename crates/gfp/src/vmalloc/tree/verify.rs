//! The full check of the tree.

use super::{Link, Ranges};

impl Ranges {
    /// Checks links, order, balance and sums of the whole tree; what is wrong, if anything.
    pub(in crate::vmalloc) fn verify(&self) -> Result<(), &'static str> {
        let mut count = 0;
        let mut link = self.first;
        let mut prev: Link = None;
        while let Some(r) = link {
            let n = self.node(r);
            count += 1;
            if count > self.used {
                return Err("more ranges in the list than in the tree");
            }
            if n.prev.get() != prev {
                return Err("a range does not know the one before it");
            }
            if let Some(p) = prev
                && self.end(p) != n.start.get()
            {
                return Err("ranges overlap or leave a gap (V14)");
            }
            if n.largest.get() != self.computed_largest(r) {
                return Err("the largest free range of a subtree is wrong (V13)");
            }
            if self.find(n.start.get()) != link || self.find(self.end(r) - 1) != link {
                return Err("a range cannot be found by its address");
            }
            for child in [n.left.get(), n.right.get()].into_iter().flatten() {
                let c = self.node(child);
                if c.parent.get() != link || c.priority.get() > n.priority.get() {
                    return Err("a child is not below its parent");
                }
            }
            prev = link;
            link = n.next.get();
        }
        let pooled = core::iter::successors(self.pool, |&r| self.chain(r)).take(self.spare + 1);
        if count != self.used || pooled.count() != self.spare {
            return Err("the number of ranges is wrong");
        }
        Ok(())
    }

    /// Levels of the tree, for the test that it is balanced.
    #[cfg(test)]
    pub(in crate::vmalloc) fn depth(&self) -> usize {
        fn below(t: &Ranges, link: Link) -> usize {
            link.map_or(0, |r| {
                let n = t.node(r);
                1 + below(t, n.left.get()).max(below(t, n.right.get()))
            })
        }
        below(self, self.root)
    }
}
