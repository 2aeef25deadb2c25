//! Benchmarks of Flotilla beside the limits of the same machine.
fn main() {}
