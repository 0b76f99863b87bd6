"""Which models a vendor has, according to the offline data of genai-prices."""

from functools import cache

from fleet.near_names import nearest
from fleet.provider_settings import ProviderSettings
from fleet.providers.registry import provider_address, spec_of


def nearest_known(settings: ProviderSettings, model: str) -> str | None:
    """The known model whose name is most like that of a model that is not known; None if the model is known or
    like no known one, and for any address but the vendor's own: what other servers have is not known."""
    spec = spec_of(settings.kind)
    if provider_address(settings).rstrip("/") != spec.official_url:
        return None
    return _nearest(spec.price_list, model.removeprefix("models/"))


@cache
def _nearest(vendor: str, model: str) -> str | None:
    from genai_prices.data_snapshot import get_snapshot

    found = get_snapshot().find_provider(None, vendor, None)
    if found.find_model(model) is not None:
        return None
    return nearest(model, (known.id for known in found.models))
