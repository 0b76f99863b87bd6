"""Login and logout: a form for a token, and one-time links. Neither needs a script.

Only the page itself may send the form: otherwise a foreign page could log a browser in or out. After it, the
browser always goes to the page, whatever the request says.
"""

import asyncio
from urllib.parse import parse_qs

from loguru import logger
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from fleet.control.web.access import Authentication, address_of, caller_of, cookie_name
from fleet.control.web.credentials import SESSION_SECONDS
from fleet.control.web.operations import LOGIN_BY_LINK, LOGIN_BY_TOKEN, LOGOUT

_MAX_FORM_BYTES = 4096
_USED = "This link was used already, or is older than 15 minutes."
_WRONG = "That token was refused."
_SLOWED = "Too many tokens were refused. Wait a few seconds, or use a link of `fleet page`, which works at once."
_FOREIGN = "only the login page itself may send this. Remedy: open the page, and log in or out there"
_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Log in · Fleet</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/page/page.css">
</head>
<body class="login">
  <main id="main">
    <h1>Fleet</h1>
    <p>On this machine, <code>fleet page</code> prints a link that logs you in.</p>
    <p role="alert" data-slot="said">{said}</p>
    <form method="post" action="/login">
      <label>Or a token <input type="password" name="token" required autocomplete="current-password"></label>
      <button class="strong">Log in</button>
    </form>
  </main>
</body>
</html>
"""
_ONWARD = '<!doctype html><title>Fleet</title><meta http-equiv="refresh" content="0;url=/"><a href="/">Fleet</a>\n'


def login_page(status: int, said: str = "", retry_after: float = 0.0) -> Response:
    """The login page; ``said`` is a fixed text, not one from outside."""
    # With "no-referrer", a browser would not say where the form comes from.
    headers = {"referrer-policy": "same-origin"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry_after:
        headers["retry-after"] = f"{retry_after:.0f}"
    return HTMLResponse(_PAGE.format(said=said), status, headers)


def refused_page(request: Request) -> Response:
    """What a browser without a session gets instead of the page."""
    # A cookie of SameSite=Strict is not sent when a link on a foreign page leads here. It is sent if this page
    # leads on to itself.
    if request.headers.get("sec-fetch-site") == "cross-site":
        return HTMLResponse(_ONWARD)
    if wait := caller_of(request).wait_seconds:
        return login_page(429, _SLOWED, wait)
    return login_page(401)


def login_routes(authentication: Authentication) -> list[Route]:
    """``GET /login``: the form; with ``?code=`` of a one-time link, a session. ``POST /login``: a session for a
    token. ``POST /logout``: ends it."""

    async def by_link(request: Request) -> Response:
        code = request.query_params.get("code", "")
        if not code or request.method == "HEAD":
            return login_page(200)
        if not await asyncio.to_thread(authentication.credentials.links.take, code):
            authentication.refused(address_of(request), "a link that is not valid (any more)")
            return login_page(401, _USED)
        return await begun(request, "link")

    async def by_token(request: Request) -> Response:
        if not _is_own(request):
            return JSONResponse({"error": _FOREIGN}, 403)
        caller = authentication.by_token(await _token_in(request), address_of(request))
        if caller.wait_seconds:
            return login_page(429, _SLOWED, caller.wait_seconds)
        return await begun(request, "token") if caller.reads else login_page(401, _WRONG)

    async def begun(request: Request, by: str) -> Response:
        """A new session instead of the browser's old one."""
        sessions, old = authentication.credentials.sessions, request.cookies.get(cookie_name(request), "")
        await asyncio.to_thread(sessions.take, old)
        try:
            session = await asyncio.to_thread(sessions.issue)
        except OSError as error:
            logger.error("no session can be kept in {}: {}", sessions.folder, error.strerror)
            return JSONResponse({"error": "the state folder cannot be written. Remedy: see `fleet doctor`"}, 503)
        authentication.count(by)
        logger.info("🔓 LOGIN: by {} from {}", by, address_of(request))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            cookie_name(request), session, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict"
        )
        return answer

    async def logout(request: Request) -> Response:
        if not _is_own(request):
            return JSONResponse({"error": _FOREIGN}, 403)
        name = cookie_name(request)
        await asyncio.to_thread(authentication.credentials.sessions.take, request.cookies.get(name, ""))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(name, path="/", httponly=True, samesite="strict")
        return answer

    return [LOGIN_BY_LINK.route(by_link), LOGIN_BY_TOKEN.route(by_token), LOGOUT.route(logout)]


def _is_own(request: Request) -> bool:
    """Whether the page itself sends a form, or a program that is no browser."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin == f"http://{request.headers.get('host', '')}"


async def _token_in(request: Request) -> bytes:
    """The token in a form; empty if there is none, or the form is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            return b""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip().encode()
