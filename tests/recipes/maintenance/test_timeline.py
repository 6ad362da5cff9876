"""recipes/maintenance/timeline.py: the spans of a step do not overlap in a process, and they fill it."""

import json

import pytest

from recipes.maintenance import timeline


@pytest.mark.slow
def test_the_lanes_of_a_process_follow_each_other(tmp_path):
    files = timeline.main(["--student", "shapes-vit-t", "--batch", "8", "--folder", str(tmp_path)])
    assert files and all(path.is_file() for path in files)
    found = json.loads((tmp_path / "timeline.json").read_text())["spans"]
    for kind, spans in found.items():
        assert [len(spans[lane]) > 0 for lane in timeline.LANES] == [
            lane != "teacher" or kind == "online" for lane in timeline.LANES
        ]
        mine = sorted(span for lane in timeline.LANES[1:] for span in spans[lane])
        assert all(end <= start for (_, end), (start, _) in zip(mine[:-1], mine[1:], strict=True))
        total = mine[-1][1] - mine[0][0]
        assert sum(end - start for start, end in mine) > 0.5 * total
