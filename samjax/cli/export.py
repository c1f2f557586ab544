"""`samjax export`: writes a SAM as StableHLO."""

from samjax.inference.export import deploy
from samjax.inference.volumes import segmenter_of_run, zeroshot_segmenter
from samjax.options import ExportOptions
from samjax.runs.folder import find_run


def main(options: ExportOptions) -> None:
    """Exports a run or base weights, and says how far the loaded programs are from the model."""
    if options.run is None and options.weights is not None:
        segmenter = zeroshot_segmenter(options.weights, "whole-tumor", "flair,t1gd,t2", None, 1, None)
    else:
        segmenter = segmenter_of_run(find_run(options.run), options.weights, None, 1, average=True)
    description = deploy(segmenter, options.out, options.platforms)
    found = description["difference"]
    compared = (
        "not compared, as it is for other machines"
        if found is None
        else f"largest difference {max(found.values()):.1e}"
    )
    print(f"{options.out}: {', '.join(description['programs'])} for {', '.join(description['platforms'])}; {compared}")
