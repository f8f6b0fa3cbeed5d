"""Tests of tenants.checks."""

from __future__ import annotations

from django.core.checks import run_checks
from django.test import SimpleTestCase, override_settings


class PublicUrlTests(SimpleTestCase):
    def found(self, *, deploy: bool) -> list[str | None]:
        return [message.id for message in run_checks(include_deployment_checks=deploy) if message.id == "tenants.W002"]

    @override_settings(PUBLIC_URL="")
    def test_a_deployment_without_its_address_is_told(self) -> None:
        self.assertEqual(self.found(deploy=True), ["tenants.W002"])
        self.assertEqual(self.found(deploy=False), [])

    @override_settings(PUBLIC_URL="https://admin.example.com")
    def test_one_that_has_it_is_not(self) -> None:
        self.assertEqual(self.found(deploy=True), [])
