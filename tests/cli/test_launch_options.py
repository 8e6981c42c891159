"""What the options of `discoro launch` do, seen by the commands of batch systems, by ssh, and by kubectl.

The commands are stand-ins that write down what they are given and refuse it, so no node is started.
"""

from __future__ import annotations

import base64
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from discoro_trio._cli import run_discoro
from tests.cli.programs import SECRET

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = {
    "slurm": ("sbatch", "srun", "squeue", "scancel"),
    "pbs": ("qsub", "qselect", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "sge": ("qsub", "qstat", "qdel"),
    "ssh": ("ssh",),
}
"""The commands that a launcher uses; the first one gets the options."""
SUBMITTED = "SUBMITTED"
RECORD = """#!/bin/sh
{{
    echo SUBMITTED
    for word; do printf 'WORD %s\\n' "$word"; done
    {read}
    cat {folder}/*/order 2>/dev/null
}} >>{record}
echo refused >&2
exit 1
"""

SCRIPT: list[tuple[str, str, str]] = [
    ("python", "/opt/python", "\n/opt/python -P -m discoro_trio"),
    ("setup", "module load gcc", "\nmodule load gcc\n"),
    ("option", "--exclusive", "WORD --exclusive\n"),
    ("notice", "60", '"notice":60.0'),
]
"""Option, value, and what is found for it in what is submitted, in the script or in what the nodes read."""
BATCH: dict[str, list[tuple[str, str, str]]] = {
    "slurm": [
        *SCRIPT[1:],
        ("python", "/opt/python", "/opt/python -P -m discoro_trio"),
        ("nodes", "3", "WORD --array=0-2\n"),
        ("partition", "night", "WORD --partition=night\n"),
        ("qos", "low", "WORD --qos=low\n"),
        ("gres", "gpu:2", "WORD --gres=gpu:2\n"),
        ("time", "2:00:00", "WORD --time=2:00:00\n"),
        ("account", "physics", "WORD --account=physics\n"),
        ("memory", "16G", "WORD --mem=16G\n"),
        ("cpus", "4", "WORD --cpus-per-task=4\n"),
    ],
    "pbs": [
        *SCRIPT,
        ("queue", "night", "WORD -q\nWORD night\n"),
        ("time", "2:00:00", "WORD walltime=2:00:00\n"),
        ("account", "physics", "WORD -A\nWORD physics\n"),
        ("memory", "16gb", ":mem=16gb\n"),
        ("cpus", "4", "WORD select=1:ncpus=4:"),
    ],
    "lsf": [
        *SCRIPT,
        ("queue", "night", "WORD -q\nWORD night\n"),
        ("time", "2:00:00", "WORD -W\nWORD 120\n"),
        ("account", "physics", "WORD -P\nWORD physics\n"),
        ("memory", "16GB", "WORD -M\nWORD 16GB\n"),
        ("cpus", "4", "WORD -n\nWORD 4\n"),
    ],
    "sge": [
        *SCRIPT,
        ("queue", "night", "WORD -q\nWORD night\n"),
        ("parallel_environment", "smp", "WORD -pe\nWORD smp\nWORD 1\n"),
        ("time", "2:00:00", "WORD h_rt=7200\n"),
        ("account", "physics", "WORD -P\nWORD physics\n"),
        ("memory", "4G", "WORD h_vmem=4G\n"),
    ],
}


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def submitted(system: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """Run `discoro launch`; return what its commands were given."""
    record, programs, shared = folder / "record", folder / "bin", folder / "shared"
    programs.mkdir()
    record.touch()
    for number, name in enumerate(COMMANDS[system]):
        path = programs / name
        read = 'read line; echo "$line"' if system == "ssh" else "cat"  # ssh has an open standard input
        text = RECORD.format(folder=shlex.quote(str(shared)), record=shlex.quote(str(record)), read=read)
        path.write_text(text if number == 0 else "#!/bin/sh\nexit 0\n", encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    words = ["launch", system, *options, "--ip_addr", "127.0.0.1", "--no_discover", "--secret", SECRET]
    with pytest.raises(SystemExit) as ended:
        run_discoro([*words, *(() if system == "ssh" else ("--folder", str(shared)))])
    assert ended.value.code == 1
    return record.read_text(encoding="utf-8")


@pytest.mark.option("discoro launch slurm --nodes", "discoro launch slurm --partition")
@pytest.mark.option("discoro launch slurm --qos", "discoro launch slurm --gres", "discoro launch slurm --time")
@pytest.mark.option("discoro launch slurm --account", "discoro launch slurm --memory", "discoro launch slurm --folder")
@pytest.mark.option("discoro launch slurm --cpus", "discoro launch slurm --python", "discoro launch slurm --notice")
@pytest.mark.option("discoro launch slurm --option", "discoro launch slurm --setup")
@pytest.mark.option("discoro launch pbs --queue", "discoro launch pbs --time", "discoro launch pbs --account")
@pytest.mark.option("discoro launch pbs --memory", "discoro launch pbs --folder", "discoro launch pbs --cpus")
@pytest.mark.option("discoro launch pbs --python", "discoro launch pbs --notice", "discoro launch pbs --option")
@pytest.mark.option("discoro launch pbs --setup", "discoro launch lsf --queue", "discoro launch lsf --time")
@pytest.mark.option("discoro launch lsf --account", "discoro launch lsf --memory", "discoro launch lsf --folder")
@pytest.mark.option("discoro launch lsf --cpus", "discoro launch lsf --python", "discoro launch lsf --notice")
@pytest.mark.option("discoro launch lsf --option", "discoro launch lsf --setup", "discoro launch sge --queue")
@pytest.mark.option("discoro launch sge --parallel_environment", "discoro launch sge --time")
@pytest.mark.option("discoro launch sge --account", "discoro launch sge --memory", "discoro launch sge --folder")
@pytest.mark.option("discoro launch sge --python", "discoro launch sge --notice", "discoro launch sge --option")
@pytest.mark.option("discoro launch sge --setup")
@pytest.mark.parametrize(("system", "rows"), BATCH.items(), ids=BATCH)
def test_a_batch_system_gets_what_the_options_say(
    system: str, rows: list[tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = submitted(system, tmp_path, monkeypatch, *(f"--{name}={value}" for name, value, _ in rows))
    for name, _, found in rows:
        assert found in text, name


@pytest.mark.option("discoro launch slurm --one_job")
def test_one_job_of_slurm_has_all_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = submitted("slurm", tmp_path, monkeypatch, "--one_job", "--nodes", "2")
    assert "WORD --nodes=2\n" in text
    assert "WORD --array" not in text


@pytest.mark.option("discoro launch pbs --nodes", "discoro launch lsf --nodes", "discoro launch sge --nodes")
@pytest.mark.option("discoro launch sge --cpus")
@pytest.mark.parametrize("system", ["pbs", "lsf", "sge"])
def test_each_node_is_a_job(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ("--parallel_environment", "smp", "--cpus", "4") if system == "sge" else ()
    text = submitted(system, tmp_path, monkeypatch, "--nodes", "2", *more)
    assert text.count(SUBMITTED) == 2
    assert system != "sge" or text.count("WORD smp\nWORD 4\n") == 2


@pytest.mark.option("discoro launch ssh --cpus", "discoro launch ssh --python", "discoro launch ssh --ssh_option")
def test_ssh_gets_its_arguments_and_the_node_its_interpreter_and_number_of_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--cpus", "3", "--python", "/opt/python", "--ssh_option=-p", "--ssh_option=2222")
    text = submitted("ssh", tmp_path, monkeypatch, "host", *given)
    assert "WORD -p\nWORD 2222\nWORD --\nWORD host\nWORD exec /opt/python -P -m discoro_trio" in text
    assert '"cpus":3' in text


@pytest.mark.option("discoro launch ssh --tunnel")
@pytest.mark.parametrize("tunnel", [False, True])
def test_ssh_forwards_connections_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tunnel: bool) -> None:
    text = submitted("ssh", tmp_path, monkeypatch, "host", "--cpus", "1", *(["--tunnel"] if tunnel else []))
    assert ("WORD -R\n" in text and "WORD -L\n" in text) == tunnel


@pytest.mark.option("discoro launch kubernetes --image", "discoro launch kubernetes --nodes")
@pytest.mark.option("discoro launch kubernetes --memory", "discoro launch kubernetes --namespace")
@pytest.mark.option("discoro launch kubernetes --cpus", "discoro launch kubernetes --python")
@pytest.mark.option("discoro launch kubernetes --print", "discoro launch kubernetes --scheduler")
def test_the_printed_objects_are_those_of_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"image": "image", "nodes": "3", "memory": "2Gi", "namespace": "far", "cpus": "4", "python": "/opt/python"}

    def printed(**options: str) -> dict[str, Any]:
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with pytest.raises(SystemExit) as ended:
            run_discoro(["launch", "kubernetes", "--print", "--scheduler", "10.0.0.1:7000", "--secret", SECRET, *words])
        assert not ended.value.code
        secret, _service, job = json.loads(capsys.readouterr().out)["items"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        order = json.loads(base64.b64decode(secret["data"]["order"]))
        assert (order["secret"], order["addr"], order["port"]) == (SECRET, "10.0.0.1", 7000)
        return {
            "image": container["image"],
            "nodes": str(job["spec"]["completions"]),
            "memory": container["resources"].get("limits", {}).get("memory"),
            "namespace": job["metadata"].get("namespace"),
            "cpus": container["resources"]["requests"]["cpu"],
            "python": container["command"][0],
        }

    assert printed(**given) == given
    default = {"image": "other", "nodes": "1", "memory": None, "namespace": None, "cpus": "1", "python": "python3"}
    assert printed(image="other") == default
