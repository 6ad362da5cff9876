"""Loss with a frozen reader, for plans of studies: it is never computed."""

from hf_clip_kd.losses import DistillationLoss
from hf_clip_kd.losses.features import FeatureRequest


class ReadingLoss(DistillationLoss):
    """Loss that reads the teacher's tokens with readers."""

    def __init__(self, student, teacher, *, reader=None, top_k=None):
        super().__init__(student, teacher)

    @classmethod
    def request(cls, *, reader=None, top_k=None):
        return FeatureRequest(layer=-2, teacher_layer=-2)
