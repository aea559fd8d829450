"""Checks what no schema says of the manifests.

    manifests.py BASE DIRECTORY...

BASE is what Kustomize builds of the directories.
"""

import pathlib
import sys

import yaml


def read(path):
    return [document for document in yaml.safe_load_all(pathlib.Path(path).read_text()) if document]


def name(document):
    return document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"]


def check_kustomize(base, documents):
    """Kustomize builds every object of the directories, and changes none."""
    built = {name(document): document for document in base}
    applied = {name(document): document for document in documents}
    differing = [key for key in built.keys() | applied.keys() if built.get(key) != applied.get(key)]
    assert not differing, differing


def check_namespace(documents):
    for kind, namespace, _ in map(name, documents):
        assert kind == "Namespace" or namespace == "monitoring-tools", (kind, namespace)


def check_pod(workload, accounts):
    """The rules of the restricted profile, and those of this repository."""
    spec = workload["spec"]["template"]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] > 0 and context["runAsGroup"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["serviceAccountName"] in accounts
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert ":" in container["image"] and not container["image"].endswith(":latest")


def setting(deployment, flag):
    """What the node is told by a flag."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    prefix = f"--{flag}="
    (value,) = [a.removeprefix(prefix) for a in container["args"] if a.startswith(prefix)]
    return value


def check_grace(deployment):
    """A node has more time to end than it takes for its drain, and an update waits for that before the next."""
    drain = int(setting(deployment, "shutdown.grace-period").removesuffix("s"))
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain
    assert deployment["spec"]["minReadySeconds"] > drain


def mebibytes(amount):
    """As the node writes it (128MiB), and as Kubernetes does (128Mi)."""
    number, unit = amount.rstrip("B")[:-2], amount.rstrip("B")[-2:]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def check_memory(deployment):
    """What the settings bound fits into the limit, by the rule of docs/operations.md; a node past it would be killed."""
    bounds = {flag: mebibytes(setting(deployment, flag)) for flag in
              ("scrape.max-memory", "push.max-bytes", "rsocket.max-unfinished")}
    connections = int(setting(deployment, "rsocket.max-connections"))
    bounded = bounds["push.max-bytes"] + bounds["rsocket.max-unfinished"]
    bounded += 1.4 * bounds["scrape.max-memory"] + (32e3 * connections + 100e6) / 2**20
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert bounded <= mebibytes(container["resources"]["limits"]["memory"]), f"{bounded:.0f} MiB"


def check_rights(documents):
    """Prometheus may look at pods, and nobody may do anything else."""
    roles = [document for document in documents if document["kind"] in ("Role", "ClusterRole")]
    assert [role["rules"] for role in roles] == [
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    ]
    bindings = [document for document in documents if document["kind"].endswith("RoleBinding")]
    assert [subject["name"] for binding in bindings for subject in binding["subjects"]] == ["prometheus"]


def check_services(documents):
    """Names and ports are those of the Java proxy's manifests, but for HTTP, which is not open to the outside; what
    selects pods selects some."""
    services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}
    ports = {service: {port["port"] for port in spec["ports"]} for service, spec in services.items()}
    assert ports["prometheus-proxy"] == {7001, 8081} and ports["prometheus-proxy-web"] == {8080}
    assert ports["prometheus"] == {9090} and ports["grafana"] == {80}
    outside = [service for service, spec in services.items() if spec.get("type", "ClusterIP") != "ClusterIP"]
    assert outside == ["prometheus-proxy"], outside
    assert services["prometheus-proxy-cluster"]["clusterIP"] == "None"
    assert services["prometheus-proxy-cluster"]["publishNotReadyAddresses"]
    pods = [d["spec"]["template"] for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
    for service, spec in services.items():
        (pod,) = [pod for pod in pods if spec["selector"].items() <= pod["metadata"]["labels"].items()]
        named = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in spec["ports"]} <= named, service


def main(base, directories):
    files = [file for directory in directories for file in sorted(pathlib.Path(directory).glob("*.yaml"))]
    documents = [document for file in files for document in read(file)]
    check_kustomize(read(base), documents)
    check_namespace(documents)
    accounts = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
    workloads = [d for d in documents if d["kind"] in ("Deployment", "StatefulSet")]
    for workload in workloads:
        check_pod(workload, accounts)
    proxy = next(d for d in workloads if d["metadata"]["name"] == "prometheus-proxy")
    check_grace(proxy)
    check_memory(proxy)
    check_rights(documents)
    check_services(documents)
    print(f"{len(documents)} objects, {len(workloads)} workloads: all as they should be")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
