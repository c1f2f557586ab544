"""`samjax export`: writes a SAM as StableHLO or ONNX."""

from samjax.inference.export import deploy
from samjax.inference.loading import model_of_run, model_of_weights
from samjax.inference.onnx_export import deploy_onnx
from samjax.options import ExportOptions
from samjax.runs.folder import find_model


def main(options: ExportOptions) -> None:
    """Exports a run or base weights, and prints the largest difference between the loaded programs and the model."""
    if options.run is None and options.weights is not None:
        model = model_of_weights(options.weights, "whole-tumor", "flair,t1gd,t2")
    else:
        model = model_of_run(find_model(options.run), options.weights)
    if options.format == "onnx":
        description = deploy_onnx(model, options.out)
    else:
        description = deploy(model, options.out, options.platforms)
    found = description["difference"]
    compared = (
        "not compared, as it is for other machines"
        if found is None
        else f"largest difference {max(found.values()):.1e}"
    )
    print(f"{options.out}: {', '.join(description['programs'])} for {', '.join(description['platforms'])}; {compared}")
