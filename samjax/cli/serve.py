"""`samjax serve`: a page to click on scans, and the interactive protocol for 3D Slicer, napari and MITK.

Exit code 0: stopped by Ctrl-C or SIGTERM; 2: it cannot start.
"""

from samjax.cli.process import use_compilation_cache
from samjax.errors import UserError
from samjax.options import ServeOptions


def main(options: ServeOptions) -> None:
    """Serves until it is stopped.

    Raises:
        UserError: the packages that it needs are missing, or it cannot start.
    """
    try:
        from samjax.serve.server import serve
    except ImportError as error:
        raise UserError(f"samjax serve needs {error.name}, which is missing: pip install 'samjax[serve]'") from None
    use_compilation_cache(options.cache_dir, shortest=0.0)
    serve(options)
