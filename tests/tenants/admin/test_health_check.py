"""The health check's time-outs on the backend's page."""

from __future__ import annotations

from tests.tenants.admin.pages import AdminTestCase, errors_of


class HealthCheckTest(AdminTestCase):
    def test_a_timeout_of_nothing_is_refused_at_its_field(self) -> None:
        remedy = "Enter 1 second or more; to probe no streams, switch the health check off."
        self.client.force_login(self.editor)
        for name in ("health_check_inactivity_timeout", "health_check_pong_timeout"):
            with self.subTest(name):
                response = self.save(self.backend, **{name: "0"})
                self.assertEqual(response.status_code, 200)
                self.assertEqual(errors_of(response), {name: [remedy]})
