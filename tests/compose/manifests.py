"""Kubernetes manifests as they lie in the folders, and what each kind may hold.

A field that the API server does not know is dropped without a word by `kubectl apply` of old, and a
misspelt `readOnlyRootFilesystem` then protects nothing. `SHAPES` names every field that we use.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
Document = dict[str, Any]

META: Final = {"name": str, "labels": {"*": str}}
EXPRESSION: Final = {"key": str, "operator": str, "values": [str]}
LABELS: Final = {"matchLabels": {"*": str}, "matchExpressions": [EXPRESSION]}
RESOURCES: Final = {"requests": {"*": object}, "limits": {"*": object}}
PROBE: Final = {
    "exec": {"command": [str]},
    "httpGet": {"path": str, "port": str, "httpHeaders": [{"name": str, "value": str}]},
    "periodSeconds": int,
    "timeoutSeconds": int,
    "failureThreshold": int,
}
CONTAINER: Final = {
    "name": str,
    "image": str,
    "args": [str],
    "ports": [{"name": str, "containerPort": int}],
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str]},
    },
    "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": {"name": str, "key": str}}}],
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
    "startupProbe": PROBE,
    "resources": RESOURCES,
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
VOLUME: Final = {
    "name": str,
    "emptyDir": {"medium": str, "sizeLimit": str},
    "configMap": {"name": str, "items": [{"key": str, "path": str}]},
    "persistentVolumeClaim": {"claimName": str},
}
POD: Final = {
    "metadata": META,
    "spec": {
        "automountServiceAccountToken": bool,
        "enableServiceLinks": bool,
        "terminationGracePeriodSeconds": int,
        "restartPolicy": str,
        "tolerations": [{"key": str, "operator": str, "effect": str}],
        "securityContext": {
            "runAsNonRoot": bool,
            "runAsUser": int,
            "runAsGroup": int,
            "fsGroup": int,
            "fsGroupChangePolicy": str,
            "seccompProfile": {"type": str},
        },
        "containers": [CONTAINER],
        "volumes": [VOLUME],
    },
}
CLAIM: Final = {"accessModes": [str], "resources": RESOURCES}
SHAPES: Final[dict[tuple[str, str], Document]] = {
    ("v1", "Namespace"): {},
    ("v1", "Service"): {
        "clusterIP": str,
        "selector": {"*": str},
        "ports": [{"name": str, "port": int}],
    },
    ("v1", "PersistentVolumeClaim"): CLAIM,
    ("apps/v1", "Deployment"): {
        "replicas": int,
        "strategy": {"type": str},
        "selector": LABELS,
        "template": POD,
    },
    ("apps/v1", "StatefulSet"): {
        "serviceName": str,
        "replicas": int,
        "selector": LABELS,
        "template": POD,
        "volumeClaimTemplates": [{"metadata": META, "spec": CLAIM}],
    },
    ("batch/v1", "Job"): {"backoffLimit": int, "template": POD},
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "podSelector": LABELS,
        "policyTypes": [str],
        "ingress": [
            {
                "from": [{"podSelector": LABELS, "namespaceSelector": LABELS}],
                "ports": [{"port": int}],
            }
        ],
    },
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {
        "secretTargetRef": [{"parameter": str, "name": str, "key": str}]
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": {"name": str},
        "minReplicaCount": int,
        "maxReplicaCount": int,
        "pollingInterval": int,
        "cooldownPeriod": int,
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": int}}
            }
        },
        "triggers": [{"type": str, "authenticationRef": {"name": str}, "metadata": {"*": str}}],
    },
}  # fmt: skip


def documents(*folders: str) -> list[Document]:
    """Those of the files that the folders' `kustomization.yaml` list."""
    return [
        document
        for folder in folders
        for name in kustomization(folder)["resources"]
        if name.endswith(".yaml")
        for document in yaml.safe_load_all((KUBERNETES / folder / name).read_text())
    ]


def kustomization(folder: str) -> Document:
    loaded: Document = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    return loaded


def pods(found: list[Document]) -> dict[str, Document]:
    """The pod templates, by the name of their workload."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in found
        if "template" in one.get("spec", {})
    }


def container(pod: Document) -> Document:
    containers: list[Document] = pod["spec"]["containers"]
    [only] = containers
    return only


def misfits(document: Document) -> list[str]:
    """Every field that its kind has not, or that is of another type, as its path."""
    shape = SHAPES[document["apiVersion"], document["kind"]]
    whole = {"apiVersion": str, "kind": str, "metadata": META, "spec": shape}
    return list(_misfits(document, whole, document["kind"]))


def _misfits(value: Any, shape: Any, path: str) -> Iterator[str]:
    if isinstance(shape, dict) and isinstance(value, dict):
        for key, inner in value.items():
            known = shape.get(key, shape.get("*"))
            if known is None:
                yield f"{path}.{key}"
            else:
                yield from _misfits(inner, known, f"{path}.{key}")
    elif isinstance(shape, list) and isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _misfits(inner, shape[0], f"{path}[{number}]")
    elif not isinstance(shape, type) or (shape is not object and type(value) is not shape):
        yield path
