"""Files of a figure."""

from hf_clip_kd.study.report.figures.canvas import panels, save


def drawing(height):
    def draw(narrow):
        figure, (axes,) = panels(1, narrow, height=2, columns=1)
        axes.plot([0, 1], [0, height])
        return figure

    return draw


def test_a_reader_of_a_figure_never_sees_half_of_it(tmp_path):
    """Two runs of a study make its report. A page that holds the old figure keeps all of it."""
    paths = save(drawing(1), tmp_path / "figures", "line")
    assert [path.name for path in paths] == [
        "line.svg", "line.png", "line-dark.svg", "line-narrow.svg", "line-narrow-dark.svg",
    ]  # fmt: skip
    before, opened = [path.read_bytes() for path in paths], [open(path, "rb") for path in paths]
    assert save(drawing(2), tmp_path / "figures", "line") == paths
    assert [file.read() for file in opened] == before
    assert all(path.read_bytes() != old for path, old in zip(paths, before, strict=True))
    assert sorted(tmp_path.glob("figures/*")) == sorted(paths)
    assert not any(b"<!--" in content for content in before)  # Half of what matplotlib writes is left out.
    for file in opened:
        file.close()
