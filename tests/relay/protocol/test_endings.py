"""Tests of relay.protocol.endings."""

from django.test import SimpleTestCase

from relay.protocol.endings import classify
from relay.protocol.events import EndKind
from relay.protocol.times import ProtocolTimes


def kind(code: int, reason: str = "", *, token: bool = True, confirmed: bool = False, since: float = 0.1) -> EndKind:
    return classify(code, reason, token_sent=token, confirmed=confirmed, since_token=since).kind


class ClassifyTests(SimpleTestCase):
    def test_refusals_in_words(self) -> None:
        stage0 = "stage0 token validation failed: jwt validation failed: "
        for reason, remedy in (
            (stage0 + "token is malformed: token contains an invalid number of segments", "complete JWT"),
            (stage0 + "token has invalid claims: token is expired", "fresh token"),
            (stage0 + "token signature is invalid: signature is invalid", "HMAC secret"),
            ("session nonce mismatch: expected abc got def", "session_nonce"),
            ("expected text frame for stage0 token, got type 2", "dialect"),
        ):
            for confirmed in (False, True):
                ending = classify(1008, reason, token_sent=True, confirmed=confirmed, since_token=1)
                self.assertIs(ending.kind, EndKind.REFUSED)
                self.assertIn(reason, ending.message)
                self.assertIn(remedy, ending.message)
        self.assertIn("no reason given", classify(1008, "", token_sent=True, confirmed=False, since_token=0).message)

    def test_an_abrupt_end_right_after_the_token_looks_like_a_refusal(self) -> None:
        self.assertIs(kind(1006), EndKind.LIKELY_REFUSED)
        self.assertIs(kind(1000), EndKind.LIKELY_REFUSED)
        self.assertIs(kind(1006, since=ProtocolTimes().refusal_window - 0.01), EndKind.LIKELY_REFUSED)

    def test_other_ends_are_losses(self) -> None:
        self.assertIs(kind(1006, since=ProtocolTimes().refusal_window), EndKind.LOST)
        self.assertIs(kind(1006, confirmed=True), EndKind.LOST)
        self.assertIs(kind(1006, token=False), EndKind.LOST)
        self.assertIs(kind(1001, "going away", confirmed=True), EndKind.LOST)
        self.assertIn("1001", classify(1001, "x", token_sent=True, confirmed=True, since_token=60).message)

    def test_rate_limits_ask_for_patience_whatever_the_code(self) -> None:
        self.assertIs(kind(1008, "Rate limit exceeded"), EndKind.RATE_LIMITED)
        self.assertIs(kind(1013, "rate limit"), EndKind.RATE_LIMITED)

    def test_an_outage_of_the_nodes_verifier_is_no_refusal(self) -> None:
        failed = "stage0 token validation failed: remote verifier "
        for reason, expected in (
            (failed + "returned status 500", "out of order"),
            (failed + "returned status 503", "out of order"),
            (failed + "rejected token with status 429", "out of order"),
            (failed + "request failed: timeout", "out of reach"),
            (failed + "returned status 302", "node's configuration"),
            *((failed + f"rejected token with status {status}", "node's configuration") for status in (401, 403, 404)),
        ):
            for code in (1008, 1011):
                ending = classify(code, reason, token_sent=True, confirmed=False, since_token=1)
                self.assertIs(ending.kind, EndKind.VERIFIER_AWAY, reason)
                for words in (expected, "verifier", reason, "token and key are not in question"):
                    self.assertIn(words, ending.message)
        for reason in ("rejected token with status 400", "rejected token with status 422", "rejected token"):
            self.assertIs(kind(1008, failed + reason), EndKind.REFUSED, reason)
