"""A loss whose value on any rows is the mean of its values on each."""

from torch.nn.functional import cosine_similarity

from hf_clip_kd.losses.base import DistillationLoss


class RowMean(DistillationLoss):
    """Mean distance of the two embeddings of a pair; no batch matters."""

    needs_teacher = False

    def compute(self, student, teacher):
        return (1 - cosine_similarity(student.image_embeds, student.text_embeds)).mean()
