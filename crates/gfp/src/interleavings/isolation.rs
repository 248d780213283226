//! Isolation against frees and requests (`page/isolate.rs`): the protocol, with one page of one
//! block, on CPUs whose sections are locks.
//!
//! And with the page on its way by mail (`page/mail.rs`).
//!
//! Seen to fail: no CPU's place taken; only the place of a CPU taken whose cache does not look
//! empty; the place taken before the bit is set; a free that looks at the bit before it enters;
//! CPUs not settled once more when there is mail.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

const CPUS: usize = 2;

struct Machine {
    /// Each CPU's cache; to lock it is to hold the CPU's section.
    cached: [Mutex<bool>; CPUS],
    /// What others see of it without a section.
    looks_cached: [AtomicBool; CPUS],
    isolated: AtomicBool,
    /// The zone's lock, and whether the page is free.
    zone: Mutex<bool>,
    /// How often the page was given out of the isolated block.
    given: AtomicUsize,
    /// Isolation is complete.
    done: AtomicBool,
}

impl Machine {
    fn new() -> Arc<Machine> {
        Arc::new(Machine {
            cached: [Mutex::new(false), Mutex::new(false)],
            looks_cached: [AtomicBool::new(false), AtomicBool::new(false)],
            isolated: AtomicBool::new(false),
            zone: Mutex::new(false),
            given: AtomicUsize::new(0),
            done: AtomicBool::new(false),
        })
    }

    fn free(&self, cpu: usize) {
        let mut cached = self.cached[cpu].lock().unwrap();
        if self.isolated.load(Ordering::Relaxed) {
            *self.zone.lock().unwrap() = true;
        } else {
            *cached = true;
            self.looks_cached[cpu].store(true, Ordering::Relaxed);
        }
    }

    /// A request: true if it got the page.
    fn alloc(&self, cpu: usize) -> bool {
        let before = self.done.load(Ordering::Acquire);
        let mut cached = self.cached[cpu].lock().unwrap();
        let got = match core::mem::take(&mut *cached) {
            true => true,
            // A refill finds the block in the index unless it is isolated.
            false => {
                let mut free = self.zone.lock().unwrap();
                let indexed = !self.isolated.load(Ordering::Relaxed);
                indexed && core::mem::take(&mut *free)
            }
        };
        if got && before {
            self.given.fetch_add(1, Ordering::Relaxed);
        }
        got
    }

    fn isolate(&self) {
        {
            let _zone = self.zone.lock().unwrap();
            self.isolated.store(true, Ordering::Relaxed);
        }
        for cached in &self.cached {
            let mut cached = cached.lock().unwrap();
            if core::mem::take(&mut *cached) {
                *self.zone.lock().unwrap() = true;
            }
        }
        self.done.store(true, Ordering::Release);
    }
}

#[test]
fn when_isolation_returns_no_cpu_has_a_page_of_it_nor_will() {
    // P512
    loom::model(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        // Its owner frees it on one CPU, and somebody asks on the same.
        let other = thread::spawn(move || {
            theirs.free(1);
            theirs.alloc(1)
        });
        machine.isolate();
        // Whoever comes now, here or there, gets nothing of it.
        assert!(!*machine.cached[1].lock().unwrap());
        assert!(!machine.alloc(0));
        let got = other.join().unwrap();
        assert!(
            !*machine.cached[1].lock().unwrap(),
            "cached after the place was taken"
        );
        assert_eq!(machine.given.load(Ordering::Relaxed), 0);
        assert_eq!(
            *machine.zone.lock().unwrap(),
            !got,
            "the page is free, or in use"
        );
    });
}

/// As above; what a CPU gives back meets a lock that is taken, so it is sent.
struct Post {
    sections: [Mutex<()>; CPUS],
    isolated: AtomicBool,
    /// Whether the page is in the mail, and how many wait or are about to be put.
    mail: AtomicBool,
    pages: AtomicUsize,
    zone: Mutex<bool>,
    given_back: AtomicBool,
}

impl Post {
    fn give_back(&self) {
        let _section = self.sections[1].lock().unwrap();
        self.given_back.store(true, Ordering::Relaxed);
        if self.isolated.load(Ordering::Relaxed) {
            *self.zone.lock().unwrap() = true;
            return;
        }
        self.pages.fetch_add(1, Ordering::Relaxed);
        // An exchange, as the mail's; and of a store loom says that an exchange may not see it.
        self.mail.swap(true, Ordering::Release);
    }

    fn put_mail(&self, cpu: usize) {
        let _section = self.sections[cpu].lock().unwrap();
        if self.mail.swap(false, Ordering::Acquire) {
            *self.zone.lock().unwrap() = true;
            self.pages.fetch_sub(1, Ordering::Release);
        }
    }

    fn isolate(&self) {
        {
            let _zone = self.zone.lock().unwrap();
            self.isolated.store(true, Ordering::Relaxed);
        }
        let each = || (0..CPUS).for_each(|cpu| self.put_mail(cpu));
        each();
        if self.pages.load(Ordering::Acquire) != 0 {
            each();
        }
    }
}

#[test]
fn when_isolation_returns_no_page_of_it_is_in_the_mail_or_about_to_be_put() {
    // P512
    loom::model(|| {
        let post = Arc::new(Post {
            sections: [Mutex::new(()), Mutex::new(())],
            isolated: AtomicBool::new(false),
            mail: AtomicBool::new(false),
            pages: AtomicUsize::new(0),
            zone: Mutex::new(false),
            given_back: AtomicBool::new(false),
        });
        let (giver, putter) = (post.clone(), post.clone());
        let giver = thread::spawn(move || giver.give_back());
        let putter = thread::spawn(move || putter.put_mail(0));
        post.isolate();
        {
            let _section = post.sections[1].lock().unwrap();
            let free = *post.zone.lock().unwrap();
            assert!(free || !post.given_back.load(Ordering::Relaxed));
        }
        giver.join().unwrap();
        putter.join().unwrap();
        assert!(*post.zone.lock().unwrap());
    });
}
