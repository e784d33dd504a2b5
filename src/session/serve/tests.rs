//! A handler that panics.

use super::*;
use crate::fs::Fs;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::session::meter::Role;
use etcfs_proto::abi::{GetattrIn, InHeader};
use etcfs_proto::init::{Offer, Wish, negotiate};
use rustix::fs::{Mode, OFlags};
use std::io::{Read as _, Seek as _};
use std::sync::Arc;
use zerocopy::{FromZeros as _, IntoBytes as _};

static PANICS: Row = Row {
    opcode: Opcode::GETATTR,
    run: |_| panic!("on purpose"),
    at: Where::Worker,
    changes: false,
};

fn session() -> Arc<Session> {
    let base = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(std::env::temp_dir(), flags, Mode::empty()).expect("open");
        BaseDir::new(&dir).expect("a base")
    };
    let settings = Settings {
        stratum: [].into(),
        mountpoint: [].into(),
        exact_globals: false,
        dir_limit: 16,
        privileged: false,
        ..Settings::default()
    };
    let offer = Offer {
        major: 7,
        minor: 45,
        max_readahead: 0,
        flags: etcfs_proto::flags::InitFlags::empty(),
    };
    let agreed = negotiate(&offer, &Wish::default()).expect("agreed");
    let fs = Fs::new(base(), base(), settings).expect("a tree");
    let dev = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    Session::new(dev.expect("open"), fs, agreed, None).expect("a session")
}

fn getattr_of_root() -> Vec<u8> {
    let head = InHeader {
        len: 56,
        opcode: Opcode::GETATTR.0,
        unique: 6,
        nodeid: 1,
        ..InHeader::default()
    };
    [head.as_bytes(), GetattrIn::default().as_bytes()].concat()
}

#[test]
fn a_panic_is_eio_and_one_line_and_the_session_goes_on() {
    let session = session();
    let bytes = getattr_of_root();
    let message = session.flights.copy(&bytes, 0, &Flight::new_zeroed());
    let frame = Frame::cut(message.bytes()).expect("a frame");
    let mut reply = Reply::with_capacity(4096);

    let mut said = tempfile();
    let stderr = rustix::io::dup(rustix::stdio::stderr()).expect("dup");
    rustix::stdio::dup2_stderr(&said).expect("redirect");
    let flight = message.flight();
    let ran = run(&session, &PANICS, &frame, flight, &mut reply, &Way::WORKER);
    rustix::stdio::dup2_stderr(&stderr).expect("restore");

    assert!(matches!(ran, Err(Leave::Failed(Errno::IO))));
    let mut text = String::new();
    said.rewind().expect("rewind");
    said.read_to_string(&mut text).expect("read");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("GETATTR of node 1") && text.contains("on purpose"),
        "{text}"
    );

    let seat = session.meters.sit(Role::Worker);
    let served = serve(&session, &seat, message.request(), &mut reply, &Way::WORKER);
    let Served::Answer(answer) = served else {
        panic!("the next request is answered");
    };
    assert_eq!(answer[4..8], [0; 4], "no error");
}

fn tempfile() -> std::fs::File {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR)
        .expect("an unnamed file")
        .into()
}
