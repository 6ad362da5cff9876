"""Every benchmark runs to its end and writes what the table reads, with the smallest sizes and once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.maintenance import speed_table

BENCH = Path(__file__).parent
SETTING = "Setting(student='test-vit', teacher='tiny', batch=4, steps=1, warm_up=1)"
# Name of a benchmark -> what runs it. Those without arguments have their sizes as constants.
RUNS = {
    "batch_growth": "bench.main(batches=[64, 128], repeats=1)",
    "cache_writing": "bench.main(batch=2, count=2, repeats=1, teacher='tiny')",
    "cached_step": "bench.main(Setting(student='test-vit', teacher='tiny', batch=4, steps=3, warm_up=1), repeats=1)",
    "first_minute": "bench.main(repeats=1)",
    "input_pipeline": "bench.SIZES, bench.BATCH = [(34, 26)], 4; bench.main(per_tar=100, count=1, repeats=1)",
    "llava_step": "bench.main(batch=2, steps=1, repeats=1, student='test-vit')",
    "loss_memory": "bench.main(batches=[64, 128], compared=64, repeats=1)",
    "online_step": f"bench.main({SETTING}, repeats=1, precisions=['fp32', 'bf16'])",
    "packing": "bench.BATCH, bench.STEPS, bench.REPEATS = 4, 4, 1; bench.main()",
    "reader": "bench.BATCH, bench.REPEATS, bench.LAYERS, bench.VOCABULARY = 2, 1, 1, 100; bench.main()",
    "shapes": "bench.main(images=16, repeats=1)",
    "small_pictures": "bench.BATCH, bench.BATCHES, bench.REPEATS = 4, 1, 1; bench.main()",
    "trainer_overhead": f"bench.main({SETTING}, repeats=1)",
    "transparency": "bench.SEEDS, bench.STEPS, bench.TRAIN, bench.TEST = [0], [1], 64, 8; bench.main()",
    "transparency_vlm": "bench.SEEDS, bench.TRAIN, bench.TEST, bench.TOWER_STEPS, bench.STEPS = [0], 64, 8, 1, 1; "
    "bench.main()",
}
WITHOUT_PEER = {"reader", "shapes", "small_pictures", "transparency", "transparency_vlm"}
START = "import sys, pathlib, report; report.OUTPUTS = pathlib.Path(sys.argv.pop()); from online import Setting; "


def test_the_table_has_every_benchmark():
    assert sorted(RUNS) == sorted(path.stem.removeprefix("bench_") for path in BENCH.glob("bench_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_it_runs(tmp_path, name):
    command = [sys.executable, "-c", f"{START}import bench_{name} as bench; {RUNS[name]}", str(tmp_path)]
    run = subprocess.run(command, cwd=BENCH, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["machine"]["threads"] >= 1
    assert ("rows" in written) == (name not in WITHOUT_PEER)
    for row in written.get("rows", []):
        assert row["repeats"] == 1 and all(value > 0 for value in (row["ours"], row["peer"], *row["memory_mb"]))
        assert speed_table.line(row, 1)


TURNS = """
import json, sys
print("not a number")
print(json.dumps({"words": sys.argv[1:]}))
"""


def test_turns_change_their_order(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import turns

    assert list(turns.in_turn("ab", 3)) == [*"ab", *"ba", *"ab"]
    (tmp_path / "script.py").write_text(TURNS)
    found = turns.take_turns(str(tmp_path / "script.py"), ["ours", ("peer", 64)], 2, 5)
    assert found == {"ours": [{"words": ["ours", "5"]}] * 2, ("peer", 64): [{"words": ["peer", "64", "5"]}] * 2}
