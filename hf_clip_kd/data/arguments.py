"""Arguments of recipes for images with captions, and for random crops of the images."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .reading.parts import Data
    from .stream import Stream


@dataclass(kw_only=True)
class ImageTextArguments:
    """Arguments that name the images and captions to read."""

    dataset_name: str = field(
        default="imagefolder",
        metadata={"help": "A Hub id, `imagefolder`, `webdataset`, a CSV, Parquet or tar file, or `shapes`."},
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the data, for `imagefolder`."})
    data_files: str | None = field(
        default=None, metadata={"help": "Files of the data, with `*` and `{00000..00331}`."}
    )
    datasets: list[dict] | None = field(
        default=None,
        metadata={
            "help": "Several sources in place of one. Each has the arguments of its data (`dataset_name`, `data_dir`, "
            "`data_files`, `split`, `streaming`, the columns, ...). For training, a `weight` is the share of the "
            "source among the samples. Training on several sources needs `max_steps`."
        },
    )
    split: str = field(default="train", metadata={"help": "The split to read, as in `datasets`."})
    image_column: str = field(default="image", metadata={"help": "Column of the images, or of paths to them."})
    text_column: str = field(
        default="text", metadata={"help": "Column of the captions, a string or several, or of class labels."}
    )
    synthetic_text_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of generated captions, for `mobileclip` and other losses that also learn from them."
        },
    )
    label_template: str = field(
        default="a photo of a {}.", metadata={"help": "Caption of a class, if `text_column` holds class labels."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Number of images to read, the first ones."})
    streaming: bool = field(default=False, metadata={"help": "Read the data during training, without a local copy."})

    def load_sources(self) -> "list[Data]":
        """Load each source with columns `image` and `text`, in the order of `datasets`, or the only source."""
        from .image_text import load_image_text  # `datasets` takes long to import, and `--help` needs it not

        if self.datasets is not None:
            sources = [{key: value for key, value in source.items() if key != "weight"} for source in self.datasets]
            return [load_image_text(**source) for source in sources]
        return [
            load_image_text(
                self.dataset_name,
                data_dir=self.data_dir,
                data_files=self.data_files,
                split=self.split,
                image_column=self.image_column,
                text_column=self.text_column,
                synthetic_text_column=self.synthetic_text_column,
                label_template=self.label_template,
                max_samples=self.max_train_samples,
                streaming=self.streaming,
            )
        ]

    def load_rows(self, seed: int) -> "Data | Stream":
        """Load the rows of a training: a data set to shuffle, or an endless stream of one or several sources."""
        from .stream import Stream

        sources = self.load_sources()
        if self.datasets is not None:
            return Stream(sources, weights=[source.get("weight", 1.0) for source in self.datasets], seed=seed)
        return Stream(sources[0], seed=seed) if self.streaming else sources[0]


@dataclass(kw_only=True)
class RandomCropArguments:
    """Arguments of the random crops and colour changes of images."""

    crop_scale: list[float] = field(
        default_factory=lambda: [0.9, 1.0], metadata={"help": "Smallest and largest share of the area a crop keeps."}
    )
    flip: float = field(default=0.0, metadata={"help": "Probability of a mirrored image."})
    color_jitter: list[float] | None = field(
        default=None,
        metadata={
            "help": "Largest change of brightness, contrast, saturation and hue, for example "
            "`[0.32, 0.32, 0.32, 0.08]`. The default changes no colour."
        },
    )
    color_jitter_prob: float = field(
        default=0.8, metadata={"help": "Probability that an image changes by `color_jitter`."}
    )
    gray_scale_prob: float = field(default=0.0, metadata={"help": "Probability that an image loses its colours."})

    @property
    def crop(self) -> dict:
        """Arguments of a [`~hf_clip_kd.data.transforms.random_crop.RandomCrop`]."""
        return {field.name: getattr(self, field.name) for field in fields(RandomCropArguments)}
