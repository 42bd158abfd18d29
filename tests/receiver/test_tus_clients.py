"""Clients of tus that are not ours: tuspy (PyPI) and tus-js-client (npm)."""

from __future__ import annotations

import json
import random

import pytest
from support.command_line import PROCESS_PATIENCE
from support.node import run_node
from support.tus import finished, hidden
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

CONTENT = random.Random(14).randbytes(3_000_000)  # below the receiver's limit


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    return path


# tuspy


@pytest.fixture
def upload_by_tuspy(url, film):
    """Uploads the file with these options. Returns the URL of the upload, and where it began.

    tuspy leaves a file open that it has opened itself.
    """

    def upload_by_tuspy(stop_at=None, **options):
        with film.open("rb") as stream:
            uploader = TusClient(url + "files").uploader(file_stream=stream, **options)
            begun_at = uploader.offset
            uploader.upload(stop_at)
        return uploader.url, begun_at

    return upload_by_tuspy


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("chunk_size", [700_000, 2**63 - 1])
def test_tuspy_uploads(upload_by_tuspy, inbox, chunk_size, checksum):
    """In one piece and in many, with a checksum for each and without."""
    metadata = {"filename": "film.mp4", "filetype": "video/mp4"}
    upload_by_tuspy(chunk_size=chunk_size, upload_checksum=checksum, metadata=metadata)

    assert finished(inbox) == {"film.mp4": CONTENT}


def test_tuspy_uploads_an_empty_file(upload_by_tuspy, inbox, film):
    """It sends an empty Upload-Metadata."""
    film.write_bytes(b"")
    upload_by_tuspy()

    assert finished(inbox) == {"upload": b""}


def test_tuspy_goes_on_with_an_upload(upload_by_tuspy, inbox):
    """It asks for the offset."""
    url, _ = upload_by_tuspy(1_400_000, chunk_size=700_000)
    assert len(hidden(inbox)) == 2
    _, begun_at = upload_by_tuspy(url=url)

    assert begun_at == 1_400_000
    assert finished(inbox) == {"upload": CONTENT}


def test_tuspy_hears_that_a_file_is_too_large(upload_by_tuspy, inbox, film):
    """A 413 at the creation."""
    film.write_bytes(bytes(2**22 + 1))
    with pytest.raises(TusCommunicationError) as caught:
        upload_by_tuspy()

    assert caught.value.status_code == 413
    assert finished(inbox) == {}


# tus-js-client

SCRIPT = """
const fs = require("fs"), {PassThrough} = require("stream"), tus = require("tus-js-client");
const [endpoint, path, options] = process.argv.slice(1);
const said = {progress: 0};
const {abortAt, ...others} = JSON.parse(options);
let file = fs.createReadStream(path);
if (others.uploadLengthDeferred) file = file.pipe(new PassThrough());  // whose size is unknown
const upload = new tus.Upload(file, {
  endpoint, retryDelays: null, metadata: {filename: "film.mp4", filetype: "video/mp4"}, ...others,
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onProgress: (sent) => { said.progress = sent; },
  onSuccess: () => { console.log(JSON.stringify(said)); },
  onChunkComplete: async (size, accepted) => {
    if (abortAt && accepted >= abortAt && !said.abortedAt) {
      said.abortedAt = accepted;
      await upload.abort();
      upload.start();
    }
  },
});
upload.start();
"""


def upload_by_js(url, path, **options):
    """What tus-js-client says of its upload with these options."""
    out = run_node(
        SCRIPT, url, path, json.dumps(options), packages=("tus-js-client",), timeout=PROCESS_PATIENCE
    )
    return json.loads(out)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": 700_000},
        {"uploadDataDuringCreation": True},
        {"uploadDataDuringCreation": True, "chunkSize": 700_000},
        {"uploadLengthDeferred": True, "chunkSize": 700_000},
        {"overridePatchMethod": True},
        {"addRequestId": True},
        {"parallelUploads": 3},
    ],
    ids=str,
)
def test_tus_js_client_uploads(url, inbox, film, options):
    """With each of its options that changes what it sends."""
    said = upload_by_js(url + "files", film, **options)

    assert said["progress"] == len(CONTENT)
    assert finished(inbox) == {"film.mp4": CONTENT}
    assert hidden(inbox, ".upload") == []


def test_tus_js_client_goes_on_with_an_upload(url, inbox, film):
    """It aborts in the middle, asks for the offset, and goes on."""
    said = upload_by_js(url + "files", film, chunkSize=700_000, abortAt=1_400_000)

    assert said["abortedAt"] == 1_400_000
    assert finished(inbox) == {"film.mp4": CONTENT}
