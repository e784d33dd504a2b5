//! Where a process that writes records may be killed, for tests: a thread ends at the n-th such point, and what stands in
//! the ledger then is what a successor finds.

/// A point at which the process may end. Nothing, outside of tests.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(test)]
    armed::point();
}

#[cfg(test)]
pub(crate) use armed::killed_at;

#[cfg(test)]
mod armed {
    use std::cell::RefCell;
    use std::sync::mpsc::{Sender, channel};

    thread_local! {
        /// How many points the thread still passes, and whom it tells.
        static LEFT: RefCell<Option<(usize, Sender<bool>)>> = const { RefCell::new(None) };
    }

    pub(super) fn point() {
        let ends = LEFT.with_borrow_mut(|left| match left {
            None => false,
            Some((0, tell)) => {
                let _ = tell.send(true);
                true
            }
            Some((left, _)) => {
                *left -= 1;
                false
            }
        });
        // Never unwound: what a killed thread holds it does not give back.
        if ends {
            loop {
                std::thread::park();
            }
        }
    }

    /// Carries out `work` in a thread that ends at its point number `at`, without any cleaning up. True if there was such
    /// a point.
    pub(crate) fn killed_at(at: usize, work: impl FnOnce() + Send + 'static) -> bool {
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            LEFT.set(Some((at, tell.clone())));
            work();
            LEFT.set(None);
            let _ = tell.send(false);
        });
        let killed = told.recv().expect("the work has panicked");
        if !killed {
            thread.join().expect("the work has panicked");
        }
        killed
    }
}
