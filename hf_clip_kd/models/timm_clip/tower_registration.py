"""Registration of an image tower with the Auto classes, from which the stock LLaVA builds it."""

from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


def register_tower(config_class: type, model_class: type) -> None:
    """
    Register a tower by the type of its configuration.

    Classes that the package has registered stay. Classes of another folder are replaced, because each folder must be
    read by its own code.
    """
    name = config_class.model_type
    known = CONFIG_MAPPING[name] if name in CONFIG_MAPPING else None
    if known is None or known.__module__.startswith("transformers_modules."):
        AutoConfig.register(name, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)


__all__ = ["register_tower"]
