import numpy as np
import pytest
from safetensors.numpy import save

from hansa.errors import VerificationError
from hansa.modelfile import model_bytes, read_model


def state():
    return {"b": np.arange(6, dtype=np.float32).reshape(3, 2), "a": np.ones((1, 1), dtype=np.float32)}


def test_a_model_comes_back_and_may_be_handed_to_torch(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(state()))
    for source in (path, path.read_bytes()):
        found = read_model(source, {"a": (1, 1), "b": (3, 2)})
        assert set(found) == {"a", "b"}
        np.testing.assert_array_equal(found["b"], state()["b"])
        assert found["b"].flags.writeable


def test_the_same_arrays_have_the_same_bytes() -> None:
    turned = dict(reversed(state().items()))
    turned["b"] = np.asfortranarray(turned["b"])
    assert model_bytes(turned) == model_bytes(state())
    assert model_bytes({**state(), "a": np.zeros((1, 1), dtype=np.float32)}) != model_bytes(state())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.ones((2, 2)), "not a float32 matrix"),
        (np.ones(3, dtype=np.float32), "not a float32 matrix"),
        (np.full((2, 2), np.nan, dtype=np.float32), "not finite"),
        (np.full((2, 2), np.inf, dtype=np.float32), "not finite"),
    ],
)
def test_what_is_no_model_is_neither_written_nor_read(wrong, says) -> None:
    with pytest.raises(VerificationError, match=says):
        model_bytes({"a": wrong})
    with pytest.raises(VerificationError, match=says):
        read_model(save({"a": wrong}))


@pytest.mark.parametrize(
    "shapes", [{"a": (1, 1)}, {"a": (1, 1), "b": (2, 3)}, {"a": (1, 1), "b": (3, 2), "c": (1, 1)}]
)
def test_another_model_than_the_plans_is_refused(shapes) -> None:
    with pytest.raises(VerificationError, match="where its plan has"):
        read_model(model_bytes(state()), shapes)


@pytest.mark.parametrize("content", [b"", b"no model", model_bytes(state())[:-1]])
def test_a_damaged_file_is_one_line(tmp_path, content) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(VerificationError, match="cannot be read as a model"):
        read_model(path)
    with pytest.raises(VerificationError, match="cannot be read"):
        read_model(tmp_path / "none")
