//! The lists of pages that their owner can give up.

use super::Mm;
use crate::frame::Pfn;
use crate::platform::Platform;
use crate::policy::reclaim::lru::Kind;
use crate::reclaim::LruError;

impl<P: Platform> Mm<P> {
    /// Puts a page on the lists that reclaim looks at (`folio_add_lru`; P410). The page is a single
    /// one that has an owner ([`Mm::set_page_owner`]). From now on the owner may be asked to give
    /// it up ([`PageOwner::reclaim`](crate::page::PageOwner::reclaim)): first those that were not
    /// used for longest.
    ///
    /// Take it off ([`Mm::lru_del`]) before you free it. A page that is freed as it is leaves the
    /// lists as well, but it counts as on them until reclaim comes by.
    ///
    /// Context: any but an NMI. Takes a page now and then, for the slots of 256 frames, and keeps
    /// it.
    ///
    /// # Errors
    /// [`LruError`]: why it is not on the lists.
    pub fn lru_add(&self, pfn: Pfn, kind: Kind) -> Result<(), LruError> {
        self.slabs().reclaim().lru_add(pfn, kind)
    }

    /// Takes a page off the lists (`lruvec_del_folio`). False if it is not on them. Its owner may
    /// still be asked about it by a reclaimer that has taken it off before, and says no.
    ///
    /// Context: any but an NMI.
    pub fn lru_del(&self, pfn: Pfn) -> bool {
        self.slabs().reclaim().lru_del(pfn)
    }

    /// Notes that a page of the lists is used (`folio_mark_accessed`). Used once it gets a second
    /// look, used at two looks it becomes active.
    ///
    /// Context: any. Takes no lock.
    pub fn mark_page_accessed(&self, pfn: Pfn) {
        self.slabs().reclaim().mark_page_accessed(pfn);
    }

    /// Notes that the content of a page of the lists must be written before it can go
    /// (`folio_mark_dirty`): who may not do I/O, or enter file systems, does not ask for it. True
    /// if that is new; false also of a page that is on no list now, as one that is just being
    /// moved. It is a hint: what becomes of the page, its owner says.
    ///
    /// Context: any. Takes no lock.
    pub fn set_page_dirty(&self, pfn: Pfn) -> bool {
        self.slabs().reclaim().set_page_dirty(pfn)
    }

    /// Takes [`Mm::set_page_dirty`] back (`folio_cancel_dirty`). True if it was so.
    ///
    /// Context: any. Takes no lock.
    pub fn clear_page_dirty(&self, pfn: Pfn) -> bool {
        self.slabs().reclaim().clear_page_dirty(pfn)
    }

    /// Notes that a page of the lists is being written from now on, and is clean as far as it is
    /// not changed anew (`folio_start_writeback`). Its owner is not asked for it meanwhile. True if
    /// that is new.
    ///
    /// Context: any; the owner calls it before it starts the device. Takes no lock.
    pub fn start_page_writeback(&self, pfn: Pfn) -> bool {
        self.slabs().reclaim().start_page_writeback(pfn)
    }

    /// How much cheaper it is to fetch a [`Kind::Storable`] page back than a [`Kind::Droppable`]
    /// one, 0 to 200 (`vm.swappiness`; P714): 100 if both cost the same, 60 at boot. With 0
    /// storable pages are not asked for, with 200 only they are, but for the last look before a
    /// request fails.
    pub fn set_swappiness(&self, weight: u8) {
        self.slabs().reclaim().set_swappiness(weight);
    }

    /// What [`Mm::set_swappiness`] has set.
    pub fn swappiness(&self) -> u8 {
        self.slabs().reclaim().swappiness()
    }

    /// Notes that it is written (`folio_end_writeback`). If reclaim had asked for that, the page is
    /// the next to go. True if it was being written.
    ///
    /// Context: any, the interrupt of a device for one. Waits for nobody.
    pub fn end_page_writeback(&self, pfn: Pfn) -> bool {
        self.slabs().reclaim().end_page_writeback(pfn)
    }
}
