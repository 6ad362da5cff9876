"""Picture, answer and score of one row of the task `shapes_vqa`, as lmms-eval asks for them."""

from hf_clip_kd.data import decode_image


def doc_to_visual(doc):
    return [decode_image(doc["image"])]


def doc_to_target(doc):
    return doc["answers"][0]


def process_results(doc, results):
    """Return the metric of the YAML, for one row."""
    answer = results[0].strip().rstrip(".").lower()
    return {"accuracy": float(answer in doc["answers"])}
