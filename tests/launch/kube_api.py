"""A stand-in for the API of Kubernetes, which runs the pods of Jobs as processes of this machine.

It answers in the form of the API, checks each object that it gets against the models of the official client, and
follows what the documentation of Kubernetes says of Jobs, owners and deletion. It is no control plane.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from kubernetes import client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PLAIN = {"str": str, "int": int, "bool": bool, "float": float, "object": object, "datetime": str, "bytes": str}


def check_object(body: Any, kind: str, where: str = "") -> None:
    """Check an object against a model of the client: no unknown field, every field of its type.

    Raises:
        AssertionError: It does not fit; the text names the field.
    """
    if kind in _PLAIN:
        assert isinstance(body, _PLAIN[kind]), f"{where}: {body!r} is no {kind}"
        assert kind == "bool" or not isinstance(body, bool), f"{where}: {body!r} is no {kind}"
    elif match := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(body, list), f"{where}: {body!r} is no list"
        for number, item in enumerate(body):
            check_object(item, match[1], f"{where}[{number}]")
    elif match := re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind):
        assert isinstance(body, dict), f"{where}: {body!r} is no map"
        for key, item in body.items():
            check_object(item, match[1], f"{where}.{key}")
    else:
        model = getattr(client, kind)
        fields = {api: model.openapi_types[name] for name, api in model.attribute_map.items()}
        assert isinstance(body, dict), f"{where}: {body!r} is no {kind}"
        for key, item in body.items():
            assert key in fields, f"{where}: {kind} has no field {key}"
            check_object(item, fields[key], f"{where}.{key}")


class KubeApi:
    """The objects of one namespace.

    Attributes:
        kubeconfig: The file for KUBECONFIG.
        objects: By kind and name.
        unschedulable: Whether new pods stay pending.
        refusal: If it is set, the status and message that every creation is answered with.
    """

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.objects: dict[str, dict[str, Any]] = {"jobs": {}, "pods": {}, "secrets": {}, "services": {}}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.unschedulable = False
        self.refusal: tuple[int, str] | None = None
        self._folder = folder
        self._lock = threading.RLock()

    # --- requests

    def handle(self, method: str, path: str, query: str, body: Any) -> tuple[int, Any]:
        """Answer a request."""
        match = re.fullmatch(r"/(?:api/v1|apis/batch/v1)/namespaces/here/(\w+)(?:/([\w.-]+))?(/log)?", path)
        if match is None:
            return _failure(404, f"no path {path}")
        kind, name, log = match.groups()
        with self._lock:
            self._update()
            if log:
                return 200, "a line of the pod\nERROR it has failed\n"
            if kind == "events":
                return 200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": self._events()}
            if method == "GET":
                items = [one for one in self.objects[kind].values() if _selected(one, query)]
                return 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}
            if method == "POST":
                return self._create(kind, body)
            if name not in self.objects[kind]:
                return _failure(404, f"{kind} {name} not found")
            if method == "PATCH":
                owners = self.objects[kind][name]["metadata"].setdefault("ownerReferences", [])
                owners.extend(body["metadata"]["ownerReferences"])
                return 200, self.objects[kind][name]
            self._delete_job(name)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _create(self, kind: str, body: Any) -> tuple[int, Any]:
        if self.refusal is not None:
            return _failure(*self.refusal)
        check_object(body, {"jobs": "V1Job", "secrets": "V1Secret", "services": "V1Service"}[kind])
        name = body["metadata"]["name"]
        if name in self.objects[kind]:
            return _failure(409, f"{kind} {name} already exists")
        body["metadata"]["uid"] = str(uuid.uuid4())
        self.objects[kind][name] = body
        if kind == "jobs":
            template = body["spec"]["template"]
            pod = {
                "metadata": {"name": f"{name}-0-abcde", **template["metadata"]},
                "spec": template["spec"],
                "job": name,
            }
            pod["status"] = {"phase": "Pending"}
            self.objects["pods"][name] = pod
        return 201, body

    # --- what a cluster does

    def _update(self) -> None:
        for name, pod in list(self.objects["pods"].items()):
            process = self.processes.get(name)
            if process is not None and process.poll() is not None:
                phase = "Failed" if process.returncode else "Succeeded"
                reason = "Error" if process.returncode else "Completed"
                over = {"exitCode": abs(process.returncode), "reason": reason}
                pod["status"] = {"phase": phase, "containerStatuses": [_container({"terminated": over})]}
            elif self.unschedulable:
                condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
                pod["status"]["conditions"] = [{**condition, "message": "0/3 nodes are available"}]
            elif process is None and pod["spec"]["volumes"][0]["secret"]["secretName"] in self.objects["secrets"]:
                self._start(name, pod)
            if name not in self.objects["jobs"] and (process is None or process.poll() is not None):
                del self.objects["pods"][name]
        uids = {job["metadata"]["uid"] for job in self.objects["jobs"].values()}
        for kind in ("secrets", "services"):
            for name, one in list(self.objects[kind].items()):
                if not any(owner["uid"] in uids for owner in one["metadata"]["ownerReferences"]):
                    del self.objects[kind][name]

    def _start(self, name: str, pod: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        folder = self._folder / name
        folder.mkdir()
        for key, value in self.objects["secrets"][pod["spec"]["subdomain"]]["data"].items():
            (folder / key).write_bytes(base64.b64decode(value))
        arguments = [str(folder), *container["args"][1:]]
        command = [sys.executable, *container["command"][1:], *arguments]
        self.processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pod["status"] = {"phase": "Running", "containerStatuses": [_container({"running": {}})]}

    def _delete_job(self, name: str) -> None:
        del self.objects["jobs"][name]
        if name in self.processes:
            self.processes[name].send_signal(signal.SIGTERM)

    def _events(self) -> list[dict[str, Any]]:
        return [
            {
                "metadata": {"name": f"{name}.1", "uid": f"event-{name}"},
                "involvedObject": {"kind": "Pod", "name": f"{name}-0-abcde"},
                "reason": "FailedScheduling",
                "message": "0/3 nodes are available",
                "count": 1,
            }
            for name in self.objects["pods"]
            if self.unschedulable
        ]

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def _container(state: dict[str, Any]) -> dict[str, Any]:
    plain = {"name": "node", "image": "image", "imageID": "", "ready": True, "restartCount": 0}
    return {**plain, "state": state}


def _selected(one: dict[str, Any], query: str) -> bool:
    wanted = [text.partition("=") for text in parse_qs(query).get("labelSelector", [])]
    return all(one["metadata"]["labels"].get(key) == value for key, _, value in wanted)


def _failure(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


@contextmanager
def running_api(folder: Path) -> Iterator[KubeApi]:
    """Serve the API on loopback until the block is left."""
    api = KubeApi(folder)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path, _, query = self.path.partition("?")
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = api.handle(self.command, path, query, body)
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names that the base class looks for

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    place = f"http://127.0.0.1:{server.server_address[1]}"
    context = {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "here"}}
    api.kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": {"server": place}}],
                "users": [{"name": "test", "user": {"token": "made-up"}}],
                "contexts": [context],
                "current-context": "test",
            }
        )
    )
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        api.close()
