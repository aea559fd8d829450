//! The crate `prometheus-client`.

use std::fmt;
use std::ops::Deref;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// The text of a registry of the crate `prometheus-client`, in OpenMetrics. The registry is shared as an `Arc`, a
/// `&'static`, or whatever else leads to it.
pub fn prometheus_client<R>(
    registry: R,
) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static
where
    R: Deref<Target = Registry> + Send + Sync + 'static,
{
    move || {
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn the_registry_is_rendered_as_it_is_at_the_moment() {
        let mut registry = Registry::default();
        let jobs = Counter::<u64>::default();
        registry.register("jobs_done", "Jobs", jobs.clone());
        let render = prometheus_client(Arc::new(registry));
        jobs.inc();
        assert!(render().unwrap().ends_with("jobs_done_total 1\n# EOF\n"));
    }
}
