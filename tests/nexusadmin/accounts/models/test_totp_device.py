"""Authenticator apps: what is stored of them."""

from __future__ import annotations

from django.core import serializers
from django.db import connection

from nexusadmin.accounts.models import TotpDevice
from tests.nexusadmin.accounts.users import SecondFactorTestCase


class TotpDeviceTest(SecondFactorTestCase):
    def test_the_secret_is_encrypted_and_in_no_dump(self) -> None:
        device, codes = self.switch_on()
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f'SELECT * FROM "{table}"')
                rows = str(cursor.fetchall())
                for secret in (device.secret, codes[0], codes[0].replace("-", "")):
                    self.assertNotIn(secret, rows, table)
        self.assertNotIn(device.secret, serializers.serialize("json", TotpDevice.objects.all()))
        self.assertNotIn(device.secret, repr(device) + str(device) + str(device.__dict__))
