//! A recording as Wireshark reads it: pcapng with packets of link type USER0, which `scripts/etcfs-fuse.lua` explains.
//!
//! ```text
//! packet  kind u8 | flags u8 | cpu u16 | thread u32 | opcode u32 | len u32 | message          16 bytes + message
//! ```
//!
//! These fields are little-endian; the message is big-endian if bit 0 of `flags` is set. The packet's original length counts
//! what the recording has left out.
//!
//! Two kinds of blocks are written and none is read: a crate for the whole format would be several times as long as this.

use etcfs_proto::capture::{CaptureError, CaptureFlags, Reader, Record, RecordKind};
use std::io::{self, Write};

/// `LINKTYPE_USER0`, set aside for private use.
const LINK_TYPE: u16 = 147;
/// Length of what stands before the message.
const HEAD: usize = 16;

/// Writes the recording in `bytes` into `out`, as far as it can be read; the number of packets.
///
/// # Errors
/// When `bytes` are no recording (`InvalidData`), or `out` cannot be written.
pub fn write(bytes: &[u8], out: &mut dyn Write) -> io::Result<u64> {
    let invalid = |error: CaptureError| io::Error::new(io::ErrorKind::InvalidData, error);
    let reader = Reader::new(bytes).map_err(invalid)?;
    let header = reader.header();
    // Section header block: byte order mark, version 1.0, length of the section not known.
    let mut section = 0x1A2B_3C4D_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    block(out, 0x0A0D_0D0A, &section)?;
    // Interface description block: any packet length; option if_tsresol (9): times in 10^-9 s; end of options.
    let mut interface = LINK_TYPE.to_le_bytes().to_vec();
    interface.extend([0, 0, 0, 0, 0, 0]);
    interface.extend([9, 0, 1, 0, 9, 0, 0, 0]);
    interface.extend([0, 0, 0, 0]);
    block(out, 1, &interface)?;
    let mut packets = 0;
    for record in reader.map_while(Result::ok) {
        packet(out, &record, header.flags, header.began + record.time)?;
        packets += 1;
    }
    Ok(packets)
}

/// An enhanced packet block.
fn packet(
    out: &mut dyn Write,
    record: &Record<'_>,
    flags: CaptureFlags,
    time: u64,
) -> io::Result<()> {
    let len = match record.kind {
        RecordKind::Lost => 0,
        _ => record.len,
    };
    let mut body = Vec::with_capacity(64 + record.kept.len());
    body.extend(0_u32.to_le_bytes());
    body.extend(((time >> 32) as u32).to_le_bytes());
    body.extend((time as u32).to_le_bytes());
    body.extend(((HEAD + record.kept.len()) as u32).to_le_bytes());
    body.extend((HEAD as u32 + len).to_le_bytes());
    body.push(record.kind as u8);
    body.push(u8::from(flags.contains(CaptureFlags::BIG_ENDIAN)));
    body.extend(record.cpu.to_le_bytes());
    body.extend(record.thread.to_le_bytes());
    body.extend(record.opcode.0.to_le_bytes());
    body.extend(record.len.to_le_bytes());
    body.extend(record.kept);
    block(out, 6, &body)
}

/// A block: its type, its length before and after the body, and the body filled up to a multiple of 4.
fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let padded = body.len().next_multiple_of(4);
    let len = (padded + 12) as u32;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(body)?;
    out.write_all(&[0; 3][..padded - body.len()])?;
    out.write_all(&len.to_le_bytes())
}
