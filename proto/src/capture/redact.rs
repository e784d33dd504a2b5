//! Names made unreadable, so that a recording can be given away.

use super::{Record, RecordKind};
use crate::Opcode;
use crate::abi::{Dirent, EntryOut, InHeader, OutHeader};
use crate::op::{Body, Tail};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use zerocopy::FromBytes as _;

/// Names that say nothing about anybody and without which a recording could not be understood.
pub const KEPT_NAMES: &[&[u8]] = &[b"", b".", b"..", b".bedrock-config-filesystem"];

/// Words of rules that say nothing about anybody.
const KEPT_WORDS: &[&[u8]] = &[
    b"add_global",
    b"rm_global",
    b"add_override",
    b"rm_override",
    b"symlink",
    b"directory",
    b"inject",
    b"legacy_global",
    b"exact",
    b"source",
    b"more",
];

/// The letters of hidden names: 64 of them, legal in every file system.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
/// An extension longer than this, its dot included, is hidden too.
const EXTENSION_MAX: usize = 9;
/// How often another token is tried for a name whose first is taken: short names have few.
const TRIES: u64 = 4096;
/// How many names are kept apart; beyond that two may get the same token.
const NAMES_MAX: usize = 1 << 20;

/// Replaces every component of names, paths and symlink targets by a token of the same length, the same for the same name
/// throughout a recording, and another for another name. An extension such as `.conf` or `.service` stays, and of
/// an extended attribute's name its namespace. The key is not in the recording.
#[derive(Debug)]
pub struct Redactor {
    key: [u8; 16],
    tokens: HashMap<Box<[u8]>, Box<[u8]>>,
    taken: HashSet<Box<[u8]>>,
}

impl Redactor {
    /// With a key, which should be random and forgotten afterwards.
    pub fn new(key: [u8; 16]) -> Redactor {
        Redactor {
            key,
            tokens: HashMap::new(),
            taken: HashSet::new(),
        }
    }

    /// Hides the names in `message`, the kept bytes of `record`.
    pub fn message(&mut self, record: &Record<'_>, message: &mut [u8]) {
        match record.kind {
            RecordKind::Request => self.request(record.opcode, message),
            RecordKind::Answer => self.answer(record.opcode, message),
            RecordKind::Rules => self.rules(message),
            RecordKind::Init | RecordKind::Done | RecordKind::Lost | RecordKind::Restart => {}
        }
    }

    fn request(&mut self, opcode: Opcode, message: &mut [u8]) {
        let Some(shape) = opcode.shape() else {
            // Nobody knows where the names of an unknown request are.
            blank(message, size_of::<InHeader>());
            return;
        };
        let Ok((head, _)) = InHeader::read_from_prefix(message) else {
            return blank(message, 0);
        };
        let begin = size_of::<InHeader>() + shape.args;
        let end = message
            .len()
            .saturating_sub(usize::from(head.total_extlen) * 8);
        let Some(tail) = message.get_mut(begin..end) else {
            return;
        };
        match (opcode, shape.tail) {
            (Opcode::GETXATTR | Opcode::REMOVEXATTR, _) => self.attribute(tail),
            (Opcode::SETXATTR, _) => {
                // With SETXATTR_EXT eight more bytes of arguments come first; their first is the flag 0 or 1, which no
                // attribute's name begins with.
                let late = if tail.first().is_some_and(|&byte| byte < 2) {
                    8
                } else {
                    0
                };
                if let Some(name) = tail.get_mut(late..) {
                    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
                    self.attribute(&mut name[..len]);
                }
            }
            (_, Tail::Name | Tail::Names) => self.names(tail),
            // The only contents that are kept without being asked for are lines for the configuration file.
            (Opcode::WRITE, _) => self.rules(tail),
            _ => {}
        }
    }

    fn answer(&mut self, opcode: Opcode, message: &mut [u8]) {
        let Some(body) = message.get_mut(size_of::<OutHeader>()..) else {
            return;
        };
        match (opcode, opcode.shape().map(|shape| shape.body)) {
            (Opcode::READLINK, _) => self.path(body),
            (_, Some(Body::Dirents)) => self.listing(body, 0),
            (_, Some(Body::Direntplus)) => self.listing(body, size_of::<EntryOut>()),
            (Opcode::LISTXATTR, _) => self.attribute(body),
            (_, None | Some(Body::Unknown)) => blank(message, size_of::<OutHeader>()),
            _ => {}
        }
    }

    /// Lines of the configuration file and of a record of rules: words that are the same everywhere stay.
    fn rules(&mut self, text: &mut [u8]) {
        for line in text.split_mut(|&byte| byte == b'\n') {
            let counts = line.starts_with(b"source ") || line.starts_with(b"more ");
            for (at, word) in line.split_mut(|&byte| byte == b' ').enumerate() {
                let stays = counts && at == 1 || KEPT_WORDS.contains(&&*word);
                if !stays {
                    self.path(word);
                }
            }
        }
    }

    /// Directory entries, each behind `before` bytes of something else.
    fn listing(&mut self, mut rest: &mut [u8], before: usize) {
        const HEAD: usize = size_of::<Dirent>();
        loop {
            let Some(Ok((entry, _))) = rest.get(before..).map(Dirent::read_from_prefix) else {
                return;
            };
            let len = entry.namelen as usize;
            let begin = before + HEAD;
            let Some(end) = begin.checked_add(len).filter(|end| *end <= rest.len()) else {
                return blank(rest, begin);
            };
            self.path(&mut rest[begin..end]);
            let next = end.next_multiple_of(8).min(rest.len());
            rest = &mut rest[next..];
        }
    }

    /// Names that end in NUL.
    fn names(&mut self, tail: &mut [u8]) {
        for name in tail.split_mut(|&byte| byte == 0) {
            self.path(name);
        }
    }

    fn path(&mut self, path: &mut [u8]) {
        for name in path.split_mut(|&byte| byte == b'/') {
            self.name(name);
        }
    }

    /// Names of extended attributes: the namespace says what kind of attribute it is, and all but `user.` belong to the
    /// system.
    fn attribute(&mut self, names: &mut [u8]) {
        for name in names.split_mut(|&byte| byte == 0) {
            if name.starts_with(b"user.") && !name.starts_with(b"user.bedrock.") {
                self.name(&mut name[5..]);
            }
        }
    }

    fn name(&mut self, name: &mut [u8]) {
        if KEPT_NAMES.contains(&&*name) {
            return;
        }
        if let Some(token) = self.tokens.get(&*name) {
            name.copy_from_slice(token);
            return;
        }
        let mut token = self.token(name, 0);
        for salt in 1..TRIES {
            if !self.taken.contains(&*token) {
                break;
            }
            token = self.token(name, salt);
        }
        if self.tokens.len() < NAMES_MAX {
            self.taken.insert(token.clone());
            self.tokens.insert((&*name).into(), token.clone());
        }
        name.copy_from_slice(&token);
    }

    fn token(&self, name: &[u8], salt: u64) -> Box<[u8]> {
        let stem = match name.iter().rposition(|&byte| byte == b'.') {
            Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_MAX => dot,
            _ => name.len(),
        };
        let mut token: Box<[u8]> = name.into();
        for (block, letters) in token[..stem].chunks_mut(10).enumerate() {
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.key);
            hasher.write_u64(salt);
            hasher.write_u64(block as u64);
            hasher.write(name);
            let mut bits = hasher.finish();
            for letter in letters {
                *letter = LETTERS[(bits & 63) as usize];
                bits >>= 6;
            }
        }
        token
    }
}

/// Overwrites what nobody can take apart.
fn blank(message: &mut [u8], from: usize) {
    if let Some(rest) = message.get_mut(from..) {
        rest.fill(0);
    }
}
