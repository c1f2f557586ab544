"""Fetches Meta's published SAM checkpoints."""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from samjax.errors import UserError

# Each name ends in the first six digits of the file's md5.
FILES = {"vit_b": "sam_vit_b_01ec64.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_h": "sam_vit_h_4b8939.pth"}
BASE_URL = "https://dl.fbaipublicfiles.com/segment_anything"

_TIMEOUT_SECONDS = 30
_PIECE_BYTES = 1 << 20


def download(
    model: str,
    path: Path | str,
    *,
    base_url: str = BASE_URL,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fetches the checkpoint of `model` (a key of `FILES`) and returns its path.

    Args:
        model: `vit_b`, `vit_l` or `vit_h`.
        path: the file to write, or an existing folder to write it in. A complete file is not fetched again.
        base_url: the address of the folder that holds the files.
        progress: called with (bytes fetched so far, bytes in all).

    Until it is complete the file is called `NAME.part`; a second call goes on where the first was cut off.

    Raises:
        UserError: the server cannot be reached, breaks off, or sends something with another md5.
    """
    name = FILES[model]
    path = Path(path)
    path = path / name if path.is_dir() else path
    digest = md5_prefix(name)
    if path.exists():
        _check_md5(path, digest, "move it away or name another path")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    url = f"{base_url.rstrip('/')}/{name}"
    try:
        _fetch(url, part, progress or (lambda done, total: None))
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        kept = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{url}: could not be fetched ({error}); run the same command again to go on after the {kept} "
            f"bytes in {part}, or fetch the file by hand and give its path"
        ) from error
    try:
        _check_md5(part, digest, "it was removed: run the same command again")
    except UserError:
        part.unlink()
        raise
    return part.replace(path)


def md5_prefix(name: str) -> str:
    """The first digits of a file's md5, from its name: `01ec64` of `sam_vit_b_01ec64.pth`."""
    return name.removesuffix(".pth").rsplit("_", 1)[1]


def _fetch(url: str, part: Path, progress: Callable[[int, int], None]) -> None:
    """Appends to `part` the bytes that it lacks. Raises OSError if the connection breaks off before the end."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "samjax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if have and error.code == 416:  # nothing is left to send: the md5 decides if the file is whole
                return
            raise
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError(f"the server sent {response.headers.get('Content-Range')} when asked for bytes {have}-")
        done = have if resumed else 0
        total = done + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if resumed else "wb") as file:
            progress(done, total)
            while piece := response.read(_PIECE_BYTES):
                file.write(piece)
                done += len(piece)
                progress(done, total)
    if done < total:
        raise OSError(f"the connection broke off after {done} of {total} bytes")


def _check_md5(path: Path, digest: str, remedy: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if not found.startswith(digest):
        raise UserError(f"{path}: its md5 begins with {found[: len(digest)]}, expected {digest}; {remedy}")
