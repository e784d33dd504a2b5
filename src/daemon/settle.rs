//! What is to be so whoever serves.

use crate::cli::{Cache, LogLevel, Options};
use crate::fs::watch::CacheWatch;
use crate::log;
use crate::sys::{final_kill, limits};

/// Sets levels, limits and marks.
pub(super) fn settle(options: &Options) {
    log::set_level(match options.log {
        LogLevel::Error => log::Level::Error,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Info => log::Level::Info,
        LogLevel::Debug => log::Level::Debug,
    });
    for left in limits::settle() {
        match left.matters {
            true => log::warn(format_args!("{}", left.text)),
            false => log::info(format_args!("{}", left.text)),
        }
    }
    if !options.survive_shutdown {
        return;
    }
    if let Err(errno) = final_kill::be_spared() {
        log::warn(format_args!(
            "systemd will not spare this process at shutdown: its command line cannot be marked ({errno}); mount /proc before the start"
        ));
    }
}

/// The options, with `cache=strict` where nothing could be watched: that is to be known before the kernel is told what it keeps.
pub(super) fn with_cache_to_be_had(options: &Options) -> Options {
    let mut options = options.clone();
    if !options.cache.is_watch() {
        return options;
    }
    if let Err(why) = CacheWatch::can_be_had() {
        log::error(format_args!(
            "cache=watch cannot be had, and nothing is kept: {why}"
        ));
        options.cache = Cache::Strict;
    }
    options
}
