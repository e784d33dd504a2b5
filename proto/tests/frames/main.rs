//! Requests, answers and notices: golden messages, damaged ones, arbitrary ones.

mod capture;
mod damage;
mod entry;
#[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "riscv64"))]
mod golden;
mod parts;
mod properties;
mod restarted;
mod samples;
