"""Tokens and backends that these tests share."""

import json
from pathlib import Path

import jwt

from relay.config import BackendConfig, Claims, UdpRoute

WIRE = Path(__file__).parents[2] / "data" / "wire"
KEY = "lab-secret-lab-secret-lab-secret-32"
CLAIMS = Claims(
    hostnames=("app.example.com", "*.preview.example.com"),
    weight=2,
    tcp_ports=(17081,),
    udp_routes=(UdpRoute(17053, 30),),
    outbound_allowed=True,
    allowed_outbound_ports=(9000,),
)


def signed(**payload: object) -> str:
    return jwt.encode(payload, KEY, algorithm="HS256")


def payload_of(token: str) -> dict[str, object]:
    payload: dict[str, object] = jwt.decode(token, KEY, algorithms=["HS256"], audience="nexus", issuer="authorizer")
    return payload


def backend(credential: object, **fields: object) -> BackendConfig:
    return BackendConfig(key="1", name="edge-apps", nodes=(), credential=credential, claims=CLAIMS, **fields)  # type: ignore[arg-type]


def recorded_tokens(name: str) -> list[str]:
    lines = [json.loads(line) for line in (WIRE / f"{name}.jsonl").read_text().splitlines()]
    return [line["text"] for line in lines if line["dir"] == "client->node" and line["opcode"] == "text"]


def part(raw: bytes) -> str:
    return jwt.utils.base64url_encode(raw).decode()


def jwt_of(payload: object, head: object = None) -> str:
    """Return a token that no library would sign."""
    header = json.dumps(head if head is not None else {"alg": "HS256"})
    return f"{part(header.encode())}.{part(json.dumps(payload).encode())}.{part(b'x' * 32)}"
