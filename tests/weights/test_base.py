"""What `--weights` names without a file."""

import pytest

from samjax.errors import UserError
from samjax.weights import base


def test_random_weights_are_known_by_their_values(monkeypatch: pytest.MonkeyPatch):
    before = base.load_base("random")
    assert base.load_base("random").sha256 == before.sha256
    drawn = base.initial_values

    def otherwise(shapes: dict[str, tuple[int, ...]], seed: int):
        values = drawn(shapes, seed)
        values["image_encoder/pos_embed"] = values["image_encoder/pos_embed"] + 1e-3
        return values

    monkeypatch.setattr(base, "initial_values", otherwise)
    assert base.load_base("random").sha256 != before.sha256


def test_tiny_is_the_shipped_file_where_there_is_one(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "SHIPPED", tmp_path / "none.safetensors")
    assert base.load_base("tiny").sha256 == base.load_base("random").sha256
    with pytest.raises(UserError, match="--weights nowhere: no such file"):
        base.load_base("nowhere")
