//! What bash makes of filled lines, by asking bash.

use std::process::Command;

use proptest::prelude::*;

use super::{Piece, Place, fill, is_marked, mark, quoted};

/// The line with `{0}`, `{1}` as marks.
fn marked(line: &str) -> String {
    line.replace("{0}", &mark(0)).replace("{1}", &mark(1))
}

fn word(text: &str) -> Piece {
    Piece::Word(text.to_owned())
}

/// The arguments that bash gives `say` in a line.
fn said(line: &str) -> Vec<String> {
    let script = format!("say() {{ printf '%s\\0' \"$@\"; }}\n{line}\n");
    let out = Command::new("bash").args(["--noprofile", "--norc", "-c", &script]).output().expect("bash runs");
    let text = String::from_utf8(out.stdout).expect("what was put in is UTF-8");
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn a_value_is_one_word_whatever_it_holds() {
    let hostile = [
        "; rm -rf /",
        "$(id)",
        "`id`",
        "a b",
        "it's",
        "\"",
        "\\",
        "\n",
        "a\nb",
        "*",
        "~",
        "{a,b}",
        "!!",
        "#",
        "",
        "=x",
        "&&",
        "|",
        "<x",
        ">y",
        "$HOME",
        "${HOME}",
        "$((1+1))",
        "\u{202e}x",
        "é",
        "\t",
        "a\\",
        "''",
        "'; id; '",
    ];
    for value in hostile {
        let line = fill(&marked("say {0} --file={0} pre{0}post"), &[word(value)]).expect("the places are safe");
        assert_eq!(said(&line), [value.to_owned(), format!("--file={value}"), format!("pre{value}post")], "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_bash_gets_is_what_was_put_in(value in "[^\\x00\\u{F0000}-\\u{F0019}]{0,40}", other in "[ -~\n]{0,20}") {
        for line in ["say {0} {1}", "say a;say {0}{1} # it's", "x={0}; say \"$x\" {1}", "say \"$(printf %s {0}; echo .)\" {1}", "(say {0}) && say {1}"] {
            let filled = fill(&marked(line), &[word(&value), word(&other)]).expect("the places are safe");
            let all = said(&filled).concat();
            let wanted = match line {
                "say a;say {0}{1} # it's" => format!("a{value}{other}"),
                "say \"$(printf %s {0}; echo .)\" {1}" => format!("{value}.{other}"),
                _ => format!("{value}{other}"),
            };
            prop_assert_eq!(all, wanted, "{}", filled);
        }
    }

    #[test]
    fn no_line_makes_it_panic(line in "[\\x00-\\x7f]{0,80}") {
        let _ = fill(&marked(&line), &[word("x")]);
    }
}

#[test]
fn a_variable_is_put_in_as_one_word() {
    let line = fill(&marked("say {0}x"), &[Piece::Variable("SECRET".into())]).expect("the place is safe");
    assert_eq!(line, "say \"$SECRET\"x");
    assert_eq!(said(&format!("SECRET='a b $(id)'\n{line}")), ["a b $(id)x"]);
}

#[test]
fn places_where_quotes_do_not_protect_are_refused() {
    let refused = [
        ("say \"{0}\"", Place::Double),
        ("say \"a $(say \"{0}\")\"", Place::Double),
        ("say '{0}'", Place::Single),
        ("say $'\\'{0}'", Place::Single),
        ("say `say {0}`", Place::Backticks),
        ("say `(say {0})`", Place::Backticks),
        ("say ${x:-{0}}", Place::Parameter),
        ("say $((1 + {0}))", Place::Arithmetic),
        ("say $[1 + {0}]", Place::Arithmetic),
        ("((x = {0}))", Place::Arithmetic),
        ("((x = (1 + 2) + {0}))", Place::Arithmetic),
        ("[[ {0} -eq 1 ]]", Place::Test),
        ("if [[ -n {0} ]]; then say; fi", Place::Test),
        ("cat <<EOF\n{0}\nEOF", Place::Here),
        ("cat <<'EOF'\n{0}\nEOF", Place::Here),
        ("cat <<-EOF | say\n\ta\n\t{0}\n\tEOF", Place::Here),
        ("cat <<{0}\nx", Place::Here),
        ("say # {0}", Place::Comment),
        ("say \\{0}", Place::Escaped),
    ];
    for (line, place) in refused {
        assert_eq!(fill(&marked(line), &[word("x")]), Err(place), "{line}");
    }
}

#[test]
fn places_that_only_look_dangerous_are_taken() {
    let taken = [
        "say 'it''s' {0}",
        "say \"it's\" {0}",
        "say it\\'s {0}",
        "say a#b {0}",
        "# it's\nsay {0}",
        "say \"${x:-it's}\" {0}",
        "cat <<< {0}",
        "cat <<EOF\nit's\nEOF\nsay {0}",
        "say $((1 << 2)) {0}",
        "[[ a == b ]] || say {0}",
        "say \"$(( (1) ))\" {0}",
        "(say {0})",
        "arr=(a {0}); say",
        "f() { say {0}; }",
    ];
    for line in taken {
        assert!(fill(&marked(line), &[word("x")]).is_ok(), "{line}: {:?}", fill(&marked(line), &[word("x")]));
    }
}

#[test]
fn plain_words_stay_readable() {
    assert_eq!(quoted("/srv/www_1/a-b.sql.gz"), "/srv/www_1/a-b.sql.gz");
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted(""), "''");
}

#[test]
fn marks_are_known_as_such() {
    assert!(is_marked(&mark(12)));
    assert!(!is_marked("plain ⟨text⟩"));
}
