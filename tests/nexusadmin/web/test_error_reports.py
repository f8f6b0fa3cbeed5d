from django.test import RequestFactory, SimpleTestCase, override_settings

from nexusadmin.web.error_reports import ReporterFilter

ADDRESS = "redis://:redis-password@127.0.0.1:6399/0"


class ReporterFilterTests(SimpleTestCase):
    def test_addresses_with_passwords_are_hidden(self):
        layers = {"default": {"BACKEND": "x", "CONFIG": {"hosts": [{"address": ADDRESS}]}}}
        with override_settings(
            REDIS_URL=ADDRESS,
            CELERY_BROKER_URL=ADDRESS,
            CHANNEL_LAYERS=layers,
            WARNING_WEBHOOK_URL=ADDRESS,
            NODE_PROXY=ADDRESS,
        ):
            shown = ReporterFilter().get_safe_settings()
        self.assertEqual([name for name, value in shown.items() if "redis-password" in repr(value)], [])
        self.assertIn("DATABASES", shown)

    def test_the_environment_beside_the_headers_is_hidden(self):
        request = RequestFactory().get("/")
        request.META |= {"REDIS_URL": ADDRESS, "DATABASE_URL": "postgres://u:redis-password@h/n", "EMAIL_URL": ADDRESS}
        request.META |= {"https_proxy": ADDRESS, "ALL_PROXY": ADDRESS}
        shown = ReporterFilter().get_safe_request_meta(request)
        self.assertNotIn("redis-password", repr(shown))
        self.assertEqual(shown["REQUEST_METHOD"], "GET")
