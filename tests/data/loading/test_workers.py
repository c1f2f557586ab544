"""What the worker processes share."""

import os
import pickle
import tempfile

from samjax.data.loading import workers
from samjax.data.loading.pipeline import MapDataset


def test_workers_read_their_chain_without_moving_the_position_that_they_share():
    """An inherited descriptor has one position for all: workers that start at once would read from each other's."""
    with tempfile.TemporaryFile() as file:
        file.write(pickle.dumps(MapDataset.source(range(50_000))))
        file.seek(3)
        dataset, failure = workers._loaded(os.dup(file.fileno()))
        assert failure is None
        assert dataset.get(0, 49_999) == 49_999
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 3
