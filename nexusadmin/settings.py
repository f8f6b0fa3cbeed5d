"""Django's settings, all read from the environment (docs/settings.md).

Every variable can also be given as `NAME_FILE`, the path of a file that holds the value. The defaults serve a laptop:
DEBUG on, SQLite, no Redis, keys made once in STATE_DIR. With DEBUG off, whatever is missing or unsafe stops the start
with the command that mends it.
"""

from __future__ import annotations

import os
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured

from nexusadmin import keys, logs
from nexusadmin.environment import Env, broker_url

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env(os.environ)


DEBUG = env.switch("DEBUG", True)

# -- where this installation keeps its files
STATE_DIR = Path(env.str("STATE_DIR", default=str(BASE_DIR / "var"))).resolve()
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "static"))).resolve()

# -- keys
_problems: list[str] = []


def _secret_key() -> str:
    key = env.str("SECRET_KEY", default="")
    if not key and DEBUG:
        return keys.kept(STATE_DIR / "secret-key", keys.new_secret_key)
    if not key:
        _problems.append(
            'SECRET_KEY is not set. Make one:\n    export SECRET_KEY="$(python -m nexusadmin.keys secret)"'
        )
    elif not DEBUG and (len(key) < 50 or len(set(key)) < 5):
        _problems.append(
            "SECRET_KEY is too weak (less than 50 characters, or hardly any different ones). Make a new one:\n"
            '    export SECRET_KEY="$(python -m nexusadmin.keys secret)"'
        )
    return key or "missing"


def _field_encryption_keys() -> list[str]:
    found = env.texts("FIELD_ENCRYPTION_KEYS", [])
    if not found and DEBUG:
        found = keys.kept(STATE_DIR / "field-encryption-keys", keys.new_field_key).split()
    if not found:
        _problems.append(
            "FIELD_ENCRYPTION_KEYS is not set. Make one, and keep it as carefully as the secrets that it locks:\n"
            '    export FIELD_ENCRYPTION_KEYS="$(python -m nexusadmin.keys field)"'
        )
    for position, key in enumerate(found, start=1):
        if not keys.is_field_key(key):
            _problems.append(
                f"FIELD_ENCRYPTION_KEYS: key {position} is not 32 bytes in URL-safe base64. Make one and put it first, "
                "before those in use:\n"
                '    export FIELD_ENCRYPTION_KEYS="$(python -m nexusadmin.keys field),$FIELD_ENCRYPTION_KEYS"'
            )
    return found


SECRET_KEY = _secret_key()
FIELD_ENCRYPTION_KEYS = _field_encryption_keys()  # newest first: it encrypts, all of them decrypt

# -- who may ask for what
ALLOWED_HOSTS = env.texts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.texts("CSRF_TRUSTED_ORIGINS", [])
if not ALLOWED_HOSTS:
    _problems.append(
        "ALLOWED_HOSTS is not set. Name the hosts under which the admin is reached:\n"
        "    export ALLOWED_HOSTS=admin.example.com"
    )
if not DEBUG and "*" in ALLOWED_HOSTS:
    _problems.append(
        "ALLOWED_HOSTS holds *, which lets anyone forge links. Name the hosts under which the admin is reached:\n"
        "    export ALLOWED_HOSTS=admin.example.com"
    )
for _origin in CSRF_TRUSTED_ORIGINS:
    if not _origin.startswith("https://" if not DEBUG else ("https://", "http://")):
        _problems.append(
            f"CSRF_TRUSTED_ORIGINS holds {_origin!r}, which is not an https:// origin. Write it with its scheme:\n"
            "    export CSRF_TRUSTED_ORIGINS=https://admin.example.com"
        )


# -- database
def _database() -> dict[str, Any]:
    if not DEBUG and not env.str("DATABASE_URL", default=""):
        _problems.append(
            "DATABASE_URL is not set. Name the registry's database, with the password in a file of its own:\n"
            "    export DATABASE_URL_FILE=/etc/nexusadmin/database-url   # postgres://USER:PASSWORD@HOST/NAME"
        )
    default = f"sqlite:///{STATE_DIR / 'nexusadmin.sqlite3'}"
    database: dict[str, Any] = dict(env.db_url("DATABASE_URL", default=default))
    options = database.setdefault("OPTIONS", {})
    engine = str(database.get("ENGINE", ""))
    if engine.endswith("sqlite3"):
        if database["NAME"] != ":memory:":
            Path(database["NAME"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # IMMEDIATE: a transaction takes the write lock when it begins, so that it waits (timeout, seconds) and never
        # fails half way because another process wrote since it read.
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault(
            "init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
        )
    elif "postgresql" in engine:
        # A server that vanishes without a word would otherwise be waited for a quarter of an hour, while another one
        # answers at its address already. Seconds, but for the milliseconds without an acknowledgement.
        for name, value in (
            ("connect_timeout", 5),
            ("keepalives_idle", 15),
            ("keepalives_interval", 5),
            ("keepalives_count", 3),
            ("tcp_user_timeout", 15_000),
        ):
            options.setdefault(name, value)
        database["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured(
            "DATABASE_URL names a database that is not supported: use postgres://USER:PASSWORD@HOST/NAME "
            "or sqlite:////absolute/path."
        )
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- hints: channels Redis Pub/Sub and Celery
REDIS_URL = env.str("REDIS_URL", default="")
if REDIS_URL and not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("REDIS_URL is not a Redis address: write redis://HOST:6379/0, rediss://… or unix://….")

CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py 8 gives a connection up after 5 s without an answer; a subscriber waits far longer than that.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

# An edit is saved whether or not its hint can be sent (the relay polls too), so publishing fails fast and once.
CELERY_BROKER_URL = broker_url(REDIS_URL) or "memory://"
if REDIS_URL.startswith("rediss://"):
    # Without a word about it kombu verifies no certificate. Options of the address (ssl_ca_certs=…) come in its place.
    CELERY_BROKER_USE_SSL = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
CELERY_TASK_ALWAYS_EAGER = not REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_TIMEOUT = 1.0
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_retries": 0,  # kombu's own reconnecting would sleep 2 s first
    "socket_connect_timeout": 0.5,
    "socket_timeout": 3.0,  # longer than a worker's blocking pop
    "socket_keepalive": True,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True  # Celery 6's default
CELERY_TASK_DEFAULT_QUEUE = "nexusadmin"
TASKS_APPLICATION = "nexusadmin.celery"  # loaded with the first task

# -- what relays report
USAGE_DAYS = env.number("USAGE_DAYS", 90, 31, 36_500)  # how long the usage of each hour is kept

# -- applications
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "nexusadmin.web.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "axes",
    "django_otp",
    "csp",
    "tenants",
    "nexusadmin.accounts",
    "nexusadmin",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "nexusadmin.web.headers.HeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "tenants.middleware.ActingMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "nexusadmin.accounts.middleware.SessionUseMiddleware",
    "nexusadmin.accounts.middleware.SecondFactorMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "nexusadmin.web.urls"
ASGI_APPLICATION = "nexusadmin.web.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

# -- static files: from the packages while developing, else from STATIC_ROOT (`manage.py collectstatic`)
STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = DEBUG

# -- transport security
SECURE_SSL_REDIRECT = env.switch("SECURE_SSL_REDIRECT", not DEBUG)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = env.number("SECURE_HSTS_SECONDS", 0 if DEBUG else 31_536_000, 0, 63_072_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.switch("SECURE_HSTS_INCLUDE_SUBDOMAINS", not DEBUG)
SECURE_HSTS_PRELOAD = env.switch("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # preloading binds a whole domain; its owner decides
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        # No page has an inline script. Alpine, which Unfold is built on, makes functions of its attributes' texts.
        "script-src": [SELF, UNSAFE_EVAL],
        "script-src-attr": [NONE],
        "style-src": [SELF, UNSAFE_INLINE],  # Unfold's colours, and the style attributes that its scripts set
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# -- mail
_email = env.email_url("EMAIL_URL", default="consolemail://")
if not DEBUG and _email["EMAIL_BACKEND"].endswith("console.EmailBackend"):
    _problems.append(
        "EMAIL_URL is not set, and without it invitations would go to the log, with links that let anyone in. Name the "
        "mail server, with the password in a file of its own, or dummymail:// to send nothing:\n"
        "    export EMAIL_URL_FILE=/etc/nexusadmin/email-url   # smtp+tls://USER:PASSWORD@HOST:587"
    )
EMAIL_BACKEND = _email["EMAIL_BACKEND"]
EMAIL_HOST = _email.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _email.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _email.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _email.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS = bool(_email.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_email.get("EMAIL_USE_SSL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="nexusadmin@localhost")

# -- warnings of tokens that end
WARNING_MAIL_TO = env.texts("WARNING_MAIL_TO", [])  # beside the tenants' owners
WARNING_WEBHOOK_URL = env.str("WARNING_WEBHOOK_URL", default="")
WARNING_WEBHOOK_SECRET = env.str("WARNING_WEBHOOK_SECRET", default="")
if WARNING_WEBHOOK_URL and not re.match(r"https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/]", WARNING_WEBHOOK_URL):
    _problems.append(
        "WARNING_WEBHOOK_URL is no https:// address, nor one of this machine. Write it with its scheme:\n"
        "    export WARNING_WEBHOOK_URL=https://hooks.example.com/nexusadmin"
    )
if WARNING_WEBHOOK_URL and not WARNING_WEBHOOK_SECRET and not DEBUG:
    _problems.append(
        "WARNING_WEBHOOK_SECRET is not set, so that anyone could forge what the webhook is told. Make one:\n"
        '    export WARNING_WEBHOOK_SECRET="$(python -m nexusadmin.keys secret)"'
    )

# -- audit trail
AUDIT_DAYS = env.number("AUDIT_DAYS", 730, 0, 36_500)  # how long entries are kept; 0 for ever

# -- registry and relay
ALLOW_INSECURE_NODES = env.switch("ALLOW_INSECURE_NODES", False)  # ws:// to more than loopback
ALLOW_SOCKS5_BEYOND_LOOPBACK = env.switch("ALLOW_SOCKS5_BEYOND_LOOPBACK", False)


def _credential_commands() -> list[str] | None:
    """Return the programs that may print tokens; None for any, while developing."""
    found = env.texts("CREDENTIAL_COMMANDS", [])
    for path in found:
        if not path.startswith("/"):
            _problems.append(
                f"CREDENTIAL_COMMANDS holds {path!r}, which is no absolute path. Write all of it:\n"
                "    export CREDENTIAL_COMMANDS=/usr/local/bin/nexus-attestor"
            )
    return None if DEBUG and not found else found


CREDENTIAL_COMMANDS = _credential_commands()


# -- the verifier: nodes ask whether a token is good
def _verifier_secrets(name: str) -> list[str]:
    found = env.texts(name, [])
    if any(len(secret) < 32 or not secret.isascii() or not secret.isprintable() for secret in found):
        raise ImproperlyConfigured(
            f"{name} holds a secret that is shorter than 32 characters or is no plain text. Make one:\n"
            f'    export {name}="$(python -m nexusadmin.keys secret)"'
        )
    return found


VERIFIER_SECRETS = _verifier_secrets("VERIFIER_SECRETS")  # newest first; each of them lets a caller in
VERIFIER_PROXY_SECRETS = _verifier_secrets("VERIFIER_PROXY_SECRETS")
VERIFIER_MAINTENANCE = env.switch("VERIFIER_MAINTENANCE", False)
VERIFIER_RECORDS = env.choice("VERIFIER_RECORDS", "all", ("all", "refused"))
PUBLIC_URL = env.str("PUBLIC_URL", default="").strip().rstrip("/")
if PUBLIC_URL and not PUBLIC_URL.startswith("https://" if not DEBUG else ("https://", "http://")):
    raise ImproperlyConfigured(
        f"PUBLIC_URL is {PUBLIC_URL!r}, which is no https:// address. Name the one that nodes and people reach this "
        "site by:\n    export PUBLIC_URL=https://admin.example.com"
    )

REQUIRE_DOMAINS = env.switch("REQUIRE_DOMAINS", True)  # members add names under their tenant's proved domains only
DOMAIN_GRACE_DAYS = env.number("DOMAIN_GRACE_DAYS", 30, 0, 3_650)  # that a proof outlives its record; 0 for ever
DNS_TIMEOUT = env.number("DNS_TIMEOUT", 5, 1, 60)  # seconds for one look-up, all resolvers together
DNS_RESOLVERS = env.resolvers("DNS_RESOLVERS")  # none: the system's

# -- the relay
NODE_PROXY = env.proxy("NODE_PROXY")  # that leads to all nodes; "direct" for none; empty: HTTPS_PROXY and its like
TCP_KEEPALIVE_SECONDS = env.number("TCP_KEEPALIVE_SECONDS", 15, 0, 7_200)  # of silence at targets and nodes; 0: never

# -- `make run`: where its processes listen on loopback
WEB_PORT = env.number("WEB_PORT", 8000, 1, 65535)
NODE_HUB_PORT = env.number("NODE_HUB_PORT", 9443, 1, 65535)
NODE_HTTP_PORT = env.number("NODE_HTTP_PORT", 8080, 1, 65535)
NODE_TLS_PORT = env.number("NODE_TLS_PORT", 8443, 1, 65535)
DEMO_BLUE_HTTP_PORT = env.number("DEMO_BLUE_HTTP_PORT", 9001, 1, 65535)
DEMO_BLUE_TLS_PORT = env.number("DEMO_BLUE_TLS_PORT", 9002, 1, 65535)
DEMO_GREEN_HTTP_PORT = env.number("DEMO_GREEN_HTTP_PORT", 9003, 1, 65535)
DEMO_GREEN_TLS_PORT = env.number("DEMO_GREEN_TLS_PORT", 9004, 1, 65535)

# -- accounts
INVITATION_DAYS = env.number("INVITATION_DAYS", 7, 1, 90)  # that an invitation's link works
REQUIRE_OPERATOR_TOTP = env.switch("REQUIRE_OPERATOR_TOTP", False)  # of superusers and auditors

SESSION_ENGINE = "nexusadmin.accounts.session_store"
SESSION_COOKIE_AGE = env.number("SESSION_IDLE_MINUTES", 120, 5, 43_200) * 60  # without a request
SESSION_LONGEST = env.number("SESSION_HOURS", 24, 1, 8_760) * 3_600  # from log-in, however much it is used

LOGIN_FAILURES = env.number("LOGIN_FAILURES", 5, 1, 100)
LOGIN_FAILURES_OF_ADDRESS = env.number("LOGIN_FAILURES_OF_ADDRESS", 50, 1, 10_000)
AXES_FAILURE_LIMIT = LOGIN_FAILURES
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]  # the order that LoginThrottle counts on
AXES_COOLOFF_TIME = timedelta(minutes=env.number("LOGIN_LOCKOUT_MINUTES", 15, 1, 1_440))
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # a stranger's attempts do not prolong it
AXES_RESET_ON_SUCCESS = True
AXES_HANDLER = "nexusadmin.accounts.services.login_throttle.LoginThrottle"
AXES_USERNAME_CALLABLE = "nexusadmin.accounts.services.login_throttle.counted_name"
AXES_CLIENT_IP_CALLABLE = "nexusadmin.accounts.services.login_throttle.counted_address"
AXES_LOCKOUT_CALLABLE = "nexusadmin.accounts.views.login.locked_out"
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code", "next"]
AXES_DISABLE_ACCESS_LOG = True  # the audit trail has them
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# -- logs
LOG_FORMAT = env.choice("LOG_FORMAT", "console" if DEBUG else "json", logs.FORMATS)
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING = logs.logging_config(LOG_FORMAT, LOG_LEVEL, access_log=env.switch("ACCESS_LOG", not DEBUG))

# -- tests
TEST_RUNNER = "tests.support.runner.CountingRunner"

# -- the admin's looks
UNFOLD = {
    "SITE_TITLE": "nexusadmin",
    "SITE_HEADER": "nexusadmin",
    "SITE_SUBHEADER": "Nexus backends of all tenants",
    "SITE_SYMBOL": "hub",
    "SITE_URL": "",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "tenants.admin.navigation.favicon"}],
    "DASHBOARD_CALLBACK": "tenants.admin.dashboard.dashboard",
    "ACCOUNT": {"navigation": "nexusadmin.accounts.views.pages.account_links"},
    "SIDEBAR": {"show_search": False, "navigation": "tenants.admin.navigation.navigation"},
}

# A backend's page posts a few fields for each of its hostnames and routes.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000
DEFAULT_EXCEPTION_REPORTER_FILTER = "nexusadmin.web.error_reports.ReporterFilter"

if _problems:
    raise ImproperlyConfigured(
        "DEBUG is off and the settings are not complete (docs/settings.md).\n\n" + "\n\n".join(_problems)
        if not DEBUG
        else "\n\n".join(_problems)
    )
