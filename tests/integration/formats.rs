//! What is answered to each `Accept`, and what Prometheus makes of it.

use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::app::{App, Peer};
use crate::peers::{need, prometheus_3};
use crate::prometheus::Prometheus;
use crate::sandbox::{Response, Sandbox, request};

const OPENMETRICS: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
/// What Prometheus 3.16 sends.
const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
                            application/openmetrics-text;version=0.0.1;q=0.6,\
                            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
/// What Java and Go applications render for who asks for OpenMetrics.
const JAVA: &str = "# TYPE http_seconds histogram\n# UNIT http_seconds seconds\n\
                    # HELP http_seconds How \\\"long\\\"\n\
                    http_seconds_bucket{le=\"0.5\"} 1 # {trace_id=\"abc\"} 0.2 1700000000.5\n\
                    http_seconds_bucket{le=\"+Inf\"} 2\nhttp_seconds_count 2\nhttp_seconds_sum 3\n\
                    # TYPE orders counter\norders_total 5 # {trace_id=\"def\"} 1\n\
                    # TYPE build info\nbuild_info{version=\"1\"} 1\n# EOF\n";
/// The same in text format 0.0.4, where it can be said.
const JAVA_IN_TEXT: &str = "# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
                            # HELP http_seconds How \"long\"\n# TYPE http_seconds histogram\n\
                            http_seconds_bucket{le=\"0.5\"} 1\nhttp_seconds_bucket{le=\"+Inf\"} 2\n\
                            http_seconds_count 2\nhttp_seconds_sum 3\n\
                            # TYPE orders_total counter\norders_total 5\n";
/// OpenTelemetry's names, as Go writes them.
const DOTTED: &str = "# TYPE \"otel.requests\" counter\n\
                      {\"otel.requests\",\"service.name\"=\"shop\"} 7\n";

async fn asked(proxy: &Sandbox, path: &str, accept: &str) -> Response {
    proxy.get_with(path, &[("accept", accept)]).await
}

#[tokio::test]
async fn every_path_with_samples_answers_as_it_was_asked() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), "a{instance=\"web-1\"} 1 5\n").await;
    let named = App::text(proxy.tcp(), "b{instance=\"web-2\",job=\"shop\"} 1\n").await;
    // Who does not say who it is is named by its first answer.
    proxy.scrape().await;
    crate::sandbox::eventually("a name", async || {
        asked(&proxy, "/metrics/app/web-2", "*/*").await.status == StatusCode::OK
    })
    .await;
    for path in [
        "/metrics/connected",
        "/metrics/pushes",
        "/metrics/app/web-2?job=shop",
        "/metrics/proxy",
        "/metrics",
    ] {
        for method in [Method::GET, Method::HEAD] {
            let headers = [("accept", PROMETHEUS_3)];
            let response = request(proxy.web(), method.clone(), path, &headers).await;
            assert_eq!(response.status, StatusCode::OK, "{method} {path}");
            assert_eq!(response.headers["content-type"], OPENMETRICS);
            let vary = response.headers.get_all("vary").iter();
            assert!(vary.into_iter().any(|value| value == "accept"), "{path}");
            let is_whole = response.text().ends_with("# EOF\n");
            assert_eq!(is_whole, method == Method::GET, "{method} {path}");
        }
        let refused = asked(&proxy, path, "application/json").await;
        assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE, "{path}");
    }
    drop(named);
}

#[tokio::test]
async fn what_openmetrics_says_goes_to_those_who_ask_for_it() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), JAVA).await;
    let response = asked(&proxy, "/metrics/connected", PROMETHEUS_3).await;
    assert_eq!(
        response.text(),
        "# TYPE build info\nbuild_info{version=\"1\"} 1\n\
         # HELP http_seconds How \\\"long\\\"\n# TYPE http_seconds histogram\n\
         # UNIT http_seconds seconds\n\
         http_seconds_bucket{le=\"0.5\"} 1 # {trace_id=\"abc\"} 0.2 1700000000.5\n\
         http_seconds_bucket{le=\"+Inf\"} 2\nhttp_seconds_count 2\nhttp_seconds_sum 3\n\
         # TYPE orders counter\norders_total 5 # {trace_id=\"def\"} 1\n# EOF\n"
    );
    let response = asked(&proxy, "/metrics/connected", "text/plain").await;
    assert_eq!(response.text(), JAVA_IN_TEXT);
}

#[tokio::test]
async fn names_with_dots_are_served_as_they_are_or_escaped() {
    let proxy = Sandbox::start(&[]).await;
    let app = App::text(proxy.tcp(), DOTTED).await;
    for (accept, expected) in [
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "# TYPE \"otel.requests\" counter\n{\"otel.requests\",\"service.name\"=\"shop\"} 7\n",
        ),
        (
            PROMETHEUS_3,
            "# TYPE \"otel.requests\" unknown\n\
             {\"otel.requests\",\"service.name\"=\"shop\"} 7\n# EOF\n",
        ),
        (
            "*/*",
            "# TYPE otel_requests counter\notel_requests{service_name=\"shop\"} 7\n",
        ),
        (
            "text/plain;escaping=values",
            "# TYPE U__otel_2e_requests counter\n\
             U__otel_2e_requests{U__service_2e_name=\"shop\"} 7\n",
        ),
    ] {
        let response = asked(&proxy, "/metrics/connected", accept).await;
        assert_eq!(response.text(), expected, "{accept}");
    }
    drop(app);
    proxy.connected(0).await;
    let mut job = Peer::connect(proxy.tcp()).await;
    job.key().await;
    job.push(DOTTED).await.unwrap();
    let response = asked(&proxy, "/metrics/pushes", PROMETHEUS_3).await;
    assert!(response.text().contains("\n{\"otel.requests\","));
}

#[tokio::test]
async fn a_response_is_compressed_as_the_request_allows() {
    let proxy = Sandbox::start(&[]).await;
    let _app = App::text(proxy.tcp(), &crate::sandbox::long_text()).await;
    for (accepted, expected) in [("zstd,gzip", "zstd"), ("gzip", "gzip")] {
        let headers = [("accept-encoding", accepted)];
        let response = proxy.get_with("/metrics/connected", &headers).await;
        assert_eq!(response.headers["content-encoding"], expected);
    }
}

/// Scrapes the applications in this format.
fn config(proxy: &Sandbox, protocols: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: connected, metrics_path: /metrics/connected, honor_labels: true, \
            scrape_protocols: [{protocols}], static_configs: [{{targets: ['{}']}}]}}\n",
        proxy.web()
    )
}

#[tokio::test]
async fn prometheus_3_stores_exemplars_and_the_same_series_in_every_format() {
    need!(Prometheus3);
    let proxy = Sandbox::start(&[]).await;
    let _java = App::text(proxy.tcp(), JAVA).await;
    let _go = App::text(proxy.tcp(), DOTTED).await;
    let _old = App::text(
        proxy.tcp(),
        "# TYPE lag summary\nlag{quantile=\"1\"} 1\nlag_count 1\nlag_sum 1\n\
         # TYPE took histogram\ntook_bucket{le=\"1\",} 1\ntook_bucket{le=\"+Inf\",} 1\n\
         took_count 1\ntook_sum 1\n# TYPE clicks counter\nclicks 3\n",
    )
    .await;
    let prometheus =
        Prometheus::running(&prometheus_3(), &config(&proxy, "OpenMetricsText1.0.0")).await;
    let ours = "{__name__=~\".+\",__name__!~\"up|scrape_.*\"}";
    prometheus.shows(&format!("count({ours})"), 15.0).await;
    prometheus
        .shows("{\"otel.requests\",\"service.name\"=\"shop\"}", 7.0)
        .await;
    let range = "start=1699999999&end=4102444800";
    let exemplars = format!("/api/v1/query_exemplars?query=http_seconds_bucket&{range}");
    crate::sandbox::eventually("an exemplar", async || {
        let found = prometheus.api(&exemplars).await;
        found[0]["exemplars"][0]["labels"]["trace_id"] == "abc"
    })
    .await;
    for protocols in [
        "PrometheusText1.0.0",
        "OpenMetricsText1.0.0",
        "PrometheusText1.0.0",
    ] {
        prometheus.reconfigured(&config(&proxy, protocols)).await;
        prometheus.scrapes(3).await;
    }
    // Each of them is there without a gap, and no other.
    let names = prometheus
        .query(&format!("last_over_time({ours}[1h])"))
        .await;
    assert_eq!(names.len(), 15, "{names:?}");
    let up = prometheus.value("min_over_time(up[1h])").await;
    assert_eq!(up, Some(1.0));
    for why in ["duplicate_timestamp", "out_of_bounds", "out_of_order"] {
        prometheus.assert_dropped_none(why).await;
    }
    let metadata = prometheus.api("/api/v1/targets/metadata").await;
    assert!(metadata.as_array().is_some_and(|all| !all.is_empty()));
    assert_ne!(metadata, Value::Null);
}
