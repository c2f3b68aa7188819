//! A real Prometheus scrapes the server, and every query of the dashboard has an answer.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Backend, Conn, Follow, Server, eventually, on_both, sh, skipped};

on_both!(every_query_of_the_dashboard_is_answered_by_what_prometheus_scrapes);

/// Prometheus and what it has written; both go when dropped.
struct Prometheus {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Prometheus {
    /// None where it is not installed.
    fn scraping(server: &Server) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("procring-prometheus-{}", server.pid));
        std::fs::create_dir_all(&folder).unwrap();
        let config = format!(
            "global: {{scrape_interval: 200ms}}\nscrape_configs:\n- job_name: procring\n  \
             static_configs: [{{targets: ['{}']}}]\n",
            server.address
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:0", "--log.level=info"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            std::fs::remove_dir_all(&folder).unwrap();
            return None;
        };
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut prometheus = Self {
            child,
            address: String::new(),
            folder,
        };
        let mut lines = lines.map_while(Result::ok);
        let line = lines.find(|line| line.contains("\"Listening on\""));
        let line = line.expect("the address that Prometheus listens on");
        let address = line.split("address=").nth(1).expect("an address");
        prometheus.address = address.split(' ').next().unwrap_or_default().to_owned();
        // What it says further is of no interest, but it must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Some(prometheus)
    }

    fn query(&self, query: &str) -> Value {
        let mut encoded = String::new();
        for byte in query.bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        let mut conn = Conn::open(self.address.parse().unwrap());
        conn.send(format!(
            "GET /api/v1/query?query={encoded} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ));
        let answer = conn.response("GET");
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The queries of a dashboard, as it would send them.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let all = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let query = |target: &Value| {
            let text = target["expr"].as_str().unwrap();
            let text = text.replace("$__rate_interval", "30s");
            text.replace("$job", "procring").replace("$instance", ".*")
        };
        let queries: Vec<_> = targets.iter().map(query).collect();
        queries
            .into_iter()
            .map(move |query| (title.to_owned(), query))
    });
    all.collect()
}

/// Some of everything that a server does.
fn work(server: &Server) {
    server.run(&json!({"command": "echo", "args": ["hi"]}));
    server.run(&json!({"command": "false"}));
    server.get("/v1/processes/nobody").expect(404);
}

fn every_query_of_the_dashboard_is_answered_by_what_prometheus_scrapes(backend: Backend) {
    let server = Server::open(backend);
    let Some(prometheus) = Prometheus::scraping(&server) else {
        return skipped("prometheus is missing; nobody scrapes the server");
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/procring.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 30, "{queries:?}");
    let id = server.spawn(&sh("while read x; do echo $x; done"));
    let _follow = Follow::process(&server, &id);
    for (title, query) in &queries {
        eventually(&format!("an answer to {query} ({title})"), || {
            // A rate needs two scrapes with something between them.
            work(&server);
            let result = prometheus.query(query);
            (!result.as_array().unwrap().is_empty()).then_some(())
        });
    }
    // And it is what the server has counted.
    eventually("the process to be scraped", || {
        let result = prometheus.query("procring_processes{state=\"running\"}");
        (result[0]["value"][1] == "1").then_some(())
    });
    server.kill(&id);
}
