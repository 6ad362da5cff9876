"""Pairs of the embedded world as cases: Winoground's scores of a model that sees colours, but not whose they are."""

import torch
from known_model import known_processor

from hf_clip_kd.data import load_image_text
from hf_clip_kd.evaluation import build_evaluator

BLOCK = {"dataset_name": "shapes", "split": "compositional", "max_samples": 48}


class BagOfWords(torch.nn.Module):
    """Knows the words of a caption but not their order, and the caption of each picture."""

    def __init__(self, texts):
        super().__init__()
        words = sorted({word for text in texts for word in text.split()})
        rows = [[text.split().count(word) for word in words] for text in texts]
        self.embeds = torch.nn.Parameter(torch.tensor(rows, dtype=torch.float32))

    def get_image_features(self, pixel_values):
        return self.embeds[pixel_values]

    def get_text_features(self, input_ids, attention_mask=None):
        return self.embeds[input_ids]


def test_a_bag_of_words_sees_changed_attributes_alone():
    (evaluator,) = build_evaluator({"compositional": BLOCK}, load_image_text).evaluators
    rows = load_image_text("shapes", split="compositional", max_samples=48)
    assert len(evaluator.cases) == 24 and len(set(rows["text"])) == 48 == evaluator.counts["n_texts"]

    texts = rows["text"][:]
    processor = known_processor(texts)
    images = [image["bytes"] for image in rows["image"]]

    def number(picture):
        return next(i for i, data in enumerate(images) if data.endswith(picture.tobytes()))

    processor.image_processor = lambda images, return_tensors: {
        "pixel_values": torch.tensor([number(picture) for picture in images])
    }
    metrics = evaluator(BagOfWords(texts), processor)
    for score in ("text_acc", "image_acc", "acc"):
        assert metrics[f"{score}/changed_attribute"] == 1
        assert metrics[f"{score}/swapped_colors"] == metrics[f"{score}/swapped_places"] == 0
        assert metrics[score] == 1 / 3
    assert evaluator.primary_metric == "text_acc"


def test_a_last_row_without_partner_is_left_out():
    (evaluator,) = build_evaluator({"compositional": BLOCK | {"max_samples": 7}}, load_image_text).evaluators
    assert [case.category for case in evaluator.cases] == ["swapped_colors", "swapped_places", "changed_attribute"]
    assert evaluator.counts == {"n_cases": 3, "n_images": 6, "n_texts": 6}
