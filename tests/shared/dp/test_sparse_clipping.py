import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.grad_sample.gsm_exp_weights import GradSampleModuleExpandedWeights
from opacus.layers import DPGRU
from torch import nn

from hansa.dp.clipping import ROUNDING_SLACK, OuterContributions, RowContributions
from hansa.dp.sparse_clipping import SparseGradSampleModule, contributions
from hansa.dp.sparse_optimizer import SparseDPOptimizer
from hansa.rng import seeded_generator

ITEMS, WIDTH = 14, 3


class Once(nn.Module):
    """One embedding, called once with positives and negatives side by side: what ghost can do."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH)
        self.tower = nn.Linear(WIDTH, WIDTH)

    def forward(self, positives, negatives):
        rows = self.items(torch.cat([positives, negatives], dim=1))
        good, bad = rows[:, : positives.shape[1]], rows[:, positives.shape[1] :]
        vector = self.tower(good.mean(dim=1))
        return -nn.functional.logsigmoid(
            (good @ vector[:, :, None]).mean(dim=(1, 2)) - (bad @ vector[:, :, None]).mean(dim=(1, 2))
        )


class Twice(Once):
    """The same function with the embedding called twice."""

    def forward(self, positives, negatives):
        good, bad = self.items(positives), self.items(negatives)
        vector = self.tower(good.mean(dim=1))
        return -nn.functional.logsigmoid(
            (good @ vector[:, :, None]).mean(dim=(1, 2)) - (bad @ vector[:, :, None]).mean(dim=(1, 2))
        )


class Rich(nn.Module):
    """Several tables, one padded, 1-d, 2-d and 3-d look-ups, a layer called twice, all sorts."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH, padding_idx=2)
        self.bias = nn.Embedding(ITEMS, 1)
        self.region = nn.Embedding(4, WIDTH)
        self.tower = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, WIDTH, bias=False))
        self.norm = nn.LayerNorm(WIDTH)
        self.reader = DPGRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, positives, negatives):
        good, bad = self.items(positives), self.items(negatives[:, :, None])[:, :, 0]
        states, _ = self.reader(good)
        vector = self.norm(self.tower(good).mean(dim=1) + self.tower(states[:, -1])) + self.region(
            positives[:, 0] % 4
        )
        return ((bad @ vector[:, :, None]) + self.bias(negatives)).exp().mean(dim=(1, 2))


def batch(seed, customers, positives=5, negatives=6):
    draw = seeded_generator(seed, "batch")
    return tuple(
        torch.from_numpy(draw.integers(0, ITEMS, (customers, count))) for count in (positives, negatives)
    )


def model(kind, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return kind().to(dtype)


def brute_force(plain, inputs, bound, slack=ROUNDING_SLACK):
    """The clipped sum by one backward pass a customer."""
    parameters = list(plain.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for customer in range(len(inputs[0])):
        loss = plain(*(tensor[customer : customer + 1] for tensor in inputs)).sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        norm = sum(float(g.double().square().sum()) for g in gradients) ** 0.5
        scale = min(1.0, (1 - slack) * bound / max(norm, 1e-300))
        for so_far, gradient in zip(total, gradients, strict=True):
            so_far += scale * gradient
    return total


def wrapped(plain, bound, reduction="sum", **changed):
    module = SparseGradSampleModule(copy.deepcopy(plain), loss_reduction=reduction)
    optimizer = SparseDPOptimizer(
        torch.optim.SGD(module.parameters(), lr=0.1),
        **{
            "noise_multiplier": 0.0,
            "max_grad_norm": bound,
            "expected_batch_size": 10,
            "loss_reduction": reduction,
            "noise": seeded_generator(0),
            **changed,
        },
    )
    return module, optimizer


def sparse(plain, inputs, bound, reduction="sum"):
    module, optimizer = wrapped(plain, bound, reduction)
    losses = module(*inputs)
    (losses.sum() if reduction == "sum" else losses.mean()).backward()
    optimizer.step()
    return [p.grad for p in module.parameters()]


def assert_close(ours, theirs, atol=1e-10):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.detach(), other.detach(), atol=atol, rtol=0)


@pytest.mark.parametrize("kind", [Once, Twice, Rich])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    customers=st.integers(1, 6),
    bound=st.sampled_from([1e-3, 0.3, 1e3]),
    reduction=st.sampled_from(["sum", "mean"]),
)
def test_equals_one_backward_pass_a_customer(kind, seed, customers, bound, reduction):
    plain, inputs = model(kind, seed), batch(seed, customers)
    expected = brute_force(plain, inputs, bound)
    if reduction == "mean":
        expected = [gradient / 10 for gradient in expected]
    assert_close(sparse(plain, inputs, bound, reduction), expected)


def test_brute_force_tells_joint_norms_from_norms_of_each_parameter():
    """A control: the bound here binds, and clipping each parameter by itself would differ."""
    plain, inputs = model(Rich), batch(0, 5)
    joint = brute_force(plain, inputs, 0.3)
    alone = []
    for index, parameter in enumerate(plain.parameters()):
        for other in plain.parameters():
            other.requires_grad_(other is parameter)
        own = [p for p in plain.parameters() if p.requires_grad]
        total = torch.zeros_like(parameter)
        for customer in range(5):
            (gradient,) = torch.autograd.grad(plain(*(t[customer : customer + 1] for t in inputs)).sum(), own)
            total += gradient * min(1.0, 0.3 / float(gradient.norm()))
        alone.append(float((total - joint[index]).abs().max()))
    assert max(alone) > 0.01


def opacus_step(module, optimizer_class, losses_of, bound):
    from opacus.optimizers import DPOptimizer

    optimizer = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=0.1),
        noise_multiplier=0.0,
        max_grad_norm=bound,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    losses_of(module).sum().backward()
    optimizer.step()
    return [p.grad for p in module.parameters()]


def ghost(plain, inputs, bound):
    module = GradSampleModuleFastGradientClipping(
        copy.deepcopy(plain), loss_reduction="sum", max_grad_norm=bound, use_ghost_clipping=True
    )
    losses = module(*inputs)
    losses.sum().backward(retain_graph=True)
    module.zero_grad()
    module.disable_hooks()
    (module.get_clipping_coef() * losses).sum().backward()
    return [p.grad for p in module.parameters()]


def hooks(plain, inputs, bound, kind=GradSampleModule):
    module = kind(copy.deepcopy(plain), loss_reduction="sum")
    return opacus_step(module, None, lambda m: m(*inputs), bound)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bound", [0.02, 0.5, 1e4])
def test_equals_opacus_ghost_and_hooks_where_they_are_correct(seed, bound):
    """Opacus adds 1e-6 to norms before it divides; ours is scaled by 1 - ROUNDING_SLACK. Both are undone."""
    plain, inputs = model(Once, seed), batch(seed, 6)
    losses = plain(*inputs)
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(plain.parameters()), retain_graph=True)
        norms.append(sum(float(g.square().sum()) for g in gradients) ** 0.5)
    # One bound for each customer at which the two scales are the same: compare customer by customer.
    for customer, norm in enumerate(norms):
        one = tuple(tensor[customer : customer + 1] for tensor in inputs)
        ours = sparse(
            plain, one, bound if norm < bound else bound / (1 - ROUNDING_SLACK) * norm / (norm + 1e-6)
        )
        assert_close(ours, ghost(plain, one, bound))
        assert_close(ours, hooks(plain, one, bound))
    # And all together, where nothing or everything is clipped alike.
    if bound > 1e3:
        ours = sparse(plain, inputs, bound)
        assert_close(ours, ghost(plain, inputs, bound))
        assert_close(ours, hooks(plain, inputs, bound))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_close(ours, hooks(plain, inputs, bound, GradSampleModuleExpandedWeights))


def test_ghost_cannot_call_an_embedding_twice_and_hooks_ignore_padding():
    """Why equality is claimed only where they are correct."""
    inputs = batch(0, 4)
    with pytest.raises(NotImplementedError, match="tying"):
        ghost(model(Twice), inputs, 1.0)
    plain = model(Once)
    plain.items.padding_idx = 2
    inputs[0][:, 0] = 2
    index = [name for name, _ in plain.named_parameters()].index("items.weight")
    assert hooks(plain, inputs, 1e4)[index][2].abs().max() > 0
    assert sparse(plain, inputs, 1e4)[index][2].abs().max() == 0


def test_nothing_of_the_tables_size_is_made_for_each_customer():
    """The forms that reach the clipping: rows for embeddings, outer products for linear layers."""
    module, _ = wrapped(model(Once), 1.0)
    module(*batch(0, 4)).sum().backward()
    forms = {name: contributions(p, p.grad_sample) for name, p in module._module.named_parameters()}
    assert isinstance(forms["items.weight"], RowContributions)
    assert forms["items.weight"].values.shape == (4 * 11, WIDTH)
    assert isinstance(forms["tower.weight"], OuterContributions)
    assert isinstance(forms["tower.bias"], OuterContributions)
    assert module._module.items.weight.grad is None


# Customers and batches out of the ordinary.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_customer_whose_gradient_is_not_finite_counts_as_zero(bad):
    class Poisoned(Rich):
        def forward(self, positives, negatives):
            losses = super().forward(positives, negatives)
            return losses * torch.where(positives[:, 1] == 0, bad, 1.0)

    plain, inputs = model(Poisoned), batch(1, 5)
    inputs[0][:, 1] = torch.tensor([1, 0, 3, 0, 4])
    healthy = tuple(tensor[[0, 2, 4]] for tensor in inputs)
    ours = sparse(plain, inputs, 0.3)
    assert_close(ours, brute_force(plain, healthy, 0.3))
    assert all(gradient.isfinite().all() for gradient in ours)


def test_a_customer_of_padding_alone_contributes_nothing_to_the_table():
    plain = model(Rich)
    inputs = batch(2, 3)
    for tensor in inputs:
        tensor[1] = 2
    index = [name for name, _ in plain.named_parameters()].index("items.weight")
    ours, expected = sparse(plain, inputs, 0.3), brute_force(plain, inputs, 0.3)
    assert_close(ours, expected)
    assert ours[index][2].abs().max() == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_an_empty_batch_adds_noise_alone(reduction):
    plain = model(Twice)
    module, optimizer = wrapped(plain, 1.0, reduction, noise_multiplier=2.0)
    losses = module(*batch(0, 0))
    (losses.sum() if reduction == "sum" else losses.mean()).backward()
    optimizer.step()
    empty = [p.grad.clone() for p in module.parameters()]
    module, optimizer = wrapped(plain, 1.0, reduction, noise_multiplier=2.0)
    optimizer.step()  # not even a forward pass
    assert_close(empty, [p.grad for p in module.parameters()], atol=0)
    assert all((gradient != 0).all() and gradient.isfinite().all() for gradient in empty)


def test_frozen_layers_and_evaluation_are_left_alone():
    plain = model(Once)
    plain.items.weight.requires_grad_(False)
    ours = sparse(plain, batch(0, 4), 0.3)
    assert ours[0] is None
    plain.items.weight.requires_grad_(True)
    module, _ = wrapped(plain, 1.0)
    module.eval()
    assert module(*batch(0, 4)).shape == (4,)
    with torch.no_grad():
        module.train()(*batch(0, 4))
    assert not getattr(module._module.items.weight, "grad_sample", None)


@pytest.mark.parametrize("layer", [nn.Linear(WIDTH, WIDTH), nn.Embedding(ITEMS, WIDTH)])
def test_changing_a_layers_output_in_place_fails_loudly(layer):
    module = SparseGradSampleModule(nn.Sequential(layer, nn.ReLU(inplace=True)))
    inputs = torch.zeros(2, WIDTH) if isinstance(layer, nn.Linear) else torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=r"in-?place"):
        module(inputs).sum().backward()


# What cannot be clipped exactly is refused, in one line.


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.items, self.out = nn.Embedding(ITEMS, WIDTH), nn.Linear(WIDTH, ITEMS, bias=False)
        self.out.weight = self.items.weight


class Beside(nn.Module):
    def __init__(self):
        super().__init__()
        self.items, self.shift = nn.Embedding(ITEMS, WIDTH), nn.Parameter(torch.zeros(1))


class Subclass(nn.Embedding):
    pass


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.EmbeddingBag(3, 2)), r"0 \(EmbeddingBag\): .*use nn.Embedding and sum"),
        (Subclass(3, 2), r"the module \(Subclass\): .*use nn.Embedding itself"),
        (nn.Embedding(3, 2, scale_grad_by_freq=True), "scale_grad_by_freq .* leave it out"),
        (nn.Embedding(3, 2, max_norm=1.0), "max_norm .* leave it out"),
        (Shared(), r"out \(Linear\): shares a weight with a layer of type Embedding"),
        (Beside(), "move them into a layer of their own"),
        (nn.Sequential(nn.Embedding(3, 2), nn.BatchNorm1d(2)), "buffers"),
    ],
)
def test_unsuitable_layers_are_refused(module, message):
    with pytest.raises(NotImplementedError, match=message):
        SparseGradSampleModule(module)


def test_two_embeddings_may_share_a_table():
    class Both(Once):
        def __init__(self):
            super().__init__()
            self.negatives = nn.Embedding(ITEMS, WIDTH)
            self.negatives.weight = self.items.weight

        def forward(self, positives, negatives):
            vector = self.tower(self.items(positives).mean(dim=1))
            return (self.negatives(negatives) @ vector[:, :, None]).exp().mean(dim=(1, 2))

    plain, inputs = model(Both), batch(3, 5)
    assert_close(sparse(plain, inputs, 0.3), brute_force(plain, inputs, 0.3))


def test_a_second_batch_before_the_step_is_refused():
    module, optimizer = wrapped(model(Once), 1.0)
    module(*batch(0, 3)).sum().backward()
    with pytest.raises(ValueError, match=r"second batch before optimizer.step\(\)"):
        module(*batch(1, 3))
    optimizer.zero_grad()
    module(*batch(1, 3)).sum().backward()
    optimizer.step()
    module(*batch(2, 3)).sum().backward()


def test_layers_that_disagree_on_the_customers_are_refused():
    class Flattened(Once):
        def forward(self, positives, negatives):
            rows = self.items(positives.reshape(-1)).view(len(positives), -1, WIDTH)
            return self.tower(rows.mean(dim=1)).sum(dim=1)

    module, optimizer = wrapped(model(Flattened), 1.0)
    module(*batch(0, 3)).sum().backward()
    with pytest.raises(ValueError, match=r"disagree .* the first dimension must be the customer"):
        optimizer.step()


def test_a_weight_used_past_its_layer_is_refused():
    class Direct(Once):
        def forward(self, positives, negatives):
            return super().forward(positives, negatives) + 0.1 * self.items.weight.square().sum()

    for repeat in (False, True):
        module, optimizer = wrapped(model(Direct), 1.0)
        if repeat:
            optimizer.step()
            optimizer.zero_grad()
        module(*batch(0, 3)).sum().backward()
        with pytest.raises(ValueError, match="used directly in the loss"):
            optimizer.step()
