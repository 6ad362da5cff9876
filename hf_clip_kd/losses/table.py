"""Table of losses: the name in a recipe, which is also the name of the file, and the class."""

from .afd import AFDLoss
from .affinity import AffinityLoss
from .base import DistillationLoss
from .caption import CaptionLoss
from .cka import CKALoss
from .clip import CLIPLoss
from .crd import CRDLoss
from .cross_kd import CrossKDLoss
from .fd import FDLoss
from .gd import GDLoss
from .icl import ICLLoss
from .inter_image import InterImageLoss
from .mfd import MFDLoss
from .patch import PatchLoss
from .patch_text import PatchTextLoss
from .reader import ReaderLoss
from .reinforced import ReinforcedLoss
from .relation import RelationLoss
from .siglip import SigLIPLoss
from .siglip_kd import SigLIPKDLoss

LOSSES: dict[str, type[DistillationLoss]] = {
    "clip": CLIPLoss,
    "siglip": SigLIPLoss,
    "crd": CRDLoss,
    "fd": FDLoss,
    "mfd": MFDLoss,
    "gd": GDLoss,
    "icl": ICLLoss,
    "afd": AFDLoss,
    "cross_kd": CrossKDLoss,
    "affinity": AffinityLoss,
    "reinforced": ReinforcedLoss,
    "siglip_kd": SigLIPKDLoss,
    "relation": RelationLoss,
    "inter_image": InterImageLoss,
    "patch": PatchLoss,
    "patch_text": PatchTextLoss,
    "reader": ReaderLoss,
    "caption": CaptionLoss,
    "cka": CKALoss,
}
