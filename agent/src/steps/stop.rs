//! The script that ends all that carries a mark, and what it says. It is the same here, within a container and on another host.

use std::time::Duration;

use super::remote::Stopped;
use crate::text;

const SCRIPT: &str = include_str!("../ssh/stop.sh");
/// How long it may take beyond the grace.
pub(super) const WORK: Duration = Duration::from_secs(30);
/// Most that it may say, in bytes.
pub(super) const MOST_OUTPUT: usize = 1 << 20;

/// The script, for any `sh`. A mark is of letters, digits and dashes.
pub(super) fn script(mark: &str, grace: Duration) -> String {
    format!("mark={mark} grace={}\n{SCRIPT}", grace.as_secs())
}

/// What it said; `None` where it did not come to its end.
pub(super) fn read(output: &str) -> Option<Stopped> {
    let mut stopped = Stopped::default();
    for line in output.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next().and_then(|pid| pid.parse().ok()), words.next()) {
            (Some("found"), Some(_), _) => stopped.found += 1,
            (Some("killed"), ..) => stopped.killed = true,
            (Some("left"), Some(pid), name) => stopped.left.push((pid, text::visible(name.unwrap_or_default()))),
            (Some("looked"), ..) => stopped.proven = true,
            _ if line == "no /proc" => return Some(stopped),
            _ => {}
        }
    }
    stopped.proven.then_some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_says_is_read_and_half_of_it_is_nothing() {
        let stopped = read("found 12\nfound 13\nkilled\nleft 13 a b\nlooked\n").unwrap();
        assert_eq!((stopped.found, stopped.killed, stopped.left.as_slice()), (2, true, &[(13, "a b".to_owned())][..]));
        assert!(!stopped.is_clean() && stopped.to_string().contains("13 (a b)"));
        assert_eq!(read("found 12\nkilled\n"), None);
        assert!(read("looked\n").unwrap().is_clean());
        assert!(!read("no /proc\n").unwrap().is_clean());
    }
}
