"""Answers of models that nobody ran, as an evaluation writes them."""

import json

from hf_clip_kd.recipe_io.results import result_path


def write_run(
    folder, scores, *, images=None, bits=None, dataset="shapes", model="m", evaluation=None, questions=None, **about
):
    """
    Write a run's folder with one result and its samples.

    `images` and `bits` are lists, with an entry for each question. `questions` has more fields of each sample.
    `evaluation` are the options of the benchmark in the result, and `about` are further entries of it.
    """
    results = folder / "results"
    (results / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    record = {"dataset": dataset, "model": model, "task": "vqa_llava", "metrics": {"accuracy": 0.5}, "config": {}}
    if evaluation is not None:
        record["config"]["evaluation"] = evaluation
    record |= about
    path = result_path(results, dataset=dataset, model=model, task=record["task"])
    path.write_text(json.dumps(record))
    lines = [
        {
            "question_id": number,
            "prompt": "red?",
            "score": None if score is None else float(score),
            "bits": None if bits is None else bits[number],
            "image": None if images is None else str(images[number]),
        }
        | ({} if questions is None else questions[number])
        for number, score in enumerate(scores)
    ]
    (results / "samples" / f"{path.stem}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder
