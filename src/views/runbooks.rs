//! Pages of runbooks.

pub mod inputs;
