"""The adapter itself; only lmms-eval imports it."""

from __future__ import annotations

from itertools import groupby

import torch
from accelerate import Accelerator
from lmms_eval.api.model import lmms
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_clip_kd.evaluation.vqa import Sample, generate_answers
from hf_clip_kd.models.completeness import SCORE_RULE, load_complete


class ImageTextToText(lmms):
    """
    Any image-text-to-text model, asked as [`VQAEvaluator`] asks it: greedily, in batches, with the processor's own
    chat template. A failed generation ends the run. lmms-eval's `llava_hf` would score an empty answer.

    Args:
        pretrained (`str`): Folder or Hub id.
        batch_size (`int`, *optional*, defaults to 8): Questions per call of `generate`.
        device (`str`, *optional*): Accelerate's choice by default.
        dtype (`str`, *optional*, defaults to `"auto"`): Type of the weights.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether model code from the Hub may run.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 8,
        device: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ):
        super().__init__()
        self.accelerator = Accelerator()
        several = self.accelerator.num_processes > 1
        self.device = self.accelerator.device if several or device is None else torch.device(device)
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.batch_size = int(batch_size)
        self.processor = AutoProcessor.from_pretrained(pretrained, trust_remote_code=trust_remote_code)
        model = load_complete(
            AutoModelForImageTextToText,
            pretrained,
            SCORE_RULE,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            trust_remote_code=trust_remote_code,
        )
        self.model = model.to(self.device)

    def generate_until(self, requests) -> list[str]:
        """
        One answer for each request, in their order.

        Raises:
            ValueError: if a task wants to sample, or a question has several images.
        """
        answers = []
        # The requests of one task share their generation arguments.
        for task, group in groupby(requests, key=lambda request: request.args[4]):
            group = list(group)
            options = group[0].args[1]
            if options.get("do_sample") or (options.get("temperature") or 0) > 0 or options.get("num_beams", 1) > 1:
                raise ValueError(
                    f"The task {task!r} asks for sampling or beams: {options}. This adapter answers greedily. Set "
                    "`--gen_kwargs temperature=0,do_sample=False,num_beams=1`."
                )
            length = {"max_new_tokens": options["max_new_tokens"]} if "max_new_tokens" in options else {}
            samples = [self._sample(request) for request in group]
            # lmms-eval gives each process documents of its own.
            answers += generate_answers(
                self.model,
                self.processor,
                samples,
                batch_size=self.batch_size,
                shared=False,
                description=task,
                **length,
            )
        return answers

    def _sample(self, request) -> Sample:
        context, _, doc_to_visual, doc_id, task, split = request.args
        images = doc_to_visual(self.task_dict[task][split][doc_id]) or []
        if len(images) > 1:
            raise ValueError(
                f"Document {doc_id} of the task {task!r} has {len(images)} images. This adapter shows one, in front "
                "of the question. Use lmms-eval's `--model llava_hf --batch_size 1`, which loads the same folders."
            )
        # Some tasks write the image's place themselves; the chat template does it here.
        prompt = context.replace(getattr(self.processor, "image_token", ""), "").strip()
        return Sample(f"{task}/{doc_id}", images[0] if images else None, prompt)

    def loglikelihood(self, requests):
        """Not offered: benchmarks of free answers do not ask for it."""
        raise NotImplementedError("hf_clip_kd answers questions and scores no given answers; use `--model llava_hf`.")

    def generate_until_multi_round(self, requests):
        """Not offered: a question is asked once."""
        raise NotImplementedError(
            "hf_clip_kd answers once and holds no conversations; use another model of lmms-eval."
        )
