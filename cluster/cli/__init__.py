"""The `sdesweep` command: one module a group of commands, joined here.

Command modules import what they need inside the commands, so that `--help` and `plan` do not wait for torch
or Ray. It must not compute anything.
"""

from __future__ import annotations

import io
import sys

import click

from cluster.cli import (
    audit,
    bench,
    compare,
    doctor,
    evaluate,
    events,
    export,
    fid,
    keeping,
    likelihood,
    look,
    models,
    queue,
    references,
    running,
    scoring,
    status,
    submit,
    training,
)

HELP = """Reproduce sampling results of score-based generative models, and of their rivals, on a Ray cluster.

\b
    sdesweep catalog              # ready specs, models, extractors
    sdesweep plan digits-demo     # what a run would do
    sdesweep run digits-demo      # do it; the same command again resumes it
    sdesweep status digits-demo   # how far it is

SPEC is a file or a ready spec, NAME a sweep in a store. `sdesweep COMMAND --help` has examples; every command
has `--json`.

Exit codes: 0 done; 75 incomplete but resumable; 1 some shards failed; 2 the request was wrong.
"""

#: Every command by what one wants, with what it does in a line.
SECTIONS: dict[str, dict[click.Command, str]] = {
    "Run": {
        look.catalog: "ready specs, models, extractors, data sets",
        look.plan: "what a run would do, and cost",
        running.run: "do it; the same command again resumes it",
        running.resume: "go on without the spec file",
        status.status: "how far a sweep is",
        events.events: "what happened in it, in sentences",
        scoring.report: "its table and its page",
    },
    "Scores": {
        fid.fid: "any two sets of images",
        evaluate.evaluate: "stored images by other metrics or references",
        scoring.reduce: "compute a sweep's scores again from features",
        compare.compare: "scores beside each other, where they compare",
        audit.audit: "why a score is what it is",
        likelihood.likelihood: "bits per dimension of a data set",
        export.export: "images as PNG, npz or Hugging Face data set",
    },
    "Models and data": {
        models.models: "weights: add, fetch, list, show, verify, remove",
        references.reference: "real images to compare with, and statistics",
        training.train: "train a small network from a spec",
        bench.bench: "speed of a model on this machine",
    },
    "Clusters": {
        submit.submit: "run a spec as a job on a cluster",
        submit.list_jobs: "jobs that a cluster remembers",
        submit.logs: "what a job has printed",
        submit.stop: "stop a job: it snapshots and can go on",
        queue.queue: "order of sweeps that run together",
    },
    "Upkeep": {
        doctor.doctor: "what is set up wrongly, with the remedy",
        keeping.verify: "read and hash all of a sweep",
        keeping.gc: "remove what killed attempts left in a store",
        look.version: "versions of this and of what it is made of",
    },
}


class _Commands(click.Group):
    """All commands; its help lists them by section instead of by the alphabet."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.commands)
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                rows = [((command.name or "").ljust(width), text) for command, text in commands.items()]
                formatter.write_dl(rows)


@click.group(
    cls=_Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a ± that the locale lacks is no reason to fail


for section in SECTIONS.values():
    for command in section:
        main.add_command(command)
