"""The order of the samples: batches of one modality and of like length, fixed by seed and epoch."""

import random

import pytest
from datasets import Dataset
from llava_runs import make_model, make_rows, make_trainer

from hf_clip_kd.vlm.sampler import ModalityLengthSampler, check_counts, count_samples

BATCH = 8


def make_sampler(pictured=0.7, n=203, seed=0):
    generator = random.Random(1)
    lengths = [generator.randint(1, 500) for _ in range(n)]
    return ModalityLengthSampler(lengths, [generator.random() < pictured for _ in range(n)], BATCH, seed)


def batches(order):
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


@pytest.mark.parametrize("pictured", [0.0, 0.7, 1.0])
def test_every_sample_once_and_one_modality_per_batch(pictured):
    sampler = make_sampler(pictured)
    order = list(sampler)
    assert sorted(order) == list(range(203)) and len(sampler) == 203
    pure = [len({index in sampler.modalities[0] for index in batch}) == 1 for batch in batches(order)]
    # The rest of both modalities comes last.
    assert all(pure[: -2 if pictured == 0.7 else None])


def test_lengths_within_a_batch_are_alike():
    def spread(order):
        lengths = [[sampler.lengths[index] for index in batch] for batch in batches(order)[:-3]]
        return sum(max(batch) - min(batch) for batch in lengths) / len(lengths)

    sampler = make_sampler(n=2003)
    shuffled = random.Random(0).sample(range(2003), 2003)
    assert spread(list(sampler)) < 0.4 * spread(shuffled)


def test_order_depends_on_seed_and_epoch_alone():
    sampler = make_sampler()
    first = list(sampler)
    assert list(sampler) == first == list(make_sampler())
    assert list(make_sampler(seed=1)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_samples_without_counts_are_counted():
    rows = make_rows(9)
    bare = rows.remove_columns(["num_words", "num_images"])
    for data in (rows, bare, bare.select(range(8, -1, -1)).select(range(8, -1, -1))):
        words, has_image = count_samples(data)
        assert list(words) == rows["num_words"][:] and has_image == [n > 0 for n in rows["num_images"]]
    assert count_samples(Dataset.from_list([{"messages": [{"content": "a b"}], "images": []}])) == ([2], [False])


def test_data_of_ones_own_train_or_are_refused(tmp_path):
    bare = make_rows(8).remove_columns(["id", "num_words", "num_images"])
    model, processor = make_model()
    make_trainer(tmp_path, model, processor, dataset=bare, max_steps=1).train()
    check_counts(bare.to_iterable_dataset()), check_counts(None)
    with pytest.raises(ValueError, match="neither num_words and num_images nor.*group_by_modality_length=False"):
        make_trainer(tmp_path, model, processor, dataset=list(bare))
    make_trainer(tmp_path, model, processor, dataset=list(bare), group_by_modality_length=False, max_steps=1).train()
