//! What holds for every message and every input, not only for the samples: decoding never panics, encoding loses nothing,
//! what a newer version adds is tolerated, and the limits hold.

// Beside this file it would be a test program of its own.
#[path = "properties/strategies.rs"]
mod strategies;

use std::borrow::Cow;

use flotilla_proto::{
    AgentMessage, BackupSummary, DecodeError, JobId, Line, LineText, LogGap, LogStream, PlanOptions, RawEnvelope,
    ServerMessage, Stream, Timestamp, limits,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const UP: [&str; 10] = [
    "hello",
    "heartbeat",
    "job.accepted",
    "schedule.ack",
    "schedule.fire",
    "job.started",
    "job.progress",
    "log.stream",
    "job.finished",
    "error",
];
const DOWN: [&str; 9] = [
    "welcome",
    "heartbeat",
    "config.update",
    "command.run",
    "command.cancel",
    "schedule.set",
    "schedule.fired",
    "ack",
    "error",
];

/// Objects whose keys are data (a job's id, a mount point, a variable) or that refuse unknown keys by design.
const KEYS_ARE_DATA: [&str; 5] = ["acked", "disk", "env", "summary", "options"];

/// Decodes as both directions do; the results do not matter, coming back does.
fn decode_anyhow(text: &str) {
    if let Ok(envelope) = RawEnvelope::decode(text) {
        drop(AgentMessage::decode(&envelope));
        drop(ServerMessage::decode(&envelope));
        drop(serde_json::from_str::<LogGap>(envelope.payload.get()));
    }
}

/// Adds `field` to every object of a payload but those of [`KEYS_ARE_DATA`].
fn add_everywhere(value: &mut Value, field: &str, content: &Value) {
    match value {
        Value::Object(map) => {
            let inner = map.iter_mut().filter(|(key, _)| !KEYS_ARE_DATA.contains(&key.as_str()));
            inner.for_each(|(_, value)| add_everywhere(value, field, content));
            map.insert(field.to_owned(), content.clone());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_everywhere(item, field, content)),
        _ => {}
    }
}

/// A frame as a newer peer would write it: a field more in the envelope and in each object of the payload.
fn as_newer_peer(frame: &str, field: &str, content: &Value) -> String {
    let mut envelope: Map<String, Value> = serde_json::from_str(frame).expect("an envelope");
    envelope.insert(field.to_owned(), content.clone());
    let payload = envelope.get_mut("payload").expect("a payload");
    add_everywhere(payload, field, content);
    serde_json::to_string(&envelope).expect("JSON")
}

fn lines(numbers: &[u32], text: &str) -> AgentMessage<'static> {
    let lines = numbers
        .iter()
        .map(|&seq| Line {
            seq,
            at: Timestamp::from_unix_ms(0),
            stream: Stream::Stdout,
            text: LineText(Cow::Owned(text.to_owned())),
        })
        .collect();
    AgentMessage::LogStream(LogStream { job_id: JobId::from_parts(1, 1), lines })
}

/// Why the receiver refuses `message`; `None` where it takes it.
fn refusal(message: &AgentMessage<'_>) -> Option<String> {
    let frame = message.encode("1").expect("encodes");
    let envelope = RawEnvelope::decode(&frame).expect("an envelope");
    match AgentMessage::decode(&envelope) {
        Ok(_) => None,
        Err(DecodeError::Limit(reason)) => Some(reason),
        Err(other) => panic!("refused for another reason: {other}"),
    }
}

proptest! {
    // A failure prints its smallest input, which then becomes a test with a name; there is no file to keep.
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_any_text_never_panics(text in any::<String>()) {
        decode_anyhow(&text);
    }

    #[test]
    fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        decode_anyhow(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn decoding_any_json_as_any_message_never_panics(
        kind in proptest::sample::select([&UP[..], &DOWN].concat()),
        payload in strategies::json(),
    ) {
        decode_anyhow(&json!({"type": kind, "id": "1", "payload": payload}).to_string());
    }

    #[test]
    fn decoding_a_cut_or_damaged_frame_never_panics(
        message in strategies::agent_message(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = message.encode("1").expect("encodes").into_bytes();
        let at = at.index(frame.len());
        decode_anyhow(&String::from_utf8_lossy(&frame[..at]));
        frame[at] = byte;
        decode_anyhow(&String::from_utf8_lossy(&frame));
    }

    #[test]
    fn what_an_agent_encodes_decodes_to_the_same(message in strategies::agent_message(), id in "[0-9A-Z\"\\\\é]{0,20}") {
        let frame = message.encode(&id).expect("encodes");
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(envelope.id.as_ref(), id.as_str());
        prop_assert_eq!(AgentMessage::decode(&envelope), Ok(message));
    }

    #[test]
    fn what_the_server_encodes_decodes_to_the_same(message in strategies::server_message(), id in "[0-9A-Z\"\\\\é]{0,20}") {
        let frame = message.encode(&id).expect("encodes");
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(envelope.id.as_ref(), id.as_str());
        prop_assert_eq!(ServerMessage::decode(&envelope), Ok(message));
    }

    #[test]
    fn what_a_browser_is_told_of_a_gap_decodes_to_the_same(gap in strategies::gap()) {
        let frame = flotilla_proto::encode("log.gap", "1", &gap).expect("encodes");
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(serde_json::from_str::<LogGap>(envelope.payload.get()).expect("a gap"), gap);
    }

    #[test]
    fn a_backups_summary_survives_the_way_inside_its_jobs_end(summary in strategies::summary()) {
        let value = serde_json::to_value(&summary).expect("JSON");
        prop_assert_eq!(serde_json::from_value::<BackupSummary>(value).expect("a summary"), summary);
    }

    #[test]
    fn a_type_of_a_newer_version_is_unknown_and_never_fatal(kind in "[a-z][a-z.]{0,30}", payload in strategies::json()) {
        prop_assume!(!UP.contains(&kind.as_str()) && !DOWN.contains(&kind.as_str()));
        let frame = json!({"type": kind, "id": "1", "payload": payload}).to_string();
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(AgentMessage::decode(&envelope), Ok(AgentMessage::Unknown(kind.clone())));
        prop_assert_eq!(ServerMessage::decode(&envelope), Ok(ServerMessage::Unknown(kind)));
    }

    #[test]
    fn fields_of_a_newer_agent_are_tolerated_at_every_level(
        message in strategies::agent_message(),
        field in "x_[a-z]{1,8}",
        content in strategies::json(),
    ) {
        let frame = as_newer_peer(&message.encode("1").expect("encodes"), &field, &content);
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(AgentMessage::decode(&envelope), Ok(message));
    }

    #[test]
    fn fields_of_a_newer_server_are_tolerated_at_every_level(
        message in strategies::server_message(),
        field in "x_[a-z]{1,8}",
        content in strategies::json(),
    ) {
        let frame = as_newer_peer(&message.encode("1").expect("encodes"), &field, &content);
        let envelope = RawEnvelope::decode(&frame).expect("an envelope");
        prop_assert_eq!(ServerMessage::decode(&envelope), Ok(message));
    }

    #[test]
    fn a_log_stream_with_a_hole_a_repeat_or_a_step_back_is_refused(
        mut message in strategies::log_stream(),
        at in any::<proptest::sample::Index>(),
        wrong in any::<u32>(),
    ) {
        prop_assume!(message.lines.len() > 1);
        let at = at.index(message.lines.len());
        prop_assume!(message.lines[at].seq != wrong);
        message.lines[at].seq = wrong;
        prop_assert!(refusal(&AgentMessage::LogStream(message)).is_some());
    }
}

#[test]
fn the_two_lists_of_types_are_those_that_decode() {
    for kind in UP {
        let frame = json!({"type": kind, "payload": []}).to_string();
        let decoded = AgentMessage::decode(&RawEnvelope::decode(&frame).expect("an envelope"));
        assert!(!matches!(decoded, Ok(AgentMessage::Unknown(_))), "{kind} is unknown");
    }
    for kind in DOWN {
        let frame = json!({"type": kind, "payload": []}).to_string();
        let decoded = ServerMessage::decode(&RawEnvelope::decode(&frame).expect("an envelope"));
        assert!(!matches!(decoded, Ok(ServerMessage::Unknown(_))), "{kind} is unknown");
    }
}

#[test]
fn an_unknown_option_of_a_plan_is_refused_since_ignoring_it_would_back_up_something_else() {
    let error = serde_json::from_value::<PlanOptions>(json!({"one_file_sytem": true})).expect_err("refused");
    assert!(error.to_string().contains("one_file_sytem"), "{error}");
}

#[test]
fn a_frame_at_the_limit_is_read_and_one_byte_more_is_refused() {
    let frame = |bytes: usize| {
        let empty = json!({"type": "future", "payload": {"pad": ""}}).to_string();
        empty.replace("\"pad\":\"\"", &format!("\"pad\":\"{}\"", "x".repeat(bytes - empty.len())))
    };
    assert_eq!(frame(limits::MAX_FRAME_BYTES).len(), 1_048_576);
    assert!(RawEnvelope::decode(&frame(limits::MAX_FRAME_BYTES)).is_ok());
    let refused = RawEnvelope::decode(&frame(limits::MAX_FRAME_BYTES + 1)).expect_err("refused");
    assert_eq!(refused, DecodeError::TooBig { bytes: 1_048_577 });
}

#[test]
fn a_message_over_the_frame_limit_is_not_encoded() {
    let message = lines(&(1..=40).collect::<Vec<_>>(), &"x".repeat(limits::MAX_LINE_BYTES));
    assert!(matches!(message.encode("1"), Err(DecodeError::TooBig { bytes }) if bytes > limits::MAX_FRAME_BYTES));
}

#[test]
fn a_type_or_id_that_is_empty_or_too_long_is_refused() {
    let frame = |kind: &str, id: &str| json!({"type": kind, "id": id, "payload": {}}).to_string();
    let longest = "x".repeat(limits::MAX_NAME_BYTES);
    let too_long = "x".repeat(limits::MAX_NAME_BYTES + 1);
    assert!(RawEnvelope::decode(&frame(&longest, &longest)).is_ok());
    for bad in [frame("", "1"), frame(&too_long, "1"), frame("ack", &too_long)] {
        assert!(matches!(RawEnvelope::decode(&bad), Err(DecodeError::Limit(_))), "{bad}");
    }
}

#[test]
fn a_log_stream_within_its_limits_is_taken() {
    assert_eq!(refusal(&lines(&[1, 2, 3], "")), None);
    assert_eq!(refusal(&lines(&[7], &"x".repeat(limits::MAX_LINE_BYTES))), None);
    assert_eq!(refusal(&lines(&[limits::MAX_SEQ - 1, limits::MAX_SEQ], "last")), None);
    let most = u32::try_from(limits::MAX_LINES_PER_FRAME).expect("small");
    assert_eq!(refusal(&lines(&(1..=most).collect::<Vec<_>>(), "")), None);
}

#[test]
fn a_log_stream_outside_its_limits_is_refused_with_the_reason() {
    let most = u32::try_from(limits::MAX_LINES_PER_FRAME).expect("small");
    let too_long = "x".repeat(limits::MAX_LINE_BYTES + 1);
    let cases = [
        (lines(&[], ""), "without lines"),
        (lines(&[0], ""), "rise by one"),
        (lines(&[0, 1], ""), "rise by one"),
        (lines(&[1, 3], ""), "rise by one"),
        (lines(&[2, 2], ""), "rise by one"),
        (lines(&[2, 1], ""), "rise by one"),
        (lines(&[u32::MAX], ""), "rise by one"),
        (lines(&[limits::MAX_SEQ, u32::MAX], ""), "rise by one"),
        (lines(&[1], "two\nlines"), "line break"),
        (lines(&[1], "two\rlines"), "line break"),
        (lines(&[1], &too_long), "length limit"),
        (lines(&(1..=most + 1).collect::<Vec<_>>(), ""), "more lines"),
    ];
    for (message, expected) in cases {
        let reason = refusal(&message).unwrap_or_else(|| panic!("taken, but it should fail for: {expected}"));
        assert!(reason.contains(expected), "{reason:?} does not say {expected:?}");
    }
}
