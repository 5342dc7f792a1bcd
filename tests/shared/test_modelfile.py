import numpy as np
import pytest
from safetensors.numpy import save

from hansa.errors import VerificationError
from hansa.modelfile import model_bytes, read_model


def state():
    return {"b": np.arange(6, dtype=np.float32).reshape(3, 2), "a": np.ones((1, 1), dtype=np.float32)}


def test_a_model_comes_back_and_may_be_handed_to_torch() -> None:
    found = read_model(model_bytes(state()), "it", {"a": (1, 1), "b": (3, 2)})
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["b"], state()["b"])
    assert found["b"].flags.writeable


def test_the_same_arrays_have_the_same_bytes() -> None:
    turned = dict(reversed(state().items()))
    turned["b"] = np.asfortranarray(turned["b"])
    assert model_bytes(turned) == model_bytes(state())
    assert model_bytes({**state(), "a": np.zeros((1, 1), dtype=np.float32)}) != model_bytes(state())


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((2, 2)),
        np.ones(3, dtype=np.float32),
        np.full((2, 2), np.nan, dtype=np.float32),
        np.full((2, 2), np.inf, dtype=np.float32),
    ],
)
def test_what_is_no_model_is_not_read(wrong) -> None:
    with pytest.raises(VerificationError, match="it: a: not a finite float32 table"):
        read_model(save({"a": wrong}), "it")


@pytest.mark.parametrize(
    "shapes", [{"a": (1, 1)}, {"a": (1, 1), "b": (2, 3)}, {"a": (1, 1), "b": (3, 2), "c": (1, 1)}]
)
def test_another_model_than_the_plans_is_refused(shapes) -> None:
    with pytest.raises(VerificationError, match="where the plan has"):
        read_model(model_bytes(state()), "it", shapes)


@pytest.mark.parametrize("content", [b"", b"no model", model_bytes(state())[:-1]])
def test_damaged_bytes_are_one_line(content) -> None:
    with pytest.raises(VerificationError, match="it: not a model"):
        read_model(content, "it")
