"""The same odd texts down every road: each gives the model the same ids, or each refuses the text."""

import copy

import pytest
import torch
from datasets import Dataset
from teacher_models import images
from text_families import FAMILIES, save_family
from tiny_llava import make_llava
from transformers import AutoProcessor

from hf_clip_kd import AugmentationCollator, CLIPDataCollator, CLIPTeacher, LlavaDataCollator, load_clip
from hf_clip_kd.distillation.model import DistillationModel
from hf_clip_kd.evaluation import RetrievalEvaluator, ZeroShotClassificationEvaluator
from hf_clip_kd.evaluation.cost import measure_cost
from hf_clip_kd.evaluation.encode import encode_texts
from hf_clip_kd.evaluation.vqa.files import Sample
from hf_clip_kd.evaluation.vqa.generation import generate_answers
from hf_clip_kd.export.parity import ask_model, make_probe

LENGTH = 24
TEXTS = {
    "capitals": "A Photo of a RED Circle ÉÀ Ж",
    "accents in one": "a naïve café",
    "accents apart": "a nai\u0308ve cafe\u0301",
    "emoji": "two 😀 👩\u200d👩\u200d👧 and ❤\ufe0f",
    "right to left": "שלום عالم",
    "control": "a\x07b\x1bc\u200e",
    "nul": "before\x00after",
    "entities": "salt &amp; pepper &lt;b&gt;",
    "ligatures": "ﬁne oﬃce ǅ ß",
    "special": "one <|endoftext|> two <eos> three <pad>",
    "spaces": "  wide\t\n  spaces \u00a0 ",
    "long": "the small dog on very large hill " * 30,
}
REFUSED = {
    "nothing": ("", "is empty"),
    "white space": (" \n\t\u2003", "is empty"),
    "a page": ("A" * 20_000, "has 20,000 characters"),
    "half a character": ("half an emoji \ud83d", r"holds half a character \(U\+D83D at position 14\)"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def student(folder):
    return load_clip(folder)


@pytest.fixture(scope="module")
def teacher(folder):
    return CLIPTeacher(folder)


def rows(texts):
    pictures = zip(images(len(texts)), texts, strict=True)
    return [{"image": image, "text": text, "__index__": i} for i, (image, text) in enumerate(pictures)]


@torch.no_grad()
def ids_of_model(model, call, *args, **kwargs):
    """Return the ids that reach a text tower during a call, a row for each text. Tell if a mask came too."""
    seen, original = [], model.get_text_features

    def record(input_ids, attention_mask=None):
        seen.append((input_ids, attention_mask is not None))
        return original(input_ids=input_ids, attention_mask=attention_mask)

    model.get_text_features = record
    try:
        call(*args, **kwargs)
    finally:
        del model.get_text_features
    return [row for ids, _ in seen for row in ids], {mask for _, mask in seen}


def full(ids, pad):
    """Pad ids to the full length: the padding behind a CLIP's text tells it nothing."""
    return [row.tolist() + [pad] * (LENGTH - len(row)) for row in ids]


def test_every_road_gives_the_same_ids(folder, student, teacher, tmp_path):
    (model, processor), texts = student, list(TEXTS.values())
    pad, masks, roads = processor.tokenizer.pad_token_id, {}, {}

    def road(name, ids):
        roads[name] = full(ids, pad)

    batch = CLIPDataCollator(processor, teacher.processor)(rows(texts))
    distilled = DistillationModel(copy.deepcopy(model), {"clip": 1.0}, None)
    inputs = {key: batch[key] for key in ("pixel_values", "input_ids", "attention_mask") if key in batch}
    ids, masks["training"] = ids_of_model(distilled.student, distilled.student_features, **inputs)
    road("training", ids)
    ids, masks["teacher"] = ids_of_model(teacher.model, teacher.of_batch, batch)
    road("teacher", ids)
    evaluation = CLIPDataCollator(processor, train=False)(rows(texts))
    road("evaluation loss", evaluation["input_ids"])
    road("cache", AugmentationCollator(teacher.processor)(rows(texts))["views"][0]["input_ids"])
    for name, embedder, its_processor in (("student", model, processor), ("teacher", teacher, teacher.processor)):
        zero_shot = ZeroShotClassificationEvaluator(
            Dataset.from_dict({"image": images(1), "label": [0]}), texts, templates=["{}"], batch_size=5
        )
        ids, masks[f"zero-shot of the {name}"] = ids_of_model(embedder, zero_shot.classifier, embedder, its_processor)
        road(f"zero-shot of the {name}", ids)
    retrieval = RetrievalEvaluator(Dataset.from_dict({"image": images(len(texts)), "text": texts}))
    road("retrieval", ids_of_model(model, retrieval.evaluate, model, processor)[0])
    as_on_disk = AutoProcessor.from_pretrained(folder)
    road("a processor that does not fit", ids_of_model(model, encode_texts, model, as_on_disk, texts, batch_size=5)[0])
    probe = make_probe(model, processor, images(1))._replace(texts=texts)
    road("export", ask_model(model, processor, probe).input_ids)
    processor.save_pretrained(tmp_path)
    stock = AutoProcessor.from_pretrained(tmp_path).tokenizer
    road("plain transformers", stock(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"])

    for name, ids in roads.items():
        assert ids == roads["training"], name
    assert len(set(map(tuple, roads["training"]))) > 8  # The texts differ.
    if model.config.model_type == "siglip":
        assert not any(True in found for found in masks.values())


def test_student_and_teacher_of_the_same_weights_embed_alike(student, teacher):
    (model, processor), texts = student, list(TEXTS.values())
    with torch.no_grad():
        embeds = encode_texts(model, processor, texts, batch_size=4)
        torch.testing.assert_close(embeds, encode_texts(teacher, teacher.processor, texts, batch_size=4))


def test_one_number_decides_how_long_a_text_may_be(student, teacher, tmp_path):
    model, processor = student
    processor.save_pretrained(tmp_path)
    assert processor.tokenizer.model_max_length == teacher.processor.context_length == LENGTH
    assert AutoProcessor.from_pretrained(tmp_path).tokenizer.model_max_length == LENGTH
    assert measure_cost(model, processor, batch_size=1, seconds=0)["context_length"] == LENGTH
    assert make_probe(model, processor, images(1)).input_ids.shape[1] == LENGTH


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_one_road_refuses_all_refuse(text, message, tmp_path_factory):
    folder = save_family("siglip", tmp_path_factory.mktemp("family"))
    model, processor = load_clip(folder)
    for train in (True, False):
        collator = CLIPDataCollator(processor, train=train)
        assert len(collator(rows(["a red circle", text]))["input_ids"]) == 1 and collator.broken.broken == 1
    assert AugmentationCollator(processor)(rows([text])) is None
    with pytest.raises(ValueError, match=f"Text 1 of 'texts' {message}"):
        encode_texts(model, processor, ["a red circle", text], batch_size=2)
    if text.isprintable() or text.isspace() or not text:  # Arrow holds no half characters.
        dataset = Dataset.from_dict({"image": images(2), "text": ["a red circle", text]})
        with pytest.raises(ValueError, match=f"Text 1 of 'retrieval: captions' {message}"):
            RetrievalEvaluator(dataset)


@pytest.fixture(scope="module")
def llava():
    model, processor = make_llava()
    processor.tokenizer.chat_template = processor.chat_template = (
        "{% for message in messages %}{% if message.role == 'assistant' %}{% generation %}assistant : "
        "{{ message.content }} <end>{% endgeneration %}{% else %}user : {% if message.content is string %}"
        "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %} <end> "
        "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
    )
    return model, processor


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_question_has_the_same_ids_in_vlm_training_and_in_vqa(llava, text, monkeypatch):
    model, processor = llava
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "red"}]
    trained = LlavaDataCollator(processor)([{"id": "1", "messages": turns, "images": []}])["input_ids"][0]
    asked = []
    monkeypatch.setattr(model, "generate", lambda input_ids, **_: asked.append(input_ids) or input_ids)
    generate_answers(model, processor, [Sample("1", None, text)])
    assert asked[0][0].tolist() == trained[: asked[0].shape[1]].tolist()


def test_half_a_character_is_refused_in_vlm_training_and_in_vqa(llava):
    model, processor = llava
    text, message = REFUSED["half a character"]
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "red"}]
    with pytest.raises(ValueError, match=f"The text of the sample '1' {message}"):
        LlavaDataCollator(processor)([{"id": "1", "messages": turns, "images": []}])
    with pytest.raises(ValueError, match=f"The prompt of question '1' {message}"):
        generate_answers(model, processor, [Sample("1", None, text)])
