//! The crate `metrics`.

use metrics_exporter_prometheus::PrometheusHandle;

/// The text of a recorder of the crate `metrics`, in format 0.0.4: `PrometheusBuilder::install_recorder` gives the
/// handle. Rendering also does the recorder's upkeep, which without an exporter of its own nobody else does.
pub fn metrics(handle: PrometheusHandle) -> impl Fn() -> String + Send + Sync + 'static {
    move || {
        handle.run_upkeep();
        handle.render()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn the_recorder_is_rendered_as_it_is_at_the_moment() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let render = metrics(recorder.handle());
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::counter!("jobs_done_total").increment(1);
        });
        assert!(render().contains("jobs_done_total 1\n"));
    }
}
