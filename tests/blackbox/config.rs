//! Section 6: the whole configuration is replaced, checked, and in force at once.

use crate::harness::json::keys;
use crate::harness::{Backend, Problem, Server, on_both, sh};
use serde_json::{Value, json};

on_both!(
    defaults_and_key_order,
    post_replaces_and_answers_the_stored_object,
    zeros_are_400_and_change_nothing,
    integers_may_be_written_as_floats,
    wrong_shapes_are_422_and_change_nothing,
    the_default_timeout_is_lowered_to_the_maximum,
    the_largest_values_are_accepted,
    a_lower_log_limit_trims_with_the_next_output,
);

const PATH: &str = "/v1/processes/config";
const DEFAULTS: &str = r#"{"maxConcurrentProcesses":64,"defaultRunTimeoutMs":30000,"maxRunTimeoutMs":300000,"maxOutputBytes":1048576,"maxLogBytesPerProcess":10485760,"maxInputBytesPerRequest":65536}"#;

fn changed(field: &str, value: Value) -> Value {
    let mut config: Value = serde_json::from_str(DEFAULTS).unwrap();
    config[field] = value;
    config
}

fn defaults_and_key_order(backend: Backend) {
    let server = Server::open(backend);
    let answer = server.get(PATH);
    answer.json();
    assert_eq!(answer.text(), DEFAULTS);
}

fn post_replaces_and_answers_the_stored_object(backend: Backend) {
    let server = Server::open(backend);
    // Sent in another order and with a stranger among the fields.
    let sent = r#"{"maxInputBytesPerRequest":6,"x":[1],"maxLogBytesPerProcess":5,"maxOutputBytes":4,
        "maxRunTimeoutMs":3,"defaultRunTimeoutMs":2,"maxConcurrentProcesses":1}"#;
    let stored = r#"{"maxConcurrentProcesses":1,"defaultRunTimeoutMs":2,"maxRunTimeoutMs":3,"maxOutputBytes":4,"maxLogBytesPerProcess":5,"maxInputBytesPerRequest":6}"#;
    let answer = server.post_text(PATH, sent);
    answer.json();
    assert_eq!(answer.text(), stored);
    assert_eq!(server.get(PATH).text(), stored);
}

fn zeros_are_400_and_change_nothing(backend: Backend) {
    let server = Server::open(backend);
    for (field, message) in [
        (
            "maxConcurrentProcesses",
            "maxConcurrentProcesses must be greater than 0",
        ),
        ("defaultRunTimeoutMs", "timeouts must be greater than 0"),
        ("maxRunTimeoutMs", "timeouts must be greater than 0"),
        ("maxOutputBytes", "byte limits must be greater than 0"),
        (
            "maxLogBytesPerProcess",
            "byte limits must be greater than 0",
        ),
        (
            "maxInputBytesPerRequest",
            "byte limits must be greater than 0",
        ),
    ] {
        Problem::invalid(message).check(&server.post(PATH, &changed(field, json!(0))));
    }
    assert_eq!(server.get(PATH).text(), DEFAULTS);
}

fn integers_may_be_written_as_floats(backend: Backend) {
    let server = Server::open(backend);
    for field in keys(DEFAULTS) {
        let floats = changed(&field, json!(77))
            .to_string()
            .replace("77", "7.7e1");
        let answer = server.post_text(PATH, &floats);
        assert_eq!(answer.json()[&field], 77, "{field}");
    }
}

fn wrong_shapes_are_422_and_change_nothing(backend: Backend) {
    let server = Server::open(backend);
    for field in keys(DEFAULTS) {
        for value in [
            json!(1.5),
            json!("1"),
            json!(null),
            json!(-1),
            json!(true),
            json!([1]),
        ] {
            let answer = server.post(PATH, &changed(&field, value.clone()));
            assert_eq!(answer.status, 422, "{field} {value}");
            answer.problem(422, "invalid_request");
        }
        let mut config = changed(&field, json!(1));
        config.as_object_mut().unwrap().remove(&field);
        server.post(PATH, &config).problem(422, "invalid_request");
        let doubled = DEFAULTS.replacen('{', &format!("{{\"{field}\":1,"), 1);
        server
            .post_text(PATH, &doubled)
            .problem(422, "invalid_request");
        let past_u64 = changed(&field, json!(77))
            .to_string()
            .replace("77", "18446744073709551616");
        server
            .post_text(PATH, &past_u64)
            .problem(422, "invalid_request");
    }
    assert_eq!(server.get(PATH).text(), DEFAULTS);
}

fn the_default_timeout_is_lowered_to_the_maximum(backend: Backend) {
    let server = Server::open(backend);
    let answer = server
        .post(PATH, &changed("maxRunTimeoutMs", json!(1000)))
        .json();
    assert_eq!(answer["defaultRunTimeoutMs"], 1000);
    assert_eq!(answer["maxRunTimeoutMs"], 1000);
    assert_eq!(server.get(PATH).json(), answer);
}

fn the_largest_values_are_accepted(backend: Backend) {
    let server = Server::open(backend);
    let mut config: Value = serde_json::from_str(DEFAULTS).unwrap();
    for field in keys(DEFAULTS) {
        config[field] = json!(u64::MAX);
    }
    assert_eq!(server.post(PATH, &config).json(), config);
    // And nothing overflows where they are used.
    let run = server.run(
        &json!({"command": "echo", "args": ["x"], "timeoutMs": u64::MAX,
        "maxOutputBytes": u64::MAX}),
    );
    assert_eq!(run["stdout"], "x\n");
    let id = server.spawn(&sh("echo y; exec cat"));
    server.await_output(&id, "y\n");
    let input = json!({"data": "z\n", "encoding": "utf8"});
    server
        .post(&format!("/v1/processes/{id}/input"), &input)
        .expect(200);
    server.await_output(&id, "y\nz\n");
}

fn a_lower_log_limit_trims_with_the_next_output(backend: Backend) {
    let server = Server::open(backend);
    let id = server.spawn(&sh("printf 0123456789; exec cat"));
    server.await_output(&id, "0123456789");
    server.configure(&[("maxLogBytesPerProcess", 5)]);
    assert_eq!(server.output(&id, "stdout"), b"0123456789");
    let input = json!({"data": "abc", "encoding": "utf8"});
    server
        .post(&format!("/v1/processes/{id}/input"), &input)
        .expect(200);
    let kept = server.await_output(&id, "abc");
    assert_eq!(kept, "abc");
}
