"""Indexes for searches in the middle of names, on PostgreSQL."""

from django.db import migrations

from tenants.trigrams import AddTrigramIndex


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_audit_entries_are_final")]

    operations = [
        AddTrigramIndex("hostname", "name"),
        AddTrigramIndex("backend", "name"),
        AddTrigramIndex("hostroute", "pattern"),
        AddTrigramIndex("hostroute", "target"),
        AddTrigramIndex("portmapping", "default_target"),
        AddTrigramIndex("credential", "fingerprint"),
    ]
