//! The crate `prometheus`.

use prometheus::{Registry, TextEncoder};

/// The text of a registry of the crate `prometheus`, in format 0.0.4. For the default registry:
/// `adapter::prometheus(prometheus::default_registry().clone())`.
pub fn prometheus(
    registry: Registry,
) -> impl Fn() -> Result<String, prometheus::Error> + Send + Sync + 'static {
    move || TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_rendered_as_it_is_at_the_moment() {
        let registry = Registry::new();
        let jobs = prometheus::IntCounter::new("jobs_done_total", "Jobs.").unwrap();
        registry.register(Box::new(jobs.clone())).unwrap();
        let render = prometheus(registry);
        jobs.inc();
        assert!(render().unwrap().ends_with("jobs_done_total 1\n"));
    }
}
