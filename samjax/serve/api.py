"""The routes that the page asks: cases, pictures, edits, events. Places are (slice, row, column) of samjax's axes."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from anyio.to_thread import run_sync
from isal import igzip
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from samjax.data.cases import MODALITIES
from samjax.data.imaging.for_viewers import affine_of, nifti_bytes, window_of
from samjax.data.imaging.volumes import THREADS
from samjax.data.labels import roi_codes
from samjax.errors import UserError
from samjax.figures.palette import CODE_COLOURS
from samjax.files import parse_json
from samjax.serve.editor import Editor, Progress, Stale
from samjax.serve.library import Library, UnknownCase
from samjax.serve.opened import OpenedCase
from samjax.version import __version__

BODY_LIMIT = 64 * 1024
"""Bytes of the largest body of a request of the page."""
LARGE_ML = 250.0
"""Millilitres of a whole tumour above which a propagation that led there is remarked on: few gliomas are larger."""
MOST_PLACES = 2000
"""Places of the longest stroke of the eraser."""
_COMPRESSED = 1 << 16
_BEAT, _LOOK = 10.0, 0.2
_DIRECTIONS = {"up": (1,), "down": (-1,), "both": (1, -1)}
_NIFTI = "application/octet-stream"

Body = Mapping[str, Any]
Action = Callable[[Editor, Body, Progress], tuple[int, ...]]


@dataclass
class Job:
    """An action that takes its time."""

    name: str
    done: int = 0
    total: int = 1


@dataclass
class Page:
    """What the routes share."""

    library: Library
    warning: str | None = None
    jobs: dict[str, Job] = field(default_factory=dict)


class BadRequest(Exception):
    """The body is not what the route takes."""


def routes(page: Page) -> list[Route]:
    """All routes under /api."""
    return [
        Route("/api/state", partial(_answered, page, _state), methods=["GET"]),
        *(
            Route(f"/api/cases/{{case}}/{name}", partial(_answered, page, answer), methods=[method])
            for name, method, answer in (
                ("open", "POST", _open),
                ("images/{modality}.nii", "GET", _image),
                ("mask.nii", "GET", _mask),
                ("show", "POST", _show),
                ("cancel", "POST", _cancel),
                ("save", "POST", _save),
                ("events", "GET", _events),
            )
        ),
        *(
            Route(
                f"/api/cases/{{case}}/{name}", partial(_answered, page, partial(_edit, name, action)), methods=["POST"]
            )
            for name, action in ACTIONS.items()
        ),
    ]


Answer = Callable[[Page, Request], Awaitable[Response]]


async def _answered(page: Page, answer: Answer, request: Request) -> Response:
    """An answer; what is wrong with a request becomes a status and a line."""
    try:
        return await answer(page, request)
    except UnknownCase as error:
        return _problem(404, f"case {error}: not among the cases of this server")
    except Stale:
        return _problem(409, "the case was edited elsewhere; load it again")
    except (UserError, BadRequest) as error:
        return _problem(400, str(error))


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


async def _state(page: Page, request: Request) -> Response:
    model, library = page.library.engine.model, page.library
    regions = [
        {
            "name": roi,
            "label": roi.replace("-", " "),
            "code": roi_codes(roi)[0],
            "codes": roi_codes(roi),
            "colour": CODE_COLOURS[roi_codes(roi)[0]],
        }
        for roi in model.rois
    ]
    about = {"name": model.name, "regions": regions, "prompts": model.prompts, "warning": page.warning}
    cases = [asdict(state) for state in await run_sync(library.states)]
    return JSONResponse(
        {"model": about, "cases": cases, "output": str(library.output.resolve()), "version": __version__}
    )


async def _open(page: Page, request: Request) -> Response:
    await _body(request)

    def described() -> dict[str, Any]:
        with page.library.opened(_case(request)) as editor:
            case = editor.case
            page.library.engine.show(case, case.shape[0] // 2)
            windows = _windows(case)
            with editor.unchanged():
                fields = _edit_fields(editor)
            return {
                "id": _case(request),
                "shape": case.shape,
                "spacing": case.spacing,
                "modalities": case.modalities,
                "missing": case.missing,
                "doubts": editor.doubts,
                "window": windows,
                "depth": case.model.depth,
                **fields,
            }

    return JSONResponse(await run_sync(described))


def _windows(case: OpenedCase) -> dict[str, tuple[float, float]]:
    """The window in which each modality is first shown; files are read by several threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda name: window_of(case.scan(name)), case.modalities)
        return dict(zip(case.modalities, found, strict=True))


async def _image(page: Page, request: Request) -> Response:
    modality = request.path_params["modality"]

    def read() -> bytes | None:
        with page.library.opened(_case(request)) as editor:
            case = editor.case
            if modality not in case.modalities:
                return None
            return nifti_bytes(case.scan(modality), affine_of(case.geometry, case.spacing))

    content = await run_sync(read)
    if content is None:
        return _problem(404, f"modality {modality}: expected one of {', '.join(MODALITIES)} that the case has")
    return Response(content, media_type=_NIFTI, headers={"Content-Encoding": "gzip"})


async def _mask(page: Page, request: Request) -> Response:
    def read() -> tuple[bytes, int]:
        with page.library.opened(_case(request)) as editor:
            case = editor.case
            with editor.unchanged():
                shown, version = editor.shown.copy(), editor.version
            return nifti_bytes(shown, affine_of(case.geometry, case.spacing)), version

    content, version = await run_sync(read)
    return Response(content, media_type=_NIFTI, headers={"Content-Encoding": "gzip", "X-Version": str(version)})


async def _show(page: Page, request: Request) -> Response:
    slice_ = _whole(await _body(request), "slice")

    def show() -> None:
        with page.library.opened(_case(request)) as editor:
            if not 0 <= slice_ < editor.case.shape[0]:
                raise BadRequest(f"slice {slice_}: the volume has {editor.case.shape[0]} slices, counted from 0")
            page.library.engine.show(editor.case, slice_)

    await run_sync(show)
    return Response(status_code=204)


async def _cancel(page: Page, request: Request) -> Response:
    await _body(request)

    def cancel() -> None:
        with page.library.opened(_case(request)) as editor:
            editor.stop()

    await run_sync(cancel)
    return Response(status_code=204)


async def _save(page: Page, request: Request) -> Response:
    await _body(request)
    path = await run_sync(page.library.save, _case(request))
    return JSONResponse({"path": str(path.resolve()), "state": "saved"})


async def _edit(name: str, action: Action, page: Page, request: Request) -> Response:
    body, id_ = await _body(request), _case(request)
    version = _whole(body, "version")

    def edit() -> bytes:
        job = Job(name)

        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            page.jobs[id_] = job

        with page.library.opened(id_) as editor, editor.exclusive(version):
            before = editor.volumes[editor.case.model.rois[0]]
            try:
                slices = action(editor, body, progress)
            finally:
                if page.jobs.get(id_) is job:
                    del page.jobs[id_]
            remark = _remark(before, editor) if name == "propagate" else None
            return _packed(_edit_fields(editor) | {"slices": slices, "message": remark}, editor.shown[list(slices)])

    content = await run_sync(edit)
    if len(content) <= _COMPRESSED:
        return Response(content, media_type=_NIFTI)
    return Response(igzip.compress(content, 1), media_type=_NIFTI, headers={"Content-Encoding": "gzip"})


def _remark(before: float, editor: Editor) -> str | None:
    """What a person should know of a propagation that made much of little; `before` in millilitres."""
    roi = editor.case.model.rois[0]
    after = editor.volumes[roi]
    if after <= LARGE_ML or after <= 1.5 * before:
        return None
    return (
        f"the {roi.replace('-', ' ')} went from {before:.0f} to {after:.0f} ml, more than most tumours have: look "
        "through the slices, or undo and start from Automatic"
    )


def _packed(fields: Mapping[str, Any], planes: np.ndarray) -> bytes:
    """The length of some JSON (uint32, little-endian), the JSON, and the masks of slices one after the other."""
    text = json.dumps(fields).encode()
    return struct.pack("<I", len(text)) + text + planes.tobytes()


def _edit_fields(editor: Editor) -> dict[str, Any]:
    return {
        "version": editor.version,
        "prompts": {"points": editor.prompts.points, "boxes": editor.prompts.boxes},
        "volumes": editor.volumes,
        "undo": editor.can_undo,
        "redo": editor.can_redo,
        "state": editor.state,
        "embedded": editor.case.encoded_slices,
    }


async def _events(page: Page, request: Request) -> Response:
    id_ = _case(request)

    def first() -> dict[str, Any]:
        with page.library.opened(id_) as editor:
            return _progress(page, id_, editor)

    async def stream(told: dict[str, Any]) -> AsyncIterator[str]:
        waited = 0.0
        yield f"data: {json.dumps(told)}\n\n"
        while not (page.library.ending or await request.is_disconnected()):
            await asyncio.sleep(_LOOK)
            waited += _LOOK
            editor = page.library.seen(id_)
            found = told if editor is None else _progress(page, id_, editor)
            if found != told or waited >= _BEAT:
                told, waited = found, 0.0
                yield f"data: {json.dumps(told)}\n\n"

    return StreamingResponse(stream(await run_sync(first)), media_type="text/event-stream")


def _progress(page: Page, id_: str, editor: Editor) -> dict[str, Any]:
    job, case = page.jobs.get(id_), editor.case
    return {
        "embedded": case.encoded_slices,
        "slices": case.shape[0],
        "job": None if job is None else asdict(job),
        "version": editor.version,
    }


def _click(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    place, positive = tuple(_whole(body, name) for name in ("slice", "row", "column")), _yes(body, "positive")
    inside = all(0 <= x < side for x, side in zip(place, editor.case.shape, strict=True))
    if positive and inside and editor.case.images[place[0]].any() and not editor.case.images[place].any():
        raise BadRequest("a positive click on the background; click where the scan shows something")
    return editor.click(*place, positive)


def _box(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    return editor.box(*(_numbers(body, name, 3) for name in ("first", "last")))


def _erase(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    stroke, radius = body.get("stroke"), body.get("radius")
    if not isinstance(stroke, list) or not 0 < len(stroke) <= MOST_PLACES or not all(map(_is_place, stroke)):
        raise BadRequest(f"stroke: expected 1 to {MOST_PLACES} places [row, column]")
    if not _is_number(radius):
        raise BadRequest(f"radius {radius!r}: expected a number of mm")
    return editor.erase(_whole(body, "slice"), stroke, radius)


def _clear(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    return editor.clear(None if body.get("slice") is None else _whole(body, "slice"))


def _propagate(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    direction = body.get("direction")
    if not isinstance(direction, str) or direction not in _DIRECTIONS:
        raise BadRequest(f"direction {direction!r}: expected one of {', '.join(_DIRECTIONS)}")
    slice_ = None if body.get("slice") is None else _whole(body, "slice")
    return editor.propagate(slice_, _DIRECTIONS[direction], progress)


def _automatic(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    rule = body.get("postprocess", "auto")
    if rule not in ("auto", "none"):
        raise BadRequest(f"postprocess {rule!r}: expected auto or none")
    return editor.automatic(rule, progress)


def _undo(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    return editor.undo()


def _redo(editor: Editor, body: Body, progress: Progress) -> tuple[int, ...]:
    return editor.redo()


ACTIONS: dict[str, Action] = {
    "click": _click,
    "box": _box,
    "erase": _erase,
    "clear": _clear,
    "propagate": _propagate,
    "automatic": _automatic,
    "undo": _undo,
    "redo": _redo,
}


def _case(request: Request) -> str:
    return request.path_params["case"]


async def _body(request: Request) -> Body:
    """The JSON object of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadRequest(f"Content-Type {kind!r}: expected application/json")
    try:
        found = parse_json((await request.body()).decode("utf-8"))
    except ClientDisconnect:
        raise BadRequest("body: the client has gone before all of it came") from None
    except ValueError as error:
        raise BadRequest(f"body: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise BadRequest("body: expected a JSON object")
    return found


def _whole(body: Body, name: str) -> int:
    value = body.get(name)
    if type(value) is not int or abs(value) >= 2**31:
        raise BadRequest(f"{name} {value!r}: expected a whole number"[:200])
    return value


def _yes(body: Body, name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise BadRequest(f"{name} {value!r}: expected true or false"[:200])
    return value


def _numbers(body: Body, name: str, count: int) -> list[int]:
    value = body.get(name)
    if not isinstance(value, list) or len(value) != count:
        raise BadRequest(f"{name}: expected {count} whole numbers")
    return [_whole({name: number}, name) for number in value]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 2**31


def _is_place(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
