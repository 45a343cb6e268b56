"""What the original BERT4Rec project states, and what follows from it by arithmetic."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stated:
    """A model of the original BERT4Rec project, with the metrics that it states."""

    size: str
    hr: float
    ndcg: float

    @property
    def ratio(self) -> float:
        return self.ndcg / self.hr


@dataclass(frozen=True)
class Measured:
    """A row of the original's table of speeds: sequences per second, and minutes per epoch."""

    mode: str
    throughput: int
    minutes: float

    @property
    def sequences(self) -> int:
        """How many sequences an epoch has, if both figures hold."""
        return round(self.throughput * self.minutes * 60)


@dataclass(frozen=True)
class Original:
    """The original BERT4Rec project's own statements."""

    models: tuple[Stated, ...] = (
        Stated("5M", 0.0621, 0.0458),
        Stated("85M", 0.0818, 0.0637),
        Stated("130M", 0.0855, 0.0682),
        Stated("430M", 0.0858, 0.0686),
    )
    speeds: tuple[Measured, ...] = (
        Measured("AMP", 11428, 7.5),
        Measured("AMP and compile", 13300, 6.8),
        Measured("AMP and iLoRA", 10800, 7.9),
    )

    @property
    def ratios(self) -> tuple[float, float]:
        """The smallest and the largest ratio of NDCG@10 to HR@10 in its table."""
        ratios = [model.ratio for model in self.models]
        return min(ratios), max(ratios)

    @property
    def compile_gain(self) -> float:
        """What compiling adds to its throughput, as a share."""
        return self.speeds[1].throughput / self.speeds[0].throughput - 1


FACTS = Original()
