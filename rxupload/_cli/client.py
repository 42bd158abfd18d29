"""Makes the client of `rxupload send` from its arguments: the proxy, TLS, and the password that is asked for."""

from __future__ import annotations

import argparse
import getpass
import ssl
import warnings
from contextlib import AbstractContextManager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from rxupload import Client


def make_client(args: argparse.Namespace) -> AbstractContextManager[Client | None]:
    """Return a client for the proxy and the TLS options; None, for the default client, without them.

    Raises:
        argparse.ArgumentError: A certificate or a key cannot be used.
    """
    if args.key and not args.cert:
        raise argparse.ArgumentError(None, "--key is the key of a certificate; add --cert")
    if args.insecure and args.cacert:
        raise argparse.ArgumentError(None, "-k trusts any certificate, and --cacert only some; leave out one")
    if not (args.insecure or args.cacert or args.cert or args.proxy):
        return nullcontext()
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # as the default client
    return Client(verify=_context(args), proxy=args.proxy, cookies=no_cookies)


def _context(args: argparse.Namespace) -> ssl.SSLContext:
    context = httpx.create_ssl_context(verify=not args.insecure)
    if args.cacert:
        with _naming("--cacert"):
            context = ssl.create_default_context(cafile=args.cacert)
    if args.cert:
        with _naming("--cert and --key" if args.key else "--cert"):
            context.load_cert_chain(args.cert, args.key)
    return context


class _naming:  # noqa: N801 - used as a function
    """Names the option in an error of its file."""

    def __init__(self, option: str) -> None:
        self._option = option

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if isinstance(error, ssl.SSLError):
            reason = "the key does not belong to the certificate"
            if error.reason != "KEY_VALUES_MISMATCH":
                reason = "not a PEM file with what is needed"
            raise argparse.ArgumentError(None, f"{self._option}: {reason}") from error
        if isinstance(error, OSError):
            raise argparse.ArgumentError(None, f"{self._option}: {error.strerror}") from error


def ask_for_password(user: tuple[str, str | None] | None) -> tuple[str, str] | None:
    """Return user and password of -u, after asking for the password on the terminal if it was left out.

    Raises:
        argparse.ArgumentError: There is no terminal, or no answer.
    """
    if user is None:
        return None
    name, password = user
    if password is None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)  # it would read what belongs to FILE -
                password = getpass.getpass(f"Password of {name}: ")
        except (getpass.GetPassWarning, EOFError, OSError) as error:
            raise argparse.ArgumentError(
                None, "-u: no password, and no terminal to ask for it; give USER:PASSWORD"
            ) from error
    return name, password
