//! Panics of tasks: kept for the report instead of printed.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// While `Some`, panics of this thread are written here.
    static KEPT: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let kept = KEPT.with_borrow_mut(|kept| match kept {
                Some(text) if text.is_empty() => {
                    *text = info.to_string();
                    true
                }
                Some(_) => true,
                None => false,
            });
            if !kept {
                before(info);
            }
        }));
    });
}

/// Keeps what panics inside `work` say, for [`catch`].
pub(crate) fn keeping<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(Option<String>);
    impl Drop for Restore {
        fn drop(&mut self) {
            KEPT.set(self.0.take());
        }
    }
    install();
    let _restore = Restore(KEPT.replace(Some(String::new())));
    work()
}

/// Runs `work`; if it panics, the answer is what was said and where.
pub(crate) fn catch<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = KEPT.with_borrow_mut(|kept| kept.as_mut().map(std::mem::take));
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| said(&*payload))
    })
}

/// Ends the process, with what the panic under way says.
pub(crate) fn abort(why: &str) -> ! {
    let text = KEPT.with_borrow(|kept| kept.clone().unwrap_or_default());
    eprintln!("gfp-sim: a task panicked, and {why}: {text}");
    std::process::abort();
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
