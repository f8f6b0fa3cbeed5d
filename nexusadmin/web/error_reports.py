"""Filter for error pages and error mails."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class ReporterFilter(SafeExceptionReporterFilter):
    """Hides every posted value and every local variable, with DEBUG on too: forms and services handle secrets.

    Of the settings, and of the environment that `runserver` puts beside a request's headers, also the addresses that
    hold passwords, or a path that is as good as one.
    """

    hidden_settings = re.compile(
        SafeExceptionReporterFilter.hidden_settings.pattern
        + "|(REDIS|DATABASE|BROKER|EMAIL|WEBHOOK).*URL|^CHANNEL_LAYERS$|_PROXY$",
        flags=re.IGNORECASE,
    )

    def is_active(self, request: HttpRequest | None) -> bool:
        """Filter always."""
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        """Return the names of what was posted."""
        return {} if request is None else dict.fromkeys(request.POST, self.cleansed_substitute)

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: Any) -> Any:
        """Return the names of the frame's variables."""
        return [(name, self.cleansed_substitute) for name in tb_frame.f_locals]
