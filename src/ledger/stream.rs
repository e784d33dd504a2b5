//! What was recorded (`replay::recorder`) and not yet sent, so that a successor goes on with each recording where it was.
//!
//! Each has a piece of [`Region::Recorded`] as a ring. How far it was written and how far it was sent are positions in the
//! whole of the recording. The one is moved after the bytes, the other after the client has them: who is killed in between
//! leaves bytes that nobody sees, or that the client is sent once more, by their position.

use super::recording::RecordingRecord;
use super::table::{Table, number};
use super::{Ledger, Region};
use crate::sys::slots::{LentPiece, Slots};
use rustix::fd::RawFd;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most recordings at once.
pub(crate) const MOST: usize = 4;

/// All of them.
#[derive(Debug)]
pub(crate) struct Recordings {
    ledger: &'static Ledger,
    table: Table<RecordingRecord>,
    pieces: Arc<Slots>,
    each: usize,
}

impl Recordings {
    /// Those of `ledger`.
    pub(crate) fn over(ledger: &'static Ledger) -> Arc<Recordings> {
        let each = ledger.place(Region::Recorded).1 / MOST;
        Arc::new(Recordings {
            ledger,
            table: ledger.table(Region::Recordings),
            pieces: Arc::new(ledger.slots(Region::Recorded, 0, each, MOST)),
            each,
        })
    }

    /// A new one, begun at `began`. `None`: there are [`MOST`].
    pub(crate) fn begin(self: &Arc<Recordings>, began: u64, data: bool) -> Option<Stream> {
        let number = self.table.take()?;
        if number as usize >= MOST {
            self.table.give(number);
            return None;
        }
        let record = self.table.at(number);
        record.client.store(0, Ordering::Relaxed);
        record.data.store(data.into(), Ordering::Relaxed);
        record.lost.store(0, Ordering::Relaxed);
        record.began.store(began, Ordering::Relaxed);
        record.written.store(0, Ordering::Relaxed);
        record.sent.store(0, Ordering::Relaxed);
        record.state.store(1, Ordering::Release);
        Some(self.stream(number))
    }

    /// Those that a predecessor has left, with the client's descriptor. To be asked once.
    pub(crate) fn left(self: &Arc<Recordings>) -> Vec<(Stream, RawFd)> {
        let used: Vec<u32> = self.table.used().map(|(number, _)| number).collect();
        let mut left = Vec::new();
        for at in used {
            let record = self.table.at(at);
            let is_one = (at as usize) < MOST
                && record
                    .written
                    .load(Ordering::Relaxed)
                    .checked_sub(record.sent.load(Ordering::Relaxed))
                    .is_some_and(|waiting| waiting <= self.each as u64);
            match number(record.client.load(Ordering::Relaxed)).filter(|_| is_one) {
                Some(client) => left.push((self.stream(at), client)),
                None => self.end(at),
            }
        }
        left
    }

    fn stream(self: &Arc<Recordings>, number: u32) -> Stream {
        Stream {
            all: self.clone(),
            record: self.table.at(number),
            number,
            bytes: self.pieces.lend(number as usize),
            touched: true,
        }
    }

    fn end(&self, number: u32) {
        let record = self.table.at(number);
        record.client.store(0, Ordering::Relaxed);
        record.state.store(0, Ordering::Release);
        self.table.give(number);
    }

    fn give_back(&self, number: u32) {
        let first = number as usize * self.each;
        self.ledger.free(Region::Recorded, first, self.each);
    }
}

/// A recording that somebody writes. It ends when this is dropped.
pub(crate) struct Stream {
    all: Arc<Recordings>,
    record: &'static RecordingRecord,
    number: u32,
    bytes: LentPiece,
    /// There may be memory to be given back.
    touched: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl Stream {
    /// When it began, ns of the monotonic clock.
    pub(crate) fn began(&self) -> u64 {
        self.record.began.load(Ordering::Relaxed)
    }

    /// With the contents of files.
    pub(crate) fn with_data(&self) -> bool {
        self.record.data.load(Ordering::Relaxed) != 0
    }

    /// A successor goes on with it, for that client, whose descriptor stays open until this is dropped.
    pub(crate) fn outlives_the_server(&self, client: RawFd) {
        let word = client.saturating_add(1);
        self.record.client.store(word, Ordering::Release);
    }

    /// How many records did not fit since this was asked last.
    pub(crate) fn take_lost(&self) -> u32 {
        match self.record.lost.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.record.lost.swap(0, Ordering::Relaxed),
        }
    }

    /// Adds whole records. False, and counted as `records` that are missing: they do not fit.
    pub(crate) fn put(&mut self, bytes: &[u8], records: u32) -> bool {
        let written = self.record.written.load(Ordering::Relaxed);
        let waiting = written.saturating_sub(self.record.sent.load(Ordering::Relaxed)) as usize;
        if waiting + bytes.len() > self.bytes.len() {
            let lost = self.record.lost.load(Ordering::Relaxed);
            let lost = lost.saturating_add(records);
            self.record.lost.store(lost, Ordering::Relaxed);
            return false;
        }
        let at = self.place(written);
        let (first, rest) = bytes.split_at(bytes.len().min(self.bytes.len() - at));
        self.bytes[at..at + first.len()].copy_from_slice(first);
        self.bytes[..rest.len()].copy_from_slice(rest);
        self.touched = true;
        let end = written + bytes.len() as u64;
        self.record.written.store(end, Ordering::Release);
        true
    }

    fn place(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }

    /// True if everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        let written = self.record.written.load(Ordering::Relaxed);
        written == self.record.sent.load(Ordering::Relaxed)
    }

    /// The next bytes to be sent, `most` of them, and their position in the recording.
    pub(crate) fn next(&self, most: usize) -> (u64, Vec<u8>) {
        let sent = self.record.sent.load(Ordering::Relaxed);
        let waiting = self.record.written.load(Ordering::Relaxed) - sent;
        let len = most.min(waiting as usize);
        let at = self.place(sent);
        let first = len.min(self.bytes.len() - at);
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&self.bytes[at..at + first]);
        bytes.extend_from_slice(&self.bytes[..len - first]);
        (sent, bytes)
    }

    /// The next `len` bytes have been sent.
    pub(crate) fn sent(&self, len: usize) {
        let sent = self.record.sent.load(Ordering::Relaxed);
        let sent = sent + len as u64;
        self.record.sent.store(sent, Ordering::Release);
    }

    /// Gives the memory back, if nothing waits in it.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() && std::mem::take(&mut self.touched) {
            self.all.give_back(self.number);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.all.give_back(self.number);
        self.all.end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    #[test]
    fn there_are_so_many_and_each_goes_on_if_it_is_to() {
        let ledger = Ledger::create().unwrap();
        let all = Recordings::over(ledger);
        let mut begun: Vec<_> = (0..MOST as u64)
            .map(|n| all.begin(n, n == 1).unwrap())
            .collect();
        assert!(all.begin(9, false).is_none());
        drop(begun.remove(3));
        for (n, stream) in begun.iter_mut().enumerate() {
            assert!(stream.put(&[n as u8; 5], 1));
            stream.sent(2);
        }
        begun[1].outlives_the_server(7);
        assert_eq!(ledger.named_descriptors(), [7]);
        std::mem::forget((all, begun));
        let file = ledger.file().unwrap().try_clone_to_owned().unwrap();
        let next = Recordings::over(Ledger::adopt(file).unwrap());
        let mut left = next.left();
        let (stream, client) = left.pop().unwrap();
        assert!(left.is_empty() && client == 7);
        assert!(stream.with_data() && stream.began() == 1);
        assert_eq!(stream.next(100), (2, vec![1; 3]));
        assert!(next.begin(0, false).is_some());
        drop(stream);
        assert!(next.ledger.named_descriptors().is_empty());
    }

    #[test]
    fn the_memory_is_given_back_when_all_is_sent() {
        let ledger = Ledger::create().unwrap();
        let all = Recordings::over(ledger);
        let blocks = || rustix::fs::fstat(ledger.file().unwrap()).unwrap().st_blocks;
        let mut stream = all.begin(0, false).unwrap();
        let before = blocks();
        assert!(stream.put(&[1; 1 << 20], 1));
        stream.rest();
        assert!(blocks() >= before + 2048, "it waits still");
        stream.sent(1 << 20);
        stream.rest();
        assert!(blocks() < before + 100);
    }

    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(9_000_251).collect());

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn what_is_put_comes_out_once_in_order(
            steps in prop::collection::vec((0..9_000_000_usize, 0..9_000_000_usize), 1..12),
        ) {
            let all = Recordings::over(Ledger::private().unwrap());
            let mut stream = all.begin(0, false).unwrap();
            let (mut put, mut got, mut lost) = (0_u64, 0_u64, 0);
            let text = |from: u64, len: usize| &BYTES[(from % 251) as usize..][..len];
            for (len, taken) in steps {
                match stream.put(text(put, len), 1) {
                    true => put += len as u64,
                    false => lost += 1,
                }
                let (at, bytes) = stream.next(taken);
                prop_assert_eq!(at, got);
                prop_assert!(bytes == text(got, bytes.len()));
                stream.sent(bytes.len());
                got += bytes.len() as u64;
            }
            prop_assert_eq!(stream.take_lost(), lost);
            prop_assert_eq!(stream.is_empty(), put == got);
        }
    }
}
