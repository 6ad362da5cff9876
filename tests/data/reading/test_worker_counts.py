"""Counts of dataloader workers are read in the main process."""

from torch.utils.data import DataLoader

from hf_clip_kd.data.reading.worker_counts import WorkerCounts


class Counted(list):
    def __init__(self, counts):
        super().__init__(range(12))
        self.counts = counts

    def __getitem__(self, index):
        self.counts.add("seen")
        self.counts.add("sum of numbers", index)
        return index


def test_counts_of_all_workers_add_up():
    counts = WorkerCounts(("seen", "sum of numbers", "unused"))
    for workers in (0, 2):
        assert sorted(DataLoader(Counted(counts), batch_size=None, num_workers=workers)) == list(range(12))
    assert [counts.total(column) for column in counts.columns] == [24, 132, 0]
    assert (counts.table[:3, 0] > 0).all(), "the main process and each worker have a row of their own"
