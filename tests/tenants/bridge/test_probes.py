"""Tests of tenants.bridge.probes and dial: bounded looks at the network, each answer at its place."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from django.test import SimpleTestCase

from relay.config.target_policy import OPEN, TargetPolicy
from relay.configfile import ConfigDocument, read_config_file
from tenants.bridge import probes


def document(text: str) -> ConfigDocument:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nexus.yaml"
        path.write_text(
            "backends:\n"
            "  - name: edge\n"
            '    nexusAddresses: ["wss://nexus.example.com/connect"]\n'
            '    attestation: {hmacSecret: "0123456789abcdef0123456789abcdef"}\n' + text
        )
        return read_config_file(path)


def names(*known: str) -> Any:
    """Let getaddrinfo know these names only; a name that begins with "slow" waits."""
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host[0].isdigit() or host == "localhost":
            return real(host, *args, **kwargs)
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        raise socket.gaierror(socket.EAI_AGAIN if host.startswith("slow") else socket.EAI_NONAME, "unknown")

    return mock.patch("socket.getaddrinfo", look_up)


class ProbeTests(SimpleTestCase):
    def test_targets_and_names_that_do_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, names("there.example.com", "target.internal"):
            port = server.getsockname()[1]
            found = probes.probe(
                document(
                    "    hostnames: [there.example.com, missing.example.com, '*.wild.example.com', slow.example.com]\n"
                    f'    portMappings: {{443: {{default: "127.0.0.1:{port}", hosts: {{\n'
                    '      there.example.com: "127.0.0.1:1",\n'
                    f'      missing.example.com: "target.internal:{port},nowhere.internal:80"}}}}}}\n'
                )
            )
        texts = [str(each).partition(": ")[2] for each in found]
        self.assertEqual(len(texts), 4, texts)
        self.assertIn("hosts.", texts[0])
        self.assertIn("the target nowhere.internal:80 does not answer", texts[0])
        self.assertIn("the target 127.0.0.1:1 does not answer from this machine (Connection refused)", texts[1])
        self.assertIn("the hostname missing.example.com has no address in DNS", texts[2])
        self.assertIn("the resolver gave no answer for 1 of the hostnames", texts[3])

    def test_policies_hold(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, names():
            port = server.getsockname()[1]
            text = f'    tcpPorts: [25]\n    portMappings: {{25: "127.0.0.1:{port}"}}\n'
            (found,) = probes.probe(document(text), (TargetPolicy(),))
            self.assertIn("policy for targets does not allow", str(found))
            self.assertEqual(probes.probe(document(text), (OPEN,)), [])

    def test_time_and_number_are_bounded(self) -> None:
        over = threading.Event()
        self.addCleanup(over.set)

        def hang(*args: Any, **kwargs: Any) -> Any:
            over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "late")

        text = "    hostnames: [" + ", ".join(f"h{number}.example.com" for number in range(80)) + "]\n"
        text += '    portMappings: {443: "nowhere.internal:80"}\n'
        with mock.patch("socket.getaddrinfo", hang), mock.patch.object(probes, "PROBE_TIMEOUT", 0.2):
            found = [str(each) for each in probes.probe(document(text))]
        self.assertEqual(len(found), 2, found)
        self.assertIn("1 more targets were not dialled", found[0])
        self.assertIn("80 more hostnames were not looked up", found[1])

    def test_datagrams_are_not_dialled(self) -> None:
        with names():
            text = '    udpRoutes: [{port: 53}]\n    portMappings: {53: "127.0.0.1:1"}\n'
            self.assertEqual(probes.probe(document(text)), [])
