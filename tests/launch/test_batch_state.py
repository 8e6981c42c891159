"""What a launcher decides about nodes in jobs of a batch system."""

from __future__ import annotations

import logging

from discoro_trio.launch._batch_state import BatchState, Cancel, Effect, EndAll, EndNode, LogLine, SubmitJobs
from discoro_trio.launch._order import DRAINING_FOR_SIGNAL, DRAINING_FOR_TIME, ENDED, JOINED
from discoro_trio.launch._queue import QueueState

RUNNING = QueueState(phase="running", text="RUNNING", where="m1")
QUEUED = QueueState(phase="queued", text="PENDING, Resources")
ENDING = QueueState(phase="ending", text="COMPLETING")
TAKEN = QueueState(phase="ended", text="PREEMPTED", verdict="taken")
CANCELLED = QueueState(phase="ended", text="CANCELLED", verdict="cancelled")
FAILED = QueueState(phase="ended", text="FAILED")


def started(nodes: int = 1, *, shared: bool = False) -> BatchState:
    """Give nodes that have joined: one job each, or one for all."""
    state = BatchState("x", timeout=60, where="10.0.0.1:5")
    names = [f"x{index + 1}" for index in range(nodes)]
    assert state.new(nodes) == SubmitJobs(tuple(names))
    jobs = {name: "7" if shared else f"7_{index}" for index, name in enumerate(names)}
    state.submitted(0, jobs)
    state.queue(1, dict.fromkeys(jobs.values(), RUNNING))
    for name in names:
        state.wrote(name, f"{JOINED}10.0.0.2:7")
    assert shown(state) == ["running"] * nodes
    return state


def shown(state: BatchState) -> list[str]:
    return [node.state for node in state.nodes]


def acts(effects: list[Effect] | None) -> list[Effect]:
    """Leave reports out."""
    assert effects is not None
    return [effect for effect in effects if not isinstance(effect, LogLine)]


def test_a_queued_node_shows_the_state_of_its_job_and_reports_each_change_once() -> None:
    state = BatchState("x", timeout=60, where="")
    state.new(2)
    state.submitted(0, {"x1": "7_0", "x2": "7_1"})
    found = {"7_0": QUEUED, "7_1": QUEUED}
    assert [effect.text for effect in state.queue(1, found) if isinstance(effect, LogLine)] == [
        "x1, x2: PENDING, Resources"
    ]
    assert state.queue(2, found) == []
    assert [node.reason for node in state.nodes] == ["job 7_0: PENDING, Resources", "job 7_1: PENDING, Resources"]
    assert state.clock(1e6) == [], "waiting in the queue may take any time"


def test_a_controller_that_has_restarted_may_cancel_jobs_which_are_replaced() -> None:
    state = started(2)
    state.unavailable(10)
    assert acts(state.queue(20, {"7_0": CANCELLED, "7_1": RUNNING})) == [SubmitJobs(("x3",))]
    assert acts(state.queue(50, {"7_1": CANCELLED})) == []


def test_a_job_that_is_suspended_is_reported_while_its_node_counts_as_running() -> None:
    state = started()
    suspended = QueueState(phase="running", text="SUSPENDED", where="m1")
    assert state.queue(2, {"7_0": suspended}) == [LogLine(logging.INFO, "x1: SUSPENDED on m1")]
    assert state.queue(3, {"7_0": suspended}) == []
    assert shown(state) == ["running"]


def test_a_node_whose_machine_is_taken_back_is_replaced_but_not_one_that_was_cancelled_or_failed() -> None:
    state = started(3)
    effects = state.queue(2, {"7_0": TAKEN, "7_1": CANCELLED, "7_2": FAILED})
    assert acts(effects) == [SubmitJobs(("x4",))]
    assert shown(state) == ["ended", "ended", "ended", "starting"]
    assert "cancelled outside" in state.nodes[1].reason


def test_a_job_that_a_new_controller_has_cancelled_is_replaced() -> None:
    state = started(2)
    found = {"7_0": CANCELLED, "7_1": RUNNING}
    assert state.cancelled_elsewhere(found)
    state.unavailable(2)
    assert acts(state.queue(2, found)) == [SubmitJobs(("x3",))]
    assert not state.cancelled_elsewhere(found)
    state.end("x2", "it was taken back")
    assert not state.cancelled_elsewhere({"7_1": CANCELLED})


def test_a_job_that_was_submitted_after_the_start_of_the_controller_was_cancelled_by_somebody() -> None:
    state = started(2)
    state.submitted(5, {"x1": "7_0"})
    state.unavailable(7, started=4)
    assert acts(state.queue(7, {"7_0": CANCELLED, "7_1": CANCELLED})) == [SubmitJobs(("x3",))], (
        "x2 was submitted before"
    )
    assert "cancelled outside" in state.nodes[0].reason
    assert "cancelled outside" not in state.nodes[1].reason


def test_a_signal_is_judged_when_the_job_has_ended_and_the_end_of_time_at_once() -> None:
    state = started(3)
    assert acts(state.wrote("x1", DRAINING_FOR_SIGNAL)) == []
    assert acts(state.wrote("x2", DRAINING_FOR_SIGNAL)) == []
    assert acts(state.wrote("x3", DRAINING_FOR_TIME)) == [SubmitJobs(("x4",))]
    assert acts(state.wrote("x3", ENDED + "0")) == []
    assert acts(state.queue(3, {"7_0": FAILED, "7_1": CANCELLED, "7_2": FAILED})) == [SubmitJobs(("x5",))]


def test_a_job_of_several_nodes_is_replaced_once_and_as_a_whole() -> None:
    state = started(2, shared=True)
    assert acts(state.wrote("x1", DRAINING_FOR_TIME)) == [SubmitJobs(("x3", "x4"))]
    assert acts(state.wrote("x2", DRAINING_FOR_TIME)) == []
    state.submitted(3, {"x3": "8", "x4": "8"})
    assert acts(state.queue(4, {"7": TAKEN, "8": RUNNING})) == []
    assert shown(state) == ["ended", "ended", "starting", "starting"]


def test_one_node_of_a_shared_job_ends_alone_and_the_last_one_ends_the_job() -> None:
    state = started(3, shared=True)
    state.wrote("x3", ENDED + "137")
    assert state.nodes[2].reason == "its process ended with status 137"
    assert state.end("x1", "it was taken back") == [EndNode("x1")]
    state.wrote("x1", ENDED + "0")
    assert shown(state) == ["ended", "running", "ended"]
    assert state.end("x2", "it was taken back") == [EndNode("x2"), Cancel(("7",))]


def test_nodes_that_never_join_are_replaced_only_a_few_times() -> None:
    state = BatchState("x", timeout=60, where="")
    effects: list[Effect] = [state.new(1)]
    for number in range(1, 4):
        assert acts(effects) == [SubmitJobs((f"x{number}",))]
        state.submitted(0, {f"x{number}": f"{number}"})
        effects = state.queue(1, {f"{number}": TAKEN})
    assert acts(effects) == []
    assert shown(state)[-1] == "ended"


def test_nodes_whose_time_ends_at_once_are_replaced_only_a_few_times() -> None:
    state = started()
    effects = state.wrote("x1", DRAINING_FOR_TIME)
    for number in (2, 3):
        assert acts(effects) == [SubmitJobs((f"x{number}",))]
        state.submitted(number, {f"x{number}": f"{number}"})
        state.queue(number, {f"{number}": RUNNING})
        state.wrote(f"x{number}", f"{JOINED}10.0.0.2:7")
        effects = state.wrote(f"x{number}", DRAINING_FOR_TIME)
    assert acts(effects) == []


def test_a_node_that_does_not_join_in_time_is_ended_with_advice() -> None:
    state = BatchState("x", timeout=60, where="10.0.0.1:5")
    state.new(1)
    state.submitted(0, {"x1": "7"})
    state.queue(1, {"7": RUNNING})
    assert state.clock(60) == []
    assert acts(state.clock(61)) == [EndNode("x1"), Cancel(("7",))]
    assert acts(state.queue(62, {"7": RUNNING})) == [Cancel(("7",))], "the first attempt has failed"
    state.queue(63, {})
    assert "can it connect to 10.0.0.1:5" in state.nodes[0].reason


def test_a_job_that_leaves_the_queue_has_ended_but_a_new_one_may_show_late() -> None:
    state = BatchState("x", timeout=60, where="")
    state.new(1)
    state.submitted(0, {"x1": "7"})
    state.queue(59, {})
    assert shown(state) == ["starting"]
    state.queue(60, {})
    assert shown(state) == ["ended"]
    seen = started()
    assert acts(seen.queue(2, {})) == []
    assert shown(seen) == ["ended"]


def test_a_job_that_a_queue_has_lost_is_replaced_if_the_queue_shows_what_has_ended() -> None:
    state = BatchState("x", timeout=60, where="", keeps_ended=True)
    state.new(1)
    state.submitted(0, {"x1": "7"})
    state.queue(1, {"7": QUEUED})
    assert acts(state.queue(2, {})) == [SubmitJobs(("x2",))]


def test_leaving_ends_everything_also_a_job_whose_submission_was_not_answered() -> None:
    state = started(2)
    assert acts(state.queue(2, {"7_0": RUNNING, "7_1": ENDING, "9": QUEUED})) == [Cancel(("9",))]
    assert state.end_all("left") == [EndAll(), Cancel(("7_0", "7_1", "9"))]
    over = [state.over]
    state.queue(3, {"7_0": CANCELLED})
    assert [*over, state.over] == [False, True]
    assert {node.reason for node in state.nodes} == {"left"}


def test_what_was_submitted_while_the_block_was_left_is_cancelled() -> None:
    state = BatchState("x", timeout=60, where="")
    state.new(1)
    assert state.wants(["x1"])
    state.end_all("left")
    assert not state.wants(["x1"])
    assert acts(state.submitted(1, {"x1": "7"})) == [Cancel(("7",))]


def test_a_shared_job_is_kept_if_only_one_of_its_nodes_was_taken_back_while_it_was_submitted() -> None:
    state = BatchState("x", timeout=60, where="")
    state.new(2)
    assert state.end("x1", "it was taken back") == [EndNode("x1")]
    assert acts(state.submitted(1, {"x1": "7", "x2": "7"})) == []


def test_jobs_that_the_batch_system_does_not_end_are_given_up_and_named() -> None:
    state = started()
    state.end_all("left")
    (report,) = state.forget("it was asked")
    assert "7_0" in report.text
    assert state.over


def test_only_the_last_replaced_nodes_are_kept() -> None:
    state = started()
    for number in range(2, 200):
        state.queue(100 * number, {f"{number - 1}": RUNNING, "7_0": RUNNING})
        state.wrote(f"x{number - 1}", DRAINING_FOR_TIME)
        state.submitted(100 * number, {f"x{number}": f"{number}"})
        state.queue(100 * number, {f"{number}": RUNNING})
        state.wrote(f"x{number}", f"{JOINED}10.0.0.2:7")
    assert len(state.nodes) == 101
