"""Nodes in pods of a Kubernetes cluster."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import asynccontextmanager
from functools import partial
from itertools import count as count_from
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psutil
import trio

from .._arguments import above_zero, integer, optional_text, text, wrong_type
from .._errors import DiscoroError
from .._scopes import open_background
from . import _manifests as manifests
from ._nodes import NodeLauncher
from ._order import LONGEST_END, Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from .._cluster import SchedulerAccess
    from ._nodes import NodeRun

logger = logging.getLogger(__name__)

_REQUEST = 30.0
"""Seconds for an answer of the API."""
_LOG_LINES = 5
"""Lines of a pod's log that become part of the reason of its end."""
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NOT_FOUND = 404
_CONFLICT = 409
_CREATED_AGAIN = (_NOT_FOUND, _CONFLICT)


class Kubernetes(NodeLauncher):
    """Runs each node in a pod of a Kubernetes cluster, through the official client.

    Each node is a Job with one pod; a Secret has what it needs to join, and a headless Service gives it a name. All of
    them are deleted with the block. If this program is killed, the nodes end when their connection to the scheduler is
    lost, and Kubernetes deletes the Jobs and what belongs to them; the next program on this host deletes the Jobs of
    pods that have never started. The pods must be able to connect to this program's scheduler, so run it in the
    cluster, or set `open_scheduler(ext_ip_addr=…)`.

    Args:
        image: The container image; it needs Python of the same minor version as this program, and discoro_trio.
        nodes: Number of nodes.
        cpus: Servers of each node, and processors that its pod requests.
        memory: Memory that a pod requests and may use, such as "4Gi"; by default it is not limited.
        namespace: The namespace; by default that of the context, or of this program's own pod.
        context: The context of the kubeconfig file; by default the current one.
        python: The interpreter in the image.
        grace: Seconds that a pod has to drain when Kubernetes evicts it.
        pod: Further fields of the pod's specification, such as {"nodeSelector": {"disk": "ssd"}}.
        poll: Seconds between two looks at the pods.
        timeout: Seconds that a node may take to join the scheduler, from the start of its container.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        image: str,
        *,
        nodes: int = 1,
        cpus: int = 1,
        memory: str | None = None,
        namespace: str | None = None,
        context: str | None = None,
        python: str = "python3",
        grace: float = 60.0,
        pod: Mapping[str, Any] | None = None,
        poll: float = 2.0,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(integer("nodes", nodes, least=1), cpus=integer("cpus", cpus, least=1), timeout=timeout)
        if pod is not None and (not isinstance(pod, dict) or "containers" in pod):
            wrong_type("pod", pod, "a dict of fields of a PodSpec, without containers")
        self._options = manifests.PodOptions(
            image=text("image", image),
            python=text("python", python),
            cpus=cpus,
            memory=optional_text("memory", memory) or "",
            grace=above_zero("grace", grace),
            pod=dict(pod or {}),
        )
        self._namespace = optional_text("namespace", namespace)
        self._context = optional_text("context", context)
        self._poll = above_zero("poll", poll)

    def _names(self) -> Iterator[str]:
        # No name is used again: Kubernetes may still be deleting the Job of an ended node.
        return (f"{self._run_name}-{number}" for number in self._numbers)

    @asynccontextmanager
    async def open(self, access: SchedulerAccess, *, count: int | None = None) -> AsyncIterator[None]:
        """Run the nodes while the block lasts; used by `open_scheduler`.

        Args:
            access: What the nodes need to join the scheduler.
            count: The number of nodes to begin with; None for `size`.

        Raises:
            DiscoroError: The package kubernetes is missing, the cluster cannot be reached or refuses the nodes, or no
                node could join.
            RuntimeError: The launcher is in use, or the scheduler is in another process.
        """
        if access.scheduler is None:
            message = "launch.Kubernetes needs the scheduler in this process, to see which nodes have joined"
            raise RuntimeError(message)
        self._run_name = f"discoro-{secrets.token_hex(4)}"
        self._numbers = count_from(1)
        self._api = await trio.to_thread.run_sync(partial(_Api, self._context, self._namespace))
        self._pods: dict[str, _Pod] = {}
        await self._end_leftovers()
        async with open_background(shielded=True) as nursery:
            nursery.start_soon(self._follow, access, name="follow the pods")
            async with super().open(access, count=count):
                yield

    async def _end_leftovers(self) -> None:
        for name, owner in await self._api.call(self._api.jobs_of, socket.gethostname()):
            if not _lives(owner):
                logger.warning("deleting the Job %s, which a killed program has left", name)
                await self._api.call(self._api.delete_job, name)

    # --- one node

    async def _run_node(self, node: NodeRun, access: SchedulerAccess) -> str:
        kept = self._pods[node.name] = _Pod(node)
        order = Order(
            access.secret,
            access.location.addr,
            access.location.port,
            "",
            self._options.cpus,
            kill_wait=self._options.grace,
        )
        job = manifests.job(
            self._run_name, node.name, self._options, owner=_own_mark(), host=_label(socket.gethostname())
        )
        try:
            await self._api.call(self._api.create, self._run_name, job, order)
        except DiscoroError as error:
            return str(error)
        self._waits(node, "its Job is created")
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await node.stop.wait()
                await self._delete(node)
                with trio.move_on_after(self._options.grace + LONGEST_END):
                    await kept.ended.wait()
                kept.finish("its pod did not end in time")

            nursery.start_soon(stop)
            await kept.ended.wait()
            nursery.cancel_scope.cancel()
        if not node.stop.is_set():
            await self._delete(node)
        return kept.how

    async def _delete(self, node: NodeRun) -> None:
        try:
            await self._api.call(self._api.delete_job, node.name)
        except DiscoroError as error:
            logger.warning("the Job %s was not deleted: %s", node.name, error)
        self._pods[node.name].deleted = True

    # --- all pods

    async def _follow(self, access: SchedulerAccess) -> None:
        """Look at the pods, their events, and the nodes that have joined."""
        shown: set[str] = set()
        silent = False
        while True:
            # Only after its Job was deleted does a pod that was never seen count as gone.
            present = {name for name, kept in self._pods.items() if kept.seen or kept.deleted}
            try:
                pods = await self._api.call(self._api.pods, self._run_name)
                events = await self._api.call(self._api.events, self._run_name)
                silent = False
            except DiscoroError as error:
                logger.log(logging.DEBUG if silent else logging.WARNING, "%s", error)
                silent = True
            else:
                for key, line in events:
                    if key not in shown:
                        shown.add(key)
                        logger.info("%s", line)
                await self._note(pods, present)
            self._note_joined(access)
            await trio.sleep(self._poll)

    async def _note(self, pods: Mapping[str, PodState], present: set[str]) -> None:
        """Note the states of pods; those that were present before and are missing now are gone."""
        for name, kept in list(self._pods.items()):
            found = pods.get(name)
            if found is None:
                if name in present:
                    kept.finish("its pod was deleted")
                continue
            kept.seen = True
            if found.begun:
                kept.node.begun.set()
            if found.waits and not kept.node.joined.is_set():
                self._waits(kept.node, found.waits)
            if found.ended and not kept.ended.is_set():
                lines = await self._last_lines(found.pod)
                kept.finish(f"{found.ended}: {' / '.join(lines)}" if lines else found.ended)

    async def _last_lines(self, pod: str) -> list[str]:
        try:
            lines: list[str] = await self._api.call(self._api.last_lines, pod)
        except DiscoroError as error:
            logger.debug("the log of %s cannot be read: %s", pod, error)
            return []
        return lines

    def _note_joined(self, access: SchedulerAccess) -> None:
        assert access.scheduler is not None  # noqa: S101 - `open` has checked it
        known = access.scheduler.node_locations()
        for name, kept in self._pods.items():
            if name in known and not kept.node.joined.is_set():
                kept.node.begun.set()
                self._joined(kept.node, known[name])


class _Pod:
    """The pod of one node."""

    def __init__(self, node: NodeRun) -> None:
        self.node = node
        self.seen = False
        self.deleted = False
        """Whether the deletion of its Job was requested."""
        self.how = ""
        self.ended = trio.Event()

    def finish(self, how: str) -> None:
        """Note that it has ended; the first reason is kept."""
        if not self.ended.is_set():
            self.how = how
            self.ended.set()


@attrs.frozen(kw_only=True)
class PodState:
    """What Kubernetes reports of a pod."""

    pod: str
    """Its name."""
    begun: bool
    """Whether its container has started."""
    waits: str
    """What it waits for; empty if it runs."""
    ended: str
    """How it has ended; empty if it has not."""


def pod_state(pod: Any) -> PodState:
    """Read the state of a V1Pod."""
    status = pod.status
    containers = status.container_statuses or []
    state = containers[0].state if containers else None
    waiting = state.waiting if state is not None else None
    over = state.terminated if state is not None else None
    unscheduled = [
        one for one in status.conditions or [] if one.type == "PodScheduled" and one.status != "True" and one.reason
    ]
    waits = ""
    if waiting is not None:
        waits = f"{waiting.reason}: {waiting.message}" if waiting.message else str(waiting.reason)
    elif unscheduled:
        waits = f"{unscheduled[0].reason}: {unscheduled[0].message}"
    elif status.phase == "Pending":
        waits = "Pending"
    ended = ""
    if status.phase in {"Succeeded", "Failed"}:
        causes = [status.reason, status.message, over and over.reason, over and f"exit code {over.exit_code}"]
        ended = f"its pod has {status.phase.lower()} ({', '.join(str(one) for one in causes if one)})"
    running = state is not None and (state.running is not None or over is not None)
    return PodState(pod=pod.metadata.name, begun=running, waits=waits, ended=ended)


class _Api:
    """The calls of the API; all block."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        try:
            import kubernetes  # noqa: PLC0415 - only this launcher needs it
        except ImportError as error:
            message = (
                "launch.Kubernetes needs the package kubernetes; install it with: "
                "pip install 'discoro_trio[kubernetes]'"
            )
            raise DiscoroError(message) from error
        configuration = kubernetes.client.Configuration()
        try:
            own_namespace = _configure(kubernetes.config, configuration, context)
        except (kubernetes.config.ConfigException, OSError) as error:
            message = f"there is no configuration of a Kubernetes cluster: {error}; set KUBECONFIG or context="
            raise DiscoroError(message) from error
        configuration.retries = 1
        client = kubernetes.client.ApiClient(configuration)
        self._core = kubernetes.client.CoreV1Api(client)
        self._batch = kubernetes.client.BatchV1Api(client)
        self._failure = kubernetes.client.ApiException
        self._server = configuration.host
        self.namespace = namespace or own_namespace

    async def call(self, call: Callable[..., Any], *args: Any) -> Any:
        """Make a call in a thread.

        Raises:
            DiscoroError: The API has refused it, or does not answer.
        """
        import urllib3  # noqa: PLC0415 - the client's own dependency

        try:
            return await trio.to_thread.run_sync(partial(call, *args))
        except self._failure as error:
            message = f"Kubernetes at {self._server} refused {call.__name__}: {error.status} {error.reason}"
            detail = " ".join(str(error.body or "").split())
            raise DiscoroError(f"{message}: {detail}" if detail else message) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            message = f"Kubernetes at {self._server} does not answer: {error}"
            raise DiscoroError(message) from error

    def create(self, run: str, job: dict[str, Any], order: Order) -> None:
        """Create the Job of a node, and the Secret and the Service of the run, which end with their last Job."""
        created = self._batch.create_namespaced_job(self.namespace, job, _request_timeout=_REQUEST)
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": created.metadata.name,
            "uid": created.metadata.uid,
        }
        for kind, body in (("secret", manifests.secret(run, order)), ("service", manifests.service(run))):
            self._own(kind, run, body, owner)

    def _own(self, kind: str, run: str, body: dict[str, Any], owner: dict[str, str]) -> None:
        patch = getattr(self._core, f"patch_namespaced_{kind}")
        create = getattr(self._core, f"create_namespaced_{kind}")
        owned = {"metadata": {"ownerReferences": [owner]}}
        body = {**body, "metadata": {**body["metadata"], **owned["metadata"]}}
        for attempt in range(3):
            try:
                if attempt % 2:
                    patch(run, self.namespace, owned, _request_timeout=_REQUEST)
                else:
                    create(self.namespace, body, _request_timeout=_REQUEST)
            except self._failure as error:
                if error.status not in _CREATED_AGAIN:
                    raise
            else:
                return

    def delete_job(self, name: str) -> None:
        """Delete a Job with its pod."""
        try:
            self._batch.delete_namespaced_job(
                name, self.namespace, propagation_policy="Foreground", _request_timeout=_REQUEST
            )
        except self._failure as error:
            if error.status != _NOT_FOUND:
                raise

    def jobs_of(self, host: str) -> list[tuple[str, str]]:
        """Return the names of the Jobs that programs of a host have created, with their owners."""
        found = self._batch.list_namespaced_job(
            self.namespace, label_selector=f"{manifests.HOST}={_label(host)}", _request_timeout=_REQUEST
        )
        return [(job.metadata.name, (job.metadata.annotations or {}).get(manifests.OWNER, "")) for job in found.items]

    def pods(self, run: str) -> dict[str, PodState]:
        """Return the states of the pods of a run, by node."""
        found = self._core.list_namespaced_pod(
            self.namespace, label_selector=f"{manifests.RUN}={run}", _request_timeout=_REQUEST
        )
        return {pod.metadata.labels[manifests.NODE]: pod_state(pod) for pod in found.items}

    def events(self, run: str) -> list[tuple[str, str]]:
        """Return the events of the objects of a run, each with a key that changes when it happens again."""
        found = self._core.list_namespaced_event(self.namespace, _request_timeout=_REQUEST)
        return [
            (f"{one.metadata.uid} {one.count}", f"{one.involved_object.name}: {one.reason}: {one.message}")
            for one in found.items
            if (one.involved_object.name or "").startswith(f"{run}-")
        ]

    def last_lines(self, pod: str) -> list[str]:
        """Return the end of a pod's log."""
        log = self._core.read_namespaced_pod_log(pod, self.namespace, tail_lines=_LOG_LINES, _request_timeout=_REQUEST)
        return ["".join(one if one.isprintable() else "?" for one in line) for line in (log or "").splitlines()]


def _configure(config: Any, configuration: Any, context: str | None) -> str:
    """Read the kubeconfig file, or else the account of this program's own pod; return the namespace."""
    file = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if "KUBERNETES_SERVICE_HOST" in os.environ and context is None and not Path(file).exists():
        config.load_incluster_config(client_configuration=configuration)
        return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    config.load_kube_config(config_file=file, context=context, client_configuration=configuration)
    contexts, active = config.list_kube_config_contexts(config_file=file)
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def _label(host: str) -> str:
    """Return a host's name as the value of a label."""
    return "".join(one if one.isalnum() or one in "-._" else "-" for one in host)[:63].strip("-._") or "unknown"


def _own_mark() -> str:
    process = psutil.Process()
    return f"{process.pid} {process.create_time():.2f}"


def _lives(owner: str) -> bool:
    """Whether the program runs that has created a Job."""
    number, _, created = owner.partition(" ")
    try:
        process = psutil.Process(int(number))
        return f"{process.create_time():.2f}" == created
    except (ValueError, psutil.Error):
        return False
