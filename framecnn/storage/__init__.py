"""Files that are whole or not there: atomic writes, sets of outputs that change together, the container of models."""

__all__: list[str] = []
