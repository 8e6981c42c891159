"""Small programs that behave like the commands of PBS, LSF and Grid Engine, for one machine and a number of slots.

They are no batch systems: they know only the options and the output that the launchers use, as the manuals of those
systems describe them. A job is a process of this program that waits for a slot and then runs the script.

Run as a program, the arguments are FOLDER SYSTEM COMMAND and those of the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = {
    "pbs": ("qsub", "qselect", "qstat", "qdel"),
    "sge": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
}
KILL_DELAY = 20.0
_LOOK = 0.05
_ANSWERS = {"pbs": "{}.server", "sge": "{}", "lsf": "Job <{}> is submitted to default queue <normal>."}
_JOB_ID = {"pbs": "PBS_JOBID", "sge": "JOB_ID", "lsf": "LSB_JOBID"}
_CPUS = {"pbs": "NCPUS", "sge": "NSLOTS", "lsf": "LSB_DJOB_NUMPROC"}


def install(folder: Path, system: str, *, slots: int) -> Path:
    """Write the commands of a batch system.

    Args:
        folder: For its files.
        system: "pbs", "sge" or "lsf".
        slots: How many jobs run at once.

    Returns:
        The folder to put on the path.
    """
    programs, jobs = folder / "bin", folder / "jobs"
    programs.mkdir()
    jobs.mkdir()
    (folder / "slots").write_text(str(slots))
    for command in COMMANDS[system]:
        path = programs / command
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} {system} {command} "$@"\n')
        path.chmod(0o755)
    return programs


class System:
    """The jobs of one batch system, in files."""

    def __init__(self, folder: Path, system: str) -> None:
        self.folder = folder
        self.system = system

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude all other commands while the block lasts."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return all jobs by id."""
        paths = sorted((self.folder / "jobs").glob("*.json"), key=lambda path: int(path.stem))
        return {path.stem: json.loads(path.read_text()) for path in paths}

    def change(self, job: str, **fields: object) -> None:
        """Change a job, or add it."""
        path = self.folder / "jobs" / f"{job}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))
        new.rename(path)

    def end(self, job: str, reason: str) -> None:
        """End a job; `reason` is "cancelled" or "preempted"."""
        with self.locked():
            if self.jobs()[job]["state"] == "queued":
                self.change(job, state="ended", asked=reason)
            else:
                self.change(job, asked=reason)

    def submit(self, arguments: list[str]) -> None:
        """Take a job, whose script is standard input, and start the process that waits for its slot."""
        name = arguments[arguments.index("-J" if self.system == "lsf" else "-N") + 1]
        with self.locked():
            job = str(len(self.jobs()) + 1)
            script = sys.stdin.read()
            self.change(job, name=name, state="queued", arguments=arguments, script=script, asked="")
        subprocess.Popen(
            [sys.executable, __file__, str(self.folder), self.system, "run", job],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        print(_ANSWERS[self.system].format(job))

    def run(self, job: str) -> None:
        """Wait for a slot, and run a job."""
        while not self._take_slot(job):
            if self.jobs()[job]["state"] == "ended":
                return
            time.sleep(_LOOK)
        variables = {_JOB_ID[self.system]: job, _CPUS[self.system]: "1"}
        script = self.jobs()[job]["script"].encode()
        with subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, env=os.environ | variables) as process:
            assert process.stdin is not None
            process.stdin.write(script)
            process.stdin.close()
            killed_at = None
            while process.poll() is None:
                if killed_at is None and self.jobs()[job]["asked"]:
                    signal_all(process.pid, signal.SIGTERM)
                    killed_at = time.monotonic() + KILL_DELAY
                elif killed_at is not None and time.monotonic() > killed_at:
                    signal_all(process.pid, signal.SIGKILL)
                time.sleep(_LOOK)
        with self.locked():
            self.change(job, state="ended")

    def _take_slot(self, job: str) -> bool:
        with self.locked():
            jobs = self.jobs()
            if jobs[job]["state"] != "queued":
                return False
            free = int((self.folder / "slots").read_text()) - sum(one["state"] == "running" for one in jobs.values())
            first = next(one for one, fields in jobs.items() if fields["state"] == "queued")
            if free <= 0 or first != job:
                return False
            self.change(job, state="running")
            return True

    def show(self, command: str, arguments: list[str]) -> int:
        """Print the jobs, as `command` does; return its exit status."""
        jobs = self.jobs()
        there = {job: fields for job, fields in jobs.items() if fields["state"] != "ended"}
        if command == "qselect":
            print("".join(f"{job}.server\n" for job, fields in there.items() if fields["name"] == arguments[1]), end="")
        elif self.system == "pbs":
            for job in (one.partition(".")[0] for one in arguments[1:]):
                show_pbs(job, there[job]) if job in there else None
        elif self.system == "sge":
            show_sge(there)
        else:
            return show_lsf(jobs, arguments)
        return 0


def show_pbs(job: str, fields: dict[str, Any]) -> None:
    """Print a job as `qstat -f` does, with a long attribute on two lines."""
    state = {"queued": "Q", "running": "R"}[fields["state"]]
    print(f"Job Id: {job}.server\n    Job_Name = {fields['name']}\n    job_state = {state}")
    if state == "Q":
        print("    comment = Not Running: Insufficient amount of resource:\n\t ncpus")
    else:
        print("    exec_host = m1/0")
    print()


def show_sge(jobs: dict[str, dict[str, Any]]) -> None:
    """Print jobs as `qstat -xml` does."""
    lines = []
    for job, fields in jobs.items():
        state = "qw" if fields["state"] == "queued" else "dr" if fields["asked"] else "r"
        queue = "" if state == "qw" else "all.q@m1"
        lines.append(
            f'<job_list state="x"><JB_job_number>{job}</JB_job_number><JB_name>{escape(fields["name"])}</JB_name>'
            f"<state>{state}</state><queue_name>{queue}</queue_name></job_list>"
        )
    print(f"<?xml version='1.0'?>\n<job_info><queue_info>{''.join(lines)}</queue_info><job_info/></job_info>")


def show_lsf(jobs: dict[str, dict[str, Any]], arguments: list[str]) -> int:
    """Print jobs as `bjobs` does with the format of the launcher."""
    name = arguments[arguments.index("-J") + 1]
    found = {job: fields for job, fields in jobs.items() if fields["name"] == name}
    if not found:
        print(f"Job <{name}> is not found", file=sys.stderr)
        return 255
    reasons = {"cancelled": "TERM_OWNER: job killed by owner", "preempted": "TERM_PREEMPT: job killed after preemption"}
    for job, fields in found.items():
        state = {"queued": "PEND", "running": "RUN", "ended": "EXIT"}[fields["state"]]
        reason = reasons.get(fields["asked"], "-") if state == "EXIT" else "-"
        pending = "Job slot limit reached;" if state == "PEND" else "-"
        print(f"{job}|{state}|{'m1' if state == 'RUN' else '-'}|{reason}|{pending}")
    return 0


def signal_all(pid: int, number: int) -> None:
    """Send a signal to a process and all below it, as batch systems do."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)


def main() -> int:
    """Be one of the commands."""
    system, command, arguments = System(Path(sys.argv[1]), sys.argv[2]), sys.argv[3], sys.argv[4:]
    if command == "run":
        system.run(arguments[0])
    elif command in {"qsub", "bsub"}:
        system.submit(arguments)
    elif command in {"qdel", "bkill"}:
        for job in (one.partition(".")[0] for one in arguments):
            system.end(job, "cancelled")
    else:
        return system.show(command, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
