"""Conversion to and from other libraries, which are imported only when a function needs them."""

__all__: list[str] = []
