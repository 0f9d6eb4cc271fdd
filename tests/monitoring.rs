//! Alert rules and dashboard of `docs/monitoring` are well formed, and ask for nothing that the feature `metrics` does not export. Whether
//! Prometheus understands them, and when they fire, is `ci/monitoring.sh`.
#![cfg(all(unix, feature = "metrics", feature = "shm", feature = "uds"))]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use genvm_transport::metrics::Snapshot;
use genvm_transport::protocol::*;
use genvm_transport::{ConnectOptions, ListenOptions, Listener, connect, listen};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use support::{directory, watchdog};
use yaml_rust2::YamlLoader;

/// What Prometheus sees of an execution with calls of several kinds, as `examples/metrics_host.rs` exports it.
fn exported() -> String {
    let directory = directory();
    let address = format!("shm://{}", directory.path().join("host.sock").display());
    let listener: Arc<dyn Listener> = Arc::from(listen(&address, &ListenOptions::default()).expect("a listener"));
    let accepting = listener.clone();
    let host = thread::spawn(move || {
        while let Ok(mut stream) = accepting.accept() {
            let _ = serve_blocking(&mut stream, &mut HostState::new().begin(Environment::default()), &Protocol::ONE);
        }
    });
    let mut client = HostClient::new(connect(&address, &ConnectOptions::default()).expect("connected"));
    client.get_balance(&Account([1; 20])).expect("a balance");
    let slot = SlotId([2; 32]);
    client.storage_read(StorageMode::Default, &Account([0; 20]), &slot, 0, &mut [0; 32]).expect("read");
    client.storage_write(&slot, 0, &[1; 5]).expect("written");
    let snapshot = Snapshot::of(&client).with_stream(client.get_ref());
    drop(client);
    listener.close();
    host.join().expect("no panic");

    let recorder = PrometheusBuilder::new().set_buckets(&[1e-6, 1e-3, 1.0]).expect("buckets").build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || snapshot.publish());
    handle.render()
}

/// Names of metrics and of labels, and methods.
struct Known {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
    text: String,
}

impl Known {
    fn new() -> Self {
        let text = exported();
        let (mut metrics, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, rest) = line.split_at(line.find([' ', '{']).expect("a value"));
            metrics.insert(name.to_owned());
            labels.extend(rest.match_indices("=\"").map(|(at, _)| {
                let before = &rest[..at];
                before.rsplit(['{', ',']).next().expect("a name").to_owned()
            }));
        }
        Self { metrics, labels, text }
    }

    /// What an expression names and nobody exports; or that it names no metric.
    fn unknown(&self, expr: &str, records: &BTreeSet<String>) -> Vec<String> {
        let mut unknown = Vec::new();
        let mut metrics = 0;
        for (number, outside) in expr.split('"').enumerate() {
            if number % 2 == 1 {
                // The value of a label: a transport, a status, or methods, of which all were called above.
                let methods = outside.split('|').filter(|word| word.contains('_'));
                unknown.extend(
                    methods.filter(|name| !self.text.contains(&format!("method=\"{name}\""))).map(str::to_owned),
                );
                continue;
            }
            let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$');
            let mut rest = outside;
            while let Some(at) = rest.find(name) {
                let from = &rest[at..];
                let (word, behind) = from.split_at(from.find(|c| !name(c)).unwrap_or(from.len()));
                rest = behind;
                let is_number = word.starts_with(|c: char| c.is_ascii_digit());
                let is_word = WORDS.contains(&word) || self.labels.contains(word);
                if is_number || word.starts_with('$') || is_word {
                    continue;
                }
                metrics += 1;
                if !self.metrics.contains(word) && !records.contains(word) {
                    unknown.push(word.to_owned());
                }
            }
        }
        if metrics == 0 {
            unknown.push(format!("no metric in `{expr}`"));
        }
        unknown
    }
}

/// Functions and key words of PromQL that are used.
const WORDS: &[&str] = &["sum", "max", "rate", "increase", "histogram_quantile", "by", "on", "and", "group_left", "le"];

#[test]
fn alerts_ask_for_what_is_exported() {
    let _watchdog = watchdog("reading the alerts");
    let known = Known::new();
    let text = page("alerts.yml");
    let rules = &YamlLoader::load_from_str(&text).expect("YAML")[0];
    let rules: Vec<_> = rules["groups"]
        .as_vec()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_vec().expect("rules"))
        .collect();
    let records = rules.iter().filter_map(|rule| rule["record"].as_str().map(str::to_owned)).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let expr = rule["expr"].as_str().expect("an expression");
        assert_eq!(known.unknown(expr, &records), Vec::<String>::new(), "in {expr}");
        if let Some(name) = rule["alert"].as_str() {
            assert!(alerts.insert(name.to_owned()), "{name} is there twice");
            assert!(rule["labels"]["severity"].as_str().is_some(), "{name} has no severity");
            for annotation in ["summary", "description"] {
                assert!(rule["annotations"][annotation].as_str().is_some(), "{name} has no {annotation}");
            }
        } else {
            assert!(rule["record"].as_str().is_some(), "{expr} is neither alert nor record");
        }
    }
    // Each is tried, and told of.
    let (tried, told) = (page("alerts_test.yml"), page("README.md"));
    YamlLoader::load_from_str(&tried).expect("YAML");
    for name in &alerts {
        assert!(tried.contains(&format!("alertname: {name}")), "{name} is not tried");
        assert!(told.contains(&format!("`{name}`")), "{name} is not told of");
    }
    assert!(alerts.len() >= 5, "{alerts:?}");
}

#[test]
fn the_dashboard_asks_for_what_is_exported() {
    let _watchdog = watchdog("reading the dashboard");
    let known = Known::new();
    let dashboard: Value = serde_json::from_str(&page("dashboard.json")).expect("JSON");
    let input = dashboard["__inputs"][0]["name"].as_str().expect("an input for the data source");
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut asked, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "the id of {title} is there twice");
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title} says nothing");
        assert_eq!(panel["datasource"]["uid"], Value::String(format!("${{{input}}}")), "{title}");
        let place = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().expect(name));
        let [left, top, width, height] = place;
        for square in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
            assert!(square.0 < 24 && taken.insert(square), "{title} lies on another panel or beyond the edge");
        }
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} asks for nothing");
        for target in targets {
            let expr = target["expr"].as_str().expect("an expression");
            assert_eq!(known.unknown(expr, &BTreeSet::new()), Vec::<String>::new(), "in {title}: {expr}");
            asked.extend(known.metrics.iter().filter(|name| expr.contains(name.as_str())).cloned());
        }
    }
    // Everything that decides is on it.
    for name in [
        "waiting_seconds_sum",
        "elapsed_seconds_sum",
        "elapsed_seconds_count",
        "calls_total",
        "call_seconds_bucket",
        "upgrades_total",
        "fall_backs_total",
        "sleeps_total",
    ] {
        assert!(asked.contains(&format!("genvm_host_{name}")), "{name} is on no panel of {asked:?}");
    }
}

#[test]
fn a_name_that_is_not_exported_is_found() {
    let known = Known::new();
    let unknown = |expr: &str| known.unknown(expr, &["genvm_host:waiting:share".to_owned()].into());
    assert!(
        unknown(r#"sum by (method) (rate(genvm_host_calls_total{status!="ok"}[5m])) / genvm_host:waiting:share"#)
            .is_empty()
    );
    assert_eq!(unknown("rate(genvm_host_call_total[5m]) > 0"), ["genvm_host_call_total"]);
    assert_eq!(unknown("sum by (methods) (genvm_host_calls_total)"), ["methods"]);
    assert_eq!(unknown(r#"genvm_host_calls_total{method=~"storage_reed|storage_write"}"#), ["storage_reed"]);
    assert_eq!(unknown("sum(1)").len(), 1);
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
