"""The generation: one counter, and the log of what changed in each."""

from django.db import models
from django.utils import timezone


class ChangeKind(models.TextChoices):
    """What a change is about. A change of a row below a backend is a change of that backend."""

    TENANT = "tenant", "tenant"
    NODE = "node", "Nexus node"
    BACKEND = "backend", "backend"
    HOSTNAME = "hostname", "hostname that no backend serves"
    SITE = "site", "site"


class ChangeAction(models.TextChoices):
    """What happened to it."""

    CREATED = "created", "created"
    UPDATED = "updated", "updated"
    DELETED = "deleted", "deleted"


class GenerationCounter(models.Model):
    """The newest generation; one row.

    Every writer of the registry holds this row's lock from before its first write until it commits
    (`tenants.changes.generations`), so generations become visible in order and without gaps.
    """

    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(pk=1),
                name="generationcounter_one_row",
                violation_error_message="There is one generation counter only.",
            )
        ]

    def __str__(self) -> str:
        return str(self.value)


class Change(models.Model):
    """One changed thing; its key is the generation, so that "what changed since N" is a range of the key."""

    generation = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=10, choices=ChangeKind.choices)
    object_id = models.BigIntegerField()
    action = models.CharField(max_length=10, choices=ChangeAction.choices)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["generation"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=ChangeKind.values),
                name="change_kind_known",
                violation_error_message="This kind of change is not known.",
            ),
            models.CheckConstraint(
                condition=models.Q(action__in=ChangeAction.values),
                name="change_action_known",
                violation_error_message="This action is not known.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.generation}: {self.kind} {self.object_id} {self.action}"
