//! How a script gets to bash: a few words that are the same each time stand on the command line; environment, script and input follow through standard input, each
//! of the first two ended by a NUL. What comes incomplete is not run.

use flotilla_proto::Secret;

use super::remote::Script;
use crate::runbook::shell::quoted;

/// What bash is told on its command line.
pub(super) const BOOTSTRAP: &str = r#"IFS= read -r -d "" flotilla_env && IFS= read -r -d "" flotilla_script && eval "$flotilla_env" && unset flotilla_env && set -o pipefail && eval "unset flotilla_script; $flotilla_script""#;

/// The variable that marks all that a step starts.
pub(super) const MARK: &str = "FLOTILLA_RUN";

/// Bash's arguments up to the bootstrap.
pub(super) const ARGUMENTS: [&str; 3] = ["--noprofile", "--norc", "-c"];

/// All that goes through standard input.
///
/// # Errors
/// Where something holds a NUL, or a variable's name is none.
pub(super) fn input(script: &Script) -> Result<Secret, String> {
    let mut text = String::new();
    for (name, value) in &script.env {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name == MARK {
            return Err(format!("{name:?} can't be the name of a variable here: letters, digits and underscores"));
        }
        if value.expose().contains('\0') {
            return Err(format!("the value of {name} holds a NUL, which no environment can"));
        }
        text.push_str(&format!("export {name}={}\n", quoted(value.expose())));
    }
    if script.text.contains('\0') {
        return Err("the command holds a NUL, which no shell can".to_owned());
    }
    text.push('\0');
    text.push_str(&script.text);
    text.push('\0');
    if let Some(stdin) = &script.stdin {
        text.push_str(stdin.expose());
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(name: &str, value: &str, text: &str) -> Script {
        let env = vec![(name.to_owned(), Secret::from(value))];
        Script { text: text.to_owned(), env, stdin: Some(Secret::from("in")), mark: "m".to_owned() }
    }

    #[test]
    fn environment_script_and_input_come_one_behind_the_other() {
        let text = input(&script("A", "it's", "echo \"$A\"")).unwrap();
        assert_eq!(text.expose(), "export A='it'\\''s'\n\0echo \"$A\"\0in");
    }

    #[test]
    fn what_could_break_out_of_its_place_is_refused() {
        for bad in [script("A", "\0", "true"), script("A", "", "a\0b"), script("A;b", "", "true"), script("", "", "x")]
        {
            assert!(input(&bad).is_err());
        }
        assert!(input(&script(MARK, "x", "true")).is_err());
    }
}
