"""`/healthz`."""

from __future__ import annotations

from django.test import TestCase


class HealthTests(TestCase):
    def test_health(self) -> None:
        response = self.client.get("/healthz")
        self.assertEqual((response.status_code, response.json()), (200, {"status": "ok"}))
        self.assertIn("no-store", response["Cache-Control"])
