"""DocVQA: questions about scanned documents."""

from __future__ import annotations

from pathlib import Path

from hf_clip_kd.evaluation.vqa.benchmarks.anls import judge_anls
from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.documents import read_documents, write_documents
from hf_clip_kd.evaluation.vqa.files import Sample
from hf_clip_kd.evaluation.vqa.metric import VQAMetric


class DocVQA(VQAMetric):
    """
    ANLS ([DocVQA](https://huggingface.co/papers/2007.00398)), overall and by type of question, see [`anls`].

    The protocols llava and lmms_eval ask and score alike, as the challenge's script does.
    """

    benchmark = "docvqa"
    reference_fields = ("answers", "category")
    main_metric = "anls"

    def judge(self, predictions, references, protocol, seed):
        return judge_anls(predictions, references)


def read_docvqa(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read DocVQA's `val_v1.0_withQT.json`, or its parquet files.

    Args:
        questions (`str` or `Path`):
            `{"data": [{"questionId", "question", "answers", "image", "question_types"}]}`, or parquet files, see
            [`read_documents`].
        image_folder (`str` or `Path`, *optional*):
            Folder in which `documents` stands. Images of parquet files are written there.

    Returns:
        `list[Sample]` in the order of the file. The category is the types of the question, such as `form` or `layout`.

    Raises:
        ValueError: if a file, a field or the first image is missing.
    """
    call = "read_docvqa('val_v1.0_withQT.json', 'val')"
    return read_documents(questions, image_folder, image_field="image", type_field="question_types", call=call)


BENCHMARK = Benchmark(
    "docvqa",
    title="DocVQA",
    measures="scanned documents",
    paper="https://huggingface.co/papers/2007.00398",
    files="questions JSON and images, or parquet files",
    protocol="ANLS",
    computed_by="the challenge's server, lmms-eval, VLMEvalKit",
    read=read_docvqa,
    metric=DocVQA,
    write=write_documents,
    any_case=True,
)
