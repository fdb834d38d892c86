"""Nobody in: clusters that obey anybody are neither joined nor given jobs, and no key travels in clear.

Whoever reaches a Ray head without token authentication runs commands on it (CVE-2023-48022), and Ray leaves it off for
``ray start`` where no token exists. So a cluster that is not on loopback is asked first, without any credentials, and
one that answers is refused: that says what the cluster does, and not what the environment here claims. (Measured with
Ray 2.60: an open head answers ``CheckAlive`` in milliseconds, a guarded one with UNAUTHENTICATED; its job server with
401.)
"""

from __future__ import annotations

import ipaddress
import os
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from cluster.errors import UserError

ALLOW_OPEN = "L2T_ALLOW_UNAUTHENTICATED"
ALLOW_CLEAR = "L2T_ALLOW_PLAIN_HTTP"
PROBE_SECONDS = 5.0
WAY_IN = (
    "On the head: `ray get-auth-token --generate`, then RAY_AUTH_MODE=token in the environment of `ray start` on every "
    "node. Here: RAY_AUTH_MODE=token, and that token in RAY_AUTH_TOKEN or in the file that RAY_AUTH_TOKEN_PATH names "
    "(~/.ray/auth_token where neither is set)."
)


def refuse_open_cluster(address: str) -> None:
    """Before a driver joins the cluster at ``host:port`` (or ``ray://host:port``).

    Raises:
        UserError: it is not on loopback and takes commands without a token; or it wants one that we do not have, for
            which Ray itself would try again for minutes.
    """
    host = host_of(address)
    if not host:
        return
    if address.startswith("ray://"):
        # A Ray Client port shows nothing without a session, so the environment's word has to do.
        obeys, ours = (None, True) if _token_mode() else (True, True)
    else:
        obeys, ours = _obeys(address), True
        if obeys is False:
            ours = _token_mode() and _obeys(address, _token()) is not False
    if obeys and not is_loopback(host) and not _allowed(ALLOW_OPEN):
        raise UserError(_refusal(f"the Ray cluster at {address}"))
    if not ours:
        raise UserError(f"the Ray cluster at {address} wants a token, and ours is not the one.\n{WAY_IN}")


def refuse_open_jobs(address: str) -> None:
    """Before a job and the code in its working directory are sent to the job server at ``http://host:port``.

    Raises:
        UserError: it is not on loopback and lists its jobs without a token, or does not say whether it would.
    """
    host = host_of(address)
    if host and not is_loopback(host) and not _allowed(ALLOW_OPEN) and _lists_jobs(address):
        raise UserError(_refusal(f"the Ray job server at {address}"))


def refuse_clear_key(url: str, variable: str) -> None:
    """Before the key in the environment's ``variable`` is sent to ``url`` with every call.

    Raises:
        UserError: it would cross a network unencrypted.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or is_loopback(parts.hostname or "") or _allowed(ALLOW_CLEAR):
        return
    raise UserError(
        f"{url}: the key in {variable} would travel unencrypted. Use https://; or send no key (api_key_env: ''); "
        f"or, in a network where nobody listens, set {ALLOW_CLEAR}=1"
    )


def host_of(address: str) -> str:
    """The host in an address or URL, "" where it names none (``auto``, ``local``)."""
    if "://" not in address and ":" not in address:
        return ""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return address  # an address that cannot be read is nobody's loopback


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached by it. Names are not looked up: another may answer tomorrow."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _allowed(switch: str) -> bool:
    return os.environ.get(switch) == "1"


def _refusal(what: str) -> str:
    return (
        f"{what} obeys everybody who reaches it, without a token: it is not used.\n{WAY_IN}\n"
        f"A cluster on this machine alone: ray start --head --node-ip-address 127.0.0.1. If the network itself keeps "
        f"strangers out, set {ALLOW_OPEN}=1"
    )


def _token_mode() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _token() -> str:
    """What Ray would send: from RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled

    loader = AuthenticationTokenLoader.instance()
    return str(loader.get_raw_token()) if loader.has_token(ignore_auth_mode=True) else ""


def _obeys(address: str, token: str = "") -> bool | None:
    """Whether a head answers us; None where there is none, which joining then reports."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    question = gcs_service_pb2.CheckAliveRequest()  # type: ignore[attr-defined]  # made when imported
    credentials = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(address) as channel:
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            head.CheckAlive(question, timeout=PROBE_SECONDS, metadata=credentials)
        except grpc.RpcError as error:
            return False if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A login page elsewhere is a guard, too."""

    def redirect_request(self, *args: object) -> None:
        return None


def _lists_jobs(address: str) -> bool:
    """Whether a job server answers without a token.

    Raises:
        UserError: that cannot be found out.
    """
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(f"{address.rstrip('/')}/api/jobs/", timeout=PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403) or 300 <= error.code < 400:
            return False
        said = f"it answers {error.code}"
    except (OSError, ValueError) as error:
        said = str(error)
    # One that is merely slow may be open all the same.
    raise UserError(
        f"{address}: it cannot be found out whether this job server asks for a token ({said}), so it gets no job. Try "
        f"again, or see whether it runs; {ALLOW_OPEN}=1 does not ask."
    )
