"""A configuration of no meaning, whose fingerprint is pinned."""

from jobs.specs.configuration import Configuration, Model
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import Resources

SAMPLER = PredictorCorrector(kind="predictor_corrector", predictor="ancestral", corrector="langevin", snr=0.2)


def configuration(**changes: object) -> Configuration:
    first = Configuration(
        sweep="sweep",
        row="row",
        column="column",
        model=Model(name="model", family="score", shape=(1, 8, 8), weights={"model": "a" * 64}),
        sampler=SAMPLER,
        seed=7,
        replicate=0,
        group_size=256,
        stages=(1000,),
        precision="float32",
        quantisation="floor",
        samples=1000,
        shard_size=512,
        extractors=(),
        references=(),
        metrics=("fid",),
        snapshot_every=60,
        priority=0,
        resources=Resources(),
        published=(),
    )
    return first.model_copy(update=changes)
