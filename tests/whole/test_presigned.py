"""Presigned uploads: a strict scripted server, and the S3 of moto with a presigned PUT and a presigned POST."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer
from support.presigned_bucket import BUCKET, PresignedBucket, presigned_put, s3_client
from support.recording_observer import observe
from support.scripted_server import Server

from rxupload import File, Progress, upload

CONTENT = hashlib.shake_256(b"object").digest(300_001)
KEYS = ["beach.jpg", "a b+c~d%2Fe/\u00e9\u2605 (1).jpg", "x=1&y=2;z:@,$!'*?#"]


@pytest.fixture
def beach(tmp_path) -> Any:
    """The file that is uploaded."""
    path = tmp_path / "beach.jpg"
    path.write_bytes(CONTENT)
    return path


# The strict server


@pytest.mark.parametrize("key", KEYS)
def test_a_presigned_put_is_exact(key, beach):
    """The signature holds over the raw request, and the bytes and headers are exactly the expected ones."""
    bucket = PresignedBucket(CONTENT, {"content-type": "image/jpeg"})
    with Server(bucket) as server:
        url = presigned_put(server.url, key, ContentType="image/jpeg")
        for address in (url, httpx.URL(url)):
            response = upload(address, beach, raw=True, method="PUT").run()
            assert response.status_code == 200, response.text
    assert response.headers["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert bucket.stored == [CONTENT] * 2


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"content_type": ""}, {}),
        ({"content_type": "a/b"}, {"content-type": "a/b"}),
        (
            {"headers": {"Content-Type": "a/b", "x-amz-meta-album": "summer"}},
            {"content-type": "a/b", "x-amz-meta-album": "summer"},
        ),
        (
            {"headers": {"Content-MD5": "abc=", "Cache-Control": "no-cache"}, "content_type": ""},
            {"content-md5": "abc=", "cache-control": "no-cache"},
        ),
    ],
    ids=str,
)
def test_the_headers_are_those_that_were_asked_for(beach, options, headers):
    """Nothing is added to the caller's headers, and with an empty content_type there is no Content-Type."""
    bucket = PresignedBucket(CONTENT, headers)
    with Server(bucket) as server:
        response = upload(presigned_put(server.url, "a"), beach, raw=True, method="PUT", **options).run()
    assert response.status_code == 200, bucket.refusals


def test_a_file_of_unknown_size_needs_its_size(beach):
    """An object store wants a length: a generator with its size has one, and one without is refused."""

    def pieces() -> Iterator[bytes]:
        yield CONTENT[:1000]
        yield CONTENT[1000:]

    bucket = PresignedBucket(CONTENT, {"content-type": "application/octet-stream"})
    with Server(bucket) as server:
        url = presigned_put(server.url, "a")
        sized = upload(url, File(pieces, size=len(CONTENT)), raw=True, method="PUT").run()
        unsized = upload(url, pieces, raw=True, method="PUT").run()
    assert (sized.status_code, unsized.status_code) == (200, 411)
    assert bucket.stored == [CONTENT]
    assert bucket.refusals == ["no length"]


def test_the_server_refuses_anything_else(beach):
    """What differs in the method, type, headers, bytes, quoting or body format is refused, so a 200 means exact."""
    bucket = PresignedBucket(CONTENT, {"content-type": "image/jpeg"})
    with Server(bucket) as server:
        url = presigned_put(server.url, "a+b/c", ContentType="image/jpeg")

        def status(address: str = url, file: Any = beach, **options: Any) -> int:
            return upload(address, file, **{"raw": True, "method": "PUT", **options}).run().status_code

        assert status() == 200
        assert status(method="POST") == 403
        assert status(raw=False) == 403
        assert status(content_type="") == 403
        assert status(content_type="image/jpg") == 403
        assert status(headers={"X-Another": "1"}) == 403
        assert status(file=CONTENT[:-1], content_type="image/jpeg") == 403
        assert status(address=url.replace("%2B", "+")) == 403
        assert status(address=url.replace("%2F", "/")) == 403
    assert bucket.stored == [CONTENT]


# moto


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of moto's S3, with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = s3_client(f"http://{host}:{port}")
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()
    server.stop()


@pytest.mark.parametrize("key", KEYS)
def test_s3_takes_a_presigned_put(s3, key, beach):
    """The object has the file's bytes, its type and its key, and the progress ends at the file's size."""
    url = s3.generate_presigned_url(
        "put_object", Params={"Bucket": BUCKET, "Key": key, "ContentType": "image/jpeg"}
    )
    observed, _ = observe(upload(url, beach, raw=True, method="PUT"))
    response = observed.wait().response
    assert response.status_code == 200, response.text
    stored = s3.get_object(Bucket=BUCKET, Key=key)
    with stored["Body"] as body:
        assert body.read() == CONTENT
    assert stored["ContentType"] == "image/jpeg"
    assert response.headers["ETag"] == stored["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert observed.progress[-1] == Progress(len(CONTENT), len(CONTENT))


def test_s3_takes_a_presigned_post(s3, beach):
    """The policy's fields come before the file, and S3 puts the filename into the key."""
    post = s3.generate_presigned_post(
        BUCKET,
        "incoming/${filename}",
        Fields={
            "Content-Type": "image/jpeg",
            "x-amz-meta-album": "\u00e9t\u00e9",
            "success_action_status": "201",
        },
        Conditions=[
            {"Content-Type": "image/jpeg"},
            {"success_action_status": "201"},
            ["starts-with", "$x-amz-meta-album", ""],
            ["content-length-range", len(CONTENT), len(CONTENT)],
        ],
    )
    for fields in (post["fields"], list(post["fields"].items())):
        response = upload(post["url"], beach, form_data=fields).run()
        assert response.status_code == 201, response.text
        stored = s3.get_object(Bucket=BUCKET, Key="incoming/beach.jpg")
        with stored["Body"] as body:
            assert body.read() == CONTENT
        assert stored["ContentType"] == "image/jpeg"
        s3.delete_object(Bucket=BUCKET, Key="incoming/beach.jpg")
