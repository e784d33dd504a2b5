//! What `etcfsctl` and the daemon say to each other.
//!
//! The two are connected by a Unix socket of type SOCK_SEQPACKET; how they come to it is told in [`super::door`]. The client
//! sends one message, a [`Query`] in JSON. The daemon answers with a [`Head`] in a message of its own and then, unless that tells an error,
//!
//! * for a report: its JSON text, in as many messages as it takes, and the end of the connection;
//! * for a stream: one JSON value per message, until one side hangs up.
//!
//! `etcfs` and `error` in a head, and `etcfs` in an ask, keep name and meaning in every version of the protocol, so that
//! any two versions can at least tell each other that they do not match.

use serde::{Deserialize, Serialize};

/// The version of everything here. Fields may be added without a new one: readers skip what they do not know.
pub const PROTOCOL: u32 = 1;

/// Longest ask, bytes.
pub(crate) const ASK_MAX: usize = 4096;

/// Longest message of the daemon, bytes: well below the 212,992 that a socket buffer holds by default.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// The part of an ask that every version understands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Version {
    /// [`PROTOCOL`] of the client.
    pub(crate) etcfs: u32,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Query {
    /// A [`Stats`](super::report::Stats) report.
    Stats {
        /// Count anew from now on; the report still has the figures up to now.
        #[serde(default)]
        reset: bool,
    },
    /// A stream of [`Access`](super::access::Access)s.
    Log(Filter),
    /// The same, with requests and answers as on the wire.
    Trace(Filter),
    /// A recording, in the format of `etcfs_proto::capture`, cut into messages anywhere. It goes on until the client shuts its
    /// side of the connection down; the daemon then sends the rest and hangs up.
    Record {
        /// With the contents of files and extended attributes.
        #[serde(default)]
        data: bool,
        /// It goes on over a restart of the server. Each message then begins with the position of its first byte in the
        /// recording, 8 bytes, little-endian: what is sent twice, because nobody knows whether it was sent, is left out.
        #[serde(default)]
        resumes: bool,
    },
    /// A [`Which`](super::report::Which) report.
    Which {
        /// From the root of the mount, with or without a leading slash.
        path: String,
    },
    /// A [`Journal`](super::report::JournalReport) report.
    Journal,
    /// A [`Doctor`](super::report::Doctor) report.
    Doctor,
    /// Has the kernel let go of what it keeps: a [`Dropped`](super::report::Dropped) report.
    Drop {
        /// From the root of the mount; none: everything.
        #[serde(default)]
        path: Option<String>,
    },
    /// Another server of the same program in place of this one: a [`Replaced`](super::report::Replaced) report, after which
    /// this server ends.
    Restart,
    /// Another program in place of this one, and a [`Replaced`](super::report::Replaced) report if it will be tried.
    Upgrade {
        /// The client's descriptor of it.
        program: i32,
        /// A number by which the client knows what becomes of it.
        #[serde(default)]
        id: u64,
    },
}

/// Which requests a stream is about; what is not given does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Names of opcodes.
    pub ops: Vec<String>,
    /// A path from the root of the mount; it and all below.
    pub path: Option<String>,
    /// A process.
    pub pid: Option<u32>,
    /// A user.
    pub uid: Option<u32>,
    /// Error numbers.
    pub errnos: Vec<i32>,
    /// Only what failed.
    pub failed: bool,
    /// Only what took so long, microseconds.
    pub min_us: u64,
}

/// How an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`PROTOCOL`] of the daemon.
    pub etcfs: u32,
    /// The daemon's version.
    pub version: String,
    /// Its process id, as it sees itself.
    pub(crate) pid: u32,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Head {
    /// This daemon's.
    pub(crate) fn new(error: Option<String>) -> Head {
        Head {
            etcfs: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            error,
        }
    }
}

/// Reads a query. A fuzz target does, too.
///
/// # Errors
/// The sentence for the client.
pub fn read_query(message: &[u8]) -> Result<Query, String> {
    let own = env!("CARGO_PKG_VERSION");
    let version: Version = serde_json::from_slice(message)
        .map_err(|error| format!("the daemon (version {own}) cannot read the request: {error}"))?;
    if version.etcfs != PROTOCOL {
        return Err(format!(
            "the daemon (version {own}) speaks version {PROTOCOL} of the control protocol and was asked in version {}: \
             use the etcfsctl that came with it",
            version.etcfs
        ));
    }
    serde_json::from_slice(message)
        .map_err(|error| format!("the daemon (version {own}) does not know this request: {error}"))
}

/// The message that asks `ask`.
pub fn write_query(ask: &Query) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a> {
        etcfs: u32,
        #[serde(flatten)]
        ask: &'a Query,
    }
    let whole = Whole {
        etcfs: PROTOCOL,
        ask,
    };
    // Strings and numbers only; nothing of it can fail.
    serde_json::to_vec(&whole).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ask_comes_back_as_it_was() {
        let filter = Filter {
            ops: vec!["READ".to_owned()],
            pid: Some(7),
            ..Filter::default()
        };
        for ask in [
            Query::Stats { reset: true },
            Query::Log(filter.clone()),
            Query::Trace(filter),
            Query::Which {
                path: "a b\"c".to_owned(),
            },
            Query::Journal,
            Query::Doctor,
            Query::Record {
                data: true,
                resumes: true,
            },
        ] {
            assert_eq!(read_query(&write_query(&ask)), Ok(ask));
        }
    }

    #[test]
    fn another_version_is_told_so() {
        let error = read_query(br#"{"etcfs":2,"ask":"stats"}"#).expect_err("version 2");
        assert!(
            error.contains("version 1") && error.contains("version 2"),
            "{error}"
        );
        let error = read_query(br#"{"etcfs":1,"ask":"dance"}"#).expect_err("no such ask");
        assert!(error.contains("dance"), "{error}");
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let ask = read_query(br#"{"etcfs":1,"ask":"log","pid":3,"shape":"round"}"#);
        assert!(
            matches!(ask, Ok(Query::Log(Filter { pid: Some(3), .. }))),
            "{ask:?}"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_in_words(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(read_query(&bytes).is_err());
        }
    }
}
