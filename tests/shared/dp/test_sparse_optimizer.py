import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from opacus.utils.batch_memory_manager import BatchMemoryManager
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hansa.dp.sparse_clipping import SparseGradSampleModule
from hansa.dp.sparse_optimizer import SparseDPOptimizer, SparsePrivacyEngine
from hansa.rng import seeded_generator

ITEMS, WIDTH, CUSTOMERS = 40, 4, 30


class Taste(nn.Module):
    """Losses of customers from the items they had and did not have."""

    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH)
        self.tower = nn.Linear(WIDTH, WIDTH)

    def forward(self, had, others):
        vector = self.tower(self.items(had).mean(dim=1))[:, :, None]
        return nn.functional.softplus(
            (self.items(others) @ vector - self.items(had) @ vector).mean(dim=(1, 2))
        )


def data(customers=CUSTOMERS):
    draw = seeded_generator(0, "data")
    return TensorDataset(*(torch.from_numpy(draw.integers(0, ITEMS, (customers, 6))) for _ in range(2)))


def private(noise_multiplier=0.0, bound=0.1, seed=0, rate=0.5, **changed):
    torch.manual_seed(0)
    module = SparseGradSampleModule(Taste().double())
    optimizer = SparseDPOptimizer(
        torch.optim.SGD(module.parameters(), lr=rate),
        noise_multiplier=noise_multiplier,
        max_grad_norm=bound,
        expected_batch_size=CUSTOMERS,
        noise=seeded_generator(seed, "noise"),
        **changed,
    )
    return module, optimizer


def gradients(module):
    return torch.cat([p.grad.ravel() for p in module.parameters()])


def step(module, optimizer, chosen=slice(None)):
    optimizer.zero_grad()
    module(*data()[chosen]).mean().backward()
    optimizer.step()
    return gradients(module)


def test_noise_has_the_multiplier_times_the_bound_in_every_entry_of_every_parameter():
    exact = step(*private())
    noise = np.concatenate(
        [(step(*private(2.0, 0.1, seed)) - exact).numpy() * CUSTOMERS / 0.2 for seed in range(300)]
    )
    assert stats.kstest(noise, "norm").pvalue > 1e-6
    for scale in (2 / 3, 3 / 2):
        assert stats.kstest(noise * scale, "norm").pvalue < 1e-6
    tables = noise.reshape(300, -1)
    assert abs(np.corrcoef(tables[:, 0], tables[:, 1])[0, 1]) < 0.3
    assert (tables.std(axis=0) > 0.75).all()


def test_parameters_and_steps_have_different_noise():
    module, optimizer = private(1.0)
    first = step(module, optimizer).clone()
    assert (step(module, optimizer) != first).all()
    items, weight, bias = (p.grad.ravel()[:4] for p in module.parameters())
    assert len({*items.tolist(), *weight.tolist(), *bias.tolist()}) == 12


def test_without_a_generator_noise_comes_from_the_operating_system():
    seen = set()
    for _ in range(3):
        module, optimizer = private(1.0)
        optimizer._noise = SparseDPOptimizer(
            torch.optim.SGD(module.parameters(), lr=0.1),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=1,
        )._noise
        seen.add(float(step(module, optimizer)[0]))
    assert len(seen) == 3


def test_removing_one_customer_moves_the_step_by_at_most_the_bound():
    """All state is built anew without the customer; the noise, the same in both, cancels."""
    for bound in (1e-3, 0.1, 10.0):
        everybody = step(*private(1.0, bound))
        moved = []
        for customer in range(CUSTOMERS):
            rest = [k for k in range(CUSTOMERS) if k != customer]
            moved.append(float((everybody - step(*private(1.0, bound), rest)).norm()) * CUSTOMERS)
        assert max(moved) <= bound
        assert bound > 1 or max(moved) > 0.99 * bound  # a control: the bound binds


def test_a_batch_in_parts_is_one_step():
    whole = step(*private(1.0)).clone()
    module, optimizer = private(1.0)
    for low in range(0, CUSTOMERS, 10):
        optimizer.signal_skip_step(low < 20)
        optimizer.zero_grad()
        module(*data()[low : low + 10]).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(gradients(module), whole, atol=1e-9)


def test_opacus_batch_memory_manager_works_and_counts_one_step():
    module, optimizer = private(1.0)
    accountant = RDPAccountant()
    optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=1.0))
    loader = DataLoader(data(), batch_size=CUSTOMERS)
    with BatchMemoryManager(data_loader=loader, max_physical_batch_size=8, optimizer=optimizer) as parts:
        for had, others in parts:
            optimizer.zero_grad()
            module(had, others).mean().backward()
            optimizer.step()
    np.testing.assert_allclose(gradients(module), step(*private(1.0)), atol=1e-9)
    assert len(accountant) == 1


def test_an_accountant_hears_of_every_step():
    module, optimizer = private(1.5)
    assert isinstance(optimizer, DPOptimizer)
    accountant = RDPAccountant()
    optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=0.1))
    for _ in range(4):
        step(module, optimizer)
    assert accountant.history == [(1.5, 0.1, 4)]


def test_zero_grad_drops_a_batch():
    module, optimizer = private()
    module(*data()[:10]).mean().backward()
    optimizer.zero_grad()
    optimizer.step()
    assert not gradients(module).any()


def test_buffers_are_used_again():
    module, optimizer = private(1.0)
    step(module, optimizer)
    places = [p.grad.data_ptr() for p in module.parameters()]
    step(module, optimizer)
    assert [p.grad.data_ptr() for p in module.parameters()] == places


def test_training_goes_down_and_float32_follows_float64():
    module, optimizer = private(rate=20.0)
    losses = []
    for _ in range(40):
        step(module, optimizer)
        losses.append(float(module(*data()[:]).detach().mean()))
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
    double = step(*private())
    module, optimizer = private()
    module.float()
    np.testing.assert_allclose(step(module, optimizer), double, atol=1e-7)


# The engine.


def engine(accountant="rdp", **changed):
    torch.manual_seed(0)
    made = SparsePrivacyEngine(accountant=accountant)
    module = Taste()
    return made, *made.make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
        data_loader=DataLoader(data(300), batch_size=30),
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        **changed,
    )


def test_the_engine_reads_like_opacus_own():
    made, module, optimizer, loader = engine()
    assert isinstance(module, SparseGradSampleModule)
    assert isinstance(optimizer, SparseDPOptimizer)
    assert optimizer.expected_batch_size == 30
    sizes = []
    for _ in range(3):
        for had, others in loader:
            optimizer.zero_grad()
            module(had, others).mean().backward()
            optimizer.step()
            sizes.append(len(had))
    assert made.accountant.history == [(1.0, 0.1, 30)]
    assert made.get_epsilon(1e-5) > 0
    assert 3 < np.std(sizes) < 8  # Poisson: about sqrt(27)


@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha")
def test_the_engine_finds_noise_for_an_epsilon():
    made = SparsePrivacyEngine(accountant="rdp")
    module = Taste()
    _, optimizer, _ = made.make_private_with_epsilon(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
        data_loader=DataLoader(data(300), batch_size=30),
        target_epsilon=3.0,
        target_delta=1e-5,
        epochs=2,
        max_grad_norm=0.5,
    )
    assert isinstance(optimizer, SparseDPOptimizer)
    assert optimizer.noise_multiplier > 0.5


def test_the_engine_samples_by_the_operating_systems_coins():
    batches = set()
    for _ in range(5):
        _, _, _, loader = engine()
        batches.add(next(iter(loader))[0].numpy().tobytes())
    assert len(batches) == 5
    with pytest.raises(NotImplementedError, match="EmbeddingBag"):
        SparsePrivacyEngine()._prepare_model(nn.Sequential(nn.EmbeddingBag(3, 2)))
