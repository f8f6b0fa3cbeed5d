"""Lets the database itself refuse to change an entry of the audit trail.

A later migration that rebuilds the table on SQLite (a new column does) loses the trigger there, and must create it again.
"""

from django.db import migrations

SQLITE = """
CREATE TRIGGER auditentry_is_final BEFORE UPDATE ON tenants_auditentry
BEGIN SELECT RAISE(ABORT, 'The audit trail is only ever added to.'); END
"""
POSTGRESQL = """
CREATE FUNCTION auditentry_is_final() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'The audit trail is only ever added to.'; END $$;
CREATE TRIGGER auditentry_is_final BEFORE UPDATE ON tenants_auditentry
FOR EACH ROW EXECUTE FUNCTION auditentry_is_final()
"""


def make_final(apps, schema_editor):
    schema_editor.execute(POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE)


def make_changeable(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER auditentry_is_final ON tenants_auditentry")
        schema_editor.execute("DROP FUNCTION auditentry_is_final()")
    else:
        schema_editor.execute("DROP TRIGGER auditentry_is_final")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]

    operations = [migrations.RunPython(make_final, make_changeable)]
