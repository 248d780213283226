//! A full check of the lists.

use super::lists::{LISTS, Links, ListId, NodeLists};
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, NodeId};
use crate::page::{VerifyError, same};
use crate::platform::Platform;
use crate::reclaim::Reclaim;
use crate::sync::atomic::Ordering::Relaxed;

/// What is found on the lists of a node, by zone.
#[derive(Default)]
struct Found {
    lists: [[usize; LISTS]; ZoneKind::COUNT],
    dirty: [usize; ZoneKind::COUNT],
    writing: [usize; ZoneKind::COUNT],
}

impl<P: Platform> Reclaim<P> {
    /// Checks the lists: links in both directions, marks against lists, sums, and that no page is
    /// missing. Slow; nothing else may run on this machine meanwhile.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        for id in (0..MAX_NODES as u8).map(NodeId) {
            if let Some(node) = self.lru.node(id) {
                self.verify_node(id, node)?;
            }
        }
        self.verify_wanted()
    }

    /// The other way round: what is wanted on the lists is there.
    fn verify_wanted(&self) -> Result<(), VerifyError> {
        let frames = match self.lru.get() {
            Some(_) => 0..self.pages.frames().len(),
            None => 0..0,
        };
        for place in frames {
            let pfn = self.pages.frames().base().add(place);
            if self.is_wanted(pfn) {
                let page = self.lru_page(pfn);
                let there = page.is_some_and(|page| page.slot.marks.get().is_on_list());
                same("a page that is wanted is on a list", place, there.into(), 1)?;
            }
        }
        Ok(())
    }

    fn verify_node(&self, id: NodeId, node: &NodeLists) -> Result<(), VerifyError> {
        let mut found = Found::default();
        self.with_links(node, |links| {
            (0..LISTS as u8)
                .try_for_each(|list| self.verify_list(links, id, ListId(list), &mut found))
        })?;
        let at = usize::from(id.0);
        for zone in ZoneKind::ALL.map(|kind| kind as usize) {
            let sums = &node.zones[zone];
            for list in 0..LISTS {
                let counted = sums.pages(ListId(list as u8));
                same(
                    "pages on a list are counted",
                    at,
                    found.lists[zone][list],
                    counted,
                )?;
            }
            let dirty = sums.dirty.load(Relaxed) as usize;
            same("dirty pages are counted", at, found.dirty[zone], dirty)?;
            let writing = sums.writing.load(Relaxed) as usize;
            same(
                "pages being written are counted",
                at,
                found.writing[zone],
                writing,
            )?;
        }
        for kind in super::view::KINDS {
            same("no page is taken off", at, node.isolated(kind), 0)?;
        }
        Ok(())
    }

    fn verify_list(
        &self,
        links: &Links,
        id: NodeId,
        list: ListId,
        found: &mut Found,
    ) -> Result<(), VerifyError> {
        let mut after = super::slots::NONE;
        let mut at = links.last(list);
        while let Some(index) = at {
            let place = index as usize;
            let page = self.page_at(index);
            same(
                "a page on a list has a slot",
                place,
                page.is_some().into(),
                1,
            )?;
            let Some(page) = page else { break };
            let mark = page.slot.marks.get();
            same(
                "links agree",
                place,
                page.slot.next() as usize,
                after as usize,
            )?;
            same("it is marked so", place, mark.is_on_list().into(), 1)?;
            same(
                "it is on its list",
                place,
                ListId::of(mark).0.into(),
                list.0.into(),
            )?;
            let home = self.pages.node_of(page.pfn);
            same("it is on its node", place, home.0.into(), id.0.into())?;
            let zone = page.zone as usize;
            found.lists[zone][usize::from(list.0)] += 1;
            found.dirty[zone] += usize::from(mark.is_dirty());
            found.writing[zone] += usize::from(mark.is_writing());
            after = index;
            at = Some(page.slot.prev()).filter(|prev| *prev != super::slots::NONE);
        }
        Ok(())
    }
}
