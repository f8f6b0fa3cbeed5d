"""Celery tasks: hints that an edit sends to the relays after its commit, on whose arrival nothing depends, and jobs."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from asgiref.sync import async_to_sync
from celery import current_app, shared_task
from channels.layers import get_channel_layer
from django.conf import settings

from relay.logs import Outage, get_logger
from tenants import housekeeping
from tenants.changes.actor import SYSTEM, acting

GROUP = "generations"
MESSAGE_TYPE = "generation.changed"
BROKER_TIMEOUT = 0.5  # seconds for the broker to take a connection or to answer
SLOW_FAILURE = 0.2  # seconds: a failure that took longer is not repeated at every edit
PAUSE = 10.0  # seconds without an attempt after a slow failure
HINT_LIFETIME = 10  # seconds: the relays have polled long before

_TIMEOUTS = {"max_retries": 0, "socket_connect_timeout": BROKER_TIMEOUT, "socket_timeout": BROKER_TIMEOUT}

log = get_logger(__name__)

import_module(settings.TASKS_APPLICATION)  # else Celery would make an application of its own, without a broker


@shared_task(ignore_result=True, expires=HINT_LIFETIME)  # type: ignore[untyped-decorator]
def announce_generation(generation: int) -> None:
    """Tell every relay that listens on the channel layer that there is a new generation."""
    layer = get_channel_layer()
    if layer is not None:
        async_to_sync(layer.group_send)(GROUP, {"type": MESSAGE_TYPE, "generation": generation})


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator]
def run_job(name: str) -> None:
    """Run one job of `tenants.housekeeping`; Celery's beat sends these."""
    done = housekeeping.job(name).run()
    if done:
        log.info("job done", job=name, done=done)


@shared_task(ignore_result=True)  # type: ignore[untyped-decorator]
def send_invitation(invitation_id: int, site: str) -> None:
    """Mail an invitation's link. The token is made here, so that no queue ever holds it."""
    from tenants.services import invitations

    try:
        with acting(user=None, name="mail", origin=SYSTEM, address=""):
            invitations.send(invitation_id, site)
    except OSError as error:  # SMTP's errors are
        log.warning(
            "invitation not sent",
            invitation=invitation_id,
            error=type(error).__name__,
            remedy="mend EMAIL_URL or the mail server, and send the invitation again in the admin",
        )


def mail_invitation(invitation_id: int, site: str) -> None:
    """Have the link mailed; where the broker is down, the invitation stays "not sent", which its list shows."""
    try:
        send_invitation.delay(invitation_id, site)
    except Exception as error:
        log.warning("invitation not queued", invitation=invitation_id, error=type(error).__name__)


@shared_task(ignore_result=True, expires=600)  # type: ignore[untyped-decorator]
def check_domain(domain_id: int) -> None:
    """Look up the record that proves a claim."""
    from tenants.services import domains

    with acting(user=None, name="DNS", origin=SYSTEM, address=""):
        domains.check_asked(domain_id)


def look_up_domain(domain_id: int) -> None:
    """Have a claim looked up; where the broker is down, the next run of the job does it."""
    try:
        check_domain.delay(domain_id)
    except Exception as error:
        log.warning("look-up not queued", domain=domain_id, error=type(error).__name__)


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Return the jobs as Celery's beat wants them; one that waited too long in the queue is left to the next."""
    return {
        job.name: {
            "task": run_job.name,
            "schedule": job.every,
            "args": (job.name,),
            "options": {"expires": job.every},
        }
        for job in housekeeping.JOBS
    }


class _Broker:
    """What is known of the broker in this process."""

    outage = Outage(log, "generation not announced", "generation announced again")
    silent_until = 0.0


def announce(generation: int) -> None:
    """Send the hint: one attempt, never an exception; an outage of the broker is logged once, and its end once."""
    started = time.monotonic()
    if started < _Broker.silent_until:
        return
    try:
        if current_app.conf.task_always_eager:
            announce_generation(generation)
        else:
            # A connection of its own: a kept one may be a dead one, and a worker's time-outs are too long here.
            with current_app.connection_for_write(
                connect_timeout=BROKER_TIMEOUT, transport_options=_TIMEOUTS
            ) as connection:
                announce_generation.apply_async((generation,), connection=connection, retry=False)
    except Exception as error:
        now = time.monotonic()
        if now - started > SLOW_FAILURE:
            _Broker.silent_until = now + PAUSE
        _Broker.outage.begins(
            generation=generation,
            error=type(error).__name__,
            remedy="start Redis and the Celery worker, or unset REDIS_URL; relays find the change when they poll",
        )
    else:
        _Broker.outage.ends(generation=generation)
