//! Applications scraped one by one, as Prometheus does that has found them at `/targets`.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use hyper::http::uri::Authority;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::failure::{FailureKind, LoadFailure};
use super::http::Connections;

/// Bytes of a list that are read: 10,000 applications have 3 MB.
const MAX_LIST: usize = 256 << 20;
/// Between two looks at a list in which some are missing.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
struct Group {
    labels: BTreeMap<String, String>,
}

/// Where a target is scraped: path and query.
pub(super) type Path = String;

/// Looks at the list until `count` applications of this job are in it, or `within` is over. Gives the last list, and how
/// long it took to get it.
pub(super) async fn discover(
    connections: &Connections,
    web: &Authority,
    job: &str,
    count: usize,
    within: Duration,
) -> Result<(Vec<Path>, Duration), LoadFailure> {
    let until = Instant::now() + within;
    loop {
        let asked = Instant::now();
        let listed = timeout(within, list(connections, web, job)).await;
        let listed = listed.unwrap_or_else(|_| Err("/targets: no answer in time".to_owned()));
        let time = asked.elapsed();
        match listed {
            Ok(paths) if paths.len() >= count => return Ok((paths, time)),
            Ok(paths) if Instant::now() >= until => return Ok((paths, time)),
            Err(reason) if Instant::now() >= until => {
                return Err(LoadFailure::new(FailureKind::Scrape, reason));
            }
            _ => sleep(PAUSE).await,
        }
    }
}

async fn list(connections: &Connections, web: &Authority, job: &str) -> Result<Vec<Path>, String> {
    let response = connections.get(web, "/targets", HeaderMap::new()).await;
    let response = response.map_err(|error| error.to_string())?;
    let status = response.status();
    if status != StatusCode::OK {
        return Err(format!("/targets: {status}"));
    }
    let body = Limited::new(response.into_body(), MAX_LIST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    paths(&body, job).map_err(|error| format!("/targets: {error}"))
}

/// Where the targets of this job are scraped.
fn paths(list: &[u8], job: &str) -> Result<Vec<Path>, serde_json::Error> {
    let groups: Vec<Group> = serde_json::from_slice(list)?;
    let path = |group: &Group| {
        let label = |name: &str| group.labels.get(name).map(String::as_str);
        let path = label("__metrics_path__").filter(|_| label("job") == Some(job))?;
        Some(format!("{path}?job={job}"))
    };
    Ok(groups.iter().filter_map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_this_run_are_found_among_others() {
        let list = br#"[
            {"targets": ["a:1"], "labels": {"instance": "app-0", "job": "bench-1", "__metrics_path__": "/metrics/app/app-0"}},
            {"targets": ["a:1"], "labels": {"instance": "app-0", "job": "bench-2", "__metrics_path__": "/metrics/app/app-0"}},
            {"targets": ["a:1"], "labels": {"instance": "web-1", "__metrics_path__": "/metrics/app/web-1"}}
        ]"#;
        let found = paths(list, "bench-1").unwrap();
        assert_eq!(found, ["/metrics/app/app-0?job=bench-1"]);
        assert!(paths(b"[", "").is_err());
    }
}
