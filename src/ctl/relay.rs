//! A recording, sent as it is made.

use super::wire::MESSAGE_MAX;
use super::{Admission, Client, Control, thread};
use crate::ledger::stream::MOST;
use crate::replay::recorder::Recorder;
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How soon a client is noticed to have had enough when no request comes.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes of a recording in one message.
const PART: usize = MESSAGE_MAX - size_of::<u64>();

impl Control {
    /// Records for `client` until it shuts its side down; what was recorded until then still goes out.
    pub(super) fn record(self: &Arc<Control>, client: &Client, data: bool, resumes: bool) {
        let Some(recorder) = Recorder::start(&self.session, data) else {
            return client.refuse(format!("{MOST} recordings are being made already"));
        };
        if client.greet(None).is_err() {
            return;
        }
        if resumes {
            recorder.outlives_the_server(client.0.as_fd());
        }
        self.relay(client, &recorder, resumes);
    }

    /// Goes on with what a predecessor was recording for the client of that descriptor.
    pub(super) fn go_on(self: &Arc<Control>, left: (Recorder, OwnedFd)) {
        self.clients.fetch_add(1, Ordering::AcqRel);
        let place = Admission(self.clone());
        // Where there is no thread, the client sees the connection end.
        let _ = thread("etcfs-client", move || {
            let client = Client(left.1);
            // Ended before the client's descriptor is closed.
            let recorder = left.0;
            place.0.relay(&client, &recorder, true);
        });
    }

    fn relay(&self, client: &Client, recorder: &Recorder, resumes: bool) {
        self.listeners.fetch_add(1, Ordering::AcqRel);
        let mut message = Vec::with_capacity(MESSAGE_MAX);
        loop {
            let ends = client.has_ended();
            if ends {
                recorder.stop();
            }
            let wait = if ends { Duration::ZERO } else { LOOK };
            let (at, bytes) = recorder.next(wait, PART);
            if bytes.is_empty() {
                match ends {
                    true => break,
                    false => continue,
                }
            }
            message.clear();
            if resumes {
                message.extend(at.to_le_bytes());
            }
            message.extend_from_slice(&bytes);
            if client.send(&message, SendFlags::empty()).is_err() {
                break;
            }
            recorder.sent(bytes.len());
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
}
