"""tests/bench/timeline.py: the spans of a step do not overlap in a process, and they fill it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

PLACE = "<!-- timeline: written by a script -->\n{}<!-- end of timeline -->\n"


@pytest.fixture
def timeline(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import timeline

    return timeline


@pytest.mark.slow
def test_the_lanes_of_a_process_follow_each_other(tmp_path, timeline):
    folder, page = tmp_path / "img", tmp_path / "speed.md"
    page.write_text(PLACE.format("nothing\n"))
    files = timeline.main(["--student", "shapes-vit-t", "--teacher", "small", "--batch", "8", "--folder", str(folder)])
    assert files and all(path.is_file() for path in files)
    assert page.read_text() == PLACE.format(timeline.FIGURE) and (folder / "timeline-dark.svg").is_file()
    found = json.loads((folder / "timeline.json").read_text())
    assert (found["student"], found["teacher"]) == ("shapes-vit-t", "small")
    for spans in found["spans"].values():
        assert all(spans[lane] for lane in timeline.LANES)
        mine = sorted(span for lane in timeline.LANES[1:] for span in spans[lane])
        assert all(end <= start for (_, end), (start, _) in zip(mine[:-1], mine[1:], strict=True))
        total = mine[-1][1] - mine[0][0]
        assert sum(end - start for start, end in mine) > 0.5 * total


class Event:
    """A moment of a device, in milliseconds."""

    def __init__(self, moment):
        self.moment = moment

    def elapsed_time(self, end):
        return end.moment - self.moment


def test_events_of_a_device_get_the_time_of_the_host(timeline, monkeypatch):
    waits = []
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(synchronize=waits.append))
    clock = SimpleNamespace(device=torch.device("cuda"), spans={"step": [(Event(1500), Event(1750))]})
    assert timeline.of_host(clock, (Event(1000), 7.0), "step") == [(7.5, 7.75)]
    assert waits == [clock.device]
    clock = SimpleNamespace(device=torch.device("cpu"), spans={"step": [(1.0, 2.0)]})
    assert timeline.of_host(clock, (0.0, 0.0), "step") == [(1.0, 2.0)]
