"""No model of the registry loses its rules."""

from __future__ import annotations

from django.test import SimpleTestCase

from tenants.changes import checks
from tenants.changes.base import RegistryModel
from tenants.models import Backend, Credential, Domain, Hostname, HostRoute, PortMapping
from tenants.rules import registration


class RegistrationTest(SimpleTestCase):
    def test_which_model_has_which_rules(self) -> None:
        expected = {
            Backend: (["limits"], set()),
            Credential: (["commands"], {"command"}),
            Domain: (["ownership"], set()),
            HostRoute: (["targets"], {"target"}),
            Hostname: (["limits", "ownership"], set()),
            PortMapping: (["targets"], {"default_target"}),
        }
        for model in RegistryModel.__subclasses__():
            with self.subTest(model=model.__name__):
                names, fields = expected.get(model, ([], set()))
                self.assertEqual(checks.names_of(model), names)
                self.assertEqual(checks.checked_fields(model), fields)

    def test_a_second_registration_changes_nothing(self) -> None:
        before = {model: checks.names_of(model) for model in RegistryModel.__subclasses__()}
        registration.register()
        self.assertEqual({model: checks.names_of(model) for model in before}, before)
