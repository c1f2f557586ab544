"""The version of samjax, in a module without imports; the package's `__init__` offers it as `__version__`."""

__version__ = "0.1.0"
