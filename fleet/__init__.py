"""A supervised fleet of Temporal workers that runs LLM assistant pipelines on your own machines."""

import os

from fleet.process.lazy_packages import install

# Before anybody imports them. The clients for other clouds load all of Anthropic's beta API; httpx's `_main` is a
# command for terminals.
install(
    {
        "anthropic": ("lib.aws", "lib.bedrock", "lib.foundry", "lib.google_cloud", "lib.vertex"),
        "httpx": ("_main",),
        "openai": (),
    }
)

# pydantic reads the metadata of every installed package to find plugins for itself; none is needed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
