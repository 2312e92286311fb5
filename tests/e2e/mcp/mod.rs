//! The commands as tools of a host agent: [`lines`] connects to the server directly, [`clients`] uses clients of other
//! makes.

mod clients;
mod lines;
