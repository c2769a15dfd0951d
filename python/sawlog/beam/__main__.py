"""Runs the pipeline: `python -m sawlog.beam --runner DataflowRunner --subscription … --dataset …`."""

import logging
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions

import sawlog
from sawlog.beam.options import SawlogOptions
from sawlog.beam.pipeline import build


def main() -> int:
    """Exit code 0 when a run with an end has ended well, 1 when it failed, 2 for wrong options."""
    logging.getLogger().setLevel(logging.INFO)
    options = SawlogOptions(sys.argv[1:])
    if options.subscription:
        options.view_as(StandardOptions).streaming = True
    options.view_as(SetupOptions).save_main_session = False
    options.choose_runner()
    pipeline = beam.Pipeline(options=options)
    try:
        build(pipeline, options)
    except sawlog.SawlogError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = pipeline.run()
    result.wait_until_finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
