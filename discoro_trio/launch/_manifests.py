"""The objects of Kubernetes that run nodes, as the API takes them: a Job, a Secret and a headless Service.

Pure functions. `_kubernetes` creates them, and they can be printed for use with `kubectl apply`.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import attrs

from ._order import LONGEST_END, ORDER_FILE
from ._processes import NODE_MODULE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._order import Order

RUN, NODE, HOST = "discoro/run", "discoro/node", "discoro/host"
"""Labels: the run of a program, the node of a pod, and the host of the program."""
OWNER = "discoro/owner"
"""The annotation of a Job that names the program's process."""
_FOLDER = "/etc/discoro"
_KEPT = 300
"""Seconds for which Kubernetes keeps a Job that has ended."""


@attrs.frozen(kw_only=True)
class PodOptions:
    """How the pods of nodes look."""

    image: str
    """The container image; it has Python and discoro_trio."""
    python: str = "python3"
    """The interpreter in the image."""
    cpus: int = 1
    """Servers of each node, and processors that its pod requests."""
    memory: str = ""
    """Memory that a pod requests and may use, such as "4Gi"; empty for no limit."""
    grace: float = 30.0
    """Seconds that a pod has to drain and to end."""
    pod: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """Further fields of the pod's specification, such as {"nodeSelector": {"disk": "ssd"}}."""


def labels(run: str, **others: str) -> dict[str, str]:
    """Return the labels of the objects of one run."""
    return {"app.kubernetes.io/name": "discoro-node", "app.kubernetes.io/managed-by": "discoro", RUN: run, **others}


def secret(run: str, order: Order) -> dict[str, Any]:
    """Return the Secret with what the nodes need to join the scheduler."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": run, "labels": labels(run)},
        "type": "Opaque",
        "data": {ORDER_FILE: base64.b64encode(order.encode()).decode()},
    }


def service(run: str) -> dict[str, Any]:
    """Return the headless Service that gives each pod a name in the cluster's DNS: NODE.RUN.NAMESPACE.svc."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": run, "labels": labels(run)},
        "spec": {"clusterIP": "None", "selector": {RUN: run}, "publishNotReadyAddresses": True},
    }


def job(run: str, name: str, options: PodOptions, *, count: int = 1, owner: str = "", host: str = "") -> dict[str, Any]:
    """Return a Job that runs nodes.

    A pod is not started again when it ends: the launcher decides about that, or the scheduler has gone.

    Args:
        run: The name of the Secret and the Service.
        name: The Job's name; with a count of 1 also the node's.
        options: The pods.
        count: The number of pods.
        owner: A text by which a later program recognises a Job that a killed one has left.
        host: The host of the program, if there is an owner.
    """
    marks = labels(run, **{NODE: name}, **({HOST: host} if host else {}))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": marks, **({"annotations": {OWNER: owner}} if owner else {})},
        "spec": {
            "parallelism": count,
            "completions": count,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": marks}, "spec": _pod(run, name, options, count)},
        },
    }


def _pod(run: str, name: str, options: PodOptions, count: int) -> dict[str, Any]:
    resources: dict[str, dict[str, str]] = {"requests": {"cpu": str(options.cpus)}}
    if options.memory:
        resources["requests"]["memory"] = options.memory
        resources["limits"] = {"memory": options.memory}
    node = name if count == 1 else "$(POD_NAME)"
    container = {
        "name": "node",
        "image": options.image,
        "command": [options.python, *NODE_MODULE],
        "args": [_FOLDER, node, str(options.cpus), "pod"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": resources,
        "volumeMounts": [{"name": "order", "mountPath": _FOLDER, "readOnly": True}],
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": max(int(options.grace), int(LONGEST_END) + 1),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": run,
        **({"hostname": name} if count == 1 else {}),
        "volumes": [{"name": "order", "secret": {"secretName": run, "defaultMode": 0o400}}],
        **options.pod,
        "containers": [container],
    }
