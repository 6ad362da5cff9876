"""The arguments by which recipes name images with captions."""

from dataclasses import dataclass, field

from .image_text import load_image_text
from .sources import Data


@dataclass(kw_only=True)
class ImageTextArguments:
    # Every field is documented once, in `help`.
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
            "help": "Several sources instead of one: for each the arguments of its data (`dataset_name`, `data_dir`, "
            "`data_files`, `split`, `streaming`, the columns, ...) and, for training, a `weight`, its share among the "
            "samples, and needs `max_steps`."
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
            "help": "Column of generated captions, for `mobileclip` and other losses that learn from them as well."
        },
    )
    label_template: str = field(
        default="a photo of a {}.", metadata={"help": "Caption of a class, when `text_column` holds class labels."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Read only the first so many images."})
    streaming: bool = field(default=False, metadata={"help": "Read the data on the way, without a local copy."})

    def load_sources(self) -> list[Data]:
        """Each source with columns `image` and `text`, in the order of `datasets`; one where that is not given."""
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
