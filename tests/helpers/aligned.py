"""Weights of a loaded model at the addresses that torch gives its own."""


def aligned(model):
    """Return a loaded model after a copy of its weights.

    Weights of a file lie where the file has them. Some CPUs add in another order there, so sums differ by rounding.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model
