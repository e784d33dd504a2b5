//! A recording, sent as it is made.

use super::wire::MESSAGE_MAX;
use super::{Client, Control};
use crate::replay::recorder::Recorder;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How soon a client is noticed to have had enough when no request comes.
const LOOK: Duration = Duration::from_millis(100);

impl Control {
    /// Records for `client` until it shuts its side down; what was recorded until then still goes out.
    pub(super) fn record(self: &Arc<Control>, client: &Client, data: bool) {
        if client.greet(None).is_err() {
            return;
        }
        self.listeners.fetch_add(1, Ordering::AcqRel);
        let recorder = Recorder::start(&self.session, data);
        loop {
            let ends = client.has_ended();
            if ends {
                recorder.stop();
            }
            let bytes = recorder.take(if ends { Duration::ZERO } else { LOOK });
            if ends && bytes.is_empty() || client.send_all(&bytes).is_err() {
                break;
            }
        }
        self.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Client {
    fn has_ended(&self) -> bool {
        let mut byte = [0; 1];
        match recv(&self.0, &mut byte, RecvFlags::DONTWAIT) {
            Ok((len, _)) => len == 0,
            Err(errno) => errno != Errno::AGAIN && errno != Errno::INTR,
        }
    }

    fn send_all(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        for part in bytes.chunks(MESSAGE_MAX) {
            self.send(part, SendFlags::empty())?;
        }
        Ok(())
    }
}
