"""Where a provider's API key comes from: a file on this machine, or the Backend API."""

from fleet.errors import ApiKeyMissing, SettingsError
from fleet.execution.backend_client import Backend
from fleet.process.secret_files import read_secret
from fleet.provider_settings import ProviderSettings


async def provider_key(backend: Backend, provider: ProviderSettings, *, fresh: bool = False) -> str:
    """The provider's key. A file is read each time; ``fresh`` asks the backend again, as in
    :meth:`Backend.api_key`.

    Raises:
        ApiKeyMissing: the file cannot be used, or the backend has no key for this provider.
        BackendUnavailable, BackendAnswerError: no usable answer of the backend.
    """
    if provider.api_key_file is None:
        return await backend.api_key(provider.name, fresh=fresh)
    try:
        return read_secret(f"FLEET_PROVIDERS__{provider.name.upper()}__API_KEY_FILE", provider.api_key_file)
    except SettingsError as error:
        raise ApiKeyMissing(str(error)) from None
