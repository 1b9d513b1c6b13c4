"""Doors to other libraries, each in a module of its own that imports them only when it is used."""

__all__: list[str] = []
