"""Answers of models that nobody ran, as an evaluation writes them."""

import json


def write_run(folder, scores, *, images=None, bits=None, dataset="shapes"):
    """A run's folder with one result and its samples; `images` and `bits` are lists, one entry for each question."""
    results = folder / "results"
    (results / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    record = {"dataset": dataset, "model": "m", "task": "vqa_llava", "metrics": {"accuracy": 0.5}, "config": {}}
    (results / f"{dataset}_m_vqa_llava.json").write_text(json.dumps(record))
    lines = [
        {
            "question_id": number,
            "prompt": "red?",
            "score": score,
            "bits": None if bits is None else bits[number],
            "image": None if images is None else str(images[number]),
        }
        for number, score in enumerate(map(float, scores))
    ]
    path = results / "samples" / f"{dataset}_m_vqa_llava.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder
