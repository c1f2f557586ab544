"""Starts the server: finds cases and model, listens, and prints where."""

import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlencode

import uvicorn

from samjax.data.cases import Case
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.inference.inputs import find_inputs, schemes_of
from samjax.inference.loading import model_of_run, model_of_weights
from samjax.limits import check_numbers
from samjax.options import ServeOptions
from samjax.runs.folder import GLIOMA, find_model
from samjax.serve.api import Page
from samjax.serve.app import make_app
from samjax.serve.engine import Engine
from samjax.serve.guards import LOOPBACK
from samjax.serve.library import Library

WARNING = f"{GLIOMA} was trained on generated scans alone; its enhancing tumour is not to be relied on"
EXAMPLE_SEED = 1527
"""Seed of the generated scan that is shown without --input; no model that comes with samjax was trained on it."""
EXAMPLE_GRID = PhantomOptions((160, 160, 48))
"""Its grid: 1.2 x 1.2 x 3 mm."""
_ANY = ("0.0.0.0", "::", "")
_CONNECTIONS = 200
"""Connections at a time; a page has up to six."""
_GRACE = 10
"""Seconds that open requests have to end; what takes long is stopped."""


def serve(options: ServeOptions) -> None:
    """Serves until it is stopped.

    Raises:
        UserError: model, cases, output or address cannot be used.
    """
    check_numbers(options)
    options = replace(options, token=options.token or os.environ.get("SAMJAX_TOKEN") or None)
    hosts = allowed_hosts(options.host, options.token)
    with _listening(options.host, options.port) as listener:
        cases, left_out = _cases(options)
        for reason in left_out:
            print(f"left out: {reason}", file=sys.stderr)
        with closing(_engine(options)) as engine:
            # Base weights have no scheme of their own.
            schemes = schemes_of(cases, engine.run) if engine.run else {case.id: case.scheme for case in cases}
            library = Library(engine, cases, schemes, options.output)
            with closing(library), suppress(KeyboardInterrupt):
                _run(options, library, hosts, listener)


def _run(options: ServeOptions, library: Library, hosts: frozenset[str] | None, listener: socket.socket) -> None:
    """Answers until Ctrl-C or SIGTERM, which come as KeyboardInterrupt once all requests have ended."""
    model, count = library.engine.model.name, len(library.cases)
    warning = WARNING if model == GLIOMA else None
    address = _address(options.host, listener.getsockname()[1])
    cases = "1 case" if count == 1 else f"{count} cases"
    print(f"samjax serve: {address} (model {model}, {cases}, saves in {options.output}); stop with Ctrl-C", flush=True)
    if warning:
        print(f"model: {warning}", file=sys.stderr, flush=True)
    if options.browser:
        page = address + (f"/?{urlencode({'token': options.token})}" if options.token else "/")
        # Beside the server, since browsers of a terminal do not return before they are closed.
        threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
    app = make_app(Page(library, warning), hosts, options.token)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=_CONNECTIONS,
        server_header=False,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _Server(config, library).run([listener])


class _Server(uvicorn.Server):
    """A server that stops what is running as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, library: Library):
        super().__init__(config)
        self._library = library

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._library.end()
        super().handle_exit(sig, frame)


def allowed_hosts(host: str, token: str | None) -> frozenset[str] | None:
    """The names under which a server that listens on `host` may be asked; None: any.

    Raises:
        UserError: others than this machine could ask, and there is no token.
    """
    if token is not None and (not token.isascii() or not token.isprintable() or not token.strip()):
        raise UserError("--token: expected ASCII letters, digits and signs")
    if host in LOOPBACK:
        return frozenset(LOOPBACK)
    if token is None:
        raise UserError(
            f"--host {host}: others could read and change the scans; give --token a secret, or listen on 127.0.0.1"
        )
    return None if host in _ANY else frozenset({host, *LOOPBACK})


def _address(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in _ANY else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({getattr(error, 'strerror', None) or error}); name "
            "another --port"
        ) from None
    with listener:
        yield listener


def _engine(options: ServeOptions) -> Engine:
    if options.run is None and options.weights is not None:
        return Engine(model_of_weights(options.weights, "whole-tumor", "flair,t1gd,t2"), warm=True)
    run = find_model(options.run or Path(GLIOMA))
    return Engine(model_of_run(run, options.weights), run, warm=True)


def _cases(options: ServeOptions) -> tuple[list[Case], list[str]]:
    if options.input:
        return find_inputs(options.input, options.layout, options.labels)
    folder = options.cache_dir.expanduser() / "example"
    write_cohort(folder, "adult", 1, EXAMPLE_SEED, EXAMPLE_GRID)
    return find_inputs([folder], None, options.labels)
