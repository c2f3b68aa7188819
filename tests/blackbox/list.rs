//! The list of processes: filtered, and in parts.

use serde_json::{Value, json};

use crate::harness::json::keys;
use crate::harness::{Backend, Server, on_both, sh};

on_both!(
    every_filter_must_fit,
    parts_follow_each_other_without_gap_or_repetition,
    a_part_goes_on_behind_what_was_deleted,
    what_no_filter_can_be_is_refused_and_named,
    a_list_that_asks_for_nothing_is_as_ever,
);

fn ids(list: &Value) -> Vec<String> {
    let records = list["processes"].as_array().unwrap();
    let ids = records.iter().map(|of| of["id"].as_str().unwrap());
    ids.map(|id| id.strip_prefix("proc_").unwrap().to_owned())
        .collect()
}

#[track_caller]
fn list(server: &Server, query: &str) -> Value {
    server.get(&format!("/v1/processes{query}")).json()
}

/// Six processes: 1 to 3 run, 4 to 6 have exited.
fn six(backend: Backend) -> Server {
    let server = Server::open(backend);
    for n in 1..=6 {
        let mut body = match n {
            1..=3 => json!({"command": "cat"}),
            _ => sh("exit 0"),
        };
        body["labels"] = json!({"n": n.to_string(), "odd": (n % 2 == 1).to_string(), "a=b": "c=d"});
        if n % 3 == 0 {
            body["name"] = json!(format!("third.{n}"));
        }
        let id = server.spawn(&body);
        if n > 3 {
            server.await_exit(&id);
        }
    }
    server
}

fn every_filter_must_fit(backend: Backend) {
    let server = six(backend);
    for (query, expected) in [
        ("", "123456"),
        ("?status=running", "123"),
        ("?status=exited", "456"),
        ("?name=third.6", "6"),
        ("?name=third", ""),
        ("?name=third.6&status=running", ""),
        ("?name=third.3&after=proc_3", ""),
        ("?label=odd=true", "135"),
        ("?label=odd=true&status=exited", "5"),
        ("?label=odd=true&label=n=5", "5"),
        ("?label=odd=true&label=n=4", ""),
        ("?label=odd=", ""),
        ("?label=odd=true&label=odd=true", "135"),
        ("?label=a%3Db%3Dc%3Dd", "123456"),
        ("?label=a=b=c=d&after=proc_4", "56"),
        ("?label=a=b=c", ""),
        ("?after=proc_6", ""),
        ("?after=proc_99", ""),
        ("?after=proc_18446744073709551615", ""),
        ("?owner=user&status=running", "123"),
        ("?owner=system&status=running", ""),
        ("?owner=desktop&limit=1", ""),
        ("?Label=x&Name=y&state=z", "123456"),
    ] {
        let found = list(&server, query);
        assert_eq!(ids(&found).concat(), expected, "{query}");
        assert_eq!(found.as_object().unwrap().len(), 1, "{query}: {found}");
    }
}

fn parts_follow_each_other_without_gap_or_repetition(backend: Backend) {
    let server = six(backend);
    for (filter, limit, expected) in [
        ("", 1, vec!["1", "2", "3", "4", "5", "6"]),
        ("", 2, vec!["12", "34", "56"]),
        ("", 4, vec!["1234", "56"]),
        ("", 6, vec!["123456"]),
        ("", 1000, vec!["123456"]),
        ("&label=odd=true", 2, vec!["13", "5"]),
        ("&label=odd=true", 3, vec!["135"]),
        ("&label=n=2", 1, vec!["2"]),
        ("&name=third.3", 1, vec!["3"]),
        ("&status=exited", 1, vec!["4", "5", "6"]),
        ("&label=n=7", 1, vec![""]),
    ] {
        let (mut after, mut parts) = (String::new(), Vec::new());
        loop {
            let part = list(&server, &format!("?limit={limit}{filter}{after}"));
            parts.push(ids(&part).concat());
            let Some(next) = part.get("nextAfter") else {
                break;
            };
            after = format!("&after={}", next.as_str().unwrap());
        }
        assert_eq!(parts, expected, "{filter} by {limit}");
    }
    let answer = server.get("/v1/processes?limit=1");
    assert_eq!(keys(answer.text()), ["processes", "nextAfter"]);
    // The parts of what has no bound are one.
    let whole = list(&server, "?after=proc_2");
    assert_eq!(ids(&whole).concat(), "3456");
    assert!(whole.get("nextAfter").is_none());
}

fn a_part_goes_on_behind_what_was_deleted(backend: Backend) {
    let server = six(backend);
    let first = list(&server, "?limit=4");
    assert_eq!(first["nextAfter"], "proc_4");
    server.delete("/v1/processes/proc_4").expect(204);
    server.delete("/v1/processes/proc_5").expect(204);
    assert_eq!(ids(&list(&server, "?limit=4&after=proc_4")).concat(), "6");
    let head = server.request("HEAD", "/v1/processes?limit=4&after=proc_4", &[], b"");
    head.expect_empty(200);
}

fn what_no_filter_can_be_is_refused_and_named(backend: Backend) {
    let server = six(backend);
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=1", "limit"),
        ("after=", "after"),
        ("after=4", "after"),
        ("after=proc_0", "after"),
        ("after=third.3", "after"),
        ("label=", "label"),
        ("label=odd", "label"),
        ("label=odd=true&label=n", "label"),
        ("status=", "status"),
        ("status=Running", "status"),
        ("name=", "name"),
        ("name=proc_1", "name"),
        ("name=a&name=a", "name"),
    ] {
        let answer = server.get(&format!("/v1/processes?{query}"));
        let problem = answer.problem(400, "invalid_request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(&format!("parameter {name} ")),
            "{query}: {detail}"
        );
    }
    let many = vec!["label=a=b"; 17].join("&");
    server.get(&format!("/v1/processes?{many}")).expect(400);
}

fn a_list_that_asks_for_nothing_is_as_ever(backend: Backend) {
    let server = Server::open(backend);
    assert_eq!(server.get("/v1/processes").text(), r#"{"processes":[]}"#);
    assert_eq!(
        server.get("/v1/processes?limit=5").text(),
        r#"{"processes":[]}"#
    );
    server.spawn(&json!({"command": "cat"}));
    let info = server.get("/v1/processes/proc_1");
    let list = server.get("/v1/processes");
    assert_eq!(list.text(), format!(r#"{{"processes":[{}]}}"#, info.text()));
}
