"""The streaming pipeline for Apache Beam: the core decides what each record becomes, Beam's engine scales.

`python -m sawlog.beam --help` lists what a run takes; `docs/gcp/dataflow.md` explains it.
"""

from sawlog.beam.options import SawlogOptions
from sawlog.beam.pipeline import build

__all__ = ["SawlogOptions", "build"]
