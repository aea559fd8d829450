//! What the client's adapters render, scraped through a node.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus::IntCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_rsocket_client::{Builder, Client, adapter};

use crate::sandbox::Sandbox;

/// The samples of a scrape, and the types of their families.
async fn scraped(builder: Builder) -> Vec<String> {
    let proxy = Sandbox::start(&[]).await;
    let address = format!("tcp://{}", proxy.tcp());
    let client = builder
        .proxy(address.parse().expect("an address"))
        .connect_and_wait()
        .await
        .expect("a connection");
    proxy.connected(1).await;
    let response = proxy.get("/metrics/connected").await;
    client.close().await;
    let lines = response.text().lines();
    lines
        .filter(|line| !line.starts_with("# HELP"))
        .map(str::to_owned)
        .collect()
}

fn classic() -> prometheus::Registry {
    let registry = prometheus::Registry::new();
    let jobs = IntCounter::new("jobs_done_total", "Jobs.").expect("a counter");
    jobs.inc();
    registry.register(Box::new(jobs)).expect("a new name");
    registry
}

fn openmetrics() -> Arc<prometheus_client::registry::Registry> {
    let mut registry = prometheus_client::registry::Registry::default();
    let rows = Counter::<u64>::default();
    rows.inc();
    registry.register("rows", "Rows", rows);
    Arc::new(registry)
}

#[tokio::test]
async fn the_registries_of_other_crates_are_scraped() {
    let jobs = ["# TYPE jobs_done_total counter", "jobs_done_total 1"];
    let rows = ["# TYPE rows_total counter", "rows_total 1"];
    let builder = Client::builder(adapter::prometheus(classic()));
    assert_eq!(scraped(builder).await, jobs);
    let builder = Client::builder(adapter::prometheus_client(openmetrics()));
    assert_eq!(scraped(builder).await, rows);
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("jobs_done_total").increment(1);
    });
    let builder = Client::builder(adapter::metrics(recorder.handle()));
    assert_eq!(scraped(builder).await, jobs);
}

#[tokio::test]
async fn registries_of_two_formats_and_the_clients_own_metrics_are_one_text() {
    let (jobs, rows) = (
        adapter::prometheus(classic()),
        adapter::prometheus_client(openmetrics()),
    );
    let both = move || -> Result<String, String> {
        let jobs = jobs().map_err(|error| error.to_string())?;
        Ok(jobs + &rows().map_err(|error| error.to_string())?)
    };
    let lines = scraped(Client::builder(both).own_metrics(true)).await;
    for line in [
        "# TYPE jobs_done_total counter",
        "jobs_done_total 1",
        "# TYPE rows_total counter",
        "rows_total 1",
        "# TYPE prometheus_rsocket_client_connects_total counter",
        "prometheus_rsocket_client_connects_total 1",
        "prometheus_rsocket_client_connected 1",
    ] {
        assert!(
            lines.iter().any(|actual| actual == line),
            "{line}: {lines:?}"
        );
    }
}
