"""The options of the commands as frozen dataclasses. Field docs are what `--help` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction

DEFAULT_CACHE = Path("~/.cache/samjax")


@dataclass(frozen=True)
class TrainOptions:
    """Fine-tune SAM on brain-tumour MRI."""

    strategy: str = "lora4ch"
    """decoder (paper A); lora, lora4ch, lora4ch-2step or full (paper B); unet; or pretrain, on generated pictures."""
    data: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of scans, as DIR or NAME=DIR; repeat for several domains. Default: a generated phantom cohort."""
    weights: str | None = None
    """Base weights: what convert/torch_to_flax.py reads or writes, "tiny" (default), or "random" for the same small
    model without training (default of pretrain)."""
    run: Path | None = None
    """Folder of this run. Default: runs/<time>-<strategy>."""
    resume: bool = False
    """Continue the run in --run (or the newest run) where it stopped."""
    allow_changes: bool = False
    """Let --resume take other options than the run began with, where the model stays the same."""
    overfit: str | None = None
    """Train on this one case and report its own Dice: whether a model can learn at all. Without augmentation."""

    roi: str = "whole-tumor"
    """Region to segment: edema, non-enhancing, enhancing, tumor-core or whole-tumor."""
    channels: str | None = None
    """Input channels: modalities in order (flair,t1gd,t2), one modality repeated (t1gd), all, or pca2d."""
    prompt: str | None = None
    """Prompts drawn from the labels: box, point, none, mixed, or shares such as point:0.75,none:0.25."""
    box_jitter: float | None = None
    """Sides of a training box move by up to this share of its width or height. Default: 0; of pretrain 0.1."""
    clicks: int | None = None
    """Rounds of clicks on a sample prompted by points; each further one answers the largest error. Default: 1; of
    pretrain 3."""
    depth: int | None = None
    """Contiguous slices a sample holds; above 1 the encoder attends across them."""
    min_pixels: int = 1
    """A training window is used if one of its slices holds at least so many pixels of the ROI."""

    empty_share: float | None = None
    """Share of the training windows that show none of the ROI; only prompt-free samples learn from them. Default: 0; of
    unet 0.25."""

    epochs: int | None = None
    """Default: 25. Of lora4ch-2step, of each step."""
    max_steps: int | None = None
    """Stop after so many steps, whatever --epochs says. Default: 300 on the phantom, else no limit."""
    batch_size: int | None = None
    """Samples (of --depth slices) on each device. Default: 1; of unet 4, of pretrain 8."""
    lr: float | Literal["auto"] | None = None
    """Learning rate, or auto: the finder's suggestion before the first step. Default: 1e-4; of unet 1e-3, of pretrain
    3e-3."""
    lr_finder_every: int | None = None
    """Ask the learning-rate finder anew after so many epochs, up to the averaging (paper A: 5). Default: never."""
    optimizer: Literal["adam", "adamw", "muon"] | None = None
    """Default: adam; of pretrain muon."""
    weight_decay: float = 0.01
    """Of adamw; parameters that no loss reaches are left alone."""
    schedule: Literal["constant", "cosine"] | None = None
    """Learning rate up to the averaging: constant, or a warm-up and a half cosine down to --swa-lr (to 0 without
    averaging). Default: constant; of unet and pretrain cosine."""
    warmup_steps: int = 100
    """Of the cosine schedule."""
    clip_norm: float | None = None
    """Clip gradients to this global norm. Default: not; of pretrain 1."""
    accumulate: int = 1
    """Average the gradients of so many steps before each update."""
    swa: bool = True
    """Average the weights over the last part of the run (SWA); both the average and the last weights are kept."""
    swa_start: float = 0.75
    """Share of the run after which weights are averaged."""
    swa_lr: float | None = None
    """Learning rate while averaging, the highest of each cycle. Default: --lr; after a cosine a tenth of it."""
    swa_cycle: int = 0
    """Steps in which the rate falls to a tenth on a half cosine while averaging, over and over; 0: constant."""
    image_size: int | None = None
    """Side of the model's input in pixels. Default: what the weights were trained at."""
    augment: bool = True
    """Rotate and deform training samples."""
    rotation: float = 20.0
    """Largest rotation in degrees."""
    elastic_alpha: float = 200.0
    """Strength of the elastic deformation: the scale of the smoothed noise, in pixels of a 240 x 240 slice; 0: none."""
    elastic_sigma: float = 16.0
    """Smoothness of the elastic deformation, in pixels of a 240 x 240 slice."""

    lora_rank: int = 4
    lora_alpha: float | None = None
    """The LoRA update is scaled by alpha / rank. Default: alpha = rank."""
    lora_targets: str = "q,k,v,mlp"
    """Layers that LoRA adapts: any of q, k, v, mlp."""
    patch_embedding: Literal["random", "inflate"] = "random"
    """How the new patch embedding starts: random as paper B, or the RGB one spread over the channels."""

    seed: int = 0
    limit: int | None = None
    """Use only the first so many cases of each domain."""
    fold: str | None = None
    """K/N: cross-validation fold instead of the 80/20 split."""
    layout: str | None = None
    """Layout of --data: brats, msd or nnunet. Default: recognised."""
    labels: str | None = None
    """Label scheme where file names do not tell it: brats2023, ped2024, gli2024, ..."""
    workers: int = 1
    """Processes that read slices; 0 reads in the training process."""
    cache: bool = True
    """Keep normalised slices in --cache-dir; --no-cache holds them in memory."""
    cache_dir: Path = DEFAULT_CACHE
    cache_embeddings: int | None = None
    """Run the frozen encoder once: keep the embeddings of so many augmented variants of each slice in --cache-dir;
    epochs show them in turn. 1 with --no-augment. Only of --strategy decoder."""
    embeddings_budget: float = 50.0
    """GB that all embeddings in --cache-dir may take."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations and matrix products; parameters, norms, softmax and loss stay float32."""
    remat: bool = False
    """Recompute encoder blocks in the backward pass: less memory, about a quarter more time."""
    checkpoint_every: int = 200
    """Steps between checkpoints; the end of an epoch saves one too."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes train together and no launcher (SLURM, mpirun, Kubernetes) says
    so. They share --run, --data and --cache-dir."""
    processes: int | None = None
    """How many processes train together. Default: what the launcher says; 1 trains alone."""
    process_index: int | None = None
    """Which of them this one is, from 0."""


@dataclass(frozen=True)
class EvalOptions:
    """Score runs, or base weights as they are, against labels."""

    run: Annotated[tuple[Path, ...], UseAppendAction] = ()
    """Run folder; repeat to compare. Default: runs/latest."""
    strategy: Literal["zeroshot"] | None = None
    """zeroshot scores --weights without any training; beside runs, for each region and channels that they have."""
    predictions: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of NIfTI predictions of any method, one <case>.nii.gz a case, as DIR or NAME=DIR; repeat to compare."""
    weights: str | None = None
    """Base weights for zeroshot, or where a run's base weights have moved to."""
    data: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Folder of scans, as DIR or NAME=DIR; repeat for several domains. Default: the run's own."""
    split: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Which patients: test, val, train or all; NAME=PART for one domain. Default: test for the run's own data, all
    for other data."""
    prompt: Literal["box", "point", "none"] | None = None
    """Prompt to score with. Default: the run's own first kind; box for zeroshot."""
    roi: str | None = None
    """Region for zeroshot and --predictions (all: every region); a run knows its own. Default: whole-tumor."""
    channels: str | None = None
    """Channels for zeroshot; a run knows its own. Default: flair,t1gd,t2."""
    image_size: int | None = None
    """Side of the model's input for zeroshot. Default: what the weights were trained at."""
    protocol: Literal["decathlon"] | None = None
    """decathlon: score only slices where every region of paper A has 250 pixels."""
    min_pixels: int = 1
    """The scope "slice" holds slices with at least so many pixels of the region."""
    average: bool = True
    """Use the average of the weights (SWA) where a run has one; --no-average takes the last weights."""
    output: Path | None = None
    """Where tables, figures and the report go. Default: eval/ in the first run's folder."""
    lora_distance: bool = False
    """Compare the LoRA updates of the two runs that have some, layer by layer (paper B, fig. 8)."""
    embeddings: bool = False
    """Map the first model's image embeddings by domain (paper B, fig. 9)."""
    save_predictions: bool = False
    """Write predictions/<case>.nii.gz in the space of the source."""
    batch_size: int = 8
    """Slices that go through the model together on each device, where a scan has so many."""
    seed: int = 0
    clicks: int = 1
    """Clicks on each slice where the prompt is point; each further one answers the largest error."""
    limit: int | None = None
    """Use only the first so many cases of each domain."""
    layout: str | None = None
    labels: str | None = None
    """Label scheme where file names do not tell it."""
    workers: int = 1
    """Threads that read the next cases, and as many processes that compute metrics; 0: all happens in one."""
    cache: bool = True
    cache_dir: Path = DEFAULT_CACHE


@dataclass(frozen=True)
class PredictOptions:
    """Segment scans that have no labels. A label that lies beside a scan is not opened."""

    input: tuple[Path, ...]
    """A folder of cases, a case's folder, or files of cases."""
    output: Path
    """Folder for <case>.nii.gz, in the space of the source, uint8. Cases that it holds already are skipped."""
    run: Annotated[tuple[Path, ...], UseAppendAction] = ()
    """Run folder; repeat to merge regions into one label map: whole-tumor first, then tumor-core, edema, non-enhancing
    and enhancing over it. Default: runs/latest."""
    weights: str | None = None
    """Where the run's base weights have moved to."""
    prompt: Literal["none"] | None = None
    """none: every slice, without prompts. The default where neither --boxes nor --points is given."""
    boxes: Path | None = None
    """JSON {"CASE": [[i0, j0, k0, i1, j1, k1], ...]}: first and last voxel of each box in the source array. A box
    prompts every axial slice that it spans; the others stay background."""
    points: Path | None = None
    """JSON {"CASE": [[i, j, k, label], ...]}: voxels of the source array, label 1 inside, 0 outside. All of an axial
    slice are one prompt; slices without any stay background."""
    propagate: bool = False
    """Carry the mask of a prompted slice up and down, each slice prompted by the mask before it: by its box, grown by
    5 % and at least a pixel on each side, or by a click where it is deepest if the run never saw boxes. Ends where the
    mask has fewer than 10 pixels, or a predicted IoU below half of that on the prompted slice."""
    overwrite: bool = False
    """Predict anew what --output holds already."""
    layout: str | None = None
    """Layout of --input: brats, msd or nnunet. Default: recognised."""
    labels: str | None = None
    """Scheme of the values written: brats2021, brats2023, ... Default: what the names of the input tell, else that of
    the first domain that the run was trained on."""
    workers: int = 1
    """Threads that read the next cases; 0 reads each when its turn comes."""
    batch_size: int = 8
    """Slices that go through the model together on each device, where a scan has so many."""
    cache_dir: Path = DEFAULT_CACHE
    """Compiled programs are kept here."""
