//! Copies from and to user space: here the process, where memory can be missing.
#![cfg(not(loom))]

use gfp::flags::GFP_KERNEL;
use gfp::frame::PAGE_SIZE;
use gfp::mm::{CopyRefusal, UserError};
use gfp::page::BootConfig;
use gfp::platform::{Platform, UserAddr};
use gfp::slab::{CacheArgs, ZERO_SIZE_PTR};
use gfp::{AllocError, Mm};
use gfp_host::{HostConfig, HostPlatform};
use std::ffi::CStr;
use std::ptr::NonNull;

fn machine() -> Mm<HostPlatform> {
    let platform = HostPlatform::new(&HostConfig::new(32 << 20)).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// Two pages, the second of which is not there.
struct Edge(NonNull<u8>);

impl Edge {
    fn new() -> Edge {
        let (private, rights) = (
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            libc::PROT_READ | libc::PROT_WRITE,
        );
        // SAFETY: new memory, of which the second page is taken away again.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), 2 * PAGE_SIZE, rights, private, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            let second = at.byte_add(PAGE_SIZE);
            assert_eq!(libc::mprotect(second, PAGE_SIZE, libc::PROT_NONE), 0);
            at.cast::<u8>().expose_provenance();
            Edge(NonNull::new(at.cast()).unwrap())
        }
    }

    /// Writes `bytes` so that they end where memory ends.
    fn last(&self, bytes: &[u8]) -> UserAddr {
        // SAFETY: inside of the first page.
        unsafe {
            let at = self.0.add(PAGE_SIZE - bytes.len());
            at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            UserAddr(at.as_ptr().expose_provenance())
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the first page, which is there and initialised.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), PAGE_SIZE) }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // SAFETY: our own pages.
        unsafe { libc::munmap(self.0.as_ptr().cast(), 2 * PAGE_SIZE) };
    }
}

fn bytes<'a>(p: NonNull<u8>, n: usize) -> &'a [u8] {
    // SAFETY: an object of at least `n` initialised bytes, freed later.
    unsafe { std::slice::from_raw_parts(p.as_ptr(), n) }
}

// S27
#[test]
fn a_copy_of_user_space_is_whole_or_an_error() {
    let mm = machine();
    let edge = Edge::new();
    let user = edge.last(b"hello");
    let copy = mm.memdup_user(user, 5).unwrap();
    assert_eq!(bytes(copy, 5), b"hello");
    let with_nul = mm.memdup_user_nul(user, 5).unwrap();
    assert_eq!(bytes(with_nul, 6), b"hello\0");
    let large = vec![5u8; 6 << 20];
    let from = UserAddr(large.as_ptr().expose_provenance());
    let v = mm.vmemdup_user(from, large.len()).unwrap();
    assert!(mm.is_vmalloc_addr(v.addr().get()) && bytes(v, large.len()) == large);
    let max = 4 << 20;
    let too_large = Err(UserError::Alloc(AllocError::TooLarge { max }));
    assert_eq!(mm.memdup_user(from, large.len()), too_large);
    assert_eq!(mm.memdup_user(user, 6), Err(UserError::Fault));
    assert_eq!(mm.memdup_user_nul(user, 6), Err(UserError::Fault));
    assert_eq!(mm.vmemdup_user(user, 6), Err(UserError::Fault));
    assert_eq!(
        mm.memdup_user(UserAddr(usize::MAX), 9),
        Err(UserError::Fault)
    );
    assert_eq!(mm.memdup_user(UserAddr(0), 0), Ok(ZERO_SIZE_PTR)); // S15
    // SAFETY: each is freed once.
    unsafe {
        mm.kfree(copy.as_ptr());
        mm.kfree(with_nul.as_ptr());
        mm.kvfree(v.as_ptr());
    }
    mm.verify().unwrap();
}

// S27
#[test]
fn a_string_of_user_space_ends_in_time_or_is_refused() {
    let mm = machine();
    let edge = Edge::new();
    for length in [1, 2, 63, 64, 65, 200] {
        let mut string = vec![b'a'; length - 1];
        string.push(0);
        let user = edge.last(&string);
        assert_eq!(mm.strnlen_user(user, length), Ok(Some(length)));
        assert_eq!(mm.strnlen_user(user, length - 1), Ok(None));
        for max in [length, length + 1, 100_000] {
            let copy = mm.strndup_user(user, max).unwrap();
            assert_eq!(bytes(copy, length), string);
            // SAFETY: freed once.
            unsafe { mm.kfree(copy.as_ptr()) };
        }
        assert_eq!(mm.strndup_user(user, length - 1), Err(UserError::TooLong));
    }
    // Without an end it runs into what is not there, unless the limit comes first.
    let user = edge.last(&[b'a'; 100]);
    assert_eq!(mm.strndup_user(user, 101), Err(UserError::Fault));
    assert_eq!(mm.strndup_user(user, 100), Err(UserError::TooLong));
}

// D60, S48
#[test]
fn checked_copies_go_both_ways_through_the_window_only() {
    let mm = machine();
    let edge = Edge::new();
    let args = CacheArgs {
        useroffset: 16,
        usersize: 8,
        ..CacheArgs::new("record", 64)
    };
    let cache = mm.kmem_cache_create(&args).unwrap();
    let object = mm.kmem_cache_zalloc(cache, GFP_KERNEL).unwrap().as_ptr();
    let user = edge.last(b"abcdefgh");
    // SAFETY: the object has 64 bytes, all initialised.
    unsafe {
        let window = object.add(16);
        mm.copy_from_user(window, user, 8).unwrap();
        assert_eq!(std::slice::from_raw_parts(window, 8), b"abcdefgh");
        window.write(b'X');
        mm.copy_to_user(user, window, 8).unwrap();
        assert_eq!(&edge.bytes()[PAGE_SIZE - 8..], b"Xbcdefgh");
        // What is not there reads as zero, and nothing stale is left.
        let short = UserAddr(user.0 + 4);
        assert_eq!(mm.copy_from_user(window, short, 8), Err(UserError::Fault));
        assert_eq!(std::slice::from_raw_parts(window, 8), b"efgh\0\0\0\0");
        assert_eq!(mm.copy_to_user(short, window, 8), Err(UserError::Fault));
        let refused = Err(UserError::Refused(CopyRefusal::OutsideWindow));
        assert_eq!(mm.copy_from_user(object, user, 8), refused);
        assert_eq!(mm.copy_to_user(user, window, 9), refused);
        assert_eq!(mm.copy_to_user(user, object.add(64), 0), Ok(()));
        // The machine's own memory is no user space.
        let own = UserAddr(object.expose_provenance());
        assert_eq!(mm.copy_from_user(window, own, 8), Err(UserError::Fault));
        assert_eq!(mm.copy_to_user(own, window, 8), Err(UserError::Fault));
        let area = mm.vmalloc(PAGE_SIZE).unwrap();
        area.write_bytes(1, PAGE_SIZE);
        let own = UserAddr(area.as_ptr().expose_provenance());
        assert_eq!(mm.memdup_user(own, 8), Err(UserError::Fault));
        // An area: up to its end.
        let last = area.add(PAGE_SIZE - 8).as_ptr();
        assert_eq!(mm.copy_to_user(user, last, 8), Ok(()));
        let past = Err(UserError::Refused(CopyRefusal::PastEnd));
        assert_eq!(mm.copy_to_user(user, last, 9), past);
        mm.vfree(area.as_ptr());
        mm.kmem_cache_free(cache, object);
    }
    mm.kmem_cache_destroy(cache).unwrap();
}

// S27
#[test]
fn constants_of_the_program_are_not_copied() {
    static mut WRITTEN: [u8; 4] = *b"abc\0";
    let mm = machine();
    let constant = c"a constant of the test";
    let kept = mm.kstrdup_const(constant, GFP_KERNEL).unwrap();
    assert_eq!(kept.as_ptr().addr(), constant.as_ptr().addr());
    let heap = constant.to_owned();
    // SAFETY: nobody writes to it at this moment, and it ends with a NUL.
    let variable = unsafe { CStr::from_ptr((&raw const WRITTEN).cast()) };
    for other in [heap.as_c_str(), variable] {
        assert!(!mm.platform().is_read_only(other.as_ptr().addr()));
        let copy = mm.kstrdup_const(other, GFP_KERNEL).unwrap();
        assert_ne!(copy.as_ptr().addr(), other.as_ptr().addr());
        // SAFETY: freed once.
        unsafe { mm.kfree_const(copy.as_ptr()) };
    }
    // SAFETY: nothing happens.
    unsafe { mm.kfree_const(kept.as_ptr()) };
    let code = constants_are_not_copied_code as fn();
    assert!(mm.platform().is_read_only(code as usize));
    assert!(!mm.platform().is_read_only(0) && !mm.platform().is_read_only(usize::MAX));
    mm.verify().unwrap();
}

fn constants_are_not_copied_code() {}
