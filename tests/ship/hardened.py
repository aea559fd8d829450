"""Checks the hardened overlay: that every file it names is in a Secret that is mounted whole, that the program knows what
it is told, that nothing asks the nodes in the clear, and that Prometheus' configuration is the base's but for that.

    hardened.py BASE OVERLAY

Both are what Kustomize builds.
"""

import pathlib
import re
import sys

import yaml

SECURITY = {"scheme", "tls_config", "basic_auth"}


def read(path):
    objects = [document for document in yaml.safe_load_all(pathlib.Path(path).read_text()) if document]
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def pod(objects, kind, name):
    """The pod of a workload, and its one container."""
    spec = objects[kind, name]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def secrets(spec, container):
    """What is mounted of Secrets: directories, and the Secrets in them."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounted = {}
    for mount in container["volumeMounts"]:
        assert "subPath" not in mount, f"{mount['mountPath']} would never change"
        # What is not there is of a claim.
        volume = volumes.get(mount["name"], {})
        sources = volume.get("projected", {}).get("sources", [volume])
        names = [s["secret"].get("secretName", s["secret"].get("name")) for s in sources if "secret" in s]
        if names:
            assert mount["readOnly"], mount
            mounted[mount["mountPath"]] = names
    return mounted


def check_files(files, mounted):
    for file in files:
        assert str(pathlib.PurePath(file).parent) in mounted, f"{file} is not mounted"


def check_program(container):
    """A misspelt variable would be ignored, and leave a port open."""
    settings = pathlib.Path("docs/settings.md").read_text()
    for variable in container["env"]:
        assert f'`{variable["name"]}`' in settings, variable["name"]
    for argument in container["args"] + container["readinessProbe"]["exec"]["command"][2:]:
        flag = argument.partition("=")[0]
        assert f"`{flag}=" in settings or f"`{flag}`" in settings, argument


def check_proxy(objects):
    spec, container = pod(objects, "Deployment", "prometheus-proxy")
    mounted = secrets(spec, container)
    check_program(container)
    told = [variable["value"] for variable in container["env"] if "value" in variable]
    told += container["args"] + container["readinessProbe"]["exec"]["command"]
    files = [word for text in told for word in re.findall(r"/run/secrets/[^,]+", text)]
    assert files
    check_files(files, mounted)
    probes = [container[probe] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert all("httpGet" not in probe for probe in probes), "a probe in the clear"
    # The program gives up first, and says why.
    assert container["readinessProbe"]["timeoutSeconds"] > 3
    return mounted


def check_prometheus(base, objects):
    mounted = secrets(*pod(objects, "StatefulSet", "prometheus"))
    key = "ConfigMap", "prometheus-server-conf"
    assert base[key]["metadata"] == objects[key]["metadata"]
    plain, secure = (yaml.safe_load(o[key]["data"]["prometheus.yml"]) for o in (base, objects))
    for job in secure["scrape_configs"]:
        assert SECURITY <= job.keys() and job["scheme"] == "https", job["job_name"]
        check_files([job["tls_config"]["ca_file"], job["basic_auth"]["password_file"]], mounted)
        for setting in SECURITY:
            del job[setting]
    assert secure == plain, "more differs than how the nodes are asked"
    return mounted


def main(base, overlay):
    objects = read(overlay)
    mounted = check_proxy(objects) | check_prometheus(read(base), objects)
    names = {name for names in mounted.values() for name in names}
    manual = pathlib.Path("docs/operations.md").read_text()
    assert all(f"`{name}`" in manual for name in names), names
    print(f"{len(names)} Secrets, as docs/operations.md says")


if __name__ == "__main__":
    main(*sys.argv[1:])
