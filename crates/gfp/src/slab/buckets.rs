//! Private size classes: objects of one user apart from those of all others (S8).

use super::cache::{CacheArgs, CacheError, CacheFlags, CacheRef, MAX_NAME_LEN};
use super::{Slabs, ZERO_SIZE_PTR};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::policy::size_class::{
    KMALLOC, KMALLOC_CLASSES, KmallocFamily, class_align, class_size, kmalloc_index,
};
use core::ptr::NonNull;

/// How to make private classes (S8). Start from [`BucketArgs::new`] and change what differs.
#[derive(Copy, Clone, Debug)]
pub struct BucketArgs<'a> {
    /// The caches are named after it: `<prefix>-64`.
    pub prefix: &'a str,
    /// What else they are.
    pub flags: CacheFlags,
    /// Called once for each object when its slab is made (S53).
    pub ctor: Option<fn(*mut u8)>,
    /// First byte of an object that may be copied to user space.
    pub useroffset: usize,
    /// How many bytes may be copied from there, as far as the class goes; 0: none.
    pub usersize: usize,
}

impl<'a> BucketArgs<'a> {
    /// Classes with no wishes: nothing may be copied to user space.
    pub const fn new(prefix: &'a str) -> BucketArgs<'a> {
        BucketArgs {
            prefix,
            flags: CacheFlags::NONE,
            ctor: None,
            useroffset: 0,
            usersize: 0,
        }
    }

    /// The window of a class: what of it lies in there (S8).
    fn window(&self, size: usize) -> (usize, usize) {
        match size.checked_sub(self.useroffset) {
            Some(room) if room > 0 && self.usersize > 0 => {
                (self.useroffset, self.usersize.min(room))
            }
            _ => (0, 0),
        }
    }
}

/// A row of size classes of one's own. Plain data, as [`CacheRef`]: once destroyed, it is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct KmemBuckets {
    /// By class index; `None` where there is no class.
    caches: [Option<CacheRef>; KMALLOC_CLASSES],
}

impl KmemBuckets {
    /// Its caches.
    pub fn caches(&self) -> impl Iterator<Item = CacheRef> + use<> {
        self.caches.into_iter().flatten()
    }
}

/// `<prefix>-<size>`, if that is a name.
struct BucketName {
    bytes: [u8; MAX_NAME_LEN],
    len: usize,
}

impl BucketName {
    fn new(prefix: &str, class: usize) -> Option<BucketName> {
        let plain = KmallocFamily::Normal.cache_name(class)?;
        let size = plain.strip_prefix("kmalloc")?; // the dash stays
        let mut this = BucketName {
            bytes: [0; MAX_NAME_LEN],
            len: prefix.len() + size.len(),
        };
        let (head, tail) = this.bytes.get_mut(..this.len)?.split_at_mut(prefix.len());
        head.copy_from_slice(prefix.as_bytes());
        tail.copy_from_slice(size.as_bytes());
        (!prefix.is_empty()).then_some(this)
    }

    fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(&self.bytes[..self.len]).ok()
    }
}

impl<P: Platform> Slabs<P> {
    /// Makes a row of size classes (S8): a cache for each class of kmalloc, aligned as those are,
    /// shared with nobody.
    ///
    /// Context: task.
    ///
    /// # Errors
    /// As [`Slabs::cache_create`]; nothing was made then.
    pub fn buckets_create(&self, args: &BucketArgs<'_>) -> Result<KmemBuckets, CacheError> {
        let mut buckets = KmemBuckets {
            caches: [None; KMALLOC_CLASSES],
        };
        for class in KMALLOC.classes() {
            let (Some(size), Some(align)) = (class_size(class), class_align(class)) else {
                continue;
            };
            match self.bucket(args, class, size, align) {
                Ok(cache) => buckets.caches[class] = Some(cache),
                Err(error) => {
                    for cache in buckets.caches() {
                        let gone = self.destroy(cache, &mut |_| {});
                        debug_assert!(gone.is_ok(), "nobody has an object of it");
                    }
                    return Err(error);
                }
            }
        }
        Ok(buckets)
    }

    fn bucket(
        &self,
        args: &BucketArgs<'_>,
        class: usize,
        size: usize,
        align: usize,
    ) -> Result<CacheRef, CacheError> {
        let name = BucketName::new(args.prefix, class).ok_or(CacheError::BadName)?;
        let (useroffset, usersize) = args.window(size);
        self.create(
            &CacheArgs {
                align,
                flags: args.flags.with(CacheFlags::NO_MERGE),
                ctor: args.ctor,
                useroffset,
                usersize,
                ..CacheArgs::new(name.as_str().ok_or(CacheError::BadName)?, size)
            },
            None,
        )
    }

    /// `size` bytes of these classes; above 8 KiB whole pages, as of kmalloc. Aligned as kmalloc
    /// aligns (S13), and freed with [`Slabs::kfree`].
    ///
    /// # Errors
    /// As [`Slabs::cache_alloc`] and [`Slabs::kmalloc`].
    #[inline]
    pub fn buckets_alloc(
        &self,
        buckets: &KmemBuckets,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        match kmalloc_index(size) {
            Some(class) => match buckets.caches[class] {
                Some(cache) => self.cache_alloc(cache, gfp, node),
                None => Err(AllocError::BadPointer),
            },
            None if size == 0 => Ok(ZERO_SIZE_PTR),
            None => self.kmalloc(size, gfp, node),
        }
    }

    /// Takes the classes down. `live` is shown every object that is still in use.
    ///
    /// Context: as [`Slabs::destroy`].
    ///
    /// # Errors
    /// The first of [`Slabs::destroy`]; the other caches are gone all the same.
    pub fn buckets_destroy(
        &self,
        buckets: &KmemBuckets,
        live: &mut dyn FnMut(usize),
    ) -> Result<(), CacheError> {
        let mut result = Ok(());
        for cache in buckets.caches() {
            result = result.and(self.destroy(cache, live));
        }
        result
    }
}
