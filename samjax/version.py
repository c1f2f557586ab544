"""The version of samjax, for whatever writes it down; the package's own `__init__` offers it as `__version__`."""

__version__ = "0.1.0"
