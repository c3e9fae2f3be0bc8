"""What happened: audit events, access log, metrics. The last step of the pipeline.

A finished request is one tuple appended to a list (`Recorder.add`); everything else happens in `Recorder.flush`, and
every file in a thread of its own.
"""

from portway.gateway.record.fields import Circumstances, Record
from portway.gateway.record.metrics import CONTENT_TYPE, Metrics
from portway.gateway.record.recorder import Recorder

__all__ = ["CONTENT_TYPE", "Circumstances", "Metrics", "Record", "Recorder"]
