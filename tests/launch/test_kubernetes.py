"""Nodes in pods, against a stand-in for the API that runs pods as processes, and against the models of the client."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio.launch import Adaptive, Kubernetes, Launcher
from discoro_trio.launch import _manifests as manifests
from discoro_trio.launch._order import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.launch.kube_api import KubeApi

pytestmark = [pytest.mark.clusters, pytest.mark.spec("B36")]
SECONDS = 60.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    from tests.launch.kube_api import running_api  # noqa: PLC0415 - only the session with the client has it

    with running_api(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig))
        yield running


async def double(value: int) -> int:
    return 2 * value


async def until(launcher: Launcher, states: list[str]) -> None:
    with trio.fail_after(SECONDS):
        while sorted(node.state for node in launcher.nodes) != states:
            await launcher.until_changed()


async def test_each_node_is_a_job_and_nothing_is_left_after_the_block(api: KubeApi) -> None:
    launcher = Kubernetes("image", nodes=2, memory="1Gi", poll=0.1)
    with trio.fail_after(2 * SECONDS):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler:
            await until(launcher, ["running", "running"])
            async with discoro.Computation([double]).schedule(servers=2) as computation:
                assert await computation.run_result(double, 21) == 42
            names = {node.name for node in (await scheduler.status()).nodes}
            assert names == set(api.objects["jobs"]) == {node.name for node in launcher.nodes}
            assert len(api.objects["secrets"]) == len(api.objects["services"]) == 1
            secret = scheduler._endpoint.credentials[b""].key.hex()
            assert secret not in str([api.objects["jobs"], api.objects["pods"], api.objects["services"]])
            first = min(names)
            await launcher.take_back(first)
            assert first not in api.objects["jobs"]
            (third,) = launcher.start(1)
            await until(launcher, ["ended", "running", "running"])
            assert third in api.objects["jobs"]
    assert api.objects == {"jobs": {}, "pods": {}, "secrets": {}, "services": {}}
    assert all(process.poll() is not None for process in api.processes.values())


async def test_the_number_of_pods_can_follow_the_work(api: KubeApi) -> None:
    launcher = Adaptive(Kubernetes("image", poll=0.1), cool_down=0)
    with trio.fail_after(2 * SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher),
            discoro.Computation([double]).schedule() as computation,
        ):
            assert api.objects["jobs"] == {}
            for number in range(2):
                assert await computation.run_result(double, 21) == 42
                await until(launcher, ["ended"] * (number + 1))


async def test_what_pods_wait_for_and_how_they_end_is_shown(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    api.unschedulable = True
    launcher = Kubernetes("image", poll=0.1)
    with trio.fail_after(2 * SECONDS):
        async with trio.open_nursery() as nursery:

            async def see_it_wait() -> None:
                while not launcher.nodes or "0/3" not in launcher.nodes[0].reason:
                    await launcher.until_changed()
                assert launcher.nodes[0].reason == "Unschedulable: 0/3 nodes are available"
                api.unschedulable = False

            nursery.start_soon(see_it_wait)
            async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
                next(iter(api.processes.values())).kill()
                await until(launcher, ["ended"])
    reason = "its pod has failed (Error, exit code 9): a line of the pod / ERROR it has failed"
    assert launcher.nodes[0].reason == reason
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.endswith("-0-abcde: FailedScheduling: 0/3 nodes are available") for line in lines), lines


async def test_a_refusal_of_the_api_is_the_reason_that_no_node_could_join(api: KubeApi) -> None:
    api.refusal = (403, "jobs.batch is forbidden")
    with pytest.raises(discoro.DiscoroError, match=r"refused create: 403 .*jobs\.batch is forbidden"):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Kubernetes("image", poll=0.1)):
            pytest.fail("the block has begun")


async def test_without_a_cluster_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(discoro.DiscoroError, match="there is no configuration of a Kubernetes cluster"):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Kubernetes("image")):
            pytest.fail("the block has begun")


@pytest.mark.option("discoro launch kubernetes --context")
def test_the_context_is_the_one_that_the_command_names(api: KubeApi) -> None:
    command = [sys.executable, "-m", "discoro_trio", "launch", "kubernetes", "--image", "image", "--no_discover"]
    done = subprocess.run(
        [*command, "--ip_addr", "127.0.0.1", "--context", "of-no-cluster"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "of-no-cluster" in done.stderr
    assert api.objects["jobs"] == {}


PROGRAM = """
import trio, discoro_trio as discoro
async def main():
    launcher = discoro.launch.Kubernetes("image", poll=0.1)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        print("begun", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@contextmanager
def running_program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ}
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        yield program
        program.wait(SECONDS)


def test_a_program_that_is_killed_or_interrupted_leaves_no_node(api: KubeApi) -> None:
    with running_program() as program:
        program.kill()
    (node,) = api.processes.values()
    node.wait(SECONDS)  # it has lost its connection to the scheduler
    (left,) = api.objects["jobs"]
    with running_program() as program:
        (name,) = api.objects["jobs"]
        assert name != left, "the next program deletes what the first has left"
        program.send_signal(signal.SIGINT)
    assert api.objects["jobs"] == {}
    assert all(process.poll() is not None for process in api.processes.values())


def made() -> list[dict[str, Any]]:
    order = Order("00" * 32, "10.0.0.1", 1, "", 1)
    options = manifests.PodOptions(image="image", memory="1Gi", pod={"nodeSelector": {"disk": "ssd"}})
    jobs = [
        manifests.job("run", "run-1", options, owner="1 2", host="here"),
        manifests.job("run", "run", options, count=4),
    ]
    return [manifests.secret("run", order), manifests.service("run"), *jobs]


def test_the_objects_fit_the_models_of_the_api() -> None:
    from tests.launch.kube_api import check_object  # noqa: PLC0415 - only the session with the client has it

    for body in made():
        check_object(body, f"V1{body['kind']}")
    with pytest.raises(AssertionError, match="V1JobSpec has no field paralelism"):
        check_object({"spec": {"paralelism": 1}}, "V1Job")
    with pytest.raises(AssertionError, match=r"\.spec\.parallelism: '1' is no int"):
        check_object({"spec": {"parallelism": "1"}}, "V1Job")


def test_the_objects_of_the_helm_chart_fit_the_models_of_the_api() -> None:
    import yaml  # noqa: PLC0415 - the client's own dependency

    from tests.launch.kube_api import check_object  # noqa: PLC0415 - only the session with the client has it

    chart = ROOT / "docs" / "helm" / "discoro-node"
    values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    kinds = []
    for path in sorted((chart / "templates").glob("*.yaml")):
        template = path.read_text(encoding="utf-8")
        used = set(re.findall(r"\.Values\.(\w+)", template))
        assert used <= values.keys(), path
        text = re.sub(r"\{\{-.*?\}\}\n?", "", template)
        text = re.sub(r"\{\{ add .*?\}\}|\{\{ \.Values\.nodes \}\}", "1", text)  # numbers; all others are texts
        body = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "text", text))
        check_object(body, f"V1{body['kind']}")
        kinds.append(body["kind"])
    assert kinds == ["Secret", "Service", "StatefulSet"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"image": 1}, TypeError, "image must be a str"),
        ({"nodes": 0}, ValueError, "nodes must be 1 or more"),
        ({"cpus": 0}, ValueError, "cpus must be 1 or more"),
        ({"pod": {"containers": []}}, TypeError, "pod must be a dict of fields of a PodSpec, without containers"),
        ({"poll": 0}, ValueError, "poll must be more than 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Kubernetes(**{"image": "image", **arguments})
