"""The routes of nnInteractive's protocol; /healthz is the server's own.

Metadata of a binary body is JSON in the header X-Meta, the session's token is in X-Lease-Token. Errors are
{"detail": ...}: 400 a body that no client sends, 410 a session that has ended, 503 what cannot be answered. The last
is no matter of capacity alone, but of 400 the clients show the number only, and of 503 they show the words.
"""

import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from anyio import fail_after
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from samjax.errors import UserError
from samjax.files import parse_json
from samjax.inference.model import SegmentationModel
from samjax.runs.folder import GLIOMA
from samjax.serve.library import Library
from samjax.serve.nninteractive.leases import Full, LeaseExpired, LeaseLimits, Leases
from samjax.serve.nninteractive.matching import Matcher
from samjax.serve.nninteractive.packing import OVERHEAD, pack_array, unpack_array
from samjax.serve.nninteractive.placing import Placing
from samjax.serve.nninteractive.session import Answer, Bounds, Session

META, LEASE = "x-meta", "x-lease-token"
VERSION = "2.0"
"""The version of nnInteractive's sessions that clients find here."""
IMAGE_BYTES = 512 * 2**20
"""Bytes of the largest image when decompressed: 512 x 512 x 256 voxels of float64."""
BODY_BYTES = 64 * 1024
"""Bytes of the largest body without an array."""
THICKNESS = 2
"""Voxels across a scribble that clients draw."""
FARTHEST = 1e6
"""Largest coordinate that is read."""
ARRAYS = ("/set_image", "/add_scribble_interaction", "/add_lasso_interaction", "/add_initial_seg_interaction")
"""Routes whose body is an array."""

Body = Mapping[str, Any]


class BadRequest(Exception):
    """The request is not what the route takes."""


@dataclass(frozen=True)
class Desk:
    """What the routes share."""

    model: SegmentationModel
    placing: Placing
    leases: Leases[Session]


def open_desk(library: Library, limits: LeaseLimits | None = None, clock: Callable[[], float] = time.monotonic) -> Desk:
    """The desk of a server's cases; `clock` gives seconds that never go back."""
    engine = library.engine
    placing = Placing(engine.model, Matcher(library.cases), library.opened_case)
    return Desk(engine.model, placing, Leases(partial(Session, engine), limits, clock))


def body_limit(path: str) -> int | None:
    """The largest body in bytes of a route of the protocol; None of other routes."""
    if path in ARRAYS:
        return IMAGE_BYTES + OVERHEAD
    return BODY_BYTES if path in {*READ, *CHANGED, *ACTIONS} else None


def protocol_routes(desk: Desk) -> list[Route]:
    """All routes of the protocol but /healthz."""
    return [
        *(Route(path, partial(_answered, desk, answer), methods=["GET"]) for path, answer in READ.items()),
        *(Route(path, partial(_answered, desk, answer), methods=["POST"]) for path, answer in CHANGED.items()),
        *(Route(path, partial(_answered, desk, partial(_act, path)), methods=["POST"]) for path in ACTIONS),
    ]


async def _answered(desk: Desk, answer: Callable[[Desk, Request], Awaitable[Response]], request: Request) -> Response:
    """An answer; what is wrong with a request becomes a status and a line."""
    try:
        return await answer(desk, request)
    except BadRequest as error:
        return JSONResponse({"detail": str(error)}, 400)
    except LeaseExpired as error:
        return JSONResponse({"detail": str(error)}, 410)
    except (Full, UserError) as error:
        return JSONResponse({"detail": str(error)}, 503)


async def _capabilities(desk: Desk, request: Request) -> Response:
    prompts = desk.model.prompts
    return JSONResponse(
        {
            "supported_interactions": {
                "points": "point" in prompts,
                "scribble": "point" in prompts,
                "lasso": False,
                "bbox2d": "box" in prompts,
                "bbox3d": "box" in prompts,
            },
            "channel_mapping": {},
            "num_interaction_channels": 0,
            "supports_initial_label": "mask" in prompts,
            "supports_zero_shot_label_refinement": False,
            "preferred_scribble_thickness": [THICKNESS] * 3,
            "interaction_decay": 1.0,
            "do_autozoom": True,
            "inference_session_version": VERSION,
            "license": "Apache-2.0" if desk.model.name == GLIOMA else "!!MISSING!!",
            "supports_undo": True,
        }
    )


async def _claim(desk: Desk, request: Request) -> Response:
    limits = desk.leases.limits
    return JSONResponse(
        {
            "lease_token": desk.leases.claim(),
            "idle_timeout_seconds": limits.idle,
            "liveness_timeout_seconds": limits.liveness,
        }
    )


async def _release(desk: Desk, request: Request) -> Response:
    desk.leases.release(request.headers.get(LEASE))
    return JSONResponse({"released": True})


async def _heartbeat(desk: Desk, request: Request) -> Response:
    return _seconds(desk, desk.leases.heartbeat(request.headers.get(LEASE)))


async def _lease_status(desk: Desk, request: Request) -> Response:
    return _seconds(desk, desk.leases.remaining(request.headers.get(LEASE)))


def _seconds(desk: Desk, remaining: float) -> Response:
    return JSONResponse({"remaining_seconds": remaining, "idle_timeout_seconds": desk.leases.limits.idle})


async def _act(path: str, desk: Desk, request: Request) -> Response:
    """An action of the person who holds the session; its body is read only if there is such a session."""
    token = request.headers.get(LEASE)
    with desk.leases.asking(token):
        content = await _content(request, desk.leases.limits.upload)
        meta = _object(request.headers.get(META, "{}") if path in ARRAYS else content.decode("utf-8", "replace"))

        def act() -> Response:
            with desk.leases.acting(token) as session:
                return ACTIONS[path](desk, session, meta, content)

        return await run_sync(act)


async def _content(request: Request, seconds: float) -> bytes:
    try:
        with fail_after(seconds):
            return await request.body()
    except TimeoutError:
        raise BadRequest(f"body: it did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise BadRequest("body: the client has gone before all of it came") from None


def _set_image(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    image = _array(content, IMAGE_BYTES, axes=4)
    session.set_image(desk.placing(image, meta.get("image_properties")))
    return JSONResponse({"original_image_shape": image.shape})


def _set_target_buffer(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    session.set_target_buffer([_number(side, "shape") for side in _list(meta, "shape", 3)])
    return JSONResponse({})


def _reset(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    session.reset()
    return JSONResponse({})


def _set_do_autozoom(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    session.autozoom = _flag(meta, "do_autozoom", None)
    return JSONResponse({})


def _undo(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    return _changes(session.undo())


def _predict(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    return _changes(session.predict())


def _add_point(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    place = [_number(value, "coordinates") for value in _list(meta, "coordinates", 3)]
    return _changes(session.add_points([place], *_how(meta)))


def _add_box(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    bounds = _bounds(meta, "bbox_coords")
    positive, run = _how(meta)
    if not positive:
        raise UserError("box: models take boxes around what is to be found; take away by negative points")
    return _changes(session.add_box(bounds, run))


def _add_scribble(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    drawn = _array(content, IMAGE_BYTES, axes=3)
    start = [0, 0, 0]
    if meta.get("interaction_bbox") is not None:
        bounds = _bounds(meta, "interaction_bbox")
        start = [first for first, _ in bounds]
        if drawn.shape != tuple(stop - first for first, stop in bounds):
            raise BadRequest(f"interaction_bbox {bounds}: the array is of another shape, {drawn.shape}")
    return _changes(session.add_scribble(drawn, start, *_how(meta)))


def _add_lasso(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    raise UserError("lasso: this server does not answer it; draw a box, or a scribble inside")


def _add_initial(desk: Desk, session: Session, meta: Body, content: bytes) -> Response:
    run = _flag(meta, "run_prediction", False)
    answer = session.set_initial(_array(content, IMAGE_BYTES, axes=3))
    if run:
        raise UserError(
            "initial segmentation: it was taken as it is; models correct it where they are prompted, and do not refine "
            "it by themselves: switch that off, then click"
        )
    return _changes(answer)


Action = Callable[[Desk, Session, Body, bytes], Response]
READ = {"/capabilities": _capabilities, "/lease_status": _lease_status}
CHANGED = {"/claim": _claim, "/release": _release, "/heartbeat": _heartbeat}
ACTIONS: Mapping[str, Action] = {
    "/set_image": _set_image,
    "/set_target_buffer": _set_target_buffer,
    "/reset_interactions": _reset,
    "/undo": _undo,
    "/predict": _predict,
    "/set_do_autozoom": _set_do_autozoom,
    "/add_bbox_interaction": _add_box,
    "/add_point_interaction": _add_point,
    "/add_scribble_interaction": _add_scribble,
    "/add_lasso_interaction": _add_lasso,
    "/add_initial_seg_interaction": _add_initial,
}


def _changes(answer: Answer) -> Response:
    """What has changed of the mask, as clients put it into theirs."""
    content = b"" if answer.voxels is None else pack_array(answer.voxels)
    meta = json.dumps({"ran_prediction": answer.ran, "bbox": answer.bounds})
    return Response(content, media_type="application/octet-stream", headers={META: meta})


def _array(content: bytes, limit: int, axes: int) -> np.ndarray:
    try:
        return unpack_array(content, limit, axes)
    except UserError as error:
        raise BadRequest(str(error)) from None


def _object(text: str) -> Body:
    """A JSON object; nothing at all is an empty one."""
    try:
        found = parse_json(text) if text else {}
    except ValueError as error:
        raise BadRequest(f"no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadRequest(f"{type(found).__name__}: expected a JSON object")
    return found


def _how(meta: Body) -> tuple[bool, bool]:
    """Whether a prompt is positive, and whether to predict now."""
    return _flag(meta, "include_interaction", None), _flag(meta, "run_prediction", True)


def _flag(meta: Body, name: str, otherwise: bool | None) -> bool:
    found = meta.get(name, otherwise)
    if not isinstance(found, bool):
        raise BadRequest(f"{name} {found!r}: expected true or false")
    return found


def _list(meta: Body, name: str, length: int) -> list:
    found = meta.get(name)
    if not isinstance(found, list) or len(found) != length:
        raise BadRequest(f"{name}: expected a list of {length}")
    return found


def _number(value: Any, name: str) -> int:
    """The whole number nearest to a coordinate: voxels have their centres there."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(number) <= FARTHEST:
        raise BadRequest(f"{name}: expected numbers")
    return round(number)


def _bounds(meta: Body, name: str) -> Bounds:
    """The first voxel along each axis and the one behind the last; viewers also send fractions of voxels."""
    found = []
    for pair in _list(meta, name, 3):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRequest(f"{name}: expected the first voxel and the one behind the last along each axis")
        first, stop = (_number(value, name) for value in pair)
        if stop < first:
            raise BadRequest(f"{name} {pair}: ends before it begins")
        found.append([first, max(stop, first + 1)])
    return found
