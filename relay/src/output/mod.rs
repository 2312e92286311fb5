//! Output of jobs: the files that a job has put into `$RELAY_OUTPUT`, as one archive (tar) per job in the state folder.
//!
//! An archive comes from an agent whose worker wrote the files: its names and sizes are data. It is received into a
//! temporary file, with a limit, and read without being unpacked.
//!
//! * [`store`]: the archives. * [`archive`]: reads one.

pub mod archive;
pub mod store;
