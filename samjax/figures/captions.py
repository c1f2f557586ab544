"""The wording of titles and legends: the source of prompts, and the numbers scored."""

from collections.abc import Iterable, Sequence

from samjax.metrics.rows import Row, prompt_source


def prompts_text(prompts: Iterable[str]) -> str:
    """The common source of prompts in words: "prompts from ground truth (box)", or "no prompts"."""
    kinds = list(dict.fromkeys(prompts))
    (source,) = {prompt_source(kind) for kind in kinds}
    return "no prompts" if source == "none" else f"prompts from {source} ({' / '.join(kinds)})"


def run_text(run: str, prompt: str) -> str:
    """A run and its prompt, for a legend."""
    return f"{run} ({'no prompts' if prompt_source(prompt) == 'none' else prompt})"


def count_text(rows: Sequence[Row]) -> str:
    """The number of slices or volumes scored, each counted once for all runs, and of their patients."""
    scans = len({(row.domain, row.case, row.slice) for row in rows})
    patients = len({(row.domain, row.patient) for row in rows})
    return f"{plural(scans, 'volume' if rows[0].slice is None else 'slice')} of {plural(patients, 'patient')}"


def plural(count: int, noun: str) -> str:
    """A count with its noun, as in "1 slice" and "2 slices"."""
    return f"{count} {noun}{'s'[: count != 1]}"
