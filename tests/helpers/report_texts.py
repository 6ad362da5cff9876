"""The text of a study's report without the files of its figures, which take most of the time."""

import matplotlib.pyplot as plt

from hf_clip_kd.study.report import report


def write_and_read(folder, monkeypatch):
    """Return the text of a report. Each figure is drawn, so that it may be left out, and is not saved."""

    def draw_only(draw, folder, name):
        plt.close(draw(False))
        return []

    monkeypatch.setattr(report, "save", draw_only)
    monkeypatch.setattr(report, "_html", lambda *_: "")  # It holds the files of the figures.
    report.write_report(folder)
    return (folder / "report.md").read_text()
