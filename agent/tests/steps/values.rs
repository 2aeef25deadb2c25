//! Values and secrets: they reach commands as they are, and nothing else.

use flotilla_proto::{JobStatus, Secret};

use super::*;

const HOSTILE: [&str; 12] = [
    "; rm -rf /nonexistent",
    "$(touch DIR/pwned)",
    "`touch DIR/pwned`",
    "' ; touch DIR/pwned ; '",
    "\" ; touch DIR/pwned ; \"",
    "a && touch DIR/pwned || touch DIR/pwned | touch DIR/pwned",
    "two\nlines\n; touch DIR/pwned\n",
    "$HOME ${IFS} !! \\ * ? [a] {b,c} ~",
    "%s %n \\x41 \\n",
    "ünïcödé ✓ \u{200b}",
    " leading and trailing ",
    "x=$((1+1)) > DIR/pwned",
];

#[tokio::test]
async fn hostile_values_reach_commands_environment_and_input_as_they_are() {
    let place = Place::new();
    let inputs = "[[inputs]]\nname = \"v\"\ntype = \"string\"\nmultiline = true\ndash = true\n";
    let steps = step("Put", "printf %s {{ v }} >DIR/argument; printf %s \"$V\" >DIR/variable; cat >DIR/input")
        + "env = { V = \"{{ v }}\" }\nstdin = \"{{ v }}\"\n"
        + inputs;
    let long = "x';$(id)`".repeat((64 << 10) / 9);
    let values = HOSTILE.iter().map(|value| value.replace("DIR", place.work.path().to_str().unwrap()));
    for (number, value) in (1..).zip(values.chain(["-rf --no-preserve-root".to_owned(), long])) {
        let mut order = place.order(number, &steps);
        book(&mut order).inputs.insert("v".to_owned(), value.clone().into());
        let ran = place.run_order(&order).await;
        assert_eq!(ran.end.status, JobStatus::Succeeded, "{value:?}: {} {}", ran.error(), ran.text);
        for name in ["argument", "variable", "input"] {
            assert_eq!(place.read(name), value, "{name}");
        }
        assert!(!place.at("pwned").exists(), "{value:?}");
    }
}

#[tokio::test]
async fn a_value_that_could_be_taken_for_something_else_is_refused_before_anything_is_done() {
    let place = Place::new();
    let steps =
        step("Put", "echo {{ v }} >DIR/out") + "[[inputs]]\nname = \"v\"\ntype = \"string\"\npattern = \"[^x]*\"\n";
    let long = "y".repeat((64 << 10) + 1);
    for (number, (value, words)) in (1..).zip([
        ("-rf", "begins with a dash"),
        ("a\nb", "must be one line"),
        ("a\0b", "control character"),
        ("xyz", "must match"),
        (long.as_str(), "at most 65536"),
    ]) {
        let mut order = place.order(number, &steps);
        book(&mut order).inputs.insert("v".to_owned(), value.into());
        let ran = place.run_order(&order).await;
        assert!(
            ran.error().starts_with("nothing was done: an answer is refused: v: ") && ran.error().contains(words),
            "{}",
            ran.error()
        );
    }
    assert!(!place.at("out").exists());
}

/// Any command line of any process of this machine with that text in it.
fn on_a_command_line(text: &str) -> bool {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    folders
        .filter_map(|folder| fs::read(folder.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(text))
}

fn on_disk(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let holds = |path: &Path| fs::read(path).is_ok_and(|content| String::from_utf8_lossy(&content).contains(text));
    entries.into_iter().any(|path| if path.is_dir() { on_disk(&path, text) } else { holds(&path) })
}

#[tokio::test]
async fn a_secret_is_on_no_command_line_in_no_log_and_on_no_disk_of_the_agents() {
    const SECRET: &str = "planted-step p'w$(x)\"1";
    let place = Place::new();
    let steps = step(
        "Use",
        "printf %s {{ password }} >DIR/argument; printf %s \"$PASS\" >DIR/variable; cat >DIR/input; echo got {{ password }}; echo KEY={{ password }}; echo half-planted-step >&2; until [ -e DIR/go ]; do sleep 0.02; done",
    ) + "env = { PASS = \"{{ password }}\" }\nstdin = \"{{ password }}\"\n"
        + "[[inputs]]\nname = \"password\"\ntype = \"secret\"\n[[results]]\nname = \"key\"\nmarker = \"KEY\"\n";
    let mut order = place.order(1, &steps);
    book(&mut order).secrets.insert("password".to_owned(), Secret::from(SECRET));
    let memory = place.agent.submit(&order);
    memory
        .until("it runs", |seen| seen.lines.iter().any(|(_, line)| line.contains("half-planted")).then_some(()))
        .await;
    for _ in 0..20 {
        assert!(!on_a_command_line("planted-step"));
        tokio::task::yield_now().await;
    }
    assert!(!on_disk(place.agent.state.path(), "planted-step"));
    fs::write(place.at("go"), "").unwrap();
    let ran = Ran::new(memory.end().await, &memory);
    assert_eq!(ran.end.status, JobStatus::Succeeded, "{}", ran.text);
    for name in ["argument", "variable", "input"] {
        assert_eq!(place.read(name), SECRET, "{name}");
    }
    assert!(ran.text.contains("Stdout got ***") && !ran.text.contains(SECRET), "{}", ran.text);
    assert_eq!(ran.result.results["key"], "***");
    assert!(!on_disk(place.agent.state.path(), "planted-step"));
}

#[tokio::test]
async fn a_step_sees_nothing_of_the_agents_surroundings() {
    let place = Place::new();
    let ran = place
        .run(
            1,
            &(step(
                "Look",
                "[ \"$PWD\" = \"$HOME\" ] && echo home; env | cut -d= -f1 | sort | tr '\\n' ' '; ls -l /proc/$$/fd | wc -l; ps -o pid=,sid= -p $$",
            ) + "env = { LANG = \"C\", MINE = \"1\" }\n"),
        )
        .await;
    let line = ran.text.lines().find(|line| line.contains("FLOTILLA_RUN")).unwrap_or_default();
    for word in line.trim_start_matches("Stdout ").split_whitespace() {
        let known = ["FLOTILLA_RUN", "HOME", "LANG", "MINE", "PATH", "PWD", "SHLVL", "USER", "_", "OLDPWD"];
        assert!(known.contains(&word) || word.parse::<u32>().is_ok(), "{word}: {line}");
    }
    assert!(ran.text.contains("Stdout home"), "{}", ran.text);
    let ids: Vec<&str> = ran.text.lines().last().unwrap().trim_start_matches("Stdout ").split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "it leads a session of its own: {}", ran.text);
}
