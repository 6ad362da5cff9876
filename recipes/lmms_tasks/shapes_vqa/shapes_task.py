"""Picture, answer and score of one row of the task `shapes_vqa`, as lmms-eval asks for them."""


def doc_to_visual(doc):
    return [doc["image"].convert("RGB")]


def doc_to_target(doc):
    return doc["answers"][0]


def process_results(doc, results):
    """Return the metric of the YAML, for one row."""
    answer = results[0].strip().rstrip(".").lower()
    return {"accuracy": float(answer in doc["answers"])}
