"""Writes the schemas that kubernetes-validate carries, one file for each kind, as kubeconform reads them: with all that
they refer to inside.

    schemas.py DIRECTORY
"""

import json
import pathlib
import sys

import kubernetes_validate

VERSION = "1.37.0"


def is_reference(key, value):
    """A property may have that name as well."""
    return key == "$ref" and isinstance(value, str)


def inside(schema):
    """The schema with references to the file of definitions turned into references to itself."""
    if isinstance(schema, dict):
        return {
            key: value.removeprefix("/api/_definitions.json") if is_reference(key, value) else inside(value)
            for key, value in schema.items()
        }
    return [inside(item) for item in schema] if isinstance(schema, list) else schema


def main(directory):
    root = pathlib.Path(kubernetes_validate.__file__).parent
    source = root / "kubernetes-json-schema" / f"v{VERSION}-local-strict"
    definitions = inside(json.loads((source / "_definitions.json").read_text()))["$defs"]
    directory.mkdir(parents=True, exist_ok=True)
    for kind in kinds():
        schema = inside(json.loads((source / f"{kind}.json").read_text()))
        (directory / f"{kind}.json").write_text(json.dumps(schema | {"$defs": definitions}))


def kinds():
    """The kinds that the manifests use, as the files of schemas are named; another one makes kubeconform fail."""
    return [
        "configmap-v1",
        "deployment-apps-v1",
        "horizontalpodautoscaler-autoscaling-v2",
        "namespace-v1",
        "networkpolicy-networking-v1",
        "poddisruptionbudget-policy-v1",
        "role-rbac-v1",
        "rolebinding-rbac-v1",
        "service-v1",
        "serviceaccount-v1",
        "statefulset-apps-v1",
    ]


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
