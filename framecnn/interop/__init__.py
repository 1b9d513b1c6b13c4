"""Conversion from and to other libraries, which are imported when a function that needs them is called."""

__all__: list[str] = []
