"""What the commands set up before they compute."""

from pathlib import Path


def use_compilation_cache(cache_dir: Path) -> None:
    """Keeps compiled programs under `cache_dir`, so that the next run of the same shapes starts at once.

    Not with several processes: one that finds a program while another compiles it could wait for it in vain.
    """
    import jax

    if jax.process_count() > 1:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_dir.expanduser() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
