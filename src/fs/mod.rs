//! The model of what is served. It knows no opcode and no reply.

pub mod config;
pub mod config_handle;
pub mod inject;
pub mod rules;
