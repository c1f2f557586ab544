"""The web application: the page, its routes, and the guard in front of them."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from samjax.serve.api import BODY_LIMIT, Page, routes
from samjax.serve.guards import Guard
from samjax.serve.nninteractive.routes import Desk, body_limit, open_desk, protocol_routes
from samjax.version import __version__

PAGE = Path(__file__).with_name("page")
"""The built page, see web/README.md."""


def make_app(page: Page, hosts: frozenset[str] | None, token: str | None = None, desk: Desk | None = None) -> Starlette:
    """The application.

    Args:
        page: the cases, and what the page tells of the model.
        hosts: the names under which it may be asked; None: any, for which there must be a token.
        token: what requests must know; None: nothing.
        desk: what clients of nnInteractive's protocol share; None: one of the page's cases.
    """
    return Starlette(
        routes=[
            Route("/", _index),
            Route("/healthz", _health),
            *routes(page),
            *protocol_routes(desk or open_desk(page.library)),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        exception_handlers={HTTPException: _problem, Exception: _failure},
        middleware=[Middleware(Guard, hosts=hosts, token=token, body_limit=_body_limit)],
    )


def _body_limit(path: str) -> int:
    limit = body_limit(path)
    return BODY_LIMIT if limit is None else limit


async def _problem(request: Request, error: HTTPException) -> Response:
    """What Starlette itself refuses, such as an unknown path, in the form of all other refusals."""
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _failure(request: Request, error: Exception) -> Response:
    """What nobody expected, such as too little memory, in the same form; the server prints all of it."""
    return JSONResponse({"detail": f"the server failed ({type(error).__name__}); what it printed says why"}, 500)


async def _index(request: Request) -> Response:
    return FileResponse(PAGE / "index.html")


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok", "service": "samjax", "version": __version__})
