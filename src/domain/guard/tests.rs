use proptest::prelude::*;

use super::*;
use crate::domain::SnapshotRecord;

const DAY: i64 = 86_400;
const GIB: u64 = 1 << 30;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now().plus_s(-seconds)
}

fn host(n: u128) -> HostId {
    HostId::from_parts(1, n)
}

/// A repository of web-1 and db-1, ruled on at noon of 21 November.
#[derive(Debug, Clone)]
struct Case {
    fates: Vec<FateRecord>,
    known: HashMap<String, Known>,
    hosts: HashMap<String, HostId>,
    elsewhere: HashSet<String>,
    approvals: Approvals,
    listed: bool,
}

impl Case {
    fn new() -> Self {
        Self {
            fates: Vec::new(),
            known: HashMap::new(),
            hosts: [("web-1".to_owned(), host(1)), ("db-1".to_owned(), host(2))].into(),
            elsewhere: HashSet::new(),
            approvals: Approvals::default(),
            listed: true,
        }
    }

    /// A snapshot that the rules keep, or not, and that the index has never seen.
    fn unseen(mut self, id: &str, hostname: &str, time: Timestamp, keep: bool) -> Self {
        let snapshot = SnapshotRecord {
            id: id.to_owned(),
            hostname: hostname.to_owned(),
            time: Some(time),
            paths: vec!["/srv".to_owned()],
            ..SnapshotRecord::default()
        };
        let kept_by = if keep { vec!["daily snapshot".to_owned()] } else { vec![] };
        self.fates.push(FateRecord { snapshot, kept_by, group: format!("{hostname} /srv") });
        self
    }

    /// One that the index knows as `known`.
    fn with(mut self, id: &str, hostname: &str, time: Timestamp, (keep, known): (bool, Known)) -> Self {
        self.known.insert(id.to_owned(), known);
        self.unseen(id, hostname, time, keep)
    }

    /// One that a backup of web-1 made, at its time.
    fn own(self, id: &str, time: Timestamp, keep: bool) -> Self {
        self.with(id, "web-1", time, (keep, made(time)))
    }

    /// Three of web-1's own: two stay, one goes.
    fn usual() -> Self {
        Self::new().own("a", ago(3 * DAY), false).own("b", ago(2 * DAY), true).own("c", ago(DAY), true)
    }

    fn rule(&self) -> Ruling {
        rule(Question {
            fates: &self.fates,
            known: &self.known,
            listed: self.listed,
            hosts: &self.hosts,
            elsewhere: &self.elsewhere,
            approvals: &self.approvals,
            now: now(),
        })
    }

    fn causes(&self) -> Vec<Cause> {
        self.rule().findings.iter().map(|finding| finding.cause).collect()
    }

    fn assert_clean(&self, removed: &[&str]) {
        let ruling = self.rule();
        assert_eq!(ruling.findings, []);
        assert_eq!(ruling.remove, removed);
    }
}

fn made(at: Timestamp) -> Known {
    let made = Some(Made { host: host(1), since: at });
    Known { first_seen_at: at.plus_s(600), made, bytes: Some(GIB), ..Known::default() }
}

fn foreign(first_seen_at: Timestamp) -> Known {
    Known { first_seen_at, bytes: Some(GIB), ..Known::default() }
}

#[test]
fn what_no_rule_keeps_goes_where_nothing_is_odd() {
    Case::usual().assert_clean(&["a"]);
}

#[test]
fn a_forged_snapshot_with_an_older_date_that_pushes_a_true_one_out_stops_it() {
    let forged = Case::usual().with("f", "web-1", ago(3 * DAY - 60), (true, foreign(ago(60))));
    assert!(forged.causes().contains(&Cause::NotItsOwn), "within the slack of lists it still is not the host's own");
    let case = Case::usual().with("f", "web-1", ago(5 * DAY), (true, foreign(ago(60))));
    let ruling = case.rule();
    assert_eq!((ruling.remove.len(), ruling.waiting), (0, vec!["a".to_owned()]));
    assert_eq!(ruling.findings[0].cause, Cause::BackDated);
    assert!(
        ruling.findings[0].happened().contains("is dated 16 Nov 2026 12:00 UTC"),
        "{}",
        ruling.findings[0].happened()
    );
}

#[test]
fn one_that_was_planted_after_the_last_list_counts_as_seen_now() {
    assert!(Case::usual().unseen("f", "web-1", ago(5 * DAY), true).causes().contains(&Cause::BackDated));
}

#[test]
fn a_backup_of_ours_that_claims_a_time_before_it_was_ordered_is_back_dated() {
    let lie = Known { made: Some(Made { host: host(1), since: ago(DAY) }), ..made(ago(DAY)) };
    assert_eq!(Case::usual().with("f", "web-1", ago(2 * DAY), (true, lie)).causes(), [Cause::BackDated]);
}

#[test]
fn a_snapshot_from_a_time_to_come_stops_it() {
    let to_come = made(ago(60));
    assert_eq!(Case::usual().with("f", "web-1", now().plus_s(30 * DAY), (true, to_come)).causes(), [Cause::ToCome]);
}

#[test]
fn a_clock_that_is_wrong_by_minutes_stops_nothing() {
    let early = Known { made: Some(Made { host: host(1), since: ago(600) }), ..made(ago(600)) };
    let case = Case::usual().with("d", "web-1", ago(600 + 50 * 60), (true, early.clone()));
    case.assert_clean(&["a"]);
    Case::usual().with("d", "web-1", now().plus_s(40 * 60), (true, early)).assert_clean(&["a"]);
}

#[test]
fn a_source_that_was_emptied_stops_it() {
    let empty = Known { bytes: Some(4096), ..made(ago(60)) };
    let case = Case::usual().with("d", "web-1", ago(60), (true, empty));
    let ruling = case.rule();
    assert_eq!((ruling.findings[0].cause, ruling.findings[0].usual_bytes), (Cause::Shrunk, Some(GIB)));
    assert!(ruling.remove.is_empty());
}

#[test]
fn a_source_that_grew_or_was_small_before_stops_nothing() {
    let small = Known { bytes: Some(4096), ..made(ago(90 * DAY)) };
    let case = Case::usual().with("first", "web-1", ago(90 * DAY), (true, small));
    case.assert_clean(&["a"]);
    let mut tiny = Case::usual().with("d", "web-1", ago(60), (true, Known { bytes: Some(1), ..made(ago(60)) }));
    tiny.known.get_mut("a").unwrap().bytes = Some(SHRUNK_FLOOR_BYTES - 1);
    tiny.assert_clean(&["a"]);
}

#[test]
fn once_approved_a_small_source_is_not_asked_about_until_it_shrinks_again() {
    let small = |id: &str, bytes| {
        Case::usual().with(id, "web-1", ago(60), (true, Known { bytes: Some(bytes), ..made(ago(60)) }))
    };
    let seen = small("d", 40_000).rule().findings;
    let with = |mut case: Case| {
        case.approvals.seen.clone_from(&seen);
        case
    };
    with(small("e", 20_000)).assert_clean(&["a"]);
    assert_eq!(with(small("e", 9_000)).causes(), [Cause::Shrunk]);
}

#[test]
fn a_snapshot_under_the_name_of_a_host_that_did_not_make_it_stops_it() {
    let by_another = Known { made: Some(Made { host: host(2), since: ago(DAY) }), ..made(ago(DAY)) };
    assert_eq!(Case::usual().with("f", "web-1", ago(DAY), (true, by_another)).causes(), [Cause::NotItsOwn]);
}

#[test]
fn backups_that_are_made_beside_flotilla_stop_nothing() {
    let seen_daily = |id: &str, days: i64, keep| (id.to_owned(), ago(days * DAY), keep);
    let mut case = Case::new();
    for (id, time, keep) in [seen_daily("a", 9, false), seen_daily("b", 8, true), seen_daily("c", 1, true)] {
        case = case.with(&id, "web-1", time, (keep, foreign(time.plus_s(DAY))));
    }
    case.assert_clean(&["a"]);
}

#[test]
fn an_imported_history_that_was_first_seen_all_at_once_is_taken_as_it_stands() {
    let mut case = Case::new();
    for (id, days, keep) in [("a", 400_i64, false), ("b", 300, false), ("c", 200, true), ("d", 100, true)] {
        let baseline = Known { baseline: true, bytes: Some(days.unsigned_abs()), ..foreign(ago(DAY)) };
        case = case.with(id, "web-1", ago(days * DAY), (keep, baseline));
    }
    // The first backup by the fleet comes on top of it.
    case.own("e", ago(60), true).assert_clean(&["a", "b"]);
}

#[test]
fn backups_that_agents_ran_alone_while_the_server_was_down_are_not_late() {
    let mut case = Case::usual();
    for (id, days) in [("d", 12), ("e", 11), ("f", 10)] {
        // The job's moment is the schedule's; its end arrived only now.
        let alone = Made { host: host(1), since: ago(days * DAY) };
        let known = Known { first_seen_at: ago(60), made: Some(alone), bytes: Some(GIB), ..Known::default() };
        case = case.with(id, "web-1", ago(days * DAY - 30), (true, known));
    }
    case.assert_clean(&["a"]);
}

#[test]
fn a_whole_host_never_goes_unasked() {
    let gone = Case::usual().with("x", "old-1", ago(900 * DAY), (false, foreign(ago(900 * DAY))));
    let ruling = gone.rule();
    assert_eq!(
        ruling.findings.iter().map(|f| (f.cause, f.hostname.as_str())).collect::<Vec<_>>(),
        [(Cause::WholeHost, "old-1")]
    );
    assert!(ruling.remove.is_empty());
    let mut elsewhere = gone;
    elsewhere.elsewhere.insert("old-1".to_owned());
    elsewhere.assert_clean(&["a", "x"]);
}

#[test]
fn nothing_left_at_all_is_one_finding() {
    assert_eq!(Case::new().own("a", ago(DAY), false).own("b", ago(60), false).causes(), [Cause::Everything]);
}

#[test]
fn what_the_index_has_never_seen_is_held_back_and_is_no_history() {
    let case = Case::usual().unseen("u", "web-1", ago(60), false);
    let ruling = case.rule();
    assert_eq!((ruling.remove, ruling.held[0].snapshot.as_str()), (vec!["a".to_owned()], "u"));
    assert!(ruling.held[0].reason.starts_with("not in the index yet"));
    let all = Case::new().own("a", ago(DAY), false).unseen("u", "web-1", ago(60), false);
    assert_eq!(all.causes(), [Cause::Everything]);
}

#[test]
fn nothing_goes_from_a_repository_that_was_never_listed() {
    let case = Case { listed: false, ..Case::usual() };
    let ruling = case.rule();
    assert_eq!((ruling.remove.len(), ruling.held.len(), ruling.findings.len()), (0, 1, 0));
}

#[test]
fn a_pinned_snapshot_is_held_back_with_the_words_of_its_pin() {
    let mut case = Case::usual();
    case.known.get_mut("a").unwrap().pin = Some(Pin { by: "ann".to_owned(), reason: "before the move".to_owned() });
    assert_eq!(case.rule().held[0].reason, "pinned by ann: before the move");
    case.assert_clean(&[]);
}

#[test]
fn a_person_s_approval_lets_the_same_removals_through_and_no_others() {
    let mut case = Case::usual().own("z", ago(9 * DAY), false).unseen("f", "web-1", ago(5 * DAY), true);
    case.approvals.remove.insert("a".to_owned());
    let ruling = case.rule();
    assert_eq!(ruling.remove, ["a"]);
    assert_eq!(ruling.waiting, ["z"]);
}

#[test]
fn a_finding_that_was_approved_is_not_asked_about_again_and_a_new_one_is() {
    let mut case = Case::usual().unseen("f", "web-1", ago(5 * DAY), true);
    case.approvals.seen = case.rule().findings;
    case.assert_clean(&["a"]);
    let again = case.unseen("g", "web-1", ago(6 * DAY), true);
    assert_eq!(again.rule().findings[0].about[0].id, "g");
}

#[test]
fn what_is_odd_where_nothing_goes_stops_nothing() {
    Case::usual().with("f", "db-1", ago(50 * DAY), (true, foreign(ago(60)))).assert_clean(&["a"]);
}

fn cases() -> impl Strategy<Value = Case> {
    let snapshot = (0..2_u8, 0..60_i64, any::<bool>(), 0..4_u8, 0..60_i64, 0..4_u64);
    (proptest::collection::vec(snapshot, 0..14), proptest::collection::vec(0..14_usize, 0..3)).prop_map(
        |(snapshots, approved)| {
            let mut case = Case::new();
            for (i, (name, days, keep, what, late, gib)) in snapshots.into_iter().enumerate() {
                let (id, hostname) = (i.to_string(), if name == 0 { "web-1" } else { "db-1" });
                let time = ago(days * DAY);
                let known = Known { bytes: Some(gib * GIB), ..foreign(ago((days - late) * DAY)) };
                case = match what {
                    0 => case.unseen(&id, hostname, time, keep),
                    1 => case.with(&id, hostname, time, (keep, Known { pin: Some(Pin::default()), ..known })),
                    2 => case.with(&id, hostname, time, (keep, known)),
                    _ => case.with(&id, hostname, time, (keep, made(time))),
                };
            }
            case.approvals.remove.extend(approved.iter().map(usize::to_string));
            case
        },
    )
}

proptest! {
    #[test]
    fn only_known_unpinned_snapshots_that_no_rule_keeps_ever_go(case in cases()) {
        for id in case.rule().remove {
            let fate = case.fates.iter().find(|fate| fate.snapshot.id == id).unwrap();
            prop_assert!(fate.kept_by.is_empty() && case.known[&id].pin.is_none());
        }
    }

    #[test]
    fn nothing_of_a_host_ever_goes_whole_unless_each_one_was_approved(case in cases()) {
        let removed: HashSet<String> = case.rule().remove.into_iter().collect();
        for hostname in ["web-1", "db-1"] {
            let of_host: Vec<&str> = case.fates.iter().filter(|fate| fate.snapshot.hostname == hostname).map(|fate| fate.snapshot.id.as_str()).collect();
            if !of_host.is_empty() && of_host.iter().all(|id| removed.contains(*id)) {
                prop_assert!(of_host.iter().all(|id| case.approvals.remove.contains(*id)));
            }
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_and_afterwards_nothing_is_left_to_go(case in cases()) {
        let first = case.rule();
        prop_assert_eq!(&first, &case.rule());
        if first.findings.is_empty() {
            let removed: HashSet<&String> = first.remove.iter().collect();
            let fates = case.fates.iter().filter(|fate| !removed.contains(&fate.snapshot.id)).cloned().collect();
            let after = Case { fates, ..case };
            prop_assert!(after.rule().remove.is_empty() && after.rule().findings.is_empty());
        }
    }

    #[test]
    fn every_snapshot_that_no_rule_keeps_goes_or_is_held_or_waits(case in cases()) {
        let ruling = case.rule();
        let doomed = case.fates.iter().filter(|fate| fate.kept_by.is_empty()).count();
        prop_assert_eq!(ruling.remove.len() + ruling.held.len() + ruling.waiting.len(), doomed);
    }
}
