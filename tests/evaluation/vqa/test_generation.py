"""Generated answers: the same in any batch, greedy whatever the model's config, and bad images by name."""

from types import SimpleNamespace

import pytest
import torch
from tiny_llava import make_llava

from hf_clip_kd.data import load_shapes
from hf_clip_kd.evaluation.vqa import READERS, Sample, generate_answers

LENGTH = 6


@pytest.fixture(scope="module", params=["clip", "timm"])
def llava(request):
    return make_llava(request.param)


@pytest.fixture(scope="module")
def samples():
    """Pictures and prompts of five lengths, and one question without a picture in the midst."""
    found = READERS["shapes"](load_shapes("test", size=15, vqa=True))
    longer = Sample(
        "long", found[3].image, "is the shape at the top left blue or is the shape at the top right blue ?"
    )
    return [*found[:7], Sample("blind", None, "what color is the circle ?"), *found[7:], longer]


def one_by_one(model, processor, samples):
    """Each prompt alone and without padding, by the library's shortest way."""
    answers = []
    for sample in samples:
        text = "user : " + "<image>\n" * (sample.image is not None) + sample.prompt + " <end> assistant :"
        inputs = processor(text=text, images=sample.image, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=LENGTH, do_sample=False)
        answers.append(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def test_answers_do_not_depend_on_the_batch_size(llava, samples):
    expected = one_by_one(*llava, samples)
    assert len(set(expected)) > 8, "the answers must differ, or this test could not fail"
    for batch_size in (1, 3, 8):
        assert generate_answers(*llava, samples, batch_size=batch_size, max_new_tokens=LENGTH) == expected


def test_answers_depend_on_the_picture(llava, samples):
    other = [Sample(s.question_id, samples[0].image, s.prompt) for s in samples if s.image is not None]
    same = [s for s in samples if s.image is not None]
    options = {"max_new_tokens": LENGTH}
    assert generate_answers(*llava, other, **options) != generate_answers(*llava, same, **options)


def test_greedy_whatever_the_generation_config_says(samples):
    model, processor = make_llava("timm")
    expected = generate_answers(model, processor, samples, max_new_tokens=LENGTH)
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, num_beams=3)
    model.generation_config.update(no_repeat_ngram_size=1, top_k=3)
    assert generate_answers(model, processor, samples, max_new_tokens=LENGTH) == expected


def test_an_answer_ends_at_any_end_token(samples, monkeypatch):
    model, processor = make_llava("timm")
    (answer,) = generate_answers(model, processor, samples[:1], max_new_tokens=LENGTH)
    words = answer.split()
    second = next(i for i, word in enumerate(words) if i and word != words[0])
    model.generation_config.eos_token_id = [processor.tokenizer.convert_tokens_to_ids(words[second])]
    lengths = []
    generate = model.generate

    def spy(**inputs):
        output = generate(**inputs)
        lengths.append(output.shape[1] - inputs["input_ids"].shape[1])
        return output

    monkeypatch.setattr(model, "generate", spy)
    (shorter,) = generate_answers(model, processor, samples[:1], max_new_tokens=1000)
    assert shorter.split()[:second] == words[:second] and lengths == [second + 1]
    # The tokenizer's own end token is still one, though the model's config does not name it.
    model.generation_config.eos_token_id = None
    processor.tokenizer.eos_token = words[second]
    assert generate_answers(model, processor, samples[:1], max_new_tokens=1000) == [shorter]


def test_modes_come_back(samples):
    model, processor = make_llava("timm")
    model.train()
    model.model.vision_tower.eval()
    seen = []
    model.register_forward_pre_hook(lambda module, args: seen.append((module.training, torch.is_grad_enabled())))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    generate_answers(model, processor, samples[:2], max_new_tokens=2)
    assert set(seen) == {(False, False)}
    assert model.training and model.model.language_model.training and not model.model.vision_tower.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_a_file_is_the_picture_in_it(llava, samples, tmp_path):
    samples[0].image.save(tmp_path / "a.png")
    from_file = Sample(0, str(tmp_path / "a.png"), samples[0].prompt)
    options = {"max_new_tokens": LENGTH}
    assert generate_answers(*llava, [from_file], **options) == generate_answers(*llava, samples[:1], **options)


def test_bad_samples(llava, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name in ("broken.png", "missing.png"):
        with pytest.raises(ValueError, match=rf"(?s){name} of question 'q7' cannot be read.*Fetch the file again"):
            generate_answers(*llava, [Sample("q7", str(tmp_path / name), "what ?")])
    with pytest.raises(ValueError, match="question 'q8' holds the image token '<image>'.*Delete it"):
        generate_answers(*llava, [Sample("q8", None, "<image>\nwhat ?")])


def test_a_process_answers_all_of_its_own_questions(samples, monkeypatch):
    """lmms-eval shares the documents itself."""
    llava = make_llava("timm")
    expected = generate_answers(*llava, samples[:3], max_new_tokens=2)
    state = SimpleNamespace(process_index=1, num_processes=2)
    monkeypatch.setattr("hf_clip_kd.evaluation.vqa.generation.process_state", lambda: state)
    assert generate_answers(*llava, samples[:3], max_new_tokens=2, shared=False) == expected
    assert generate_answers(*llava, samples[:3], max_new_tokens=2).count("") == 2


def test_nothing_to_answer(llava):
    assert generate_answers(*llava, []) == []
