//! The daemon's side of `etcfsctl`: a socket, a thread that sleeps until somebody asks, and one short-lived thread for
//! each who does.
//!
//! Nothing here is needed for serving the mount: whatever goes wrong is answered or logged, and the mount goes on.

pub mod access;
mod answer;
mod cache;
mod doctor;
pub mod door;
mod live;
mod relay;
mod replace;
pub mod report;
pub mod wire;

use crate::ledger::header::FirstPage;
use crate::log;
use crate::replay::recorder::Recorder;
use crate::session::Session;
use crate::session::meter::Snapshot;
use crate::sys::peer::peer;
use door::Door;
use etcfs_proto::flags::InitFlags;
use rustix::fd::OwnedFd;
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::process::Pid;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wire::{ASK_MAX, Head, MESSAGE_MAX, Query};

/// How many clients may be connected at once: each has a thread.
const CLIENTS: usize = 16;

/// How long a client may take to ask, and to take in a part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon knows about its own start.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The directory beneath the mount.
    pub(crate) local: PathBuf,
    /// The directory with the global files.
    pub(crate) global: PathBuf,
    /// Flags that INIT was asked for.
    pub(crate) wished: InitFlags,
    /// Passthrough was asked for.
    pub(crate) passthrough: bool,
    /// What the keeper reads, if there is one.
    pub(crate) keeper: Option<&'static FirstPage>,
}

/// What the threads here share.
struct Control {
    session: Arc<Session>,
    start: Start,
    /// The figures at the last `stats --reset`, and when that was.
    reset: Mutex<Option<(u64, Snapshot)>>,
    clients: AtomicUsize,
    listeners: AtomicUsize,
    /// Held while a program is tried out.
    upgrading: Mutex<()>,
}

/// Starts the thread that serves the door, and goes on with what a predecessor was recording. Without such a thread the mount works
/// all the same; that is logged.
pub(crate) fn serve(
    session: &Arc<Session>,
    door: Door,
    start: Start,
    left: Vec<(Recorder, OwnedFd)>,
) {
    let control = Arc::new(Control {
        session: session.clone(),
        start,
        reset: Mutex::default(),
        clients: AtomicUsize::new(0),
        listeners: AtomicUsize::new(0),
        upgrading: Mutex::default(),
    });
    left.into_iter().for_each(|left| control.go_on(left));
    let started = thread("etcfs-ctl", move || control.accept(&door));
    if let Err(error) = started {
        log::error(format_args!(
            "no thread can be made for the control socket ({error}): etcfsctl cannot reach this daemon; the mount works without it"
        ));
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 * 1024)
        .spawn(body)
        .map(drop)
}

impl Control {
    fn accept(self: &Arc<Control>, door: &Door) {
        loop {
            match door.next() {
                Ok(client) => self.welcome(client),
                Err(Errno::INTR | Errno::CONNABORTED | Errno::INVAL) => {}
                // No descriptor or no memory: the client waits in the queue.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Gives a client a thread, or a reason why not.
    fn welcome(self: &Arc<Control>, socket: OwnedFd) {
        let client = Client(socket);
        if !client.may_ask() {
            client.refuse("only root and the user who mounted may ask this daemon".to_owned());
            return;
        }
        if self.clients.fetch_add(1, Ordering::AcqRel) >= CLIENTS {
            self.clients.fetch_sub(1, Ordering::AcqRel);
            client.refuse(format!("{CLIENTS} clients are connected already"));
            return;
        }
        let place = Admission(self.clone());
        // Where there is no thread, the client sees the connection end.
        let _ = thread("etcfs-client", move || place.0.attend(&client));
    }

    /// Serves one client to its end.
    fn attend(self: &Arc<Control>, client: &Client) {
        let _ = set_socket_timeout(&client.0, Timeout::Recv, Some(PATIENCE));
        let _ = set_socket_timeout(&client.0, Timeout::Send, Some(PATIENCE));
        let mut message = vec![0; ASK_MAX + 1];
        let Ok((len, _)) = recv(&client.0, &mut message[..], RecvFlags::empty()) else {
            return;
        };
        let ask = match len {
            0 => return,
            len if len > ASK_MAX => Err(format!("a request has at most {ASK_MAX} bytes")),
            len => wire::read_query(&message[..len]),
        };
        match ask {
            Ok(Query::Log(filter)) => self.stream(client, filter, false),
            Ok(Query::Trace(filter)) => self.stream(client, filter, true),
            Ok(Query::Record { data, resumes }) => self.record(client, data, resumes),
            Ok(Query::Restart) => self.restart(client),
            Ok(Query::Upgrade { program, id }) => self.upgrade(client, program, id),
            Ok(ask) => match self.answer(&ask) {
                Ok(text) => client.report(&text),
                Err(error) => client.refuse(error),
            },
            Err(error) => client.refuse(error),
        }
    }
}

/// One of the places for clients; dropping it frees it.
struct Admission(Arc<Control>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One connection.
struct Client(OwnedFd);

impl Client {
    fn may_ask(&self) -> bool {
        let own = rustix::process::getuid().as_raw();
        peer(&self.0).is_ok_and(|peer| peer.uid == 0 || peer.uid == own)
    }

    /// The client's process, as the kernel noted it.
    fn pid(&self) -> Option<Pid> {
        peer(&self.0).ok()?.pid
    }

    fn send(&self, message: &[u8], flags: SendFlags) -> io::Result<usize> {
        send(&self.0, message, flags | SendFlags::NOSIGNAL)
    }

    fn greet(&self, error: Option<String>) -> io::Result<usize> {
        let head = serde_json::to_vec(&Head::new(error)).unwrap_or_default();
        self.send(&head, SendFlags::empty())
    }

    fn refuse(&self, error: String) {
        let head = serde_json::to_vec(&Head::new(Some(error))).unwrap_or_default();
        // Nobody is waited for: this is also said by the thread that accepts.
        let _ = self.send(&head, SendFlags::DONTWAIT);
        // A socket closed over a request that nobody has read gives the client ECONNRESET in place of the reason
        // (unix_release_sock). After the shutdown no request comes in any more, and what has come is taken off.
        let _ = shutdown(&self.0, Shutdown::Both);
        let mut unread = [0; 1];
        while recv(&self.0, &mut unread[..], RecvFlags::DONTWAIT).is_ok_and(|(_, len)| len > 0) {}
    }

    fn report(&self, text: &[u8]) {
        if self.greet(None).is_err() {
            return;
        }
        for part in text.chunks(MESSAGE_MAX) {
            if self.send(part, SendFlags::empty()).is_err() {
                return;
            }
        }
    }
}
