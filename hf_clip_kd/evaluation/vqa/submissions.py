"""Files of answers, in the forms of LLaVA's scripts and of the benchmarks' own scorers and servers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from .gqa import normalize_gqa
from .mmmu_parsing import read_choice
from .normalize import normalize_m4c
from .readers_yes_no import ASK_YES_NO
from .samples import SHORT_ANSWER, Sample, Source


def write_answers(
    path: str | Path, samples: Sequence[Sample], answers: Sequence[str], model_id: str, metadata: dict | None = None
) -> None:
    """
    LLaVA's answers jsonl, for any benchmark: lines `{"question_id", "prompt", "text", "answer_id", "model_id",
    "metadata"}`.
    """
    rows = []
    for sample, answer in _pairs(samples, answers):
        seed = f"{model_id}\n{sample.question_id}\n{sample.prompt}\n{answer}"
        rows.append(
            {
                "question_id": sample.question_id,
                "prompt": sample.prompt,
                "text": answer,
                "answer_id": hashlib.sha256(seed.encode()).hexdigest()[:22],
                "model_id": model_id,
                "metadata": metadata or {},
            }
        )
    _write_lines(path, rows)


def read_answers(path: str | Path, samples: Sequence[Sample]) -> list[str]:
    """
    The answer to each of `samples` from LLaVA's answers jsonl, found by `question_id` and `prompt`.

    Raises:
        ValueError: if a sample has no answer in the file.
    """
    source = Source(
        path, "It must hold an answer to every sample, to the same prompt.", "read_answers('answers.jsonl', samples)"
    )
    texts = {}
    for i, row in enumerate(source.jsonl(), start=1):
        key, prompt, text = source.fields(row, f"answer {i}", "question_id", "prompt", "text")
        texts[str(key), prompt] = text
    missing = [sample for sample in samples if (str(sample.question_id), sample.prompt) not in texts]
    if missing:
        raise source.error(
            f"{len(missing)} of {len(samples)} samples have no answer, the first is {missing[0].question_id!r} "
            f"with the prompt {missing[0].prompt!r}"
        )
    return [texts[str(sample.question_id), sample.prompt] for sample in samples]


def write_vqav2(
    path: str | Path, samples: Sequence[Sample], answers: Sequence[str], all_ids: Sequence | None = None
) -> None:
    """
    `[{"question_id", "answer"}]` for the VQAv2 server, answers through [`normalize_m4c`]. The server wants every id of
    the split: `all_ids` lists them, and those that are not among `samples` get an empty answer.
    """
    texts = {sample.question_id: normalize_m4c(answer) for sample, answer in _pairs(samples, answers)}
    ids = list(texts) if all_ids is None else all_ids
    _write_json(path, [{"question_id": key, "answer": texts.get(key, "")} for key in ids])


def write_vizwiz(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """`[{"image", "answer"}]` for the VizWiz server, answers through [`normalize_m4c`]."""
    rows = [
        {"image": Path(sample.image).name, "answer": normalize_m4c(answer)}
        for sample, answer in _pairs(samples, answers)
    ]
    _write_json(path, rows)


def write_gqa(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """`[{"questionId", "prediction"}]` for GQA's `eval.py`, in lower case and without a period at the end."""
    rows = [
        {"questionId": sample.question_id, "prediction": normalize_gqa(answer)}
        for sample, answer in _pairs(samples, answers)
    ]
    _write_json(path, rows)


def write_mmmu(path: str | Path, samples: Sequence[Sample], answers: Sequence[str], seed: int = 0) -> None:
    """`{id: answer}` for MMMU's `main_eval_only.py`: the letter that [`MMMU`] reads with the same seed, or the text."""
    content = {}
    for position, (sample, answer) in enumerate(_pairs(samples, answers)):
        if sample.choices:
            answer = read_choice(answer.strip(), sample.choices, random.Random(f"{seed}/{position}"))
        content[sample.question_id] = answer
    _write_json(path, content)


def write_mmvet(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """`{"v1_0": text}` for MM-Vet's judge."""
    ids = [str(sample.question_id) for sample in samples]
    ids = [key if key.startswith("v1_") else f"v1_{key}" for key in ids]
    _write_json(path, {key: answer for key, (_, answer) in zip(ids, _pairs(samples, answers), strict=True)})


def write_seedbench(path: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """Lines `{"question_id", "prediction"}` for SEED-Bench's leaderboard."""
    rows = [{"question_id": sample.question_id, "prediction": answer} for sample, answer in _pairs(samples, answers)]
    _write_lines(path, rows)


def write_mme(folder: str | Path, samples: Sequence[Sample], answers: Sequence[str]) -> None:
    """
    `SUBTASK.txt` for MME's `calculation.py`, lines `file, question, truth, answer` between tabs. That script takes
    every two lines for one image, and so they stand in the order of [`read_mme`].
    """
    lines: dict[str, list[str]] = {}
    for sample, answer in _pairs(samples, answers):
        question = sample.prompt.removesuffix(SHORT_ANSWER) + ASK_YES_NO
        row = [f"{Path(sample.image).stem}.txt", question, *sample.answers[:1], " ".join(answer.split())]
        lines.setdefault(sample.category, []).append("\t".join(row))
    for category, rows in lines.items():
        _write(Path(folder) / f"{category}.txt", "\n".join(rows) + "\n")


def _pairs(samples: Sequence[Sample], answers: Sequence[str]) -> list[tuple[Sample, str]]:
    if len(samples) != len(answers):
        raise ValueError(
            f"There are {len(answers)} answers to {len(samples)} samples. Each sample needs one, in the same order. "
            "Answers from a file come so from `read_answers(path, samples)`."
        )
    return list(zip(samples, answers, strict=True))


def _write(path: str | Path, text: str) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_json(path: str | Path, content) -> None:
    _write(path, json.dumps(content, indent=1) + "\n")


def _write_lines(path: str | Path, rows: list[dict]) -> None:
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))
