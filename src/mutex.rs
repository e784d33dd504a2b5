//! Taking a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder panicked protects plain data that is still whole: every change to it is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
