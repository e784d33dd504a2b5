//! The entry points that the fuzz targets share with the property tests of `proto/tests/frames`.

#[path = "../../tests/frames/entry.rs"]
pub mod entry;
