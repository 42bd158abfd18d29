"""Defines the arguments of `rxupload send`, and the notes below its help."""

from __future__ import annotations

import argparse

from . import values
from .send import send

NOTES = """\
exit status:
  0    the server took every FILE: each got a response with a status of 2xx
  1    a FILE failed, or got another status; a redirect is one, unless it is followed (-L)
  2    wrong usage; nothing was sent
  130  Ctrl-C; the uploads were aborted; with --resume, the same command goes on

output:
  The response to a single FILE goes to standard output as it came, and its status to standard error. A
  terminal gets the status and the beginning of the response. Several FILEs, -r and --files-from print
  a line for each FILE, with its status.

retries:
  A FILE is sent again after a network error, and after a status of 408, 425, 429, 500, 502, 503 or 504,
  but not after --timeout. The wait before a retry doubles from 0.5 s up to 30 s, plus up to 1 s at
  random. A Retry-After header can make it longer; one of more than 30 s ends the retries. Standard input
  and named pipes can be read only once, so they are never sent again. The server may get a FILE twice.

with --resume:
  Each FILE goes by tus 1.0.0 to a URL that creates uploads, such as http://127.0.0.1:8000/files, or by
  another --protocol. After a broken connection (--retries), Ctrl-C, a killed process or a restart of the
  machine, the same command goes on where the server stands. A FILE that has changed meanwhile is sent anew.
  -F NAME=VALUE is metadata of each FILE; with --protocol ietf, it is a field of a form, and --name that of
  the FILE. The attempts of --retries are counted anew once the server has more. `rxupload resumable list`
  shows what is unfinished. A FILE that is done is forgotten: the same command sends it again.

with --json, each line on standard output is one JSON object:
  event    "progress", "retry", "response", "error" or "summary"; a response or an error is the last of
           its FILE
  index    the number of the FILE, from 0; not in the summary
  file     FILE as you typed it, or as it was found; not in the summary
and, depending on the event:
  progress: sent, total (bytes of the request body; total is null if unknown), attempt (from 1), start
            (bytes that the server had before, with --resume, or 0; sent begins there)
  retry:    attempt (the failed one), wait (seconds), type, message, status (of the response, or null)
  response: status (a number), reason, body (text), notes (texts, such as where a redirect leads), and
            with --digest: digests (texts, in hex), verified (whether the server has sent an equal one);
            with --resume: start (bytes that the server had before), sent (bytes sent by this command)
  error:    type (the exception's name), message
  summary:  done (FILEs with a status of 2xx), failed (all others), sent (bytes of all request bodies),
            seconds
With --dry-run the only events are "dry-run": method, url, filename, size (bytes, or null), error (or null),
and with -F: form (for each part its name, file and size).
After Ctrl-C no more lines come, so unfinished FILEs have neither a response nor an error.
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] URL FILE..."
    parser.description = "Upload each FILE in its own request, as a form in a browser does."
    parser.epilog = NOTES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    # `send` checks these two, because argparse would do so before it finds an unknown option.
    add("url", nargs="?", metavar="URL", help="the address; http:// if it names no scheme")
    add("files", nargs="*", metavar="FILE", help="a file to upload; - is standard input")
    _files(parser)
    _resumable(parser)
    _request(parser)
    _connection(parser)
    _output(parser)
    parser.set_defaults(run=send, parser=parser)


def _files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files").add_argument
    add(
        "-r",
        "--recursive",
        action="store_true",
        help="send the files of a directory; the filename is the path relative to it",
    )
    add(
        "--files-from",
        metavar="LIST",
        help="read further FILEs from LIST, one a line or NUL-separated; - is standard input",
    )
    add("--filename", metavar="NAME", help="the name of a single FILE for the server (its own)")
    add("--type", metavar="TYPE", help="the media type of each FILE (guessed from its name)")
    add(
        "--digest",
        metavar="NAME",
        help="hash each FILE as it is sent (sha256, ...), print the digest, and compare it with the server's, if any",
    )
    add("--dry-run", action="store_true", help="print what would be sent, and send nothing")


def _resumable(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("resumable uploads").add_argument
    add(
        "--resume",
        action="store_true",
        help="send each FILE so that the same command goes on after a break, see below",
    )
    add(
        "--protocol",
        choices=("tus", "google", "ietf"),
        help="how the server takes them: tus 1.0.0, as Cloud Storage, Drive and YouTube, or by the draft of the IETF, "
        "which is experimental (tus)",
    )
    add(
        "--chunk-size",
        type=values.rate,
        metavar="SIZE",
        help="the most bytes of one request (no limit): for servers and proxies that limit it",
    )


def _request(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("request").add_argument
    add("--name", help="the form field that holds the FILE (file)")
    add(
        "-F",
        "--form",
        type=values.form_part,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further form field, before the FILE; NAME=@PATH is a file, alone or beside a FILE; "
        ";type=TYPE and ;filename=NAME may follow",
    )
    add(
        "--form-string",
        dest="form",
        type=values.form_string,
        action="append",
        metavar="NAME=VALUE",
        help="a form field whose value is taken as it is, @ and ; included",
    )
    add(
        "-T",
        "--raw",
        action="store_true",
        help="send the FILE as the whole body, by PUT, without a form; a URL that ends with / gets its name",
    )
    add(
        "-H",
        "--header",
        type=values.header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a request header",
    )
    add("-X", "--method", metavar="METHOD", help="the request method (POST, or PUT with -T)")
    add(
        "-u",
        "--user",
        type=values.user,
        metavar="USER[:PASSWORD]",
        help="basic authentication; a password that is left out is asked for, and other users cannot see it",
    )
    add("-L", "--location", action="store_true", help="follow redirects, with the FILE where they ask for it")
    add("--same-origin", action="store_true", help="follow redirects, but send nothing to another origin")


def _connection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("connection").add_argument
    add("--concurrency", type=values.whole(1), default=4, metavar="N", help="the most uploads at a time (4)")
    add(
        "--retry",
        "--retries",
        dest="retries",
        type=values.whole(0),
        default=0,
        metavar="N",
        help="further attempts after a failure, see below (0)",
    )
    add(
        "--limit-rate",
        type=values.rate,
        metavar="SIZE",
        help="bytes per second for all FILEs together: 2M (2000000), 2MiB (2097152) ... (no limit)",
    )
    add(
        "-m",
        "--max-time",
        "--timeout",
        dest="timeout",
        type=values.seconds,
        metavar="SECONDS",
        help="time limit for each whole upload (no limit)",
    )
    add(
        "-x",
        "--proxy",
        type=values.proxy,
        metavar="URL",
        help="the proxy (that of the environment variables)",
    )
    add("-k", "--insecure", action="store_true", help="accept any TLS certificate")
    add("--cacert", metavar="PATH", help="trust only the certificate authorities in this PEM file")
    add("--cert", metavar="PATH", help="your own certificate, a PEM file; with its key, unless --key has it")
    add("--key", metavar="PATH", help="the key of --cert, a PEM file")


def _output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o", "--output", metavar="PATH", help="write the response to this file (-: standard output)"
    )
    volume = group.add_mutually_exclusive_group()
    volume.add_argument(
        "-q", "--quiet", "-s", "--silent", action="store_true", help="print nothing but errors"
    )
    volume.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print the heads of requests and responses, without secrets, and each response of several FILEs",
    )
    group.add_argument("--json", action="store_true", help="print each event as a JSON line, see below")
