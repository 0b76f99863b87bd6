"""Where each provider is found at a simulator."""


def provider_url(simulator: str, provider: str, kind: str) -> str:
    """The ``base_url`` of a provider at the simulator of that address; one of kind ``openai`` that is not
    OpenAI itself has a path, and with it limits, faults and ledger lines of its own."""
    if kind != "openai":
        return simulator
    return f"{simulator}/v1" if provider == "openai" else f"{simulator}/{provider}/v1"
