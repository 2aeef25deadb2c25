//! Taking in ends, against a real store.
