"""InfographicVQA: questions about infographics."""

from __future__ import annotations

from pathlib import Path

from hf_clip_kd.evaluation.vqa.benchmarks.anls import judge_anls
from hf_clip_kd.evaluation.vqa.benchmarks.base import Benchmark
from hf_clip_kd.evaluation.vqa.benchmarks.documents import read_documents, write_documents
from hf_clip_kd.evaluation.vqa.files import Sample
from hf_clip_kd.evaluation.vqa.metric import VQAMetric


class InfoVQA(VQAMetric):
    """
    ANLS ([InfographicVQA](https://huggingface.co/papers/2104.12756)), overall and by type of answer, see [`anls`].

    The protocols llava and lmms_eval ask and score alike, as the challenge's script does.
    """

    benchmark = "infovqa"
    reference_fields = ("answers", "category")
    main_metric = "anls"

    def judge(self, predictions, references, protocol, seed):
        return judge_anls(predictions, references)


def read_infovqa(questions: str | Path, image_folder: str | Path | None = None) -> list[Sample]:
    """
    Read InfographicVQA's `infographicsVQA_val_v1.0_withQT.json`, or its parquet files.

    Args:
        questions (`str` or `Path`):
            `{"data": [{"questionId", "question", "answers", "image_local_name", "answer_type"}]}`, or parquet files,
            see [`read_documents`].
        image_folder (`str` or `Path`, *optional*):
            Folder with the images. Those of parquet files are written there.

    Returns:
        `list[Sample]` in the order of the file. The category is the types of the answer, such as `single span`.

    Raises:
        ValueError: if a file, a field or the first image is missing.
    """
    call = "read_infovqa('infographicsVQA_val_v1.0_withQT.json', 'infographicsvqa_images')"
    return read_documents(questions, image_folder, image_field="image_local_name", type_field="answer_type", call=call)


BENCHMARK = Benchmark(
    "infovqa",
    title="InfographicVQA",
    measures="infographics",
    paper="https://huggingface.co/papers/2104.12756",
    files="questions JSON and images, or parquet files",
    protocol="ANLS",
    computed_by="the challenge's server, lmms-eval, VLMEvalKit",
    read=read_infovqa,
    metric=InfoVQA,
    write=write_documents,
    any_case=True,
)
