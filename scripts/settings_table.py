"""The table of settings that both deployment guides have; ``scripts/render.sh`` writes it into them."""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fleet.config import PROJECT_ROOT, Settings

GUIDES = {"en": PROJECT_ROOT / "docs" / "deployment.md", "cs": PROJECT_ROOT / "docs" / "deployment.cs.md"}

#: What each setting is, in Czech, by its variable; the English words are those of fleet/config.py.
CZECH = {
    "TEMPORAL_HOST": "Adresa serveru Temporal, host:port. Má přednost před TEMPORAL_ADDRESS příkazu `temporal`.",
    "TEMPORAL_NAMESPACE": "Jmenný prostor (namespace) Temporalu.",
    "FLEET_TEMPORAL_CONFIG": (
        "Zda se použije konfigurace příkazu `temporal`: TEMPORAL_ADDRESS, TEMPORAL_TLS*, TEMPORAL_API_KEY, "
        "TEMPORAL_PROFILE, `temporal.toml`. Vestavěný Temporal ji nepoužívá."
    ),
    "FLEET_TEMPORAL_API_KEY_FILE": "Soubor s klíčem API pro Temporal; má přednost před TEMPORAL_API_KEY.",
    "API_BASE_URL": "Základní adresa Backend API. Povinná, pokud není nastavena FLEET_PROJECTS_DIR.",
    "FLEET_BACKEND_ALLOW_HTTP": (
        "Zda smí být Backend API na jiném stroji bez TLS; klíče API lze pak cestou přečíst."
    ),
    "FLEET_BACKEND_TOKEN": "Token pro Backend API; posílá se jako `Authorization: Bearer`.",
    "FLEET_BACKEND_TOKEN_FILE": "Soubor s tokenem; má přednost před FLEET_BACKEND_TOKEN.",
    "FLEET_BACKEND_CA_FILE": (
        "Soubor PEM s autoritou, která podepsala certifikát backendu; není-li nastaven, platí systémové autority."
    ),
    "FLEET_BACKEND_CLIENT_CERT_FILE": "Soubor PEM s klientským certifikátem pro Backend API.",
    "FLEET_BACKEND_CLIENT_KEY_FILE": "Soubor PEM s jeho soukromým klíčem; jinak je klíč v souboru certifikátu.",
    "LOG_LEVEL": "Nejnižší úroveň, která se loguje; DEBUG přidá vstupy a výstupy asistentů.",
    "FLEET_LOG_CONTENT": (
        "Zda DEBUG loguje vstupy a výstupy asistentů; `false` je z logů vynechá na každé úrovni."
    ),
    "FLEET_LOG_FORMAT": "Podoba logů: `text` pro lidi, `json` pro stroje.",
    "FLEET_LOG_DIR": "Složka s logy; jinak `logs` vedle výchozí stavové složky, nebo `<state>/logs` v jiné.",
    "FLEET_LOG_ROTATION_MB": "Velikost v MB, při které se log rotuje.",
    "FLEET_LOG_BACKUPS": "Kolik rotovaných logů se pro každý proces ponechá.",
    "FLEET_STATE_DIR": (
        "Složka pro vše, co fleet kromě logů zapisuje: socket, programs.d, data vestavěného prostředí."
    ),
    "FLEET_ACTIVITY_TIMEOUT_SECONDS": "Nejdelší trvání jednoho pokusu asistenta.",
    "FLEET_HEARTBEAT_TIMEOUT_SECONDS": "Doba ticha, po které Temporal považuje worker za mrtvý.",
    "FLEET_HEARTBEAT_INTERVAL_SECONDS": (
        "Rozestup heartbeatů během volání; nejvýše polovina FLEET_HEARTBEAT_TIMEOUT_SECONDS."
    ),
    "FLEET_MAX_ATTEMPTS": "Po kolika selháních poskytovatele selže asistent definitivně; odpověď 429 se nepočítá.",
    "FLEET_MAX_LOST_WORKERS": "Po kolika mrtvých workerech selže asistent definitivně.",
    "FLEET_RETRY_INITIAL_SECONDS": "Prodleva před druhým pokusem.",
    "FLEET_BACKOFF_COEFFICIENT": "Kolikanásobně se prodlouží každá další prodleva.",
    "FLEET_RETRY_MAX_SECONDS": (
        "Nejdelší prodleva mezi pokusy. Volání, u kterého si poskytovatel vyžádal delší, se do té doby znovu "
        "prověří a podrží."
    ),
    "FLEET_DEFAULT_TEMPERATURE": "Teplota asistenta, který nemá vlastní.",
    "FLEET_DEFAULT_MAX_TOKENS": (
        "Nejdelší odpověď asistenta, který ji sám neomezuje; jinak bez omezení, tedy maximum modelu."
    ),
    "FLEET_FALLBACK_AFTER_SECONDS": (
        "Jak dlouho čeká asistent s náhradou (`fallback`) na spuštění, než přejde do fronty dalšího poskytovatele."
    ),
    "FLEET_ATTEMPT_SPACING_SECONDS": (
        "Selhání jako při výpadku (5xx, ztracené spojení) do této doby po započítaném patří k témuž pokusu."
    ),
    "FLEET_PROJECTS_DIR": (
        "Složka s projekty, které na tomto stroji podává program `backend`, není-li jiné Backend API; "
        "API_BASE_URL má přednost."
    ),
    "FLEET_PROJECTS_PORT": "Port programu `backend` na loopbacku.",
    "FLEET_BACKEND_TIMEOUT_SECONDS": "Časový limit jednoho volání Backend API.",
    "FLEET_BACKEND_PATIENCE_SECONDS": "Jak dlouho pipeline čeká na nedostupné Backend API, než selže.",
    "FLEET_API_KEY_CACHE_SECONDS": "Jak dlouho se klíč API drží v paměti, než se načte znovu.",
    "FLEET_DRAIN_SECONDS": (
        "Jak dlouho smí worker po SIGTERM dokončovat svá volání; stopwaitsecs (630) musí zůstat vyšší."
    ),
    "FLEET_PIPELINE_CONCURRENCY": "Kolik workflow úloh zpracovává jeden proces pipeline zároveň.",
    "FLEET_ASSISTANTS_CONCURRENCY": "Kolik načtení asistentů zpracovává jeden proces assistants zároveň.",
    "FLEET_ON_AMBIGUOUS": (
        "Co se stane s voláním, které bylo nebo mohlo být zaplaceno a nedalo použitelnou odpověď: `send` je pošle "
        "znovu a započítá, `fail` je nechá definitivně selhat. Přednost má vlastní `on_ambiguous` asistenta."
    ),
    "FLEET_OTHER_MACHINE_SECONDS": (
        "Jak dlouho se čeká na odpověď volání, které mohl odeslat jiný stroj, než se započítá jako volání, které "
        "mohlo být zaplaceno."
    ),
    "FLEET_JOURNAL_KEEP_DAYS": "Kolik dní žurnál uchovává odpovědi na volání.",
    "FLEET_JOURNAL_MAX_MB": (
        "Velikost žurnálu jednoho poskytovatele na jednom stroji; místo uvolňují nejstarší volání, která už žádná "
        "pipeline nepotřebuje."
    ),
    "FLEET_LOOP_BLOCKED_SECONDS": (
        "Jak dlouho smí být smyčka událostí zablokovaná, než se proces ukončí, aby byl spuštěn znovu; při startu "
        "nejméně dvě minuty."
    ),
    "FLEET_METRICS": "Zda procesy počítají, co dělají, pro `/metrics` a pro stránku.",
    "FLEET_METRICS_BY_PROJECT": (
        "Zda se náklady počítají i podle projektů; jedna z metrik pak nese jejich názvy. Metrika "
        "`fleet_project_info` nese vždy názvy těch, které tento stroj nabízí ze složky."
    ),
    "FLEET_CONTROL_HOST": "Adresa, na které poslouchá proces control.",
    "FLEET_CONTROL_PORT": "Port, na kterém poslouchá proces control.",
    "FLEET_CONTROL_TOKEN": (
        "Token, se kterým lze na stránce procesu control pozastavovat a pouštět fronty a škálovat a obnovovat "
        "procesy a také ji číst; není-li nastaven, stránka jen zobrazuje."
    ),
    "FLEET_CONTROL_OPEN_READS": (
        "Zda každý uživatel a program tohoto stroje smí číst stránku se vstupy, výstupy a chybami bez přihlášení. "
        "Na stroji s více uživateli nebezpečné."
    ),
    "FLEET_CONTROL_URL": (
        "Adresa, na které se ostatní stroje fleetu ptají tohoto stroje na jeho stav; není-li nastavena, platí "
        "FLEET_CONTROL_HOST, u 0.0.0.0 jméno stroje, a u adresy loopbacku žádná."
    ),
    "FLEET_CONTROL_ALLOWED_HOSTS": (
        "Další jména, pod kterými smí být proces control dotazován, oddělená čárkami, např. "
        "`vm1.example.internal`. Jeho IP adresy, jméno stroje a jména z FLEET_CONTROL_HOST a "
        "FLEET_CONTROL_URL se neuvádějí."
    ),
    "FLEET_SDK_VARIABLES": (
        "Proměnné prostředí, které smějí číst SDK poskytovatelů, oddělené čárkami, např. `HTTPS_PROXY`. Všechny "
        "ostatní, které tato SDK čtou, a všechny proxy se jim odepřou."
    ),
    "FLEET_KEEP_VARIABLES": (
        "Další proměnné prostředí, které procesy fleetu dostanou, oddělené čárkami. Bez ní dostanou nastavení, "
        "proměnné z FLEET_SDK_VARIABLES a to, co potřebuje každý program, např. `PATH`, `HOME`, `TZ`."
    ),
    "FLEET_TEMPORAL_UI": "Adresa vlastních stránek Temporalu, pro odkazy; adresu vestavěných zná `fleet up` sám.",
}
_HEADS = {"en": ("variable", "default", ""), "cs": ("proměnná", "výchozí hodnota", "")}
_WORDS = {"en": ("required", "unset"), "cs": ("povinná", "nenastaveno")}


def shown(default: object, language: str = "en") -> str:
    """A default as an operator would write it."""
    required, unset = _WORDS[language]
    if default is PydanticUndefined:
        return required
    if default is None:
        return unset
    if isinstance(default, Path):
        return f"`{default.relative_to(PROJECT_ROOT)}`"
    if default == ():
        return unset
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float) and default.is_integer():
        return f"`{int(default)}`"
    return f"`{default}`"


def described() -> dict[str, str]:
    """What stands below each setting, by its name. The running fleet has no need of it, and does not read it."""
    (settings,) = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body
    assert isinstance(settings, ast.ClassDef)
    return {
        setting.target.id: inspect.cleandoc(text.value.value)
        for setting, text in pairwise(settings.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def variables() -> dict[str, FieldInfo]:
    """Each setting by its environment variable; the providers' sections are told in words."""
    return {
        variable_of(name, field): field for name, field in Settings.model_fields.items() if name != "providers"
    }


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    return str(field.validation_alias or f"FLEET_{name.upper()}")


def table(translated: Mapping[str, str] | None = None) -> str:
    """The table, as Markdown; with Czech words for the settings, in Czech."""
    language = "en" if translated is None else "cs"
    rows = [f"| {' | '.join(_HEADS[language])} |".replace("|  |", "| |"), "|---|---|---|"]
    texts = translated or {
        variable_of(name, Settings.model_fields[name]): text for name, text in described().items()
    }
    for variable, field in variables().items():
        text = texts[variable]
        words = " ".join(text.split()).replace("|", "\\|")
        rows.append(f"| `{variable}` | {shown(field.default, language)} | {words} |")
    return "\n".join(rows) + "\n"


def guides() -> dict[Path, str]:
    """Each guide's text with its table as it should be, in the place of the one that is there."""
    texts: dict[Path, str] = {}
    for language, guide in GUIDES.items():
        old = re.compile(rf"^\| {_HEADS[language][0]} \|.*?\n(?=\n)", re.MULTILINE | re.DOTALL)
        before, after = old.split(guide.read_text("utf-8"), 1)
        texts[guide] = before + table(CZECH if language == "cs" else None) + after
    return texts
