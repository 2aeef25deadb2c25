//! One who watches and never reads.
