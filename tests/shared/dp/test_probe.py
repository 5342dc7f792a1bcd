import pytest
import torch
from torch import nn

from hansa.dp.probe import probe
from hansa.errors import UsageError
from hansa.rng import seeded_generator

ITEMS, WIDTH, HAD = 30, 4, 5


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH, padding_idx=0)
        self.tower = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(0.5), nn.LayerNorm(WIDTH))

    def vectors(self, had):
        return self.tower(self.items(had).mean(dim=1))

    def forward(self, had, others):
        vectors = self.vectors(had)[:, :, None]
        return nn.functional.softplus(
            (self.items(others) @ vectors - self.items(had) @ vectors).mean(dim=(1, 2))
        )


class WeightItself(Sound):
    """A softmax over all items, by the table instead of the layer."""

    def forward(self, had, others):
        scores = torch.log_softmax(self.vectors(had) @ self.items.weight.T, dim=1)
        return -scores.gather(1, had).mean(dim=1)


class LinearItself(Sound):
    def forward(self, had, others):
        return super().forward(had, others) + self.tower[0].weight.square().sum()


class InBatch(Sound):
    def forward(self, had, others):
        vectors, targets = self.vectors(had), self.items(had[:, 0])
        return -torch.log_softmax(vectors @ targets.T, dim=1).diagonal()


class InBatchButDetached(Sound):
    """The losses' values hide it: others enter with weight zero forwards and one backwards."""

    def forward(self, had, others):
        total = self.items(had).square().sum() * 3
        return super().forward(had, others) + total - total.detach()


class Bag(Sound):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(ITEMS, WIDTH)

    def vectors(self, had):
        return self.tower(self.bag(had))


class BatchNorm(Sound):
    def __init__(self, track=True):
        super().__init__()
        self.tower.append(nn.BatchNorm1d(WIDTH, track_running_stats=track))


class BatchNormWithoutBuffers(BatchNorm):
    def __init__(self):
        super().__init__(track=False)


class Flattened(Sound):
    """[customers * K] as the batch, one loss a record."""

    def forward(self, had, others):
        return super().forward(had.reshape(-1, 1), others.reshape(-1, 1))


class FlattenedInside(Sound):
    """One loss a customer, but the embedding sees records."""

    def forward(self, had, others):
        rows = self.items(had.reshape(-1)).view(*had.shape, WIDTH)
        return self.tower(rows.mean(dim=1)).sum(dim=1)


class Centred(Sound):
    def vectors(self, had):
        vectors = super().vectors(had)
        return vectors - vectors.mean(dim=0)


class Random(Sound):
    def vectors(self, had):
        return super().vectors(had) + torch.randn(WIDTH)


class Tied(Sound):
    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(WIDTH, ITEMS, bias=False)
        self.scores.weight = self.items.weight

    def forward(self, had, others):
        return -torch.log_softmax(self.scores(self.vectors(had)), dim=1).gather(1, had).mean(dim=1)


def inputs(repeats=1):
    draw = seeded_generator(0, "synthetic")
    had, others = (torch.from_numpy(draw.integers(0, ITEMS, (8, HAD))) for _ in range(2))
    return lambda chosen: (had[chosen], others[chosen])


def run(kind):
    probe(kind(), inputs(), generator=seeded_generator(1))


def test_a_sound_model_passes_and_is_left_as_it_was():
    module = Sound()
    before = [p.clone() for p in module.parameters()]
    probe(module, inputs(), generator=seeded_generator(1))
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(p.grad is None and p.dtype == torch.float32 for p in module.parameters())
    assert module.training
    assert not hasattr(module, "autograd_grad_sample_hooks")
    assert all(child.training for child in module.modules())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (WeightItself, "weight is used directly in the loss.* call the embedding with the rows"),
        (LinearItself, r"tower.0.weight is used in the loss past its layer.*call the layer instead"),
        (InBatch, "depends on the other customers.*in-batch negatives; draw negatives for each customer"),
        (InBatchButDetached, r"moves the clipped sum by [\d.]+ times the bound"),
        (Bag, r"bag \(EmbeddingBag\).*use nn.Embedding and sum"),
        (BatchNorm, r"tower.4 \(BatchNorm1d\) normalises over the batch.*LayerNorm"),
        (BatchNormWithoutBuffers, r"tower.4 \(BatchNorm1d\) normalises over the batch.*LayerNorm"),
        (Flattened, r"losses of shape \[40\] for 8 customers: the first dimension .* must be the customer"),
        (FlattenedInside, "Embedding sees a first dimension of 40 for 8 customers"),
        (Centred, "depends on the other customers.*no statistics over the batch"),
        (Random, "the losses are random"),
        (Tied, r"scores \(Linear\): shares a weight with a layer of type Embedding"),
    ],
)
def test_what_breaks_the_bound_is_refused_in_one_line_that_names_cause_and_fix(kind, message):
    with pytest.raises(UsageError, match=message) as refused:
        run(kind)
    assert "\n" not in str(refused.value)


def test_losses_may_be_made_outside_the_module():
    class Vectors(nn.Module):
        def __init__(self):
            super().__init__()
            self.items = nn.Embedding(ITEMS, WIDTH)

        def forward(self, had):
            return self.items(had).sum(dim=1)

    def mean_square(module, had, others):
        return module(had).square().mean(dim=1)

    def over_the_batch(module, had, others):
        vectors = module(had)
        return (vectors - vectors.mean(dim=0)).square().mean(dim=1)

    probe(Vectors(), inputs(), losses=mean_square)
    with pytest.raises(UsageError, match="depends on the other customers"):
        probe(Vectors(), inputs(), losses=over_the_batch)
