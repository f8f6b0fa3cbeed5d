"""A claim is proved by a Celery worker of its own, which asks a DNS server over the network."""

from __future__ import annotations

import unittest

from celery import current_app

from tenants import tasks
from tenants.models import Domain, Hostname
from tests.support.celery_worker import CeleryWorker, forget_connections
from tests.support.databases import database_url
from tests.support.dns import DnsServer
from tests.support.redis import RedisServer
from tests.support.registry import make_domain, make_tenant, sqlite_database
from tests.support.waiting import wait_until


class DomainProofTest(unittest.TestCase):
    def test_a_worker_looks_the_record_up(self) -> None:
        redis = self.enterContext(RedisServer())
        alias = self.enterContext(sqlite_database())
        dns = self.enterContext(DnsServer())
        values = {"task_always_eager": False} | dict.fromkeys(
            ("broker_url", "broker_write_url", "broker_read_url"), redis.url
        )
        before = {name: current_app.conf.get(name) for name in values}
        current_app.conf.update(values)
        forget_connections()
        self.addCleanup(forget_connections)
        self.addCleanup(current_app.conf.update, before)
        tenant = make_tenant(alias)
        claim = make_domain(tenant, "example.com", None)
        dns.zone[claim.record_name] = [claim.record_value]
        variables = {"DATABASE_URL": database_url(alias), "DNS_RESOLVERS": "{}:{}".format(*dns.address)}
        with CeleryWorker(redis.url, **variables):
            tasks.look_up_domain(claim.pk)
            rows = Domain.objects.using(alias)
            wait_until(lambda: rows.get(pk=claim.pk).is_verified, "the claim is proved")
        self.assertEqual(dns.asked, ["_nexusadmin.example.com"])
        Hostname.objects.using(alias).create(tenant=tenant, name="app.example.com")
