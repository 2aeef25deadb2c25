//! What goes over to the host for a script, byte by byte, and what can't.

use zeroize::Zeroizing;

use super::{error::SshError, exec::Exec};
use crate::text;

/// Run by the user's login shell, whichever: sh, bash, dash, fish and csh read it alike (single quotes, no backslash, no exclamation mark).
/// First bash: takes the mark into its environment and becomes the second. Second: says that it is there, takes environment and script, and runs it.
/// What comes incomplete is not run.
pub(super) const BOOTSTRAP: &str = "exec bash --noprofile --norc -c \
    'IFS= read -r -d \"\" FLOTILLA_RUN && export FLOTILLA_RUN && exec bash --noprofile --norc -c \"$0\" bash' \
    'echo \"flotilla-run $FLOTILLA_RUN\"; IFS= read -r -d \"\" flotilla_env && IFS= read -r -d \"\" flotilla_script && eval \"$flotilla_env\" && unset flotilla_env && set -o pipefail && eval \"unset flotilla_script; $flotilla_script\"'";

/// Longest script with its environment: bash reads them byte by byte.
const MAX_SCRIPT_BYTES: usize = 1 << 20;

/// Whether a mark can stand in a shell script as it is.
pub(super) fn check_mark(mark: &str) -> Result<(), SshError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=64).contains(&mark.len()) && mark.chars().all(is_plain) {
        return Ok(());
    }
    Err(SshError::Input {
        why: format!("the mark {mark:?} of a run is not 1 to 64 letters, digits, dashes and underscores"),
    })
}

/// Whether a path on the host can be one: a longer message would not come through, and a NUL would cut it short there.
pub(super) fn check_path(path: &str) -> Result<(), SshError> {
    const MAX_PATH_BYTES: usize = 4096;
    if (1..=MAX_PATH_BYTES).contains(&path.len()) && !path.contains('\0') {
        return Ok(());
    }
    Err(SshError::Input { why: "a path on the host is empty, has a NUL in it or is longer than 4096 bytes".to_owned() })
}

/// All that goes before the script's own input.
pub(super) fn preamble(exec: &Exec) -> Result<Zeroizing<Vec<u8>>, SshError> {
    check_mark(&exec.mark)?;
    let wrong = |why: String| SshError::Input { why };
    let mut bytes = Zeroizing::new(Vec::new());
    bytes.extend_from_slice(exec.mark.as_bytes());
    bytes.push(0);
    for (name, value) in &exec.env {
        let mut chars = name.chars();
        let is_name = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.starts_with("flotilla_") || name == "FLOTILLA_RUN" {
            return Err(wrong(format!(
                "{name:?} can't be the name of an environment variable here: letters, digits and underscores, not FLOTILLA_RUN"
            )));
        }
        if value.expose().contains('\0') {
            return Err(wrong(format!("the value of {name} has a NUL in it, which no environment can hold")));
        }
        let line = Zeroizing::new(format!("export {name}={}\n", quote(value.expose())));
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.push(0);
    if exec.script.contains('\0') {
        return Err(wrong("the command has a NUL in it, which no shell takes".to_owned()));
    }
    bytes.extend_from_slice(exec.script.as_bytes());
    bytes.push(0);
    if bytes.len() > MAX_SCRIPT_BYTES {
        return Err(wrong(format!(
            "the command and its environment are {}, over the bound of 1 MiB. Put data into a file and transfer it",
            text::size(bytes.len() as u64)
        )));
    }
    Ok(bytes)
}

/// Text as one word of a shell (POSIX, bash).
pub(super) fn quote(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '@' | ':' | '+' | ',' | '=' | '%');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_comes_back_from_a_shell_as_it_was() {
        for text in ["", "plain", "two words", "it's", "$(reboot)`x`;\n\\\"!*~", "ünïcode", "-n"] {
            let output =
                std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(text))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
