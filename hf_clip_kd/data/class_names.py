"""Names of classes as words, for captions in training and for prompts in tests."""


def readable(name: str) -> str:
    """Return the name of a class as words: `hot_dog`, the name of a folder, becomes `hot dog`."""
    return name.replace("_", " ")
