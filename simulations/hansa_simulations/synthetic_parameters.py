"""What the scenario ``synthetic`` is told: the settings ``scenario.*``, their defaults and their limits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from hansa.errors import UsageError
from hansa_simulations.protocols import MIN_INTERACTIONS


class SyntheticParameters(BaseModel):
    """``scenario.*`` of ``synthetic``: what the generated federation is like.

    Attributes:
        customers: Customers over all shops; a person who is a customer of two shops counts twice.
        items: Size of the catalogue.
        shops: Number of shops.
        interactions: Mean distinct items of a customer.
        spread: Standard deviation of the logarithm of a history's length beyond its shortest, 3.
        zipf: Exponent a of popularity: the item of rank r is drawn in proportion to (r + b n)^-a among
            n items (Zipf-Mandelbrot). Distinct items flatten what is drawn.
        head: b, the share of the catalogue over which popularity is nearly flat.
        groups: Taste groups that partition the catalogue.
        taste: Share of a customer's draws that follow the own taste; the others follow global popularity.
        interests: Places of the catalogue that a customer favours.
        breadth: How much of a group's popularity a favoured place covers; 1: all of its group.
        heterogeneity: F in [0, 1]: a group of global share p has a share of mean p and variance F p (1 - p)
            among a shop's customers' interests (Dirichlet; Balding and Nichols, Genetica 1995). 0: all shops
            alike.
        size_spread: Standard deviation of the logarithm of the shops' expected sizes.
        overlapping: Share of people who are customers of several shops, with one taste and a history at each.
        max_shops: Such a person is a customer of 2 to this many shops, each number equally likely.
        days: Length of the generated time.
        activity: Share of the time over which one customer's interactions spread.
        drift: Popularity of an item at time t, in units of the whole time, is proportional to
            exp(-drift |t - t_i|), where t_i is its own height, uniform over the whole time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    customers: int = Field(default=10_000, ge=1, le=1_000_000)
    items: int = Field(default=3_000, ge=1, le=1_000_000)
    shops: int = Field(default=50, ge=1)
    interactions: float = Field(default=20.0, ge=MIN_INTERACTIONS, le=10_000)
    spread: float = Field(default=1.0, ge=0, le=2)
    zipf: float = Field(default=1.1, ge=0, le=3)
    head: float = Field(default=0.02, ge=0, le=1)
    groups: int = Field(default=20, ge=1, le=10_000)
    taste: float = Field(default=0.7, ge=0, le=1)
    interests: int = Field(default=3, ge=1, le=100)
    breadth: float = Field(default=0.6, gt=0, le=1)
    heterogeneity: float = Field(default=0.05, ge=0, le=1)
    size_spread: float = Field(default=0.6, ge=0, le=3)
    overlapping: float = Field(default=0.0, ge=0, le=1)
    max_shops: int = Field(default=3, ge=2, le=100)
    days: int = Field(default=365, ge=1, le=36_500)
    activity: float = Field(default=0.5, ge=0, le=1)
    drift: float = Field(default=1.0, ge=0, le=10)

    def check(self) -> None:
        """Refuse parameters that contradict each other.

        Raises:
            UsageError: They do.
        """
        problem = None
        if self.shops < 1:
            problem = f"shops: {self.shops} is too few; give at least 1"
        elif self.shops > self.customers:
            problem = f"shops: {self.shops:,} are more than the {self.customers:,} customers; give fewer"
        elif self.groups > self.items:
            problem = f"groups: {self.groups:,} are more than the {self.items:,} items; give fewer"
        elif self.interactions > self.items / 4:
            problem = f"interactions: {self.interactions:g} of {self.items:,} items; give at most a quarter"
        elif self.overlapping > 0 and self.max_shops > self.shops:
            problem = f"max_shops: {self.max_shops} is more than the {self.shops} shops; give fewer"
        if problem:
            raise UsageError(f"scenario.{problem}")
