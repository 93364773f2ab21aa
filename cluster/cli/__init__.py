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
    sdesweep catalog                 # ready specs, models, extractors
    sdesweep plan digits-demo        # what a run would do
    sdesweep run digits-demo         # do it; the same command again resumes it
    sdesweep status digits-demo      # how far it is
    sdesweep submit digits-demo      # do it on a cluster; list, logs and stop are for such jobs
    sdesweep doctor                  # what is set up wrongly, and how to mend it

Exit codes: 0 done; 75 incomplete but resumable; 1 some shards failed; 2 the request was wrong.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a ± that the locale lacks is no reason to fail


for command in (
    running.run,
    running.resume,
    submit.submit,
    submit.list_jobs,
    submit.logs,
    submit.stop,
    queue.queue,
    doctor.doctor,
    look.plan,
    status.status,
    events.events,
    look.catalog,
    scoring.report,
    scoring.reduce,
    keeping.verify,
    keeping.gc,
    audit.audit,
    bench.bench,
    likelihood.likelihood,
    training.train,
    models.models,
    references.reference,
    fid.fid,
    evaluate.evaluate,
    compare.compare,
    export.export,
    look.version,
):
    main.add_command(command)
