//! A wall clock for one program that the test can step, forward and back: a small library of ours is loaded before the program's C library.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::program::run;

/// Such a clock.
pub(crate) struct SteppedClock {
    library: PathBuf,
    offset: PathBuf,
}

impl SteppedClock {
    /// Builds it in `folder`, with the C compiler that Rust links with.
    pub(crate) fn build(folder: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock_steps.c");
        let library = folder.join("clock_steps.so");
        let mut compiler = Command::new("cc");
        run(compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source), "").must();
        let clock = Self { library, offset: folder.join("clock-offset") };
        clock.set(0);
        clock
    }

    /// Gives the clock to a program that is about to start.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("STEPPED_CLOCK", &self.offset);
    }

    /// The program's clock is `seconds` off from now on.
    pub(crate) fn set(&self, seconds: i64) {
        // Renamed into place: a reader sees the old number or the new one, and never none.
        let new = self.offset.with_extension("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(new, &self.offset).unwrap();
    }
}
