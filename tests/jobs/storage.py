"""What storage tests share: small committed shards."""

import numpy as np

from jobs.storage.commit import Commit, Content, Execution, GroupRecord, commit
from jobs.storage.features import FeatureRows, write_features
from jobs.storage.images import ImageRows, write_images

FINGERPRINT = "f" * 64
EXECUTION = Execution(
    device="cpu", torch="2", threads=1, micro_batch=None, precision="float32", sampler_version="1"
)


def image_rows(samples, steps=(10,), seed=0):
    index = np.arange(samples.start, samples.stop)
    return [
        ImageRows(
            step,
            index,
            (index // 4).astype(np.int32),
            np.stack(
                [
                    np.random.default_rng([seed, step, k]).integers(0, 256, (1, 4, 4), dtype=np.uint8)
                    for k in index
                ]
            ),
        )
        for step in steps
    ]


def feature_rows(samples, steps=(10,), seed=0, logits=True):
    index = np.arange(samples.start, samples.stop)

    def matrix(width, step):
        rows = [np.random.default_rng([seed, step, k]).standard_normal(width) for k in index]
        return np.stack(rows).astype(np.float32)

    return [FeatureRows(step, index, matrix(6, step), matrix(3, step) if logits else None) for step in steps]


def content(kind, samples, blocks, inputs):
    return Content(
        kind=kind,
        fingerprint=FINGERPRINT,
        first=samples.start,
        last=samples.stop,
        rows=sum(len(block.index) for block in blocks),
        digests={block.step: block.digest for block in blocks},
        inputs=inputs,
        execution=EXECUTION,
        groups=(GroupRecord(first=samples.start, last=samples.stop, diagnostics={"r_hat": float("nan")}),),
    )


def commit_images(store, folder, samples, steps=(10,), seed=0) -> Commit:
    blocks = image_rows(samples, steps, seed)
    return commit(
        store,
        folder,
        content("images", samples, blocks, {"model": "a" * 64}),
        lambda p: write_images(p, blocks),
    )


def commit_features(store, folder, samples, images_digest, steps=(10,), seed=0, logits=True) -> Commit:
    blocks = feature_rows(samples, steps, seed, logits)
    return commit(
        store,
        folder,
        content("features", samples, blocks, {"images": images_digest}),
        lambda p: write_features(p, blocks),
    )
