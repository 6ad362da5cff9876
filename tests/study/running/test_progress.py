"""The lines of a study whose output is a file, and the bar on a terminal."""

from pathlib import Path

import pytest

from hf_clip_kd.study.running import progress as module
from hf_clip_kd.study.running.forecast import Forecast
from hf_clip_kd.study.running.progress import Progress
from hf_clip_kd.study.running.schedule import Ended
from hf_clip_kd.study.running.stages import Stage

STAGES = [Stage("student", {"seed": seed}, (), 100.0) for seed in range(3)]
FIRST, SECOND, THIRD = STAGES


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_when_stages_start_and_end_and_each_minute(clock, capsys):
    progress = Progress(STAGES, Forecast(processes=2), terminal=False)
    progress.show({FIRST: 0.0, SECOND: 0.0})
    progress.show({FIRST: 5.0, SECOND: 5.0})
    clock[0] += 60
    progress.show({FIRST: 60.0, SECOND: 60.0})
    progress.end(Ended(FIRST, "done", 80.0))
    progress.show({SECOND: 80.0, THIRD: 0.0})
    for stage in (SECOND, THIRD):
        progress.end(Ended(stage, "done", 80.0))
    progress.show({})
    progress.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"running: {FIRST.id} 0 s, {SECOND.id} 0 s; 0/3 done; about 2 min left",
        f"running: {FIRST.id} 60 s, {SECOND.id} 60 s; 0/3 done; about 2 min left",
        f"running: {SECOND.id} 80 s, {THIRD.id} 0 s; 1/3 done; about 60 s left",
        "3/3 done",
    ]
    assert captured.err == ""


def test_a_run_that_has_nothing_to_start_says_so(clock, capsys):
    progress = Progress([FIRST], Forecast(processes=2), terminal=False)
    progress.show({})
    assert capsys.readouterr().out == "waiting for stages of another run; 0/1 done; about 50 s left\n"


def test_the_stages_that_ended_are_told_and_teach_the_forecast(capsys):
    """A stage of an earlier run has no line. The seconds of the others are learned."""

    class Script:
        root = Path("out")

        def run(self, stages, watch):
            yield Ended(FIRST, "done", 80.0)
            yield Ended(SECOND, "done", 60.0, earlier=True)
            yield Ended(THIRD, "failed", error="no memory")

    forecast = Forecast(processes=1)
    progress = Progress(STAGES, forecast, terminal=False)
    assert [end.stage for end in progress.follow(Script())] == STAGES
    assert capsys.readouterr().out.splitlines() == [
        f"{FIRST.id} done in 80 s",
        f"{THIRD.id} failed: no memory. See out/stages/{THIRD.id}/log.txt",
    ]
    assert not progress.left
    assert forecast.seconds(Stage("student", {"seed": 9}, (), 100.0)) == pytest.approx(70.0)


def test_a_terminal_gets_a_bar_with_the_same(capsys):
    progress = Progress(STAGES, Forecast(processes=1), terminal=True)
    progress.end(Ended(FIRST, "done", 80.0))
    progress.show({SECOND: 30.0})
    progress.write(f"{FIRST.id} done in 80 s")
    progress.close()
    captured = capsys.readouterr()
    assert captured.out == f"{FIRST.id} done in 80 s\n"
    assert "1/3" in captured.err and f"running: {SECOND.id} 30 s; about 3 min left" in captured.err
