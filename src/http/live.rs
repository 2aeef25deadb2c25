//! Live streams of jobs.
