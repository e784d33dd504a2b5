//! Closing files that may hang.
//!
//! close(2) of a file on a file system that another server answers for (FUSE, NFS) waits for that server, and one that hangs
//! would keep whoever carries out RELEASE. So a file that lies on another file system than the base directories is closed
//! by a thread that closes this file system's files only, for as long as there are some.

use super::handle::File;
use crate::mutex::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What waits to be closed, by device number. A device is in it while it has a thread.
#[derive(Default)]
pub(crate) struct Closing(Arc<Mutex<HashMap<u64, Vec<Arc<File>>>>>);

impl Closing {
    /// Has `file`, which lies on device `dev`, closed elsewhere; here where there is no thread to be had.
    pub(crate) fn hand_over(&self, dev: u64, file: Arc<File>) {
        let mut queues = lock(&self.0);
        if let Some(waiting) = queues.get_mut(&dev) {
            waiting.push(file);
            return;
        }
        queues.insert(dev, vec![file]);
        drop(queues);
        let all = self.0.clone();
        let started = std::thread::Builder::new()
            .name("etcfs-close".into())
            .stack_size(64 * 1024)
            .spawn(move || {
                while let Some(batch) = take(&all, dev) {
                    drop(batch);
                }
            });
        if started.is_err() {
            let left = lock(&self.0).remove(&dev);
            drop(left);
        }
    }
}

/// What waits for `dev`; nothing: the thread ends.
fn take(all: &Mutex<HashMap<u64, Vec<Arc<File>>>>, dev: u64) -> Option<Vec<Arc<File>>> {
    let mut queues = lock(all);
    let batch = std::mem::take(queues.get_mut(&dev)?);
    if batch.is_empty() {
        queues.remove(&dev);
        return None;
    }
    Some(batch)
}
