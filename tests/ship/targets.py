"""Checks the overlay with a target per application: the nodes themselves are scraped as in the base, and pushes as the base
scrapes applications and pushes together, at their own path.

    targets.py BASE OVERLAY

Both are what Kustomize builds.
"""

import pathlib
import sys

import yaml


def jobs(path):
    documents = yaml.safe_load_all(pathlib.Path(path).read_text())
    (config,) = [d for d in documents if d and d["metadata"]["name"] == "prometheus-server-conf"]
    parsed = yaml.safe_load(config["data"]["prometheus.yml"])
    return {job.pop("job_name"): job for job in parsed["scrape_configs"]}


def main(base, overlay):
    plain, targets = jobs(base), jobs(overlay)
    assert targets["proxies"] == plain["proxies"]
    pushes, together = targets["proxied-pushes"], plain["proxied-applications"]
    assert pushes.pop("metrics_path") == "/metrics/pushes" and together.pop("metrics_path") == "/metrics/connected"
    (dropped,) = together.pop("metric_relabel_configs")
    assert "proxy_node" in dropped["regex"].split("|") and pushes.pop("metric_relabel_configs")
    assert pushes == together
    applications = targets["proxied-applications"]
    (discovery,) = applications["http_sd_configs"]
    assert discovery["url"] == "http://prometheus-proxy-web:8080/targets" and applications["honor_labels"]
    assert applications["relabel_configs"] == [{"target_label": "proxied_by", "replacement": "rsocket"}]
    print(f"{len(targets)} jobs with targets, {len(plain)} without")


if __name__ == "__main__":
    main(*sys.argv[1:])
