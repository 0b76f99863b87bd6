"""With this folder on PYTHONPATH, a process's Temporal server does not permit that a queue's rate be set."""

import os
import sys
from typing import Any

if "workers" in " ".join(sys.orig_argv) and os.environ.get("FLEET_STATE_DIR"):
    from temporalio.bridge.services_generated import WorkflowService
    from temporalio.service import RPCError, RPCStatusCode

    async def refuse(self: WorkflowService, *arguments: Any, **options: Any) -> None:
        """Answer as a server does whose operator forbids it."""
        raise RPCError("rate limits are not permitted", RPCStatusCode.PERMISSION_DENIED, b"")

    WorkflowService.update_task_queue_config = refuse  # type: ignore[assignment, method-assign]
