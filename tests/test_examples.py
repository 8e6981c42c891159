"""The programs of examples/, run as a person runs them: what they print, and what Ctrl-C leaves of them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from .client.clusters import ROOT, Program, environment, until_gone

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(
    path.name for path in EXAMPLES.glob("*.py") if not path.name.startswith("_") and not path.stem.endswith("_child")
)


def run_example(name: str, folder: Path, *args: str, errors: str = "", seconds: float = 120) -> str:
    """Run an example with a folder of its own as the current one; give what it printed.

    `errors` is the pattern of what it says on standard error; after so many seconds it hangs.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(folder),
        timeout=seconds,
    )
    assert (done.returncode, bool(re.fullmatch(errors, done.stderr))) == (0, True), done.stderr
    assert not list((folder / "tmp").iterdir())
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_example_says_what_it_does_and_which_options_it_has(name: str, tmp_path: Path) -> None:
    text = run_example(name, tmp_path, "--help")
    assert text.startswith(f"usage: {name}")
    assert "\noptions:\n" in text


def test_corpus_counts_the_same_by_messages_by_results_and_in_a_loop(tmp_path: Path) -> None:
    text = run_example("corpus.py", tmp_path, "--files", "8")
    assert "servers: 8 of 8" in text
    assert len(set(re.findall(r"×\s+8(.*)", text))) == 1
    assert len(re.findall(r"×\s+8 ", text)) == 3
    assert "The totals are equal." in text


@pytest.mark.slow
def test_corpus_counts_the_whole_library_and_names_the_files_that_do_not_parse(tmp_path: Path) -> None:
    text = run_example("corpus.py", tmp_path, seconds=600)  # it takes 40 s on two slow processors
    (found,) = re.findall(r"^(\d+) files in", text, re.MULTILINE)
    assert int(found) >= 1500
    assert f"servers: {found} of {found}" in text
    assert "The totals are equal." in text
    assert "test/tokenizedata/bad_coding.py: SyntaxError: unknown encoding: uft-8" in text


@pytest.mark.spec("S03", "S04")
def test_discomp1_computes_on_servers_and_talks_to_the_client_meanwhile(tmp_path: Path) -> None:
    text = run_example("cpu_jobs_with_messages.py", tmp_path, "--tasks", "3", "--size", "1000", "--servers", "2")
    assert text.endswith("There are 430 primes below 3000.\n")
    assert len(set(re.findall(r"(127\.0\.0\.1:\d+) is ready\n", text))) == 2
    assert len(re.findall(r"127\.0\.0\.1:\d+ found \d+ primes between \d+ and \d+\n", text)) == 3


@pytest.mark.spec("S03", "S11")
def test_discoro_client1_exchanges_objects_of_a_shipped_class(tmp_path: Path) -> None:
    text = run_example("ship_dependencies.py", tmp_path, "--servers", "3")
    assert sorted(re.findall(r"text (\d) has ('\w+') (\d) times", text)) == [
        ("0", "'the'", "3"),
        ("1", "'a'", "3"),
        ("2", "'to'", "2"),
        ("3", "'to'", "2"),
        ("4", "'row'", "3"),
        ("5", "'the'", "2"),
    ]
    assert len(re.findall(r"127\.0\.0\.1:[1-9]\d+: 2 texts were read", text)) == 3


@pytest.mark.spec("S03", "S06", "S68")
def test_discomp3_runs_plain_functions_in_threads(tmp_path: Path) -> None:
    text = run_example("jobs_in_threads.py", tmp_path, "--jobs", "3")
    expected = [hashlib.pbkdf2_hmac("sha256", f"password {n}".encode(), b"salt", 200_000).hex() for n in range(3)]
    assert text.splitlines() == [f"password {number}: {value[:16]}…" for number, value in enumerate(expected)]


@pytest.mark.spec("S03", "S07")
def test_discomp4_gets_messages_from_threads(tmp_path: Path) -> None:
    text = run_example("messages_from_threads.py", tmp_path, "--jobs", "2")
    for number in range(2):
        rounds = re.findall(rf"^127\.0\.0\.1:\d+ password {number}: round (\d) of 4$", text, re.MULTILINE)
        assert rounds == ["1", "2", "3", "4"]
    assert len(re.findall(r"^password \d: [0-9a-f]{16}…$", text, re.MULTILINE)) == 2


@pytest.mark.spec("S03", "S10", "S45")
def test_discomp7_talks_to_a_shipped_program(tmp_path: Path) -> None:
    text = run_example("external_program.py", tmp_path, "--count", "6", "--servers", "2")
    answers = re.findall(r"^127\.0\.0\.1:\d+ answers (\d+) (\d+)$", text, re.MULTILINE)
    assert sorted(answers) == [(str(number), str(number * number)) for number in range(6)]
    assert text.count("the program ended with status 0") == 2


def test_request_reply_gives_each_question_its_own_answer(tmp_path: Path) -> None:
    text = run_example("request_reply.py", tmp_path, "--servers", "1")
    assert text.splitlines() == [
        "0.1 s: waited 0.1 s",
        "0.2 s: waited 0.2 s",
        "0.8 s: given up",
        "Then: waited 0.4 s",
    ]


@pytest.mark.spec("S03", "S14")
def test_discoro_client4_turns_input_files_into_output_files(tmp_path: Path) -> None:
    (tmp_path / "input7.dat").write_text("1\n2\n6\n")
    (tmp_path / "input8.dat").write_text("5\n")
    run_example("files_to_servers_and_back.py", tmp_path, ".")
    assert (tmp_path / "output7.dat").read_text() == "3 numbers, mean 3.000, largest 6.000\n"
    assert (tmp_path / "output8.dat").read_text() == "1 numbers, mean 5.000, largest 5.000\n"


NODE = """
import trio
import discoro_trio as discoro

async def main():
    async with discoro.open_node(cpus=1, discover=False, ip_addr="127.0.0.1") as node:
        print(node.location)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.spec("S03")
async def test_an_example_uses_nodes_that_run_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORO_SECRET", secrets.token_hex())
    script = tmp_path / "node.py"
    script.write_text(NODE, encoding="utf-8")
    folder = tmp_path / "client"
    folder.mkdir()
    with Program([str(script)], tmp_path) as node, trio.fail_after(60):
        location = (await node.until_line(lambda line: line.startswith("127.0.0.1:"))).strip()
        text = await trio.to_thread.run_sync(
            run_example, "external_program.py", folder, "--count", "2", "--nodes", location
        )
        below = node.below()
        node.process.send_signal(signal.SIGINT)
        await node.ended()
    assert text.count(" answers ") == 2
    assert text.count("the program ended with status 0") == 1
    await until_gone(below, seconds=2)


@pytest.mark.spec("B20")
async def test_ctrl_c_in_the_middle_of_an_example_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    command = [str(EXAMPLES / "corpus.py"), "--files", "24"]
    with Program(command, tmp_path) as program, trio.fail_after(60):
        await program.until_line(lambda line: line.startswith("servers: "))
        below = program.below()
        # To the whole group, as a terminal does.
        os.killpg(program.process.pid, signal.SIGINT)
        status, errors = await program.ended()
    assert (status, errors) == (130, "\nStopped; nothing is left running.\n")
    assert len(below) >= 2
    await until_gone(below, seconds=2)
    assert not list((tmp_path / "tmp").iterdir())
