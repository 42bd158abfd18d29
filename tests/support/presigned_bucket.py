"""A scripted object store that takes a presigned PUT, and refuses anything but the exact bytes and headers.

It computes the signature (AWS Signature Version 4, with query parameters) from the request as it came over the wire,
without decoding or quoting anything. boto3 makes the addresses.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import boto3
from botocore.config import Config
from support.scripted_server import header

from rxupload.testing import Connection

REGION = "us-east-1"
KEY_ID, SECRET, TOKEN = "AKID", "s3cr3t", "session+token/=="
BUCKET = "photos"

# What an HTTP client says about itself. Anything else must be expected.
OF_CLIENTS = {"accept", "accept-encoding", "connection", "user-agent", "host", "content-length"}


def s3_client(url: str):
    """boto3's client for a server."""
    return boto3.client(
        "s3",
        endpoint_url=url.rstrip("/"),
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def presigned_put(url: str, key: str, **params: str) -> str:
    """An address that lets its holder put one object."""
    client = s3_client(url)
    try:
        return client.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": key, **params})
    finally:
        client.close()


@dataclass
class PresignedBucket:
    """The script: it answers 200 to the expected request, 403 to a wrong one, and 411 to one without a length.

    Attributes:
        content: The bytes that it takes.
        headers: The headers that it takes, besides those that every client sends; names in lower case.
        refusals: Why it refused.
        stored: What it took.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)

    def __call__(self, connection: Connection) -> None:
        while head := connection.read_head():
            if header(head, b"content-length") is None:
                self.refusals.append("no length")
                connection.respond(411, b"", "Connection: close")
                return
            body = connection.read_body()
            fault = self._fault(head.decode("ascii"), body)
            if fault:
                self.refusals.append(fault)
                connection.respond(403, fault.encode())
            else:
                self.stored.append(body)
                etag = hashlib.md5(body).hexdigest()
                connection.respond(200, b"", f'ETag: "{etag}"')

    def _fault(self, head: str, body: bytes) -> str:
        line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = line.split(" ")
        pairs = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
        headers = dict(pairs)
        if len(headers) < len(pairs):
            return f"a header comes twice: {pairs}"
        if version != "HTTP/1.1" or method != "PUT":
            return f"wrong request: {line}"
        if not is_signed(method, target, headers):
            return "SignatureDoesNotMatch"
        others = {name: value for name, value in headers.items() if name not in OF_CLIENTS}
        if others != self.headers:
            return f"wrong headers: {others}"
        return "" if body == self.content else f"wrong content: {len(body)} bytes"


def is_signed(method: str, target: str, headers: dict[str, str]) -> bool:
    """Whether the signature in the target is that of the request."""
    path, _, query = target.partition("?")
    given = dict(pair.split("=") for pair in query.split("&"))
    signature = given.pop("X-Amz-Signature")
    names = given["X-Amz-SignedHeaders"].split("%3B")
    canonical = [
        method,
        path,
        "&".join(f"{name}={value}" for name, value in sorted(given.items())),
        *(f"{name}:{headers.get(name, '')}" for name in names),
        "",
        ";".join(names),
        "UNSIGNED-PAYLOAD",
    ]
    stamp = given["X-Amz-Date"]
    scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for each in [*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"]:
        key = hmac.digest(key, each.encode(), "sha256")
    return hmac.compare_digest(key.hex(), signature)
