"""How a LoRA training step's cost grows: writes docs/images/growth.png and prints the table of docs/performance.md.

ViT-B with random weights, strategy lora4ch, box prompt, float32, on this machine's CPU; every row in a process of its
own. Run: python docs/make_growth_figure.py
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).parents[1]
FIGURE = ROOT / "docs" / "images" / "growth.png"
STEPS = 2


@dataclass(frozen=True)
class Setting:
    """One row: `batch` samples of `depth` slices at `size`, split over `devices`."""

    size: int
    depth: int = 1
    batch: int = 1
    devices: int = 1
    remat: bool = False


SETTINGS = (
    *(Setting(size) for size in (256, 512, 1024)),
    *(Setting(256, depth) for depth in (4, 8)),
    *(Setting(256, batch=batch) for batch in (2, 4)),
    Setting(256, batch=4, devices=2),
    Setting(1024, remat=True),
)


def count_flops(jaxpr) -> float:
    """Of all matrix products and convolutions, those in loops as often as they run."""
    import numpy as np
    from jax.extend.core import jaxprs_in_params

    total = 0.0
    for equation in jaxpr.eqns:
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            total += repeats * count_flops(inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * np.prod(out, dtype=float) * np.prod([left[axis] for axis in contracted], dtype=float)
        if equation.primitive.name == "conv_general_dilated":
            kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
            channels = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2.0 * np.prod(out, dtype=float) * np.prod(kernel, dtype=float) / kernel[channels]
    return total


def measure(setting: Setting) -> dict[str, float]:
    """Seconds of a step, of compiling it, GiB at the peak, and TFLOP of a step."""
    import resource

    import jax
    from flax import nnx

    from benchmarks.our_training import OurTraining
    from benchmarks.train_step import sample
    from samjax.data.on_device.channels import parse_channels
    from samjax.data.on_device.prompts import PromptMix
    from samjax.models.adapt import adapt
    from samjax.models.config import PRESETS, Adaptation, ComputeConfig
    from samjax.models.initialise import initial_values
    from samjax.strategies import STRATEGIES, trainable_filter
    from samjax.training.tasks.objective import Objective, slice_results
    from samjax.weights.architecture import expected_shapes

    channels = parse_channels("all")
    base = initial_values(expected_shapes(PRESETS["vit_b"]), seed=0)
    adaptation = Adaptation(lora_rank=4, slices=setting.depth)
    model = adapt(PRESETS["vit_b"], base, adaptation, ComputeConfig(remat=setting.remat), patch_channels=channels.count)
    objective = Objective("whole-tumor", channels, PromptMix.parse("box"), setting.size)
    batch = sample(setting.batch, setting.depth)
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES["lora4ch"]), ...)

    def loss(trainable: nnx.State) -> jax.Array:
        return slice_results(nnx.merge(graphdef, trainable, frozen), batch, jax.random.key(0), objective).loss.sum()

    flops = count_flops(jax.make_jaxpr(jax.value_and_grad(loss))(trainable).jaxpr)
    training = OurTraining(model, "lora4ch", objective, 1e-4, batch)
    training.step(batch)
    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        training.step(batch)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": min(seconds), "compile": training.compile_seconds, "peak": peak, "tflop": flops / 1e12}


def measured_apart(setting: Setting) -> dict[str, float]:
    """`measure` in a fresh process with as many fake devices as the setting has."""
    flags = f"--xla_force_host_platform_device_count={setting.devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, json.dumps(asdict(setting))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def draw(found: dict[Setting, dict[str, float]]) -> None:
    """Seconds against input side, slices a sample, and batch, each beside the line of its arithmetic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from samjax.figures.palette import COLOURS

    curves = {
        "input side (pixels)": {s.size: s for s in found if (s.depth, s.batch, s.remat) == (1, 1, False)},
        "slices a sample, 256 x 256": {s.depth: s for s in found if (s.size, s.batch) == (256, 1)},
        "batch, 256 x 256": {s.batch: s for s in found if (s.size, s.depth, s.devices) == (256, 1, 1)},
    }
    figure = Figure(figsize=(9, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, curve) in zip(figure.subplots(1, 3), curves.items(), strict=True):
        places = sorted(curve)
        seconds = [found[curve[place]]["seconds"] for place in places]
        flops = [found[curve[place]]["tflop"] for place in places]
        axis.plot(places, seconds, "-o", color=COLOURS[0], label="measured")
        expected = [seconds[0] * x / flops[0] for x in flops]
        axis.plot(places, expected, "--", color=COLOURS[1], label="in proportion to FLOPs")
        axis.set(xscale="log", yscale="log", xlabel=name)
        for which, ticks in ((axis.xaxis, places), (axis.yaxis, [round(x, 1) for x in seconds])):
            which.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            which.set_ticks([], minor=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e8e8e8")
        axis.set_axisbelow(True)
    figure.axes[0].set_ylabel("seconds a step")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(FIGURE)


def main() -> None:
    """Measures all settings and prints one row each as it is known."""
    print("| input | slices | batch | devices | --remat | TFLOP | s a step | GFLOP/s | compile s | peak GiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    found = {}
    for setting in SETTINGS:
        row = found[setting] = measured_apart(setting)
        cells = (
            setting.size, setting.depth, setting.batch, setting.devices, "yes" if setting.remat else "no",
            f"{row['tflop']:.2f}", f"{row['seconds']:.1f}", f"{1e3 * row['tflop'] / row['seconds']:.0f}",
            f"{row['compile']:.0f}", f"{row['peak']:.1f}",
        )  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    draw(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Setting(**json.loads(sys.argv[1])))))
    else:
        main()
