"""What a sweep reads of this machine goes into the store before it is submitted: any machine finds it there.

Weights go with `jobs/models/weights.py`; here are the images that it names by a path. From then on the
sweep knows them by their content. It must not know clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import prod

from jobs.inputs.copies import send_images, was_sent
from jobs.inputs.datasets import BUILT_IN, DatasetError, open_given
from jobs.inputs.sources import Dataset, StreamedImages
from jobs.planning.sweep import Sweep
from jobs.references.reference import load_reference, open_source
from jobs.specs.configuration import Configuration, Extractor
from jobs.specs.sections import DataSet
from jobs.storage.reference_index import read_index
from jobs.store import Store


def send_data(store: Store, sweep: Sweep, note: Callable[[str], None]) -> Sweep:
    """Put the images that a sweep reads from local paths into the store, unless they are there.

    Returns the sweep with their content written down: from then on their paths do not matter.
    note: told of each data set before it is sent.
    Raises DatasetError when one cannot be read here, or is not what it was planned with.
    """
    sent: dict[DataSet, DataSet] = {}

    def send(data_set: DataSet) -> DataSet:
        if data_set not in sent:
            sent[data_set] = _sent(store, data_set, note)
        return sent[data_set]

    for data_set in (each for item in sweep.configurations for each in _sampled_from(item)):
        send(data_set)
    for name, extractors in _named(sweep.configurations).items():
        _send_named(store, name, extractors, note)
    configurations = []
    for item in sweep.configurations:
        references = tuple(each if each.path is None else send(each) for each in item.references)
        configurations.append(item.model_copy(update={"references": references}))
    return sweep.model_copy(update={"configurations": tuple(configurations)})


def _sampled_from(configuration: Configuration) -> Iterator[DataSet]:
    """Data sets by path that samplers read, whose content was planned with."""
    model, images = configuration.model, configuration.images
    found = [(model.dataset, model.content)]
    if images is not None:
        found.append((images.dataset, images.content))
    for data_set, content in found:
        if data_set is not None and data_set.path is not None:
            yield data_set.model_copy(update={"content": content})


def _named(configurations: Iterable[Configuration]) -> dict[str, set[Extractor]]:
    """References without a path, and the extractors that their features are asked of."""
    found: dict[str, set[Extractor]] = {}
    for configuration in configurations:
        for data_set in configuration.references:
            if data_set.path is None and data_set.name not in BUILT_IN:
                found.setdefault(data_set.name, set()).update(configuration.extractors)
    return found


def _sent(store: Store, data_set: DataSet, note: Callable[[str], None]) -> DataSet:
    """The data set with its content, which the store has from then on."""
    if was_sent(store, data_set.content):
        return data_set
    data = open_given(data_set)
    _send(store, data, note)
    return data_set.model_copy(update={"content": data.content_hash})


def _send_named(
    store: Store, name: str, extractors: Iterable[Extractor], note: Callable[[str], None]
) -> None:
    """Send the images behind a reference of the store, where features are still to be made of them."""
    record = read_index(store, DataSet(name=name))
    if record.kind != "images" or was_sent(store, record.content):
        return
    try:
        for extractor in extractors:
            load_reference(store, DataSet(name=name), extractor)
    except FileNotFoundError:
        try:
            data = open_source(name, record)
        except DatasetError as error:
            raise DatasetError(
                f"{error}; features of {name} are still to be made: submit from where its images are, or "
                f"`sdesweep reference build` it there"
            ) from error
        _send(store, data, note)


def _send(store: Store, data: Dataset | StreamedImages, note: Callable[[str], None]) -> None:
    if not was_sent(store, data.content_hash):
        size = f"{len(data):,} images, {len(data) * prod(data.shape) / 2**20:,.1f} MiB"
        note(f"sending {data.name} ({size}) to the store")
        send_images(store, data)
