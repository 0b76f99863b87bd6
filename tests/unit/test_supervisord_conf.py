"""What supervisord.conf names, which the commands of other releases read too."""

from configparser import RawConfigParser
from importlib import import_module

from fleet.config import PROJECT_ROOT


def test_the_plugin_has_the_path_that_it_has_in_every_release() -> None:
    configuration = RawConfigParser()
    configuration.read(PROJECT_ROOT / "supervisord.conf", "utf-8")
    factory = configuration["ctlplugin:fleet"]["supervisor.ctl_factory"]
    assert factory == "fleet.control.supervisorctl:make_plugin"
    module, _, name = factory.partition(":")
    assert callable(getattr(import_module(module), name))
