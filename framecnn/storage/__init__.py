"""Writing of users' files: atomic writes, locks, outputs that are replaced together, the container of models."""

__all__: list[str] = []
