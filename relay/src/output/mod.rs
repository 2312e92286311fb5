//! Output of jobs: the files that a job has put into `$RELAY_OUTPUT`, as one archive (tar) per job in the state folder.
//!
//! An archive comes from an agent whose worker wrote the files, so names and sizes in it are untrusted data. It is
//! received into a temporary file, with a limit, and read without being unpacked.
//!
//! * [`store`]: the archives in the state folder. * [`archive`]: reader of one archive.

pub mod archive;
pub mod store;
