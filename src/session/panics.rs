//! A handler's panic as an error: caught, and told in one line instead of the several that the default hook prints.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// This thread is inside [`catch`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// What the hook has seen there.
    static SEEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Makes panics inside [`catch`] silent; others are printed as before. Does something once per process.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printing = take_hook();
        set_hook(Box::new(move |info| {
            if CATCHING.get() {
                let text = info.to_string().replace('\n', " ");
                SEEN.with_borrow_mut(|seen| *seen = text);
            } else {
                printing(info);
            }
        }));
    });
}

/// Runs `work`.
///
/// # Errors
/// Where it panicked and why, in one line.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let within_another = CATCHING.replace(true);
    // A handler changes plain tables by single assignments and owns its descriptors, so what a panic leaves is whole.
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(within_another);
    result.map_err(|_| SEEN.take())
}
