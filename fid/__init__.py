"""Feature networks, feature statistics, Fréchet distance and the other scores of image sets.

Scores are functions of features (count, dimension); an extractor makes features of uint8 images:

    >>> import numpy as np
    >>> from fid.scores import fid_score, precision_recall
    >>> real, generated = np.random.default_rng(0).normal(size=(2, 1000, 16))
    >>> score = fid_score(generated, real)
    >>> round(score.value, 2), round(score.bias.total, 2), round(score.standard_error.value, 3)
    (0.14, 0.17, 0.015)
    >>> precision_recall(generated, real, k=3).k
    3

`extractors.load_extractor(name, weights)` reads an extractor from a weight file. Where to look further:

    extractors                  feature networks by name, each with an identity that scores state
    moments, frechet            mean and covariance, which add up; the distance, of one set or of many
    inception_score, kernel, neighbours, memorisation
                                the other scores; in `scores` one call for each
    uncertainty, control        standard errors, bias, FID-infinity; real data against real data
    metrics                     all of them as torchmetrics metrics, for training loops
    audit                       why a score is wrong
    training                    of the classifier whose features stand in for Inception's on small images

Must not import Ray, click, `jobs`, `cluster` or `sdesampling`.
"""
