import io
import logging
import pickle

from cryptography.fernet import Fernet
from django.core import serializers
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.db import connection
from django.forms import modelform_factory
from django.test import SimpleTestCase, TestCase, override_settings

from tenants.checks import check_encryption_keys
from tenants.fields import SEALED_PREFIX, Sealed, UndecryptableValue, encryption_box
from tenants.models import Credential, CredentialKind
from tests.support.registry import make_backend

SECRET = "correct horse battery staple"
KEYS = [Fernet.generate_key().decode() for _ in range(3)]


def stored(credential: Credential, column: str = "secret") -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM tenants_credential WHERE id = %s", [credential.pk])
        return cursor.fetchone()[0]


@override_settings(FIELD_ENCRYPTION_KEYS=KEYS[:1])
class EncryptedTextFieldTests(TestCase):
    def setUp(self) -> None:
        self.credential = Credential.objects.create(
            backend=make_backend(), kind=CredentialKind.HMAC_SECRET, secret=SECRET
        )

    def reloaded(self) -> Credential:
        return Credential.objects.get(pk=self.credential.pk)

    def test_the_column_holds_ciphertext_and_the_attribute_plaintext(self) -> None:
        self.assertNotIn(SECRET, stored(self.credential))
        self.assertEqual(Fernet(KEYS[0]).decrypt(stored(self.credential).encode()).decode(), SECRET)
        self.assertEqual(self.reloaded().secret, SECRET)

    def test_an_older_key_still_opens_and_the_newest_one_seals(self) -> None:
        with override_settings(FIELD_ENCRYPTION_KEYS=[KEYS[1], KEYS[0]]):
            credential = self.reloaded()
            self.assertEqual(credential.secret, SECRET)
            credential.secret = SECRET + "!"
            credential.save()
            self.assertEqual(Fernet(KEYS[1]).decrypt(stored(credential).encode()).decode(), SECRET + "!")

    def test_a_lost_key_spoils_one_value_and_neither_the_query_nor_the_rest_of_the_row(self) -> None:
        with override_settings(FIELD_ENCRYPTION_KEYS=KEYS[2:]):
            credential = self.reloaded()
            with self.assertRaisesMessage(
                UndecryptableValue, f"tenants.Credential.secret of row {credential.pk} cannot be decrypted"
            ) as caught:
                _ = credential.secret
            self.assertNotIn(stored(credential), str(caught.exception))
            before = stored(credential)
            credential.timeout = 7
            credential.save()
            self.assertEqual(stored(credential), before)
            credential.secret = "entered anew"
            credential.save()
            self.assertEqual(self.reloaded().secret, "entered anew")

    def test_ciphertext_that_was_tampered_with_is_never_given_out(self) -> None:
        for broken in ("plain text", "", "gAAAAA", stored(self.credential)[:-4] + "AAAA"):
            with self.subTest(broken), connection.cursor() as cursor:
                cursor.execute("UPDATE tenants_credential SET secret = %s", [broken])
                with self.assertRaises(UndecryptableValue):
                    _ = self.reloaded().secret

    def test_without_a_valid_key_nothing_is_read_or_written(self) -> None:
        for keys in ([], None, ["short"], KEYS[0], [KEYS[0], "not a key"]):
            with self.subTest(keys=keys), override_settings(FIELD_ENCRYPTION_KEYS=keys):
                with self.assertRaises(ImproperlyConfigured) as caught:
                    encryption_box()
                self.assertNotIn(KEYS[0], str(caught.exception))
                with self.assertRaises(ImproperlyConfigured):
                    _ = self.reloaded().secret
                with self.assertRaises(ImproperlyConfigured):
                    Credential(backend=make_backend(), kind=CredentialKind.HMAC_SECRET, secret="x").save()
                self.assertEqual([error.id for error in check_encryption_keys()], ["tenants.E001"])
        self.assertEqual(check_encryption_keys(), [])

    def test_it_shows_up_in_no_representation(self) -> None:
        credential = self.reloaded()
        _ = credential.secret
        sealed = credential.__dict__["secret"]
        values = Credential.objects.values("secret").get()
        for shown in (repr(credential), str(credential), repr(sealed), str(sealed), repr(values), f"{sealed}"):
            self.assertNotIn(SECRET, shown)
            self.assertNotIn(stored(credential), shown)
        self.assertNotIn(SECRET.encode(), pickle.dumps(credential))

    def test_queries_log_no_plaintext(self) -> None:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logger = logging.getLogger("django.db.backends")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        with self.assertLogs("django.db.backends", "DEBUG"), self.settings(DEBUG=True):
            connection.force_debug_cursor = True
            try:
                credential = self.reloaded()
                credential.secret = "another secret"
                credential.full_clean()
                credential.save()
            finally:
                connection.force_debug_cursor = False
        self.assertNotIn("another secret", log.getvalue() + str(connection.queries))

    def test_it_can_not_be_looked_up(self) -> None:
        for lookup in ("secret", "secret__contains", "secret__in", "secret__startswith", "secret__gt"):
            with self.subTest(lookup), self.assertRaisesMessage(FieldError, "only isnull"):
                Credential.objects.filter(**{lookup: SECRET})
        self.assertEqual(Credential.objects.filter(secret__isnull=False).count(), 1)

    def test_a_form_never_shows_it_and_an_empty_input_keeps_it(self) -> None:
        form_class = modelform_factory(Credential, fields=["kind", "secret"])
        credential = self.reloaded()
        html = form_class(instance=credential).as_p()
        self.assertNotIn(SECRET, html)
        self.assertNotIn(stored(credential), html)
        form = form_class({"kind": "hmac_secret", "secret": ""}, instance=credential)
        self.assertTrue(form.is_valid(), form.errors)
        form.save()
        self.assertEqual(self.reloaded().secret, SECRET)

    def test_a_fixture_holds_ciphertext_and_loads_again(self) -> None:
        text = serializers.serialize("json", [self.reloaded()])
        self.assertNotIn(SECRET, text)
        Credential.objects.all().delete()
        for row in serializers.deserialize("json", text):
            row.save()
        self.assertEqual(self.reloaded().secret, SECRET)

    def test_nobody_can_enter_ciphertext(self) -> None:
        self.credential.secret = SEALED_PREFIX + stored(self.credential)
        with self.assertRaises(ValidationError):
            self.credential.full_clean()

    def test_json_keeps_its_order_and_is_encrypted(self) -> None:
        env = {"ZEBRA": "1", "ALPHA": "très secret"}
        credential = Credential.objects.create(
            backend=make_backend(), kind=CredentialKind.COMMAND, command="/bin/true", env=env
        )
        again = Credential.objects.get(pk=credential.pk)
        self.assertEqual(list(again.env.items()), list(env.items()))
        self.assertNotIn("ZEBRA", stored(credential, "env"))

    def test_a_deferred_secret_is_loaded_when_asked_for(self) -> None:
        credential = Credential.objects.defer("secret").get(pk=self.credential.pk)
        self.assertEqual(credential.secret, SECRET)


class SealedTests(SimpleTestCase):
    def test_equality_is_of_ciphertext(self) -> None:
        self.assertEqual(Sealed("a", "x"), Sealed("a", "y"))
        self.assertNotEqual(Sealed("a", "x"), "a")
