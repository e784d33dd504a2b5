//! Hostile input: names and configurations that nobody sane writes, and an ordinary user who exchanges directories for
//! symlinks while root works in them (contract B24, U9).

#[path = "../harness/mod.rs"]
mod harness;

mod config;
mod names;
mod races;
