"""`samjax convert`: weights from PyTorch's files to samjax's, and back. PyTorch is not needed."""

from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from samjax.command_lines import command
from samjax.errors import UserError
from samjax.options import ConvertOptions, ToFlaxOptions, ToTorchOptions
from samjax.runs.folder import CONFIG, FINAL, model_folder
from samjax.runs.trained import load_trained
from samjax.weights.base import FORMAT, Weights, describe, file_sha256, load_weights, save_weights
from samjax.weights.download import download
from samjax.weights.export import plain_sam, save_meta, save_transformers
from samjax.weights.hugging_face import is_model_folder, weights_file
from samjax.weights.safetensors_file import read_safetensors

USERS = {"meta": "Meta's code", "transformers": "transformers"}
"""The reader of each kind of names, for messages."""


def main(options: ConvertOptions) -> None:
    """Converts one way or the other."""
    if options.download is not None and (options.format is not None or options.weights is not None):
        raise UserError("--download fetches a checkpoint for samjax; leave out --format and --weights")
    if options.download is None and _is_for_torch(options):
        to_torch(options)
    else:
        to_flax(options)


def to_flax(options: ToFlaxOptions) -> None:
    """Converts a SAM checkpoint to samjax's safetensors."""
    src, dst = options.src, options.dst
    if dst.suffix != ".safetensors":
        raise UserError(f"{dst}: expected a name that ends in .safetensors")
    if options.download is not None:
        src = _fetch(options.download, src, options.url)
    weights = load_weights(src)
    save_weights(dst, weights.flat, weights.config, source=src.absolute().name, source_sha256=weights.sha256)
    print(describe(weights.config, weights.flat))
    print(f"source  {src}  sha256 {weights.sha256}")
    print(f"written {dst}  sha256 {file_sha256(dst)}  for samjax")


def to_torch(options: ToTorchOptions) -> None:
    """Writes weights for Meta's code or for `transformers`."""
    src, dst, names = options.src, options.dst, options.format or "meta"
    found, notes = _read(src, options.weights)
    written = save_meta(dst, found.flat) if names == "meta" else save_transformers(dst, found.flat, found.config)
    print(describe(found.config, found.flat))
    print(f"source  {src}  sha256 {found.sha256}")
    print(f"written {written}  sha256 {file_sha256(written)}  for {USERS[names]}")
    for note in notes:
        print(note)


def _is_for_torch(options: ConvertOptions) -> bool:
    """Whether PyTorch's names are to be written: for files that samjax wrote, or where the options ask for them."""
    if options.format is not None or options.weights is not None or options.dst.suffix != ".safetensors":
        return True
    return _run_folder(options.src) is not None or _is_ours(options.src)


def _is_ours(src: Path) -> bool:
    """Whether samjax wrote this file of weights."""
    return src.suffix == ".safetensors" and src.is_file() and read_safetensors(src)[1].get("format") == FORMAT


def _run_folder(src: Path) -> Path | None:
    """The folder of the run if `src` is one, is the final.safetensors in one, or a packed run; else None."""
    folder = src.parent if src.name == FINAL else model_folder(src) if src.is_file() else src
    return folder if (folder / CONFIG).is_file() and not is_model_folder(folder) else None


def _fetch(model: str, path: Path, url: str) -> Path:
    """Downloads with a progress bar."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns) as bar:
        task = bar.add_task(model, total=None)
        return download(
            model,
            path,
            base_url=url,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _read(src: Path, base: str | None) -> tuple[Weights, list[str]]:
    """The weights of a file or a run, with the sha256 of the file read, and notes on the weights of a run."""
    folder = _run_folder(src)
    if folder is None:
        return load_weights(src)._replace(sha256=file_sha256(weights_file(src))), []
    config, trained = load_trained(folder, base)
    if config.architecture is None:
        raise UserError(f"{folder}: a run of the U-Net; only SAM has a place in Meta's code and in transformers")
    size = config.options.image_size
    flat, architecture = plain_sam(folder, trained.base | trained.trained, config.architecture, config.adaptation, size)
    notes = [f"input   {size} x {size}, channels {config.options.channels}, prompts {','.join(trained.prompts)}"]
    if len(config.rois) > 1:
        others = " and ".join(config.rois[1:])
        notes.append(
            f"region  {config.rois[0]} alone, since PyTorch's SAM has one single mask; `{command('export')}` writes "
            f"{others} too, or train a run of its own (--roi {config.rois[1]})"
        )
    if architecture.in_channels != 3:
        notes.append(
            f"{architecture.in_channels} channels: build the image encoder with in_chans={architecture.in_channels} "
            "(transformers: num_channels), and normalise each channel with the mean of SAM's three means and deviations"
        )
    return Weights(flat, architecture, file_sha256(folder / FINAL)), notes
