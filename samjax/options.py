"""The options of the commands as frozen dataclasses. Docstrings are what `--help` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from samjax.strategies import STRATEGIES, describe_default
from samjax.weights.download import BASE_URL

DEFAULT_CACHE = Path("~/.cache/samjax")
PHANTOM_STEPS = 300
"""Updates of a run on the phantom where --max-steps is not given."""


def _default(text: str) -> Any:
    """The default that `--help` shows for an option that is None until something else decides."""
    return arg(help_behavior_hint=f"(default: {text})")


def _by_strategy(option: str) -> Any:
    """The same for an option whose default depends on the strategy, from the table of strategies."""
    return _default(describe_default(option))


_POSTPROCESS_HELP = (
    "Cleaning of masks in 3-D. auto: the rule that the run chose on its validation patients, for prompt-free masks "
    "alone. For all masks: none, or any of min=MM3 (smallest component), share=S (of the largest component's volume), "
    'largest=N, fill (holes) and fit (the masks are fitted to the scan first), such as "min=500,share=0.05,fill".'
)
_ROTATIONS_HELP = (
    "Segment every slice in this odd number of rotations, evenly from minus to plus the run's largest in training (20 "
    "degrees, see --rotation of train; 3: -20, 0, 20), and take the mean probability; 1: as it is. Costs as many times "
    "the time."
)
_STRATEGIES = ", ".join(f"{row.name} ({row.source})" for row in STRATEGIES.values())


@dataclass(frozen=True)
class TrainOptions:
    """Fine-tune SAM on brain-tumour MRI."""

    strategy: Annotated[str, arg(help=f"Training strategy: {_STRATEGIES}.")] = "lora4ch"
    data: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of scans, as DIR or NAME=DIR; repeat for several domains. Default: a generated phantom cohort."""
    weights: Annotated[str | None, _by_strategy("weights")] = None
    """Base weights: a file that the command convert reads or writes, "tiny", or "random" for the same small model
    without training; or a finished run's folder, a packed file, or "glioma", to go on from what that learnt.
    hf:ORG/NAME[/FILE][@REVISION] names either on the Hugging Face Hub."""
    run: Annotated[Path | None, _default("runs/<time>-<strategy>")] = None
    """Folder of this run."""
    resume: bool = False
    """Continue the run in --run (or the newest run) where it stopped."""
    allow_changes: bool = False
    """Let --resume change options of the run, such as the learning rate, that do not define its model or data."""
    overfit: str | None = None
    """Train on this one case and report its own Dice, to check that a model can learn. Turns augmentation off."""

    roi: str = "whole-tumor"
    """Region to segment: edema, non-enhancing, enhancing, tumor-core or whole-tumor; or all: one model learns
    whole-tumor, tumor-core and enhancing together, with prompts drawn from the whole tumour."""
    channels: Annotated[str | None, _by_strategy("channels")] = None
    """Input channels: modalities in order (flair,t1gd,t2), one modality repeated (t1gd), all, or pca2d."""
    prompt: Annotated[str | None, _by_strategy("prompt")] = None
    """Prompts drawn from the labels: box, point, none, mixed, or shares such as point:0.75,none:0.25."""
    box_jitter: Annotated[float | None, _by_strategy("box_jitter")] = None
    """Sides of a training box move by up to this share of its width or height."""
    clicks: Annotated[int | None, _by_strategy("clicks")] = None
    """Clicks on a sample prompted by points; each further click is placed in the largest error region."""
    depth: Annotated[int | None, _by_strategy("depth")] = None
    """Contiguous slices per sample; above 1 the encoder attends across them."""
    min_pixels: int = 1
    """A training window is used if one of its slices holds at least this many pixels of the ROI."""

    empty_share: Annotated[float | None, _by_strategy("empty_share")] = None
    """Share of the training windows that show none of the ROI (of generated patients: no tumour); only prompt-free
    samples learn from them."""

    epochs: Annotated[int | None, _by_strategy("epochs")] = None
    """Passes over the training data; lora4ch-2step takes them in each of its stages."""
    max_steps: Annotated[int | None, _default(f"{PHANTOM_STEPS} on the phantom, else no limit")] = None
    """Stop after this many updates, whatever --epochs is; one update is --accumulate micro-batches."""
    batch_size: Annotated[int | None, _by_strategy("batch_size")] = None
    """Samples (of --depth slices) on each device."""
    lr: Annotated[float | Literal["auto"] | None, _by_strategy("lr")] = None
    """Learning rate, or auto: the finder's suggestion before the first step."""
    lr_finder_every: Annotated[int | None, _default("never")] = None
    """Run the learning-rate finder every this many epochs, up to the averaging (paper A: 5)."""
    optimizer: Annotated[Literal["adam", "adamw", "muon"] | None, _by_strategy("optimizer")] = None
    """Optimizer of the trainable parameters."""
    weight_decay: float = 0.01
    """Weight decay of adamw; parameters that no loss reaches are left alone."""
    schedule: Annotated[Literal["constant", "cosine"] | None, _by_strategy("schedule")] = None
    """Learning rate up to the averaging: constant, or a warm-up and a half cosine down to --swa-lr (to 0 without
    averaging)."""
    warmup_steps: int = 100
    """Steps in which the cosine schedule warms up."""
    clip_norm: Annotated[float | None, _by_strategy("clip_norm")] = None
    """Clip gradients to this global norm."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches of --batch-size samples that each device takes one after the other for one
    update. Their slices are weighted as in one batch."""
    swa: bool = True
    """Average the weights over the last part of the run (SWA); both the average and the last weights are kept."""
    swa_start: float = 0.75
    """Share of the run after which weights are averaged."""
    swa_lr: Annotated[float | None, _default("--lr; after a cosine a tenth of it")] = None
    """Learning rate while averaging, the highest of each cycle."""
    swa_cycle: int = 0
    """Steps in which the rate falls to a tenth on a half cosine while averaging, repeatedly; 0: constant."""
    image_size: Annotated[int | None, _default("what the weights were trained at")] = None
    """Side of the model's input in pixels."""
    spacing: Annotated[str | None, _default("that of the scans, or the median of their in-plane spacings")] = None
    """Voxel grid of the run in mm; scans on another one are resampled to it, and masks back. One number: square pixels
    of this size, slices as they are. Three numbers, such as 0.8,0.8,3: distances between rows, columns and slices."""
    planes: str = "axial"
    """Planes whose slices are trained on, such as axial,coronal,sagittal. Axial is always among them; prompts and the
    validation scores stay axial. Several need voxels that are about cubic, see --spacing."""
    augment: bool = True
    """Rotate and deform training samples."""
    modality_dropout: Annotated[float | None, _by_strategy("modality_dropout")] = None
    """Hide each modality of a training sample with this probability, never all of them; the run then also takes scans
    that lack modalities."""
    rotation: float = 20.0
    """Largest rotation in degrees."""
    elastic_alpha: float = 200.0
    """Strength of the elastic deformation: the scale of the smoothed noise, in pixels of a 240 x 240 slice; 0: none."""
    elastic_sigma: float = 16.0
    """Smoothness of the elastic deformation, in pixels of a 240 x 240 slice."""

    lora_rank: int = 4
    """Rank of the LoRA update."""
    lora_alpha: Annotated[float | None, _default("--lora-rank")] = None
    """The LoRA update is scaled by alpha / rank."""
    lora_targets: str = "q,k,v,mlp"
    """Layers that LoRA adapts: any of q, k, v, mlp."""
    patch_embedding: Literal["random", "inflate"] = "random"
    """Initial values of the new patch embedding: random as in paper B, or the RGB one spread over the channels."""

    seed: int = 0
    """Seed of the patients' split and of all random draws of a run."""
    limit: int | None = None
    """Use only this many cases of each domain, the first ones; of generated patients, only this many heads."""
    fold: str | None = None
    """K/N: cross-validation fold instead of the 80/20 split. With --split-file the number of its fold, from 0."""
    patients: Path | None = None
    """CSV file with the columns case and patient, for cases whose names do not give the patient: all scans of a patient
    go into one part of the split."""
    split_file: Path | None = None
    """JSON file with the split to use: a run's split.json, or nnU-Net's splits_final.json (with --fold)."""
    layout: Annotated[str | None, _default("recognised")] = None
    """Layout of --data: brats, msd or nnunet."""
    labels: str | None = None
    """Label scheme where file names do not give it: brats2023, ped2024, gli2024, ..."""
    workers: int = 1
    """Processes that read slices; 0 reads in the training process."""
    cache: bool = True
    """Keep normalised slices in --cache-dir; --no-cache holds them in memory."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder of prepared slices, embeddings and compiled programs, of the phantom cohort and of generated heads."""
    cache_embeddings: int | None = None
    """Run the frozen encoder once: keep the embeddings of this many augmented variants of each slice in --cache-dir;
    epochs show them in turn. 1 with --no-augment. Only for --strategy decoder."""
    embeddings_budget: float = 50.0
    """GB that all embeddings in --cache-dir may take."""
    dtype: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Type of activations and matrix products: tf32 keeps float32, but lets a GPU multiply it with 10 bits after the
    point; a CPU does not. Norms, softmax, loss and what trains stay float32."""
    remat: bool = False
    """Recompute encoder blocks in the backward pass: less memory, about a quarter more time."""
    track: Annotated[Literal["wandb", "mlflow"] | None, _default("none")] = None
    """Also send the numbers of the log to this experiment tracker. A resumed run goes on there; what goes wrong there
    does not stop the run. Needs pip install 'samjax[wandb]' or 'samjax[mlflow]'."""
    checkpoint_every: int = 200
    """Steps between checkpoints; the end of an epoch saves one too."""
    profile: Annotated[int | None, _default("none")] = None
    """Write JAX's profile of this many steps, after the first few of each stage, to profile/ in the run's folder."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes train together and were not started by a launcher (SLURM,
    mpirun, Kubernetes). They share --run, --data and --cache-dir."""
    processes: Annotated[int | None, _default("what the launcher says; 1 trains alone")] = None
    """Number of processes that train together."""
    process_index: int | None = None
    """Index of this process among them, from 0."""


@dataclass(frozen=True)
class EvalOptions:
    """Score runs or base weights against labels."""

    run: Annotated[tuple[Path, ...], UseAppendAction] = ()
    """Run folder, packed file, hf:ORG/NAME, or glioma, the model that comes with samjax; repeat to compare. Default:
    runs/latest."""
    strategy: Literal["zeroshot"] | None = None
    """zeroshot scores --weights without fine-tuning; next to runs, for each of their regions and channels."""
    predictions: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of NIfTI predictions of any method, one <case>.nii.gz per case, as DIR or NAME=DIR; repeat to compare."""
    weights: str | None = None
    """Base weights for zeroshot, or the new place of a run's base weights."""
    data: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of scans, as DIR or NAME=DIR; repeat for several domains. Default: the run's own."""
    split: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Patients to score: test, val, train or all; NAME=PART for one domain. Default: test where a run was trained on
    patients of the data, wherever these lie now and whatever they are called; all for other data."""
    patients: Path | None = None
    """CSV file with the columns case and patient, for cases whose names do not give the patient."""
    split_file: Path | None = None
    """JSON file with the split to score by, where no run has one: a run's split.json, or nnU-Net's splits_final.json,
    whose validation cases are scored."""
    fold: int | None = None
    """Fold of --split-file, from 0."""
    prompt: Annotated[Literal["box", "point", "none"] | None, _default("the run's first kind; box for zeroshot")] = None
    """Prompt to score with."""
    roi: Annotated[str | None, _default("whole-tumor")] = None
    """Region for zeroshot and --predictions (all: every region); a run has its own."""
    channels: Annotated[str | None, _default("flair,t1gd,t2")] = None
    """Channels for zeroshot; a run has its own."""
    image_size: Annotated[int | None, _default("what the weights were trained at")] = None
    """Side of the model's input for zeroshot."""
    protocol: Literal["decathlon"] | None = None
    """decathlon: score only slices where every region of paper A has 250 pixels."""
    modalities: str | None = None
    """Show the models only these modalities of every case (t2,flair), as if the scans lacked the others; their names in
    tables and the default --output end with them. For runs that do without, see --modality-dropout of train."""
    planes: Annotated[str | None, _default("all that the run was trained on")] = None
    """Planes whose mean probability decides each voxel of prompt-free masks; any of those that the runs were trained
    on. Where they are not the runs' own choice, the names of the models in tables end with them."""
    min_pixels: int = 1
    """The scope "slice" holds slices with at least this many pixels of the region."""
    average: bool = True
    """Use the average of the weights (SWA) where a run has one; --no-average takes the last weights."""
    ensemble: bool = False
    """Score the runs of --run, all of the same region, as one model by their mean probability, and none of them alone.
    Without prompts, or with boxes or one click a slice."""
    rotations: Annotated[int, arg(help=f"{_ROTATIONS_HELP} Without prompts or with one click a slice.")] = 1
    postprocess: Annotated[str, arg(help=f"{_POSTPROCESS_HELP} NIfTI predictions are scored as they are.")] = "auto"
    nested: bool = False
    """Of a run of several regions, leave out what an inner one has outside an outer one, instead of making the outer
    one larger."""
    output: Annotated[Path | None, _default("eval/ in the first run's folder")] = None
    """Folder for tables, figures and the report."""
    lora_distance: bool = False
    """Compare the LoRA updates of the two runs that have them, layer by layer (paper B, fig. 8)."""
    embeddings: bool = False
    """Map the first model's image embeddings by domain (paper B, fig. 9)."""
    save_predictions: bool = False
    """Write predictions/<case>.nii.gz in the space of the source."""
    batch_size: int = 8
    """Slices that go through the model together on each device."""
    seed: int = 0
    """Seed of all random draws."""
    clicks: int = 1
    """Clicks on each slice where the prompt is point; each further click is placed in the largest error region."""
    limit: int | None = None
    """Use only this many cases of each domain, the first ones."""
    layout: Annotated[str | None, _default("recognised")] = None
    """Layout of --data: brats, msd or nnunet."""
    labels: str | None = None
    """Label scheme where file names do not give it."""
    workers: int = 1
    """Threads that read the next cases, and as many processes that compute metrics; 0: everything runs in one."""
    cache: bool = True
    """Keep normalised slices in --cache-dir; --no-cache holds them in memory."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder of prepared slices and compiled programs."""


@dataclass(frozen=True)
class PredictOptions:
    """Segment scans that have no labels.

    A label that lies beside a scan is not opened. Scans on another voxel grid than the run's are resampled to it, and
    the masks back.
    """

    input: tuple[Path, ...]
    """A folder of cases, a case's folder, or files of cases."""
    output: Path
    """Folder for <case>.nii.gz, in the space of the source, uint8, and for the volumes of all regions in millilitres
    (volumes.csv and volumes.json). Cases that are already there are skipped."""
    run: Annotated[tuple[Path, ...], UseAppendAction] = ()
    """Run folder, packed file, hf:ORG/NAME, "latest" for the newest run, or glioma, the default: a model of all regions
    that comes with samjax, trained on generated scans alone. Repeat to merge regions into one label map: whole-tumor
    first, then tumor-core, edema, non-enhancing and enhancing over it. Several runs of one region are an ensemble:
    their mean probability counts."""
    weights: str | None = None
    """New place of the run's base weights."""
    prompt: Literal["none"] | None = None
    """none: every slice, without prompts. The default where neither --boxes nor --points is given."""
    boxes: Path | None = None
    """JSON {"CASE": [[i0, j0, k0, i1, j1, k1], ...]}: first and last voxel of each box in the source array. A box
    prompts every axial slice that it spans; the others stay background."""
    points: Path | None = None
    """JSON {"CASE": [[i, j, k, label], ...]}: voxels of the source array, label 1 inside, 0 outside. All clicks on an
    axial slice are one prompt; slices without any stay background."""
    planes: Annotated[str | None, _default("all that the run was trained on")] = None
    """Planes whose mean probability decides each voxel of prompt-free masks, such as axial or axial,coronal,sagittal;
    any of those that the run was trained on. Of three planes, axial alone takes less than a third of the time."""
    propagate: bool = False
    """Carry the mask of a prompted slice up and down, each slice prompted by the mask before it: by its box, grown by
    5 % and at least a pixel on each side, or by a click where it is deepest if the run never saw boxes. Ends where the
    mask has fewer than 10 pixels, or a predicted IoU below half of that on the prompted slice."""
    probabilities: Literal["uint8", "float32"] | None = None
    """Write probabilities/<case>_<region>.nii.gz too: the model's probability of each region, before --postprocess, and
    0 in slices that were not run. uint8 holds 255 times the probability with a slope of 1/255, so that viewers and
    nibabel show 0 to 1."""
    uncertainty: bool = False
    """Write uncertainty/<case>.nii.gz too: the binary entropy in bits, from 0 (sure) to 1 (probability 0.5), of the
    outermost region's probability (the mean one of ensembles and rotations), before --postprocess; 0 in slices that
    were not run."""
    rotations: Annotated[int, arg(help=f"{_ROTATIONS_HELP} Not with --boxes or --propagate.")] = 1
    postprocess: Annotated[
        str,
        arg(
            help=f"{_POSTPROCESS_HELP} Of merged runs, that of the outermost region; of an ensemble, the rule that all "
            "of its runs chose, else none."
        ),
    ] = "auto"
    nested: bool = False
    """Of several regions, leave out what an inner one has outside an outer one (tumour core outside the whole tumour,
    enhancing tumour outside the core). Without it the outer region becomes larger by that."""
    overwrite: bool = False
    """Replace predictions that are already in --output."""
    layout: Annotated[str | None, _default("recognised")] = None
    """Layout of --input: brats, msd or nnunet."""
    labels: Annotated[str | None, _default("that of the input's names, else of the run's first domain")] = None
    """Scheme of the values written: brats2021, brats2023, ..."""
    workers: int = 1
    """Threads that read the next cases; 0 reads each case when it is predicted."""
    batch_size: int = 8
    """Slices that go through the model together on each device."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder of compiled programs."""


@dataclass(frozen=True)
class ServeOptions:
    """Segment scans by hand in a browser, 3D Slicer, napari or MITK.

    A label that lies beside a scan is not opened. Every edit is kept at once, so that nothing is lost when the server
    ends; with the same --input and --output it goes on where it was.

    Needs a few packages more: pip install 'samjax[serve]'.
    """

    input: Annotated[tuple[Path, ...], _default("a generated scan")] = ()
    """A folder of cases, a case's folder, or files of cases."""
    output: Path = Path("segmentations")
    """Folder for saved segmentations, <case>.nii.gz in the space of the source, and for what is kept of every case."""
    run: Annotated[Path | None, _default("glioma, a model that comes with samjax")] = None
    """Run folder, packed file, hf:ORG/NAME, "latest" for the newest run, or glioma."""
    weights: str | None = None
    """Base weights to click with as they are or, with --run, the new place of the run's base weights."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own (127.0.0.1, localhost, ::1) needs --token; traffic is not
    encrypted."""
    port: int = 1527
    """Port to listen on; 0 takes a free one."""
    token: Annotated[str | None, _default("the environment variable SAMJAX_TOKEN, else none")] = None
    """Secret that a browser or client must know. Other users of the machine see an option, but not the variable."""
    browser: bool = True
    """Open the page in a browser."""
    layout: Annotated[str | None, _default("recognised")] = None
    """Layout of --input: brats, msd or nnunet."""
    labels: Annotated[str | None, _default("that of the input's names, else of the run's first domain")] = None
    """Scheme of the values written: brats2021, brats2023, ..."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder of compiled programs and of the generated scan."""


@dataclass(frozen=True)
class CheckOptions:
    """Check that every case of a folder can be used.

    Every file is read to its last byte, and what is wrong is listed.
    """

    dir: Positional[Path]
    """Folder of cases."""
    layout: Annotated[str | None, _default("recognised")] = None
    """Layout of the folder: brats, msd or nnunet."""
    labels: Annotated[str | None, _default("what names and dataset.json tell")] = None
    """Scheme of the label values: brats2021, brats2023, ped2024, gli2024, msd, or spelled out as
    edema=2,non-enhancing=1,enhancing=4."""
    json: Path | None = None
    """File to write all findings to."""
    run: Annotated[Path | None, _default("none")] = None
    """Run that the scans are compared with: with its training data's spacing, slice thickness and field of view, and
    with the modalities that it looks at. Without a run, no modality is taken to be needed."""
    workers: Annotated[int | None, _default("one per core")] = None
    """Processes that read cases."""


@dataclass(frozen=True)
class PrepareOptions:
    """Register and skull-strip scans as a scanner wrote them.

    The result is what check and predict take: cases in BraTS naming, on one grid, without skull.

    Needs SimpleITK: pip install 'samjax[prepare]'. Look at the picture of each case before you use it.
    """

    input: Path
    """A folder of cases or a case's folder. The scans of a case may have different grids, and may lie apart."""
    output: Path
    """Folder for a folder of each case: images in BraTS naming, mask of the brain, transforms, record and picture.
    Cases that are already there are skipped."""
    reference: Annotated[
        Literal["t1", "t1gd", "t2", "flair"] | None, _default("t1gd, else t1, t2 or flair; a stripped one if any is")
    ] = None
    """Modality that the others are registered to and whose space the result has."""
    spacing: str = "1"
    """Voxel grid of the result in mm. One number: cubes. Three numbers, such as 0.8,0.8,3: distances between rows,
    columns and slices."""
    overwrite: bool = False
    """Replace cases that are already in --output."""


@dataclass(frozen=True)
class _Conversion:
    src: Annotated[Positional[Path], arg(metavar="SRC")]
    """Weights to convert: a .pth, .bin or .safetensors file in Meta's, MedSAM's, Hugging Face's or samjax's names, the
    index of a model in shards (model.safetensors.index.json), a folder of transformers, the folder of a finished run,
    the final.safetensors in it, or a packed run."""
    dst: Annotated[Positional[Path], arg(metavar="DST")]
    """File to write: .safetensors for samjax, .pth or .safetensors for Meta's code, a new folder or a .safetensors file
    for transformers."""


@dataclass(frozen=True)
class ToFlaxOptions(_Conversion):
    """Convert a SAM checkpoint (Meta's, MedSAM's or Hugging Face's) to samjax's safetensors; needs no PyTorch."""

    download: Literal["vit_b", "vit_l", "vit_h"] | None = None
    """First download this model of Meta's to SRC (a file or a folder); an interrupted download is continued."""
    url: str = BASE_URL
    """Address of the folder with the files of --download."""


@dataclass(frozen=True)
class ToTorchOptions(_Conversion):
    """Convert samjax's weights, or a finished run, for Meta's code or for transformers; needs no PyTorch.

    LoRA is merged into the base weights, and averaged weights are taken where a run has them. A run with a depth
    above 1 cannot be written; of a run of several regions, whole-tumor alone is.
    """

    format: Annotated[Literal["meta", "transformers"] | None, _default("meta")] = None
    """Naming of the tensors that are written."""
    weights: str | None = None
    """New place of a run's base weights."""


@dataclass(frozen=True)
class ConvertOptions(ToTorchOptions, ToFlaxOptions):
    """Convert weights from PyTorch to samjax, or back.

    A file or run that samjax wrote is converted for PyTorch, and so is any SRC with --format or with a DST that is
    no .safetensors file. Everything else is converted to samjax's safetensors. PyTorch is not needed.
    """


@dataclass(frozen=True)
class ExportOptions:
    """Write a SAM as StableHLO or ONNX, which runs without samjax.

    The image encoder and the mask decoder become one program each. Their parameters (in ONNX, inside the programs) and
    deployment.json, which describes the programs' use, are written too.
    """

    out: Positional[Path]
    """New folder for the files."""
    run: Annotated[Path | None, _default("runs/latest, unless --weights names base weights")] = None
    """Folder of a finished run, a packed file, or hf:ORG/NAME."""
    weights: str | None = None
    """Base weights to export as they are or, with --run, the new place of the run's base weights."""
    format: Literal["stablehlo", "onnx"] = "stablehlo"
    """stablehlo runs by JAX, onnx by onnxruntime and others; onnx needs pip install 'samjax[onnx]'."""
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = ("cpu", "cuda", "tpu")
    """Platforms that the programs of stablehlo run on."""


@dataclass(frozen=True)
class PackOptions:
    """Write a finished run as one file, for other machines.

    Base weights, trained weights, channels, grid, post-processing and card are in it. Everything that takes a run
    takes the file: predict, eval, serve, export, train --weights, Predictor.from_run.
    """

    run: Positional[Path]
    """Folder of a finished run, "latest" for the newest one, or glioma."""
    out: Positional[Path]
    """New file, NAME.safetensors; NAME is the model's name from then on."""
    weights: str | None = None
    """New place of the run's base weights."""
    labels: Annotated[str | None, _default("that of the training data")] = None
    """Scheme of the label values that are written where the names of a scan do not tell it: brats2021, ..."""


@dataclass(frozen=True)
class PushOptions:
    """Upload a finished run, packed, to the Hugging Face Hub.

    The repository gets model.safetensors and a card (README.md): the run's own, or one with its settings and the
    figures of its evaluation. --run hf:ORG/NAME then takes it anywhere. Log in by `hf auth login` first.

    Needs one package more: pip install 'samjax[hub]'.
    """

    run: Positional[Path]
    """Folder of a finished run, "latest" for the newest one, or a packed file."""
    name: Positional[str]
    """Repository, hf:ORG/NAME; it is made if it is not there."""
    public: bool = False
    """Make a new repository public. Without it, it is private; one that is there stays as it is."""
    license: Annotated[str | None, _default("none, and the card says so")] = None
    """Licence of the weights for the card, such as apache-2.0 or cc-by-nc-4.0."""
    weights: str | None = None
    """New place of the run's base weights."""
    labels: Annotated[str | None, _default("that of the training data")] = None
    """Scheme of the label values that are written where the names of a scan do not tell it: brats2021, ..."""


@dataclass(frozen=True)
class NnunetOptions:
    """Write a run's patients and split as a dataset of nnU-Net v2."""

    out: Positional[Path]
    """Folder that nnUNet_raw and nnUNet_preprocessed are made in."""
    run: Annotated[Path | None, _default("runs/latest")] = None
    """Run whose patients and split are written."""
    number: int = 501
    """Number of the dataset, 1 to 999, by which nnU-Net's commands find it."""


@dataclass(frozen=True)
class CompletionOptions:
    """Print the completion script of a shell."""

    shell: Positional[Literal["bash", "zsh"]]
    """Shell that the script is for."""
