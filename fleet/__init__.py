"""A supervised fleet of Temporal workers that runs LLM assistant pipelines on your own machines."""

import os

from fleet.process import lazy_dataclasses, lazy_packages

# Before anybody imports them. The clients for other clouds load all of Anthropic's beta API; httpx's `_main` is a
# command for terminals. Temporal's client declares the calls of services that no worker of the fleet uses.
lazy_dataclasses.install()
lazy_packages.install(
    {
        "anthropic": ("lib.aws", "lib.bedrock", "lib.foundry", "lib.google_cloud", "lib.vertex"),
        "httpx": ("_main",),
        "openai": (),
        "prometheus_client": (),
        "pydantic_settings": (),
        "temporalio": (),
        "temporalio.api.cloud.cloudservice.v1": ("request_response_pb2",),
        "temporalio.api.operatorservice.v1": ("request_response_pb2",),
        "temporalio.api.testservice.v1": ("request_response_pb2",),
        "temporalio.api.workflowservice.v1": ("request_response_pb2",),
        "uvicorn": (),
    }
)

# pydantic reads the metadata of every installed package to find plugins for itself; none is needed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
