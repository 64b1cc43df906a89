"""The engine from another process: for 3D Slicer, for scripts, and for other computers.

Needs numpy, SimpleITK and requests, and nothing else of the engine than its ground floor.
"""

from imbalanceseg.client.engine_client import EngineClient
from imbalanceseg.client.http import EngineError, EngineUnreachable
from imbalanceseg.client.sender import Scan
from imbalanceseg.client.task import EngineTask, JobResult

__all__ = ["EngineClient", "EngineError", "EngineTask", "EngineUnreachable", "JobResult", "Scan"]
