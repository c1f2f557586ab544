"""Weights and runs by name on the Hugging Face Hub: hf:ORG/NAME[/FILE][@REVISION].

huggingface_hub does the work: its cache, its token, HF_ENDPOINT and HF_HUB_OFFLINE count.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from samjax.errors import UserError
from samjax.weights.hugging_face import CONFIG, PREPROCESSOR, WEIGHTS

PREFIX = "hf:"
MODEL = "model.safetensors"
"""The file of weights or of a packed run that is taken where several lie in a repository."""
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@\s]+))?(?:@(?P<revision>[^@\s]+))?")


@dataclass(frozen=True)
class HubName:
    """A repository, and what of it."""

    repo: str
    """ORG/NAME."""
    file: str | None = None
    revision: str | None = None
    """A branch, tag or commit; None: the main branch."""

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Parses hf:ORG/NAME[/FILE][@REVISION].

        Raises:
            UserError: the text is none.
        """
        found = _NAME.fullmatch(text)
        if found is None or ".." in PurePosixPath(found["file"] or "").parts:
            raise UserError(f"{text}: expected hf:ORG/NAME, hf:ORG/NAME/FILE or hf:ORG/NAME/FILE@REVISION")
        return cls(found["repo"], found["file"], found["revision"])

    @property
    def name(self) -> str:
        """The repository's own name, without its owner."""
        return self.repo.split("/")[1]

    def __str__(self) -> str:
        file = "" if self.file is None else f"/{self.file}"
        return f"{PREFIX}{self.repo}{file}" + ("" if self.revision is None else f"@{self.revision}")


def is_hub_name(text: str) -> bool:
    """Whether a text names something on the Hub."""
    return text.startswith(PREFIX)


def require(text: str) -> None:
    """Raises a `UserError` that begins with `text` where huggingface_hub is missing."""
    with _errors(text):
        pass


def fetch(text: str) -> Path:
    """The file that a name means, or the folder of a model of `transformers`; fetched unless it is in the Hub's cache.

    Raises:
        UserError: the text is no such name; huggingface_hub is missing; the repository or file is not there, cannot be
            reached or is not in the cache with HF_HUB_OFFLINE=1; or the repository holds several files of weights.
    """
    wanted = HubName.parse(text)
    with _errors(text):
        from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

        repo, revision = wanted.repo, wanted.revision
        if wanted.file is not None:
            return Path(hf_hub_download(repo, wanted.file, revision=revision))
        if constants.HF_HUB_OFFLINE:
            folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        else:
            names = HfApi().list_repo_files(repo, revision=revision)
        chosen = choose(names, text)
        return _folder_of([Path(hf_hub_download(repo, name, revision=revision)) for name in chosen])


def choose(names: Sequence[str], text: str) -> list[str]:
    """The files of a repository that hold its model, the one with the weights or the configuration first.

    Raises:
        UserError: there is none, or it is not clear which one; the line begins with `text`.
    """
    if CONFIG in names and (weights := next((name for name in WEIGHTS if name in names), None)):
        stem = weights.removesuffix(".index.json")
        shards = [name for name in names if re.fullmatch(_shards_of(stem), name)] if stem != weights else []
        return [CONFIG, weights, *shards, *(name for name in names if name == PREPROCESSOR)]
    found = [name for name in names if name.endswith(_SUFFIXES)]
    if MODEL in found:
        return [MODEL]
    if not found:
        raise UserError(f"{text}: holds no file that ends in {', '.join(_SUFFIXES)}")
    if len(found) > 1:
        some = ", ".join(sorted(found)[:4]) + (", ..." if len(found) > 4 else "")
        raise UserError(f"{text}: holds {len(found)} files of weights ({some}); name one: hf:ORG/NAME/FILE")
    return found


def upload(text: str, files: Mapping[str, Path | bytes], message: str, public: bool) -> str:
    """Writes files to a repository in one commit, and makes it, if it is not there, public or private.

    Returns:
        The address of the commit.

    Raises:
        UserError: the text names a file or revision too; huggingface_hub is missing; or the Hub refuses.
    """
    wanted = HubName.parse(text)
    if wanted.file or wanted.revision:
        raise UserError(f"{text}: name the repository alone, {PREFIX}{wanted.repo}")
    with _errors(text):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(library_name="samjax")
        api.create_repo(wanted.repo, private=not public, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return api.create_commit(wanted.repo, operations, commit_message=message).commit_url


def _shards_of(stem: str) -> str:
    base, _, suffix = stem.rpartition(".")
    return rf"{re.escape(base)}-\d+-of-\d+\.{re.escape(suffix)}"


def _folder_of(paths: list[Path]) -> Path:
    """The file, or the folder that holds the files of a model of `transformers`."""
    return paths[0] if len(paths) == 1 else paths[0].parent


@contextmanager
def _errors(text: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into one line that begins with the name and never shows a token."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{text}: needs {error.name}, which is missing: pip install 'samjax[hub]'") from None
    # The client below huggingface_hub differs between its versions.
    kinds = [kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"]
    unreachable: tuple[type[Exception], ...] = (OSError, *(kind for kind in kinds if issubclass(kind, Exception)))
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{text}: its owner gives access on request; ask for it there, then `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{text}: no such revision") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{text}: no such repository, or a private one that needs `hf auth login`") from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"{text}: no such file in the repository") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise UserError(
            f"{text}: not in the cache, and the Hub cannot be reached (or HF_HUB_OFFLINE is set); fetch it once with a "
            "connection"
        ) from None
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        if code in (401, 403):
            raise UserError(
                f"{text}: the Hub refuses (HTTP {code}); log in with `hf auth login`, by a token that may do this"
            ) from None
        raise UserError(f"{text}: the Hub answered HTTP {code}; try again later") from None
    except errors.HFValidationError:
        raise UserError(f"{text}: no name that a repository can have") from None
    except unreachable as error:
        raise UserError(f"{text}: the Hub cannot be reached ({type(error).__name__}); try again later") from None
