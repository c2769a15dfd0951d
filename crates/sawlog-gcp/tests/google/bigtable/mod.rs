//! Bigtable on Google's own in-memory double, which fails on demand.

mod contract;
mod faults;
mod isolation;
mod restore;
mod tables;
mod world;
