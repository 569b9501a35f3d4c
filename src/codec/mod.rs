//! Bytes to fewer bytes and back. Pure functions; nothing here reads or writes a file.
//!
//! May use: `store_format`, `error`.

pub mod residual;
