"""Files of users: atomic writes, locks, sets of outputs that change together, the container of models."""

__all__: list[str] = []
