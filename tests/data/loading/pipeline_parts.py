"""Sources and functions for the tests of the pipeline: worker processes import this, and no pytest."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from samjax.errors import UserError


class Windows:
    """A source of 11, 7 or 13 samples that are other ones in every epoch."""

    def epoch(self, epoch):
        offsets = np.random.default_rng((99, epoch)).integers(256, size=(11, 7, 13)[epoch % 3])
        return [(1000 * epoch + i, int(offset)) for i, offset in enumerate(offsets)]


def read(window):
    number, offset = window
    time.sleep(0.003 * (number % 3 == 0))  # workers shall not finish in the order of the requests
    return {"id": number, "image": np.full((3, 2), offset, np.uint8), "meta": {"case": f"case {number}"}}


def add_noise(sample, rng):
    return sample | {"noise": rng.random(2)}


def add_other_noise(sample, rng):
    return sample | {"other": rng.random(2)}


def slow(sample):
    time.sleep(0.1)
    return {"x": sample}


def grow(index):
    return {
        "array": np.arange(10**index).astype(np.int32),
        "strided": np.arange(24).reshape(4, 6)[:, ::2],
        "text": ["any", None],
        "empty": np.empty((0, 3)),
        "scalar": np.float32(index),
        "jax": "jax" in sys.modules,
        "named memory": any("/dev/shm" in os.readlink(f) for f in Path("/proc/self/fd").glob("*") if f.is_symlink()),
    }


def stumble(number):
    if number == 5:
        raise ValueError("the fifth is broken")
    if number == 9:
        raise UserError("case_9.nii.gz: 3 channels, expected 4; convert it")
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 17:
        os._exit(3)
    return {"x": number}


def refuse():
    raise ImportError("no such module here")


class Unloadable:
    def __reduce__(self):
        return refuse, ()

    def __call__(self, sample):
        return sample


def who(number):
    """Shows the process at work; from the tenth sample on, works for a minute."""
    if number >= 10:
        time.sleep(60)
    return {"pid": os.getpid()}
