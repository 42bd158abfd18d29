"""tus 1.0.0: what is refused, that it changes nothing, and which pages may upload."""

from __future__ import annotations

import pytest
from support.tus import BYTES_OF, TusClient, finished

from rxupload import receiver

MIB4 = 2**22  # the receiver's limit


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload_Length": 1, "Upload_Defer_Length": 1}, 400),
        ({"Upload_Defer_Length": 2}, 400),
        ({"Upload_Length": "-1"}, 400),
        ({"Upload_Length": "1.0"}, 400),
        ({"Upload_Length": "0x1"}, 400),
        ({"Upload_Length": "+1"}, 400),
        ({"Upload_Length": "1" * 5000}, 400),
        ({"Upload_Length": MIB4 + 1}, 413),
        ({"Upload_Length": 1, "Upload_Metadata": "filename !"}, 400),
        ({"Upload_Length": 1, "Upload_Metadata": "filename YQ==,filename YQ=="}, 400),
        ({"Upload_Length": 1, "Upload_Metadata": ",filename YQ=="}, 400),
        ({"Upload_Length": 1, "Upload_Metadata": "a b c"}, 400),
        ({"Upload_Length": 1, "Upload_Concat": "whole"}, 400),
        ({"Upload_Length": 1, "Tus_Resumable": "0.2.2"}, 412),
        ({"Upload_Length": 1, "Tus_Resumable": None}, 412),
        ({"Upload_Concat": "final;"}, 400),
        ({"Upload_Concat": "final"}, 400),
        ({"Upload_Concat": "final;/files/" + "A" * 43}, 404),
        ({"Upload_Concat": "final;http://[/files/x"}, 404),
    ],
)
def test_a_creation_that_is_wrong_leaves_nothing(tus, inbox, headers, status):
    """The answer says why, in JSON, with the version."""
    response = tus.post(**headers)

    assert response.status_code == status
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers.get("Tus-Version") == ("1.0.0" if status == 412 else None)
    assert response.json()["error"]
    assert list(inbox.iterdir()) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", None])
def test_bytes_of_another_type_are_a_415(tus, inbox, content_type):
    """For PATCH, and for a creation with bytes."""
    url = tus.created(5)
    patch = tus.patch(url, 0, b"01234", Content_Type=content_type)
    post = tus.post(b"01234", Upload_Length=5, Content_Type=content_type)

    assert (patch.status_code, post.status_code) == (415, 415)
    assert tus.offset(url) == 0
    assert finished(inbox) == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload_Offset": "4"}, 409),
        ({"Upload_Offset": "6"}, 409),
        ({"Upload_Offset": "0"}, 409),
        ({"Upload_Offset": None}, 400),
        ({"Upload_Offset": "five"}, 400),
        ({"Upload_Offset": "-5"}, 400),
        ({"Upload_Offset": "5.0"}, 400),
        ({"Upload_Offset": "5,5"}, 400),
        ({"Upload_Length": "11"}, 400),
        ({"Upload_Length": "ten"}, 400),
        ({"Tus_Resumable": "2.0.0"}, 412),
        ({"Tus_Resumable": None}, 412),
    ],
)
def test_a_patch_that_is_wrong_changes_nothing(tus, headers, status):
    """A 409 tells the right offset."""
    url = tus.created(10, b"01234")
    response = tus.request("PATCH", url, b"56", **{"Upload_Offset": "5"} | BYTES_OF | headers)

    assert response.status_code == status
    assert response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers.get("Upload-Offset") == ("5" if status == 409 else None)
    assert tus.offset(url) == 5


def test_bytes_beyond_the_length_are_a_413(tus, inbox):
    """Neither a Content-Length nor chunks get beyond it."""
    url = tus.created(10, b"01234")
    known = tus.patch(url, 5, b"567890")
    chunked = tus.patch(url, 5, iter([b"567890"]))

    assert (known.status_code, chunked.status_code) == (413, 413)
    assert tus.offset(url) == 5
    assert finished(inbox) == {}


def test_an_upload_of_unknown_length_keeps_to_the_limit(tus):
    """The length that comes late is checked, too."""
    url = tus.created()

    assert tus.patch(url, 0, iter([bytes(MIB4), b"x"])).status_code == 413
    offset = tus.offset(url)
    assert offset <= MIB4
    assert tus.patch(url, offset, Upload_Length=MIB4 + 1).status_code == 413


def test_a_length_below_the_offset_is_refused(tus):
    """The bytes are there already."""
    url = tus.created()
    tus.patch(url, 0, b"01234")

    assert tus.patch(url, 5, Upload_Length=4).status_code == 400


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/files/" + "A" * 43, "/files/x", "/files", "/", "/files/../x"])
def test_an_unknown_upload_is_a_404(tus, method, path):
    """A wrong URL is no other answer than a forgotten one."""
    response = tus.request(method, path, Upload_Offset=0, **BYTES_OF)

    assert (response.status_code, response.headers["Tus-Resumable"]) == (404, "1.0.0")
    assert "Upload-Offset" not in response.headers


@pytest.mark.parametrize(
    ("method", "on_upload"), [("PUT", False), ("GET", False), ("POST", True), ("PUT", True)]
)
def test_other_methods_are_a_405(tus, method, on_upload):
    """Allow says which ones there are."""
    response = tus.request(method, tus.created(1) if on_upload else "/files")

    assert response.status_code == 405
    assert "OPTIONS" in response.headers["Allow"]


# Pages of other origins


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE", "OPTIONS"])
def test_a_page_of_another_origin_is_refused(tus, inbox, method):
    """As for forms. Programs, tus-js-client in Node among them, send no Origin."""
    url = tus.created(10, b"01234")
    target = "/files" if method in {"POST", "OPTIONS"} else url
    response = tus.request(
        method, target, Origin="http://evil.example", Upload_Offset=5, Upload_Length=1, **BYTES_OF
    )

    assert response.status_code == 403
    assert tus.offset(url) == 5


def test_a_page_of_an_allowed_host_uploads(client, inbox):
    """The browser asks before it sends (WHATWG Fetch, CORS-preflight), and may show the page what it needs."""
    origin = "https://page.example"
    with receiver.running(inbox, allow_hosts=["page.example"]) as base:
        tus = TusClient(client, base)
        asked = {
            "Access_Control_Request_Headers": "tus-resumable,upload-offset",
            "Sec_Fetch_Site": "cross-site",
        }
        preflight = tus.request("OPTIONS", "/files", Origin=origin, **asked)
        created = tus.post(Origin=origin, Upload_Length=5)
        refused = tus.patch(created.headers["Location"], 1, b"1", Origin=origin)
        without = tus.head(created.headers["Location"])

    assert preflight.headers["Access-Control-Allow-Headers"] == "tus-resumable,upload-offset"
    assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
    for response in (preflight, created, refused):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Upload-Offset" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in without.headers
