"""Runs of a study's stages: in order, several at once, each once. Failures, skipped stages, and state after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path, PurePosixPath

import pytest
import yaml

from hf_clip_kd.study.running.forecast import Forecast, duration
from hf_clip_kd.study.running.schedule import Schedule
from hf_clip_kd.study.running.stages import KINDS, Stage, with_needed

ROOT = Path(__file__).parents[3]
# A recipe of a few milliseconds. Each time it runs it leaves a line; asked to, it goes on from the step where it was.
SCRIPT = """
import json, pathlib, signal, sys, time, yaml
arguments = yaml.safe_load(open(sys.argv[2]))
folder = pathlib.Path(arguments["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
with open(folder / "runs.txt", "a") as file:
    file.write(f"{time.time()}\\n")
checkpoint = folder / "checkpoint-1"
def stop(*_):
    checkpoint.mkdir()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("beginning" if not checkpoint.exists() else "going on", flush=True)
time.sleep(0 if checkpoint.exists() else arguments.get("sleep", 0))
if arguments.get("fail"):
    sys.exit("error: it was told to fail")
(folder / arguments["product"]).write_text(json.dumps(arguments))
with open(folder / "runs.txt", "a") as file:
    file.write(f"{time.time()}\\n")
"""


@pytest.fixture
def recipes(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    for kind in KINDS.values():
        (folder / kind.script).write_text(SCRIPT)
    return folder


def stage(name, *needs, kind="student", **arguments):
    product = "config.json" if kind != "evaluate" else "result.json"
    reads = {need.id: need.output for need in needs}
    return Stage(kind, {"name": name, "product": product, "reads": reads} | arguments, tuple(needs), 10.0)


def run(tmp_path, recipes, stages, processes=2):
    schedule = Schedule(tmp_path / "out", recipes, processes=processes, threads=1)
    return list(schedule.run(with_needed(stages)))


def spans(tmp_path, stages):
    """Beginning and end of each stage."""
    files = [tmp_path / "out" / stage.output / "runs.txt" for stage in stages]
    return [[float(line) for line in file.read_text().split()] for file in files]


def test_each_stage_runs_once_after_what_it_needs(tmp_path, recipes):
    teacher = stage("teacher", kind="teacher")
    students = [stage(f"student {i}", teacher) for i in range(3)]
    scores = [stage("scores", student, kind="evaluate") for student in students]
    ends = run(tmp_path, recipes, scores)
    assert [end.outcome for end in ends] == ["done"] * 7 and not any(end.earlier for end in ends)
    times = dict(
        zip(
            [each.id for each in [teacher, *students, *scores]],
            spans(tmp_path, [teacher, *students, *scores]),
            strict=True,
        )
    )
    assert all(len(span) == 2 for span in times.values())
    for each in [*students, *scores]:
        assert all(times[need.id][1] <= times[each.id][0] for need in each.needs)

    again = run(tmp_path, recipes, scores)
    assert [end.outcome for end in again] == ["done"] * 7 and all(end.earlier for end in again)
    assert all(len(span) == 2 for span in spans(tmp_path, [teacher, *students, *scores]))


@pytest.mark.parametrize("processes", [1, 2])
def test_so_many_run_at_once(tmp_path, recipes, processes):
    stages = [stage(str(i), sleep=0.3) for i in range(3)]
    run(tmp_path, recipes, stages, processes)
    moments = sorted(moment for span in spans(tmp_path, stages) for moment in [(span[0], 1), (span[1], -1)])
    running = [sum(change for _, change in moments[: i + 1]) for i in range(len(moments))]
    assert max(running) == processes


def test_the_running_stages_are_shown_with_their_seconds(tmp_path, recipes):
    pair, seen = [stage("first", sleep=0.5), stage("second", sleep=0.5)], []
    schedule = Schedule(tmp_path / "out", recipes, processes=1, threads=1)
    assert len(list(schedule.run(pair, seen.append))) == 2
    assert all(len(running) <= 1 for running in seen)
    for each in pair:
        times = [running[each] for running in seen if each in running]
        assert times == sorted(times) and 0 <= times[0] < 0.3 <= times[-1]
    assert seen[-1] == {}


def test_a_failure_is_told_and_stops_only_what_depends_on_it(tmp_path, recipes):
    broken = stage("broken", kind="teacher", fail=True)
    lost = stage("lost", stage("its student", broken), kind="evaluate")
    fine = stage("fine")
    ends = {end.stage.arguments["name"]: end for end in run(tmp_path, recipes, [lost, fine])}
    assert {name: end.outcome for name, end in ends.items()} == {
        "broken": "failed", "its student": "skipped", "lost": "skipped", "fine": "done",
    }  # fmt: skip
    assert ends["broken"].error == "exit code 1: error: it was told to fail"
    assert ends["its student"].error == f"{broken.id} failed"


def test_a_failed_stage_is_tried_again_by_the_next_run(tmp_path, recipes):
    script = recipes / "distill.py"
    script.write_text("raise SystemExit('error: not yet')")
    only = stage("one")
    assert run(tmp_path, recipes, [only])[0].outcome == "failed"
    script.write_text(SCRIPT)
    assert run(tmp_path, recipes, [only])[0].outcome == "done"


def test_a_process_that_was_told_to_stop_is_not_done(tmp_path, recipes):
    (recipes / "distill.py").write_text("print('Stopped at step 1 of 2')")
    (end,) = run(tmp_path, recipes, [stage("one")])
    assert end.outcome == "failed" and "run the study again" in end.error and "step 1 of 2" in end.error


def test_stopped_in_the_middle_the_running_ones_save_and_the_next_run_goes_on(tmp_path, recipes):
    long, log = stage("long", sleep=60), "log.txt"
    with closing(Schedule(tmp_path / "out", recipes, processes=2, threads=1).run([long, stage("quick")])) as ends:
        assert next(ends).stage.arguments["name"] == "quick"
        wait_for(lambda: "beginning" in (tmp_path / "out" / long.folder / log).read_text())
    assert (tmp_path / "out" / long.output / "checkpoint-1").is_dir() and long.record(tmp_path / "out") is None
    (end,) = run(tmp_path, recipes, [long])
    assert end.outcome == "done"
    assert not (tmp_path / "out" / long.output / "checkpoint-1").exists()  # nobody has a use for it any more


def test_a_kill_before_the_checkpoints_are_deleted_leaves_the_stage_done(tmp_path, recipes, monkeypatch):
    def kill(path, **_):
        raise KeyboardInterrupt

    done = stage("done")
    checkpoint = tmp_path / "out" / done.output / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", kill)
        run(tmp_path, recipes, [done])
    (end,) = run(tmp_path, recipes, [done])
    assert end.earlier and not checkpoint.exists() and len(spans(tmp_path, [done])[0]) == 2


def test_a_product_of_an_earlier_attempt_does_not_make_a_stopped_one_done(tmp_path, recipes):
    stopped = stage("stopped", sleep=60)
    left = tmp_path / "out" / stopped.output / "config.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    (recipes / "distill.py").write_text(
        SCRIPT.replace("time.sleep(0 if", "stop() if not checkpoint.exists() else time.sleep(0 if")
    )
    (end,) = run(tmp_path, recipes, [stopped])
    assert end.outcome == "failed" and "run the study again" in end.error
    assert (left.parent / "checkpoint-1").is_dir() and stopped.record(tmp_path / "out") is None
    (end,) = run(tmp_path, recipes, [stopped])
    assert end.outcome == "done" and not end.earlier


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


RUNNER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from hf_clip_kd.study.running.schedule import Schedule
from test_schedule import stage
list(Schedule(Path({root!r}), Path({recipes!r}), processes=1, threads=1).run([stage("shared", sleep=2)]))
"""


@pytest.mark.slow
def test_what_a_killed_runner_left_running_is_not_started_twice(tmp_path, recipes):
    shared, out = stage("shared", sleep=2), tmp_path / "out"
    code = RUNNER.format(tests=str(Path(__file__).parent), root=str(out), recipes=str(recipes))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runner = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        wait_for(lambda: (out / shared.folder / "runs.txt").is_file(), seconds=60)
    finally:
        runner.kill()
        runner.wait()
    (end,) = run(tmp_path, recipes, [shared])
    # It waited for the running process. Nobody was left to record the end, so it ran the stage again.
    begun, ended, begun_again, _ = spans(tmp_path, [shared])[0]
    assert end.outcome == "done" and begun < ended <= begun_again


def test_features_are_shared_until_the_last_stage_that_reads_them_has_ended(tmp_path, recipes):
    """Each stage leaves a file in the shared folder, and remembers what lay there when it began."""
    script = "folder_of = pathlib.Path(arguments['feature_cache'])\nfolder_of.mkdir(parents=True, exist_ok=True)\n"
    script += "arguments['seen'] = sorted(path.name for path in folder_of.iterdir())\n"
    script += "(folder_of / str(arguments['name'])).touch()\nif arguments.get('fail'):"
    (recipes / "train_vlm.py").write_text(SCRIPT.replace('if arguments.get("fail"):', script))
    assert "seen" in (recipes / "train_vlm.py").read_text()

    def vlm(name, folder, **arguments):
        placed = {"feature_cache": PurePosixPath("features") / folder}
        product = {"name": name, "product": "config.json"}
        return Stage("vlm", product | {"feature_cache": "f"} | arguments, (), 10.0, placed)

    mine, other = [vlm(0, "a"), vlm(1, "a"), vlm(2, "a")], vlm(3, "b", fail=True)
    out = tmp_path / "out"
    ends = run(tmp_path, recipes, [*mine, other], processes=1)
    assert [end.outcome for end in ends] == ["done"] * 3 + ["failed"]
    seen = [json.loads((out / stage.output / "config.json").read_text())["seen"] for stage in mine]
    assert seen == [[], ["0"], ["0", "1"]]
    # A stage that failed goes on with what is there.
    assert sorted(path.name for path in (out / "features").iterdir()) == ["b"]
    # A kill between the end of a stage and the deletion leaves nothing for good.
    (out / "features/a").mkdir()
    run(tmp_path, recipes, mine)
    assert not (out / "features/a").exists()


# ---- Stages ----


def test_arguments_are_written_for_the_command(tmp_path):
    teacher = Stage("teacher", {"losses": {"clip": 1.0}})
    vlm = Stage(
        "vlm",
        {"vision_tower": teacher.output, "beside": {"a": teacher.output}, "feature_cache": "x"},
        (teacher,),
        placed={"feature_cache": PurePosixPath("features/1")},
    )
    schedule = Schedule(tmp_path, ROOT / "recipes", processes=1, threads=3, accelerate_config="some.yaml")
    command = schedule.command(vlm)
    assert command[1:5] == ["-m", "accelerate.commands.launch", "--config_file", "some.yaml"]
    assert command[-3].endswith("train_vlm.py") and command[command.index("--num_cpu_threads_per_process") + 1] == "3"
    written = yaml.safe_load(Path(command[-1]).read_text())
    assert written == {
        "vision_tower": str(tmp_path / teacher.output),
        "beside": {"a": str(tmp_path / teacher.output)},
        "feature_cache": str(tmp_path / "features/1"),
        "output_dir": str(tmp_path / vlm.folder / "vlm"),
        "resume_from_checkpoint": "auto",
    }
    assert schedule.command(Stage("cost", {}))[1].endswith("measure_cost.py")  # one process whatever the launch


def test_an_id_is_of_what_the_outcome_depends_on():
    student = Stage("student", {"seed": 0, "losses": {"clip": 1.0, "fd": 4.0}}, (), 10.0)
    assert student.id == Stage("student", {"losses": {"fd": 4.0, "clip": 1.0}, "seed": 0}, (), 20.0).id
    others = [{"seed": 1}, {"seed": 0, "losses": {"clip": 1.0}}, {"seed": 0, "losses": {"clip": 1.0, "fd": 4.5}}]
    assert len({student.id, *(Stage("student", arguments).id for arguments in others)}) == 4
    assert student.id == "student-69a428ab5711"  # Studies that are under way hold it.
    launch = {"num_processes": 8}
    assert Stage("student", {"seed": 1}, launch=launch).id != Stage("student", {"seed": 1}).id
    assert Stage("cost", {}, launch=launch).id == Stage("cost", {}).id  # Nothing launches it.
    # A folder of the study is not the same as a word that looks like it.
    assert Stage("cost", {"model": PurePosixPath("a")}).id != Stage("cost", {"model": "a"}).id


def test_what_json_cannot_hold_is_no_argument():
    with pytest.raises(TypeError, match="nothing that JSON holds"):
        Stage("student", {"seed": {1, 2}})


# ---- Forecast ----


def test_forecast_learns_from_what_has_ended():
    forecast = Forecast(processes=2)
    student, vlm = Stage("student", {"seed": 0}, (), 10.0), Stage("vlm", {"seed": 0}, (), 40.0)
    assert forecast.left([student, vlm]) == (10 + 40) / 2
    assert forecast.left([student, vlm], {vlm: 30.0, student: 15.0}) == (0 + 10) / 2
    forecast.learn(student, 20.0)  # twice as slow as expected: so will be all others
    assert (forecast.seconds(student), forecast.seconds(vlm)) == (20.0, 80.0)
    forecast.learn(vlm, 40.0)  # This kind has its own factor.
    assert (forecast.seconds(student), forecast.seconds(vlm)) == (20.0, 40.0)
    unknown = Stage("cost", {})
    assert forecast.seconds(unknown) == 0.0
    forecast.learn(unknown, 7.0)
    assert forecast.seconds(Stage("cost", {"model": "other"})) == 7.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


def test_records_hold_what_a_stage_took(tmp_path, recipes):
    only, before = stage("one", sleep=0.3), signal.getsignal(signal.SIGTERM)
    (end,) = run(tmp_path, recipes, [only])
    record = json.loads((tmp_path / "out" / only.folder / "stage.json").read_text())
    assert record == {"id": only.id, "kind": "student", "seconds": end.seconds} and 0.3 <= end.seconds < 20
    assert signal.getsignal(signal.SIGTERM) is before  # the schedule leaves the signals to its caller
