//! The commands as tools of a host agent: [`lines`] speaks to the server itself, [`clients`] are those of other makes.

mod clients;
mod lines;
